//! Frames on their way into a connection: headers and small pieces gathered into blocks, large payload pieces as they
//! are.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::frame::{Chunks, Frame};

/// Pieces up to this length are copied into the block before them: that is cheaper than one more slice in the write,
/// and keeps the number of slices per write small.
const COPY_BYTES: usize = 4 << 10;

/// New memory for gathered pieces comes in blocks of this size.
const BLOCK_BYTES: usize = 64 << 10;

/// Slices per write: what rustls and the kernel take at once without looking further.
pub(super) const SLICES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Complete pieces, oldest first.
    pieces: VecDeque<Bytes>,
    /// What is being gathered; comes after `pieces`.
    block: BytesMut,
    remaining: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, frame: &Frame<Chunks>) {
        if self.block.capacity() - self.block.len() < COPY_BYTES {
            self.block.reserve(BLOCK_BYTES);
        }
        let before = self.block.len();
        let body = frame.encode_head(&mut self.block);
        self.remaining += self.block.len() - before;
        for chunk in body {
            self.remaining += chunk.len();
            if chunk.len() <= COPY_BYTES {
                self.block.put_slice(chunk);
            } else {
                self.seal();
                self.pieces.push_back(chunk.clone());
            }
        }
        self.block.put_bytes(0, frame.padding_bytes());
        self.remaining += frame.padding_bytes();
    }

    /// Bytes not yet written.
    pub(super) fn remaining(&self) -> usize {
        self.remaining
    }

    /// Fills `slices` with the first pieces and returns those that are filled.
    pub(super) fn slices<'a, 's>(&'a mut self, slices: &'s mut [IoSlice<'a>; SLICES]) -> &'s [IoSlice<'a>] {
        self.seal();
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        slices.get(..filled).unwrap_or_default()
    }

    /// The first `count` bytes have been written.
    pub(super) fn advance(&mut self, mut count: usize) {
        self.remaining -= count;
        while count > 0
            && let Some(piece) = self.pieces.front_mut()
        {
            let taken = count.min(piece.len());
            piece.advance(taken);
            count -= taken;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    fn seal(&mut self) {
        if !self.block.is_empty() {
            self.pieces.push_back(self.block.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proto::frame::PayloadKind;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_was_pushed(lengths in prop::collection::vec(prop::collection::vec(0..3 * COPY_BYTES, 0..4), 1..8), writes in prop::collection::vec(1usize..100_000, 1..20)) {
            let mut outbox = Outbox::default();
            let mut expected = BytesMut::new();
            let mut written = Vec::new();
            let mut writes = writes.into_iter().cycle();
            for (sequence, lengths) in (0u64..).zip(&lengths) {
                let body = lengths.iter().map(|length| Bytes::from(vec![sequence as u8; *length])).collect();
                let frame = Frame::Payload { kind: PayloadKind::Data, channel: 1, sequence, body };
                frame.encode(&mut expected);
                outbox.push(&frame);
                // A write takes some of what is there, as a socket does.
                let mut slices = [IoSlice::new(&[]); SLICES];
                let available = outbox.slices(&mut slices).concat_bytes();
                let taken = writes.next().unwrap_or(1).min(available.len());
                written.extend_from_slice(&available[..taken]);
                outbox.advance(taken);
            }
            while outbox.remaining() > 0 {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let available = outbox.slices(&mut slices).concat_bytes();
                outbox.advance(available.len());
                written.extend_from_slice(&available);
            }
            prop_assert_eq!(written, expected.to_vec());
        }
    }

    trait ConcatBytes {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl ConcatBytes for [IoSlice<'_>] {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|slice| slice.to_vec()).collect()
        }
    }
}
