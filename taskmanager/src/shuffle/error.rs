//! What can go wrong with a channel, and whose fault it is.

use std::time::Duration;

use proto::frame::ChannelId;
use proto::ids::TaskManagerId;

/// A channel cannot be used, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The caller registered the same end of a channel twice.
    #[error("channel {0} is registered already")]
    AlreadyRegistered(ChannelId),
    /// The caller named this very TaskManager as a remote peer.
    #[error("channel {0} leads to this TaskManager itself; use a local channel")]
    RemoteIsSelf(ChannelId),
    /// The caller's payload is larger than peers accept.
    #[error("payload of {length} bytes; at most {max} are allowed")]
    TooLarge {
        /// Length of the payload in bytes.
        length: usize,
        /// `ShuffleOptions::max_payload_bytes`.
        max: usize,
    },
    /// A bound of this process has been reached.
    #[error("too many channels to TaskManager {peer} (at most {max})")]
    TooManyChannels {
        /// The peer with too many.
        peer: TaskManagerId,
        /// `ShuffleOptions::max_channels`.
        max: usize,
    },
    /// The peer is gone, or lost what it knew of the channel.
    #[error("TaskManager {peer} is lost: {cause}")]
    PeerLost {
        /// Who is gone.
        peer: TaskManagerId,
        /// The last that was seen of it.
        cause: String,
    },
    /// The other end was not registered within `ShuffleOptions::open_timeout`.
    #[error("the other end of the channel at {peer} did not appear within {waited:?}{}", with(.cause))]
    NotOpened {
        /// Where the other end should be; `this TaskManager` for a local channel.
        peer: String,
        /// How long this end waited.
        waited: Duration,
        /// Why the peer could not be reached, if that is the reason.
        cause: Option<String>,
    },
    /// The receiver was dropped before the end of the channel: its task failed or was cancelled.
    #[error("the receiver has closed the channel")]
    ReceiverClosed,
    /// The sender was dropped without finishing: its task failed or was cancelled.
    #[error("the sender has given up the channel before its end")]
    SenderAborted,
    /// This process is stopping.
    #[error("the data plane is shutting down")]
    ShutDown,
}

fn with(cause: &Option<String>) -> String {
    cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// The peer broke the protocol: its fault, and the end of the connection it did it on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("frame for channel {0}, which was never opened")]
    UnknownChannel(u32),
    #[error("channel number {0} or its id is in use for another channel")]
    ChannelReused(u32),
    #[error("channel {channel}: more than the credit of {limit} bytes")]
    Credit { channel: u32, limit: u64 },
    #[error("channel {channel}: sequence {sequence} is not possible, {next} is the next")]
    Sequence { channel: u32, sequence: u64, next: u64 },
    #[error("channel {channel}: {next} acknowledged, but only {sent} sent")]
    Acknowledgement { channel: u32, next: u64, sent: u64 },
    #[error("{0} out of turn")]
    OutOfTurn(&'static str),
}
