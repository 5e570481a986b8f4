//! The client's side of the blob protocol, one step at a time.

use std::net::SocketAddr;

use integration_tests::{Client, Port};
use proto::blob::{Digest, Greeting, Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A blob of which the first half has been sent.
pub(crate) struct Upload {
    pub(crate) connection: TlsStream<TcpStream>,
    pub(crate) digest: Digest,
    body: Vec<u8>,
}

impl Upload {
    /// The server has said that it wants the blob, and got half of it.
    pub(crate) async fn begin(client: &Client, address: SocketAddr, body: Vec<u8>) -> Self {
        let digest = blob_server::store::digest(&body);
        let mut connection = greeted(client, address).await;
        connection.write_all(&Request::Put { digest, length: body.len() as u64 }.encode()).await.unwrap();
        connection.flush().await.unwrap();
        assert_eq!(response(&mut connection).await, Response::Send);
        connection.write_all(&body[..body.len() / 2]).await.unwrap();
        connection.flush().await.unwrap();
        Self { connection, digest, body }
    }

    /// Sends the other half.
    pub(crate) async fn finish(self) -> Response {
        let rest = self.body[self.body.len() / 2..].to_vec();
        self.finish_with(&rest).await
    }

    /// Sends this instead of it.
    pub(crate) async fn finish_with(mut self, rest: &[u8]) -> Response {
        self.connection.write_all(rest).await.unwrap();
        self.connection.flush().await.unwrap();
        response(&mut self.connection).await
    }
}

/// A connection on which the server has said its greeting.
pub(crate) async fn greeted(client: &Client, address: SocketAddr) -> TlsStream<TcpStream> {
    let mut connection = client.connect(Port::Blob, address).await.unwrap();
    let mut greeting = [0; Greeting::LEN];
    connection.read_exact(&mut greeting).await.unwrap();
    Greeting::parse(&greeting).unwrap();
    connection
}

/// What the server says next.
pub(crate) async fn response(connection: &mut (impl AsyncRead + Unpin)) -> Response {
    let mut header = [0; Response::LEN];
    connection.read_exact(&mut header).await.unwrap();
    Response::parse(&header).unwrap()
}
