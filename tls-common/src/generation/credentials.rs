//! Who we are: the half of a generation that we show to peers.

use std::sync::Arc;

use rustls::{
    client::ResolvesClientCert,
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{files::Files, provider};
use crate::{
    BundleOptions, Fingerprint, MaterialError,
    error::{StoreFault, StorePart},
    store,
};

/// Shared by two generations if nothing about it changed.
pub(super) struct Credentials {
    pub(super) identity: Option<LoadedIdentity>,
    /// rustls compares this by address before it resumes as a client.
    pub(super) client_resolver: Arc<dyn ResolvesClientCert>,
}

/// A keystore's key and certificates, ready for use.
pub(super) struct LoadedIdentity {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) server_resolver: Arc<dyn ResolvesServerCert>,
    pub(super) fingerprint: Fingerprint,
    pub(super) subject: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Credentials {
    pub(super) fn load(options: &BundleOptions, files: &Files) -> Result<Self, MaterialError> {
        let Some(keystore) = &options.keystore else {
            return Ok(Self { identity: None, client_resolver: Arc::new(NoClientCertificate) });
        };
        let passwords = files.passwords(StorePart::Keystore, keystore)?;
        let identity = store::parse_identity(files.get(&keystore.path)?, keystore, &passwords)?;
        let fault = |fault| MaterialError::Store { part: StorePart::Keystore, path: keystore.path.clone(), fault };
        let leaf = identity.chain.first().ok_or_else(|| fault(StoreFault::NoCertificate))?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|e| fault(StoreFault::BadCertificate(e.to_string())))?;
        let key = provider::signing_key(options.provider, &identity.key)
            .map_err(|error| fault(StoreFault::UnsupportedKey(error.to_string())))?;
        let (subject, validity) = (parsed.subject().to_string(), parsed.validity().clone());
        let fingerprint = Fingerprint::sha256_of(leaf);
        let certified = Arc::new(CertifiedKey::new(identity.chain, key));
        let resolver = Arc::new(SingleCertAndKey::from(Arc::clone(&certified)));
        Ok(Self {
            identity: Some(LoadedIdentity {
                certified,
                server_resolver: Arc::clone(&resolver) as Arc<dyn ResolvesServerCert>,
                fingerprint,
                subject,
                not_before: validity.not_before.timestamp(),
                not_after: validity.not_after.timestamp(),
            }),
            client_resolver: resolver,
        })
    }

    /// The same certificates, hence the same key.
    pub(super) fn same_chain(&self, other: &Self) -> bool {
        let chain = |credentials: &Self| credentials.identity.as_ref().map(|identity| identity.certified.cert.clone());
        chain(self) == chain(other)
    }
}

/// Presents nothing, even if asked.
#[derive(Debug)]
pub(crate) struct NoClientCertificate;

impl ResolvesClientCert for NoClientCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
