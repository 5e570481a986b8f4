//! The built examples, as processes: once their files are replaced they serve the new certificate, and connections from
//! before still work. Nothing waits for a process to end: what they print and what they answer are the events.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use support::{Bundle, PASSWORD, Pair};
use tls_common::grpc::RotatingChannel;
use tls_common::{Connection, ConnectionPolicy, Endpoint, HandshakeLimits, PeerIdentity, TlsContext};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tonic_prost::ProstCodec;

/// Ends a test that has failed, nothing else.
const PATIENCE: Duration = Duration::from_secs(120);

/// An example at work; killed when it is dropped.
struct Example {
    name: &'static str,
    port: u16,
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Example {
    async fn start(name: &'static str, bundle: &Bundle) -> Self {
        let mut process = Command::new(built(name))
            .args([bundle.keystore(), bundle.truststore()])
            .args([PASSWORD, "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut example = Self { name, port: 0, lines, _process: process };
        let listening = example.says("listening on 127.0.0.1:").await;
        example.port = listening.parse().unwrap();
        example
    }

    /// The rest of the first line from here on that begins so.
    async fn says(&mut self, beginning: &str) -> String {
        let mut seen = Vec::new();
        let found = timeout(PATIENCE, async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Some(rest.to_owned());
                }
                seen.push(line);
            }
            None
        });
        let found = found.await.ok().flatten();
        found.unwrap_or_else(|| panic!("{} never said {beginning:?} but {seen:#?}", self.name))
    }
}

/// `cargo test` builds the examples beside the tests.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let example = profile.join("examples").join(name);
    assert!(
        example.is_file(),
        "{} is not built: run `cargo build --examples` first, or `cargo test` without selecting targets",
        example.display()
    );
    example
}

/// What the examples read, a client that they trust, and what comes next.
struct Setting {
    old: Pair,
    new: Pair,
    alice: Pair,
    bundle: Bundle,
    client: Endpoint,
    _client_bundle: Bundle,
}

impl Setting {
    async fn new() -> Self {
        let [old, new] = [Pair::for_names(&["127.0.0.1"]), Pair::for_names(&["127.0.0.1"])];
        let alice = Pair::new();
        let bundle = Bundle::new(&old, &[&old, &new, &alice]);
        let client_bundle = Bundle::new(&alice, &[&alice, &old, &new]);
        let mut options = client_bundle.options();
        options.verify_hostname = true;
        // A resumed session would not show the server's certificate again.
        options.session_cache_size = 0;
        let context = TlsContext::load(options, None).await.unwrap();
        let limits = HandshakeLimits { timeout: PATIENCE, ..Default::default() };
        let client = Endpoint::new("client", Some(context), ConnectionPolicy::default(), limits);
        Self { old, new, alice, bundle, client, _client_bundle: client_bundle }
    }

    async fn rotate(&self, example: &mut Example) {
        self.bundle.write_in_place(&self.new, &[&self.old, &self.new, &self.alice]);
        example.says(&format!("serving {}", self.new.fingerprint())).await;
    }

    async fn connect(&self, example: &Example, alpn: &str) -> Connection {
        self.client.connector(&[alpn]).connect("127.0.0.1", example.port).await.unwrap()
    }
}

fn shown(peer: Option<&PeerIdentity>) -> String {
    peer.and_then(PeerIdentity::fingerprint).unwrap()
}

#[tokio::test]
async fn the_axum_example_serves_the_new_certificate_while_an_old_connection_goes_on() {
    let setting = Setting::new().await;
    let mut example = Example::start("hot_reload_axum", &setting.bundle).await;
    let connection = setting.connect(&example, "http/1.1").await;
    assert_eq!(shown(connection.info().peer()), setting.old.fingerprint());
    let (mut requests, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.unwrap();
    tokio::spawn(driver);
    for rotated in [false, true] {
        if rotated {
            setting.rotate(&mut example).await;
        }
        requests.ready().await.unwrap();
        let request = http::Request::get("/").header("host", "localhost").body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = requests.send_request(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, setting.alice.fingerprint());
    }
    let fresh = setting.connect(&example, "h2").await;
    assert_eq!(shown(fresh.info().peer()), setting.new.fingerprint());
}

#[tokio::test]
async fn the_plain_stream_example_serves_the_new_certificate_while_an_old_connection_goes_on() {
    let setting = Setting::new().await;
    let mut example = Example::start("hot_reload_tokio_rustls", &setting.bundle).await;
    let mut connection = setting.connect(&example, "echo").await;
    assert_eq!(shown(connection.info().peer()), setting.old.fingerprint());
    for rotated in [false, true] {
        if rotated {
            setting.rotate(&mut example).await;
        }
        connection.write_all(b"ping").await.unwrap();
        connection.flush().await.unwrap();
        let mut answer = [0; 4];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    }
    let fresh = setting.connect(&example, "echo").await;
    assert_eq!(shown(fresh.info().peer()), setting.new.fingerprint());
}

#[tokio::test]
async fn the_quic_example_serves_the_new_certificate_while_an_old_connection_goes_on() {
    let setting = Setting::new().await;
    let mut example = Example::start("hot_reload_quic", &setting.bundle).await;
    let connector = setting.client.quic_connector(&["echo"]).unwrap();
    let connection = connector.connect("127.0.0.1", example.port).await.unwrap();
    assert_eq!(shown(connection.info().peer()), setting.old.fingerprint());
    for rotated in [false, true] {
        if rotated {
            setting.rotate(&mut example).await;
        }
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(b"ping").await.unwrap();
        send.finish().unwrap();
        assert_eq!(receive.read_to_end(64).await.unwrap(), b"ping");
    }
    let fresh = connector.connect("127.0.0.1", example.port).await.unwrap();
    assert_eq!(shown(fresh.info().peer()), setting.new.fingerprint());
}

#[tokio::test]
async fn the_tonic_example_serves_and_calls_with_the_new_certificate_while_an_old_connection_goes_on() {
    let setting = Setting::new().await;
    let mut example = Example::start("hot_reload_tonic", &setting.bundle).await;
    let channel = RotatingChannel::new(setting.client.connector(&["h2"]), "127.0.0.1", example.port);
    assert_eq!(example.says("called as ").await, setting.old.fingerprint());
    for rotated in [false, true] {
        if rotated {
            setting.bundle.write_in_place(&setting.new, &[&setting.old, &setting.new, &setting.alice]);
            // It calls itself: the caller's new certificate comes over a connection that shows the server's.
            example.says(&format!("called as {}", setting.new.fingerprint())).await;
        }
        let mut client = tonic::client::Grpc::new(channel.channel());
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/example.WhoAmI/Ask");
        let answer = client.unary(tonic::Request::new(()), path, ProstCodec::<(), String>::default()).await.unwrap();
        assert_eq!(answer.into_inner(), setting.alice.fingerprint());
    }
    assert_eq!(setting.client.status().handshakes, 1, "both calls went over the same connection");
    let fresh = setting.connect(&example, "h2").await;
    assert_eq!(shown(fresh.info().peer()), setting.new.fingerprint());
}
