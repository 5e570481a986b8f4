//! The session under a network that does its worst. The property: whatever happens to connections, every channel
//! delivers exactly what was sent, in order, and neither side keeps more than the credit allows.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod ends;
mod violations;

use std::time::Duration;

use bytes::Bytes;
use proto::frame::{ChannelId, Chunks, FRAME_CHARGE_BYTES, Frame, PayloadKind};
use rand::Rng;

use super::*;
use crate::shuffle::error::{ChannelError, Violation};
use crate::shuffle::testing::{Faults, Pair, TestChannel};

const MAX_PAYLOAD: usize = 3000;

/// Small bounds, so that they are reached.
fn options() -> ShuffleOptions {
    ShuffleOptions {
        window_bytes: 8 << 10,
        receive_buffer_bytes: 24 << 10,
        min_window_bytes: 1 << 10,
        max_payload_bytes: MAX_PAYLOAD + 8,
        retained_bytes: 8 << 10,
        reconnect_timeout: Duration::from_secs(3600),
        open_timeout: Duration::from_secs(3600),
        max_connections: 6,
        ..ShuffleOptions::default()
    }
}

/// What the tasks at the two ends of a channel are up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The receiver stays until the sender knows that all has arrived.
    Patient,
    /// The receiver leaves as soon as it has read the end.
    Prompt,
    /// The sender fails after so many payloads.
    Aborted(u64),
    /// The receiver fails after so many payloads.
    Stopped(u64),
}

struct Subject {
    channel: TestChannel,
    total: u64,
    fate: Fate,
    finishing: bool,
    sender_done: bool,
    receiver_done: bool,
}

impl Subject {
    fn new(pair: &mut Pair, number: u8) -> Self {
        let total = pair.rng.random_range(0..120);
        let fate = match pair.rng.random_range(0..8) {
            // From the first payload on: before, the other end may not know of the channel, and waits for the open
            // timeout.
            0 => Fate::Aborted(pair.rng.random_range(1..=total.max(1))),
            1 => Fate::Stopped(pair.rng.random_range(1..=total.max(1))),
            2..5 => Fate::Prompt,
            _ => Fate::Patient,
        };
        let channel = TestChannel::open(pair, usize::from(number % 2), number);
        Self { channel, total, fate, finishing: false, sender_done: false, receiver_done: false }
    }

    fn send(&mut self, pair: &mut Pair) {
        let Self { channel, total, fate, .. } = self;
        for _ in 0..pair.rng.random_range(0..20) {
            if *fate == Fate::Aborted(channel.sent) {
                channel.close_sender(pair);
                self.sender_done = true;
                return;
            }
            let length = if pair.rng.random_bool(0.2) { MAX_PAYLOAD } else { pair.rng.random_range(0..200) };
            if channel.sent == *total {
                break;
            }
            match channel.send(pair, length) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.sender_fails(pair, &error),
            }
        }
        if channel.sent == *total && !self.finishing {
            channel.finish(pair);
            self.finishing = true;
        }
        match channel.is_finished(pair) {
            Ok(finished) if finished && self.finishing => {
                channel.close_sender(pair);
                self.sender_done = true;
            }
            Ok(_) => {}
            Err(error) => self.sender_fails(pair, &error),
        }
    }

    fn sender_fails(&mut self, pair: &mut Pair, error: &ChannelError) {
        assert!(*error == ChannelError::ReceiverClosed && matches!(self.fate, Fate::Stopped(_)), "{error}");
        self.channel.close_sender(pair);
        self.sender_done = true;
    }

    fn read(&mut self, pair: &mut Pair) {
        let Self { channel, fate, .. } = self;
        let mut leaves = false;
        for _ in 0..pair.rng.random_range(0..30) {
            match channel.read(pair) {
                _ if *fate == Fate::Stopped(channel.read) => leaves = true,
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    assert_eq!(error, ChannelError::SenderAborted);
                    assert_eq!(*fate, Fate::Aborted(channel.read), "all that was sent before comes first");
                    leaves = true;
                }
            }
            if leaves {
                break;
            }
        }
        if leaves || channel.ended && (*fate == Fate::Prompt || self.sender_done) {
            channel.close_receiver(pair);
            self.receiver_done = true;
        }
    }

    fn is_done(&self) -> bool {
        self.sender_done && self.receiver_done
    }
}

/// One seed: chaos, then peace, in which everything must come to its end.
fn exact_under_chaos(seed: u64) {
    let mut pair = Pair::new(seed, options());
    pair.faults = Faults {
        delay_ms: pair.rng.random_range(0..200),
        refuse: pair.rng.random_range(0.0..0.5),
        room: pair.rng.random_range(1_000..100_000),
    };
    let mut subjects: Vec<_> = (0..pair.rng.random_range(1..6)).map(|number| Subject::new(&mut pair, number)).collect();
    let chaos = pair.rng.random_range(0..60);

    for round in 0..2_000 {
        let peace = round >= chaos;
        if peace {
            pair.faults = Faults { delay_ms: 5, refuse: 0.0, room: 64 << 10 };
        } else {
            misbehave(&mut pair);
        }
        for subject in &mut subjects {
            if !subject.sender_done && (peace || pair.rng.random_bool(0.7)) {
                subject.send(&mut pair);
            }
            if !subject.receiver_done && (peace || pair.rng.random_bool(0.5)) {
                subject.read(&mut pair);
            }
        }
        check_bounds(&pair, subjects.len());
        let pause = pair.rng.random_range(0..400);
        pair.run_for(pause);
        assert_eq!(pair.violations, [], "seed {seed}");
        if subjects.iter().all(Subject::is_done) {
            break;
        }
    }
    for Subject { channel, total, fate, sender_done, receiver_done, .. } in &subjects {
        let TestChannel { sent, read, ended, .. } = channel;
        assert!(*sender_done && *receiver_done, "seed {seed}: {fate:?} hangs, {sent} sent, {read} read of {total}");
        if matches!(fate, Fate::Patient | Fate::Prompt) {
            assert!(*ended && read == total, "seed {seed}: {read} of {total}");
        }
    }
    pair.run_for(20_000);
    for side in &pair.sides {
        let stats = side.session.stats();
        let left = (stats.senders, stats.receivers, stats.retained_bytes, side.pool.held());
        assert_eq!(left, (0, 0, 0, 0), "seed {seed}");
        assert!(stats.connections <= 1, "seed {seed}: {stats:?}");
    }
}

/// Rotations, deaths of all kinds.
fn misbehave(pair: &mut Pair) {
    for link in pair.links() {
        let mut notice = || pair.rng.random_bool(0.8).then(|| pair.rng.random_range(0..3000));
        let notices = [notice(), notice()];
        match pair.rng.random_range(0..10) {
            0 => pair.kill(link, notices),
            1 => pair.sides[0].session.leave(link),
            2 => pair.sides[1].session.leave(link),
            _ => {}
        }
    }
}

fn check_bounds(pair: &Pair, channels: usize) {
    let channels = channels as u64;
    let payload = pair.options.max_payload_bytes as u64 + FRAME_CHARGE_BYTES;
    for side in &pair.sides {
        let retained = side.session.stats().retained_bytes;
        assert!(retained <= channels * (pair.options.retained_bytes + payload), "{retained} retained");
        let held = side.pool.held();
        assert!(
            held <= pair.options.receive_buffer_bytes + channels * (pair.options.min_window_bytes + payload),
            "{held} held"
        );
    }
}

#[test]
fn every_channel_is_exact_whatever_happens_to_connections() {
    // More with SHUFFLE_SEEDS=100000.
    let seeds = std::env::var("SHUFFLE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(500);
    for seed in 0..seeds {
        exact_under_chaos(seed);
    }
}

/// A pair with one channel from each side, connected.
fn connected(options: ShuffleOptions) -> (Pair, [TestChannel; 2]) {
    let mut pair = Pair::new(1, options);
    let channels = [TestChannel::open(&mut pair, 0, 1), TestChannel::open(&mut pair, 1, 2)];
    pair.run_for(500);
    assert_eq!(pair.links().len(), 1);
    (pair, channels)
}

#[test]
fn a_rotation_moves_the_traffic_without_resending_anything() {
    let (mut pair, mut channels) = connected(options());
    for rotation in 0..50 {
        let old = pair.links();
        pair.sides[rotation % 2].session.leave(old[0]);
        for _ in 0..100 {
            for channel in &mut channels {
                let _ = channel.send(&mut pair, 500).unwrap();
                channel.read_all(&mut pair).unwrap();
            }
            pair.run_for(10);
        }
        assert_eq!(pair.links().len(), 1, "the old connection is closed");
        assert_ne!(pair.links(), old);
    }
    for side in &pair.sides {
        let stats = side.session.stats();
        assert_eq!(
            (stats.migrations, stats.reconnects, stats.retransmitted_bytes, stats.duplicate_frames),
            (50, 0, 0, 0)
        );
    }
}

#[test]
fn an_idle_session_rotates_as_well() {
    let (mut pair, _channels) = connected(options());
    let old = pair.links();
    pair.sides[1].session.leave(old[0]);
    pair.run_for(1_000);
    assert_eq!(pair.links().len(), 1);
    assert_ne!(pair.links(), old);
}

#[test]
fn both_connections_carry_data_during_a_move() {
    let (mut pair, [mut channel, _]) = connected(options());
    pair.faults.delay_ms = 0;
    pair.run_for(100);
    while channel.send(&mut pair, 500).unwrap() {}
    // The new connection becomes ready while the payloads on the old one are still under way.
    pair.faults.delay_ms = 1_000;
    pair.run_for(0);
    let old = pair.links()[0];
    pair.sides[0].session.leave(old);
    pair.run_for(50);
    pair.faults.delay_ms = 0;
    for _ in 0..100 {
        channel.read_all(&mut pair).unwrap();
        let _ = channel.send(&mut pair, 500).unwrap();
        pair.run_for(50);
    }
    channel.read_all(&mut pair).unwrap();
    assert_eq!(channel.read, channel.sent);
    assert_eq!(pair.sides[1].session.stats().duplicate_frames, 0);
}

#[test]
fn a_stopped_reader_stops_only_its_channel() {
    let mut pair = Pair::new(1, options());
    let mut channels: Vec<_> = (0..20).map(|number| TestChannel::open(&mut pair, 0, number)).collect();
    for _ in 0..500 {
        for (number, channel) in channels.iter_mut().enumerate() {
            while channel.send(&mut pair, 300).unwrap() {}
            if number > 0 {
                channel.read_all(&mut pair).unwrap();
            }
        }
        check_bounds(&pair, 20);
        pair.run_for(50);
    }
    let (stopped, moving) = channels.split_first().unwrap();
    assert!(stopped.sent < 100);
    assert!(moving.iter().all(|channel| channel.read > 500), "the others go on");
}

#[test]
fn a_channel_that_comes_when_the_budget_is_spent_moves_all_the_same() {
    let mut pair = Pair::new(1, options());
    let mut hogs: Vec<_> = (0..3).map(|number| TestChannel::open(&mut pair, 0, number)).collect();
    pair.run_for(500);
    assert_eq!(pair.sides[1].pool.held(), pair.options.receive_buffer_bytes);
    for hog in &mut hogs {
        while hog.send(&mut pair, 500).unwrap() {}
    }
    let mut late = TestChannel::open(&mut pair, 0, 9);
    for _ in 0..100 {
        let _ = late.send(&mut pair, 500).unwrap();
        late.read_all(&mut pair).unwrap();
        pair.run_for(100);
    }
    assert!(late.read > 90, "{} read", late.read);
}

#[test]
fn after_a_break_only_what_is_missing_is_sent_again() {
    let (mut pair, [mut channel, _]) = connected(options());
    assert!((0..10).all(|_| channel.send(&mut pair, 500).unwrap()));
    pair.run_for(1_000);
    assert!(pair.sides[0].session.stats().retained_bytes > 0, "received, but not acknowledged yet");
    // The dialler notices at once, the other side has not when it is called again.
    let link = pair.links()[0];
    pair.kill(link, [Some(0), Some(2_000)]);
    pair.run_for(5_000);
    let stats = pair.sides[0].session.stats();
    assert_eq!((stats.reconnects, stats.retransmitted_bytes, stats.retained_bytes), (1, 0, 0));
}

#[test]
fn control_frames_go_before_payloads() {
    let (mut pair, [mut out, mut back]) = connected(options());
    assert!(out.send(&mut pair, 3000).unwrap());
    // Half of the window: worth a word when it is read.
    assert!(back.send(&mut pair, 3000).unwrap() && back.send(&mut pair, 3000).unwrap());
    pair.run_for(100);
    assert!(out.send(&mut pair, 3000).unwrap());
    back.read_all(&mut pair).unwrap();
    let (link, now) = (pair.links()[0], pair.now());
    let mut frames = Vec::new();
    pair.sides[0].session.transmit(link, 1 << 20, now, &mut frames);
    assert!(matches!(frames[..], [Frame::Credit { .. }, Frame::Payload { .. }]), "{frames:?}");
}

#[test]
fn channels_take_turns() {
    let roomy = ShuffleOptions {
        window_bytes: 1 << 20,
        receive_buffer_bytes: 8 << 20,
        retained_bytes: 1 << 20,
        max_payload_bytes: 32 << 10,
        ..options()
    };
    let mut pair = Pair::new(1, roomy);
    let mut channels: Vec<_> = (0..3).map(|number| TestChannel::open(&mut pair, 0, number)).collect();
    pair.run_for(500);
    for channel in &mut channels {
        while channel.send(&mut pair, 16_000).unwrap() {}
    }
    let (link, now) = (pair.links()[0], pair.now());
    let mut frames = Vec::new();
    pair.sides[0].session.transmit(link, 600 << 10, now, &mut frames);
    let mut bytes = BTreeMap::new();
    for frame in &frames {
        if let Frame::Payload { channel, .. } = frame {
            *bytes.entry(*channel).or_insert(0) += frame.payload_bytes();
        }
    }
    assert_eq!(bytes.len(), 3);
    assert!(bytes.values().all(|bytes| (150 << 10..260 << 10).contains(bytes)), "{bytes:?}");
}

#[test]
fn a_slow_reader_has_little_under_way_where_buffers_are_debloated() {
    let under_way = |debloat_target| {
        let window = 1 << 20;
        let options = ShuffleOptions {
            window_bytes: window,
            receive_buffer_bytes: window,
            retained_bytes: window,
            debloat_target,
            ..options()
        };
        let (mut pair, [mut channel, _]) = connected(options);
        // 100 payloads a second, twice the window in all, and a sender that always has more.
        for _ in 0..2_000 {
            while channel.send(&mut pair, 1_000).unwrap() {}
            channel.read(&mut pair).unwrap();
            pair.run_for(10);
        }
        pair.sides[1].pool.held()
    };
    let (bloated, lean) = (under_way(None), under_way(Some(Duration::from_millis(500))));
    assert!(bloated > 512 << 10, "{bloated}");
    // 50 payloads of some 1,100 charged bytes.
    assert!((40_000..80_000).contains(&lean), "{lean}");
}
