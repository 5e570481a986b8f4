//! Handshakes: our acceptor and connector against plain tokio-rustls with the same identities, over loopback TCP.
//!
//! One thread does both ends, so a handshake per CPU second is a handshake per second of a core that nobody disturbs. Both
//! ends show a certificate that a trusted CA has signed. A handshake counts from `connect` to the server's first byte,
//! which the client reads (with TLS 1.3 the session tickets come before it).
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

mod support;

use std::sync::Arc;
use std::time::Instant;
use support::{ALPN, Figures, HOST, KeyKind, Pki, Settings, cpu_seconds, plain};
use tls_common::{Acceptor, Connector, Endpoint, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Who shakes hands.
enum Contestant {
    Plain(TlsAcceptor, TlsConnector),
    Ours(Acceptor, Connector),
}

const NAMES: [&str; 3] = ["plain tokio-rustls", "the same, our configs", "tls-common"];

struct Effort {
    rounds: usize,
    handshakes: usize,
}

fn main() {
    support::print_machine();
    let effort =
        if support::is_quick() { Effort { rounds: 1, handshakes: 3 } } else { Effort { rounds: 15, handshakes: 200 } };
    println!("{} rounds of {} handshakes; median [least-greatest]", effort.rounds, effort.handshakes);
    println!(
        "| key, version, kind | who | handshakes/s | per CPU s | CPU s, plain = 1 |\n| --- | --- | --- | --- | --- |"
    );
    // Which rows, for a profiler: `-- only=resumed`.
    let only = std::env::args().find_map(|argument| argument.strip_prefix("only=").map(str::to_owned));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (key, kind) in [("P-256", KeyKind::P256), ("RSA-2048", KeyKind::Rsa2048)] {
        let pki = Pki::new(kind);
        for (tls, version) in [("TLS 1.3", ProtocolVersion::Tls13), ("TLS 1.2", ProtocolVersion::Tls12)] {
            for (full, resume) in [("full", false), ("resumed", true)] {
                let row = format!("{key}, {tls}, {full}");
                if only.as_ref().is_none_or(|only| row.contains(only.as_str())) {
                    runtime.block_on(compare(&row, &pki, &Settings { version, resume, suites: Vec::new() }, &effort));
                }
            }
        }
    }
}

async fn compare(row: &str, pki: &Pki, settings: &Settings, effort: &Effort) {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let contestants = contestants(pki, settings).await;
    let mut rates = vec![Figures::default(); contestants.len()];
    let mut costs = rates.clone();
    for contestant in &contestants {
        contestant.shake_hands(&listener).await; // leaves a session
    }
    for round in 0..effort.rounds {
        for turn in 0..contestants.len() {
            let who = (round + turn) % contestants.len();
            let (started, cpu) = (Instant::now(), cpu_seconds());
            for _ in 0..effort.handshakes {
                assert_eq!(contestants[who].shake_hands(&listener).await, settings.resume, "{}", NAMES[who]);
            }
            let handshakes = effort.handshakes as f64;
            rates[who].0.push(handshakes / started.elapsed().as_secs_f64());
            costs[who].0.push((cpu_seconds() - cpu) / handshakes);
        }
    }
    for (who, name) in NAMES.iter().enumerate() {
        let per_cpu = Figures(costs[who].0.iter().map(|cost| 1.0 / cost).collect());
        let against = costs[who].over(&costs[0]);
        println!("| {row} | {name} | {} | {} | {} |", rates[who].show(0), per_cpu.show(0), against.show(3));
    }
}

async fn contestants(pki: &Pki, settings: &Settings) -> [Contestant; 3] {
    let (server, client) = plain::configs(pki, settings);
    let stock = Contestant::Plain(server.into(), client.into());
    let generation = pki.context(settings).await.current();
    let mut server = rustls::ServerConfig::clone(generation.server_config().unwrap());
    let mut client = rustls::ClientConfig::clone(generation.client_config());
    for alpn in [&mut server.alpn_protocols, &mut client.alpn_protocols] {
        *alpn = vec![ALPN.into()];
    }
    let configs = Contestant::Plain(Arc::new(server).into(), Arc::new(client).into());
    let endpoint = Endpoint::new("bench", Some(pki.context(settings).await), Default::default(), Default::default());
    [stock, configs, Contestant::Ours(endpoint.acceptor(&[ALPN]), endpoint.connector(&[ALPN]))]
}

impl Contestant {
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
                    let (tcp, _) = listener.accept().await.unwrap();
                    greet(acceptor.accept(tcp).await.unwrap()).await
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
