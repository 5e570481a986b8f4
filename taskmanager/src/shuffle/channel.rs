//! The two ends of a channel as tasks see them, wherever the other end is.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use proto::frame::{Chunks, PayloadKind};
use tokio::task::coop::consume_budget;

use super::error::ChannelError;
use super::local::{LocalReceiver, LocalSender};
use super::peer::RemotePeer;
use super::session::{ReceiverKey, SenderKey};

/// The sending end of a channel. Dropped before [`Self::finish`], it aborts the channel: the receiver gets
/// [`ChannelError::SenderAborted`] after what was sent.
#[derive(Debug)]
pub struct ChannelSender {
    end: SenderEnd,
    max_payload_bytes: usize,
}

/// The receiving end of a channel. Dropped before the end, it closes the channel: the sender gets
/// [`ChannelError::ReceiverClosed`].
#[derive(Debug)]
pub struct ChannelReceiver {
    end: ReceiverEnd,
}

#[derive(Debug)]
enum SenderEnd {
    Local(LocalSender),
    Remote(RemoteSender),
}

#[derive(Debug)]
enum ReceiverEnd {
    Local(LocalReceiver),
    Remote(RemoteReceiver),
}

#[derive(Debug)]
struct RemoteSender {
    peer: Arc<RemotePeer>,
    key: SenderKey,
}

#[derive(Debug)]
struct RemoteReceiver {
    peer: Arc<RemotePeer>,
    key: ReceiverKey,
}

impl ChannelSender {
    pub(super) fn local(end: LocalSender, max_payload_bytes: usize) -> Self {
        Self { end: SenderEnd::Local(end), max_payload_bytes }
    }

    pub(super) fn remote(peer: Arc<RemotePeer>, key: SenderKey, max_payload_bytes: usize) -> Self {
        Self { end: SenderEnd::Remote(RemoteSender { peer, key }), max_payload_bytes }
    }

    /// Whether the other end is in this process.
    pub fn is_local(&self) -> bool {
        matches!(self.end, SenderEnd::Local(_))
    }

    /// Sends one payload, the concatenation of `chunks`; waits for credit. The receiver gets it in one piece. Up to a
    /// window (`ShuffleOptions::window_bytes`) of payloads is under way when this returns. Cancel safe: a dropped
    /// future has not sent.
    ///
    /// # Errors
    /// The channel has failed, or the payload is larger than `ShuffleOptions::max_payload_bytes`.
    pub async fn send(&mut self, kind: PayloadKind, chunks: Vec<Bytes>) -> Result<(), ChannelError> {
        let length = chunks.iter().map(Bytes::len).sum();
        if length > self.max_payload_bytes {
            return Err(ChannelError::TooLarge { length, max: self.max_payload_bytes });
        }
        // A channel with credit is always ready: its task must let others run all the same.
        consume_budget().await;
        match &mut self.end {
            SenderEnd::Local(end) => end.send(kind, chunks).await,
            SenderEnd::Remote(RemoteSender { peer, key }) => {
                let mut unsent = Some(Chunks::from(chunks));
                poll_fn(|cx| peer.poll_send(*key, kind, &mut unsent, cx)).await
            }
        }
    }

    /// Ends the channel. Returns when the receiver's process has received everything, whether read or not.
    ///
    /// # Errors
    /// The channel has failed; what was sent may not have arrived.
    pub async fn finish(self) -> Result<(), ChannelError> {
        match self.end {
            SenderEnd::Local(end) => end.finish().await,
            SenderEnd::Remote(end) => {
                end.peer.finish(end.key);
                poll_fn(|cx| end.peer.poll_finish(end.key, cx)).await
            }
        }
    }
}

impl ChannelReceiver {
    pub(super) fn local(end: LocalReceiver) -> Self {
        Self { end: ReceiverEnd::Local(end) }
    }

    pub(super) fn remote(peer: Arc<RemotePeer>, key: ReceiverKey) -> Self {
        Self { end: ReceiverEnd::Remote(RemoteReceiver { peer, key }) }
    }

    /// The next payload; `None` after the end. Reading gives the sender new credit. Cancel safe.
    ///
    /// # Errors
    /// The channel has failed. Payloads that arrived in order before are delivered first.
    pub async fn recv(&mut self) -> Result<Option<(PayloadKind, Bytes)>, ChannelError> {
        consume_budget().await;
        match &mut self.end {
            ReceiverEnd::Local(end) => end.recv().await,
            ReceiverEnd::Remote(RemoteReceiver { peer, key }) => poll_fn(|cx| peer.poll_read(*key, cx)).await,
        }
    }
}

impl Drop for RemoteSender {
    fn drop(&mut self) {
        self.peer.close_sender(self.key);
    }
}

impl Drop for RemoteReceiver {
    fn drop(&mut self) {
        self.peer.close_receiver(self.key);
    }
}
