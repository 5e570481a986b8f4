//! Whether a peer's certificate is believed: one [`Judge`] per generation, used by both handshake directions and again
//! on live connections after a reload.
//!
//! In this order:
//! 1. The peer's own certificate lies byte for byte in the truststore: trusted, as in Java, whoever signed it (Flink's
//!    recipe is one self-signed pair shared by all). Unlike Java its validity period still counts.
//! 2. Otherwise a chain to a trusted CA certificate, built by webpki. A trusted certificate that is not a CA (v3 without
//!    `CA:TRUE`) vouches for itself only: the owner of one trusted key must not be able to issue more.
//! 3. Pins, if there are any, in addition.
//!    Trust and pins of before the last change count as well until their overlap is over (see `generation::overlap`).
//! 4. The host name, if the caller passes one: a step of its own, so that switching it off cannot switch off more.
//!
//! The handshake signature is always verified, with the key of the certificate that was judged. It proves that the
//! peer owns the key; without it a copied certificate would be enough.

pub(crate) mod client;
pub(crate) mod presented;
pub(crate) mod server;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::{
    certificate::X509Certificate,
    extensions::ParsedExtension,
    prelude::{FromDer, X509Version},
};

use crate::{Fingerprint, Rejection, generation::Outgoing};

/// The trust part of one generation.
#[derive(Clone)]
pub(crate) struct Judge {
    trusted: HashSet<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    pins: Vec<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Judges of before the last changes, newest first, each with the end of its overlap.
    outgoing: Vec<Outgoing<Arc<Judge>>>,
}

/// What the peer uses its certificate for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerRole {
    Client,
    Server,
}

impl Judge {
    /// `trusted` may be empty: then everyone is refused. Its certificates have been parsed by the store before.
    pub(crate) fn new(
        trusted: &[CertificateDer<'static>],
        pins: Vec<Fingerprint>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let issuers = trusted.iter().filter(|certificate| may_issue(certificate));
        let anchors = issuers.filter_map(|certificate| webpki::anchor_from_trusted_cert(certificate).ok());
        Self {
            anchors: anchors.map(|anchor| anchor.to_owned()).collect(),
            trusted: trusted.iter().cloned().collect(),
            pins,
            algorithms,
            outgoing: Vec::new(),
        }
    }

    /// The same, but peers are believed too whom one of `outgoing` believes while its time is not over.
    pub(crate) fn with_outgoing(self, outgoing: Vec<Outgoing<Arc<Judge>>>) -> Self {
        Self { outgoing, ..self }
    }

    pub(crate) fn outgoing(&self) -> &[Outgoing<Arc<Judge>>] {
        &self.outgoing
    }

    /// The same without what was before it.
    pub(crate) fn alone(&self) -> Self {
        Self { outgoing: Vec::new(), ..self.clone() }
    }

    /// The certificates in the truststore.
    pub(crate) fn trusted(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.trusted.iter()
    }

    pub(crate) fn pins(&self) -> &[Fingerprint] {
        &self.pins
    }

    /// The trusted certificates by which a peer with our trust would believe `chain`, ours, if it had no pins.
    pub(crate) fn vouchers(&self, chain: &[CertificateDer<'static>], now: UnixTime) -> Vec<&CertificateDer<'static>> {
        let Some((leaf, intermediates)) = chain.split_first() else { return Vec::new() };
        let believes = |certificate: &&CertificateDer<'static>| {
            let only = Self::new(std::slice::from_ref(*certificate), Vec::new(), self.algorithms);
            [PeerRole::Server, PeerRole::Client]
                .into_iter()
                .any(|role| only.trusts(leaf, intermediates, role, now).is_ok())
        };
        self.trusted.iter().filter(believes).collect()
    }

    /// Judges a peer by the certificates it presented. With `name` its own one, `leaf`, must be for that name.
    pub(crate) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: PeerRole,
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        self.believes(leaf, intermediates, role, now)
            .or_else(|rejection| {
                let alive = self.outgoing.iter().filter(|outgoing| outgoing.is_alive());
                let mut verdicts = alive.map(|outgoing| outgoing.what.believes(leaf, intermediates, role, now));
                if verdicts.any(|verdict| verdict.is_ok()) { Ok(()) } else { Err(rejection) }
            })
            .and_then(|()| name.map_or(Ok(()), |name| is_for(leaf, name)))
            .inspect_err(|rejection| {
                tracing::debug!(
                    peer = role.name(), subject = subject(leaf), fingerprint = %Fingerprint::sha256_of(leaf),
                    %rejection, "certificate refused"
                );
            })
    }

    /// Signature algorithms accepted in certificates and handshakes.
    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// DER of the names that may stand as issuer in an acceptable certificate, each once.
    pub(crate) fn issuer_names(&self) -> BTreeSet<Vec<u8>> {
        let outgoing = self.outgoing.iter().flat_map(|outgoing| &outgoing.what.trusted);
        let parsed =
            self.trusted.iter().chain(outgoing).filter_map(|certificate| X509Certificate::from_der(certificate).ok());
        let names = parsed.flat_map(|(_, certificate)| {
            [certificate.subject().as_raw().to_vec(), certificate.issuer().as_raw().to_vec()]
        });
        names.collect()
    }

    fn believes(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: PeerRole,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        self.trusts(leaf, intermediates, role, now).and_then(|()| self.pinned(leaf))
    }

    fn trusts(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: PeerRole,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        if self.trusted.is_empty() {
            return Err(Rejection::NoTruststore);
        }
        if self.trusted.contains(leaf) {
            return is_usable(leaf, role, now);
        }
        let certificate = EndEntityCert::try_from(leaf).map_err(|error| rejection(error, role))?;
        let usage = match role {
            PeerRole::Client => KeyUsage::client_auth(),
            PeerRole::Server => KeyUsage::server_auth(),
        };
        certificate
            .verify_for_usage(self.algorithms.all, &self.anchors, intermediates, now, usage, None, None)
            .map(|_path| ())
            .map_err(|error| rejection(error, role))
    }

    fn pinned(&self, leaf: &CertificateDer<'_>) -> Result<(), Rejection> {
        if self.pins.is_empty() || self.pins.iter().any(|pin| pin.matches(leaf)) { Ok(()) } else { Err(Rejection::Pin) }
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("trusted", &self.trusted.len())
            .field("pins", &self.pins)
            .field("outgoing", &self.outgoing.len())
            .finish_non_exhaustive()
    }
}

impl PeerRole {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// Whether a trusted certificate may vouch for others: a CA, or of X.509 version 1, which cannot say.
fn may_issue(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    certificate.version() == X509Version::V1 || certificate.is_ca()
}

/// The checks on a certificate that is itself trusted: all that its owner and its issuer said about its use.
fn is_usable(leaf: &CertificateDer<'_>, role: PeerRole, now: UnixTime) -> Result<(), Rejection> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|error| Rejection::Unusable(error.to_string()))?;
    if certificate.version() != X509Version::V3 {
        return Err(Rejection::Version1);
    }
    let unix =
        |seconds: i64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.try_into().unwrap_or(0)));
    let not_before = unix(certificate.validity().not_before.timestamp());
    let not_after = unix(certificate.validity().not_after.timestamp());
    if now < not_before {
        return Err(Rejection::NotYetValid { not_before });
    }
    if now > not_after {
        return Err(Rejection::Expired { not_after });
    }
    for extension in certificate.extensions() {
        let allowed = match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => usage.digital_signature(),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                usage.any
                    || match role {
                        PeerRole::Client => usage.client_auth,
                        PeerRole::Server => usage.server_auth,
                    }
            }
            // These speak about names, or about certificates below this one.
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::NameConstraints(_) => true,
            _ if extension.critical => {
                return Err(Rejection::Unusable(format!("unknown critical extension {}", extension.oid)));
            }
            _ => true,
        };
        if !allowed {
            return Err(Rejection::WrongUsage { role: role.name() });
        }
    }
    Ok(())
}

fn is_for(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Rejection> {
    EndEntityCert::try_from(leaf)
        .and_then(|certificate| certificate.verify_is_valid_for_subject_name(name))
        .map_err(|error| rejection(error, PeerRole::Server))
}

fn subject(leaf: &CertificateDer<'_>) -> String {
    X509Certificate::from_der(leaf).map(|(_, certificate)| certificate.subject().to_string()).unwrap_or_default()
}

fn rejection(error: webpki::Error, role: PeerRole) -> Rejection {
    use webpki::Error;
    match error {
        // Of those who signed it none is a CA of ours, or none is a CA at all.
        Error::UnknownIssuer | Error::EndEntityUsedAsCa => Rejection::Untrusted,
        Error::CertExpired { not_after, .. } => Rejection::Expired { not_after },
        Error::CertNotValidYet { not_before, .. } => Rejection::NotYetValid { not_before },
        Error::CertNotValidForName(context) => {
            Rejection::WrongName { expected: context.expected, presented: context.presented }
        }
        Error::InvalidSignatureForPublicKey => Rejection::BadSignature,
        Error::RequiredEkuNotFoundContext(_) => Rejection::WrongUsage { role: role.name() },
        Error::CaUsedAsEndEntity => Rejection::CaAsEndEntity,
        Error::UnsupportedCertVersion => Rejection::Version1,
        other => Rejection::Unusable(other.to_string()),
    }
}
