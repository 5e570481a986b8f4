//! [`Connection`]: a TLS or plain stream that knows its generation and can be told to drain.

use super::audit::Negotiated;
use super::departure::End;
use super::info::{ConnectionInfo, Handshake, LiveGuard};
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::TlsStream;

/// A stream under one generation. TLS or, where TLS is off, plain TCP.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    first_read_done: bool,
    /// Bytes may wait in the TLS session: a flush sends them.
    unflushed: bool,
    /// Set once the peer lets a shutdown wait.
    closing: Option<Pin<Box<Sleep>>>,
    live: LiveGuard,
}

pub(super) enum Io {
    Plain(BufReader<TcpStream>),
    Tls(Box<TlsStream<BufReader<TcpStream>>>),
}

impl Connection {
    pub(super) fn new(io: Io, live: LiveGuard) -> Self {
        Self { io, first_read_done: false, unflushed: false, closing: None, live }
    }

    /// What is known about this connection; cheap to clone and to keep.
    pub fn info(&self) -> &ConnectionInfo {
        &self.live.info
    }

    /// Whether the handshake resumed an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.live.info.is_resumed()
    }

    /// `Err` once the connection has been cut; otherwise registers for it.
    fn check(&self, end: End, cx: &Context<'_>) -> io::Result<()> {
        match self.live.info.state.departure.poll_cut(end, cx) {
            Poll::Ready(()) => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "drained: its time to finish is over"))
            }
            Poll::Pending => Ok(()),
        }
    }

    /// A TLS 1.3 client hears only at its first read that the server refused its certificate.
    fn note_first_read(&mut self, result: &io::Result<()>) {
        if std::mem::replace(&mut self.first_read_done, true) || self.live.info.state.dialled.is_none() {
            return;
        }
        if let Err(error) = result
            && error.get_ref().is_some_and(|inner| {
                matches!(inner.downcast_ref::<rustls::Error>(), Some(rustls::Error::AlertReceived(_)))
            })
        {
            self.live.endpoint.note_late_refusal(&self.live.info.state, error);
        }
    }
}

impl<'a> Handshake<'a> {
    pub(super) fn over_tcp(
        stream: &'a TlsStream<BufReader<TcpStream>>,
        peer_addr: SocketAddr,
        dialled: Option<ServerName<'static>>,
    ) -> Self {
        let (_, session) = stream.get_ref();
        Self {
            peer_addr,
            chain: session.peer_certificates(),
            alpn: session.alpn_protocol(),
            negotiated: Some(Negotiated::of(session)),
            dialled,
        }
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

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(End::Read, cx)?;
        let result = ready!(match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        });
        if !this.first_read_done {
            this.note_first_read(&result);
        }
        this.live.info.state.note_bytes_received();
        Poll::Ready(result)
    }
}

impl AsyncBufRead for Connection {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        this.check(End::Read, cx)?;
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
        let this = self.get_mut();
        if amount > 0 {
            this.live.info.state.note_bytes_received();
        }
        match &mut this.io {
            Io::Plain(io) => Pin::new(io).consume(amount),
            Io::Tls(io) => Pin::new(io.as_mut()).consume(amount),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(End::Write, cx)?;
        let written = ready!(match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        });
        if written.is_ok() {
            this.unflushed = true;
            this.live.info.state.note_bytes_sent();
        }
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(End::Write, cx)?;
        let written = ready!(match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_write_vectored(cx, bufs),
        });
        if written.is_ok() {
            this.unflushed = true;
            this.live.info.state.note_bytes_sent();
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
        this.check(End::Write, cx)?;
        let flushed = match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        };
        if this.unflushed {
            this.live.info.state.note_bytes_sent();
            this.unflushed = flushed.is_pending();
        }
        flushed
    }

    /// Sends `close_notify` and ends the write side, within the endpoint's `close_notify_timeout`.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(End::Write, cx)?;
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
