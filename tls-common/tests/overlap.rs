//! Two hosts with one shared secret whose files change at different instants, over real sockets: within the overlap no
//! handshake fails, whoever is first, over TLS 1.2, TLS 1.3 and QUIC.
//!
//! The virtual clock, CAs, pins and what must be refused are in `src/generation/tests/overlap.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;
use support::{Bundle, Pair, quick, serves};
use tls_common::{
    Connection, ConnectionPolicy, Endpoint, EstablishedConnections, HandshakeLimits, Listener, ProtocolVersion,
    TlsContext, quic, serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

const ALPN: &[&str] = &["echo"];

/// Ends a test that has failed, nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

/// No test lasts as long.
const OVERLAP: Duration = Duration::from_secs(3600);

/// What the hosts speak with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Tcp(ProtocolVersion),
    Quic,
}

const TRANSPORTS: [Transport; 3] =
    [Transport::Tcp(ProtocolVersion::Tls12), Transport::Tcp(ProtocolVersion::Tls13), Transport::Quic];

/// One that serves and dials with the same files, as every host of a cluster does.
struct Host {
    files: Bundle,
    context: TlsContext,
    endpoint: Endpoint,
    address: SocketAddr,
    connector: Option<quic::Connector>,
}

impl Host {
    /// `pair` is everything in its files: who it is and whom it believes.
    async fn start(transport: Transport, pair: &Pair, overlap: Duration) -> Self {
        let files = Bundle::new(pair, &[pair]);
        let mut options = files.options();
        options.overlap = overlap;
        // Every handshake is a full one: a resumed one would show nothing.
        options.session_cache_size = 0;
        if let Transport::Tcp(version) = transport {
            options.protocols = vec![version];
        }
        let context = TlsContext::load(options, Some(quick())).await.unwrap();
        // Established connections are not the point here.
        let policy = ConnectionPolicy { established: EstablishedConnections::Keep, ..Default::default() };
        let limits = HandshakeLimits { timeout: PATIENCE, ..Default::default() };
        let endpoint = Endpoint::new("host", Some(context.clone()), policy, limits);
        let (stop, loopback) = (CancellationToken::new(), "127.0.0.1:0".parse().unwrap());
        let (address, connector) = if transport == Transport::Quic {
            let acceptor = endpoint.quic_acceptor(ALPN);
            let socket = acceptor.bind(loopback).unwrap();
            let address = socket.local_addr().unwrap();
            tokio::spawn(quic::serve(socket, acceptor, stop, echo_stream));
            (address, Some(endpoint.quic_connector(ALPN).unwrap()))
        } else {
            let listener = Listener::bind(loopback).await.unwrap();
            let address = listener.local_addr();
            tokio::spawn(serve(listener, endpoint.acceptor(ALPN), stop, echo));
            (address, None)
        };
        Self { files, context, endpoint, address, connector }
    }

    /// Its files change, and it has followed.
    async fn rotate(&self, pair: &Pair) {
        self.files.write_in_place(pair, &[pair]);
        serves(&self.context, pair).await;
    }

    /// Calls and is answered: with TLS 1.3 only that shows that the other has accepted us. Returns what it showed.
    async fn call(&self, other: &Host) -> Result<Option<String>, Box<dyn std::error::Error>> {
        let port = other.address.port();
        match &self.connector {
            Some(connector) => {
                let connection = connector.connect("127.0.0.1", port).await?;
                let (mut send, mut receive) = connection.open_bi().await?;
                send.write_all(b"ping").await?;
                send.finish()?;
                assert_eq!(receive.read_to_end(64).await?, b"ping");
                Ok(connection.info().peer().and_then(|peer| peer.fingerprint()))
            }
            None => {
                let mut connection = self.endpoint.connector(ALPN).connect("127.0.0.1", port).await?;
                connection.write_all(b"ping").await?;
                connection.flush().await?;
                connection.read_exact(&mut [0; 4]).await?;
                assert_eq!(connection.info().alpn(), Some(b"echo".as_slice()), "the hint is no protocol");
                Ok(connection.info().peer().and_then(|peer| peer.fingerprint()))
            }
        }
    }
}

async fn echo(mut connection: Connection) {
    let mut bytes = [0; 4];
    while connection.read_exact(&mut bytes).await.is_ok() {
        if connection.write_all(&bytes).await.is_err() || connection.flush().await.is_err() {
            return;
        }
    }
}

async fn echo_stream(connection: quic::Connection) {
    while let Ok((mut send, mut receive)) = connection.accept_bi().await {
        let Ok(bytes) = receive.read_to_end(64).await else { return };
        if send.write_all(&bytes).await.is_err() || send.finish().is_err() {
            return;
        }
    }
}

/// Everybody calls everybody, itself included.
async fn all_connect(hosts: &[Host], what: &str) {
    for (from, caller) in hosts.iter().enumerate() {
        for (to, called) in hosts.iter().enumerate() {
            let called = caller.call(called).await;
            called.unwrap_or_else(|error| panic!("{what}: {from} -> {to}: {error}"));
        }
    }
}

/// Which host follows next, two rotations each, in every order.
const ORDERS: [[usize; 4]; 6] = [[0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]];

#[tokio::test]
async fn two_hosts_that_rotate_in_any_order_within_the_overlap_never_fail_a_handshake() {
    for transport in TRANSPORTS {
        for order in ORDERS {
            let pairs = [(); 3].map(|()| Pair::new());
            let hosts =
                [Host::start(transport, &pairs[0], OVERLAP).await, Host::start(transport, &pairs[0], OVERLAP).await];
            let what = format!("{transport:?} {order:?}");
            all_connect(&hosts, &what).await;
            let mut step = [0, 0];
            for host in order {
                step[host] += 1;
                hosts[host].rotate(&pairs[step[host]]).await;
                all_connect(&hosts, &format!("{what} at {step:?}")).await;
            }
            for host in &hosts {
                let status = host.endpoint.status();
                assert_eq!((status.failed_handshakes, status.refused_connects), (0, 0), "{what}: {status:?}");
            }
            // Who has followed shows the new one to whom has followed, too.
            assert_eq!(hosts[0].call(&hosts[1]).await.unwrap(), Some(pairs[2].fingerprint()), "{what}");
        }
    }
}

#[tokio::test]
async fn without_overlap_a_rotated_host_and_another_refuse_each_other() {
    for transport in TRANSPORTS {
        let pairs = [(); 2].map(|()| Pair::new());
        let hosts = [
            Host::start(transport, &pairs[0], Duration::ZERO).await,
            Host::start(transport, &pairs[0], Duration::ZERO).await,
        ];
        all_connect(&hosts, "before").await;
        hosts[0].rotate(&pairs[1]).await;
        for (caller, called) in [(&hosts[0], &hosts[1]), (&hosts[1], &hosts[0])] {
            assert!(caller.call(called).await.is_err(), "{transport:?}");
            assert!(caller.call(caller).await.is_ok(), "{transport:?}");
        }
    }
}

#[tokio::test]
async fn calls_without_a_pause_while_both_hosts_rotate_never_fail() {
    for transport in TRANSPORTS {
        let pairs = [(); 4].map(|()| Pair::new());
        let hosts =
            [Host::start(transport, &pairs[0], OVERLAP).await, Host::start(transport, &pairs[0], OVERLAP).await];
        let over = CancellationToken::new();
        let calls = async {
            while !over.is_cancelled() {
                all_connect(&hosts, &format!("{transport:?}")).await;
            }
        };
        let rotations = async {
            for pair in &pairs[1..] {
                hosts[0].rotate(pair).await;
                hosts[1].rotate(pair).await;
            }
            over.cancel();
        };
        tokio::join!(calls, rotations);
        for host in &hosts {
            assert_eq!(host.endpoint.status().failed_handshakes, 0, "{transport:?}");
        }
    }
}
