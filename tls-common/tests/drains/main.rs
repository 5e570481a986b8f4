//! What becomes of established connections under each policy, over each protocol, and what the audit log says of it.
//!
//! | | `keep` | `drain-untrusted` | `renew` | deadline | cut after the grace |
//! | --- | --- | --- | --- | --- | --- |
//! | plain stream | here; `connections` | here; `connections`, `revocation` (CRL, pins), `audit` | here; `connections`, `audit` | here; `audit` | `connections`, `audit` |
//! | HTTP/1.1 | here | here | here | here | as a stream |
//! | HTTP/2, gRPC server | here | here | here | here | as a stream |
//! | gRPC client | here | here | here | here | never: an idle one is left |
//! | QUIC | here; `quic` | here (also by a CRL); `quic` | here; `quic` | here | `quic` |
//!
//! The data plane and the blob protocol of a cluster are streams; integration-tests' `removed_peers` has them all at once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod removed;
#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::error::Error;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::log::Log;
use support::{Bundle, Pair, echo, eventually, quick, serves};
use tls_common::grpc::RotatingChannel;
use tls_common::{
    Connection, ConnectionPolicy, Endpoint, EstablishedConnections, HandshakeLimits, Listener, TlsContext, quic, serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

/// Ends a test that has failed, nothing else.
const PATIENCE: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adapter {
    Stream,
    Http1,
    Http2,
    Quic,
}

const ADAPTERS: [Adapter; 4] = [Adapter::Stream, Adapter::Http1, Adapter::Http2, Adapter::Quic];

impl Adapter {
    fn alpn(self) -> &'static [&'static str] {
        match self {
            Adapter::Http1 => &["http/1.1"],
            Adapter::Http2 => &["h2"],
            Adapter::Stream | Adapter::Quic => &["echo"],
        }
    }

    async fn serve(self, endpoint: &Endpoint) -> SocketAddr {
        let stop = CancellationToken::new();
        if self == Adapter::Quic {
            let acceptor = endpoint.quic_acceptor(self.alpn());
            let socket = acceptor.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = socket.local_addr().unwrap();
            tokio::spawn(quic::serve(socket, acceptor, stop, echo_streams));
            return address;
        }
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, acceptor) = (listener.local_addr(), endpoint.acceptor(self.alpn()));
        match self {
            Adapter::Stream => tokio::spawn(serve(listener, acceptor, stop, echo)),
            _ => tokio::spawn(tls_common::http::serve(listener, acceptor, stop, tower::service_fn(pong))),
        };
        address
    }

    /// A connection that has been answered.
    async fn connect(self, endpoint: &Endpoint, address: SocketAddr) -> Result<Talk> {
        if self == Adapter::Quic {
            let connector = endpoint.quic_connector(self.alpn()).unwrap();
            return Ok(Talk::Quic(connector.connect("127.0.0.1", address.port()).await?));
        }
        let connection = endpoint.connector(self.alpn()).connect("127.0.0.1", address.port()).await?;
        Ok(match self {
            Adapter::Http1 => {
                let (send, connection) = http1::handshake(TokioIo::new(connection)).await?;
                Talk::Http1(send, Driver(tokio::spawn(async { drop(connection.await) })))
            }
            Adapter::Http2 => {
                let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(connection)).await?;
                Talk::Http2(send, Driver(tokio::spawn(async { drop(connection.await) })))
            }
            Adapter::Stream | Adapter::Quic => Talk::Stream(connection),
        })
    }
}

/// The same by streams.
async fn echo_streams(connection: quic::Connection) {
    let info = connection.info().clone();
    loop {
        let (mut send, mut receive) = tokio::select! {
            Ok(streams) = connection.accept_bi() => streams,
            _ = info.draining() => return,
            else => return,
        };
        let Ok(bytes) = receive.read_to_end(64).await else { return };
        if send.write_all(&bytes).await.is_err() || send.finish().is_err() {
            return;
        }
    }
}

async fn pong(_request: http::Request<Incoming>) -> std::result::Result<http::Response<Full<Bytes>>, Infallible> {
    Ok(http::Response::new(Full::from("pong")))
}

/// The client's end of a connection.
enum Talk {
    Stream(Connection),
    Http1(http1::SendRequest<Empty<Bytes>>, Driver),
    Http2(http2::SendRequest<Empty<Bytes>>, Driver),
    Quic(quic::Connection),
}

/// Reads and writes an HTTP connection, until it ends.
struct Driver(JoinHandle<()>);

impl Talk {
    async fn ask(&mut self) -> Result<()> {
        match self {
            Talk::Stream(connection) => {
                connection.write_all(b"ping").await?;
                connection.flush().await?;
                connection.read_exact(&mut [0; 4]).await?;
            }
            Talk::Http1(send, _) => {
                send.ready().await?;
                let request = http::Request::get("/").header("host", "localhost").body(Empty::new())?;
                assert_eq!(send.send_request(request).await?.collect().await?.to_bytes(), "pong");
            }
            Talk::Http2(send, _) => {
                send.ready().await?;
                let request = http::Request::get("http://localhost/").body(Empty::new())?;
                assert_eq!(send.send_request(request).await?.collect().await?.to_bytes(), "pong");
            }
            Talk::Quic(connection) => {
                let (mut send, mut receive) = connection.open_bi().await?;
                send.write_all(b"ping").await?;
                send.finish()?;
                assert_eq!(receive.read_to_end(64).await?, b"ping");
            }
        }
        Ok(())
    }

    /// Waits for the server to end the connection.
    async fn ended(&mut self) {
        let ended = async {
            match self {
                Talk::Stream(connection) => drop(connection.read(&mut [0; 1]).await),
                Talk::Http1(_, Driver(driver)) | Talk::Http2(_, Driver(driver)) => driver.await.unwrap(),
                Talk::Quic(connection) => drop(connection.closed().await),
            }
        };
        timeout(PATIENCE, ended).await.expect("the connection ends");
    }
}

/// Nothing ends for want of time, unless a test sets a time.
fn endpoint(name: &str, tls: &TlsContext, policy: ConnectionPolicy) -> Endpoint {
    let limits = HandshakeLimits { timeout: PATIENCE, ..Default::default() };
    Endpoint::new(name, Some(tls.clone()), policy, limits)
}

fn policy(established: EstablishedConnections) -> ConnectionPolicy {
    ConnectionPolicy { established, drain_grace: Duration::from_secs(3600), max_age: None }
}

async fn client(pair: &Pair, trusted: &[&Pair]) -> (Bundle, Endpoint) {
    let all: Vec<&Pair> = trusted.iter().copied().chain([pair]).collect();
    let bundle = Bundle::new(pair, &all);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let endpoint = endpoint("dialling", &context, policy(EstablishedConnections::Keep));
    (bundle, endpoint)
}

/// Whom the records name, and why.
fn told(records: &[Value]) -> Vec<(Value, Value)> {
    records.iter().map(|record| (record["peer_fingerprint"].clone(), record["reason_code"].clone())).collect()
}

fn by(pair: &Pair, code: &str) -> (Value, Value) {
    (json!(pair.fingerprint()), json!(code))
}

#[tokio::test]
async fn every_policy_does_to_every_protocol_what_it_says_and_leaves_a_record_of_each_drain() {
    use EstablishedConnections::{DrainUntrusted, Keep, Renew};
    let [server, next, alice, mallory] = [(); 4].map(|()| Pair::new());
    for adapter in ADAPTERS {
        for established in [Keep, DrainUntrusted, Renew] {
            let log = Log::json();
            let bundle = Bundle::new(&server, &[&server, &alice, &mallory]);
            let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
            let serving = endpoint("serving", &context, policy(established));
            let address = adapter.serve(&serving).await;
            let (_files, alices) = client(&alice, &[&server, &next]).await;
            let (_files, mallorys) = client(&mallory, &[&server, &next]).await;
            let mut talks =
                [adapter.connect(&alices, address).await.unwrap(), adapter.connect(&mallorys, address).await.unwrap()];
            for talk in &mut talks {
                talk.ask().await.unwrap();
            }
            bundle.write_in_place(&next, &[&next, &server, &alice]);
            serves(&context, &next).await;

            let [of_alice, of_mallory] = &mut talks;
            let drained = match established {
                Keep => {
                    of_alice.ask().await.unwrap();
                    of_mallory.ask().await.unwrap();
                    assert_eq!(serving.status().connections_by_generation[&1], 2, "{adapter:?}");
                    log.audited("serving", "drain", 0).await
                }
                DrainUntrusted => {
                    of_mallory.ended().await;
                    of_alice.ask().await.unwrap();
                    log.audited("serving", "drain", 1).await
                }
                Renew => {
                    of_mallory.ended().await;
                    of_alice.ended().await;
                    log.audited("serving", "drain", 2).await
                }
            };
            let mut drained = told(&drained);
            drained.sort_by_key(|(fingerprint, _)| *fingerprint != json!(alice.fingerprint()));
            let expected = match established {
                Keep => vec![],
                DrainUntrusted => vec![by(&mallory, "untrusted")],
                // Whose time is over for another reason, too, may be told either.
                Renew => vec![by(&alice, "renewed"), (json!(mallory.fingerprint()), drained[1].1.clone())],
            };
            assert_eq!(drained, expected, "{adapter:?} {established:?}");
            let live = 2 - expected.len() as u64;
            eventually("they are off the list", || serving.status().connections == live).await;
            assert_eq!(serving.status().killed, 0, "{adapter:?} {established:?}");
            assert!(log.audited("serving", "cut", 0).await.is_empty());
        }
    }
}

#[tokio::test]
async fn every_protocol_leaves_a_connection_at_its_deadline() {
    let pair = Pair::new();
    for adapter in ADAPTERS {
        let log = Log::json();
        let bundle = Bundle::new(&pair, &[&pair]);
        let context = TlsContext::load(bundle.options(), None).await.unwrap();
        let aged = ConnectionPolicy {
            max_age: Some(Duration::from_millis(300)),
            ..policy(EstablishedConnections::DrainUntrusted)
        };
        let serving = endpoint("serving", &context, aged);
        let address = adapter.serve(&serving).await;
        let (_files, dialling) = client(&pair, &[]).await;
        let mut talk = adapter.connect(&dialling, address).await.unwrap();
        // On a slow machine it may be over by now.
        let _ = talk.ask().await;
        talk.ended().await;
        eventually("it is off the list", || serving.status().connections == 0).await;
        assert_eq!(told(&log.audited("serving", "drain", 1).await), [by(&pair, "max_age")], "{adapter:?}");
        assert_eq!(serving.status().killed, 0, "{adapter:?}");
    }
}

/// The calling side of gRPC.
async fn call(channel: &RotatingChannel) -> std::result::Result<String, tonic::Status> {
    let mut client = tonic::client::Grpc::new(channel.channel());
    client.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/test.Echo/Ask");
    let codec = ProstCodec::<(), String>::default();
    client.unary(tonic::Request::new(()), path, codec).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn an_idle_grpc_client_leaves_its_connection_as_soon_as_that_drains() {
    struct Answer;
    impl tonic::server::UnaryService<()> for Answer {
        type Response = String;
        type Future = std::future::Ready<std::result::Result<tonic::Response<String>, tonic::Status>>;
        fn call(&mut self, _request: tonic::Request<()>) -> Self::Future {
            ready(Ok(tonic::Response::new("here".to_owned())))
        }
    }
    let [server, client, next] = [(); 3].map(|()| Pair::new());
    let files = Bundle::new(&server, &[&server, &client, &next]);
    let context = TlsContext::load(files.options(), None).await.unwrap();
    let serving = endpoint("serving", &context, policy(EstablishedConnections::Keep));
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().port();
    let service = tower::service_fn(|request| async {
        Ok::<_, Infallible>(tonic::server::Grpc::new(ProstCodec::<String, ()>::default()).unary(Answer, request).await)
    });
    let stop = CancellationToken::new();
    tokio::spawn(tls_common::http::serve(listener, serving.acceptor(&["h2"]), stop, service));

    use EstablishedConnections::{DrainUntrusted, Keep, Renew};
    // What changes: our pair, or that we believe the server; or nothing but the time.
    for (established, trusted, reason) in [
        (Keep, vec![&next, &client], None),
        (DrainUntrusted, vec![&next, &client, &server], None),
        (DrainUntrusted, vec![&next, &client], Some("untrusted")),
        (Renew, vec![&next, &client, &server], Some("renewed")),
        (DrainUntrusted, vec![], Some("max_age")),
    ] {
        let log = Log::json();
        let files = Bundle::new(&client, &[&client, &server]);
        let context = TlsContext::load(files.options(), Some(quick())).await.unwrap();
        let mut policy = policy(established);
        policy.max_age = (reason == Some("max_age")).then_some(Duration::from_millis(300));
        let calling = endpoint("calling", &context, policy);
        let channel = RotatingChannel::new(calling.connector(&["h2"]), "127.0.0.1", port);
        assert_eq!(call(&channel).await.unwrap(), "here");
        if !trusted.is_empty() {
            files.write_in_place(&next, &trusted);
            serves(&context, &next).await;
        }
        match reason {
            Some(reason) => {
                // Nobody calls meanwhile.
                eventually("it is left", || calling.status().connections == 0).await;
                let records = log.audited("calling", "drain", 1).await;
                assert_eq!(told(&records), [by(&server, reason)]);
                assert_eq!((calling.status().killed, calling.status().handshakes), (0, 1));
                if reason == "renewed" {
                    assert_eq!(call(&channel).await.unwrap(), "here", "under the new pair");
                }
            }
            None => {
                assert_eq!(call(&channel).await.unwrap(), "here");
                assert_eq!(calling.status().handshakes, 1, "on the same connection");
                assert!(log.audited("calling", "drain", 0).await.is_empty());
            }
        }
    }
}
