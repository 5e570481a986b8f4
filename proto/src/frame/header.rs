//! The fixed header: read whole, checked field by field, before anything is allocated for the body.

use super::decode::FrameError;
use super::{ALIGNMENT_BYTES, HEADER_BYTES, MAX_HELLO_BYTES, MAX_MESSAGE_BYTES};

/// What a frame is; the number is the one on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "each is the frame of the same name")]
pub enum Kind {
    Hello = 1,
    Open = 2,
    Data = 3,
    Event = 4,
    Finish = 5,
    Credit = 6,
    Stop = 7,
    Resume = 8,
    GoAway = 9,
    Fin = 10,
    FinAck = 11,
    Ping = 12,
    Error = 13,
}

/// The one flag there is; what it says depends on the kind.
pub(super) const FLAG: u8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) kind: Kind,
    pub(super) flag: bool,
    pub(super) channel: u32,
    pub(super) sequence: u64,
    pub(super) value: u64,
}

/// Which fields a kind uses, and how long its body may be.
struct Shape {
    flag: bool,
    channel: bool,
    sequence: bool,
    value: bool,
    body: std::ops::RangeInclusive<usize>,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        const ALL: [Kind; 13] = [
            Kind::Hello,
            Kind::Open,
            Kind::Data,
            Kind::Event,
            Kind::Finish,
            Kind::Credit,
            Kind::Stop,
            Kind::Resume,
            Kind::GoAway,
            Kind::Fin,
            Kind::FinAck,
            Kind::Ping,
            Kind::Error,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    fn shape(self, max_payload: usize) -> Shape {
        let shape = |flag, channel, sequence, value, body| Shape { flag, channel, sequence, value, body };
        match self {
            Self::Hello => shape(true, true, true, true, 0..=MAX_HELLO_BYTES),
            Self::Open => shape(false, true, false, false, 16..=16),
            Self::Data | Self::Event => shape(false, true, true, false, 0..=max_payload),
            Self::Finish => shape(true, true, true, false, 0..=0),
            Self::Credit => shape(false, true, true, true, 0..=0),
            Self::Stop => shape(false, true, false, true, 0..=0),
            Self::Resume | Self::GoAway | Self::Fin | Self::FinAck | Self::Ping => {
                shape(false, false, false, false, 0..=0)
            }
            Self::Error => shape(false, false, false, true, 0..=MAX_MESSAGE_BYTES),
        }
    }
}

impl Header {
    pub(super) fn new(kind: Kind) -> Self {
        Self { length: 0, kind, flag: false, channel: 0, sequence: 0, value: 0 }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        // Bodies are bounded far below 4 GiB: by the encoder's own limits and by `MAX_BODY_BYTES` for payloads.
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        bytes[0..4].copy_from_slice(&length.to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[5] = if self.flag { FLAG } else { 0 };
        bytes[8..12].copy_from_slice(&self.channel.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.value.to_le_bytes());
        bytes
    }

    /// Accepts nothing that [`Header::to_bytes`] would not have written.
    pub(super) fn check(bytes: &[u8; HEADER_BYTES], max_payload: usize) -> Result<Self, FrameError> {
        let (length, rest) = take::<4>(bytes);
        let ([kind, flags], rest) = take::<2>(rest);
        let (zero16, rest) = take::<2>(rest);
        let (channel, rest) = take::<4>(rest);
        let (zero32, rest) = take::<4>(rest);
        let (sequence, rest) = take::<8>(rest);
        let (value, _) = take::<8>(rest);

        let header = Self {
            length: usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX),
            kind: Kind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?,
            flag: flags & FLAG != 0,
            channel: u32::from_le_bytes(channel),
            sequence: u64::from_le_bytes(sequence),
            value: u64::from_le_bytes(value),
        };
        let shape = header.kind.shape(max_payload);
        let unused = flags & !FLAG == 0 && zero16 == [0; 2] && zero32 == [0; 4];
        let fits = (shape.flag || !header.flag)
            && (shape.channel || header.channel == 0)
            && (shape.sequence || header.sequence == 0)
            && (shape.value || header.value == 0);
        if !unused || !fits {
            return Err(FrameError::UnusedField { kind: header.kind });
        }
        if !shape.body.contains(&header.length) {
            return Err(FrameError::Length { kind: header.kind, length: header.length, max: *shape.body.end() });
        }
        Ok(header)
    }
}

/// The length of a body on the wire.
pub(super) const fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT_BYTES)
}

fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    bytes.split_first_chunk::<N>().map_or(([0; N], &[]), |(taken, rest)| (*taken, rest))
}
