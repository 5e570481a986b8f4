//! Audit records: who connected, who was refused, who was asked to go and who was cut off. All of them are made here.
//!
//! They are `tracing` events of the target [`TARGET`], level INFO, each with these fields; what is not known or does not
//! apply is left out.
//!
//! | field | meaning |
//! | --- | --- |
//! | `event` | `handshake`: a connection is there. `rejection`: a handshake failed, or the server refused our certificate after it. `drain`: a connection was asked to go. `cut`: it did not go within the drain grace |
//! | `endpoint` | name of the endpoint |
//! | `connection` | number of the connection, unique within its endpoint and process; none where there never was one |
//! | `side` | `accepted` or `dialled` |
//! | `peer` | address and port of the other end |
//! | `server_name` | the name we dialled |
//! | `peer_fingerprint` | SHA-256 of the peer's own certificate, lower-case hex; in a `rejection` of the one it showed, which need not be its own |
//! | `peer_subject` | its subject |
//! | `peer_sans` | its subjectAltNames, `DNS:…, IP:…, URI:…` |
//! | `generation` | of our material, under which the handshake was made |
//! | `handshake` | `full`, `full_with_hello_retry` (a round trip more: the key shares did not suit), `resumed` |
//! | `protocol` | `TLSv1.2`, `TLSv1.3` |
//! | `cipher_suite` | IANA name |
//! | `group` | key exchange group, e.g. `X25519MLKEM768`; none in a resumed TLS 1.2 session, which has no exchange |
//! | `reason_code` | why, for machines; never changes its meaning |
//! | `reason` | the same as a sentence, for people; may change |
//!
//! Codes of a `rejection`: what [`crate::HandshakeError::code`] returns. Codes of a `drain`:
//! [`crate::DrainReason::code`]. The same codes are the keys of [`crate::EndpointStatus`]' counters.
//!
//! Names are chosen by the peer, who may be an attacker: they are escaped so that none can look like a line, a field or
//! another name, and at most [`MAX_SANS`] of at most [`MAX_TEXT_BYTES`] each are written.

mod names;

use super::EndpointInner;
use super::departure::DrainReason;
use super::error::HandshakeError;
use super::info::{ConnectionState, PeerIdentity};
use crate::generation::iana_name;
use crate::options::Fingerprint;
use crate::verify::presented::Presented;
use names::Names;
#[cfg(feature = "fuzzing")]
pub(crate) use names::read_names;
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, CommonState, HandshakeKind, NamedGroup, ProtocolVersion};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The `tracing` target of every record.
pub const TARGET: &str = "audit";

/// SubjectAltNames in one record; how many more there are is said.
pub const MAX_SANS: usize = 16;

/// Bytes of one name or sentence; `…` marks that there was more.
pub const MAX_TEXT_BYTES: usize = 256;

/// Something counted by reason codes, of which there is a fixed number.
#[derive(Debug, Default)]
pub(crate) struct ByReason(Mutex<BTreeMap<&'static str, u64>>);

impl ByReason {
    fn add(&self, code: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_insert(0) += 1;
    }

    pub(super) fn snapshot(&self) -> BTreeMap<String, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect()
    }
}

/// A handshake under way: what a record can say if it fails.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    peer: Option<SocketAddr>,
    /// The name we dialled; `None` on the accepting side.
    dialled: Option<&'a str>,
    generation: OnceLock<u64>,
    pub(crate) presented: Presented,
}

impl<'a> Attempt<'a> {
    /// `dialled` is the name that we call; `None` on the accepting side.
    pub(crate) fn new(peer: Option<SocketAddr>, dialled: Option<&'a str>) -> Self {
        Self { peer, dialled, generation: OnceLock::new(), presented: Presented::default() }
    }

    /// It is made under this generation.
    pub(crate) fn under(&self, generation: u64) {
        let _ = self.generation.set(generation);
    }
}

/// What both sides of a handshake settled on.
#[derive(Clone, Debug)]
pub(crate) struct Negotiated {
    kind: Option<HandshakeKind>,
    version: Option<ProtocolVersion>,
    suite: Option<CipherSuite>,
    group: Option<NamedGroup>,
}

impl Negotiated {
    pub(crate) fn of(session: &CommonState) -> Self {
        Self {
            kind: session.handshake_kind(),
            version: session.protocol_version(),
            suite: session.negotiated_cipher_suite().map(|suite| suite.suite()),
            group: session.negotiated_key_exchange_group().map(|group| group.name()),
        }
    }

    /// Over QUIC, which is always TLS 1.3.
    #[cfg(feature = "quic")]
    pub(crate) fn over_quic(resumed: bool, suite: CipherSuite, group: Option<NamedGroup>) -> Self {
        let kind = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
        Self { kind: Some(kind), version: Some(ProtocolVersion::TLSv1_3), suite: Some(suite), group }
    }

    /// Nothing but whether a session was resumed.
    #[cfg(test)]
    pub(crate) fn for_tests(resumed: bool) -> Self {
        let kind = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
        Self { kind: Some(kind), version: None, suite: None, group: None }
    }

    pub(crate) fn is_resumed(&self) -> bool {
        self.kind == Some(HandshakeKind::Resumed)
    }
}

impl EndpointInner {
    /// A handshake is done.
    pub(super) fn note_handshake(&self, state: &ConnectionState) {
        self.counters.handshakes.fetch_add(1, Ordering::Relaxed);
        if state.negotiated.as_ref().is_some_and(Negotiated::is_resumed) {
            self.counters.handshakes_resumed.fetch_add(1, Ordering::Relaxed);
        }
        self.audit(|| Record::of("handshake", state));
    }

    /// A handshake has failed.
    pub(crate) fn note_failure(&self, attempt: &Attempt<'_>, error: &HandshakeError) {
        self.counters.failed_by_reason.add(error.code());
        self.suspect_files(error.smells_of_stale_files());
        self.audit(|| Record {
            event: "rejection",
            connection: None,
            peer: attempt.peer,
            dialled: attempt.dialled.map(Cow::Borrowed),
            leaf: attempt.presented.leaf(),
            generation: attempt.generation.get().copied(),
            negotiated: None,
            reason: Some((error.code(), error.to_string())),
        });
    }

    /// The server has refused our certificate when we thought that the handshake was done.
    pub(crate) fn note_late_refusal(&self, state: &ConnectionState, error: &dyn Error) {
        let code = HandshakeError::REFUSED_BY_PEER;
        self.counters.failed_by_reason.add(code);
        self.suspect_files(true);
        self.audit(|| Record { reason: Some((code, error.to_string())), ..Record::of("rejection", state) });
    }

    fn suspect_files(&self, suspicious: bool) {
        if suspicious && let Some(tls) = &self.tls {
            tls.suspect();
        }
    }

    /// A connection was told to go.
    pub(super) fn note_drain(&self, state: &ConnectionState, reason: &DrainReason) {
        self.counters.drained_by_reason.add(reason.code());
        if matches!(reason, DrainReason::Renewed | DrainReason::Untrusted(_)) {
            self.counters.renewed.fetch_add(1, Ordering::Relaxed);
        }
        self.audit(|| Record { reason: Some((reason.code(), reason.to_string())), ..Record::of("drain", state) });
    }

    /// A connection did not go within the drain grace.
    pub(super) fn note_cut(&self, state: &ConnectionState) {
        self.counters.killed.fetch_add(1, Ordering::Relaxed);
        self.audit(|| {
            let told = state.departure.told();
            let reason = told.map(|(reason, _)| (reason.code(), format!("{reason}, and it did not finish in time")));
            Record { reason, ..Record::of("cut", state) }
        });
    }

    /// Made only where somebody listens: reading a certificate costs more than a disabled event should.
    fn audit<'a>(&self, record: impl FnOnce() -> Record<'a>) {
        if tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            record().emit(self);
        }
    }
}

struct Record<'a> {
    event: &'static str,
    connection: Option<u64>,
    peer: Option<SocketAddr>,
    dialled: Option<Cow<'a, str>>,
    leaf: Option<&'a CertificateDer<'static>>,
    generation: Option<u64>,
    negotiated: Option<&'a Negotiated>,
    reason: Option<(&'static str, String)>,
}

impl<'a> Record<'a> {
    fn of(event: &'static str, state: &'a ConnectionState) -> Self {
        Self {
            event,
            connection: Some(state.id),
            peer: Some(state.peer_addr),
            dialled: state.dialled.as_ref().map(|name| name.to_str()),
            leaf: state.peer.as_ref().map(PeerIdentity::chain).and_then(|chain| chain.first()),
            // Plain TCP has none.
            generation: Some(state.generation).filter(|generation| *generation != 0),
            negotiated: state.negotiated.as_ref(),
            reason: None,
        }
    }

    fn emit(&self, endpoint: &EndpointInner) {
        let names = self.leaf.and_then(|leaf| Names::of(leaf));
        let (reason_code, reason) = match &self.reason {
            Some((code, reason)) => (Some(*code), Some(names::sentence(reason))),
            None => (None, None),
        };
        tracing::info!(
            target: TARGET,
            event = self.event,
            endpoint = endpoint.name,
            connection = self.connection,
            side = if self.dialled.is_some() { "dialled" } else { "accepted" },
            peer = self.peer.map(|peer| peer.to_string()),
            server_name = self.dialled.as_deref(),
            peer_fingerprint = self.leaf.map(|leaf| Fingerprint::sha256_of(leaf).to_string()),
            peer_subject = names.as_ref().map(|names| names.subject.as_str()),
            peer_sans = names.as_ref().and_then(|names| names.sans.as_deref()),
            generation = self.generation,
            handshake = self.negotiated.and_then(|negotiated| negotiated.kind).map(kind),
            protocol = self.negotiated.and_then(|negotiated| version(negotiated.version?)),
            cipher_suite = self.negotiated.and_then(|negotiated| negotiated.suite).map(iana_name),
            group = self.negotiated.and_then(|negotiated| negotiated.group).map(|group| format!("{group:?}")),
            reason_code,
            reason,
            "{}", self.event
        );
    }
}

fn kind(kind: HandshakeKind) -> &'static str {
    match kind {
        HandshakeKind::Full => "full",
        HandshakeKind::FullWithHelloRetryRequest => "full_with_hello_retry",
        HandshakeKind::Resumed => "resumed",
    }
}

fn version(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        // Not spoken here.
        _ => None,
    }
}
