//! A connection of somebody outside that is held open, in one of the states in which connections are found.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use integration_tests::{Client, Port};
use proto::blob::{Greeting, Request, Response};
use proto::frame::{Chunks, Decoder, Frame, Hello, VERSION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// Between two questions on a busy connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Largest payload of a data frame that is taken, bytes.
const MAX_PAYLOAD: usize = 1 << 20;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Manner {
    /// Nothing at all since its handshake.
    Silent,
    /// It has begun to speak HTTP/2, and answers nothing.
    Deaf,
    /// It was answered once, and waits.
    Idle,
    /// It asks again and again.
    Busy,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Off at this instant.
    Gone(Instant),
    /// Answered to the end, which was asked for after so many other questions.
    Stayed(u64),
}

/// One connection, in a task of its own.
#[derive(Debug)]
pub(crate) struct Held {
    /// Our end, as the server's audit log names it.
    pub(crate) address: SocketAddr,
    task: JoinHandle<io::Result<Outcome>>,
}

impl Held {
    /// Connects and comes into the state of `manner`, in which it stays until it is closed or `stop`.
    pub(crate) async fn open(
        client: &Client,
        name: &str,
        (port, alpn, server): (Port, &'static str, SocketAddr),
        manner: Manner,
        stop: CancellationToken,
    ) -> Self {
        let mut stream = client.connect_for(alpn, server).await.unwrap();
        let address = stream.get_ref().0.local_addr().unwrap();
        let task = match manner {
            Manner::Silent => tokio::spawn(async move { Ok(Outcome::Gone(end_of(&mut stream).await)) }),
            Manner::Deaf => {
                stream.write_all(Port::Rpc.opening()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::spawn(async move { Ok(Outcome::Gone(end_of(&mut stream).await)) })
            }
            Manner::Idle | Manner::Busy => {
                let mut talk = Talk::begin(port, alpn, stream, name).await.unwrap();
                talk.ask().await.unwrap();
                tokio::spawn(keep(talk, manner, stop))
            }
        };
        Self { address, task }
    }

    pub(crate) async fn outcome(self) -> Outcome {
        self.task.await.unwrap().unwrap()
    }
}

async fn keep(mut talk: Talk, manner: Manner, stop: CancellationToken) -> io::Result<Outcome> {
    let mut asked = 0;
    loop {
        if manner == Manner::Busy {
            if talk.ask().await.is_err() {
                return Ok(Outcome::Gone(Instant::now()));
            }
            asked += 1;
        }
        let pause = async {
            match manner {
                Manner::Busy => timeout(PAUSE, talk.end()).await.ok(),
                _ => Some(talk.end().await),
            }
        };
        tokio::select! {
            end = pause => if let Some(end) = end {
                return Ok(Outcome::Gone(end));
            },
            () = stop.cancelled() => break,
        }
    }
    talk.ask_last().await?;
    Ok(Outcome::Stayed(asked))
}

/// When the peer ended the connection, in order or not; what it says until then does not matter.
async fn end_of(stream: &mut TlsStream<TcpStream>) -> Instant {
    let mut bytes = [0; 1024];
    while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {}
    Instant::now()
}

/// As much of each protocol as it takes to be answered.
enum Talk {
    Http1(http1::SendRequest<Empty<Bytes>>, Driver),
    Http2(http2::SendRequest<Empty<Bytes>>, Driver),
    Blob(TlsStream<TcpStream>),
    Data(TlsStream<TcpStream>, Decoder),
}

/// Reads and writes an HTTP connection; knows when it ended.
struct Driver(JoinHandle<Instant>);

impl Talk {
    async fn begin(port: Port, alpn: &str, mut stream: TlsStream<TcpStream>, name: &str) -> io::Result<Self> {
        match port {
            Port::Rpc | Port::Rest if alpn == "h2" => {
                let io = TokioIo::new(stream);
                let (send, connection) = http2::handshake(TokioExecutor::new(), io).await.map_err(io::Error::other)?;
                Ok(Self::Http2(send, Driver::spawn(connection)))
            }
            Port::Rpc | Port::Rest => {
                let (send, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
                Ok(Self::Http1(send, Driver::spawn(connection)))
            }
            Port::Blob => {
                let mut greeting = [0; Greeting::LEN];
                stream.read_exact(&mut greeting).await?;
                Greeting::parse(&greeting).unwrap();
                Ok(Self::Blob(stream))
            }
            Port::Data => {
                let mut talk = Self::Data(stream, Decoder::new(MAX_PAYLOAD));
                talk.read_until(|frame| matches!(frame, Frame::Hello(_))).await?;
                // The lower name dials.
                let task_manager = name.parse().unwrap();
                let hello = Hello {
                    version: VERSION,
                    task_manager,
                    lane: 0,
                    lanes: 1,
                    session: 1,
                    connection: 1,
                    resumed: false,
                };
                talk.say(&[Frame::Hello(hello), Frame::Resume]).await?;
                talk.read_until(|frame| matches!(frame, Frame::Resume)).await?;
                Ok(talk)
            }
        }
    }

    /// Asks and is answered; on the data plane, where nothing is answered that leaves things as they are, just says
    /// something.
    async fn ask(&mut self) -> io::Result<()> {
        match self {
            Self::Http1(send, _) => {
                send.ready().await.map_err(io::Error::other)?;
                answered(send.send_request(request("GET", "/v1/overview")).await).await
            }
            Self::Http2(send, _) => {
                send.ready().await.map_err(io::Error::other)?;
                // A gRPC server has no such method and says so; the gateway has no such page.
                answered(send.send_request(request("POST", "/nothing")).await).await
            }
            Self::Blob(stream) => {
                stream.write_all(&Request::Status.encode()).await?;
                stream.flush().await?;
                let mut header = [0; Response::LEN];
                stream.read_exact(&mut header).await?;
                let Response::Report { length } = Response::parse(&header).unwrap() else { panic!("no report") };
                let mut report = vec![0; usize::try_from(length).unwrap()];
                stream.read_exact(&mut report).await.map(drop)
            }
            Self::Data(..) => self.say(&[Frame::Ping]).await,
        }
    }

    /// The same, and this is the last question: there is one that the data plane answers.
    async fn ask_last(&mut self) -> io::Result<()> {
        if !matches!(self, Self::Data(..)) {
            return self.ask().await;
        }
        self.say(&[Frame::Fin]).await?;
        self.read_until(|frame| matches!(frame, Frame::FinAck)).await
    }

    /// Waits for the end of the connection.
    async fn end(&mut self) -> Instant {
        match self {
            Self::Http1(_, driver) | Self::Http2(_, driver) => driver.end().await,
            Self::Blob(stream) => end_of(stream).await,
            Self::Data(..) => match self.read_until(|_| false).await {
                Ok(()) => pending().await,
                Err(_) => Instant::now(),
            },
        }
    }

    async fn say(&mut self, frames: &[Frame<Chunks>]) -> io::Result<()> {
        let Self::Data(stream, _) = self else { unreachable!() };
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        stream.write_all(&bytes).await?;
        stream.flush().await
    }

    async fn read_until(&mut self, wanted: impl Fn(&Frame) -> bool) -> io::Result<()> {
        let Self::Data(stream, decoder) = self else { unreachable!() };
        loop {
            // One by one: a decoder that has what it is waited for has read nothing beyond it.
            let byte = [stream.read_u8().await?];
            let mut byte = byte.as_slice();
            if let Some(frame) = decoder.decode(&mut byte).unwrap()
                && wanted(&frame)
            {
                return Ok(());
            }
        }
    }
}

impl Driver {
    fn spawn<E>(connection: impl Future<Output = Result<(), E>> + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            let _ = connection.await;
            Instant::now()
        }))
    }

    async fn end(&mut self) -> Instant {
        (&mut self.0).await.unwrap()
    }
}

fn request(method: &str, path: &str) -> http::Request<Empty<Bytes>> {
    let uri = format!("https://localhost{path}");
    http::Request::builder().method(method).uri(uri).header("host", "localhost").body(Empty::new()).unwrap()
}

async fn answered(response: hyper::Result<http::Response<hyper::body::Incoming>>) -> io::Result<()> {
    response.map_err(io::Error::other)?.into_body().collect().await.map(drop).map_err(io::Error::other)
}
