//! The first words on a connection, before it belongs to a session: the accepting side says who it is, then the
//! dialling side.
//!
//! The accepting side speaks first, because a TLS 1.3 client learns only from its first read whether its certificate
//! was accepted.

use std::io;
use std::pin::Pin;

use bytes::BytesMut;
use proto::frame::{Chunks, Decoder, ErrorCode, Frame, FrameError, Hello, VERSION};
use proto::ids::TaskManagerId;
use tokio::io::{AsyncBufRead as _, AsyncBufReadExt, AsyncWriteExt};

use super::wire::Wire;

/// Why a connection does not get as far as a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetingError {
    /// The network's or the peer's fault.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer does not speak our protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer broke the protocol.
    #[error("the first frame is not a hello")]
    NotAHello,
    /// The versions differ: the operator's fault.
    #[error("it speaks version {0} of the data plane's protocol, this TaskManager version {VERSION}")]
    Version(u16),
    /// Neither would find the other's channels: the operator's fault.
    #[error(
        "it spreads its channels over {theirs} lanes, this TaskManager over {own}; set taskmanager.network.lanes alike"
    )]
    Lanes { theirs: u16, own: u16 },
    /// Another TaskManager answers at the address.
    #[error("TaskManager {0} answers there")]
    WrongPeer(TaskManagerId),
    /// The peer refused, and says why.
    #[error("refused ({code:?}): {message}")]
    Refused { code: ErrorCode, message: String },
    /// Its certificate went before it has said a word.
    #[error("it is not trusted any more: {0}")]
    Untrusted(String),
    /// The peer is slow, or something else than a TaskManager.
    #[error("no hello within {0:?}")]
    Timeout(std::time::Duration),
}

/// What the accepting side says of itself.
pub(super) fn accepting_hello(own: &TaskManagerId, lanes: u16) -> Hello {
    Hello { version: VERSION, task_manager: own.clone(), lane: 0, lanes, session: 0, connection: 0, resumed: false }
}

/// Reads the peer's hello and nothing beyond it. A peer with another number of lanes is no good.
pub(super) async fn read_hello(
    connection: &mut Wire,
    decoder: &mut Decoder,
    lanes: u16,
) -> Result<Hello, GreetingError> {
    loop {
        let bytes = connection.fill_buf().await?;
        if bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut rest = bytes;
        let frame = decoder.decode(&mut rest)?;
        let taken = bytes.len() - rest.len();
        Pin::new(&mut *connection).consume(taken);
        match frame {
            None => {}
            Some(Frame::Hello(hello)) if hello.version != VERSION => return Err(GreetingError::Version(hello.version)),
            Some(Frame::Hello(hello)) if hello.lanes != lanes => {
                return Err(GreetingError::Lanes { theirs: hello.lanes, own: lanes });
            }
            Some(Frame::Hello(hello)) if hello.lane >= lanes => return Err(GreetingError::NotAHello),
            Some(Frame::Hello(hello)) => return Ok(hello),
            Some(Frame::Error { code, message }) => return Err(GreetingError::Refused { code, message }),
            Some(_) => return Err(GreetingError::NotAHello),
        }
    }
}

/// Writes one frame and sees it off: into the system's hands, or QUIC's.
pub(super) async fn write(connection: &mut Wire, frame: &Frame<Chunks>) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    frame.encode(&mut bytes);
    connection.write_all(&bytes).await?;
    connection.flush().await
}

/// Ends the stream and waits until the peer has ended it too, which it does once it has read what was said.
pub(super) async fn linger(connection: &mut Wire) -> io::Result<()> {
    connection.shutdown().await?;
    loop {
        match connection.fill_buf().await?.len() {
            0 => return Ok(()),
            count => Pin::new(&mut *connection).consume(count),
        }
    }
}
