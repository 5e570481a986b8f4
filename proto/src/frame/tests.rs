//! Roundtrips of every frame, cut anywhere; garbage never panics and never allocates what it announces.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use bytes::{Buf, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

const MAX_PAYLOAD: usize = 4096;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..=max).prop_map(Bytes::from)
}

fn frame() -> impl Strategy<Value = Frame<Chunks>> {
    let payload = (any::<bool>(), any::<u32>(), any::<u64>(), prop::collection::vec(bytes(MAX_PAYLOAD / 4), 0..4))
        .prop_map(|(event, channel, sequence, chunks)| Frame::Payload {
            kind: if event { PayloadKind::Event } else { PayloadKind::Data },
            channel,
            sequence,
            body: Chunks::from(chunks),
        });
    let numbers = (any::<u16>(), any::<u16>(), any::<u16>(), any::<u64>(), any::<u64>());
    let hello = ("[!-~]{1,255}", numbers, any::<bool>()).prop_map(
        |(id, (version, lane, lanes, session, connection), resumed)| {
            let task_manager = id.parse().unwrap();
            Frame::Hello(Hello { version, task_manager, lane, lanes, session, connection, resumed })
        },
    );
    let stop = prop_oneof![Just(StopReason::Closed), Just(StopReason::NotRegistered), Just(StopReason::TooMany)];
    prop_oneof![
        4 => payload,
        1 => hello,
        1 => (any::<u32>(), any::<[u8; 16]>()).prop_map(|(channel, id)| Frame::Open { channel, id: ChannelId::from_bytes(id) }),
        1 => (any::<u32>(), any::<u64>(), any::<bool>())
            .prop_map(|(channel, sequence, aborted)| Frame::Finish { channel, sequence, aborted }),
        1 => (any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(channel, next, limit)| Frame::Credit { channel, next, limit }),
        1 => (any::<u32>(), stop).prop_map(|(channel, reason)| Frame::Stop { channel, reason }),
        1 => prop_oneof![Just(Frame::Resume), Just(Frame::GoAway), Just(Frame::Fin), Just(Frame::FinAck), Just(Frame::Ping)],
        1 => (any::<u64>(), "\\PC{0,100}")
            .prop_map(|(code, message)| Frame::Error { code: ErrorCode::from_code(code), message }),
    ]
}

/// What the peer sees of a sent frame.
fn received(sent: &Frame<Chunks>) -> Frame {
    match sent.clone() {
        Frame::Hello(hello) => Frame::Hello(hello),
        Frame::Open { channel, id } => Frame::Open { channel, id },
        Frame::Payload { kind, channel, sequence, body } => {
            Frame::Payload { kind, channel, sequence, body: body.concat().into() }
        }
        Frame::Finish { channel, sequence, aborted } => Frame::Finish { channel, sequence, aborted },
        Frame::Credit { channel, next, limit } => Frame::Credit { channel, next, limit },
        Frame::Stop { channel, reason } => Frame::Stop { channel, reason },
        Frame::Resume => Frame::Resume,
        Frame::GoAway => Frame::GoAway,
        Frame::Fin => Frame::Fin,
        Frame::FinAck => Frame::FinAck,
        Frame::Ping => Frame::Ping,
        Frame::Error { code, message } => Frame::Error { code, message },
    }
}

fn encode(frames: &[Frame<Chunks>]) -> BytesMut {
    let mut wire = BytesMut::new();
    frames.iter().for_each(|frame| frame.encode(&mut wire));
    wire
}

proptest! {
    #[test]
    fn every_frame_survives_the_wire_however_it_is_cut(frames in prop::collection::vec(frame(), 0..12), cuts in prop::collection::vec(1usize..3000, 1..40)) {
        let mut wire = encode(&frames).freeze();
        prop_assert_eq!(wire.len() % ALIGNMENT_BYTES, 0);
        let mut decoder = Decoder::new(MAX_PAYLOAD);
        let mut out = Vec::new();
        for cut in cuts.iter().cycle() {
            let mut piece = wire.split_to((*cut).min(wire.len()));
            while let Some(frame) = decoder.decode(&mut piece).unwrap() {
                out.push(frame);
            }
            prop_assert!(!piece.has_remaining());
            if wire.is_empty() {
                break;
            }
        }
        prop_assert!(decoder.is_between_frames());
        prop_assert_eq!(out, frames.iter().map(received).collect::<Vec<_>>());
    }

    #[test]
    fn garbage_is_an_error_or_waits_for_more(garbage in prop::collection::vec(any::<u8>(), 0..4096)) {
        let mut decoder = Decoder::new(MAX_PAYLOAD);
        let mut input = Bytes::from(garbage);
        while let Ok(Some(_)) = decoder.decode(&mut input) {}
    }

    #[test]
    fn one_changed_byte_never_panics(frame in frame(), at: prop::sample::Index, to: u8) {
        let mut wire = encode(&[frame]);
        let at = at.index(wire.len());
        wire[at] = to;
        let mut decoder = Decoder::new(MAX_PAYLOAD);
        while let Ok(Some(_)) = decoder.decode(&mut wire) {}
    }
}

#[test]
fn a_length_over_the_limit_is_refused_at_the_header() {
    let body = Chunks::from([Bytes::from(vec![0; MAX_PAYLOAD + 1])]);
    let wire = encode(&[Frame::Payload { kind: PayloadKind::Data, channel: 1, sequence: 0, body }]);
    let mut header = &wire[..HEADER_BYTES];
    let refused = Decoder::new(MAX_PAYLOAD).decode(&mut header).unwrap_err();
    assert_eq!(refused, FrameError::Length { kind: Kind::Data, length: MAX_PAYLOAD + 1, max: MAX_PAYLOAD });
}

#[test]
fn a_whole_body_is_sliced_and_not_copied() {
    let body = Chunks::from([Bytes::from(vec![7; 1000])]);
    let mut wire = encode(&[Frame::Payload { kind: PayloadKind::Data, channel: 1, sequence: 0, body }]).freeze();
    let in_wire = wire[HEADER_BYTES..].as_ptr();
    let Some(Frame::Payload { body, .. }) = Decoder::new(MAX_PAYLOAD).decode(&mut wire).unwrap() else {
        panic!("no payload")
    };
    assert_eq!(body.as_ptr(), in_wire);
}

#[test]
fn unused_fields_must_be_zero() {
    let ping = encode(&[Frame::Ping]);
    for at in 5..HEADER_BYTES {
        let mut wire = ping.clone();
        wire[at] = 1;
        assert_eq!(
            Decoder::new(MAX_PAYLOAD).decode(&mut wire),
            Err(FrameError::UnusedField { kind: Kind::Ping }),
            "byte {at}"
        );
    }
}

#[test]
fn a_long_message_is_cut_at_a_character() {
    let frame = Frame::Error { code: ErrorCode::Violation, message: "ä".repeat(MAX_MESSAGE_BYTES) };
    let Some(Frame::Error { message, .. }) = Decoder::new(0).decode(&mut encode(&[frame])).unwrap() else {
        panic!("no error frame")
    };
    assert_eq!(message, "ä".repeat(MAX_MESSAGE_BYTES / 2));
}
