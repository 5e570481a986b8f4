//! Frames of the data plane: everything two TaskManagers say to each other on one connection. No IO, no clock, no state
//! of a session.
//!
//! A frame is a fixed little-endian header of 32 bytes and a body, zero-padded to a multiple of 16, so that every body
//! starts 16-aligned in the stream and, decoded, in memory: what Arrow needs to use a received buffer in place.
//!
//! ```text
//!  0        4      5       6       8         12       16          24        32
//!  +--------+------+-------+-------+---------+--------+-----------+---------+------------------+---------+
//!  | length | kind | flags | zero  | channel |  zero  | sequence  |  value  | body, `length` B | padding |
//!  |  u32   |  u8  |  u8   |  u16  |   u32   |  u32   |    u64    |   u64   |                  | 0..15 B |
//!  +--------+------+-------+-------+---------+--------+-----------+---------+------------------+---------+
//! ```
//!
//! | kind | frame | channel | sequence | value | flags | body |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | 1 | [`Hello`] | lane, 16 bits; lanes, 16 bits | connection number | session | 1 = resumed | magic, version, TaskManager id |
//! | 2 | open | yes | | | | channel id, 16 bytes |
//! | 3 | data | yes | yes | | | payload |
//! | 4 | event | yes | yes | | | payload |
//! | 5 | finish | yes | yes | | 1 = aborted | |
//! | 6 | credit | yes | next expected | limit | | |
//! | 7 | stop | yes | | reason | | |
//! | 8 | resume | | | | | |
//! | 9 | goaway | | | | | |
//! | 10 | fin | | | | | |
//! | 11 | fin ack | | | | | |
//! | 12 | ping | | | | | |
//! | 13 | error | | | code | | message, UTF-8 |
//!
//! Fields that a kind does not use are zero; anything else is an error, so that garbage is recognised at its first
//! header. What the frames mean in which order is the business of the session that speaks them. Versions: [`VERSION`]
//! is raised by every change that an older peer would misread; peers of different versions do not talk.

mod decode;
mod encode;
mod header;

use std::sync::Arc;

use bytes::Bytes;

use crate::ids::TaskManagerId;
pub use decode::{Decoder, FrameError};
pub use header::Kind;

/// ALPN name of this protocol on TLS connections.
pub const ALPN: &str = "tidemill-data/1";

/// Version that [`Hello`] carries.
pub const VERSION: u16 = 2;

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 32;

/// Bodies are padded to a multiple of this many bytes.
pub const ALIGNMENT_BYTES: usize = 16;

/// Largest payload of a data or event frame that any [`Decoder`] can be told to accept, in bytes (64 MiB).
pub const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Largest body of a hello, in bytes.
pub const MAX_HELLO_BYTES: usize = 512;

/// Largest message of an error frame, in bytes; longer ones are cut by the encoder.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// What a data or event frame costs in credit beside its payload, in bytes: credit so bounds the number of frames too.
pub const FRAME_CHARGE_BYTES: u64 = 128;

/// A payload as it is sent: pieces of memory shared with whoever made them, put on the wire one after the other.
pub type Chunks = Arc<[Bytes]>;

/// One frame. `B` is the payload: [`Chunks`] on the way out, [`Bytes`] on the way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<B = Bytes> {
    /// First on every connection, from both sides; the accepting side speaks first.
    Hello(Hello),
    /// The sender of a channel announces the number it will use for it.
    Open {
        /// Number chosen by the sender; never used again within a session.
        channel: u32,
        /// Which channel this is, known to both sides beforehand.
        id: ChannelId,
    },
    /// The next payload of a channel.
    Payload {
        /// What it is to the application.
        kind: PayloadKind,
        /// Number from [`Frame::Open`].
        channel: u32,
        /// Position in the channel, counted from 0 over data, event and finish frames.
        sequence: u64,
        /// Opaque bytes.
        body: B,
    },
    /// The end of a channel, sequenced like a payload but free of credit.
    Finish {
        /// Number from [`Frame::Open`].
        channel: u32,
        /// Position in the channel.
        sequence: u64,
        /// The sender gave up: what came is not all.
        aborted: bool,
    },
    /// From the receiver of a channel: acknowledgement and credit. Both only grow, so that a late or doubled one does
    /// no harm.
    Credit {
        /// The *sender's* number of the channel.
        channel: u32,
        /// Everything below this sequence has been received.
        next: u64,
        /// Bytes of credit given since the channel was opened. A frame may start while the bytes charged before it are
        /// below.
        limit: u64,
    },
    /// From the receiver of a channel: it wants no more; the sender answers with an aborted finish.
    Stop {
        /// The *sender's* number of the channel.
        channel: u32,
        /// Why.
        reason: StopReason,
    },
    /// All [`Frame::Credit`]s of this side have been said: on a new connection, the peer may now send what is missing.
    Resume,
    /// Please move to a new connection, this one is going to be closed. Nothing stops until then.
    GoAway,
    /// No more opens, payloads and finishes from this side on this connection.
    Fin,
    /// Everything that came before the peer's [`Frame::Fin`] has been received.
    FinAck,
    /// Still here. Not answered: each side sends its own.
    Ping,
    /// The connection ends, and why.
    Error {
        /// What the peer should make of it.
        code: ErrorCode,
        /// For people.
        message: String,
    },
}

/// Who speaks, and which session the connection is to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`VERSION`] of the speaker.
    pub version: u16,
    /// Who speaks.
    pub task_manager: TaskManagerId,
    /// Which of the sessions of the same two TaskManagers this is, from 0. 0 from the accepting side.
    pub lane: u16,
    /// How many sessions the speaker spreads its channels over: both sides must do it alike.
    pub lanes: u16,
    /// Chosen at random by the dialling side, known to nobody else. 0 from the accepting side.
    pub session: u64,
    /// Counts the connections of a session; the newest is the one to use. 0 from the accepting side.
    pub connection: u64,
    /// The dialling side has had this session with the peer before and must not go on without its state.
    pub resumed: bool,
}

/// Names a channel to both of its ends: unique within a cluster, never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId([u8; 16]);

/// What a payload is to the application. The data plane treats both alike; neither overtakes the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadKind {
    /// Records.
    Data,
    /// A watermark, a barrier, an end.
    Event,
}

/// Why a receiver wants no more of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The receiver was closed.
    Closed,
    /// Nobody at the peer waits for a channel of this id.
    NotRegistered,
    /// The peer has reached a bound.
    TooMany,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The process stops; do not come back.
    ShuttingDown,
    /// The resumed session is not known here: its channels are lost.
    UnknownSession,
    /// Another session of the same peer still has connections here: try again.
    SessionBusy,
    /// The versions do not fit.
    Version,
    /// The peer broke the protocol.
    Violation,
    /// A bound has been reached here: try again.
    TooMany,
    /// The hello names somebody else than expected.
    WrongPeer,
    /// A code of a later version.
    Other(u64),
}

impl ChannelId {
    /// Which of `lanes` sessions carries the channel: the same at both of its ends.
    pub fn lane(&self, lanes: u16) -> u16 {
        let [low, high, ..] = self.0;
        u16::from_le_bytes([low, high]) % lanes.max(1)
    }

    /// From its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl std::fmt::Display for ChannelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl StopReason {
    const fn code(self) -> u64 {
        match self {
            Self::Closed => 1,
            Self::NotRegistered => 2,
            Self::TooMany => 3,
        }
    }

    /// A reason of a later version is taken for the plainest.
    const fn from_code(code: u64) -> Self {
        match code {
            2 => Self::NotRegistered,
            3 => Self::TooMany,
            _ => Self::Closed,
        }
    }
}

impl ErrorCode {
    const fn code(self) -> u64 {
        match self {
            Self::ShuttingDown => 1,
            Self::UnknownSession => 2,
            Self::SessionBusy => 3,
            Self::Version => 4,
            Self::Violation => 5,
            Self::TooMany => 6,
            Self::WrongPeer => 7,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u64) -> Self {
        match code {
            1 => Self::ShuttingDown,
            2 => Self::UnknownSession,
            3 => Self::SessionBusy,
            4 => Self::Version,
            5 => Self::Violation,
            6 => Self::TooMany,
            7 => Self::WrongPeer,
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests;
