//! Who we are: the half of a generation that we show to peers.

use std::sync::Arc;

use rustls::{
    client::ResolvesClientCert,
    pki_types::{CertificateDer, UnixTime},
    server::ResolvesServerCert,
    sign::CertifiedKey,
};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

use super::{
    files::Files,
    overlap::{Candidate, Identities, OUTGOING_MAX, Outgoing, alive},
    provider,
};
use crate::{
    BundleOptions, Fingerprint, MaterialError,
    error::{StoreFault, StorePart},
    store,
    verify::{Judge, signed::Key, usable::too_small},
};

/// Shared by two generations if nothing about it changed.
pub(super) struct Credentials {
    pub(super) identity: Option<Arc<LoadedIdentity>>,
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

impl LoadedIdentity {
    /// `None` if the bundle has no keystore.
    pub(super) fn load(options: &BundleOptions, files: &Files) -> Result<Option<Arc<Self>>, MaterialError> {
        let Some(keystore) = &options.keystore else { return Ok(None) };
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
        Ok(Some(Arc::new(Self {
            certified: Arc::new(CertifiedKey::new(identity.chain, key)),
            fingerprint,
            subject,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })))
    }

    fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }
}

impl Credentials {
    /// `identity` can be believed by way of certificates that `judge` trusts; `outgoing` can be shown beside it.
    pub(super) fn new(
        identity: Option<Arc<LoadedIdentity>>,
        judge: &Judge,
        outgoing: Vec<Outgoing<Candidate>>,
    ) -> Self {
        let current = identity
            .as_ref()
            .map(|identity| Candidate::new(&identity.certified, &judge.vouchers(identity.chain(), UnixTime::now())));
        Self::of(identity, current, outgoing)
    }

    fn of(
        identity: Option<Arc<LoadedIdentity>>,
        current: Option<Candidate>,
        outgoing: Vec<Outgoing<Candidate>>,
    ) -> Self {
        let identities = current.map(|current| Arc::new(Identities { current, outgoing }));
        let client_resolver: Arc<dyn ResolvesClientCert> = match &identities {
            Some(identities) => Arc::clone(identities) as _,
            None => Arc::new(NoClientCertificate),
        };
        Self { identity, identities, client_resolver }
    }

    /// What of these can still be shown beside `next`, which follows them: they themselves until `until`.
    pub(super) fn outgoing_after(
        &self,
        next: Option<&Arc<LoadedIdentity>>,
        until: Option<Instant>,
    ) -> Vec<Outgoing<Candidate>> {
        let (Some(identities), Some(until)) = (&self.identities, until) else { return Vec::new() };
        let own = (!self.shows(next)).then(|| Outgoing { what: identities.current.clone(), until });
        own.into_iter().chain(alive(&identities.outgoing)).take(OUTGOING_MAX).collect()
    }

    /// The same without those whose time is over, or without all that came before.
    pub(super) fn with_outgoing_only(&self, keep: bool) -> Self {
        let current = self.identities.as_ref().map(|identities| identities.current.clone());
        let outgoing = self.identities.iter().flat_map(|identities| alive(&identities.outgoing)).filter(|_| keep);
        Self::of(self.identity.clone(), current, outgoing.collect())
    }

    pub(super) fn server_resolver(&self) -> Option<Arc<dyn ResolvesServerCert>> {
        self.identities.clone().map(|identities| identities as _)
    }

    /// When previous identities end, if there are any.
    pub(super) fn overlap_ends(&self) -> impl Iterator<Item = Instant> + '_ {
        self.identities.iter().flat_map(|identities| &identities.outgoing).map(|outgoing| outgoing.until)
    }

    /// Whether these are the certificates of `identity`, hence its key.
    pub(super) fn shows(&self, identity: Option<&Arc<LoadedIdentity>>) -> bool {
        self.identity.as_ref().map(|own| own.chain()) == identity.map(|other| other.chain())
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
