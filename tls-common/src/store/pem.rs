//! PEM to [`Contents`]: certificates and private keys of one file, in any order; other sections are skipped.

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
    pem::{Error, PemObject, SectionKind},
};

use zeroize::Zeroizing;

use super::{CertEntry, Contents, KeyEntry, ResolvedPasswords, contains, encrypted, split_once};
use crate::error::{StoreFault, StorePart};

const ENCRYPTED_BEGIN: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &[u8] = b"-----END ENCRYPTED PRIVATE KEY-----";

/// Encrypted keys of one file; each costs up to a second.
const MAX_ENCRYPTED_KEYS: usize = 8;

/// Every certificate of a PEM file is trusted: the format has no mark for it. For trust no key is decrypted.
///
/// A file cut off exactly between two sections cannot be told from a shorter one; the self-test of a generation and
/// the wait for a stable digest are there for that.
pub(super) fn decode(bytes: &[u8], passwords: &ResolvedPasswords, part: StorePart) -> Result<Contents, StoreFault> {
    if contains(bytes, b"Proc-Type: 4,ENCRYPTED") {
        return Err(StoreFault::EncryptedKey("encrypted in OpenSSL's traditional form (Proc-Type: 4,ENCRYPTED)"));
    }
    let mut contents = Contents::default();
    let mut add = |key| contents.keys.push(KeyEntry { alias: None, local_id: None, key: Zeroizing::new(key) });
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes) {
        let (kind, der) = section.map_err(fault)?;
        match kind {
            SectionKind::Certificate => {
                contents.certs.push(CertEntry { local_id: None, trusted: true, der: CertificateDer::from(der) });
            }
            SectionKind::PrivateKey => add(PrivateKeyDer::from(PrivatePkcs8KeyDer::from(der))),
            SectionKind::RsaPrivateKey => add(PrivatePkcs1KeyDer::from(der).into()),
            SectionKind::EcPrivateKey => add(PrivateSec1KeyDer::from(der).into()),
            _ => {}
        }
    }
    if part != StorePart::Truststore {
        for der in encrypted_keys(bytes)? {
            let mut key = encrypted::decrypt(&der, passwords)?;
            add(PrivatePkcs8KeyDer::from(std::mem::take(&mut *key)).into());
        }
    }
    Ok(contents)
}

/// The sections that the PEM reader does not know: under the name of a plain key it decodes them.
fn encrypted_keys(bytes: &[u8]) -> Result<Vec<Vec<u8>>, StoreFault> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((_, after)) = split_once(rest, ENCRYPTED_BEGIN) {
        let (body, after) = split_once(after, ENCRYPTED_END).ok_or_else(|| fault(Error::NoItemsFound))?;
        if keys.len() == MAX_ENCRYPTED_KEYS {
            return Err(StoreFault::Damaged(format!("more than {MAX_ENCRYPTED_KEYS} encrypted private keys")));
        }
        let plain = [b"-----BEGIN PRIVATE KEY-----", body, b"-----END PRIVATE KEY-----"].concat();
        keys.push(PrivatePkcs8KeyDer::from_pem_slice(&plain).map_err(fault)?.secret_pkcs8_der().to_vec());
        rest = after;
    }
    Ok(keys)
}

fn fault(error: Error) -> StoreFault {
    StoreFault::Damaged(match error {
        Error::MissingSectionEnd { .. } | Error::NoItemsFound => "a section has no end line".into(),
        Error::IllegalSectionStart { .. } => "a section has a malformed begin line".into(),
        other => other.to_string(),
    })
}
