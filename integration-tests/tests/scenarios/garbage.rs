//! Bytes that nobody should send.

use std::net::SocketAddr;

use bytes::BytesMut;
use integration_tests::{Client, Internal, Port, Secured, within};
use proto::blob::{Refusal, Request, Response};
use proto::frame::{Chunks, Decoder, ErrorCode, Frame, Hello, VERSION};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::upload::{Upload, greeted, response};

/// Connections per port, before and after TLS each.
const ROUNDS: u64 = 25;

#[tokio::test]
async fn garbage_on_every_port_before_and_after_tls_harms_nobody() {
    let identity = Internal::pair();
    let mut secured = Secured::start(&identity, &[&identity]).await;
    let client = Client::new(Some(&identity));
    let processes = secured.cluster.processes().iter();
    let ports: Vec<(Port, SocketAddr)> = processes.flat_map(|process| process.ports()).collect();
    for (port, address) in ports {
        for round in 0..ROUNDS {
            let garbage = garbage(round, port);
            let raw = TcpStream::connect(address).await.unwrap();
            within("a server that got garbage hangs up", throw(raw, &garbage)).await;
            let secure = client.connect(port, address).await.unwrap();
            within("a server that got garbage after TLS hangs up", throw(secure, &garbage)).await;
        }
    }
    for process in secured.cluster.processes_mut() {
        assert!(process.is_running(), "{}", process.name());
    }
    secured.every_port_presents(&client, &identity.fingerprint()).await;
    secured.runs_a_job().await;
}

#[tokio::test]
async fn garbage_from_a_trusted_peer_in_the_middle_of_a_conversation_leaves_a_running_job_exact() {
    const ROWS: u64 = 1_000;
    let identity = Internal::pair();
    let mut secured = Secured::start(&identity, &[&identity]).await;
    let client = Client::new(Some(&identity));
    let blob_server = secured.cluster.process("blob-server").address(Port::Blob);
    let ports = secured.cluster.processes().iter().flat_map(|process| process.ports());
    let data: Vec<_> = ports.filter(|(port, _)| *port == Port::Data).map(|(_, address)| address).collect();

    let mut fed = secured.cluster.submit_fed("").await;
    for round in 0..ROUNDS {
        fed.feed(ROWS).await;
        let noise = garbage(4 * round, Port::Data);
        for address in &data {
            let last = within("garbage after a hello is answered", after_a_hello(&client, *address, &noise)).await;
            assert!(matches!(last, Some(Frame::Error { code: ErrorCode::Violation, .. })), "{last:?}");
            // The same below TLS: no record of the session.
            let mut broken = client.connect(Port::Data, *address).await.unwrap();
            broken.write_all(&hello()).await.unwrap();
            broken.flush().await.unwrap();
            let _ = broken.get_mut().0.write_all(&noise).await;
            let _ = within("broken TLS ends a data connection", broken.read_to_end(&mut Vec::new())).await;
        }
        let body = [noise.clone(), noise.clone()].concat();
        let upload = Upload::begin(&client, blob_server, body.clone()).await;
        let digest = upload.digest;
        let mut other = noise.clone();
        other.reverse();
        let refused = within("a blob that is another is answered", upload.finish_with(&other)).await;
        assert!(matches!(refused, Response::Refused { refusal: Refusal::Mismatch, .. }), "{refused:?}");
        let mut broken = Upload::begin(&client, blob_server, body).await.connection;
        let _ = broken.get_mut().0.write_all(&noise).await;
        let _ = within("broken TLS ends a blob connection", broken.read_to_end(&mut Vec::new())).await;
        let mut get = greeted(&client, blob_server).await;
        get.write_all(&Request::Get { digest }.encode()).await.unwrap();
        get.flush().await.unwrap();
        let missing = response(&mut get).await;
        assert!(matches!(missing, Response::Refused { refusal: Refusal::NotFound, .. }), "{missing:?}");
    }
    fed.ends_exact(&secured.cluster).await;
    for process in secured.cluster.processes_mut() {
        assert!(process.is_running(), "{}", process.name());
    }
}

/// What somebody says who is no TaskManager of this cluster, but has its certificate.
fn hello() -> BytesMut {
    let hello = Hello {
        version: VERSION,
        // The one with the smaller id dials.
        task_manager: "a-stranger".parse().unwrap(),
        lane: 0,
        lanes: 1,
        session: 1,
        connection: 1,
        resumed: false,
    };
    let mut bytes = BytesMut::new();
    Frame::<Chunks>::Hello(hello).encode(&mut bytes);
    bytes
}

/// Says hello and then `noise`; answers the server's last frame.
async fn after_a_hello(client: &Client, address: SocketAddr, noise: &[u8]) -> Option<Frame> {
    let mut connection = client.connect(Port::Data, address).await.unwrap();
    connection.write_all(&hello()).await.unwrap();
    let _ = connection.write_all(noise).await;
    let _ = connection.flush().await;
    let mut answer = Vec::new();
    // Not until the end of the stream: the server waits for ours.
    let mut decoder = Decoder::new(1 << 20);
    loop {
        let count = connection.read_buf(&mut answer).await.unwrap_or(0);
        let mut rest = answer.as_slice();
        let frames: Vec<_> = std::iter::from_fn(|| decoder.decode(&mut rest).unwrap()).collect();
        answer.clear();
        match frames.into_iter().last() {
            Some(error @ Frame::Error { .. }) => return Some(error),
            other if count == 0 => return other,
            _ => {}
        }
    }
}

/// Sends `garbage` and then the end of the stream, and reads until the server has hung up, politely or not.
async fn throw(mut stream: impl AsyncRead + AsyncWrite + Unpin, garbage: &[u8]) {
    let _ = stream.write_all(garbage).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// The same in every run: now plain noise, now noise behind something that begins well.
fn garbage(round: u64, port: Port) -> Vec<u8> {
    let mut state = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let noise: Vec<u8> = noise.take(8192).flatten().collect();
    let beginning: &[u8] = match round % 4 {
        0 => b"",
        // The header of a TLS handshake record of the greatest length.
        1 => b"\x16\x03\x01\x40\x00",
        2 => port.opening(),
        // What a peer of the data plane or a blob client says first, followed by lengths of four gigabytes.
        _ => b"TMDPTMBL\xff\xff\xff\xff\xff\xff\xff\xff",
    };
    [beginning, &noise].concat()
}
