//! Whether a peer's certificate is believed: one [`Judge`] per generation, used by both handshake directions and again
//! on live connections after a reload.
//!
//! In this order:
//! 1. The peer's own certificate lies byte for byte in the truststore: trusted, as in Java, whoever signed it (Flink's
//!    recipe is one self-signed pair shared by all). What Java waives beyond that (validity, X.509 version 1) only
//!    [`Leniency`](crate::Leniency) waives here, each by itself.
//! 2. Otherwise a chain to a trusted CA certificate, built by webpki. A trusted certificate that is not a CA (v3 without
//!    `CA:TRUE`) vouches for itself only: the owner of one trusted key must not be able to issue more.
//! 3. No key of either is too small, and none of the certificates is on a revocation list ([`crl`]).
//! 4. Pins, if there are any, in addition.
//!    Trust and pins of before the last change count as well until their overlap is over (see `generation::overlap`).
//! 5. The host name, if the caller passes one: a step of its own, so that switching it off cannot switch off more.
//!
//! The handshake signature is always verified, with the key of the certificate that was judged. It proves that the
//! peer owns the key; without it a copied certificate would be enough.

pub(crate) mod client;
pub(crate) mod crl;
mod end;
mod handshake;
mod memory;
pub(crate) mod presented;
pub(crate) mod server;
pub(crate) mod signed;
#[cfg(test)]
mod tests;
pub(crate) mod usable;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
};
use tokio::time::Instant;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use self::{
    crl::{Crls, Issuers},
    memory::{Memory, Subject},
    signed::{Key, Signed},
    usable::{check_key, is_self_issued, may_issue, parse},
};

use crate::{
    Fingerprint, KeySizes, Leniency, Rejection, clock,
    generation::Outgoing,
    pins::{self, Pin},
};

/// The trust part of one generation.
#[derive(Clone)]
pub(crate) struct Judge {
    trusted: HashSet<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    /// Anchors that their own issuer has revoked: key and why.
    revoked: Vec<(Vec<u8>, Rejection)>,
    criteria: Arc<Criteria>,
    algorithms: WebPkiSupportedAlgorithms,
    memory: Arc<Memory>,
    /// Judges of before the last changes, newest first, each with the end of its overlap.
    outgoing: Vec<Outgoing<Arc<Judge>>>,
}

/// What counts beside the truststore. Equal criteria, equal verdicts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Criteria {
    pub(crate) pins: Vec<Pin>,
    pub(crate) crls: Arc<Crls>,
    pub(crate) leniency: Leniency,
    pub(crate) min_key: KeySizes,
}

/// What the peer uses its certificate for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerRole {
    Client,
    Server,
}

/// What a peer presents, for what, and when.
#[derive(Clone, Copy)]
struct Claim<'a> {
    leaf: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    role: PeerRole,
    now: UnixTime,
}

impl Judge {
    /// `trusted` may be empty: then everyone is refused. Its certificates have been parsed by the store before.
    pub(crate) fn new(
        trusted: &[CertificateDer<'static>],
        criteria: Arc<Criteria>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let parsed: Vec<_> = trusted.iter().filter_map(|der| Some((der, parse(der).ok()?))).collect();
        criteria.crls.note_foreign(parsed.iter().map(|(_, certificate)| certificate), &algorithms);
        let (mut anchors, mut revoked) = (Vec::new(), Vec::new());
        for (der, certificate) in parsed.iter().filter(|(_, certificate)| may_issue(certificate)) {
            let Ok(anchor) = webpki::anchor_from_trusted_cert(der) else { continue };
            let issuers = || Issuers {
                proven: signers(der, certificate, parsed.iter().map(|(_, issuer)| issuer), &algorithms),
                claimed: Vec::new(),
            };
            if let Err(rejection) = criteria.crls.check(certificate, issuers, false, &algorithms, UnixTime::now()) {
                tracing::warn!(subject = %certificate.subject(), %rejection, "a certificate of the truststore vouches for nobody");
                revoked.push((anchor.subject_public_key_info.as_ref().to_vec(), rejection));
            }
            anchors.push(anchor.to_owned());
        }
        Self {
            anchors,
            revoked,
            trusted: trusted.iter().cloned().collect(),
            criteria,
            algorithms,
            memory: Arc::default(),
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

    /// Who believes the same certificates with the same pins, by other criteria otherwise: revocation, key sizes and
    /// leniencies are never handed over.
    pub(crate) fn under(&self, criteria: &Criteria) -> Self {
        let trusted: Vec<_> = self.trusted.iter().cloned().collect();
        let criteria = Criteria { pins: self.criteria.pins.clone(), ..criteria.clone() };
        Self::new(&trusted, Arc::new(criteria), self.algorithms)
    }

    /// The certificates in the truststore.
    pub(crate) fn trusted(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.trusted.iter()
    }

    pub(crate) fn pins(&self) -> &[Pin] {
        &self.criteria.pins
    }

    /// The trusted certificates by which a peer with our trust would believe `chain`, ours, if it had no pins.
    pub(crate) fn vouchers(&self, chain: &[CertificateDer<'static>], now: UnixTime) -> Vec<&CertificateDer<'static>> {
        let Some((leaf, intermediates)) = chain.split_first() else { return Vec::new() };
        let believes = |certificate: &&CertificateDer<'static>| {
            let criteria = Criteria { leniency: self.criteria.leniency, ..Criteria::default() };
            let only = Self::new(std::slice::from_ref(*certificate), Arc::new(criteria), self.algorithms);
            [PeerRole::Server, PeerRole::Client]
                .into_iter()
                .any(|role| only.trusts(Claim { leaf, intermediates, role, now }).is_ok())
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
        self.judge_until(leaf, intermediates, role, name, now).map(drop)
    }

    /// As [`Self::judge`]. A peer that is believed stays so, by the clock alone, at least until the moment that is returned;
    /// `None` if for ever.
    pub(crate) fn judge_until(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        role: PeerRole,
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<Option<UnixTime>, Rejection> {
        let claim = Claim { leaf, intermediates, role, now };
        let subject = Subject::from(claim);
        self.believes(claim, subject)
            .or_else(|rejection| self.believed(claim, subject).map(Some).ok_or(rejection))
            .and_then(|until| name.map_or(Ok(()), |name| self.is_for(claim, subject, name)).map(|()| until))
            .inspect_err(|rejection| {
                let (peer, fingerprint) = (role.name(), Fingerprint::sha256_of(leaf));
                // The TLS library's error, which is all the handshake's own record gets, has no place for the serial.
                if matches!(rejection, Rejection::Revoked { .. }) {
                    tracing::info!(peer, %fingerprint, %rejection, "certificate refused");
                } else {
                    tracing::debug!(peer, %fingerprint, %rejection, "certificate refused");
                }
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

    fn believes(&self, claim: Claim<'_>, subject: Subject) -> Result<Option<UnixTime>, Rejection> {
        if let Some(span) = self.memory.get(subject, claim.now) {
            return Ok(span.believed_until);
        }
        self.trusts(claim)?;
        pins::check(&self.criteria.pins, claim.leaf, claim.now)?;
        let span = self.span_of(claim);
        self.memory.add(subject, span);
        Ok(span.believed_until)
    }

    /// Until when one of those that were in force before believes it, each as long as its own time lasts.
    fn believed(&self, claim: Claim<'_>, subject: Subject) -> Option<UnixTime> {
        let alive = self.outgoing.iter().filter(|outgoing| outgoing.is_alive());
        let ends = alive.filter_map(|outgoing| {
            let end = outgoing.what.believes(claim, subject).ok()?;
            let until = clock::unix_after(claim.now, outgoing.until.saturating_duration_since(Instant::now()));
            Some(end.map_or(until, |end| end.min(until)))
        });
        ends.max()
    }

    /// A wrong name is the peer's fault whoever believes it, so it is looked at last.
    fn is_for(&self, claim: Claim<'_>, subject: Subject, name: &ServerName<'_>) -> Result<(), Rejection> {
        if !self.memory.is_for(subject, name) {
            is_for(claim.leaf, name)?;
            self.memory.add_name(subject, name);
        }
        Ok(())
    }

    fn trusts(&self, claim: Claim<'_>) -> Result<(), Rejection> {
        if self.trusted.is_empty() {
            Err(Rejection::NoTruststore)
        } else if self.trusted.contains(claim.leaf) {
            self.trusts_itself(claim)
        } else {
            self.trusts_chain(claim)
        }
    }

    /// Whether a trusted certificate is believed only with a chain to a trusted CA.
    fn needs_issuer(&self, certificate: &X509Certificate<'_>) -> bool {
        !self.criteria.leniency.untrusted_issuer && !is_self_issued(certificate)
    }

    /// The peer's own certificate lies in the truststore.
    fn trusts_itself(&self, claim: Claim<'_>) -> Result<(), Rejection> {
        let Claim { leaf, intermediates, role, now } = claim;
        let certificate = parse(leaf)?;
        usable::check(&certificate, role, self.criteria.leniency, now)?;
        check_key(Key::from_spki(certificate.public_key().raw), self.criteria.min_key)?;
        if self.needs_issuer(&certificate) {
            self.trusts_chain(claim).map_err(|rejection| match rejection {
                Rejection::Untrusted => Rejection::UntrustedIssuer,
                other => other,
            })?;
        }
        let issuers = || Issuers {
            proven: signers_among(leaf, &certificate, &mut self.trusted.iter(), &self.algorithms),
            claimed: signers_among(leaf, &certificate, &mut intermediates.iter(), &self.algorithms),
        };
        // Who is trusted as such needs nobody's word, but is refused if its issuer (itself) takes it back.
        self.criteria.crls.check(&certificate, issuers, !is_self_issued(&certificate), &self.algorithms, now)
    }

    /// A trusted CA vouches for the peer's own certificate.
    fn trusts_chain(&self, claim: Claim<'_>) -> Result<(), Rejection> {
        let Claim { leaf, intermediates, role, now } = claim;
        let certificate = EndEntityCert::try_from(leaf).map_err(|error| rejection(error, role))?;
        let usage = match role {
            PeerRole::Client => KeyUsage::client_auth(),
            PeerRole::Server => KeyUsage::server_auth(),
        };
        // webpki goes on with other paths after a refusal, and its own error cannot carry the reason.
        let refused = RefCell::new(None);
        let accepts = |path: &VerifiedPath<'_>| {
            self.accepts(path, now).map_err(|rejection| {
                refused.replace(Some(rejection));
                webpki::Error::CertRevoked
            })
        };
        let path = certificate.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            intermediates,
            now,
            usage,
            None,
            Some(&accepts),
        );
        match path {
            Ok(_) => Ok(()),
            Err(error) => Err(match (refused.take(), error) {
                (Some(refused), _) => refused,
                (None, error @ webpki::Error::InvalidSignatureForPublicKey) => {
                    self.weak_issuer(leaf, intermediates).unwrap_or_else(|| rejection(error, role))
                }
                (None, error) => rejection(error, role),
            }),
        }
    }

    /// Keys and revocation along a path that is valid otherwise.
    fn accepts(&self, path: &VerifiedPath<'_>, now: UnixTime) -> Result<(), Rejection> {
        let anchor_spki = path.anchor().subject_public_key_info.as_ref();
        if let Some((_, rejection)) = self.revoked.iter().find(|(spki, _)| spki == anchor_spki) {
            return Err(rejection.clone());
        }
        let anchor = Key::of_anchor(path.anchor());
        check_key(anchor, self.criteria.min_key)?;
        let intermediates = path.intermediate_certificates().map(|certificate| certificate.der());
        let chain: Vec<CertificateDer<'_>> = std::iter::once(path.end_entity().der()).chain(intermediates).collect();
        // From the anchor down, so that each certificate comes after its issuer's key.
        let mut issuer = anchor;
        for der in chain.iter().rev() {
            let certificate = parse(der)?;
            let key = Key::from_spki(certificate.subject_pki.raw);
            check_key(key, self.criteria.min_key)?;
            let issuers = || Issuers { proven: issuer.into_iter().collect(), claimed: Vec::new() };
            self.criteria.crls.check(&certificate, issuers, true, &self.algorithms, now)?;
            issuer = key;
        }
        Ok(())
    }

    /// The TLS library does not verify signatures of small RSA keys, and calls them wrong: the reason behind that.
    fn weak_issuer(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<Rejection> {
        let presented: Vec<_> = std::iter::once(leaf).chain(intermediates).filter_map(|der| parse(der).ok()).collect();
        let trusted: Vec<_> = self.trusted.iter().filter_map(|der| parse(der).ok()).collect();
        let is_issuer = |candidate: &&X509Certificate<'_>| {
            presented.iter().any(|certificate| certificate.issuer().as_raw() == candidate.subject().as_raw())
        };
        let mut issuers = presented.iter().chain(&trusted).filter(is_issuer);
        let mut keys = issuers.by_ref().map(|issuer| Key::from_spki(issuer.public_key().raw));
        keys.find_map(|key| check_key(key, self.criteria.min_key).err())
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("trusted", &self.trusted.len())
            .field("criteria", &self.criteria)
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

/// The keys among `candidates` that signed the certificate `der`.
fn signers<'a: 'c, 'c>(
    der: &[u8],
    certificate: &X509Certificate<'_>,
    candidates: impl Iterator<Item = &'c X509Certificate<'a>>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Vec<Key<'a>> {
    let Some(signed) = Signed::from_der(der) else { return Vec::new() };
    candidates
        .filter(|candidate| candidate.subject().as_raw() == certificate.issuer().as_raw())
        .filter_map(|candidate| Key::from_spki(candidate.subject_pki.raw))
        .filter(|key| signed.is_by(*key, algorithms))
        .collect()
}

fn signers_among<'a, 'd: 'a>(
    der: &[u8],
    certificate: &X509Certificate<'_>,
    candidates: &mut dyn Iterator<Item = &'a CertificateDer<'d>>,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Vec<Key<'a>> {
    let parsed: Vec<X509Certificate<'a>> = candidates.filter_map(|der| parse(der).ok()).collect();
    signers(der, certificate, parsed.iter(), algorithms)
}

fn is_for(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> Result<(), Rejection> {
    let certificate = match EndEntityCert::try_from(leaf) {
        // Version 1, trusted as such: it cannot carry names.
        Err(webpki::Error::UnsupportedCertVersion) => {
            return Err(Rejection::WrongName { expected: name.to_owned(), presented: Vec::new() });
        }
        certificate => certificate,
    };
    certificate
        .and_then(|certificate| certificate.verify_is_valid_for_subject_name(name))
        .map_err(|error| rejection(error, PeerRole::Server))
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
