//! [`Pair`]: two sessions, a virtual clock and connections that misbehave. No socket, no task, no sleep; a seed decides
//! everything.
//!
//! Within a connection bytes keep their order, as in TCP. Beyond that anything may happen: a connection delays, loses
//! the frames under way and dies, and each side notices at another time or never (half-open); dialling fails; several
//! connections exist at once; either side wants to move at any time. Every frame goes through the codec.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proto::frame::{ChannelId, Chunks, Decoder, Frame, Hello, PayloadKind, VERSION};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::credit::CreditPool;
use super::error::{ChannelError, Violation};
use super::options::ShuffleOptions;
use super::session::{Event, LinkId, Next, Read, ReceiverKey, SenderKey, Session};

/// Side 0 dials.
pub(crate) struct Pair {
    pub(crate) sides: [Side; 2],
    pub(crate) options: Arc<ShuffleOptions>,
    pub(crate) rng: StdRng,
    pub(crate) faults: Faults,
    /// What a side did wrong in the other's eyes.
    pub(crate) violations: Vec<Violation>,
    wires: BTreeMap<LinkId, Wire>,
    next_link: u64,
    dial_at: Option<Instant>,
    now: Instant,
}

pub(crate) struct Side {
    pub(crate) session: Session,
    pub(crate) pool: CreditPool,
}

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    /// Longest delay of a frame, in virtual milliseconds.
    pub(crate) delay_ms: u64,
    /// Chance that a dial fails.
    pub(crate) refuse: f64,
    /// Bytes a connection takes before it pushes back.
    pub(crate) room: usize,
}

struct Wire {
    /// By sending side.
    ways: [Way; 2],
}

struct Way {
    under_way: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    decoder: Decoder,
    /// Takes everything and delivers nothing.
    swallows: bool,
    /// The sending side has closed or lost its end.
    closed: bool,
    /// When the sending side notices that the connection is dead.
    notices: Option<Instant>,
}

impl Pair {
    pub(crate) fn new(seed: u64, options: ShuffleOptions) -> Self {
        let options = Arc::new(options);
        let now = Instant::now();
        let side = |name: &str| {
            let pool = CreditPool::new(options.receive_buffer_bytes, options.window_bytes, options.min_window_bytes);
            let peer = name.parse().unwrap();
            Side { session: Session::new(peer, Arc::clone(&options), pool.clone(), now), pool }
        };
        let sides = [side("acceptor"), side("dialler")];
        Self {
            sides,
            options: Arc::clone(&options),
            rng: StdRng::seed_from_u64(seed),
            faults: Faults { delay_ms: 20, refuse: 0.0, room: 64 << 10 },
            violations: Vec::new(),
            wires: BTreeMap::new(),
            next_link: 1,
            dial_at: None,
            now,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn links(&self) -> Vec<LinkId> {
        self.wires.keys().copied().collect()
    }

    /// Everything that happens until `until`, in order.
    pub(crate) fn run_until(&mut self, until: Instant) {
        loop {
            self.settle();
            let next = self.next_time().filter(|next| *next <= until);
            self.now = next.unwrap_or(until).max(self.now);
            if next.is_none() {
                return;
            }
        }
    }

    pub(crate) fn run_for(&mut self, millis: u64) {
        self.run_until(self.now + Duration::from_millis(millis));
    }

    /// The connection loses what is under way and dies; a side that is to notice does so within `notice_ms`.
    pub(crate) fn kill(&mut self, link: LinkId, notice_ms: [Option<u64>; 2]) {
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&link) else { return };
        for (way, notice) in wire.ways.iter_mut().zip(notice_ms) {
            // What was delivered before stays delivered: a prefix of what is under way still arrives.
            let keep = self.rng.random_range(0..=way.under_way.len());
            way.under_way.truncate(keep);
            way.swallows = true;
            way.notices = notice.map(|millis| now + Duration::from_millis(millis));
        }
    }

    /// A frame of `side` as if a broken or hostile implementation had sent it.
    pub(crate) fn inject(&mut self, side: usize, link: LinkId, frame: &Frame<Chunks>) {
        let now = self.now;
        if let Some(wire) = self.wires.get_mut(&link) {
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes);
            wire.ways[side].push(now, bytes.freeze());
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let sessions = self.sides.iter().filter_map(|side| side.session.next_timeout());
        let ways = self.wires.values().flat_map(|wire| &wire.ways);
        let times = ways.flat_map(|way| [way.under_way.front().map(|(time, _)| *time), way.notices]).flatten();
        sessions.chain(times).chain(self.dial_at).min()
    }

    /// Does everything that can be done now.
    fn settle(&mut self) {
        loop {
            for side in 0..2 {
                self.sides[side].session.handle_timeout(self.now);
            }
            let mut busy = self.dial();
            for link in self.links() {
                for side in 0..2 {
                    busy |= self.transmit(side, link);
                }
                for side in 0..2 {
                    busy |= self.deliver(side, link);
                    busy |= self.notice(side, link);
                }
            }
            for side in 0..2 {
                while let Some(event) = self.sides[side].session.poll_event() {
                    if let Event::Dead(link) = event {
                        self.close(side, link);
                        busy = true;
                    }
                }
            }
            self.wires.retain(|_, wire| wire.ways.iter().any(|way| !way.closed));
            if !busy {
                return;
            }
        }
    }

    fn dial(&mut self) -> bool {
        if !self.sides[0].session.wants_link() {
            self.dial_at = None;
            return false;
        }
        let Some(at) = self.dial_at else {
            let pause = self.rng.random_range(1..=100);
            self.dial_at = Some(self.now + Duration::from_millis(pause));
            return true;
        };
        if at > self.now {
            return false;
        }
        self.dial_at = None;
        if self.rng.random_bool(self.faults.refuse) {
            return true;
        }
        let (session, resumed) = self.sides[0].session.identity(self.rng.random());
        let link = LinkId(self.next_link);
        self.next_link += 1;
        let task_manager = "dialler".parse().unwrap();
        let hello = Hello { version: VERSION, task_manager, lane: 0, lanes: 1, session, connection: link.0, resumed };
        match self.sides[1].session.admit(&hello, self.now) {
            Ok(admitted) => {
                assert_eq!(admitted, link);
                self.sides[0].session.attach(link, self.now);
                self.wires.insert(link, Wire { ways: [Way::new(), Way::new()] });
            }
            Err(proto::frame::ErrorCode::UnknownSession) => {
                let now = self.now;
                self.sides[0].session.reset("it does not know the session", now);
            }
            Err(_) => {}
        }
        true
    }

    fn transmit(&mut self, side: usize, link: LinkId) -> bool {
        let (now, delay_ms, room) = (self.now, self.faults.delay_ms, self.faults.room);
        let Some(wire) = self.wires.get_mut(&link) else { return false };
        let way = &mut wire.ways[side];
        if way.closed || way.bytes >= room {
            return false;
        }
        let mut frames = Vec::new();
        let next = self.sides[side].session.transmit(link, (room - way.bytes) as u64, now, &mut frames);
        let busy = !frames.is_empty();
        for frame in frames {
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes);
            let arrives = now + Duration::from_millis(self.rng.random_range(0..=delay_ms));
            way.push(arrives, bytes.freeze());
        }
        if next == Next::Close {
            self.close(side, link);
            return true;
        }
        busy
    }

    /// Side `side` receives.
    fn deliver(&mut self, side: usize, link: LinkId) -> bool {
        let mut busy = false;
        loop {
            let now = self.now;
            let Some(wire) = self.wires.get_mut(&link) else { return busy };
            if wire.ways[side].closed {
                wire.ways[1 - side].under_way.clear();
                return busy;
            }
            let way = &mut wire.ways[1 - side];
            let Some((_, mut bytes)) = way.under_way.pop_front_if(|(time, _)| *time <= now) else {
                // The peer has closed in order: end of stream.
                if way.closed && !way.swallows && way.under_way.is_empty() {
                    self.sides[side].session.detach(link, "closed by the peer", now);
                    self.close(side, link);
                    return true;
                }
                return busy;
            };
            busy = true;
            way.bytes -= bytes.len();
            while let Some(frame) = way.decoder.decode(&mut bytes).unwrap() {
                if let Err(violation) = self.sides[side].session.handle_frame(link, frame, now) {
                    self.violations.push(violation);
                    self.sides[side].session.detach(link, "violation", now);
                    self.close(side, link);
                    return true;
                }
            }
        }
    }

    fn notice(&mut self, side: usize, link: LinkId) -> bool {
        let now = self.now;
        let Some(wire) = self.wires.get_mut(&link) else { return false };
        if wire.ways[side].notices.take_if(|time| *time <= now).is_none() {
            return false;
        }
        self.sides[side].session.detach(link, "connection reset", now);
        self.close(side, link);
        true
    }

    /// Side `side` is done with its end of the connection.
    fn close(&mut self, side: usize, link: LinkId) {
        let now = self.now;
        self.sides[side].session.detach(link, "closed", now);
        if let Some(wire) = self.wires.get_mut(&link) {
            wire.ways[side].closed = true;
            wire.ways[side].notices = None;
        }
    }
}

impl Way {
    fn new() -> Self {
        Self {
            under_way: VecDeque::new(),
            bytes: 0,
            decoder: Decoder::new(64 << 20),
            swallows: false,
            closed: false,
            notices: None,
        }
    }

    fn push(&mut self, arrives: Instant, bytes: Bytes) {
        if self.swallows {
            return;
        }
        // In order: nothing overtakes.
        let arrives = self.under_way.back().map_or(arrives, |(last, _)| arrives.max(*last));
        self.bytes += bytes.len();
        self.under_way.push_back((arrives, bytes));
    }
}

/// One channel under test, from `from` to the other side: what has been sent, and what has arrived.
pub(crate) struct TestChannel {
    pub(crate) from: usize,
    pub(crate) sender: SenderKey,
    pub(crate) receiver: ReceiverKey,
    pub(crate) sent: u64,
    pub(crate) read: u64,
    pub(crate) ended: bool,
}

impl TestChannel {
    pub(crate) fn open(pair: &mut Pair, from: usize, number: u8) -> Self {
        let id = ChannelId::from_bytes([number; 16]);
        let now = pair.now();
        let sender = pair.sides[from].session.open_sender(id, now).unwrap();
        let receiver = pair.sides[1 - from].session.open_receiver(id, now).unwrap();
        Self { from, sender, receiver, sent: 0, read: 0, ended: false }
    }

    /// Sends the next payload if there is credit: its own number, then filling.
    pub(crate) fn send(&mut self, pair: &mut Pair, length: usize) -> Result<bool, ChannelError> {
        let kind = if self.sent % 7 == 3 { PayloadKind::Event } else { PayloadKind::Data };
        let number = Bytes::copy_from_slice(&self.sent.to_le_bytes());
        let chunks = Chunks::from([number, Bytes::from(vec![self.sent as u8; length])]);
        let sent = pair.sides[self.from].session.send(self.sender, kind, chunks)?.is_none();
        self.sent += u64::from(sent);
        Ok(sent)
    }

    pub(crate) fn finish(&mut self, pair: &mut Pair) {
        pair.sides[self.from].session.finish(self.sender);
    }

    pub(crate) fn is_finished(&self, pair: &mut Pair) -> Result<bool, ChannelError> {
        pair.sides[self.from].session.poll_finish(self.sender)
    }

    /// Reads one payload and checks that it is the one that must come next.
    pub(crate) fn read(&mut self, pair: &mut Pair) -> Result<bool, ChannelError> {
        let now = pair.now();
        match pair.sides[1 - self.from].session.read(self.receiver, now)? {
            Read::Payload(kind, body) => {
                assert!(!self.ended, "payload after the end");
                assert_eq!(body[..8], self.read.to_le_bytes(), "not the next payload");
                assert!(body[8..].iter().all(|byte| *byte == self.read as u8), "damaged payload");
                assert_eq!(kind == PayloadKind::Event, self.read % 7 == 3);
                self.read += 1;
                Ok(true)
            }
            Read::End => {
                assert_eq!(self.read, self.sent, "the end came too early");
                self.ended = true;
                Ok(false)
            }
            Read::Nothing => Ok(false),
        }
    }

    pub(crate) fn read_all(&mut self, pair: &mut Pair) -> Result<(), ChannelError> {
        while self.read(pair)? {}
        Ok(())
    }

    pub(crate) fn close_sender(&self, pair: &mut Pair) {
        pair.sides[self.from].session.close_sender(self.sender);
    }

    pub(crate) fn close_receiver(&self, pair: &mut Pair) {
        pair.sides[1 - self.from].session.close_receiver(self.receiver);
    }

    pub(crate) fn close(&self, pair: &mut Pair) {
        self.close_sender(pair);
        self.close_receiver(pair);
    }
}
