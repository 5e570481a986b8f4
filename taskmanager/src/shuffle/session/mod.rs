//! The protocol between two TaskManagers: a session that outlives its connections. No IO, no clock, no tasks.
//!
//! Every channel numbers its frames. The receiver says which sequence it expects next and how many bytes of credit
//! there are; the sender keeps what is not acknowledged, which credit bounds. A connection (here: a *link*) only
//! carries frames: when it dies, what may have been lost is sent again on another one, and the receiver drops what it
//! has already. So a channel delivers exactly the sequence that was sent, whatever happens to connections, as long as
//! both processes live and find each other within the reconnect timeout.
//!
//! A planned replacement does not even stop the stream:
//!
//! ```text
//!   dialler                                              acceptor
//!      │ ── old link: payloads 0..n ───────────────────────▶ │
//!      │ ── new link: opens, credits, Resume ──────────────▶ │
//!      │ ◀─ new link: opens, credits, Resume ─────────────── │   from here each side sends on the new link ...
//!      │ ── new link: payloads n.. ────────────────────────▶ │
//!      │ ── old link: Fin ─────────────────────────────────▶ │   ... and has nothing more for the old one.
//!      │ ◀─ old link: payloads 0..m, Fin, FinAck ─────────── │   FinAck: all that came before your Fin is here.
//!      │ ── old link: FinAck, then both close it ──────────▶ │
//! ```
//!
//! Methods come in three kinds, a file each. The application's (`application.rs`: send, finish, read ...) never block:
//! they say "not now", and an [`Event`] says when to ask again. Inputs (`links.rs`, `receive.rs`: attach,
//! `handle_frame`, `handle_timeout` ...) tell what has happened. Output (`transmit.rs`) hands out what a link shall
//! write: control frames first, then payloads of the channels in turn. After any of these, take the events with
//! [`Session::poll_event`].
//!
//! Nothing here grows without a bound: payloads are bounded by credit; links, channels and waiting opens by
//! [`ShuffleOptions`]; control frames are not queued but made, when there is room for them, from what is true then.

mod application;
mod debloat;
mod inbound;
mod link;
mod links;
mod outbound;
mod receive;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use proto::frame::{ChannelId, PayloadKind, StopReason};
use proto::ids::TaskManagerId;

use super::credit::CreditPool;
use super::options::ShuffleOptions;
use super::stats::PeerStats;
pub(crate) use inbound::CREDIT_STEP_BYTES;
use inbound::Inbound;
use link::Link;
pub(crate) use link::LinkId;
use outbound::Outbound;
pub(crate) use transmit::Next;

/// One of our sending channels; also its number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SenderKey(u32);

/// One of our receiving channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ReceiverKey(u32);

/// Something for the tasks around the session to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// Ask [`Session::send`] or [`Session::poll_finish`] again.
    Writable(SenderKey),
    /// Ask [`Session::read`] again.
    Readable(ReceiverKey),
    /// Ask [`Session::transmit`] again.
    Transmit(LinkId),
    /// The link is dead and not attached any more: close its connection.
    Dead(LinkId),
    /// Look at [`Session::wants_link`], [`Session::next_timeout`] and [`Session::is_unused`] again.
    Changed,
}

/// What [`Session::read`] has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Payload(PayloadKind, Bytes),
    End,
    Nothing,
}

/// All that this process knows of its channels with one peer.
#[derive(Debug)]
pub(crate) struct Session {
    peer: TaskManagerId,
    options: Arc<ShuffleOptions>,
    pool: CreditPool,

    /// Chosen by the dialling side; none before the first link.
    id: Option<u64>,
    /// A link has been ready: from now on the peer has state that belongs to this session.
    established: bool,
    links: BTreeMap<LinkId, Link>,
    /// The link that carries our payloads: the newest that is ready.
    current: Option<LinkId>,
    /// A link broke and none has been ready since: the peer may wait for something that was lost with it.
    unsettled: bool,
    /// Since when there is no current link.
    idle_since: Instant,
    last_error: Option<String>,

    outbound: BTreeMap<SenderKey, Outbound>,
    sender_ids: HashMap<ChannelId, SenderKey>,
    next_number: u32,
    /// Channels with something to send, each once; served in turn.
    ready: VecDeque<SenderKey>,
    opens_due: BTreeSet<SenderKey>,

    inbound: BTreeMap<ReceiverKey, Inbound>,
    receiver_ids: HashMap<ChannelId, ReceiverKey>,
    next_key: u32,
    /// Receivers by the peer's number, once it has opened the channel.
    opened: HashMap<u32, ReceiverKey>,
    /// Opens for which there is no receiver yet, and until when they may wait.
    pending: HashMap<ChannelId, (u32, Instant)>,
    /// Highest number the peer has opened: what is not known below is closed, what is above is an error.
    highest_number: Option<u32>,
    credits_due: BTreeSet<ReceiverKey>,
    stops_due: BTreeSet<ReceiverKey>,
    /// Opens we refuse.
    refusals_due: BTreeMap<u32, StopReason>,
    /// Acknowledgements for channels that are forgotten already.
    farewells_due: BTreeMap<u32, u64>,

    events: VecDeque<Event>,
    stats: PeerStats,
}

impl Session {
    /// A session with `peer` that has not met it yet.
    pub(crate) fn new(peer: TaskManagerId, options: Arc<ShuffleOptions>, pool: CreditPool, now: Instant) -> Self {
        Self {
            peer,
            options,
            pool,
            id: None,
            established: false,
            links: BTreeMap::new(),
            current: None,
            unsettled: false,
            idle_since: now,
            last_error: None,
            outbound: BTreeMap::new(),
            sender_ids: HashMap::new(),
            next_number: 1,
            ready: VecDeque::new(),
            opens_due: BTreeSet::new(),
            inbound: BTreeMap::new(),
            receiver_ids: HashMap::new(),
            next_key: 0,
            opened: HashMap::new(),
            pending: HashMap::new(),
            highest_number: None,
            credits_due: BTreeSet::new(),
            stops_due: BTreeSet::new(),
            refusals_due: BTreeMap::new(),
            farewells_due: BTreeMap::new(),
            events: VecDeque::new(),
            stats: PeerStats::default(),
        }
    }

    /// What there is to do, oldest first.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// No channel, no link, and the peer knows it: nothing would be missed.
    pub(crate) fn is_unused(&self) -> bool {
        self.links.is_empty() && !self.unsettled && self.outbound.is_empty() && self.inbound.is_empty()
    }

    pub(crate) fn stats(&self) -> PeerStats {
        PeerStats {
            senders: self.outbound.len() as u64,
            receivers: self.inbound.len() as u64,
            connections: self.links.len() as u64,
            retained_bytes: self.outbound.values().map(Outbound::retained_bytes).sum(),
            ..self.stats.clone()
        }
    }

    fn changed(&mut self) {
        if self.events.back() != Some(&Event::Changed) {
            self.events.push_back(Event::Changed);
        }
    }

    /// The current link's task shall ask for frames.
    fn wake_current(&mut self) {
        if let Some(current) = self.current {
            self.wake(current);
        }
    }

    fn wake(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.woken) {
            link.woken = true;
            self.events.push_back(Event::Transmit(id));
        }
    }

    /// A channel that has something to send gets into the queue.
    fn enqueue(&mut self, key: SenderKey) {
        if let Some(channel) = self.outbound.get_mut(&key)
            && !channel.queued
            && channel.has_unsent()
        {
            channel.queued = true;
            self.ready.push_back(key);
            self.wake_current();
        }
    }

    /// The sender shall hear of our credit.
    fn tell(&mut self, key: ReceiverKey) {
        if self.credits_due.insert(key) {
            self.wake_current();
        }
    }

    fn tell_if_wanted(&mut self, key: ReceiverKey) {
        if self.inbound.get(&key).is_some_and(Inbound::wants_to_tell) {
            self.tell(key);
        }
    }

    fn bind(&mut self, key: ReceiverKey, number: u32) {
        if let Some(channel) = self.inbound.get_mut(&key) {
            channel.open(number, &self.pool);
            self.opened.insert(number, key);
            self.tell(key);
        }
    }

    fn forget_sender(&mut self, key: SenderKey) {
        if let Some(channel) = self.outbound.remove(&key) {
            self.sender_ids.remove(&channel.id);
            self.opens_due.remove(&key);
            if channel.queued {
                self.ready.retain(|queued| *queued != key);
            }
        }
        self.changed();
    }

    /// A receiver that is done with: only the acknowledgement of its end has to reach the sender.
    fn forget_receiver(&mut self, key: ReceiverKey) {
        if let Some(channel) = self.inbound.remove(&key) {
            self.receiver_ids.remove(&channel.id);
            self.credits_due.remove(&key);
            self.stops_due.remove(&key);
            if let Some(number) = channel.number {
                self.opened.remove(&number);
                self.say_farewell(number, channel.next());
            }
        }
        self.changed();
    }

    fn say_farewell(&mut self, number: u32, next: u64) {
        // One that does not fit is asked for again on the next link.
        if self.farewells_due.len() < self.options.max_channels {
            self.farewells_due.insert(number, next);
            self.wake_current();
        }
    }

    fn refuse(&mut self, number: u32, reason: StopReason) {
        if self.refusals_due.len() < self.options.max_pending_opens {
            self.refusals_due.insert(number, reason);
            self.wake_current();
        }
    }
}

#[cfg(test)]
mod tests;
