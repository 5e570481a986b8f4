//! What the data plane has done so far.

use std::collections::BTreeMap;

use proto::ids::TaskManagerId;
use serde::{Deserialize, Serialize};

/// A snapshot of a [`super::Shuffle`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShuffleStats {
    /// Remote peers, by their id.
    pub peers: BTreeMap<TaskManagerId, PeerStats>,
    /// Bytes that remote peers may send, or have sent and nobody has read: what counts against `receive_buffer_bytes`.
    pub receive_buffer_used_bytes: u64,
}

/// One session with a peer. Frames are data, event and finish frames; bytes are their payloads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStats {
    /// Channels that send to the peer.
    pub senders: u64,
    /// Channels that receive from the peer.
    pub receivers: u64,
    /// Live connections; two while channels migrate.
    pub connections: u64,
    /// Payload bytes handed to connections, resends included.
    pub bytes_out: u64,
    /// Frames handed to connections, resends included.
    pub frames_out: u64,
    /// Payload bytes received for the first time.
    pub bytes_in: u64,
    /// Frames received for the first time.
    pub frames_in: u64,
    /// Payload bytes sent again because a connection broke.
    pub retransmitted_bytes: u64,
    /// Frames received again and dropped.
    pub duplicate_frames: u64,
    /// Payload bytes kept for a resend at this moment.
    pub retained_bytes: u64,
    /// Times the traffic moved from a working connection to a newer one.
    pub migrations: u64,
    /// Times a connection was made after there was none.
    pub reconnects: u64,
    /// Times the peer broke the protocol.
    pub violations: u64,
}

impl PeerStats {
    /// Another session's with the same peer.
    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            senders,
            receivers,
            connections,
            bytes_out,
            frames_out,
            bytes_in,
            frames_in,
            retransmitted_bytes,
            duplicate_frames,
            retained_bytes,
            migrations,
            reconnects,
            violations,
        } = other;
        self.senders += senders;
        self.receivers += receivers;
        self.connections += connections;
        self.bytes_out += bytes_out;
        self.frames_out += frames_out;
        self.bytes_in += bytes_in;
        self.frames_in += frames_in;
        self.retransmitted_bytes += retransmitted_bytes;
        self.duplicate_frames += duplicate_frames;
        self.retained_bytes += retained_bytes;
        self.migrations += migrations;
        self.reconnects += reconnects;
        self.violations += violations;
    }
}
