//! Entry points for fuzz targets, behind the feature `fuzzing`.

use crate::options::{Password, StoreOptions};
use crate::pins;
use crate::store::{ResolvedPasswords, parse_identity, parse_trust};
use crate::verify::crl::Crls;
use std::path::Path;

/// Parses `bytes` as keystore and as truststore, with and without a password. Any outcome but a panic is fine.
pub fn parse_stores(bytes: &[u8]) {
    let options = StoreOptions::new("fuzz", Password::None);
    for store in [None, Some(crate::Secret::new("changeit".into()))] {
        let passwords = ResolvedPasswords { store, key: None };
        let _ = parse_identity(bytes, &options, &passwords);
        let _ = parse_trust(bytes, &options, &passwords);
    }
}

/// Parses `bytes` as a file of pins and as one of revocation lists. Any outcome but a panic is fine.
pub fn parse_trust_files(bytes: &[u8]) {
    let _ = pins::parse(bytes, Path::new("fuzz"));
    let _ = Crls::parse(bytes, false, Path::new("fuzz"));
}
