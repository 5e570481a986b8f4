//! Client and server with mutual TLS: who may come in, and what a change of certificates costs (nothing).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use blob_server::{
    BlobClient, BlobError,
    server::{self, SilenceLimits},
    store::{Store, digest},
};
use bytes::Bytes;
use proto::blob::{ALPN, Greeting, Request, Response};
use tempfile::TempDir;
use tls_common::{
    BundleOptions, ClientAuth, Connection, ConnectionPolicy, Endpoint, EstablishedConnections, HandshakeLimits,
    Listener, Password, ProtocolVersion, ReloadOptions, StoreOptions, TlsContext,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// How often the certificates change under load.
const ROTATIONS: u64 = 10;

/// Ends a test that would hang.
const GIVE_UP: Duration = Duration::from_secs(60);

/// A certificate and its key, as PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new([]).unwrap().self_signed(&key).unwrap();
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// The files of a cluster: one pair that every member has, and the certificates its members believe.
struct Files(TempDir);

impl Files {
    fn new(pair: &Pair) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.identify_as(pair);
        files.trust(&[pair]);
        files
    }

    fn identify_as(&self, pair: &Pair) {
        self.replace("key.pem", &format!("{}{}", pair.certificate, pair.key));
    }

    fn trust(&self, pairs: &[&Pair]) {
        self.replace("trust.pem", &pairs.iter().map(|pair| pair.certificate.as_str()).collect::<String>());
    }

    fn replace(&self, name: &str, pem: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, pem).unwrap();
        fs::rename(new, self.0.path().join(name)).unwrap();
    }

    fn options(&self) -> BundleOptions {
        let store = |name| Some(StoreOptions::new(self.0.path().join(name), Password::None));
        BundleOptions {
            keystore: store("key.pem"),
            truststore: store("trust.pem"),
            client_auth: ClientAuth::Required,
            verify_hostname: false,
            ..BundleOptions::new("internal")
        }
    }

    /// What one process of the cluster makes of them.
    async fn context(&self) -> TlsContext {
        let reload = ReloadOptions {
            quiet_period: Duration::from_millis(5),
            max_delay: Duration::from_millis(50),
            poll_interval: Duration::from_secs(1),
        };
        TlsContext::load(self.options(), Some(reload)).await.unwrap()
    }
}

fn endpoint(context: TlsContext) -> Endpoint {
    let policy = ConnectionPolicy { established: EstablishedConnections::Renew, ..ConnectionPolicy::default() };
    Endpoint::new("blob", Some(context), policy, HandshakeLimits::default())
}

/// A client whose every failure is seen: it tries once.
fn client(endpoint: &Endpoint, address: SocketAddr) -> BlobClient {
    let connector = endpoint.connector(&[ALPN]);
    BlobClient::new(connector, address.ip().to_string(), address.port()).with_patience(Duration::ZERO)
}

struct Server {
    endpoint: Endpoint,
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    _directory: TempDir,
}

impl Server {
    async fn start(context: TlsContext) -> Self {
        Self::at(endpoint(context)).await
    }

    async fn at(endpoint: Endpoint) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let listener = Listener::bind_rebinding(LOOPBACK).await.unwrap();
        let address = listener.local_addr();
        let shutdown = CancellationToken::new();
        let task =
            tokio::spawn(server::serve(listener, endpoint.clone(), store, SilenceLimits::default(), shutdown.clone()));
        Self { endpoint, address, shutdown, task, _directory: directory }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

/// An upload that takes its time: the first half now, the second when told.
struct SlowUpload(Connection, Bytes);

impl SlowUpload {
    async fn begin(endpoint: &Endpoint, address: SocketAddr, data: Bytes) -> Self {
        let connector = endpoint.connector(&[ALPN]);
        let mut connection = connector.connect(&address.ip().to_string(), address.port()).await.unwrap();
        let mut greeting = [0; Greeting::LEN];
        connection.read_exact(&mut greeting).await.unwrap();
        Greeting::parse(&greeting).unwrap();
        let request = Request::Put { digest: digest(&data), length: data.len() as u64 };
        connection.write_all(&request.encode()).await.unwrap();
        connection.flush().await.unwrap();
        let mut upload = Self(connection, data);
        assert_eq!(upload.response().await, Response::Send);
        let half = upload.1.split_to(upload.1.len() / 2);
        upload.0.write_all(&half).await.unwrap();
        upload.0.flush().await.unwrap();
        upload
    }

    async fn finish(mut self) {
        self.0.write_all(&self.1).await.unwrap();
        self.0.flush().await.unwrap();
        assert_eq!(self.response().await, Response::Stored);
        assert_eq!(self.0.read(&mut [0]).await.unwrap(), 0, "a connection of an older generation is left after it");
    }

    async fn response(&mut self) -> Response {
        let mut response = [0; Response::LEN];
        self.0.read_exact(&mut response).await.unwrap();
        Response::parse(&response).unwrap()
    }
}

fn bytes(length: usize, salt: u64) -> Bytes {
    (0..length as u64).map(|i| ((i + salt) * 31 % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_refuse_nobody_and_cut_nothing() {
    let mut pair = Pair::new();
    let files = Files::new(&pair);
    let (server_context, client_context) = (files.context().await, files.context().await);
    let server = Server::start(server_context.clone()).await;
    let clients = endpoint(client_context.clone());
    let calm = CancellationToken::new();
    let hammers: Vec<_> = (0..3)
        .map(|salt| {
            let (client, calm) = (client(&clients, server.address), calm.clone());
            tokio::spawn(async move {
                let data = bytes(100_000, salt);
                while !calm.is_cancelled() {
                    let digest = client.put(data.clone()).await.unwrap();
                    assert_eq!(client.get(&digest).await.unwrap(), data);
                    client.delete(&digest).await.unwrap();
                }
            })
        })
        .collect();

    let mut generations = [server_context.subscribe(), client_context.subscribe()];
    for round in 0..ROTATIONS {
        let upload = SlowUpload::begin(&clients, server.address, bytes(200_000, 100 + round)).await;
        let next = Pair::new();
        // Both sides believe the next pair before either of them shows it.
        for (step, change) in [(1, true), (2, false)] {
            if change {
                files.trust(&[&pair, &next])
            } else {
                files.identify_as(&next)
            }
            for generation in &mut generations {
                let published = generation.wait_for(|generation| *generation == 1 + 2 * round + step);
                timeout(GIVE_UP, published).await.expect("the generation is published").unwrap();
            }
        }
        pair = next;
        upload.finish().await;
    }
    calm.cancel();
    for hammer in hammers {
        hammer.await.unwrap();
    }

    let (served, dialled) = (server.endpoint.status(), clients.status());
    assert_eq!((served.failed_handshakes, dialled.failed_handshakes), (0, 0), "{served:?}");
    assert_eq!(dialled.refused_connects, 0);
    assert_eq!(served.killed, 0);
    assert!(served.listener_rebinds >= ROTATIONS, "old sockets linger, and only so many may: {served:?}");
    server.stop().await;
}

#[tokio::test]
async fn only_members_of_the_cluster_come_in() {
    let member = Pair::new();
    let files = Files::new(&member);
    let server = Server::start(files.context().await).await;
    let pair = Pair::new();
    let stranger = Files::new(&pair);
    stranger.trust(&[&pair, &member]);
    for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        let nameless = BundleOptions { keystore: None, ..files.options() };
        for refused in [nameless, stranger.options()] {
            let options = BundleOptions { protocols: vec![version], ..refused };
            let clients = endpoint(TlsContext::load(options, None).await.unwrap());
            let client = client(&clients, server.address);
            let error = client.put(Bytes::from_static(b"x")).await.unwrap_err();
            assert!(matches!(error, BlobError::Connect(_) | BlobError::Lost(_)), "{error}");
            assert_eq!(clients.status().failed_handshakes, 1, "{version:?}: {error}");
        }
        let options = BundleOptions { protocols: vec![version], ..files.options() };
        let clients = endpoint(TlsContext::load(options, None).await.unwrap());
        let client = client(&clients, server.address);
        assert!(matches!(client.get(&digest(b"x")).await, Err(BlobError::NotFound(_))));
    }
    server.stop().await;
}

/// Whatever it has sent ahead.
#[tokio::test]
async fn a_removed_peer_is_off_after_the_request_under_way() {
    let (server_pair, peer) = (Pair::new(), Pair::new());
    let files = Files::new(&server_pair);
    files.trust(&[&server_pair, &peer]);
    let policy = ConnectionPolicy {
        established: EstablishedConnections::DrainUntrusted,
        drain_grace: Duration::from_secs(3600),
        max_age: None,
    };
    let limits = HandshakeLimits::default();
    let server = Server::at(Endpoint::new("blob", Some(files.context().await), policy, limits)).await;
    let own = Files::new(&peer);
    own.trust(&[&peer, &server_pair]);
    let mut upload = SlowUpload::begin(&endpoint(own.context().await), server.address, bytes(200_000, 1)).await;
    files.trust(&[&server_pair]);
    let removed = async {
        while !server.endpoint.status().drained_by_reason.contains_key("untrusted") {
            tokio::task::yield_now().await;
        }
    };
    timeout(GIVE_UP, removed).await.expect("the removal is noticed");
    upload.1 = [upload.1.as_ref(), &Request::Status.encode()].concat().into();
    let SlowUpload(connection, rest) = &mut upload;
    connection.write_all(rest).await.unwrap();
    connection.flush().await.unwrap();
    assert_eq!(upload.response().await, Response::Stored);
    // A reset is as good as an end: there is something that the server has not read.
    let more = upload.0.read(&mut [0]).await;
    assert!(matches!(more, Ok(0) | Err(_)), "the next request is answered, too");
    assert_eq!(server.endpoint.status().killed, 0);
    server.stop().await;
}
