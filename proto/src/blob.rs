//! The blob protocol's wire format: fixed little-endian headers, checked before anything is allocated. No IO, no
//! hashing.
//!
//! ```text
//! server -> client   greeting   8 bytes   "TMBL", version u16, zero u16       the client is accepted
//! client -> server   request   48 bytes   op u8, zero x 7, length u64, digest [32]
//! server -> client   response  16 bytes   code u8, zero x 7, length u64       then `length` bytes of body
//! ```
//!
//! The server speaks first, because a TLS 1.3 client learns only from its first read whether its certificate was
//! accepted. A PUT says what is coming (length and SHA-256) and sends the body only after [`Response::Send`]: a
//! refusal always reaches the client, and bytes that are stored already are not sent again. A connection may carry
//! any number of requests, one at a time.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// ALPN name of this protocol on TLS connections.
pub const ALPN: &str = "tidemill-blob/1";

/// Largest blob that can be stored, in bytes (256 MiB).
pub const BLOB_BYTES_MAX: u64 = 256 << 20;

/// Largest explanation that comes with a [`Refusal`], in bytes.
pub const MESSAGE_BYTES_MAX: u64 = 4 << 10;

/// Largest status report, in bytes (1 MiB).
pub const REPORT_BYTES_MAX: u64 = 1 << 20;

/// The name of a blob: the SHA-256 of its bytes. Written as 64 lower-case hex digits; read in any case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Takes the 32 bytes of a SHA-256 as they are.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the SHA-256.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return Err(ParseDigestError(()));
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The text is not the name of a blob.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a blob is named by its SHA-256: 64 hexadecimal digits")]
pub struct ParseDigestError(());

/// The server's first bytes: it has accepted the client and speaks this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting;

impl Greeting {
    /// Length on the wire, in bytes.
    pub const LEN: usize = 8;

    pub const fn encode(self) -> [u8; Self::LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let [v0, v1] = VERSION.to_le_bytes();
        [m0, m1, m2, m3, v0, v1, 0, 0]
    }

    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, ProtocolError> {
        let [m0, m1, m2, m3, v0, v1, r0, r1] = *bytes;
        if [m0, m1, m2, m3] != MAGIC || [r0, r1] != [0, 0] {
            return Err(ProtocolError::NotABlobServer);
        }
        match u16::from_le_bytes([v0, v1]) {
            VERSION => Ok(Self),
            version => Err(ProtocolError::Version(version)),
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Store `length` bytes, at most [`BLOB_BYTES_MAX`], whose SHA-256 is `digest`. Answered by `Send` or, if it is
    /// there, `Stored`.
    Put { digest: Digest, length: u64 },
    /// Answered by `Blob`.
    Get { digest: Digest },
    /// Answered by `Deleted`, whether or not it was there.
    Delete { digest: Digest },
    /// The server's endpoint status as JSON. Answered by `Report`.
    Status,
}

impl Request {
    /// Length on the wire, in bytes.
    pub const LEN: usize = 48;

    pub fn encode(&self) -> [u8; Self::LEN] {
        let (op, length, digest) = match *self {
            Self::Put { digest, length } => (OP_PUT, length, digest),
            Self::Get { digest } => (OP_GET, 0, digest),
            Self::Delete { digest } => (OP_DELETE, 0, digest),
            Self::Status => (OP_STATUS, 0, NO_DIGEST),
        };
        let mut bytes = [0; Self::LEN];
        bytes[..Response::LEN].copy_from_slice(&head(op, length));
        bytes[Response::LEN..].copy_from_slice(&digest.0);
        bytes
    }

    /// # Errors
    /// [`ProtocolError::BlobTooLarge`] leaves the connection usable (the body was not sent); after any other the peer
    /// is not to be trusted.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, ProtocolError> {
        let (start, rest) = bytes.split_first_chunk().ok_or(ProtocolError::Malformed)?;
        let digest = Digest(rest.try_into().map_err(|_| ProtocolError::Malformed)?);
        match parse_head(start)? {
            (OP_PUT, length) if length > BLOB_BYTES_MAX => Err(ProtocolError::BlobTooLarge(length)),
            (OP_PUT, length) => Ok(Self::Put { digest, length }),
            (OP_GET, 0) => Ok(Self::Get { digest }),
            (OP_DELETE, 0) => Ok(Self::Delete { digest }),
            (OP_STATUS, 0) if digest == NO_DIGEST => Ok(Self::Status),
            _ => Err(ProtocolError::Malformed),
        }
    }
}

/// What a server answers. `length` bytes of body follow where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// To PUT: send the body now. A second response follows it.
    Send,
    /// To PUT: on disk under its digest.
    Stored,
    /// To GET: the blob follows, at most [`BLOB_BYTES_MAX`].
    Blob { length: u64 },
    /// To DELETE: it is not there any more.
    Deleted,
    /// To STATUS: JSON follows, at most [`REPORT_BYTES_MAX`].
    Report { length: u64 },
    /// The reason as UTF-8 text follows, at most [`MESSAGE_BYTES_MAX`].
    Refused { refusal: Refusal, length: u64 },
}

impl Response {
    /// Length on the wire, in bytes.
    pub const LEN: usize = 16;

    pub fn encode(&self) -> [u8; Self::LEN] {
        match *self {
            Self::Send => head(CODE_SEND, 0),
            Self::Stored => head(CODE_STORED, 0),
            Self::Blob { length } => head(CODE_BLOB, length),
            Self::Deleted => head(CODE_DELETED, 0),
            Self::Report { length } => head(CODE_REPORT, length),
            Self::Refused { refusal, length } => head(refusal as u8, length),
        }
    }

    /// A response that was parsed never promises more than the limits above.
    pub fn parse(bytes: &[u8; Self::LEN]) -> Result<Self, ProtocolError> {
        match parse_head(bytes)? {
            (CODE_SEND, 0) => Ok(Self::Send),
            (CODE_STORED, 0) => Ok(Self::Stored),
            (CODE_BLOB, length) if length > BLOB_BYTES_MAX => Err(ProtocolError::BlobTooLarge(length)),
            (CODE_BLOB, length) => Ok(Self::Blob { length }),
            (CODE_DELETED, 0) => Ok(Self::Deleted),
            (CODE_REPORT, length) if length <= REPORT_BYTES_MAX => Ok(Self::Report { length }),
            (code, length) if length <= MESSAGE_BYTES_MAX => {
                let refusal = Refusal::from_code(code).ok_or(ProtocolError::Malformed)?;
                Ok(Self::Refused { refusal, length })
            }
            _ => Err(ProtocolError::Malformed),
        }
    }
}

/// Why a server did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// There is no such blob.
    NotFound = 0x80,
    /// The file on the server's disk no longer has the digest it is named by.
    Corrupt = 0x81,
    /// The body that was sent does not have the digest that was announced.
    Mismatch = 0x82,
    /// Larger than [`BLOB_BYTES_MAX`].
    TooLarge = 0x83,
    /// Not a request of this protocol; the server closes the connection.
    BadRequest = 0x84,
    /// The server could not: its disk is full, for example. May work later.
    Failed = 0x85,
}

impl Refusal {
    fn from_code(code: u8) -> Option<Self> {
        [Self::NotFound, Self::Corrupt, Self::Mismatch, Self::TooLarge, Self::BadRequest, Self::Failed]
            .into_iter()
            .find(|refusal| *refusal as u8 == code)
    }
}

/// The peer's bytes are not this protocol.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    #[error("the peer is not a blob server: check the address and port, and that both sides have TLS on or both off")]
    NotABlobServer,
    #[error("the blob server speaks protocol version {0}, this client version {VERSION}: run the same release on both")]
    Version(u16),
    #[error("a blob of {0} bytes is larger than the limit of {BLOB_BYTES_MAX} bytes")]
    BlobTooLarge(u64),
    #[error("the peer sent bytes that are not the blob protocol")]
    Malformed,
}

/// What requests and responses begin with: a code, seven zero bytes, a length.
fn head(code: u8, length: u64) -> [u8; 16] {
    (u128::from(code) | u128::from(length) << 64).to_le_bytes()
}

fn parse_head(bytes: &[u8; 16]) -> Result<(u8, u64), ProtocolError> {
    let head = u128::from_le_bytes(*bytes);
    let code = u8::try_from(head & u128::from(u64::MAX)).map_err(|_| ProtocolError::Malformed)?;
    let length = u64::try_from(head >> 64).map_err(|_| ProtocolError::Malformed)?;
    Ok((code, length))
}

fn nibble(digit: u8) -> Result<u8, ParseDigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(ParseDigestError(())),
    }
}

const MAGIC: [u8; 4] = *b"TMBL";
const VERSION: u16 = 1;
const NO_DIGEST: Digest = Digest([0; 32]);

const OP_PUT: u8 = 1;
const OP_GET: u8 = 2;
const OP_DELETE: u8 = 3;
const OP_STATUS: u8 = 4;

const CODE_SEND: u8 = 0;
const CODE_STORED: u8 = 1;
const CODE_BLOB: u8 = 2;
const CODE_DELETED: u8 = 3;
const CODE_REPORT: u8 = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn requests() -> impl Strategy<Value = Request> {
        let digest = any::<[u8; 32]>().prop_map(Digest);
        prop_oneof![
            (digest.clone(), 0..=BLOB_BYTES_MAX).prop_map(|(digest, length)| Request::Put { digest, length }),
            digest.clone().prop_map(|digest| Request::Get { digest }),
            digest.prop_map(|digest| Request::Delete { digest }),
            Just(Request::Status),
        ]
    }

    fn responses() -> impl Strategy<Value = Response> {
        prop_oneof![
            Just(Response::Send),
            Just(Response::Stored),
            Just(Response::Deleted),
            (0..=BLOB_BYTES_MAX).prop_map(|length| Response::Blob { length }),
            (0..=REPORT_BYTES_MAX).prop_map(|length| Response::Report { length }),
            (0x80..=0x85_u8, 0..=MESSAGE_BYTES_MAX)
                .prop_map(|(code, length)| Response::Refused { refusal: Refusal::from_code(code).unwrap(), length }),
        ]
    }

    proptest! {
        #[test]
        fn a_request_survives_the_wire(request in requests()) {
            prop_assert_eq!(Request::parse(&request.encode()), Ok(request));
        }

        #[test]
        fn a_response_survives_the_wire(response in responses()) {
            prop_assert_eq!(Response::parse(&response.encode()), Ok(response));
        }

        /// What parses is exactly what would have been sent: no second spelling of any header.
        #[test]
        fn only_canonical_bytes_parse(
            code in prop_oneof![0..=5_u8, 0x80..=0x86_u8, any::<u8>()],
            zeros in prop_oneof![4 => Just([0; 7]), 1 => any::<[u8; 7]>()],
            length in prop_oneof![Just(0), 0..=2 * BLOB_BYTES_MAX, any::<u64>()],
            digest in any::<[u8; 32]>(),
        ) {
            let mut bytes = [0; Request::LEN];
            bytes[0] = code;
            bytes[1..8].copy_from_slice(&zeros);
            bytes[8..16].copy_from_slice(&length.to_le_bytes());
            bytes[16..].copy_from_slice(&digest);
            if let Ok(request) = Request::parse(&bytes) {
                prop_assert_eq!(request.encode(), bytes);
            }
            let bytes = *bytes.first_chunk().unwrap();
            if let Ok(response) = Response::parse(&bytes) {
                prop_assert_eq!(response.encode(), bytes);
            }
        }

        #[test]
        fn a_digest_is_its_hex(bytes in any::<[u8; 32]>()) {
            let digest = Digest::from_bytes(bytes);
            let text = digest.to_string();
            prop_assert_eq!(text.len(), 64);
            prop_assert_eq!(text.parse(), Ok(digest));
            prop_assert_eq!(text.to_uppercase().parse(), Ok(digest));
        }

        #[test]
        fn other_text_is_no_digest(text in "[0-9a-f]{0,63}|[0-9a-f]{65,70}|[0-9a-f]{63}[g-zä/.]") {
            prop_assert_eq!(text.parse::<Digest>(), Err(ParseDigestError(())));
        }
    }

    #[test]
    fn the_greeting_names_its_version() {
        let bytes = Greeting.encode();
        assert_eq!(Greeting::parse(&bytes), Ok(Greeting));
        assert_eq!(Greeting::parse(b"HTTP/1.1"), Err(ProtocolError::NotABlobServer));
        let mut newer = bytes;
        newer[4] = 2;
        assert_eq!(Greeting::parse(&newer), Err(ProtocolError::Version(2)));
    }

    #[test]
    fn too_large_is_told_from_malformed() {
        let digest = Digest([7; 32]);
        let put = Request::Put { digest, length: BLOB_BYTES_MAX + 1 }.encode();
        assert_eq!(Request::parse(&put), Err(ProtocolError::BlobTooLarge(BLOB_BYTES_MAX + 1)));
        let blob = Response::Blob { length: u64::MAX }.encode();
        assert_eq!(Response::parse(&blob), Err(ProtocolError::BlobTooLarge(u64::MAX)));
        assert_eq!(Response::parse(&[0xff; Response::LEN]), Err(ProtocolError::Malformed));
    }
}
