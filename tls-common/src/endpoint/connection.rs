//! [`Connection`]: a TLS or plain stream that knows its generation and can be told to drain.

use super::EndpointInner;
use super::audit::Negotiated;
use crate::clock;
use rustls::pki_types::{CertificateDer, ServerName};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A stream under one generation. TLS or, where TLS is off, plain TCP.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    info: ConnectionInfo,
    // One waker each: the two halves of a split connection are polled by different tasks.
    read_end: Ended,
    write_end: Ended,
    first_read_done: bool,
    /// Bytes may wait in the TLS session: a flush sends them.
    unflushed: bool,
    /// Set once the peer lets a shutdown wait.
    closing: Option<Pin<Box<Sleep>>>,
    live: LiveGuard,
}

/// What there is to know about a connection; outlives it.
#[derive(Clone)]
pub struct ConnectionInfo {
    pub(super) state: Arc<ConnectionState>,
}

/// Who the peer proved to be.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    chain: Arc<Vec<CertificateDer<'static>>>,
}

/// Why a connection should finish and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainReason {
    /// A newer generation is there and the policy is to move everything to it.
    Renewed,
    /// The peer's certificate would not be accepted any more; the sentence says why.
    Untrusted(String),
    /// The connection reached its own or its peer certificate's end of life.
    MaxAge,
    /// This process is stopping.
    Shutdown,
}

pub(super) enum Io {
    Plain(BufReader<TcpStream>),
    Tls(Box<TlsStream<BufReader<TcpStream>>>),
}

pub(super) struct ConnectionState {
    pub(super) id: u64,
    pub(super) peer_addr: SocketAddr,
    pub(super) generation: u64,
    pub(super) peer: Option<PeerIdentity>,
    /// The name we dialled; `None` on the accepting side.
    pub(super) dialled: Option<ServerName<'static>>,
    pub(super) alpn: Option<Vec<u8>>,
    /// `None` for plain TCP.
    pub(super) negotiated: Option<Negotiated>,
    /// When this connection must begin to drain whatever happens.
    pub(super) deadline: Option<Instant>,
    drain: CancellationToken,
    pub(super) drain_reason: OnceLock<(DrainReason, Instant)>,
    kill: CancellationToken,
    last_write_ms: AtomicU64,
}

/// Takes the connection out of its endpoint's list when it is dropped.
#[derive(Debug)]
struct LiveGuard {
    endpoint: Arc<EndpointInner>,
    id: u64,
}

struct Ended(Pin<Box<WaitForCancellationFutureOwned>>);

pub(super) struct NewConnection {
    pub(super) io: Io,
    pub(super) peer_addr: SocketAddr,
    pub(super) generation: u64,
    pub(super) dialled: Option<ServerName<'static>>,
    pub(super) deadline: Option<Instant>,
}

impl Connection {
    pub(super) fn new(endpoint: &Arc<EndpointInner>, new: NewConnection) -> Self {
        let (peer, alpn, negotiated) = match &new.io {
            Io::Plain(_) => (None, None, None),
            Io::Tls(tls) => {
                let (_, session) = tls.get_ref();
                let peer = session.peer_certificates().map(|chain| PeerIdentity {
                    chain: Arc::new(chain.iter().map(|der| der.clone().into_owned()).collect()),
                });
                (peer, session.alpn_protocol().map(<[u8]>::to_vec), Some(Negotiated::of(session)))
            }
        };
        let kill = CancellationToken::new();
        let state = Arc::new(ConnectionState {
            id: endpoint.next_id(),
            peer_addr: new.peer_addr,
            generation: new.generation,
            peer,
            dialled: new.dialled,
            alpn,
            negotiated,
            deadline: new.deadline,
            drain: CancellationToken::new(),
            drain_reason: OnceLock::new(),
            kill: kill.clone(),
            last_write_ms: AtomicU64::new(0),
        });
        if state.negotiated.is_some() {
            endpoint.note_handshake(&state);
        }
        endpoint.enlist(&state);
        Self {
            io: new.io,
            read_end: Ended::new(kill.clone()),
            write_end: Ended::new(kill),
            first_read_done: false,
            unflushed: false,
            closing: None,
            live: LiveGuard { endpoint: Arc::clone(endpoint), id: state.id },
            info: ConnectionInfo { state },
        }
    }

    /// What is known about this connection; cheap to clone and to keep.
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        match &self.io {
            Io::Plain(_) => false,
            Io::Tls(tls) => tls.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }

    fn note_bytes_sent(&self) {
        self.info.state.last_write_ms.store(clock::monotonic_ms(), Ordering::Relaxed);
    }

    /// A TLS 1.3 client hears only at its first read that the server refused its certificate.
    fn note_first_read(&mut self, result: &io::Result<()>) {
        if std::mem::replace(&mut self.first_read_done, true) || self.info.state.dialled.is_none() {
            return;
        }
        if let Err(error) = result
            && error.get_ref().is_some_and(|inner| {
                matches!(inner.downcast_ref::<rustls::Error>(), Some(rustls::Error::AlertReceived(_)))
            })
        {
            self.live.endpoint.note_late_refusal(&self.info.state, error);
        }
    }
}

impl ConnectionInfo {
    /// Unique within its endpoint and process.
    pub fn id(&self) -> u64 {
        self.state.id
    }

    /// The other end.
    pub fn peer_addr(&self) -> SocketAddr {
        self.state.peer_addr
    }

    /// The generation this connection was made under; 0 for plain TCP.
    pub fn generation(&self) -> u64 {
        self.state.generation
    }

    /// Who the peer proved to be; `None` without a certificate.
    pub fn peer(&self) -> Option<&PeerIdentity> {
        self.state.peer.as_ref()
    }

    /// The protocol that ALPN settled on.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.state.alpn.as_deref()
    }

    /// Resolves once the connection should finish what it does and go. Its IO fails `drain_grace` later.
    pub async fn draining(&self) -> DrainReason {
        self.state.drain.cancelled().await;
        self.state.drain_reason.get().map_or(DrainReason::Shutdown, |(reason, _)| reason.clone())
    }

    /// Whether [`Self::draining`] has resolved.
    pub fn is_draining(&self) -> bool {
        self.state.drain.is_cancelled()
    }
}

impl fmt::Debug for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionInfo")
            .field("id", &self.state.id)
            .field("peer", &self.state.peer_addr)
            .field("generation", &self.state.generation)
            .field("draining", &self.is_draining())
            .finish()
    }
}

impl PeerIdentity {
    /// The peer's certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// SHA-256 of the leaf, lower-case hex.
    pub fn fingerprint(&self) -> Option<String> {
        self.chain.first().map(|leaf| crate::context::hex(crate::Fingerprint::sha256_of(leaf).as_bytes()))
    }
}

impl DrainReason {
    /// For machines; never changes its meaning: `renewed`, `untrusted`, `max_age`, `shutdown`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Untrusted(_) => "untrusted",
            Self::MaxAge => "max_age",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for DrainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renewed => f.write_str("a newer certificate generation is in use"),
            Self::Untrusted(why) => write!(f, "the peer is not trusted any more: {why}"),
            Self::MaxAge => f.write_str("the connection or the peer's certificate reached its end of life"),
            Self::Shutdown => f.write_str("this process is stopping"),
        }
    }
}

impl fmt::Debug for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionState")
            .field("id", &self.id)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl ConnectionState {
    /// The first reason stays; returns whether it was this one.
    pub(super) fn begin_drain(&self, reason: DrainReason, kill_at: Instant) -> bool {
        let first = self.drain_reason.set((reason, kill_at)).is_ok();
        self.drain.cancel();
        first
    }

    pub(super) fn kill_at(&self) -> Option<Instant> {
        self.drain_reason.get().map(|(_, kill_at)| *kill_at)
    }

    pub(super) fn kill(&self) -> bool {
        let first = !self.kill.is_cancelled();
        self.kill.cancel();
        first
    }

    pub(super) fn is_killed(&self) -> bool {
        self.kill.is_cancelled()
    }

    /// Monotonic milliseconds of the last byte that left; 0 = none.
    pub(super) fn last_write_ms(&self) -> u64 {
        self.last_write_ms.load(Ordering::Relaxed)
    }
}

impl Ended {
    fn new(kill: CancellationToken) -> Self {
        Self(Box::pin(kill.cancelled_owned()))
    }

    /// `Err` once the connection has been killed; otherwise registers for it.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.0.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "drained: its time to finish is over"))
            }
            Poll::Pending => Ok(()),
        }
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ended")
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Tls(_) => "Tls",
        })
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.endpoint.delist(self.id);
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.read_end.check(cx)?;
        let result = ready!(match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        });
        if !this.first_read_done {
            this.note_first_read(&result);
        }
        Poll::Ready(result)
    }
}

impl AsyncBufRead for Connection {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        this.read_end.check(cx)?;
        if !this.first_read_done {
            let result = match &mut this.io {
                Io::Plain(io) => ready!(Pin::new(io).poll_fill_buf(cx)).map(drop),
                Io::Tls(io) => ready!(Pin::new(io.as_mut()).poll_fill_buf(cx)).map(drop),
            };
            this.note_first_read(&result);
            result?;
        }
        match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_fill_buf(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_fill_buf(cx),
        }
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        match &mut self.get_mut().io {
            Io::Plain(io) => Pin::new(io).consume(amount),
            Io::Tls(io) => Pin::new(io.as_mut()).consume(amount),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.write_end.check(cx)?;
        let written = ready!(match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        });
        if written.is_ok() {
            this.unflushed = true;
            this.note_bytes_sent();
        }
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.write_end.check(cx)?;
        let written = ready!(match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
        });
        if written.is_ok() {
            this.unflushed = true;
            this.note_bytes_sent();
        }
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.write_end.check(cx)?;
        let flushed = match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        };
        if this.unflushed {
            this.note_bytes_sent();
            this.unflushed = flushed.is_pending();
        }
        flushed
    }

    /// Sends `close_notify` and ends the write side, within the endpoint's `close_notify_timeout`.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.write_end.check(cx)?;
        let closed = match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        };
        if closed.is_pending() {
            let limit = this.live.endpoint.limits.close_notify_timeout;
            let patience = this.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            ready!(patience.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer does not take our close_notify",
            )));
        }
        closed
    }
}
