//! The serving side: reads requests from connections that tls-common accepted, and runs them against the [`Store`].
//!
//! A connection carries one request at a time. When it is told to drain (a new certificate, shutdown) the request in
//! progress is finished first; a peer that has just connected and has not asked yet still gets its first answer,
//! unless it is no longer trusted.

use std::{io, pin::pin, sync::Arc, time::Duration};

use proto::blob::{ALPN, Digest, Greeting, MESSAGE_BYTES_MAX, ProtocolError, Refusal, Request, Response};
use thiserror::Error;
use tls_common::{Connection, ConnectionInfo, DrainReason, Endpoint, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    store::{Store, StoreError},
    transfer::{CLOSE_TIMEOUT, STALL_TIMEOUT, TRANSFER_TIMEOUT, flush, read_chunk, within, write_chunks},
};

/// How long a peer that says nothing is waited for.
#[derive(Debug, Clone, Copy)]
pub struct SilenceLimits {
    /// A connection on which nothing is asked for this long is closed. Default 60 s.
    pub idle: Duration,
    /// So is one on which a request or a body has begun and does not go on. Default 10 s.
    pub stall: Duration,
}

impl Default for SilenceLimits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), stall: STALL_TIMEOUT }
    }
}

/// A connection that is to be left before anything was asked on it stays this long: its first request is on the way.
pub const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(2);

/// Serves the store on the endpoint until `shutdown`, then lets the requests in progress finish (within the
/// endpoint's drain grace). How many connections there may be, and how long a handshake may take, is the endpoint's
/// business.
pub async fn serve(
    listener: Listener,
    endpoint: Endpoint,
    store: Arc<Store>,
    limits: SilenceLimits,
    shutdown: CancellationToken,
) {
    let acceptor = endpoint.acceptor(&[ALPN]);
    let handler = move |connection: Connection| {
        let session = Session {
            info: connection.info().clone(),
            connection,
            endpoint: endpoint.clone(),
            store: Arc::clone(&store),
            limits,
        };
        session.run()
    };
    tls_common::serve(listener, acceptor, shutdown, handler).await;
}

/// One connection.
struct Session {
    connection: Connection,
    info: ConnectionInfo,
    endpoint: Endpoint,
    store: Arc<Store>,
    limits: SilenceLimits,
}

impl Session {
    async fn run(mut self) {
        match self.converse().await {
            Ok(()) => {}
            Err(error) => debug!(peer = %self.info.peer_addr(), %error, "connection ended"),
        }
        // Says goodbye properly if the peer still listens; if not, nothing is lost.
        let _ = timeout(CLOSE_TIMEOUT, self.connection.shutdown()).await;
    }

    async fn converse(&mut self) -> Result<(), SessionError> {
        write_chunks(&mut self.connection, &Greeting.encode()).await?;
        flush(&mut self.connection).await?;
        let mut answered_any = false;
        while let Some(bytes) = self.next_request(answered_any).await? {
            let answer = async {
                match Request::parse(&bytes) {
                    Ok(request) => self.answer(request).await,
                    Err(error @ ProtocolError::BlobTooLarge(_)) => {
                        self.refuse(Refusal::TooLarge, &error.to_string()).await
                    }
                    Err(error) => {
                        self.refuse(Refusal::BadRequest, &error.to_string()).await?;
                        Err(error.into())
                    }
                }
            };
            timeout(TRANSFER_TIMEOUT, answer).await.map_err(|_| SessionError::TooSlow)??;
            answered_any = true;
        }
        Ok(())
    }

    /// `None` when there will be no other request: the peer closed, was silent for too long, or the connection is to
    /// be left.
    async fn next_request(&mut self, answered_any: bool) -> Result<Option<[u8; Request::LEN]>, SessionError> {
        if self.info.is_untrusted() {
            return Ok(None); // whatever it has sent ahead
        }
        let (connection, limits) = (&mut self.connection, self.limits);
        let mut request = pin!(async move {
            let mut bytes = [0; Request::LEN];
            let Ok(first) = timeout(limits.idle, connection.read(&mut bytes)).await else {
                return Ok(None);
            };
            match first? {
                0 => Ok(None),
                length => {
                    let rest = bytes.get_mut(length..).unwrap_or_default();
                    within(limits.stall, "the rest of a request", connection.read_exact(rest)).await?;
                    Ok(Some(bytes))
                }
            }
        });
        tokio::select! {
            biased;
            request = &mut request => request,
            reason = self.info.draining() => {
                debug!(peer = %self.info.peer_addr(), %reason, "leaving the connection");
                match reason {
                    DrainReason::Untrusted(_) => Ok(None),
                    _ if answered_any => Ok(None),
                    _ => tokio::select! {
                        request = timeout(FIRST_REQUEST_GRACE, request) => request.unwrap_or(Ok(None)),
                        _ = self.info.untrusted() => Ok(None),
                    },
                }
            }
        }
    }

    /// Does what was asked. What goes wrong on our disk is told to the peer; the connection stays usable.
    async fn answer(&mut self, request: Request) -> Result<(), SessionError> {
        let outcome = match request {
            Request::Put { digest, length } => self.put(digest, length).await,
            Request::Get { digest } => self.get(digest).await,
            Request::Delete { digest } => self.delete(digest).await,
            Request::Status => self.status().await,
        };
        let Err(SessionError::Store(error)) = outcome else {
            return outcome;
        };
        let refusal = refusal(&error);
        if matches!(refusal, Refusal::Failed | Refusal::Corrupt) {
            warn!(peer = %self.info.peer_addr(), %error, "cannot answer a request");
        }
        self.refuse(refusal, &error.to_string()).await
    }

    async fn put(&mut self, digest: Digest, length: u64) -> Result<(), SessionError> {
        if self.on_disk(move |store| store.holds(&digest)).await? {
            return self.respond(Response::Stored, b"").await;
        }
        let mut upload = Ok(self.on_disk(move |store| store.create(digest)).await?);
        self.respond(Response::Send, b"").await?;
        let mut left = length;
        while left > 0 {
            let chunk = read_chunk(&mut self.connection, &mut left, self.limits.stall).await?;
            // After a failure (disk full) the rest is read and dropped: the peer listens again only once it has sent
            // all.
            upload = match upload {
                Ok(mut upload) => blocking(move || upload.write(&chunk).map(|()| upload)).await,
                failed => failed,
            };
        }
        let upload = upload?;
        blocking(move || upload.finish()).await?;
        info!(blob = %digest, bytes = length, peer = %self.info.peer_addr(), "stored");
        self.respond(Response::Stored, b"").await
    }

    async fn get(&mut self, digest: Digest) -> Result<(), SessionError> {
        let (file, length) = self.on_disk(move |store| store.read(&digest)).await?;
        let mut file = tokio::fs::File::from_std(file);
        write_chunks(&mut self.connection, &Response::Blob { length }.encode()).await?;
        let mut left = length;
        while left > 0 {
            // Fails if the file was cut short since it was checked: the length is promised, so the connection must
            // break.
            let chunk = read_chunk(&mut file, &mut left, STALL_TIMEOUT).await?;
            write_chunks(&mut self.connection, &chunk).await?;
        }
        Ok(flush(&mut self.connection).await?)
    }

    async fn delete(&mut self, digest: Digest) -> Result<(), SessionError> {
        self.on_disk(move |store| store.delete(&digest)).await?;
        info!(blob = %digest, peer = %self.info.peer_addr(), "deleted");
        self.respond(Response::Deleted, b"").await
    }

    async fn status(&mut self) -> Result<(), SessionError> {
        let report = serde_json::to_vec(&[self.endpoint.status()])?;
        let length = report.len() as u64;
        self.respond(Response::Report { length }, &report).await
    }

    async fn refuse(&mut self, refusal: Refusal, reason: &str) -> Result<(), SessionError> {
        let limit = usize::try_from(MESSAGE_BYTES_MAX).unwrap_or(usize::MAX);
        let reason = &reason[..reason.floor_char_boundary(limit)];
        let length = reason.len() as u64;
        self.respond(Response::Refused { refusal, length }, reason.as_bytes()).await
    }

    async fn respond(&mut self, response: Response, body: &[u8]) -> Result<(), SessionError> {
        write_chunks(&mut self.connection, &response.encode()).await?;
        write_chunks(&mut self.connection, body).await?;
        Ok(flush(&mut self.connection).await?)
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.store);
        blocking(move || work(&store)).await
    }
}

/// Runs disk work and hashing where it may take its time.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Stopping))
}

fn refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::NotFound(_) => Refusal::NotFound,
        StoreError::Corrupt(_) => Refusal::Corrupt,
        StoreError::Mismatch { .. } => Refusal::Mismatch,
        StoreError::InUse(_) | StoreError::Io { .. } | StoreError::Stopping => Refusal::Failed,
    }
}

/// Why a connection ended before the peer closed it.
#[derive(Debug, Error)]
enum SessionError {
    /// The only one after which the connection goes on.
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("a request took longer than {} s", TRANSFER_TIMEOUT.as_secs())]
    TooSlow,
    #[error("cannot write the status: {0}")]
    Status(#[from] serde_json::Error),
}
