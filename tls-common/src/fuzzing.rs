//! Entry points for fuzz targets, behind the feature `fuzzing`.

use std::path::Path;

use crate::options::{Password, StoreOptions};
use crate::pins;
use crate::store::{self, ResolvedPasswords, parse_chain_and_key, parse_identity, parse_trust, parse_trust_directory};
use crate::verify::crl::Crls;

/// Parses `bytes` as keystore, as truststore, as the file of a private key and as one of a directory of certificates,
/// with and without a password. Any outcome but a panic is fine.
///
/// What stands behind a checksum or an armour that no random change gets through is reached beside them: JKS with a
/// digest that fits, and encrypted PKCS#8 keys without PEM.
pub fn parse_stores(bytes: &[u8]) {
    let options = StoreOptions::new("fuzz", Password::None);
    for password in [None, Some(crate::Secret::new("changeit".into()))] {
        let passwords = ResolvedPasswords { store: password.clone(), key: None };
        let _ = parse_identity(bytes, &options, &passwords);
        let _ = parse_trust(bytes, &options, &passwords);
        let _ = parse_chain_and_key(CERTIFICATE, (Path::new("key"), bytes), &options, &passwords);
        let _ = parse_chain_and_key(bytes, (Path::new("key"), CERTIFICATE), &options, &passwords);
        if let Some(password) = &password {
            let _ = store::decrypt_pkcs8(bytes, &passwords);
            let _ = parse_identity(&store::sign_jks(bytes, password), &options, &passwords);
        }
    }
    let _ = parse_trust_directory([(Path::new("one"), bytes), (Path::new("two"), bytes)].into_iter(), &options);
}

/// Looks like PEM and holds nothing.
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";

/// Parses `bytes` as a file of pins and as one of revocation lists. Any outcome but a panic is fine.
pub fn parse_trust_files(bytes: &[u8]) {
    let _ = pins::parse(bytes, Path::new("fuzz"));
    let _ = Crls::parse(bytes, false, Path::new("fuzz"));
}
