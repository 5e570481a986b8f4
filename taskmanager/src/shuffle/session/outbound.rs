//! The sending end of one channel: credit, and every frame that the receiver has not acknowledged.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use proto::frame::{ChannelId, Chunks, FRAME_CHARGE_BYTES, Frame, PayloadKind};

use super::LinkId;
use crate::shuffle::error::{ChannelError, Violation};

#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) id: ChannelId,
    /// The receiver has answered our open: from now on there may be credit.
    pub(super) opened: bool,
    /// When [`Self::opened`] must have happened.
    pub(super) open_deadline: Instant,
    /// An open has been sent in this session: the peer may know of the channel.
    pub(super) announced: bool,
    /// The handle has been dropped; what is left only has to be delivered.
    pub(super) detached: bool,
    /// What the handle is told instead of being served.
    pub(super) failure: Option<ChannelError>,
    /// The handle waits for credit or for the end.
    pub(super) waiting: bool,
    /// In the session's list of channels that have something to send.
    pub(super) queued: bool,
    /// Credit given by the receiver, and charged for what was accepted here and acknowledged there; all since the
    /// channel was opened.
    limit: u64,
    charged: u64,
    acknowledged: u64,
    /// `limit` counts only up to this many bytes beyond what is acknowledged.
    retained_max: u64,
    /// Unacknowledged frames; the first has the sequence `first`.
    frames: VecDeque<Retained>,
    first: u64,
    /// No frame below this sequence is waiting to be sent.
    cursor: u64,
    /// One above the highest sequence that has ever been sent.
    sent: u64,
    /// The last of `frames`, acknowledged or not, is the end of the channel.
    ended: bool,
}

#[derive(Debug)]
struct Retained {
    item: Item,
    charge: u64,
    /// The connection it was last sent on; none = it must be sent.
    on: Option<LinkId>,
}

#[derive(Debug)]
enum Item {
    Payload(PayloadKind, Chunks),
    Finish { aborted: bool },
}

/// A frame to be sent, and what to count.
#[derive(Debug)]
pub(super) struct Transmission {
    pub(super) frame: Frame<Chunks>,
    pub(super) bytes: u64,
    pub(super) again: bool,
}

impl Outbound {
    pub(super) fn new(id: ChannelId, open_deadline: Instant, retained_max: u64) -> Self {
        Self {
            id,
            opened: false,
            open_deadline,
            announced: false,
            detached: false,
            failure: None,
            waiting: false,
            queued: false,
            limit: 0,
            charged: 0,
            acknowledged: 0,
            retained_max,
            frames: VecDeque::new(),
            first: 0,
            cursor: 0,
            sent: 0,
            ended: false,
        }
    }

    /// The receiver has not answered, and the handle still hopes.
    pub(super) fn awaits_receiver(&self) -> bool {
        !self.opened && !self.detached && self.failure.is_none()
    }

    /// A frame may start while there is credit, whatever its length: so the longest payload needs no larger window.
    pub(super) fn may_send(&self) -> bool {
        self.opened && self.charged < self.limit.min(self.acknowledged.saturating_add(self.retained_max))
    }

    pub(super) fn push_payload(&mut self, kind: PayloadKind, chunks: Chunks) {
        let charge = charge(chunks.iter().map(Bytes::len).sum());
        self.charged += charge;
        self.frames.push_back(Retained { item: Item::Payload(kind, chunks), charge, on: None });
    }

    /// Appends the end of the channel, once.
    pub(super) fn push_finish(&mut self, aborted: bool) {
        if !std::mem::replace(&mut self.ended, true) {
            self.frames.push_back(Retained { item: Item::Finish { aborted }, charge: 0, on: None });
        }
    }

    /// The peer is lost, and with it the channel.
    pub(super) fn fail(&mut self, failure: ChannelError) {
        self.failure = Some(failure);
        self.opened = false;
        self.frames.clear();
    }

    /// The receiver wants no more: nothing is left to deliver but the end.
    pub(super) fn stop(&mut self) {
        self.opened = true;
        let end = if self.ended { self.frames.pop_back() } else { None };
        let sequence = self.first + self.frames.len() as u64;
        self.frames.clear();
        self.first = sequence;
        self.cursor = self.cursor.max(sequence);
        self.sent = self.sent.max(sequence);
        match end {
            Some(end) => self.frames.push_back(end),
            None => self.push_finish(true),
        }
    }

    pub(super) fn credit(&mut self, channel: u32, next: u64, limit: u64) -> Result<(), Violation> {
        if next > self.sent {
            return Err(Violation::Acknowledgement { channel, next, sent: self.sent });
        }
        self.opened = true;
        self.limit = self.limit.max(limit);
        while self.first < next
            && let Some(retained) = self.frames.pop_front()
        {
            self.acknowledged += retained.charge;
            self.first += 1;
        }
        self.cursor = self.cursor.max(self.first);
        Ok(())
    }

    /// Whether a frame waits to be sent. Moves the cursor to it.
    pub(super) fn has_unsent(&mut self) -> bool {
        while let Some(retained) = self.at_cursor() {
            if retained.on.is_none() {
                return self.opened;
            }
            self.cursor += 1;
        }
        false
    }

    /// The next frame to send, which then counts as sent on `link`.
    pub(super) fn transmit(&mut self, channel: u32, link: LinkId) -> Option<Transmission> {
        if !self.has_unsent() {
            return None;
        }
        let sequence = self.cursor;
        let again = sequence < self.sent;
        let retained = self.at_cursor()?;
        retained.on = Some(link);
        let (frame, bytes) = match &retained.item {
            Item::Payload(kind, chunks) => {
                let body = Chunks::clone(chunks);
                (Frame::Payload { kind: *kind, channel, sequence, body }, retained.charge - FRAME_CHARGE_BYTES)
            }
            Item::Finish { aborted } => (Frame::Finish { channel, sequence, aborted: *aborted }, 0),
        };
        self.cursor += 1;
        self.sent = self.sent.max(self.cursor);
        Some(Transmission { frame, bytes, again })
    }

    /// The payloads that went with the broken connection `lost` are to be sent again. So is the end of the channel,
    /// whichever way it went: its acknowledgement may be what was lost, and a receiver that has forgotten the channel
    /// repeats it only when asked.
    pub(super) fn requeue(&mut self, lost: Option<LinkId>) {
        for (sequence, retained) in (self.first..).zip(&mut self.frames) {
            if matches!(retained.item, Item::Finish { .. }) || lost.is_some() && retained.on == lost {
                retained.on = None;
                self.cursor = self.cursor.min(sequence);
            }
        }
    }

    /// The end of the channel has been acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.frames.is_empty()
    }

    /// Payload bytes kept for a resend.
    pub(super) fn retained_bytes(&self) -> u64 {
        self.frames.iter().map(|retained| retained.charge.saturating_sub(FRAME_CHARGE_BYTES)).sum()
    }

    fn at_cursor(&mut self) -> Option<&mut Retained> {
        let index = usize::try_from(self.cursor.checked_sub(self.first)?).ok()?;
        self.frames.get_mut(index)
    }
}

/// What a payload of `length` bytes costs in credit.
pub(super) fn charge(length: usize) -> u64 {
    length as u64 + FRAME_CHARGE_BYTES
}
