//! Frames to bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{Header, Kind, padded};
use super::{Chunks, Frame, Hello, MAX_HELLO_BYTES, MAX_MESSAGE_BYTES, PayloadKind};

/// First bytes of a hello's body.
pub(super) const MAGIC: [u8; 4] = *b"TMDP";

impl Frame<Chunks> {
    /// Appends the whole frame to `out`, payload copied.
    pub fn encode(&self, out: &mut BytesMut) {
        let body = self.encode_head(out);
        body.iter().for_each(|chunk| out.put_slice(chunk));
        out.put_bytes(0, self.padding_bytes());
    }

    /// Appends everything but a payload and its padding to `out` and returns the payload, which the caller puts on the
    /// wire next, followed by [`Self::padding_bytes`] zeros: a large payload is so never copied.
    #[must_use = "the payload follows"]
    pub fn encode_head(&self, out: &mut BytesMut) -> &[Bytes] {
        let mut control = BytesMut::new();
        let mut header = self.header();
        match self {
            Self::Payload { .. } => {}
            Self::Hello(hello) => hello.encode_body(&mut control),
            Self::Open { id, .. } => control.put_slice(id.as_bytes()),
            Self::Error { message, .. } => control.put_slice(cut(message, MAX_MESSAGE_BYTES).as_bytes()),
            _ => {}
        }
        if let Self::Payload { body, .. } = self {
            header.length = self.payload_bytes();
            out.put_slice(&header.to_bytes());
            return body;
        }
        header.length = control.len();
        out.put_slice(&header.to_bytes());
        out.put_slice(&control);
        out.put_bytes(0, padded(control.len()) - control.len());
        &[]
    }

    /// Bytes of the payload; 0 for control frames.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Payload { body, .. } => body.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }

    /// Zeros that follow the payload.
    pub fn padding_bytes(&self) -> usize {
        let length = self.payload_bytes();
        padded(length) - length
    }

    fn header(&self) -> Header {
        match self {
            Self::Hello(hello) => Header {
                flag: hello.resumed,
                channel: u32::from(hello.lane) | u32::from(hello.lanes) << 16,
                sequence: hello.connection,
                value: hello.session,
                ..Header::new(Kind::Hello)
            },
            Self::Open { channel, .. } => Header { channel: *channel, ..Header::new(Kind::Open) },
            Self::Payload { kind, channel, sequence, .. } => {
                let kind = match kind {
                    PayloadKind::Data => Kind::Data,
                    PayloadKind::Event => Kind::Event,
                };
                Header { channel: *channel, sequence: *sequence, ..Header::new(kind) }
            }
            Self::Finish { channel, sequence, aborted } => {
                Header { channel: *channel, sequence: *sequence, flag: *aborted, ..Header::new(Kind::Finish) }
            }
            Self::Credit { channel, next, limit } => {
                Header { channel: *channel, sequence: *next, value: *limit, ..Header::new(Kind::Credit) }
            }
            Self::Stop { channel, reason } => {
                Header { channel: *channel, value: reason.code(), ..Header::new(Kind::Stop) }
            }
            Self::Resume => Header::new(Kind::Resume),
            Self::GoAway => Header::new(Kind::GoAway),
            Self::Fin => Header::new(Kind::Fin),
            Self::FinAck => Header::new(Kind::FinAck),
            Self::Ping => Header::new(Kind::Ping),
            Self::Error { code, .. } => Header { value: code.code(), ..Header::new(Kind::Error) },
        }
    }
}

impl Hello {
    fn encode_body(&self, out: &mut BytesMut) {
        out.put_slice(&MAGIC);
        out.put_u16_le(self.version);
        out.put_slice(cut(self.task_manager.as_str(), MAX_HELLO_BYTES - MAGIC.len() - size_of::<u16>()).as_bytes());
    }
}

/// As much of `text` as fits into `max` bytes.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}
