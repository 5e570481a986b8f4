//! What is known of a connection, whatever carries it, and its place in its endpoint's list: shared by TCP and QUIC.

use super::EndpointInner;
use super::audit::Negotiated;
use super::departure::{Departure, DrainReason};
use crate::clock;
use crate::error::Rejection;
use crate::generation::Generation;
use crate::verify::{PeerRole, presented};
use rand::Rng as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection that is only to be renewed may go on after its drain grace while bytes move.
const LONGEST_RENEWAL: Duration = Duration::from_secs(3600);

/// What there is to know about a connection; outlives it.
#[derive(Clone)]
pub struct ConnectionInfo {
    pub(crate) state: Arc<ConnectionState>,
}

/// Who the peer proved to be.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    chain: Arc<Vec<CertificateDer<'static>>>,
}

pub(crate) struct ConnectionState {
    pub(super) id: u64,
    pub(super) peer_addr: SocketAddr,
    pub(super) generation: u64,
    pub(super) peer: Option<PeerIdentity>,
    /// The name we dialled; `None` on the accepting side.
    pub(crate) dialled: Option<ServerName<'static>>,
    pub(super) alpn: Option<Vec<u8>>,
    /// `None` for plain TCP, and where it is not known.
    pub(super) negotiated: Option<Negotiated>,
    /// When this connection must begin to drain whatever happens.
    pub(super) deadline: Option<Instant>,
    pub(crate) departure: Departure,
    last_write_ms: AtomicU64,
    last_read_ms: AtomicU64,
}

/// A connection's place in its endpoint's list, left when this is dropped.
#[derive(Debug)]
pub(crate) struct LiveGuard {
    pub(crate) endpoint: Arc<EndpointInner>,
    pub(crate) info: ConnectionInfo,
}

/// What a finished TLS handshake says.
pub(crate) struct Handshake<'a> {
    pub(crate) peer_addr: SocketAddr,
    /// The peer's certificates, leaf first.
    pub(crate) chain: Option<&'a [CertificateDer<'a>]>,
    pub(crate) alpn: Option<&'a [u8]>,
    /// Unknown is treated as resumed: judged once more, at worst.
    pub(crate) negotiated: Option<Negotiated>,
    /// The name we dialled; `None` on the accepting side.
    pub(crate) dialled: Option<ServerName<'static>>,
}

impl LiveGuard {
    /// Lists a connection whose handshake under `generation` is over. The peer of a resumed session, whose handshake
    /// skipped the verifier, is judged here: its certificate may have expired since.
    pub(crate) fn admit(
        endpoint: &Arc<EndpointInner>,
        generation: &Generation,
        handshake: Handshake<'_>,
    ) -> Result<Self, Rejection> {
        let Handshake { peer_addr, chain, alpn, negotiated, dialled } = handshake;
        let role = if dialled.is_some() { PeerRole::Server } else { PeerRole::Client };
        let resumed = negotiated.as_ref().is_none_or(Negotiated::is_resumed);
        let now = UnixTime::now();
        let accepted_until = match chain.map(|chain| generation.judge(chain, role, dialled.as_ref(), now)) {
            None => None,
            Some(Ok(until)) => until,
            Some(Err(rejection)) if resumed => {
                chain.iter().flat_map(|chain| chain.first()).for_each(presented::note);
                return Err(rejection);
            }
            // The verifier has believed it a moment ago: it goes at once, as others whose time is over.
            Some(Err(_)) => Some(now),
        };
        let state = ConnectionState {
            generation: generation.number(),
            peer: chain.map(|chain| PeerIdentity {
                chain: Arc::new(chain.iter().map(|der| der.clone().into_owned()).collect()),
            }),
            dialled,
            alpn: alpn.map(<[u8]>::to_vec),
            negotiated,
            deadline: deadline_of(endpoint, accepted_until),
            ..ConnectionState::plain(endpoint, peer_addr)
        };
        endpoint.note_handshake(&state);
        Ok(Self::enlist(endpoint, state))
    }

    /// Lists a connection without TLS.
    pub(super) fn admit_plain(endpoint: &Arc<EndpointInner>, peer_addr: SocketAddr) -> Self {
        Self::enlist(endpoint, ConnectionState::plain(endpoint, peer_addr))
    }

    fn enlist(endpoint: &Arc<EndpointInner>, state: ConnectionState) -> Self {
        let state = Arc::new(state);
        endpoint.enlist(&state);
        Self { endpoint: Arc::clone(endpoint), info: ConnectionInfo { state } }
    }
}

impl ConnectionInfo {
    /// Unique within its endpoint and process.
    pub fn id(&self) -> u64 {
        self.state.id
    }

    /// The other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.state.peer_addr
    }

    /// The generation this connection was made under; 0 for plain TCP.
    pub fn generation(&self) -> u64 {
        self.state.generation
    }

    /// Who the peer proved to be; `None` without a certificate.
    pub fn peer(&self) -> Option<&PeerIdentity> {
        self.state.peer.as_ref()
    }

    /// The protocol that ALPN settled on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.state.alpn.as_deref()
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.state.negotiated.as_ref().is_some_and(Negotiated::is_resumed)
    }

    /// Resolves once the connection should finish what it does and go. Its IO fails `drain_grace` later.
    pub async fn draining(&self) -> DrainReason {
        self.state.departure.once(Some).await
    }

    /// Resolves once the connection should go because its peer is not trusted any more; never for another reason.
    pub async fn untrusted(&self) -> String {
        let why = |reason| if let DrainReason::Untrusted(why) = reason { Some(why) } else { None };
        self.state.departure.once(why).await
    }

    /// Whether [`Self::untrusted`] has resolved: this peer is owed nothing more than what it has asked for already.
    pub fn is_untrusted(&self) -> bool {
        matches!(self.state.departure.told(), Some((DrainReason::Untrusted(_), _)))
    }

    /// Whether [`Self::draining`] has resolved.
    pub fn is_draining(&self) -> bool {
        self.state.departure.told().is_some()
    }
}

impl fmt::Debug for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo")
            .field("id", &self.state.id)
            .field("peer", &self.state.peer_addr)
            .field("generation", &self.state.generation)
            .field("draining", &self.is_draining())
            .finish()
    }
}

impl PeerIdentity {
    /// The peer's certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// SHA-256 of the leaf, lower-case hex.
    pub fn fingerprint(&self) -> Option<String> {
        self.chain.first().map(|leaf| crate::context::hex(crate::Fingerprint::sha256_of(leaf).as_bytes()))
    }
}

impl fmt::Debug for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionState")
            .field("id", &self.id)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl ConnectionState {
    fn plain(endpoint: &EndpointInner, peer_addr: SocketAddr) -> Self {
        Self {
            id: endpoint.next_id(),
            peer_addr,
            generation: 0,
            peer: None,
            dialled: None,
            alpn: None,
            negotiated: None,
            deadline: deadline_of(endpoint, None),
            departure: Departure::default(),
            last_write_ms: AtomicU64::new(0),
            last_read_ms: AtomicU64::new(0),
        }
    }

    /// Whose time is over may go on all the same if it is only to be renewed and something has moved within `grace`: to
    /// cut a transfer would lose work and keep nobody out. The moment at which to ask again.
    pub(super) fn may_go_on_until(&self, now: Instant, grace: Duration) -> Option<Instant> {
        let Some((DrainReason::Renewed, cut_at)) = self.departure.told() else { return None };
        let last_ms = self.last_write_ms().max(self.last_read_ms.load(Ordering::Relaxed));
        let idle = Duration::from_millis(clock::monotonic_ms().saturating_sub(last_ms));
        let left = grace.saturating_sub(idle);
        (!left.is_zero() && now < cut_at + LONGEST_RENEWAL).then(|| now + left)
    }

    pub(super) fn note_bytes_received(&self) {
        self.last_read_ms.store(clock::monotonic_ms(), Ordering::Relaxed);
    }

    pub(crate) fn note_bytes_sent(&self) {
        self.last_write_ms.store(clock::monotonic_ms(), Ordering::Relaxed);
    }

    /// Monotonic milliseconds of the last byte that left; 0 = none.
    pub(super) fn last_write_ms(&self) -> u64 {
        self.last_write_ms.load(Ordering::Relaxed)
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.endpoint.delist(self.info.id());
        self.info.state.departure.forget_waiting();
    }
}

/// When a connection must drain at the latest: its own age (shortened by up to a tenth, so that connections made together
/// do not all return together) or `accepted_until`, the end of its peer's certificate or pin, whichever is first.
fn deadline_of(endpoint: &EndpointInner, accepted_until: Option<UnixTime>) -> Option<Instant> {
    let now = Instant::now();
    let aged = endpoint.policy.max_age.map(|age| clock::later(now, age.mul_f64(rand::rng().random_range(0.9..1.0))));
    let expired = accepted_until
        .map(|end| end.as_secs().saturating_sub(UnixTime::now().as_secs()))
        .map(|left| clock::later(now, Duration::from_secs(left)));
    match (aged, expired) {
        (Some(aged), Some(expired)) => Some(aged.min(expired)),
        (aged, expired) => aged.or(expired),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use crate::{
        BundleOptions, ClientAuth, ConnectionPolicy, Endpoint, HandshakeLimits, Password, StoreOptions, TlsContext,
    };

    const HOUR: Duration = Duration::from_secs(3600);

    /// A certificate that ends in about `left`.
    fn ending_in(left: Duration) -> rcgen::Certificate {
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.not_after = (std::time::SystemTime::now() + left).into();
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_connection_lasts_until_its_age_or_its_peers_certificate_ends_whichever_comes_first() {
        let lifetime = |max_age, accepted: Option<Duration>| {
            let policy = ConnectionPolicy { max_age, ..Default::default() };
            let endpoint = Endpoint::new("test", None, policy, HandshakeLimits::default());
            let end = |left| UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + left);
            let deadline = deadline_of(&endpoint.inner, accepted.map(end))?;
            Some(deadline.saturating_duration_since(Instant::now()))
        };
        let around = |lifetime: Option<Duration>, expected: Duration| {
            let lifetime = lifetime.unwrap();
            // The jitter takes up to a tenth; the rest is time this test may take.
            assert!(lifetime <= expected && lifetime > expected.mul_f64(0.8), "{lifetime:?} of {expected:?}");
        };
        assert_eq!(lifetime(None, None), None);
        around(lifetime(Some(HOUR), None), HOUR);
        around(lifetime(None, Some(2 * HOUR)), 2 * HOUR);
        around(lifetime(Some(HOUR), Some(2 * HOUR)), HOUR);
        around(lifetime(Some(3 * HOUR), Some(2 * HOUR)), 2 * HOUR);
        assert_eq!(lifetime(None, Some(Duration::ZERO)), Some(Duration::ZERO));
    }

    /// Under which `own` is the identity, and trusted beside `others`.
    async fn context(own: &rcgen::CertifiedKey<rcgen::KeyPair>, others: &[&rcgen::Certificate]) -> TlsContext {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.pem");
        std::fs::write(&path, own.cert.pem() + &own.signing_key.serialize_pem()).unwrap();
        let mut options = BundleOptions::new("test");
        options.keystore = Some(StoreOptions::new(&path, Password::None));
        let trusted = dir.path().join("trusted.pem");
        let others: String = others.iter().map(|other| other.pem()).collect();
        std::fs::write(&trusted, own.cert.pem() + &others).unwrap();
        options.truststore = Some(StoreOptions::new(&trusted, Password::None));
        options.client_auth = ClientAuth::Required;
        TlsContext::load(options, None).await.unwrap()
    }

    fn own() -> rcgen::CertifiedKey<rcgen::KeyPair> {
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_before_the_judge_would_come_back_is_not_forgotten() {
        let (three_hours, one_hour) = (ending_in(3 * HOUR), ending_in(HOUR));
        let context = context(&own(), &[&three_hours, &one_hour]).await;
        let policy = ConnectionPolicy::default();
        let endpoint = Endpoint::new("test", Some(context.clone()), policy, HandshakeLimits::default());
        let admit = |certificate: &rcgen::Certificate| {
            let handshake = Handshake {
                peer_addr: "127.0.0.1:1".parse().unwrap(),
                chain: Some(std::slice::from_ref(certificate.der())),
                alpn: None,
                negotiated: Some(Negotiated::for_tests(false)),
                dialled: None,
            };
            LiveGuard::admit(&endpoint.inner, &context.current(), handshake).unwrap()
        };
        let started = Instant::now();
        let long = admit(&three_hours);
        // The judge has seen it, and waits for its end.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let short = admit(&one_hour);
        assert_eq!(short.info.draining().await, DrainReason::MaxAge);
        assert!(started.elapsed() < 2 * HOUR && !long.info.is_draining());
        assert_eq!(long.info.draining().await, DrainReason::MaxAge);
    }

    #[tokio::test]
    async fn the_peer_of_a_resumed_session_is_judged_again_for_nobody_else_did() {
        let own = own();
        let context = context(&own, &[]).await;
        let endpoint =
            Endpoint::new("test", Some(context.clone()), ConnectionPolicy::default(), HandshakeLimits::default());
        let admit = |certificate: CertificateDer<'static>, resumed, dialled: Option<&str>| {
            let handshake = Handshake {
                peer_addr: "127.0.0.1:1".parse().unwrap(),
                chain: Some(&[certificate]),
                alpn: None,
                negotiated: Some(Negotiated::for_tests(resumed)),
                dialled: dialled.map(|name| ServerName::try_from(name.to_owned()).unwrap()),
            };
            LiveGuard::admit(&endpoint.inner, &context.current(), handshake)
        };
        for dialled in [None, Some("localhost")] {
            assert_eq!(admit(ending_in(HOUR).der().clone(), true, dialled).unwrap_err(), Rejection::Untrusted);
            assert_eq!(endpoint.status().connections, 0, "who is refused is not listed");
            let live =
                admit(ending_in(HOUR).der().clone(), false, dialled).expect("the verifier has judged a full handshake");
            assert_eq!((endpoint.status().connections, live.info.is_resumed()), (1, false));
            drop(live);
            admit(own.cert.der().clone(), true, dialled).expect("still trusted");
        }
        let refused = admit(own.cert.der().clone(), true, Some("elsewhere")).unwrap_err();
        assert!(matches!(refused, Rejection::WrongName { .. }), "{refused}");
    }
}
