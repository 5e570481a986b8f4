//! Entry points for fuzz targets, behind the feature `fuzzing`.

use crate::options::{Password, StoreOptions};
use crate::store::{ResolvedPasswords, parse_identity, parse_trust};

/// Parses `bytes` as keystore and as truststore, with and without a password. Any outcome but a panic is fine.
pub fn parse_stores(bytes: &[u8]) {
    let options = StoreOptions::new("fuzz", Password::None);
    for store in [None, Some(crate::Secret::new("changeit".into()))] {
        let passwords = ResolvedPasswords { store, key: None };
        let _ = parse_identity(bytes, &options, &passwords);
        let _ = parse_trust(bytes, &options, &passwords);
    }
}
