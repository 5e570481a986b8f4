//! A peer that breaks the protocol: it is cut off, the session lives on, and nothing panics.

use super::*;

/// Lets side 0 say `frame` and returns what side 1 thinks of it.
fn judge(prepare: impl FnOnce(&mut Pair, &mut [TestChannel; 2]), frame: Frame<Chunks>) -> Violation {
    let (mut pair, mut channels) = connected(options());
    prepare(&mut pair, &mut channels);
    pair.run_for(1_000);
    let link = pair.links()[0];
    pair.inject(0, link, &frame);
    pair.run_for(100);
    assert_eq!(pair.violations.len(), 1, "{frame:?}");
    assert_eq!(pair.sides[1].session.stats().violations, 1);
    // The connection is cut, the session lives on.
    pair.run_for(10_000);
    assert_ne!(pair.links(), [link]);
    for channel in &mut channels {
        assert!(channel.send(&mut pair, 10).unwrap());
        pair.run_for(1_000);
        channel.read_all(&mut pair).unwrap();
        assert_eq!(channel.read, channel.sent);
    }
    pair.violations.pop().unwrap()
}

#[test]
fn a_peer_that_breaks_the_protocol_is_cut_off() {
    let payload = |channel, sequence, length| Frame::Payload {
        kind: PayloadKind::Data,
        channel,
        sequence,
        body: Chunks::from([Bytes::from(vec![0; length])]),
    };
    let nothing = |_: &mut Pair, _: &mut [TestChannel; 2]| {};
    assert_eq!(judge(nothing, payload(99, 0, 1)), Violation::UnknownChannel(99));
    assert_eq!(judge(nothing, payload(1, 500, 1)), Violation::Sequence { channel: 1, sequence: 500, next: 0 });
    assert_eq!(
        judge(nothing, Frame::Open { channel: 1, id: ChannelId::from_bytes([9; 16]) }),
        Violation::ChannelReused(1)
    );
    assert_eq!(
        judge(nothing, Frame::Open { channel: 5, id: ChannelId::from_bytes([1; 16]) }),
        Violation::ChannelReused(5)
    );
    assert_eq!(
        judge(nothing, Frame::Credit { channel: 1, next: 1, limit: 0 }),
        Violation::Acknowledgement { channel: 1, next: 1, sent: 0 }
    );
    assert_eq!(judge(nothing, Frame::Credit { channel: 7, next: 0, limit: 0 }), Violation::UnknownChannel(7));
    assert_eq!(judge(nothing, Frame::Resume), Violation::OutOfTurn("Resume"));
    assert_eq!(judge(nothing, Frame::FinAck), Violation::OutOfTurn("FinAck"));
    let spend =
        |pair: &mut Pair, channels: &mut [TestChannel; 2]| while channels[0].send(pair, MAX_PAYLOAD).unwrap() {};
    assert!(matches!(judge_credit(spend), Violation::Credit { channel: 1, .. }));
}

/// As [`judge`], for a sender that goes on without credit; its channel cannot be used after that.
fn judge_credit(spend: impl FnOnce(&mut Pair, &mut [TestChannel; 2])) -> Violation {
    let (mut pair, mut channels) = connected(options());
    spend(&mut pair, &mut channels);
    pair.run_for(1_000);
    let link = pair.links()[0];
    for beyond in 0..2 {
        let body = Chunks::from([Bytes::from(vec![0; MAX_PAYLOAD])]);
        let sequence = channels[0].sent + beyond;
        pair.inject(0, link, &Frame::Payload { kind: PayloadKind::Data, channel: 1, sequence, body });
    }
    pair.run_for(100);
    pair.violations.pop().unwrap()
}

#[test]
fn nonsense_in_any_order_never_panics() {
    for seed in 0..300 {
        let (mut pair, mut channels) = connected(ShuffleOptions { max_pending_opens: 8, ..options() });
        pair.rng = rand::SeedableRng::seed_from_u64(seed);
        for _ in 0..200 {
            let mut pick = |max: u64| pair.rng.random_range(0..max);
            let (channel, sequence) = (pick(4) as u32, pick(6));
            let frame = match pick(12) {
                0 => Frame::Open { channel, id: ChannelId::from_bytes([pick(4) as u8; 16]) },
                1 | 2 => Frame::Payload {
                    kind: PayloadKind::Data,
                    channel,
                    sequence,
                    body: Chunks::from([Bytes::from(vec![0; pick(3000) as usize])]),
                },
                3 => Frame::Finish { channel, sequence, aborted: pick(2) == 0 },
                4 => Frame::Credit { channel, next: sequence, limit: pick(u64::MAX) },
                5 => Frame::Stop { channel, reason: StopReason::Closed },
                6 => Frame::Resume,
                7 => Frame::GoAway,
                8 => Frame::Fin,
                9 => Frame::FinAck,
                _ => Frame::Ping,
            };
            let side = usize::from(pick(2) == 0);
            if let Some(link) = pair.links().first() {
                pair.inject(side, *link, &frame);
            }
            for channel in &mut channels {
                let _ = channel.send(&mut pair, 100);
                let now = pair.now();
                let _ = pair.sides[1 - channel.from].session.read(channel.receiver, now);
            }
            let pause = pair.rng.random_range(0..50);
            pair.run_for(pause);
            check_bounds(&pair, 8);
        }
    }
}
