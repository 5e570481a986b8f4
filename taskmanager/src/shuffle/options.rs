//! The bounds of the data plane: every buffer, count and wait it has.

use std::time::Duration;

/// Settings of a [`super::Shuffle`]. The defaults are for TaskManagers within one data centre.
///
/// Memory: received bytes that no task has taken yet are bounded by [`Self::receive_buffer_bytes`] over the whole
/// process, plus [`Self::min_window_bytes`] and one payload per channel. Sent bytes kept for a resend are bounded by
/// the credit the peers give, at most [`Self::retained_bytes`] and one payload per channel. Over QUIC, each connection
/// may hold 16 MiB more each way, as the kernel's socket buffers do for TCP.
#[derive(Debug, Clone)]
pub struct ShuffleOptions {
    /// Bytes a channel may have under way and unread at its receiver. Default 2 MiB. Throughput of one channel is at
    /// most this per round trip.
    pub window_bytes: u64,
    /// A channel has no more under way than its reader takes in this time (but never less than
    /// [`Self::min_window_bytes`]): less waits before a barrier or a watermark. Default: none, the whole window.
    pub debloat_target: Option<Duration>,
    /// Bytes that all channels of the process together may hold as a receiver. With more channels than fit, each gets
    /// an equal share. Default 128 MiB.
    pub receive_buffer_bytes: u64,
    /// Bytes that every receiving channel gets whatever the share, so that it always moves. Default 32 KiB.
    pub min_window_bytes: u64,
    /// Largest payload of one [`super::ChannelSender::send`], in bytes. Default 16 MiB; the same for all peers.
    pub max_payload_bytes: usize,
    /// Bytes a sending channel keeps at most for a resend, whatever credit the peer gives. Default 4 MiB; at least half of
    /// the peer's window, or [`RETAINED_BYTES_MIN`].
    pub retained_bytes: u64,
    /// A peer without a connection for longer is lost, and its channels fail. Default 10 s.
    pub reconnect_timeout: Duration,
    /// How long one end of a channel waits for the other end to appear. Default 60 s: a deployment reaches the hosts in
    /// any order.
    pub open_timeout: Duration,
    /// How long a new connection may take to say who it is. Default 5 s.
    pub hello_timeout: Duration,
    /// A connection that sent nothing for this long sends a ping. Default 1 s.
    pub keepalive_interval: Duration,
    /// A connection that received nothing for this long is dead. Default 5 s; must be well below
    /// [`Self::reconnect_timeout`].
    pub keepalive_timeout: Duration,
    /// How long closing a connection at shutdown may take, what is left to send included. Default 2 s.
    pub close_timeout: Duration,
    /// First and longest pause between two attempts to connect; each is jittered by a half. Default 25 ms and 1 s.
    pub redial_pause: (Duration, Duration),
    /// Sessions, hence connections, that the channels of a pair of TaskManagers are spread over; the same everywhere, 1 to
    /// [`LANES_MAX`]. Default 1: a second connection gains nothing until one cannot fill the network.
    pub lanes: u16,
    /// Channels per peer, lane and direction. Default 16,384.
    pub max_channels: usize,
    /// Opens of one peer that wait for a channel to be registered here. Default 4,096.
    pub max_pending_opens: usize,
    /// Connections of one peer and lane at once; more than two exist only while rotations come faster than connections drain.
    /// Default 8.
    pub max_connections: usize,
    /// Peers that have no channel here yet. Default 1,024.
    pub max_peers: usize,
}

/// Least [`ShuffleOptions::retained_bytes`] where payloads may be of any size: twice what a receiver waits for before it
/// acknowledges, so that a sender never waits for a word that does not come.
pub const RETAINED_BYTES_MIN: u64 = 2 * super::session::CREDIT_STEP_BYTES;

/// Most lanes of a pair of TaskManagers.
pub const LANES_MAX: u16 = 16;

impl Default for ShuffleOptions {
    fn default() -> Self {
        Self {
            window_bytes: 2 << 20,
            debloat_target: None,
            receive_buffer_bytes: 128 << 20,
            min_window_bytes: 32 << 10,
            max_payload_bytes: 16 << 20,
            retained_bytes: 4 << 20,
            reconnect_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(60),
            hello_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(2),
            redial_pause: (Duration::from_millis(25), Duration::from_secs(1)),
            lanes: 1,
            max_channels: 16_384,
            max_pending_opens: 4_096,
            max_connections: 8,
            max_peers: 1_024,
        }
    }
}
