//! One look at a listening port from outside, as any client would have it.

use std::net::SocketAddr;
use std::time::Duration;

use tls_common::{ConnectError, Connection, Connector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The four kinds of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rpc,
    Data,
    Blob,
    Rest,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Rpc, Kind::Data, Kind::Blob, Kind::Rest];

    /// As the cluster's status names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Rpc => "rpc",
            Kind::Data => "data",
            Kind::Blob => "blob",
            Kind::Rest => "rest",
        }
    }

    pub(crate) fn alpn(self) -> &'static str {
        match self {
            Kind::Rpc => "h2",
            Kind::Data => proto::frame::ALPN,
            Kind::Blob => proto::blob::ALPN,
            Kind::Rest => "http/1.1",
        }
    }

    /// What to say for the server to answer; on data and blob connections it speaks first.
    fn opening(self) -> &'static [u8] {
        match self {
            // The preface and an empty SETTINGS frame.
            Kind::Rpc => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            Kind::Data | Kind::Blob => b"",
            Kind::Rest => b"GET /v1/config HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        }
    }
}

/// Connects, hears the server's first bytes, closes; the fingerprint of the certificate served.
pub(crate) async fn probe(kind: Kind, address: SocketAddr, connector: &Connector) -> Result<String, ProbeError> {
    let mut connection = connector.connect(&address.ip().to_string(), address.port()).await?;
    let peer = connection.info().peer().and_then(tls_common::PeerIdentity::fingerprint);
    let fingerprint = peer.ok_or(ProbeError::NoCertificate)?;
    hear(kind, &mut connection).await?;
    Ok(fingerprint)
}

/// Hears the server's first bytes and closes: only then is it certain that a TLS 1.3 server has accepted us.
pub(crate) async fn hear(kind: Kind, connection: &mut Connection) -> Result<(), ProbeError> {
    connection.write_all(kind.opening()).await?;
    connection.flush().await?;
    let mut answer = [0; 64];
    let length = connection.read(&mut answer).await?;
    match (kind, &answer[..length]) {
        (_, []) => return Err(ProbeError::Closed),
        (Kind::Rest, answer) if !answer.starts_with(b"HTTP/1.1 200") => return Err(ProbeError::BadAnswer),
        _ => {}
    }
    // The server may be gone already, which is fine.
    let _ = connection.shutdown().await;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection broke: {0}")]
    Broke(#[from] std::io::Error),
    #[error("closed without a word")]
    Closed,
    #[error("no certificate")]
    NoCertificate,
    #[error("not the answer expected")]
    BadAnswer,
    #[error("no answer within {PROBE_TIMEOUT:?}")]
    Timeout,
}

/// From the connect to the server's first bytes.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
