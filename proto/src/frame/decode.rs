//! Bytes to frames: check the header, then take the body, then parse it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::encode::MAGIC;
use super::header::{Header, Kind, padded};
use super::{ChannelId, ErrorCode, Frame, HEADER_BYTES, Hello, MAX_BODY_BYTES, PayloadKind, StopReason};

/// Takes a stream apart into frames, however it is cut into pieces.
///
/// From a plain slice, a body gets exactly the memory it needs, so that a frame somebody keeps never pins a larger
/// buffer. From a [`Bytes`] or [`BytesMut`], a body that lies whole in it is sliced out instead of copied. Memory per
/// decoder: one header and one body.
#[derive(Debug)]
pub struct Decoder {
    max_payload_bytes: usize,
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    body: Option<(Header, BytesMut)>,
}

/// Bytes that are no frame: the peer's fault. The stream cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not our protocol, or a later version of it.
    #[error("frame of unknown kind {0}")]
    UnknownKind(u8),
    /// A bit is set where this kind has none.
    #[error("{kind:?} frame with a non-zero unused field")]
    UnusedField {
        /// The frame's kind.
        kind: Kind,
    },
    /// Refused before anything was allocated.
    #[error("{kind:?} frame with a body of {length} bytes (at most {max} are allowed)")]
    Length {
        /// The frame's kind.
        kind: Kind,
        /// Announced length of the body.
        length: usize,
        /// Largest length here.
        max: usize,
    },
    /// The hello does not begin with our magic number.
    #[error("hello of another protocol")]
    NotAHello,
    /// Text or an id inside a body is malformed.
    #[error("{kind:?} frame with a malformed {what}")]
    Malformed {
        /// The frame's kind.
        kind: Kind,
        /// Which part of the body.
        what: &'static str,
    },
}

impl Decoder {
    /// A decoder at the beginning of a stream that refuses payloads above `max_payload_bytes` (itself at most
    /// [`MAX_BODY_BYTES`]).
    pub fn new(max_payload_bytes: usize) -> Self {
        Self {
            max_payload_bytes: max_payload_bytes.min(MAX_BODY_BYTES),
            header: [0; HEADER_BYTES],
            header_filled: 0,
            body: None,
        }
    }

    /// Takes bytes from `input` up to the end of the next frame; `None` when all of it is taken and the frame is not
    /// complete.
    ///
    /// # Errors
    /// The stream is no sequence of frames; the decoder must not be used again.
    pub fn decode(&mut self, input: &mut impl Buf) -> Result<Option<Frame>, FrameError> {
        let (header, mut body) = match self.body.take() {
            Some(begun) => begun,
            None => match self.take_header(input)? {
                None => return Ok(None),
                Some(header) if input.remaining() >= padded(header.length) => {
                    let mut body = input.copy_to_bytes(padded(header.length));
                    body.truncate(header.length);
                    return parse(header, body).map(Some);
                }
                Some(header) => (header, BytesMut::with_capacity(padded(header.length))),
            },
        };
        let missing = padded(header.length) - body.len();
        body.put(input.take(missing));
        if body.len() < padded(header.length) {
            self.body = Some((header, body));
            return Ok(None);
        }
        body.truncate(header.length);
        parse(header, body.freeze()).map(Some)
    }

    /// Whether the stream may end here.
    pub fn is_between_frames(&self) -> bool {
        self.header_filled == 0 && self.body.is_none()
    }

    fn take_header(&mut self, input: &mut impl Buf) -> Result<Option<Header>, FrameError> {
        let rest = self.header.get_mut(self.header_filled..).unwrap_or_default();
        let taken = rest.len().min(input.remaining());
        if let Some(rest) = rest.get_mut(..taken) {
            input.copy_to_slice(rest);
        }
        self.header_filled += taken;
        if self.header_filled < HEADER_BYTES {
            return Ok(None);
        }
        self.header_filled = 0;
        Header::check(&self.header, self.max_payload_bytes).map(Some)
    }
}

fn parse(header: Header, mut body: Bytes) -> Result<Frame, FrameError> {
    let Header { kind, flag, channel, sequence, value, .. } = header;
    let payload = |kind, body| Frame::Payload { kind, channel, sequence, body };
    Ok(match kind {
        Kind::Hello => {
            if body.len() < MAGIC.len() + size_of::<u16>() || !body.starts_with(&MAGIC) {
                return Err(FrameError::NotAHello);
            }
            body.advance(MAGIC.len());
            let version = body.get_u16_le();
            let task_manager = std::str::from_utf8(&body).ok().and_then(|id| id.parse().ok());
            let task_manager = task_manager.ok_or(FrameError::Malformed { kind, what: "TaskManager id" })?;
            let [lane_low, lane_high, lanes_low, lanes_high] = channel.to_le_bytes();
            let (lane, lanes) =
                (u16::from_le_bytes([lane_low, lane_high]), u16::from_le_bytes([lanes_low, lanes_high]));
            let (session, connection, resumed) = (value, sequence, flag);
            Frame::Hello(Hello { version, task_manager, lane, lanes, session, connection, resumed })
        }
        Kind::Open => {
            let id =
                <[u8; 16]>::try_from(body.as_ref()).map_err(|_| FrameError::Malformed { kind, what: "channel id" })?;
            Frame::Open { channel, id: ChannelId::from_bytes(id) }
        }
        Kind::Data => payload(PayloadKind::Data, body),
        Kind::Event => payload(PayloadKind::Event, body),
        Kind::Finish => Frame::Finish { channel, sequence, aborted: flag },
        Kind::Credit => Frame::Credit { channel, next: sequence, limit: value },
        Kind::Stop => Frame::Stop { channel, reason: StopReason::from_code(value) },
        Kind::Resume => Frame::Resume,
        Kind::GoAway => Frame::GoAway,
        Kind::Fin => Frame::Fin,
        Kind::FinAck => Frame::FinAck,
        Kind::Ping => Frame::Ping,
        Kind::Error => {
            let message =
                std::str::from_utf8(&body).map_err(|_| FrameError::Malformed { kind, what: "message" })?.to_owned();
            Frame::Error { code: ErrorCode::from_code(value), message }
        }
    })
}
