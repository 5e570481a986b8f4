//! Handshakes: our acceptor and connector against plain tokio-rustls with the same identities, over loopback TCP.
//!
//! One thread does both ends, so a handshake per CPU second is a handshake per second of a core that nobody disturbs. Both
//! ends show a certificate that a trusted CA has signed. A handshake counts from `connect` to the server's first byte,
//! which the client reads (with TLS 1.3 the session tickets come before it).
//!
//! Plain rustls takes part twice: as it comes, and with our order of cipher suites, for ours begins with a cheaper one.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

mod support;

use rustls::crypto::CryptoProvider;
use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Instant;
use support::{ALPN, Figures, HOST, KeyKind, Pki, Settings, Side, cpu_seconds, plain};
use tls_common::{Acceptor, Connector, Endpoint, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Who shakes hands.
#[derive(Clone)]
enum Contestant {
    Plain(TlsAcceptor, TlsConnector),
    Ours(Acceptor, Connector),
}

const NAMES: [&str; 4] = ["plain tokio-rustls", "the same, our suites", "the same, our configs", "tls-common"];

struct Effort {
    rounds: usize,
    handshakes: usize,
}

fn main() {
    support::print_machine();
    let mut effort =
        if support::is_quick() { Effort { rounds: 1, handshakes: 3 } } else { Effort { rounds: 15, handshakes: 200 } };
    // More of them, for a profiler: `-- rounds=500`.
    if let Some(rounds) = support::chosen("rounds=") {
        effort.rounds = rounds.parse().unwrap();
    }
    println!("{} rounds of {} handshakes; median [least-greatest]", effort.rounds, effort.handshakes);
    println!(
        "| key, version, kind | who | handshakes/s | per CPU s | CPU s, plain = 1 | with our suites = 1 |\n\
         | --- | --- | --- | --- | --- | --- |"
    );
    // Which rows, for a profiler: `-- only=resumed`.
    let only = support::chosen("only=");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (key, kind) in [("P-256", KeyKind::P256), ("RSA-2048", KeyKind::Rsa2048)] {
        let pki = LazyCell::new(|| Pki::new(kind));
        for (tls, version) in [("TLS 1.3", ProtocolVersion::Tls13), ("TLS 1.2", ProtocolVersion::Tls12)] {
            for (peers, resume, strangers) in
                [("full", false, false), ("strangers", false, true), ("resumed", true, false)]
            {
                let row = format!("{key}, {tls}, {peers}");
                if only.as_ref().is_none_or(|only| row.contains(only.as_str())) {
                    let settings = Settings { version, resume, suites: Vec::new() };
                    runtime.block_on(compare(&row, &pki, &settings, strangers, &effort));
                }
            }
        }
    }
}

/// Between `strangers` each handshake is the first that either end sees of the other.
async fn compare(row: &str, pki: &Pki, settings: &Settings, strangers: bool, effort: &Effort) {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let mut rates = vec![Figures::default(); NAMES.len()];
    let mut costs = rates.clone();
    let acquainted = contestants(pki, settings).await;
    for contestant in &acquainted {
        contestant.shake_hands(&listener).await; // leaves a session
    }
    let mut sets = vec![acquainted];
    let other = contestant(pki, settings, Side::Other, Side::Other).await;
    // One contestant alone, for a profiler that cannot tell them apart: `-- who=tls-common`.
    let chosen = support::chosen("who=");
    for round in 0..effort.rounds {
        if strangers {
            sets.clear();
            for _ in 0..effort.handshakes {
                let contestants = contestants(pki, settings).await;
                // What a configuration costs its first connection is not what a stranger costs. Plain rustls keeps nothing
                // of a peer, so that it may warm up with the same.
                let [plain, suites, _, ours] = &contestants;
                plain.shake_hands(&listener).await;
                suites.shake_hands(&listener).await;
                ours.warm_up(&other, &listener).await;
                sets.push(contestants);
            }
        }
        for turn in 0..NAMES.len() {
            let who = (round + turn) % NAMES.len();
            if chosen.as_ref().is_some_and(|chosen| chosen != NAMES[who]) {
                continue;
            }
            let (started, cpu) = (Instant::now(), cpu_seconds());
            for contestants in sets.iter().cycle().take(effort.handshakes) {
                assert_eq!(contestants[who].shake_hands(&listener).await, settings.resume, "{}", NAMES[who]);
            }
            let handshakes = effort.handshakes as f64;
            rates[who].0.push(handshakes / started.elapsed().as_secs_f64());
            costs[who].0.push((cpu_seconds() - cpu) / handshakes);
        }
    }
    for (who, name) in NAMES.iter().enumerate().filter(|_| chosen.is_none()) {
        let per_cpu = Figures(costs[who].0.iter().map(|cost| 1.0 / cost).collect());
        let [plain, suites] = [0, 1].map(|other| costs[who].over(&costs[other]).show(3));
        println!("| {row} | {name} | {} | {} | {plain} | {suites} |", rates[who].show(0), per_cpu.show(0));
    }
}

async fn contestants(pki: &Pki, settings: &Settings) -> [Contestant; 4] {
    let (server, client) = plain::configs(pki, settings);
    let stock = Contestant::Plain(server.into(), client.into());
    let sides = [Side::Server, Side::Client];
    let [by_server, by_client] = sides.map(async |side| pki.context(side, settings).await.current());
    let mut server = rustls::ServerConfig::clone(by_server.await.server_config().unwrap());
    let mut client = rustls::ClientConfig::clone(by_client.await.client_config());
    let (by_plain_server, by_plain_client) =
        plain::configs_by(CryptoProvider::clone(client.crypto_provider()), pki, settings);
    let suites = Contestant::Plain(by_plain_server.into(), by_plain_client.into());
    for alpn in [&mut server.alpn_protocols, &mut client.alpn_protocols] {
        *alpn = vec![ALPN.into()];
    }
    let configs = Contestant::Plain(Arc::new(server).into(), Arc::new(client).into());
    [stock, suites, configs, contestant(pki, settings, Side::Server, Side::Client).await]
}

async fn contestant(pki: &Pki, settings: &Settings, accepting: Side, connecting: Side) -> Contestant {
    let [at_server, at_client] = [accepting, connecting].map(async |side| {
        Endpoint::new("bench", Some(pki.context(side, settings).await), Default::default(), Default::default())
    });
    Contestant::Ours(at_server.await.acceptor(&[ALPN]), at_client.await.connector(&[ALPN]))
}

impl Contestant {
    /// Each of its ends shakes hands with `other`.
    async fn warm_up(&self, other: &Self, listener: &TcpListener) {
        if let (Self::Ours(acceptor, connector), Self::Ours(other_acceptor, other_connector)) = (self, other) {
            Self::Ours(acceptor.clone(), other_connector.clone()).shake_hands(listener).await;
            Self::Ours(other_acceptor.clone(), connector.clone()).shake_hands(listener).await;
        }
    }

    /// Whether it resumed a session.
    async fn shake_hands(&self, listener: &TcpListener) -> bool {
        let port = listener.local_addr().unwrap().port();
        match self {
            Self::Plain(acceptor, connector) => {
                let accept = async {
                    let (tcp, _) = listener.accept().await.unwrap();
                    tcp.set_nodelay(true).unwrap();
                    greet(acceptor.accept(tcp).await.unwrap()).await
                };
                let connect = async {
                    let tcp = TcpStream::connect((HOST, port)).await.unwrap();
                    tcp.set_nodelay(true).unwrap();
                    greeted(connector.connect(plain::name(), tcp).await.unwrap()).await
                };
                let (_server, client) = tokio::join!(accept, connect);
                client.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
            }
            Self::Ours(acceptor, connector) => {
                let accept = async {
                    let (tcp, peer) = listener.accept().await.unwrap();
                    greet(acceptor.accept(tcp, peer).await.unwrap()).await
                };
                let connect = async { greeted(connector.connect(HOST, port).await.unwrap()).await };
                let (_server, client) = tokio::join!(accept, connect);
                client.is_resumed()
            }
        }
    }
}

async fn greet<S: AsyncWrite + Unpin>(mut stream: S) -> S {
    stream.write_all(b"!").await.unwrap();
    stream.flush().await.unwrap();
    stream
}

async fn greeted<S: AsyncRead + Unpin>(mut stream: S) -> S {
    assert_eq!(stream.read_u8().await.unwrap(), b'!');
    stream
}
