//! QUIC obeys the same rules as TCP: sessions live and die with their trust, live connections are judged, limits hold.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Bundle, Pair, quick, serves};
use tls_common::quic::{self, Connection};
use tls_common::{
    ConnectError, ConnectionPolicy, DrainReason, Endpoint, EstablishedConnections, HandshakeError, HandshakeLimits,
    ProtocolVersion, Rejection, TlsContext,
};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const ALPN: &[&str] = &["echo"];

/// Ends a test that has failed, nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

fn endpoint(tls: &TlsContext, established: EstablishedConnections) -> Endpoint {
    let policy = ConnectionPolicy { established, drain_grace: Duration::from_secs(5), max_age: None };
    let limits = HandshakeLimits { timeout: PATIENCE, ..Default::default() };
    Endpoint::new("echo", Some(tls.clone()), policy, limits)
}

/// Echoes streams until the peer ends or the connection drains.
async fn echo(connection: Connection) {
    let info = connection.info().clone();
    loop {
        let (mut send, mut receive) = tokio::select! {
            accepted = connection.accept_bi() => match accepted {
                Ok(streams) => streams,
                Err(_) => return,
            },
            _ = info.draining() => return,
        };
        let Ok(bytes) = receive.read_to_end(64).await else { return };
        if send.write_all(&bytes).await.is_err() || send.finish().is_err() {
            return;
        }
    }
}

fn start(endpoint: &Endpoint) -> (SocketAddr, CancellationToken) {
    let stop = CancellationToken::new();
    let acceptor = endpoint.quic_acceptor(ALPN);
    let socket = acceptor.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(quic::serve(socket, acceptor, stop.clone(), echo));
    (addr, stop)
}

async fn ping(connection: &Connection) -> Result<(), Box<dyn std::error::Error>> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(b"ping").await?;
    send.finish()?;
    assert_eq!(receive.read_to_end(64).await?, b"ping");
    Ok(())
}

/// A client with its own identity that trusts `trusted`, and itself.
async fn client(identity: &Pair, trusted: &[&Pair]) -> (Bundle, TlsContext, quic::Connector, Endpoint) {
    let mut all = trusted.to_vec();
    all.push(identity);
    let bundle = Bundle::new(identity, &all);
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    let endpoint = endpoint(&context, EstablishedConnections::Keep);
    let connector = endpoint.quic_connector(ALPN).unwrap();
    (bundle, context, connector, endpoint)
}

async fn connected(connector: &quic::Connector, addr: SocketAddr) -> Connection {
    let connection = connector.connect("127.0.0.1", addr.port()).await.unwrap();
    ping(&connection).await.unwrap();
    connection
}

/// Connects until a session is resumed: its ticket follows the handshake of an earlier one, and a datagram may get lost.
async fn resumed(connector: &quic::Connector, addr: SocketAddr) -> Connection {
    let resumed = timeout(PATIENCE, async {
        loop {
            let connection = connected(connector, addr).await;
            if connection.info().is_resumed() {
                return connection;
            }
        }
    });
    resumed.await.expect("no session is ever resumed")
}

/// The server counts a moment after the client has seen it.
async fn until(wanted: impl Fn() -> bool) {
    let wait = timeout(PATIENCE, async {
        while !wanted() {
            tokio::task::yield_now().await;
        }
    });
    wait.await.expect("never came");
}

#[tokio::test]
async fn sessions_are_resumed_while_the_trust_is_unchanged_even_under_a_new_identity() {
    let (old, new, alice) = (Pair::new(), Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old, &new, &alice]);
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::Keep);
    let (addr, _stop) = start(&serving);
    let (_bundle, _context, connector, dialling) = client(&alice, &[&old, &new]).await;
    assert!(!connected(&connector, addr).await.info().is_resumed(), "there was nothing to resume");
    let connection = resumed(&connector, addr).await;
    let data = connection.handshake_data().unwrap().downcast::<quic::HandshakeData>().unwrap();
    assert!(data.resumed && data.key_exchange_group.is_some(), "{data:?}");
    assert_eq!(data.protocol.as_deref(), Some(b"echo".as_slice()));
    assert_eq!(connection.info().peer().unwrap().fingerprint(), Some(old.fingerprint()));
    until(|| serving.status().handshakes_resumed > 0).await;
    assert!(dialling.status().handshakes_resumed > 0);

    bundle.write_in_place(&new, &[&old, &new, &alice]);
    serves(&context, &new).await;
    let again = connector.connect("127.0.0.1", addr.port()).await.unwrap();
    assert!(again.info().is_resumed(), "who we are has changed, not whom we believe");
    ping(&again).await.unwrap();
}

#[tokio::test]
async fn a_server_resumes_nothing_from_before_its_trust_changed() {
    let (server, alice, bob) = (Pair::new(), Pair::new(), Pair::new());
    let bundle = Bundle::new(&server, &[&server, &alice, &bob]);
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::Keep);
    let (addr, _stop) = start(&serving);
    let (_a, _ac, alices, _ae) = client(&alice, &[&server]).await;
    let (_b, _bc, bobs, bobs_endpoint) = client(&bob, &[&server]).await;
    drop(resumed(&alices, addr).await);
    drop(resumed(&bobs, addr).await);
    until(|| serving.status().connections == 0).await;

    let mut published = context.subscribe();
    published.borrow_and_update();
    bundle.write_in_place(&server, &[&server, &alice]);
    published.changed().await.unwrap();
    let refused = bobs.connect("127.0.0.1", addr.port()).await.unwrap();
    assert!(!refused.info().is_resumed(), "the removed peer still has its session, and it must be worth nothing");
    assert!(ping(&refused).await.is_err());
    until(|| bobs_endpoint.status().failed_handshakes == 1).await;
    until(|| serving.status().failed_handshakes == 1).await;
    let welcome = alices.connect("127.0.0.1", addr.port()).await.unwrap();
    assert!(!welcome.info().is_resumed(), "sessions live and die with the trust as a whole");
    ping(&welcome).await.unwrap();
}

#[tokio::test]
async fn a_client_resumes_nothing_from_before_its_trust_changed() {
    let (server, alice) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&server, &[&server, &alice]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::Keep);
    let (addr, _stop) = start(&serving);
    let (bundle, context, connector, dialling) = client(&alice, &[&server]).await;
    drop(resumed(&connector, addr).await);

    let mut published = context.subscribe();
    published.borrow_and_update();
    bundle.write_in_place(&alice, &[&alice]);
    published.changed().await.unwrap();
    let error = connector.connect("127.0.0.1", addr.port()).await.unwrap_err();
    let ConnectError::Handshake { source: HandshakeError::Rejected(rejection), .. } = error else { panic!("{error}") };
    assert_eq!(rejection, Rejection::Untrusted);
    assert_eq!(dialling.status().failed_handshakes, 1);
}

#[tokio::test]
async fn a_removed_peer_is_drained_and_all_others_stay_untouched() {
    let (server, alice, bob, mallory) = (Pair::new(), Pair::new(), Pair::new(), Pair::new());
    let next = Pair::new();
    let bundle = Bundle::new(&server, &[&server, &alice, &bob, &mallory]);
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::DrainUntrusted);
    let (addr, _stop) = start(&serving);
    let mut connections = Vec::new();
    for pair in [&alice, &bob, &mallory] {
        let own = client(pair, &[&server, &next]).await;
        let connection = connected(&own.2, addr).await;
        connections.push((own, connection));
    }
    bundle.write_in_place(&next, &[&next, &server, &alice, &bob]);
    serves(&context, &next).await;
    let (own, mallorys) = connections.pop().unwrap();
    timeout(PATIENCE, mallorys.closed()).await.expect("the server closes");
    for (_, connection) in &connections {
        ping(connection).await.unwrap();
    }
    assert_eq!(serving.status().renewed, 1);
    let again = own.2.connect("127.0.0.1", addr.port()).await.unwrap();
    assert!(ping(&again).await.is_err(), "a removed peer must not come back, resumed or not");
    until(|| own.3.status().failed_handshakes == 1).await;
}

#[tokio::test]
async fn keep_leaves_connections_alone_and_renew_moves_all_of_them() {
    let (old, new) = (Pair::new(), Pair::new());
    for (policy, stays) in [(EstablishedConnections::Keep, true), (EstablishedConnections::Renew, false)] {
        let bundle = Bundle::new(&old, &[&old, &new]);
        let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
        let serving = endpoint(&context, policy);
        let (addr, _stop) = start(&serving);
        let dialling = client(&old, &[&new]).await;
        let connection = connected(&dialling.2, addr).await;
        bundle.write_in_place(&new, &[&old, &new]);
        let generation = serves(&context, &new).await;
        if stays {
            ping(&connection).await.unwrap();
            assert_eq!(serving.status().connections_by_generation.get(&1), Some(&1));
        } else {
            timeout(PATIENCE, connection.closed()).await.expect("the server closes");
            until(|| serving.status().connections == 0).await;
        }
        // A client without a session to resume: a resumed one would not be shown the certificate again.
        let newcomer = client(&old, &[&new]).await;
        let fresh = connected(&newcomer.2, addr).await;
        assert_eq!(fresh.info().peer().unwrap().fingerprint(), Some(new.fingerprint()));
        until(|| serving.status().connections_by_generation.get(&generation) == Some(&1)).await;
    }
}

#[tokio::test]
async fn a_connection_that_ignores_its_drain_is_closed_with_the_named_code_after_the_grace() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let policy = ConnectionPolicy {
        max_age: Some(Duration::from_millis(50)),
        drain_grace: Duration::from_millis(50),
        ..Default::default()
    };
    let limits = HandshakeLimits { timeout: PATIENCE, ..Default::default() };
    let serving = Endpoint::new("stubborn", Some(context.clone()), policy, limits);
    let acceptor = serving.quic_acceptor(ALPN);
    let socket = acceptor.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let (told, seen) = oneshot::channel();
    let told = Arc::new(Mutex::new(Some(told)));
    tokio::spawn(quic::serve(socket, acceptor, CancellationToken::new(), move |connection: Connection| {
        let told = Arc::clone(&told);
        async move {
            let why = connection.info().draining().await;
            // Goes on although it was told to go, and holds a stream of it elsewhere.
            let error = connection.accept_bi().await.unwrap_err();
            let _ = told.lock().unwrap().take().map(|told| told.send((why, error)));
        }
    }));
    let dialling = endpoint(&context, EstablishedConnections::Keep);
    let connection = dialling.quic_connector(ALPN).unwrap().connect("127.0.0.1", addr.port()).await.unwrap();
    let (why, error) = timeout(PATIENCE, seen).await.expect("it is cut").unwrap();
    assert_eq!((why, error), (DrainReason::MaxAge, quinn::ConnectionError::LocallyClosed));
    assert_eq!(serving.status().killed, 1);
    let closed = timeout(PATIENCE, connection.closed()).await.expect("the peer hears of it");
    let quinn::ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
    assert_eq!(close.error_code, quic::DRAINED);
}

#[tokio::test]
async fn a_dropped_connection_is_closed_whatever_is_left_of_it() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::Keep);
    let (addr, _stop) = start(&serving);
    let dialling = endpoint(&context, EstablishedConnections::Keep);
    let connection = connected(&dialling.quic_connector(ALPN).unwrap(), addr).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    let handle = quinn::Connection::clone(&connection);
    drop(connection);
    assert_eq!(dialling.status().connections, 0, "nothing could drain it any more");
    assert!(handle.close_reason().is_some() && send.write_all(b"x").await.is_err());
    until(|| serving.status().connections == 0).await;
}

#[tokio::test]
async fn a_client_without_a_certificate_and_a_stranger_are_refused() {
    let (server, stranger) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&server, &[&server]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::Keep);
    let (addr, _stop) = start(&serving);
    for anonymous in [true, false] {
        let own = Bundle::new(&stranger, &[&server, &stranger]);
        let mut options = own.options();
        if anonymous {
            options.keystore = None;
        }
        let dialling = endpoint(&TlsContext::load(options, None).await.unwrap(), EstablishedConnections::Keep);
        let connection = dialling.quic_connector(ALPN).unwrap().connect("127.0.0.1", addr.port()).await;
        // Whether the refusal comes before or after the client is done is up to the datagrams.
        if let Ok(connection) = connection {
            assert!(ping(&connection).await.is_err(), "anonymous: {anonymous}");
        }
        until(|| dialling.status().failed_handshakes == 1).await;
    }
    until(|| serving.status().failed_handshakes == 2).await;
}

#[tokio::test]
async fn a_bundle_that_cannot_carry_quic_says_so_instead_of_panicking() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let mut options = bundle.options();
    options.protocols = vec![ProtocolVersion::Tls12];
    let context = TlsContext::load(options, None).await.unwrap();
    let only_tls12 = endpoint(&context, EstablishedConnections::Keep);
    let plain = Endpoint::new("plain", None, ConnectionPolicy::default(), HandshakeLimits::default());
    for endpoint in [only_tls12, plain] {
        let error = endpoint.quic_acceptor(ALPN).server_config().unwrap_err();
        assert!(matches!(error, HandshakeError::NoQuic(_)), "{error}");
        assert!(endpoint.quic_acceptor(ALPN).bind("127.0.0.1:0".parse().unwrap()).is_err());
        let error = endpoint.quic_connector(ALPN).unwrap().connect("127.0.0.1", 1).await.unwrap_err();
        assert!(error.to_string().contains("QUIC"), "{error}");
    }
}

#[tokio::test]
async fn a_bundle_without_the_suite_of_quics_first_packets_speaks_quic() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let mut options = bundle.options();
    options.cipher_suites = vec!["TLS_AES_256_GCM_SHA384".into()];
    let context = TlsContext::load(options, None).await.unwrap();
    let serving = endpoint(&context, EstablishedConnections::Keep);
    let (addr, _stop) = start(&serving);
    let connection = connected(&serving.quic_connector(ALPN).unwrap(), addr).await;
    let data = connection.handshake_data().unwrap().downcast::<quic::HandshakeData>().unwrap();
    assert_eq!(data.cipher_suite, rustls::CipherSuite::TLS13_AES_256_GCM_SHA384);
}

#[tokio::test]
async fn shutdown_lets_a_handler_finish_and_then_returns_even_at_the_connection_limit() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let limits = HandshakeLimits { max_connections: 1, timeout: PATIENCE, ..Default::default() };
    let serving = Endpoint::new("full", Some(context.clone()), ConnectionPolicy::default(), limits);
    let acceptor = serving.quic_acceptor(ALPN);
    let socket = acceptor.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = tokio::spawn(quic::serve(socket, acceptor, stop.clone(), |connection: Connection| async move {
        assert_eq!(connection.info().draining().await, DrainReason::Shutdown);
        let mut send = connection.open_uni().await.unwrap();
        send.write_all(b"last words").await.unwrap();
        send.finish().unwrap();
        // The peer closes once it has read them.
        connection.closed().await;
    }));
    let dialling = endpoint(&context, EstablishedConnections::Keep);
    let connector = dialling.quic_connector(ALPN).unwrap();
    let connection = connector.connect("127.0.0.1", addr.port()).await.unwrap();
    until(|| serving.status().connections == 1).await;
    let second = endpoint(&context, EstablishedConnections::Keep).quic_connector(ALPN).unwrap();
    let waiting = tokio::spawn(async move { second.connect("127.0.0.1", addr.port()).await });
    stop.cancel();
    let mut words = connection.accept_uni().await.unwrap();
    assert_eq!(words.read_to_end(64).await.unwrap(), b"last words");
    assert_eq!(serving.status().connections, 1, "the second one never got its turn");
    let error = connector.connect("127.0.0.1", addr.port()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert_eq!((dialling.status().refused_connects, dialling.status().failed_handshakes), (1, 0));
    drop(connection);
    timeout(PATIENCE, served).await.expect("serve returns").unwrap();
    waiting.abort();
}
