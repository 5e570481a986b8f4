//! The receiving end of one channel: puts frames in order, drops doubled ones, gives credit.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use proto::frame::{ChannelId, FRAME_CHARGE_BYTES, Frame, PayloadKind, StopReason};

use super::debloat::Debloat;
use super::outbound::charge;
use crate::shuffle::credit::{CreditPool, Holding};
use crate::shuffle::error::{ChannelError, Violation};

/// A receiver says what it has received at least after this many charged bytes, so that a sender never keeps much more
/// than is under way. Saying it costs both ends a wake-up: with a word for each payload, a tenth of the throughput.
pub(crate) const CREDIT_STEP_BYTES: u64 = 512 << 10;

#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) id: ChannelId,
    /// The sender's number, once it has opened the channel.
    pub(super) number: Option<u32>,
    /// When the sender must have opened it.
    pub(super) open_deadline: Instant,
    /// The handle has been dropped: the sender is told to stop, and only its end is waited for.
    pub(super) stopped: Option<StopReason>,
    /// What the handle is told after all that is ready.
    pub(super) failure: Option<ChannelError>,
    /// Next sequence in order.
    next: u64,
    /// In order, not yet read.
    ready: VecDeque<Item>,
    /// Arrived before others on another connection. Bounded by credit, as `ready` is.
    ahead: BTreeMap<u64, Item>,
    /// Sequence of the end of the channel, once it has arrived.
    end: Option<u64>,
    /// What is held of the process's budget: credit given and not used, and bytes received and not read.
    holding: Option<Holding>,
    /// Keeps the holding to what the reader needs, if that is asked for.
    debloat: Option<Debloat>,
    /// Charged bytes, all since the channel was opened: credit given, received, read.
    limit: u64,
    received: u64,
    read: u64,
    /// What the sender has been told last.
    told: Told,
    max_payload: u64,
}

#[derive(Debug, Default)]
struct Told {
    limit: u64,
    received: u64,
    next: u64,
}

#[derive(Debug)]
pub(super) enum Item {
    Payload(PayloadKind, Bytes),
    Finish { aborted: bool },
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// There is something to read where there was nothing.
    Readable,
    /// Kept, but no news for the reader.
    Kept,
    /// Was here before, or nobody wants it any more.
    Dropped,
}

impl Item {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Payload(_, body) => body.len() as u64,
            Self::Finish { .. } => 0,
        }
    }
}

impl Inbound {
    pub(super) fn new(id: ChannelId, open_deadline: Instant, max_payload: usize, debloat: Option<Debloat>) -> Self {
        Self {
            id,
            number: None,
            open_deadline,
            stopped: None,
            failure: None,
            next: 0,
            ready: VecDeque::new(),
            ahead: BTreeMap::new(),
            end: None,
            holding: None,
            debloat,
            limit: 0,
            received: 0,
            read: 0,
            told: Told::default(),
            max_payload: max_payload as u64,
        }
    }

    /// The sender has opened the channel: it gets its first credit.
    pub(super) fn open(&mut self, number: u32, pool: &CreditPool) {
        self.number = Some(number);
        let mut holding = pool.open();
        self.limit = holding.top_up();
        self.holding = Some(holding);
    }

    /// Waits for the sender's open.
    pub(super) fn is_awaited(&self) -> bool {
        self.number.is_none() && self.failure.is_none() && !self.is_complete()
    }

    /// The peer is lost. What has arrived in order can still be read.
    pub(super) fn fail(&mut self, failure: ChannelError) {
        self.number = None;
        self.ahead.clear();
        if !self.is_complete() {
            self.failure = Some(failure);
        }
    }

    /// A sequenced frame of the channel.
    pub(super) fn arrive(&mut self, channel: u32, sequence: u64, item: Item) -> Result<Arrival, Violation> {
        let (next, limit) = (self.next, self.told.limit);
        let impossible = Violation::Sequence { channel, sequence, next };
        let finish = matches!(item, Item::Finish { .. });
        if self.stopped.is_some() {
            if finish {
                self.end = Some(sequence);
                self.next = sequence.saturating_add(1);
            }
            return Ok(Arrival::Dropped);
        }
        if sequence < next || self.ahead.contains_key(&sequence) {
            return Ok(Arrival::Dropped);
        }
        // Every frame under way is charged, so there cannot be more of them than the credit pays for, and the end.
        let under_way = (limit.saturating_sub(self.read) + self.max_payload) / FRAME_CHARGE_BYTES + 2;
        let known_end = self.end.is_some_and(|end| sequence >= end || finish);
        let ahead_of_end = finish && self.ahead.last_key_value().is_some_and(|(last, _)| *last > sequence);
        if sequence - next > under_way || known_end || ahead_of_end {
            return Err(impossible);
        }
        if let Item::Payload(_, body) = &item {
            let received = self.received + charge(body.len());
            // Frames may arrive in any order, and the last one of a sender's credit may reach beyond it.
            if received > limit + self.max_payload + FRAME_CHARGE_BYTES {
                return Err(Violation::Credit { channel, limit });
            }
            let beyond = received.saturating_sub(self.limit.max(self.received));
            if let Some(holding) = &mut self.holding {
                holding.overdraw(beyond);
            }
            self.received = received;
        } else {
            self.end = Some(sequence);
        }
        if sequence > next {
            self.ahead.insert(sequence, item);
            return Ok(Arrival::Kept);
        }
        let was_empty = self.ready.is_empty();
        self.ready.push_back(item);
        self.next += 1;
        while let Some(entry) = self.ahead.first_entry().filter(|entry| *entry.key() == self.next) {
            self.ready.push_back(entry.remove());
            self.next += 1;
        }
        Ok(if was_empty { Arrival::Readable } else { Arrival::Kept })
    }

    /// The next item in order; its credit goes back to the sender.
    pub(super) fn read(&mut self, now: Instant) -> Option<Item> {
        // The end stays, for a reader that asks again.
        if let Some(&Item::Finish { aborted }) = self.ready.front() {
            return Some(Item::Finish { aborted });
        }
        let item = self.ready.pop_front()?;
        if let Item::Payload(_, body) = &item {
            let charge = charge(body.len());
            self.read += charge;
            if let Some(holding) = &mut self.holding {
                holding.give_back(charge);
                if let Some(window) = self.debloat.as_mut().and_then(|debloat| debloat.read(charge, now)) {
                    holding.cap(window);
                }
                if self.end.is_none() {
                    let more = holding.top_up();
                    if more > 0 {
                        self.limit = self.limit.max(self.received) + more;
                    }
                }
            }
        }
        Some(item)
    }

    /// The handle is gone: nothing is kept any more.
    pub(super) fn stop(&mut self, reason: StopReason) {
        self.stopped = Some(reason);
        self.holding = None;
        self.ready.clear();
        self.ahead.clear();
        if let Some(end) = self.end {
            self.next = end.saturating_add(1);
        }
    }

    /// Everything has arrived, the end included.
    pub(super) fn is_complete(&self) -> bool {
        self.end.is_some_and(|end| self.next > end)
    }

    /// Whether the sender should hear of the credit and of what has arrived.
    pub(super) fn wants_to_tell(&self) -> bool {
        let given = self.limit.saturating_sub(self.told.limit);
        let arrived = self.received.saturating_sub(self.told.received);
        let step = self.holding.as_ref().map_or(0, |holding| (holding.share() / 2).min(CREDIT_STEP_BYTES));
        let starving = given > 0 && self.told.limit <= self.received;
        given > 0 && given >= step
            || arrived >= CREDIT_STEP_BYTES
            || starving
            || self.is_complete() && self.told.next < self.next
    }

    /// What to tell the sender.
    pub(super) fn tell<B>(&mut self) -> Option<Frame<B>> {
        self.told = Told { limit: self.limit, received: self.received, next: self.next };
        Some(Frame::Credit { channel: self.number?, next: self.next, limit: self.limit })
    }

    /// The acknowledgement, for when the channel itself is forgotten.
    pub(super) fn next(&self) -> u64 {
        self.next
    }
}
