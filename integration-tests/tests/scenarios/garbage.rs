//! Bytes that nobody should send.

use std::net::SocketAddr;

use integration_tests::{Client, Internal, Port, Secured, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

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
