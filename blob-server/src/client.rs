//! The asking side: [`BlobClient`], used by every process that stores or fetches blobs.
//!
//! One connection per call. Every call may be repeated without harm, so an attempt that fails on the way (nobody
//! listens, the connection breaks, certificates are being replaced) is made again until the client's patience is
//! over.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use proto::blob::{BLOB_BYTES_MAX, Digest, Greeting, ProtocolError, Refusal, Request, Response};
use thiserror::Error;
use tls_common::{ConnectError, Connection, Connector, EndpointStatus};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};

use crate::{
    store,
    transfer::{CLOSE_TIMEOUT, STALL_TIMEOUT, TRANSFER_TIMEOUT, flush, read_chunk, read_header, write_chunks},
};

/// How long a call goes on trying unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Pause before the second attempt; doubled for each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// Longest pause between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Talks to one blob server. Cheap to clone; holds no connection between calls.
#[derive(Debug, Clone)]
pub struct BlobClient {
    connector: Connector,
    host: String,
    port: u16,
    patience: Duration,
}

impl BlobClient {
    /// The connector must offer the protocol [`proto::blob::ALPN`].
    pub fn new(connector: Connector, host: String, port: u16) -> Self {
        Self { connector, host, port, patience: PATIENCE }
    }

    /// How long a call goes on trying after attempts that failed on the way. An attempt in progress is not cut short
    /// by it.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Stores the bytes, at most [`BLOB_BYTES_MAX`]; returns the name to get them by. They are on the server's disk
    /// then.
    pub async fn put(&self, data: Bytes) -> Result<Digest, BlobError> {
        let length = data.len() as u64;
        if length > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge(length));
        }
        let (digest, data) = hashed(data).await?;
        self.retried(|| async {
            let mut exchange = self.ask(Request::Put { digest, length }).await?;
            if exchange.response(digest).await? == Response::Send {
                write_chunks(&mut exchange.connection, &data).await?;
                flush(&mut exchange.connection).await?;
                match exchange.response(digest).await? {
                    Response::Stored => {}
                    _ => return Err(ProtocolError::Malformed.into()),
                }
            }
            exchange.close().await;
            Ok(digest)
        })
        .await
    }

    /// Fetches a blob and checks that it is the one.
    pub async fn get(&self, digest: &Digest) -> Result<Bytes, BlobError> {
        self.retried(|| async {
            let mut exchange = self.ask(Request::Get { digest: *digest }).await?;
            let Response::Blob { length } = exchange.response(*digest).await? else {
                return Err(ProtocolError::Malformed.into());
            };
            let data = exchange.body(length).await?;
            exchange.close().await;
            match hashed(data).await? {
                (found, data) if found == *digest => Ok(data),
                _ => Err(BlobError::Corrupt(*digest)),
            }
        })
        .await
    }

    /// Removes a blob; fine if there is none of that name.
    pub async fn delete(&self, digest: &Digest) -> Result<(), BlobError> {
        self.retried(|| async {
            let mut exchange = self.ask(Request::Delete { digest: *digest }).await?;
            let Response::Deleted = exchange.response(*digest).await? else {
                return Err(ProtocolError::Malformed.into());
            };
            exchange.close().await;
            Ok(())
        })
        .await
    }

    /// The server's endpoints: certificates, connections, counters.
    pub async fn status(&self) -> Result<Vec<EndpointStatus>, BlobError> {
        self.retried(|| async {
            let mut exchange = self.ask(Request::Status).await?;
            let Response::Report { length } = exchange.response(NO_BLOB).await? else {
                return Err(ProtocolError::Malformed.into());
            };
            let report = exchange.body(length).await?;
            exchange.close().await;
            serde_json::from_slice(&report).map_err(|_| ProtocolError::Malformed.into())
        })
        .await
    }

    /// Connects, waits to be greeted (a TLS 1.3 server may refuse only then) and sends the request.
    async fn ask(&self, request: Request) -> Result<Exchange, BlobError> {
        let mut connection = self.connector.connect(&self.host, self.port).await?;
        Greeting::parse(&read_header(&mut connection).await?)?;
        write_chunks(&mut connection, &request.encode()).await?;
        flush(&mut connection).await?;
        Ok(Exchange { connection })
    }

    async fn retried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, BlobError>
    where
        F: Future<Output = Result<T, BlobError>>,
    {
        let give_up = Instant::now() + self.patience;
        let mut pause = BACKOFF_FIRST;
        loop {
            let outcome = timeout(TRANSFER_TIMEOUT, attempt())
                .await
                .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
            match outcome {
                Err(error) if error.may_pass() && Instant::now() + pause < give_up => {
                    tracing::debug!(host = self.host, port = self.port, %error, "blob server: trying again");
                    sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
                outcome => return outcome,
            }
        }
    }
}

/// One request that was sent and is being answered.
struct Exchange {
    connection: Connection,
}

impl Exchange {
    /// The next response; a refusal is an error about `digest`.
    async fn response(&mut self, digest: Digest) -> Result<Response, BlobError> {
        match Response::parse(&read_header(&mut self.connection).await?)? {
            Response::Refused { refusal, length } => {
                let reason = self.body(length).await?;
                let reason = String::from_utf8_lossy(&reason);
                Err(match refusal {
                    Refusal::NotFound => BlobError::NotFound(digest),
                    Refusal::Corrupt | Refusal::Mismatch => BlobError::Corrupt(digest),
                    Refusal::TooLarge | Refusal::BadRequest | Refusal::Failed => {
                        // The server's words go to logs and terminals: no control characters.
                        BlobError::Refused(reason.chars().filter(|c| !c.is_control()).collect())
                    }
                })
            }
            response => Ok(response),
        }
    }

    async fn body(&mut self, length: u64) -> Result<Bytes, BlobError> {
        let mut left = length;
        let mut data = BytesMut::new();
        while left > 0 {
            data.extend_from_slice(&read_chunk(&mut self.connection, &mut left, STALL_TIMEOUT).await?);
        }
        Ok(data.freeze())
    }

    /// Says goodbye; the answer is complete, so nothing depends on it.
    async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.connection.shutdown()).await;
    }
}

/// Why a blob could not be stored or fetched.
#[derive(Debug, Error)]
pub enum BlobError {
    /// The caller's: nobody stored it, or somebody deleted it.
    #[error("the blob server has no blob {0}")]
    NotFound(Digest),
    /// The disk's or the network's: what came is not what the name says.
    #[error("blob {0} is damaged on the blob server or on the way: store it again")]
    Corrupt(Digest),
    /// The caller's.
    #[error("{0} bytes are more than a blob may have ({BLOB_BYTES_MAX})")]
    TooLarge(u64),
    /// The server's, in its words.
    #[error("the blob server refused: {0}")]
    Refused(String),
    /// Nobody answered within the client's patience, or one side does not accept the other.
    #[error("blob server: {0}")]
    Connect(#[from] ConnectError),
    /// The connection broke within the client's patience, each time it was tried.
    #[error("lost the connection to the blob server: {0}")]
    Lost(#[from] io::Error),
    /// What answers there is not a blob server of this release.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
}

impl BlobError {
    /// Whether the same call may succeed in a moment.
    fn may_pass(&self) -> bool {
        match self {
            Self::Connect(error) => !matches!(error, ConnectError::InvalidName { .. }),
            error => matches!(error, Self::Lost(_)),
        }
    }
}

async fn hashed(data: Bytes) -> Result<(Digest, Bytes), BlobError> {
    tokio::task::spawn_blocking(move || (store::digest(&data), data))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::Interrupted).into())
}

const NO_BLOB: Digest = Digest::from_bytes([0; 32]);
