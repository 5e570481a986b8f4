//! How channels and sessions begin and end: one that waits, one that leaves, one that is lost.

use super::*;

#[test]
fn a_peer_without_a_connection_is_lost_after_the_timeout() {
    let (mut pair, [mut channel, mut back]) =
        connected(ShuffleOptions { reconnect_timeout: Duration::from_secs(10), ..options() });
    assert!(back.send(&mut pair, 10).unwrap());
    pair.run_for(1_000);
    pair.faults.refuse = 1.0;
    let link = pair.links()[0];
    pair.kill(link, [Some(0), Some(0)]);
    pair.run_for(9_900);
    assert!(channel.send(&mut pair, 10).is_ok(), "not yet");
    pair.run_for(200);
    let lost = channel.send(&mut pair, 10).unwrap_err();
    assert_eq!(
        lost,
        ChannelError::PeerLost { peer: "acceptor".parse().unwrap(), cause: "connection reset".to_owned() }
    );
    assert!(back.read(&mut pair).unwrap(), "what has arrived can be read");
    assert!(matches!(back.read(&mut pair), Err(ChannelError::PeerLost { .. })));
    for channel in [&channel, &back] {
        channel.close(&mut pair);
    }
    pair.run_for(0);
    assert!(pair.sides.iter().all(|side| side.session.is_unused() && side.pool.held() == 0));
}

#[test]
fn after_a_loss_new_channels_get_a_new_session() {
    let (mut pair, lost) = connected(ShuffleOptions { reconnect_timeout: Duration::from_secs(10), ..options() });
    // Registered before the loss, but never answered: it is no part of what was lost.
    let link = pair.links()[0];
    pair.faults.refuse = 1.0;
    pair.kill(link, [Some(0), None]);
    pair.run_for(0);
    let mut early = TestChannel::open(&mut pair, 1, 9);
    pair.run_for(11_000);
    pair.faults.refuse = 0.0;
    let mut late = TestChannel::open(&mut pair, 0, 8);
    for channel in &lost {
        channel.close(&mut pair);
    }
    for channel in [&mut early, &mut late] {
        pair.run_for(10_000);
        assert!(channel.send(&mut pair, 10).unwrap());
        channel.finish(&mut pair);
        pair.run_for(1_000);
        channel.read_all(&mut pair).unwrap();
        assert!(channel.ended && channel.is_finished(&mut pair).unwrap());
    }
}

#[test]
fn an_end_that_does_not_appear_is_reported_by_name() {
    let options = ShuffleOptions { open_timeout: Duration::from_secs(30), ..options() };
    let waited = options.open_timeout;
    let (mut pair, _channels) = connected(options);
    let now = pair.now();
    let sender = pair.sides[0].session.open_sender(ChannelId::from_bytes([7; 16]), now).unwrap();
    let receiver = pair.sides[0].session.open_receiver(ChannelId::from_bytes([8; 16]), now).unwrap();
    pair.run_for(31_000);
    let expected = ChannelError::NotOpened { peer: "TaskManager acceptor".to_owned(), waited, cause: None };
    assert_eq!(pair.sides[0].session.poll_finish(sender), Err(expected.clone()));
    let now = pair.now();
    assert_eq!(pair.sides[0].session.read(receiver, now), Err(expected));
    pair.sides[0].session.close_sender(sender);
    pair.sides[0].session.close_receiver(receiver);
    pair.run_for(1_000);
    assert_eq!(
        (pair.sides[0].session.stats().senders, pair.sides[0].session.stats().receivers),
        (1, 1),
        "both are forgotten"
    );
}

#[test]
fn an_open_waits_for_its_receiver() {
    let (mut pair, _channels) = connected(options());
    let (id, now) = (ChannelId::from_bytes([7; 16]), pair.now());
    let sender = pair.sides[0].session.open_sender(id, now).unwrap();
    pair.run_for(60_000);
    let chunks = Chunks::from([Bytes::from_static(b"x")]);
    assert!(pair.sides[0].session.send(sender, PayloadKind::Data, chunks.clone()).unwrap().is_some(), "no credit yet");
    let now = pair.now();
    pair.sides[1].session.open_receiver(id, now).unwrap();
    pair.run_for(1_000);
    assert!(pair.sides[0].session.send(sender, PayloadKind::Data, chunks).unwrap().is_none());
}

#[test]
fn dropping_an_end_reaches_the_other() {
    let (mut pair, [mut aborted, mut closed]) = connected(options());
    assert!(aborted.send(&mut pair, 10).unwrap() && closed.send(&mut pair, 10).unwrap());
    pair.sides[aborted.from].session.close_sender(aborted.sender);
    pair.sides[1 - closed.from].session.close_receiver(closed.receiver);
    pair.run_for(1_000);
    assert!(aborted.read(&mut pair).unwrap());
    assert_eq!(aborted.read(&mut pair), Err(ChannelError::SenderAborted));
    assert_eq!(closed.send(&mut pair, 10), Err(ChannelError::ReceiverClosed));
    pair.sides[1 - aborted.from].session.close_receiver(aborted.receiver);
    pair.sides[closed.from].session.close_sender(closed.sender);
    pair.run_for(1_000);
    for side in &pair.sides {
        let stats = side.session.stats();
        assert_eq!((stats.senders, stats.receivers, side.pool.held()), (0, 0, 0));
    }
}
