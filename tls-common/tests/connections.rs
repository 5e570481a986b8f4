//! Established connections, drains, refusals and the listening socket's moves, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Bundle, Pair, quick, serves};
use tls_common::{
    Connection, ConnectionPolicy, DrainReason, Endpoint, EstablishedConnections, HandshakeLimits, Listener, TlsContext,
    serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

const ALPN: &[&str] = &["echo"];

fn endpoint(tls: Option<&TlsContext>, established: EstablishedConnections) -> Endpoint {
    let policy = ConnectionPolicy { established, drain_grace: Duration::from_secs(5), max_age: None };
    Endpoint::new("echo", tls.cloned(), policy, HandshakeLimits::default())
}

/// Echoes bytes until the peer ends or the connection drains.
async fn echo(mut connection: Connection) {
    let info = connection.info().clone();
    let mut buffer = [0; 64];
    loop {
        tokio::select! {
            read = connection.read(&mut buffer) => match read {
                Ok(count @ 1..) => {
                    if connection.write_all(&buffer[..count]).await.is_err() || connection.flush().await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            _ = info.draining() => {
                let _ = connection.shutdown().await;
                return;
            }
        }
    }
}

async fn start(endpoint: &Endpoint, listener: Listener) -> (SocketAddr, CancellationToken) {
    let stop = CancellationToken::new();
    let addr = listener.local_addr();
    tokio::spawn(serve(listener, endpoint.acceptor(ALPN), stop.clone(), echo));
    (addr, stop)
}

async fn loopback() -> Listener {
    Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

async fn ping(connection: &mut Connection) -> std::io::Result<()> {
    connection.write_all(b"ping").await?;
    connection.flush().await?;
    let mut answer = [0; 4];
    connection.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

/// The server counts a failure a moment after the client has seen it.
async fn failures(endpoint: &Endpoint, expected: u64) {
    let counted = async {
        while endpoint.status().failed_handshakes < expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counted).await.expect("all failures are counted");
    assert_eq!(endpoint.status().failed_handshakes, expected);
}

/// A client with its own identity that trusts `trusted`.
async fn client(identity: &Pair, trusted: &[&Pair]) -> (Bundle, Endpoint) {
    let mut all = trusted.to_vec();
    all.push(identity);
    let bundle = Bundle::new(identity, &all);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let endpoint = endpoint(Some(&context), EstablishedConnections::Keep);
    (bundle, endpoint)
}

async fn connected(endpoint: &Endpoint, addr: SocketAddr) -> Connection {
    let mut connection = endpoint.connector(ALPN).connect("127.0.0.1", addr.port()).await.unwrap();
    ping(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn a_removed_peer_is_drained_and_all_others_stay_untouched() {
    let (server, alice, bob, mallory) = (Pair::new(), Pair::new(), Pair::new(), Pair::new());
    let next = Pair::new();
    let bundle = Bundle::new(&server, &[&server, &alice, &bob, &mallory]);
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    let serving = endpoint(Some(&context), EstablishedConnections::DrainUntrusted);
    let (addr, _stop) = start(&serving, loopback().await).await;
    let mut connections = Vec::new();
    for pair in [&alice, &bob, &mallory] {
        let (bundle, endpoint) = client(pair, &[&server, &next]).await;
        let connection = connected(&endpoint, addr).await;
        connections.push((bundle, endpoint, connection));
    }
    bundle.write_in_place(&next, &[&next, &server, &alice, &bob]);
    serves(&context, &next).await;
    let (_, _, mallorys) = connections.last_mut().unwrap();
    // The server closes: the read ends without an answer.
    assert!(matches!(mallorys.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    for (_, _, connection) in &mut connections[..2] {
        ping(connection).await.unwrap();
    }
    assert_eq!(serving.status().renewed, 1);
    let (_, endpoint, _) = &connections[2];
    let mut again = endpoint.connector(ALPN).connect("127.0.0.1", addr.port()).await.unwrap();
    assert!(ping(&mut again).await.is_err(), "a removed peer must not come back, resumed or not");
    assert_eq!(endpoint.status().failed_handshakes, 1, "the late refusal counts on the client's side");
    failures(&serving, 1).await;
}

#[tokio::test]
async fn keep_leaves_connections_alone_and_renew_moves_all_of_them() {
    let (old, new) = (Pair::new(), Pair::new());
    for (policy, stays) in [(EstablishedConnections::Keep, true), (EstablishedConnections::Renew, false)] {
        let bundle = Bundle::new(&old, &[&old, &new]);
        let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
        let serving = endpoint(Some(&context), policy);
        let (addr, _stop) = start(&serving, loopback().await).await;
        let (_bundle, dialling) = client(&old, &[&new]).await;
        let mut connection = connected(&dialling, addr).await;
        bundle.write_in_place(&new, &[&old, &new]);
        serves(&context, &new).await;
        if stays {
            ping(&mut connection).await.unwrap();
            assert_eq!(serving.status().connections_by_generation.get(&1), Some(&1));
        } else {
            assert!(matches!(connection.read(&mut [0; 1]).await, Ok(0) | Err(_)));
        }
        // A client without a session to resume: a resumed one would not be shown the certificate again.
        let (_bundle, newcomer) = client(&old, &[&new]).await;
        let fresh = connected(&newcomer, addr).await;
        let seen = fresh.info().peer().unwrap().fingerprint();
        assert_eq!(seen, Some(new.fingerprint()), "new connections get the new certificate");
    }
}

#[tokio::test]
async fn a_connection_that_ignores_its_drain_is_cut_after_the_grace() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let policy = ConnectionPolicy {
        max_age: Some(Duration::from_millis(50)),
        drain_grace: Duration::from_millis(50),
        ..Default::default()
    };
    let serving = Endpoint::new("stubborn", Some(context.clone()), policy, HandshakeLimits::default());
    let listener = loopback().await;
    let addr = listener.local_addr();
    let (reason, seen) = tokio::sync::oneshot::channel();
    let reason = Arc::new(std::sync::Mutex::new(Some(reason)));
    tokio::spawn(serve(
        listener,
        serving.acceptor(ALPN),
        CancellationToken::new(),
        move |mut connection: Connection| {
            let reason = Arc::clone(&reason);
            async move {
                let why = connection.info().draining().await;
                // Reads on although it was told to go.
                let result = connection.read(&mut [0; 1]).await;
                let sender = reason.lock().unwrap().take();
                let _ = sender.map(|sender| sender.send((why, result.map_err(|error| error.kind()))));
            }
        },
    ));
    let dialling = endpoint(Some(&context), EstablishedConnections::Keep);
    let _connection = dialling.connector(ALPN).connect("127.0.0.1", addr.port()).await.unwrap();
    let (why, read) = seen.await.unwrap();
    assert_eq!(why, DrainReason::MaxAge);
    assert_eq!(read, Err(std::io::ErrorKind::ConnectionAborted));
    assert_eq!(serving.status().killed, 1);
}

#[tokio::test]
async fn a_client_without_a_certificate_and_a_stranger_are_refused_on_both_protocol_versions() {
    let (server, stranger) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&server, &[&server]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let serving = endpoint(Some(&context), EstablishedConnections::Keep);
    let (addr, _stop) = start(&serving, loopback().await).await;
    for version in [tls_common::ProtocolVersion::Tls12, tls_common::ProtocolVersion::Tls13] {
        for anonymous in [true, false] {
            let own = Bundle::new(&stranger, &[&server, &stranger]);
            let mut options = own.options();
            options.protocols = vec![version];
            if anonymous {
                options.keystore = None;
            }
            let context = TlsContext::load(options, None).await.unwrap();
            let dialling = endpoint(Some(&context), EstablishedConnections::Keep);
            let refused = match dialling.connector(ALPN).connect("127.0.0.1", addr.port()).await {
                Err(_) => true,
                Ok(mut connection) => ping(&mut connection).await.is_err(),
            };
            assert!(refused, "{version:?}, anonymous: {anonymous}");
        }
    }
    failures(&serving, 4).await;
    let own = endpoint(Some(&context), EstablishedConnections::Keep);
    connected(&own, addr).await;
}

#[tokio::test]
async fn garbage_and_silence_harm_nobody() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let limits = HandshakeLimits { timeout: Duration::from_secs(3), ..Default::default() };
    let serving = Endpoint::new("echo", Some(context.clone()), ConnectionPolicy::default(), limits);
    let (addr, _stop) = start(&serving, loopback().await).await;
    let silent = tokio::net::TcpStream::connect(addr).await.unwrap();
    let mut noisy = tokio::net::TcpStream::connect(addr).await.unwrap();
    noisy.write_all(&[0x47; 4096]).await.unwrap();
    let own = endpoint(Some(&context), EstablishedConnections::Keep);
    connected(&own, addr).await;
    let mut rest = Vec::new();
    let _ = noisy.read_to_end(&mut rest).await;
    let mut silent = silent;
    let _ = silent.read_to_end(&mut rest).await;
    failures(&serving, 2).await;
}

#[tokio::test]
async fn who_connects_and_says_nothing_keeps_nobody_from_shaking_hands() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    // One permit, and an hour to be silent in.
    let limits = HandshakeLimits { max_concurrent: 1, timeout: Duration::from_secs(3600), ..Default::default() };
    let serving = Endpoint::new("echo", Some(context.clone()), ConnectionPolicy::default(), limits);
    let (addr, _stop) = start(&serving, loopback().await).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(tokio::net::TcpStream::connect(addr).await.unwrap());
    }
    let own = endpoint(Some(&context), EstablishedConnections::Keep);
    tokio::time::timeout(Duration::from_secs(60), connected(&own, addr)).await.expect("nobody is in the way");
}

/// Echoes on and on, whatever it is told.
async fn deaf(mut connection: Connection) {
    let mut buffer = [0; 64];
    while let Ok(count @ 1..) = connection.read(&mut buffer).await {
        if connection.write_all(&buffer[..count]).await.is_err() || connection.flush().await.is_err() {
            return;
        }
    }
}

/// A server that moves all connections at each generation, and whose handlers do not heed it.
async fn stubborn(context: &TlsContext, drain_grace: Duration) -> (Endpoint, SocketAddr, CancellationToken) {
    let policy = ConnectionPolicy { established: EstablishedConnections::Renew, drain_grace, max_age: None };
    let serving = Endpoint::new("echo", Some(context.clone()), policy, HandshakeLimits::default());
    let (listener, stop) = (loopback().await, CancellationToken::new());
    let addr = listener.local_addr();
    tokio::spawn(serve(listener, serving.acceptor(ALPN), stop.clone(), deaf));
    (serving, addr, stop)
}

#[tokio::test]
async fn a_renewal_cuts_no_connection_on_which_something_moves() {
    const GRACE: Duration = Duration::from_secs(2);
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old, &new]);
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    let (serving, addr, _stop) = stubborn(&context, GRACE).await;
    let (_bundle, dialling) = client(&old, &[&new]).await;
    let mut connection = connected(&dialling, addr).await;
    bundle.write_in_place(&new, &[&old, &new]);
    serves(&context, &new).await;
    let (begun, mut last) = (Instant::now(), Instant::now());
    while begun.elapsed() < 2 * GRACE {
        let outcome = ping(&mut connection).await;
        // A machine that stood still for that long has shown nothing.
        assert!(outcome.is_ok() || last.elapsed() > GRACE / 2, "{outcome:?}");
        if outcome.is_err() {
            return;
        }
        last = Instant::now();
    }
    // Nothing moves any more.
    assert!(matches!(connection.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    assert_eq!(serving.status().killed, 1);
}

#[tokio::test]
async fn a_connection_to_be_renewed_whose_peer_is_removed_meanwhile_is_cut_whatever_moves() {
    let (old, new, newest) = (Pair::new(), Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old, &new]);
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    let (serving, addr, _stop) = stubborn(&context, Duration::from_secs(2)).await;
    let (_bundle, dialling) = client(&old, &[&new, &newest]).await;
    let mut connection = connected(&dialling, addr).await;
    bundle.write_in_place(&new, &[&old, &new]);
    serves(&context, &new).await;
    bundle.write_in_place(&newest, &[&newest]);
    serves(&context, &newest).await;
    let cut = async { while ping(&mut connection).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), cut).await.expect("nothing removed lives on");
    let drained = serving.status().drained_by_reason;
    assert_eq!(drained.into_iter().collect::<Vec<_>>(), [("renewed".into(), 1), ("untrusted".into(), 1)]);
}

#[tokio::test]
async fn shutdown_lets_a_handler_finish_and_then_returns() {
    let serving = endpoint(None, EstablishedConnections::Keep);
    let listener = loopback().await;
    let addr = listener.local_addr();
    let stop = CancellationToken::new();
    let served =
        tokio::spawn(serve(listener, serving.acceptor(ALPN), stop.clone(), |mut connection: Connection| async move {
            let why = connection.info().draining().await;
            assert_eq!(why, DrainReason::Shutdown);
            connection.write_all(b"last words").await.unwrap();
            connection.shutdown().await.unwrap();
        }));
    let mut connection = serving.connector(ALPN).connect("127.0.0.1", addr.port()).await.unwrap();
    let both_sides = async {
        while serving.status().connections < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), both_sides).await.expect("the connection is there");
    stop.cancel();
    let mut words = String::new();
    connection.read_to_string(&mut words).await.unwrap();
    assert_eq!(words, "last words");
    served.await.unwrap();
}

#[tokio::test]
async fn a_server_at_its_connection_limit_still_stops() {
    let limits = HandshakeLimits { max_connections: 1, ..Default::default() };
    let serving = Endpoint::new("full", None, ConnectionPolicy::default(), limits);
    let listener = loopback().await;
    let addr = listener.local_addr();
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, serving.acceptor(ALPN), stop.clone(), echo));
    let mut only = connected(&serving, addr).await;
    let _waiting = tokio::net::TcpStream::connect(addr).await.unwrap();
    ping(&mut only).await.unwrap();
    stop.cancel();
    served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_http_peer_that_never_asks_anything_is_let_go() {
    let serving = endpoint(None, EstablishedConnections::Keep);
    let listener = loopback().await;
    let addr = listener.local_addr();
    let answer = tower::service_fn(|_request: http::Request<hyper::body::Incoming>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    });
    tokio::spawn(serve(listener, serving.acceptor(&[]), CancellationToken::new(), move |connection: Connection| {
        tls_common::http::serve_connection(connection, answer)
    }));
    let mut silent = tokio::net::TcpStream::connect(addr).await.unwrap();
    // Time is virtual and passes while nothing happens: without the limit this would wait for ever.
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
}

/// Closing the old socket the naive way resets what waits in its queue; this counts every single connect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_storm_of_connects_no_rebind_refuses_or_resets_one() {
    let (a, b) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&a, &[&a, &b]);
    let mut reload = quick();
    reload.quiet_period = Duration::from_millis(5);
    let context = TlsContext::load(bundle.options(), Some(reload)).await.unwrap();
    let limits = HandshakeLimits { timeout: Duration::from_secs(60), ..Default::default() };
    let serving = Endpoint::new("blob", Some(context.clone()), ConnectionPolicy::default(), limits);
    let listener = Listener::bind_rebinding("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (addr, _stop) = start(&serving, listener).await;
    let (_bundle, dialling) = client(&a, &[&b]).await;
    let done = Arc::new(AtomicBool::new(false));
    let connects = Arc::new(AtomicU64::new(0));
    let storm: Vec<_> = (0..8)
        .map(|_| {
            let (dialling, done, connects) = (dialling.clone(), Arc::clone(&done), Arc::clone(&connects));
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    connected(&dialling, addr).await;
                    connects.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..60 {
        let identity = if round % 2 == 0 { &b } else { &a };
        bundle.write_in_place(identity, &[&a, &b]);
        serves(&context, identity).await;
    }
    done.store(true, Ordering::Relaxed);
    for task in storm {
        task.await.expect("every connect of the storm succeeded");
    }
    assert!(serving.status().listener_rebinds > 10, "{:?}", serving.status());
    assert_eq!(serving.status().failed_handshakes, 0);
    assert_eq!(dialling.status().refused_connects, 0);
    assert!(connects.load(Ordering::Relaxed) > 0);
}
