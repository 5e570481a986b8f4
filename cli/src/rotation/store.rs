//! PKCS12 stores as keytool writes them: AES-256 and HMAC-SHA-256, trusted certificates with Java's own attribute,
//! without which neither Java nor we take a certificate for an anchor.

use std::path::Path;

use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, Pkcs12ImportPolicy, PrivateKey, PrivateKeyChain};
use rand::Rng;
use rand::distr::Alphanumeric;
use rustls_pki_types::CertificateDer;
use tls_common::Secret;

use super::{Identity, RotationError};

/// A keystore with one private key entry and its chain.
pub fn keystore(alias: &str, identity: &Identity, password: &Secret) -> Result<Vec<u8>, RotationError> {
    let key = PrivateKey::from_der(identity.key_pkcs8())?;
    let chain = identity.chain().iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
    let mut store = KeyStore::new();
    store.add_entry(alias, KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(alias, key, chain)));
    Ok(store.writer(password.expose()).write()?)
}

/// A truststore with one trusted entry per certificate, named `<alias>`, `<alias>-2`, `<alias>-3` and so on.
pub fn truststore<'a>(
    alias: &str,
    certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    password: &Secret,
) -> Result<Vec<u8>, RotationError> {
    let mut store = KeyStore::new();
    for (index, der) in certificates.into_iter().enumerate() {
        let name = if index == 0 { alias.to_owned() } else { format!("{alias}-{}", index + 1) };
        store.add_entry(&name, KeyStoreEntry::Certificate(Certificate::from_der(der)?));
    }
    Ok(store.writer(password.expose()).write()?)
}

/// The key pair of a keystore that [`keystore`] has made; `path` is for the error.
pub(super) fn open_keystore(path: &Path, bytes: &[u8], password: &Secret) -> Result<Identity, RotationError> {
    let store = open(path, bytes, password)?;
    let identity = store.private_key_chain().and_then(|(_, chain)| {
        let certificates = chain.certs().iter().map(|cert| CertificateDer::from(cert.as_der().to_vec())).collect();
        Identity::from_parts(chain.key().as_der().to_vec(), certificates)
    });
    identity.ok_or_else(|| unusable(path, "it has no private key with a certificate".to_owned()))
}

/// The certificates of a truststore that [`truststore`] has made; `path` is for the error.
pub(super) fn open_truststore(
    path: &Path,
    bytes: &[u8],
    password: &Secret,
) -> Result<Vec<CertificateDer<'static>>, RotationError> {
    let store = open(path, bytes, password)?;
    let certificate = |entry: &KeyStoreEntry| match entry {
        KeyStoreEntry::Certificate(certificate) => Some(CertificateDer::from(certificate.as_der().to_vec())),
        _ => None,
    };
    Ok(store.entries().filter_map(|(_, entry)| certificate(entry)).collect())
}

fn open(path: &Path, bytes: &[u8], password: &Secret) -> Result<KeyStore, RotationError> {
    KeyStore::from_pkcs12(bytes, password.expose(), Pkcs12ImportPolicy::Strict)
        .map_err(|cause| unusable(path, format!("{cause}; is its password the right one?")))
}

fn unusable(path: &Path, reason: String) -> RotationError {
    RotationError::Unusable { path: path.to_owned(), reason }
}

/// A password of 32 letters and digits (about 190 bits) from the thread's cryptographic generator.
pub fn random_password() -> Secret {
    Secret::new(rand::rng().sample_iter(Alphanumeric).take(PASSWORD_LENGTH).map(char::from).collect())
}

const PASSWORD_LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use p12_keystore::Pkcs12Archive;

    use super::*;
    use crate::rotation::Validity;

    #[test]
    fn a_keystore_gives_back_the_key_and_the_chain() {
        let authority = crate::rotation::Authority::new("Test CA", Validity::days(2)).unwrap();
        let identity = authority.issue(&["localhost".to_owned()], Validity::days(1)).unwrap();
        let password = random_password();
        let archive = Pkcs12Archive::from_pkcs12(&keystore("rest", &identity, &password).unwrap(), password.expose());
        let archive = archive.unwrap();
        assert_eq!(archive.keys[0].key.as_der(), identity.key_pkcs8());
        assert_eq!(archive.certs.len(), 2);
        assert_eq!(archive.certs[0].cert.as_der(), identity.certificate().as_ref());
    }

    #[test]
    fn every_certificate_of_a_truststore_carries_javas_trusted_attribute() {
        let pairs: Vec<_> = (0..3).map(|_| Identity::self_signed("a", Validity::days(1)).unwrap()).collect();
        let password = random_password();
        let bytes = truststore("peer", pairs.iter().map(Identity::certificate), &password).unwrap();
        let archive = Pkcs12Archive::from_pkcs12(&bytes, password.expose()).unwrap();
        assert_eq!(archive.certs.len(), 3);
        assert!(archive.certs.iter().all(|bag| bag.trusted));
    }

    #[test]
    fn a_store_does_not_open_with_another_password() {
        let identity = Identity::self_signed("a", Validity::days(1)).unwrap();
        let bytes = keystore("a", &identity, &random_password()).unwrap();
        assert!(Pkcs12Archive::from_pkcs12(&bytes, random_password().expose()).is_err());
    }
}
