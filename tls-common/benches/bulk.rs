//! Bulk data: our connection, tuned for it, against plain tokio-rustls as it comes and tuned as well as we know how.
//!
//! One connection, TLS 1.3 with AES-128-GCM, writes of 256 KiB, sender and receiver each with a thread and a runtime of its
//! own. The handshake is not measured. CPU seconds are the steadier figure on a shared machine.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

mod support;

use std::future::Future;
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use support::{ALPN, Figures, HOST, KeyKind, Pki, Settings, Side, cpu_seconds, plain};
use tls_common::{Endpoint, ProtocolVersion, StreamTuning, TlsContext};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const WRITE_BYTES: usize = 256 * 1024;
const GIB: f64 = (1u64 << 30) as f64;

const NAMES: [&str; 3] = ["plain, as it comes", "plain, tuned", "tls-common, BULK"];

/// What one transfer came to.
struct Transfer {
    gib_per_s: f64,
    /// CPU seconds per GiB at each end.
    sender: f64,
    receiver: f64,
}

type Sender = Pin<Box<dyn AsyncWrite>>;
type Receiver = (Pin<Box<dyn AsyncBufRead>>, Reading);

/// How the receiver takes its bytes.
#[derive(Clone, Copy)]
enum Reading {
    /// `read` into a buffer of its own.
    Copied,
    /// Where they lie.
    InPlace,
}

fn main() {
    support::print_machine();
    let (rounds, span) =
        if support::is_quick() { (1, Duration::from_millis(20)) } else { (25, Duration::from_millis(400)) };
    println!("{rounds} rounds of {span:?}; median [least-greatest]; ratios against the better of the two plain ones");
    let setup = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pki = Pki::new(KeyKind::P256);
    let suites = vec!["TLS_AES_128_GCM_SHA256".to_owned()];
    let settings = Settings { version: ProtocolVersion::Tls13, resume: false, suites };
    let [by_server, by_client] = [Side::Server, Side::Client].map(|side| setup.block_on(pki.context(side, &settings)));
    let (server, client) = plain::configs(&pki, &settings);

    let mut transfers: Vec<Vec<Transfer>> = NAMES.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds + 1 {
        for turn in 0..NAMES.len() {
            let who = (round + turn) % NAMES.len();
            let (acceptor, connector) = (TlsAcceptor::from(server.clone()), TlsConnector::from(client.clone()));
            let (accepting, connecting) = (by_server.clone(), by_client.clone());
            let transfer = match who {
                0 => transfer(span, |port| untuned_connect(connector, port), |tcp| untuned_accept(acceptor, tcp)),
                1 => transfer(span, |port| tuned_connect(connector, port), |tcp| tuned_accept(acceptor, tcp)),
                _ => transfer(span, |port| our_connect(connecting, port), |tcp| our_accept(accepting, tcp)),
            };
            if round > 0 {
                transfers[who].push(transfer); // the first round warms up
            }
        }
    }
    report(&transfers);
}

fn report(transfers: &[Vec<Transfer>]) {
    let figures = |what: fn(&Transfer) -> f64| -> Vec<Figures> {
        transfers.iter().map(|runs| Figures(runs.iter().map(what).collect())).collect()
    };
    let (speeds, costs) = (figures(|run| run.gib_per_s), figures(|run| run.sender + run.receiver));
    let (senders, receivers) = (figures(|run| run.sender), figures(|run| run.receiver));
    let fastest = if speeds[0].median() > speeds[1].median() { 0 } else { 1 };
    let cheapest = if costs[0].median() < costs[1].median() { 0 } else { 1 };
    println!(
        "| who | GiB/s | ratio | CPU s/GiB sender | receiver | both, ratio |\n| --- | --- | --- | --- | --- | --- |"
    );
    for (who, name) in NAMES.iter().enumerate() {
        println!(
            "| {name} | {} | {} | {} | {} | {} |",
            speeds[who].show(2),
            speeds[who].over(&speeds[fastest]).show(2),
            senders[who].show(3),
            receivers[who].show(3),
            costs[who].over(&costs[cheapest]).show(2),
        );
    }
}

/// Sends for `span` from one thread to another.
fn transfer<C, A>(
    span: Duration,
    connect: impl FnOnce(u16) -> C + Send,
    accept: impl FnOnce(TcpStream) -> A + Send,
) -> Transfer
where
    C: Future<Output = Sender>,
    A: Future<Output = Receiver>,
{
    let listener = TcpListener::bind((HOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let ready = Barrier::new(2);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sent, received) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            runtime().block_on(async {
                let mut stream = connect(port).await;
                let block = vec![0x5a; WRITE_BYTES];
                ready.wait();
                let (started, cpu) = (Instant::now(), cpu_seconds());
                while started.elapsed() < span {
                    stream.write_all(&block).await.unwrap();
                }
                stream.shutdown().await.unwrap();
                (started, cpu_seconds() - cpu)
            })
        });
        let receiver = scope.spawn(|| {
            runtime().block_on(async {
                let (tcp, _) = listener.accept().unwrap();
                let (mut stream, reading) = accept(tcp).await;
                ready.wait();
                let cpu = cpu_seconds();
                let bytes = drain(&mut stream, reading).await;
                (bytes as f64 / GIB, Instant::now(), cpu_seconds() - cpu)
            })
        });
        (sender.join().unwrap(), receiver.join().unwrap())
    });
    let ((started, sender), (gib, ended, receiver)) = (sent, received);
    Transfer { gib_per_s: gib / (ended - started).as_secs_f64(), sender: sender / gib, receiver: receiver / gib }
}

async fn drain(stream: &mut Pin<Box<dyn AsyncBufRead>>, reading: Reading) -> usize {
    let mut buffer = vec![0; WRITE_BYTES];
    let mut total = 0;
    loop {
        let count = match reading {
            Reading::Copied => stream.read(&mut buffer).await.unwrap(),
            Reading::InPlace => {
                let count = stream.fill_buf().await.unwrap().len();
                stream.consume(count);
                count
            }
        };
        if count == 0 {
            return total;
        }
        total += count;
    }
}

async fn dial(port: u16) -> tokio::net::TcpStream {
    let tcp = tokio::net::TcpStream::connect((HOST, port)).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp
}

fn into_tokio(tcp: TcpStream) -> tokio::net::TcpStream {
    tcp.set_nonblocking(true).unwrap();
    tcp.set_nodelay(true).unwrap();
    tokio::net::TcpStream::from_std(tcp).unwrap()
}

async fn untuned_connect(connector: TlsConnector, port: u16) -> Sender {
    Box::pin(connector.connect(plain::name(), dial(port).await).await.unwrap())
}

async fn untuned_accept(acceptor: TlsAcceptor, tcp: TcpStream) -> Receiver {
    (Box::pin(acceptor.accept(into_tokio(tcp)).await.unwrap()), Reading::Copied)
}

async fn tuned_connect(connector: TlsConnector, port: u16) -> Sender {
    let tcp = BufReader::with_capacity(StreamTuning::BULK.read_buffer, dial(port).await);
    let limit = Some(StreamTuning::BULK.write_buffer);
    Box::pin(connector.connect_with(plain::name(), tcp, |session| session.set_buffer_limit(limit)).await.unwrap())
}

async fn tuned_accept(acceptor: TlsAcceptor, tcp: TcpStream) -> Receiver {
    let tcp = BufReader::with_capacity(StreamTuning::BULK.read_buffer, into_tokio(tcp));
    let limit = Some(StreamTuning::BULK.write_buffer);
    let stream = acceptor.accept_with(tcp, |session| session.set_buffer_limit(limit)).await.unwrap();
    (Box::pin(stream), Reading::InPlace)
}

async fn our_connect(tls: TlsContext, port: u16) -> Sender {
    let endpoint = Endpoint::new("bench", Some(tls), Default::default(), Default::default());
    Box::pin(endpoint.connector(&[ALPN]).tuned(StreamTuning::BULK).connect(HOST, port).await.unwrap())
}

async fn our_accept(tls: TlsContext, tcp: TcpStream) -> Receiver {
    let endpoint = Endpoint::new("bench", Some(tls), Default::default(), Default::default());
    let acceptor = endpoint.acceptor(&[ALPN]).tuned(StreamTuning::BULK);
    let peer = tcp.peer_addr().unwrap();
    (Box::pin(acceptor.accept(into_tokio(tcp), peer).await.unwrap()), Reading::InPlace)
}
