//! Who we are: the half of a generation that we show to peers.

use std::sync::Arc;

use rustls::{client::ResolvesClientCert, pki_types::CertificateDer, server::ResolvesServerCert, sign::CertifiedKey};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::{
    files::Files,
    overlap::{Candidate, Identities, OUTGOING_MAX, Outgoing},
    provider,
};
use crate::{
    BundleOptions, Fingerprint, MaterialError,
    error::{StoreFault, StorePart},
    store,
    verify::{signed::Key, usable::too_small},
};

/// Shared by two generations if nothing about it changed.
pub(super) struct Credentials {
    pub(super) identity: Option<LoadedIdentity>,
    /// The identity and those before it that can still be shown.
    identities: Option<Arc<Identities>>,
    /// rustls compares this by address before it resumes as a client.
    pub(super) client_resolver: Arc<dyn ResolvesClientCert>,
}

/// A keystore's key and certificates, ready for use.
pub(super) struct LoadedIdentity {
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) fingerprint: Fingerprint,
    pub(super) subject: String,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Credentials {
    pub(super) fn load(options: &BundleOptions, files: &Files) -> Result<Self, MaterialError> {
        let Some(keystore) = &options.keystore else {
            return Ok(Self { identity: None, identities: None, client_resolver: Arc::new(NoClientCertificate) });
        };
        let passwords = files.passwords(StorePart::Keystore, keystore)?;
        let content = files.get(&keystore.path)?;
        let identity = match &keystore.private_key {
            Some(path) => store::parse_chain_and_key(content, (path, files.get(path)?), keystore, &passwords)?,
            None => store::parse_identity(content, keystore, &passwords)?,
        };
        let fault = |fault| MaterialError::Store { part: StorePart::Keystore, path: keystore.path.clone(), fault };
        let leaf = identity.chain.first().ok_or_else(|| fault(StoreFault::NoCertificate))?;
        let (_, parsed) =
            X509Certificate::from_der(leaf).map_err(|e| fault(StoreFault::BadCertificate(e.to_string())))?;
        check_leaf(&parsed, options).map_err(fault)?;
        let key = provider::signing_key(options.provider, &identity.key)
            .map_err(|error| fault(StoreFault::UnsupportedKey(error.to_string())))?;
        let (subject, validity) = (parsed.subject().to_string(), parsed.validity().clone());
        let fingerprint = Fingerprint::sha256_of(leaf);
        let certified = Arc::new(CertifiedKey::new(identity.chain, key));
        Ok(Self {
            identities: None,
            client_resolver: Arc::new(NoClientCertificate),
            identity: Some(LoadedIdentity {
                certified,
                fingerprint,
                subject,
                not_before: validity.not_before.timestamp(),
                not_after: validity.not_after.timestamp(),
            }),
        })
    }

    /// Completes what was loaded: the identity can be believed by way of `vouchers`, and those of `previous` can be shown
    /// beside it until `until`, or until their own time is over.
    pub(super) fn after(
        mut self,
        previous: Option<&Self>,
        vouchers: &[&CertificateDer<'static>],
        until: Option<Instant>,
    ) -> Self {
        let Some(identity) = &self.identity else { return self };
        let current = Candidate::new(&identity.certified, vouchers);
        let mut outgoing = Vec::new();
        if let (Some(before), Some(until)) = (previous.and_then(|previous| previous.identities.as_ref()), until) {
            let same = previous.is_some_and(|previous| previous.same_chain(&self));
            outgoing.extend((!same).then(|| Outgoing { what: before.current.clone(), until }));
            outgoing.extend(before.outgoing.iter().filter(|outgoing| outgoing.is_alive()).cloned());
            outgoing.truncate(OUTGOING_MAX);
        }
        let identities = Arc::new(Identities { current, outgoing });
        self.client_resolver = Arc::clone(&identities) as _;
        self.identities = Some(identities);
        self
    }

    pub(super) fn server_resolver(&self) -> Option<Arc<dyn ResolvesServerCert>> {
        self.identities.clone().map(|identities| identities as _)
    }

    /// When previous identities end, if there are any.
    pub(super) fn overlap_ends(&self) -> impl Iterator<Item = Instant> + '_ {
        self.identities.iter().flat_map(|identities| &identities.outgoing).map(|outgoing| outgoing.until)
    }

    /// The same certificates, hence the same key.
    pub(super) fn same_chain(&self, other: &Self) -> bool {
        let chain = |credentials: &Self| credentials.identity.as_ref().map(|identity| identity.certified.cert.clone());
        chain(self) == chain(other)
    }
}

/// We ask of ourselves what we ask of peers, before they refuse us.
fn check_leaf(leaf: &X509Certificate<'_>, options: &BundleOptions) -> Result<(), StoreFault> {
    if leaf.version() != X509Version::V3 && !options.leniency.x509v1 {
        return Err(StoreFault::Version1 { subject: leaf.subject().to_string() });
    }
    match Key::from_spki(leaf.subject_pki.raw).and_then(|key| too_small(key, options.min_key)) {
        Some((algorithm, bits, minimum)) => Err(StoreFault::WeakKey { algorithm, bits, minimum }),
        None => Ok(()),
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
