//! How a task talks to its neighbours: channels of opaque payloads, provided by the host.
//!
//! The engine never opens a socket. A TaskManager hands [`crate::run_task`] one [`OutputChannel`]
//! per downstream subtask and one [`InputChannel`] per upstream subtask of each edge.

use async_trait::async_trait;
use bytes::Bytes;

use crate::exchange::compression::Compression;

/// What a payload is, so that a transport can treat events first-class without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Rows.
    Data,
    /// A watermark or the end of the input. A few bytes; never overtakes data.
    Event,
}

/// The sending half of a channel: reliable, in order, with back-pressure.
#[async_trait]
pub trait OutputChannel: Send {
    /// Sends one payload given as chunks (their concatenation is the payload). Waits for as long as
    /// the receiver has no room. Dropping the future abandons the channel: it is used only to
    /// cancel.
    async fn send(&mut self, kind: ChannelKind, chunks: Vec<Bytes>) -> Result<(), ChannelFailure>;

    /// Whether the other end is in this process: then compression would be wasted.
    fn is_local(&self) -> bool;

    /// What rows are compressed with if their script does not say.
    fn default_compression(&self) -> Compression;

    /// Ends the channel after everything sent has arrived.
    async fn finish(self: Box<Self>) -> Result<(), ChannelFailure>;
}

/// The receiving half of a channel.
#[async_trait]
pub trait InputChannel: Send {
    /// The next payload, or `None` after the sender has finished. Need not be cancel safe.
    async fn recv(&mut self) -> Result<Option<(ChannelKind, Bytes)>, ChannelFailure>;
}

/// The transport lost the channel; its reason, as text, because the engine cannot act on it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ChannelFailure(pub String);
