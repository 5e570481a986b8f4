//! PEM to [`Contents`]: certificates and unencrypted private keys of one file, in any order; other sections are skipped.

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    pem::{Error, PemObject, SectionKind},
};

use zeroize::Zeroizing;

use super::{CertEntry, Contents, KeyEntry, contains};
use crate::error::StoreFault;

/// Every certificate of a PEM file is trusted: the format has no mark for it.
///
/// A file cut off exactly between two sections cannot be told from a shorter one; the self-test of a generation and
/// the wait for a stable digest are there for that.
pub(super) fn decode(bytes: &[u8]) -> Result<Contents, StoreFault> {
    if contains(bytes, b"-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Err(StoreFault::EncryptedKey("encrypted (PKCS#8), which is not supported yet"));
    }
    if contains(bytes, b"Proc-Type: 4,ENCRYPTED") {
        return Err(StoreFault::EncryptedKey("in OpenSSL's traditional encrypted form"));
    }
    let mut contents = Contents::default();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (kind, der) = section.map_err(fault)?;
        let key = match kind {
            SectionKind::Certificate => {
                contents.certs.push(CertEntry { local_id: None, trusted: true, der: CertificateDer::from(der) });
                continue;
            }
            SectionKind::PrivateKey => PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der)),
            SectionKind::RsaPrivateKey => PrivatePkcs1KeyDer::from(der).into(),
            SectionKind::EcPrivateKey => PrivateSec1KeyDer::from(der).into(),
            _ => continue,
        };
        contents.keys.push(KeyEntry { alias: None, local_id: None, key: Zeroizing::new(key) });
    }
    Ok(contents)
}

fn fault(error: Error) -> StoreFault {
    StoreFault::Damaged(match error {
        Error::MissingSectionEnd { .. } => "a section has no end line".into(),
        Error::IllegalSectionStart { .. } => "a section has a malformed begin line".into(),
        other => other.to_string(),
    })
}
