//! Our side of a conversation with a program that we did not write: the outcome of every handshake comes to the test.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "test support, shared by several test binaries")]

use std::time::Duration;

use tls_common::{
    BundleOptions, ConnectError, Connection, ConnectionPolicy, Endpoint, HandshakeError, HandshakeLimits, Rejection,
    TlsContext,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::support::{quick, until};

/// Only ends a test that has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// An endpoint that follows its files.
pub struct Ours {
    pub context: TlsContext,
    pub endpoint: Endpoint,
    listener: TcpListener,
}

/// Who was at the other end.
#[derive(Debug, PartialEq, Eq)]
pub struct Met {
    /// SHA-256 of its certificate.
    pub fingerprint: String,
    pub resumed: bool,
}

impl Ours {
    pub async fn new(options: BundleOptions) -> Self {
        let context = TlsContext::load(options, Some(quick())).await.unwrap();
        // No handshake fails for want of time, however slow the machine.
        let limits = HandshakeLimits { timeout: PATIENCE, ..Default::default() };
        let endpoint = Endpoint::new("ours", Some(context.clone()), ConnectionPolicy::default(), limits);
        Self { context, endpoint, listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// Where [`Self::accept`] listens.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Serves the next connection: says the SHA-256 of the peer's certificate, then gives back one line.
    pub async fn accept(&self) -> Result<Met, HandshakeError> {
        let serving = async {
            let (tcp, peer) = self.listener.accept().await.unwrap();
            let connection = self.endpoint.acceptor(&[]).accept(tcp, peer).await?;
            let met = met(&connection);
            let mut connection = BufReader::new(connection);
            connection.write_all(format!("{}\n", met.fingerprint).as_bytes()).await.unwrap();
            connection.flush().await.unwrap();
            let mut line = String::new();
            connection.read_line(&mut line).await.unwrap();
            connection.write_all(line.as_bytes()).await.unwrap();
            connection.shutdown().await.unwrap();
            Ok(met)
        };
        timeout(PATIENCE, serving).await.expect("nobody comes, or says nothing")
    }

    /// Connects to `localhost`.
    pub async fn connect(&self, port: u16) -> Result<Connection, ConnectError> {
        self.endpoint.connector(&[]).connect("localhost", port).await
    }

    /// Makes `change` and waits until the generation that it leads to is published.
    pub async fn follow(&self, change: impl FnOnce()) {
        let before = self.context.status().generation;
        change();
        until(&self.context, |status| status.generation > before).await;
    }
}

/// Who is at the other end.
pub fn met(connection: &Connection) -> Met {
    let fingerprint = connection.info().peer().and_then(tls_common::PeerIdentity::fingerprint).unwrap();
    Met { fingerprint, resumed: connection.is_resumed() }
}

/// Why we refused the peer that connected.
pub fn accept_refused(outcome: Result<Met, HandshakeError>) -> Rejection {
    match outcome {
        Err(HandshakeError::Rejected(rejection)) => rejection,
        other => panic!("not refused by us: {other:?}"),
    }
}

/// Why we refused the peer that we connected to.
pub fn connect_refused(outcome: Result<Connection, ConnectError>) -> Rejection {
    match outcome {
        Err(ConnectError::Handshake { source: HandshakeError::Rejected(rejection), .. }) => rejection,
        other => panic!("not refused by us: {other:?}"),
    }
}
