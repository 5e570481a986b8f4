//! PKCS#12 to [`Contents`]: decryption and MAC are p12-keystore's, which bounds the work factors; no policy here.

use p12_keystore::{Pkcs12Archive, error::Error};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use zeroize::Zeroizing;

use super::{CertEntry, Contents, KeyEntry, ResolvedPasswords, encrypted::check_scrypt_within};
use crate::{Secret, error::StoreFault};

/// Opens the store. The format has one password for everything, so a different key password can only be a mistake:
/// if the store opens without it, it is not needed.
pub(super) fn decode(bytes: &[u8], passwords: &ResolvedPasswords) -> Result<Contents, StoreFault> {
    check_scrypt_within(bytes)?;
    let password = passwords.store.as_ref().or(passwords.key.as_ref());
    let archive = Pkcs12Archive::from_pkcs12(bytes, password.map_or("", Secret::expose))
        .map_err(|error| fault(error, passwords))?;
    let keys = archive.keys.into_iter().map(|bag| KeyEntry {
        alias: bag.friendly_name,
        local_id: bag.local_key_id.map(|id| id.0),
        key: Zeroizing::new(PrivatePkcs8KeyDer::from(bag.key.as_der().to_vec()).into()),
    });
    let certs = archive.certs.into_iter().map(|bag| CertEntry {
        local_id: bag.local_key_id,
        trusted: bag.trusted,
        der: CertificateDer::from(bag.cert.as_der().to_vec()),
    });
    Ok(Contents { keys: keys.collect(), certs: certs.collect() })
}

fn fault(error: Error, passwords: &ResolvedPasswords) -> StoreFault {
    let wrong_password = if passwords.store.is_some() || passwords.key.is_some() {
        StoreFault::WrongPassword
    } else {
        StoreFault::NoPassword
    };
    match error {
        Error::MacError(_) => wrong_password,
        // Without a MAC a wrong password shows only as bad padding. With one the store's password has been proved
        // right by now, so it is the key that has another.
        Error::Pkcs5Error(_) | Error::UnpadError => match (&passwords.store, &passwords.key) {
            (Some(store), Some(key)) if store != key => StoreFault::KeyPassword,
            _ => wrong_password,
        },
        Error::InvalidParameters => {
            StoreFault::Damaged("its encryption parameters are missing or beyond 1,000,000 iterations".into())
        }
        Error::UnsupportedEncryptionScheme | Error::UnsupportedMacAlgorithm => {
            StoreFault::Damaged("its encryption is neither PBES2 nor RC2-40/3DES".into())
        }
        other => StoreFault::Damaged(other.to_string()),
    }
}
