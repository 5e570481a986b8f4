//! What carries frames: a TCP connection, with or without TLS, or one stream of a QUIC connection.
//!
//! Over QUIC the accepting side opens the stream, because it speaks first and a stream is nothing to the other side before
//! something has come on it. One stream for all channels: they have their own flow control, and a lost packet that holds
//! up one of them would hold up its connection over TCP as well.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::frame::ALPN;
use quinn::{MtuDiscoveryConfig, RecvStream, SendStream, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use tls_common::{ConnectError, Connection, ConnectionInfo, Connector, Endpoint, Listener, StreamTuning, quic};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};

/// Bytes that a QUIC connection may have under way, each way; and the buffer that frames are read through.
const QUIC_WINDOW_BYTES: u32 = 16 << 20;
const QUIC_READ_BYTES: usize = 256 << 10;

/// Largest UDP payload that is tried, bytes. Above about 6,400 the kernel refuses the batches that quinn makes of them
/// (64 KiB at once), which costs all but a hundredth of the throughput; where the path does not take it, discovery finds what
/// it takes.
const QUIC_MTU_BYTES: u16 = 6_400;

/// Asked of the system for each UDP socket, each way; the system may give less.
const QUIC_SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// The socket of a data plane: peers call it there.
#[derive(Debug)]
pub enum DataSocket {
    /// TCP, with TLS where the endpoint has it.
    Tcp(Listener),
    /// QUIC.
    Quic(quinn::Endpoint),
}

/// Makes connections.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    Tcp(Connector),
    Quic(quic::Connector),
}

/// Carries frames.
#[derive(Debug)]
pub(super) enum Wire {
    Tcp(Connection),
    Quic(Box<Stream>),
}

/// The only stream of a QUIC connection.
#[derive(Debug)]
pub(super) struct Stream {
    send: SendStream,
    receive: BufReader<RecvStream>,
    connection: quic::Connection,
}

impl DataSocket {
    /// A UDP socket on `address` for QUIC; port 0 takes any. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The address is in use or not ours, or the endpoint cannot speak QUIC: it has no TLS, or not TLS 1.3.
    pub fn bind_quic(endpoint: &Endpoint, address: SocketAddr) -> io::Result<Self> {
        let config = quic_acceptor(endpoint).server_config();
        let config = config.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        udp(address, Some(config)).map(Self::Quic)
    }

    /// Where it is, with the port the system chose.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()),
            Self::Quic(socket) => socket.local_addr(),
        }
    }

    pub(super) fn caller(&self, endpoint: &Endpoint) -> io::Result<Caller> {
        Ok(match self {
            Self::Tcp(_) => Caller::Tcp(endpoint.connector(&[ALPN]).tuned(StreamTuning::BULK)),
            Self::Quic(_) => {
                // From any address, as TCP dials: where it listens says nothing about where the others are.
                let any = |address: IpAddr| udp((address, 0).into(), None);
                let socket = any(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| any(Ipv4Addr::UNSPECIFIED.into()))?;
                let connector = endpoint.quic_connector(&[ALPN])?.over(socket);
                Caller::Quic(connector.tuned(quic_tuning()))
            }
        })
    }
}

impl From<Listener> for DataSocket {
    fn from(listener: Listener) -> Self {
        Self::Tcp(listener)
    }
}

/// A UDP socket with large buffers.
fn udp(address: SocketAddr, server: Option<quinn::ServerConfig>) -> io::Result<quinn::Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(QUIC_SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(QUIC_SOCKET_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    let mut config = quinn::EndpointConfig::default();
    // What we tell peers that we take. quinn's default is Ethernet's, and no peer's discovery goes beyond what it is
    // told.
    config.max_udp_payload_size(QUIC_MTU_BYTES).map_err(io::Error::other)?;
    quinn::Endpoint::new(config, server, socket.into(), Arc::new(quinn::TokioRuntime))
}

pub(super) fn quic_acceptor(endpoint: &Endpoint) -> quic::Acceptor {
    endpoint.quic_acceptor(&[ALPN]).tuned(quic_tuning())
}

fn quic_tuning() -> quic::Tuning {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(QUIC_MTU_BYTES);
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(mtu))
        .stream_receive_window(QUIC_WINDOW_BYTES.into())
        .receive_window(QUIC_WINDOW_BYTES.into())
        .send_window(QUIC_WINDOW_BYTES.into())
        // Whatever else a peer opens is an error of the transport.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0));
    quic::Tuning { transport: Arc::new(transport), ..quic::Tuning::default() }
}

impl Caller {
    /// A connection that has not said a word yet.
    pub(super) async fn call(&self, host: &str, port: u16) -> Result<Called, ConnectError> {
        Ok(match self {
            Self::Tcp(connector) => Called::Tcp(connector.connect(host, port).await?),
            Self::Quic(connector) => Called::Quic(connector.connect(host, port).await?),
        })
    }
}

/// A connection to or from a peer on which nobody has said a word yet.
#[derive(Debug)]
pub(super) enum Called {
    Tcp(Connection),
    Quic(quic::Connection),
}

impl Called {
    pub(super) fn info(&self) -> &ConnectionInfo {
        match self {
            Self::Tcp(connection) => connection.info(),
            Self::Quic(connection) => connection.info(),
        }
    }

    /// The accepting side's end, as soon as the peer lets it say something. Not cancel safe.
    pub(super) async fn answered(self) -> io::Result<Wire> {
        match self {
            Self::Tcp(connection) => Ok(Wire::Tcp(connection)),
            Self::Quic(connection) => {
                let (send, receive) = connection.open_bi().await?;
                Ok(Wire::quic(connection, send, receive))
            }
        }
    }

    /// The dialling side's end, as soon as the peer has said something. Not cancel safe.
    pub(super) async fn wire(self) -> io::Result<Wire> {
        match self {
            Self::Tcp(connection) => Ok(Wire::Tcp(connection)),
            Self::Quic(connection) => {
                let (send, receive) = connection.accept_bi().await?;
                Ok(Wire::quic(connection, send, receive))
            }
        }
    }
}

impl Wire {
    fn quic(connection: quic::Connection, send: SendStream, receive: RecvStream) -> Self {
        let receive = BufReader::with_capacity(QUIC_READ_BYTES, receive);
        Self::Quic(Box::new(Stream { send, receive, connection }))
    }

    pub(super) fn info(&self) -> &ConnectionInfo {
        match self {
            Self::Tcp(connection) => connection.info(),
            Self::Quic(stream) => stream.connection.info(),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(connection) => Pin::new(connection).poll_read(cx, buf),
            Self::Quic(stream) => Pin::new(&mut stream.receive).poll_read(cx, buf),
        }
    }
}

impl AsyncBufRead for Wire {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        match self.get_mut() {
            Self::Tcp(connection) => Pin::new(connection).poll_fill_buf(cx),
            Self::Quic(stream) => Pin::new(&mut stream.receive).poll_fill_buf(cx),
        }
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        match self.get_mut() {
            Self::Tcp(connection) => Pin::new(connection).consume(amount),
            Self::Quic(stream) => Pin::new(&mut stream.receive).consume(amount),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(connection) => Pin::new(connection).poll_write(cx, buf),
            Self::Quic(stream) => AsyncWrite::poll_write(Pin::new(&mut stream.send), cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(connection) => Pin::new(connection).poll_write_vectored(cx, bufs),
            Self::Quic(stream) => Pin::new(&mut stream.send).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(connection) => connection.is_write_vectored(),
            Self::Quic(stream) => stream.send.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(connection) => Pin::new(connection).poll_flush(cx),
            Self::Quic(stream) => Pin::new(&mut stream.send).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(connection) => Pin::new(connection).poll_shutdown(cx),
            Self::Quic(stream) => Pin::new(&mut stream.send).poll_shutdown(cx),
        }
    }
}
