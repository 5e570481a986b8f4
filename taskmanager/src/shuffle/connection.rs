//! One connection that carries a session: bytes to frames to the session and back, in one task.
//!
//! Reading and writing share the task because they share the TLS state: two tasks would only take turns at a lock. What
//! matters for throughput is how many bytes a system call moves, so frames are gathered up to 256 KiB before they are
//! written, and read through the buffer beneath TLS straight into the memory they stay in.

mod outbox;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use proto::frame::{Chunks, Decoder, ErrorCode, Frame};
use tls_common::DrainReason;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::greeting;
use super::peer::RemotePeer;
use super::session::{LinkId, Next};
use super::wire::Wire;
use outbox::{Outbox, SLICES};

/// Frames are taken from the session while fewer bytes than this wait to be written.
const WRITE_BYTES: usize = 256 << 10;

/// Bytes read before the session gets the frames in them.
const READ_BYTES: usize = 256 << 10;

/// A connection whose peer is not trusted any more stays this long, so that a peer with a newer certificate can move to
/// a new one without a gap.
const UNTRUSTED_GRACE: Duration = Duration::from_millis(300);

/// A connection whose peer has said hello.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Wire,
    /// Has read the hello and nothing beyond it.
    pub(super) decoder: Decoder,
    pub(super) peer: Arc<RemotePeer>,
    pub(super) id: LinkId,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed in order")]
    InOrder,
    #[error("the peer closed the connection")]
    ByPeer,
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error("given up by the session")]
    GivenUp,
    #[error("the peer broke the protocol: {0}")]
    Violation(String),
    #[error("the peer says ({0:?}): {1}")]
    Dismissed(ErrorCode, String),
    #[error("this process is shutting down")]
    ShutDown,
    #[error("the peer is not trusted any more: {0}")]
    Untrusted(String),
}

struct Driver {
    link: Link,
    /// Decoded, and not yet handed to the session.
    received: Vec<Frame>,
    /// Taken from the session; empty between polls, here to keep its memory.
    taken: Vec<Frame<Chunks>>,
    outbox: Outbox,
}

impl Link {
    /// Carries the session's frames until the connection has served its time, then closes it. Closing takes up to
    /// `close_timeout`.
    pub(super) async fn run(self, shutdown: CancellationToken, close_timeout: Duration) {
        let (peer, id, info) = (Arc::clone(&self.peer), self.id, self.connection.info().clone());
        let mut driver = Driver { link: self, received: Vec::new(), taken: Vec::new(), outbox: Outbox::default() };
        let leave = async {
            // That this process stops is said below, and to the peer.
            if info.draining().await != DrainReason::Shutdown {
                peer.leave(id);
            }
            std::future::pending().await
        };
        let untrusted = async {
            let why = info.untrusted().await;
            sleep(UNTRUSTED_GRACE).await;
            End::Untrusted(why)
        };
        let end = tokio::select! {
            end = poll_fn(|cx| driver.poll(cx)) => end,
            () = shutdown.cancelled() => End::ShutDown,
            end = untrusted => end,
            never = leave => never,
        };
        tracing::debug!(peer = %peer.id(), connection = info.id(), link = id.0, %end, "data connection ends");
        if let End::Violation(violation) = &end {
            let (address, fingerprint) = (info.peer_addr(), info.peer().and_then(|identity| identity.fingerprint()));
            tracing::warn!(target: "audit", peer = %peer.id(), %address, fingerprint, violation, "cut off a data connection");
        }
        let farewell = match &end {
            End::InOrder => Some(None),
            End::Violation(violation) => Some(Some((ErrorCode::Violation, violation.clone()))),
            End::ShutDown => {
                // Acknowledgements that are due still go out: a sender may wait for the end of a channel that is
                // complete.
                peer.transmit(id, 0, &mut driver.taken, None);
                Some(Some((ErrorCode::ShuttingDown, end.to_string())))
            }
            End::ByPeer | End::Broken(_) | End::GivenUp | End::Dismissed(..) | End::Untrusted(_) => None,
        };
        if let End::Dismissed(code, _) = &end {
            peer.dismissed(*code, &end.to_string());
        }
        peer.detach(id, &end.to_string());
        if let Some(error) = farewell
            && timeout(close_timeout, driver.close(error)).await.is_err()
        {
            tracing::debug!(peer = %peer.id(), connection = info.id(), "closing took too long");
        }
    }
}

impl Driver {
    /// Reads and writes until neither goes on.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let read = match self.poll_read(cx) {
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Ready(Ok(())) => true,
                Poll::Pending => false,
            };
            if let Poll::Ready(end) = self.poll_write(cx) {
                return Poll::Ready(end);
            }
            if !read {
                return Poll::Pending;
            }
        }
    }

    /// Hands what there is to read, up to [`READ_BYTES`], to the session. Pending when the connection has nothing more.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut bytes = 0;
        let mut ended = None;
        while bytes < READ_BYTES && ended.is_none() {
            match self.poll_decode(cx) {
                Poll::Ready(Ok(count)) => bytes += count,
                Poll::Ready(Err(end)) => ended = Some(end),
                Poll::Pending => break,
            }
        }
        // What came before an end counts: it may be the acknowledgement somebody waits for.
        if (bytes > 0 || !self.received.is_empty())
            && let Err(violation) = self.link.peer.receive(self.link.id, &mut self.received)
        {
            return Poll::Ready(Err(End::Violation(violation.to_string())));
        }
        match ended {
            Some(end) => Poll::Ready(Err(end)),
            None if bytes < READ_BYTES => Poll::Pending,
            None => Poll::Ready(Ok(())),
        }
    }

    /// Decodes what one read gives; returns its length.
    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, End>> {
        let mut connection = Pin::new(&mut self.link.connection);
        let bytes = ready!(connection.as_mut().poll_fill_buf(cx))?;
        if bytes.is_empty() {
            return Poll::Ready(Err(End::ByPeer));
        }
        let count = bytes.len();
        let mut rest = bytes;
        while let Some(frame) =
            self.link.decoder.decode(&mut rest).map_err(|error| End::Violation(error.to_string()))?
        {
            match frame {
                Frame::Error { code, message } => return Poll::Ready(Err(End::Dismissed(code, message))),
                frame => self.received.push(frame),
            }
        }
        connection.consume(count);
        Poll::Ready(Ok(count))
    }

    /// Writes what the session has. Ready only when the connection has come to its end.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        // Asked first: while the socket takes nothing, nothing below is reached.
        if !self.link.peer.is_attached(self.link.id, cx) {
            return Poll::Ready(End::GivenUp);
        }
        let mut next = Next::More;
        loop {
            if next == Next::More && self.outbox.remaining() < WRITE_BYTES / 2 {
                let budget = WRITE_BYTES - self.outbox.remaining();
                next = self.link.peer.transmit(self.link.id, budget, &mut self.taken, Some(cx));
                self.taken.drain(..).for_each(|frame| self.outbox.push(&frame));
            }
            if self.outbox.remaining() > 0 {
                match ready!(self.poll_write_some(cx)) {
                    Ok(count) => self.outbox.advance(count),
                    Err(error) => return Poll::Ready(error.into()),
                }
                continue;
            }
            if let Err(error) = ready!(Pin::new(&mut self.link.connection).poll_flush(cx)) {
                return Poll::Ready(error.into());
            }
            match next {
                Next::More => {}
                Next::Wait => return Poll::Pending,
                Next::Close if self.link.peer.is_attached(self.link.id, cx) => return Poll::Ready(End::InOrder),
                Next::Close => return Poll::Ready(End::GivenUp),
            }
        }
    }

    fn poll_write_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let connection = Pin::new(&mut self.link.connection);
        let mut slices = [IoSlice::new(&[]); SLICES];
        let slices = self.outbox.slices(&mut slices);
        let count = if connection.is_write_vectored() {
            ready!(connection.poll_write_vectored(cx, slices))?
        } else {
            ready!(connection.poll_write(cx, slices.first().map_or(&[], |slice| slice)))?
        };
        Poll::Ready(if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) })
    }

    /// Writes what is left, says why if there is something to say, and waits until the peer has closed, so that nothing
    /// of it is lost to a reset.
    async fn close(mut self, error: Option<(ErrorCode, String)>) {
        self.taken.drain(..).for_each(|frame| self.outbox.push(&frame));
        if let Some((code, message)) = error {
            self.outbox.push(&Frame::Error { code, message });
        }
        let closed: io::Result<()> = async {
            while self.outbox.remaining() > 0 {
                let count = poll_fn(|cx| self.poll_write_some(cx)).await?;
                self.outbox.advance(count);
            }
            greeting::linger(&mut self.link.connection).await
        }
        .await;
        if let Err(error) = closed {
            tracing::trace!(%error, "closing");
        }
    }
}
