//! Client and server over real sockets, and each of them against a peer that does not play by the rules.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{fs, future::Future, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use blob_server::{
    BlobClient, BlobError, Digest,
    server::{self, SilenceLimits},
    store::{Store, digest},
};
use bytes::Bytes;
use proto::blob::{ALPN, BLOB_BYTES_MAX, Greeting, ProtocolError, Refusal, Request, Response};
use tempfile::TempDir;
use tls_common::{ConnectionPolicy, Endpoint, HandshakeLimits, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Ends a test that would hang.
const GIVE_UP: Duration = Duration::from_secs(60);

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn plain() -> Endpoint {
    Endpoint::new("blob", None, ConnectionPolicy::default(), HandshakeLimits::default())
}

fn client(address: SocketAddr) -> BlobClient {
    BlobClient::new(plain().connector(&[ALPN]), address.ip().to_string(), address.port())
}

/// A server of its own on a port of its own.
struct Server {
    directory: TempDir,
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        Self::with(SilenceLimits::default()).await
    }

    async fn with(limits: SilenceLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let listener = Listener::bind_rebinding(LOOPBACK).await.unwrap();
        let address = listener.local_addr();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server::serve(listener, plain(), store, limits, shutdown.clone()));
        Self { directory, address, shutdown, task }
    }

    async fn raw(&self) -> Raw {
        let mut raw = Raw(TcpStream::connect(self.address).await.unwrap());
        Greeting::parse(&raw.read().await).unwrap();
        raw
    }

    /// Returns once every connection has been left; the directory stays for a look.
    async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.task.await.unwrap();
        self.directory
    }
}

/// A client that says what it likes.
struct Raw(TcpStream);

impl Raw {
    async fn read<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn response(&mut self) -> Response {
        Response::parse(&self.read().await).unwrap()
    }

    async fn ask(&mut self, request: Request) -> Response {
        self.write(&request.encode()).await;
        self.response().await
    }

    async fn refusal(&mut self, response: Response) -> (Refusal, String) {
        let Response::Refused { refusal, length } = response else { panic!("{response:?}") };
        let mut reason = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut reason).await.unwrap();
        (refusal, String::from_utf8(reason).unwrap())
    }

    /// The server has closed; whether it did so with a FIN or, having left bytes unread, with a reset is all the same.
    async fn is_closed(&mut self) {
        match timeout(GIVE_UP, self.0.read(&mut [0])).await.expect("the server closes") {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("{other:?}"),
        }
    }
}

/// A server that says what it likes, to one connection after the other.
async fn fake<F>(behave: impl Fn(usize, Raw) -> F + Send + 'static) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        for number in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            behave(number, Raw(socket)).await;
        }
    });
    (address, task)
}

fn blobs(directory: &Path) -> usize {
    let hidden = |name: &str| name == ".lock";
    fs::read_dir(directory)
        .unwrap()
        .filter(|entry| !hidden(entry.as_ref().unwrap().file_name().to_str().unwrap()))
        .count()
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

#[tokio::test]
async fn what_was_put_can_be_got_until_it_is_deleted() {
    let server = Server::start().await;
    let client = client(server.address);
    for length in [0, 1, 65_536, 3_000_001] {
        let data = bytes(length);
        // In a task of its own, as the services do it.
        let digest = tokio::spawn({
            let (client, data) = (client.clone(), data.clone());
            async move { client.put(data).await }
        });
        let digest = digest.await.unwrap().unwrap();
        assert_eq!(digest, blob_server::store::digest(&data));
        assert_eq!(client.put(data.clone()).await.unwrap(), digest, "again");
        assert_eq!(client.get(&digest).await.unwrap(), data);
        client.delete(&digest).await.unwrap();
        client.delete(&digest).await.unwrap();
        assert!(matches!(client.get(&digest).await, Err(BlobError::NotFound(d)) if d == digest));
    }
    let [status] = client.status().await.unwrap().try_into().unwrap();
    assert_eq!(status.endpoint, "blob");
    assert!(status.connections >= 1, "the one that asks: {status:?}");
    assert_eq!(blobs(server.stop().await.path()), 0);
}

#[tokio::test]
async fn transfers_run_side_by_side() {
    let server = Server::start().await;
    let client = client(server.address);
    let transfers: Vec<_> = (0..16)
        .map(|i| {
            // Each blob twice, so that two uploads of the same one meet.
            let (client, data) = (client.clone(), bytes(500_000 + i / 2));
            tokio::spawn(async move {
                let digest = client.put(data.clone()).await.unwrap();
                assert_eq!(client.get(&digest).await.unwrap(), data);
            })
        })
        .collect();
    for transfer in transfers {
        transfer.await.unwrap();
    }
    assert_eq!(blobs(server.stop().await.path()), 8);
}

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    let digest = digest(b"SELECT 1");
    assert_eq!(raw.ask(Request::Put { digest, length: 8 }).await, Response::Send);
    raw.write(b"SELECT 1").await;
    assert_eq!(raw.response().await, Response::Stored);
    assert_eq!(
        raw.ask(Request::Put { digest, length: 8 }).await,
        Response::Stored,
        "bytes that are there are not asked for"
    );
    assert_eq!(raw.ask(Request::Get { digest }).await, Response::Blob { length: 8 });
    assert_eq!(&raw.read().await, b"SELECT 1");
    assert_eq!(raw.ask(Request::Delete { digest }).await, Response::Deleted);
    let response = raw.ask(Request::Get { digest }).await;
    assert_eq!(raw.refusal(response).await.0, Refusal::NotFound);
}

#[tokio::test]
async fn a_half_sent_blob_leaves_nothing() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    let request = Request::Put { digest: digest(b"all of it"), length: 9 };
    assert_eq!(raw.ask(request).await, Response::Send);
    raw.write(b"all").await;
    drop(raw);
    assert_eq!(blobs(server.stop().await.path()), 0);
}

#[tokio::test]
async fn other_bytes_than_announced_are_not_stored() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    let announced = digest(b"this");
    assert_eq!(raw.ask(Request::Put { digest: announced, length: 4 }).await, Response::Send);
    raw.write(b"that").await;
    let response = raw.response().await;
    let (refusal, reason) = raw.refusal(response).await;
    assert_eq!(refusal, Refusal::Mismatch);
    assert!(reason.contains(&announced.to_string()), "{reason}");
    let response = raw.ask(Request::Get { digest: announced }).await;
    assert_eq!(raw.refusal(response).await.0, Refusal::NotFound);
    drop(raw);
    assert_eq!(blobs(server.stop().await.path()), 0);
}

#[tokio::test]
async fn an_oversized_blob_is_refused_before_it_is_sent() {
    let server = Server::start().await;
    let mut raw = server.raw().await;
    for length in [BLOB_BYTES_MAX + 1, u64::MAX] {
        let response = raw.ask(Request::Put { digest: digest(b"big"), length }).await;
        let (refusal, reason) = raw.refusal(response).await;
        assert_eq!(refusal, Refusal::TooLarge);
        assert!(reason.contains(&length.to_string()), "{reason}");
    }
    assert_eq!(
        raw.ask(Request::Delete { digest: digest(b"big") }).await,
        Response::Deleted,
        "the connection is still good"
    );
}

#[tokio::test]
async fn garbage_is_told_off_and_harms_nobody() {
    let server = Server::start().await;
    for garbage in [[0xff; 48], [0; 48], *b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\r\n"] {
        let mut raw = server.raw().await;
        raw.write(&garbage).await;
        let response = raw.response().await;
        assert_eq!(raw.refusal(response).await.0, Refusal::BadRequest);
        raw.is_closed().await;
    }
    let mut half = server.raw().await;
    half.write(b"hal").await;
    drop(half);
    client(server.address).put(Bytes::from_static(b"fine")).await.unwrap();
}

#[tokio::test]
async fn a_file_damaged_on_disk_is_not_handed_out() {
    let server = Server::start().await;
    let client = client(server.address);
    let digest = client.put(Bytes::from_static(b"good")).await.unwrap();
    fs::write(server.directory.path().join(digest.to_string()), b"evil").unwrap();
    assert!(matches!(client.get(&digest).await, Err(BlobError::Corrupt(d)) if d == digest));
    client.put(Bytes::from_static(b"good")).await.unwrap();
    assert_eq!(client.get(&digest).await.unwrap(), b"good"[..]);
}

#[tokio::test]
async fn a_disk_that_fails_is_reported_after_the_upload() {
    let server = Server::start().await;
    fs::remove_dir_all(server.directory.path()).unwrap();
    let error = client(server.address).put(bytes(1_000_000)).await.unwrap_err();
    assert!(matches!(&error, BlobError::Refused(reason) if reason.contains("No such file")), "{error}");
}

#[tokio::test]
async fn silence_ends_a_connection() {
    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(3600);
    let impatient = Server::with(SilenceLimits { idle: SHORT, stall: LONG }).await;
    let mut idle = impatient.raw().await;
    idle.is_closed().await;

    let server = Server::with(SilenceLimits { idle: LONG, stall: SHORT }).await;
    let mut stuck_in_a_header = server.raw().await;
    stuck_in_a_header.write(&Request::Status.encode()[..20]).await;
    stuck_in_a_header.is_closed().await;
    let mut stuck_in_a_body = server.raw().await;
    let request = Request::Put { digest: digest(b"slow"), length: 4 };
    assert_eq!(stuck_in_a_body.ask(request).await, Response::Send);
    stuck_in_a_body.write(b"sl").await;
    stuck_in_a_body.is_closed().await;
    assert_eq!(blobs(server.stop().await.path()), 0);
}

#[tokio::test]
async fn shutdown_finishes_what_has_begun() {
    let server = Server::start().await;
    let digest = digest(b"whole");
    let mut uploading = server.raw().await;
    assert_eq!(uploading.ask(Request::Put { digest, length: 5 }).await, Response::Send);
    uploading.write(b"who").await;
    let mut about_to_ask = server.raw().await;
    let mut idle = server.raw().await;
    assert_eq!(idle.ask(Request::Delete { digest }).await, Response::Deleted);

    server.shutdown.cancel();
    idle.is_closed().await;
    assert_eq!(about_to_ask.ask(Request::Delete { digest }).await, Response::Deleted);
    about_to_ask.is_closed().await;
    uploading.write(b"le").await;
    assert_eq!(uploading.response().await, Response::Stored);
    uploading.is_closed().await;
    assert_eq!(blobs(server.stop().await.path()), 1);
}

#[tokio::test]
async fn the_client_tries_again_until_it_is_served() {
    let (address, server) = fake(|number, mut raw| async move {
        match number {
            // Gone at once; gone after the greeting; gone after the request; served.
            0 => {}
            1 => raw.write(&Greeting.encode()).await,
            _ => {
                raw.write(&Greeting.encode()).await;
                let request: [u8; Request::LEN] = raw.read().await;
                if number > 2 {
                    assert!(matches!(Request::parse(&request), Ok(Request::Delete { .. })));
                    raw.write(&Response::Deleted.encode()).await;
                }
            }
        }
    })
    .await;
    client(address).delete(&digest(b"x")).await.unwrap();
    server.abort();
}

#[tokio::test]
async fn the_client_gives_up_when_its_patience_is_over() {
    // Bound but not listening: nobody else can come to answer there.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(LOOPBACK).unwrap();
    let address = socket.local_addr().unwrap();
    let client = client(address).with_patience(Duration::from_millis(200));
    let error = client.get(&digest(b"x")).await.unwrap_err();
    assert!(matches!(error, BlobError::Connect(_)), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn the_client_believes_no_server() {
    async fn get(answer: &'static [&'static [u8]]) -> BlobError {
        let (address, server) = fake(move |_, mut raw| async move {
            for bytes in answer {
                // The client hangs up as soon as it has heard enough.
                let _ = raw.0.write_all(bytes).await;
            }
            let _ = raw.0.read_to_end(&mut Vec::new()).await;
        })
        .await;
        let error = client(address).get(&Digest::from_bytes([1; 32])).await.unwrap_err();
        server.abort();
        error
    }
    const HELLO: &[u8] = &Greeting.encode();
    const SEND: &[u8] = &[0; 16];
    const FOUR_BYTES: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0];
    const TOO_MUCH: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const FAILED: &[u8] = &[0x85, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];

    assert!(matches!(
        get(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]).await,
        BlobError::Protocol(ProtocolError::NotABlobServer)
    ));
    assert!(matches!(get(&[b"TMBL\x09\x00\x00\x00"]).await, BlobError::Protocol(ProtocolError::Version(9))));
    assert!(matches!(get(&[HELLO, &[0xff; 16]]).await, BlobError::Protocol(ProtocolError::Malformed)));
    assert!(matches!(get(&[HELLO, SEND]).await, BlobError::Protocol(ProtocolError::Malformed)));
    assert!(matches!(get(&[HELLO, TOO_MUCH]).await, BlobError::Protocol(ProtocolError::BlobTooLarge(_))));
    assert!(matches!(get(&[HELLO, FOUR_BYTES, b"evil"]).await, BlobError::Corrupt(_)));
    let refused = get(&[HELLO, FAILED, b"no\x1b[2J"]).await;
    assert!(matches!(&refused, BlobError::Refused(reason) if reason == "no[2J"), "{refused}");
}
