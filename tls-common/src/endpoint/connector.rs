//! [`Connector`]: a name in, a [`Connection`] under the current generation out.

use super::EndpointInner;
use super::audit::Attempt;
use super::connection::{Connection, Io};
use super::deadline::before;
use super::error::{ConnectError, HandshakeError};
use super::info::{Handshake, LiveGuard};
use super::latest::Latest;
use super::policy::StreamTuning;
use crate::clock;
use rand::Rng as _;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::{TlsConnector, TlsStream};

/// First and longest pause between attempts of [`Connector::connect_within`]; jittered by a half.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LONGEST: Duration = Duration::from_secs(1);

/// The connecting side of an [`crate::Endpoint`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    endpoint: Arc<EndpointInner>,
    alpn: Vec<Vec<u8>>,
    tuning: StreamTuning,
    configs: Arc<Latest<Arc<ClientConfig>>>,
}

impl Connector {
    pub(super) fn new(endpoint: Arc<EndpointInner>, alpn: &[&str]) -> Self {
        let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { endpoint, alpn, tuning: StreamTuning::INTERACTIVE, configs: Arc::default() }
    }

    /// The same with other buffers.
    #[must_use]
    pub fn tuned(self, tuning: StreamTuning) -> Self {
        Self { tuning, ..self }
    }

    /// One attempt, TCP and TLS together within the endpoint's timeout.
    ///
    /// A TLS 1.3 server's refusal of our certificate arrives only with the first read: read the server's first bytes
    /// before reporting "connected".
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, host: &str, port: u16) -> Result<Connection, ConnectError> {
        let target = || format!("{host}:{port}");
        let limit = self.endpoint.limits.timeout;
        let unreachable = |source| ConnectError::Unreachable { target: target(), source };
        let mut deadline = pin!(sleep(limit));
        let (tcp, peer_addr) = match before(deadline.as_mut(), dial(host, port)).await {
            Some(Ok(dialled)) => dialled,
            Some(Err(source)) => {
                if matches!(source.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset) {
                    self.endpoint.counters.refused_connects.fetch_add(1, Ordering::Relaxed);
                }
                return Err(unreachable(source));
            }
            None => return Err(unreachable(io::ErrorKind::TimedOut.into())),
        };
        let attempt = Attempt::new(Some(peer_addr), Some(host));
        let connected = attempt.presented.during(pin!(self.over(tcp, peer_addr, host, deadline, &attempt))).await;
        connected.map_err(|error| match error {
            OverTcp::InvalidName => ConnectError::InvalidName { host: host.to_owned() },
            OverTcp::Failed(source) => {
                self.endpoint.note_failure(&attempt, &source);
                ConnectError::Handshake { target: target(), source }
            }
        })
    }

    /// Attempts with growing, jittered pauses until one succeeds or `patience` is over; then the last error.
    ///
    /// Rotations on two hosts never land at the same instant, so a refusal is worth another try too.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn connect_within(&self, host: &str, port: u16, patience: Duration) -> Result<Connection, ConnectError> {
        within(patience, || self.connect(host, port)).await
    }

    async fn over(
        &self,
        tcp: TcpStream,
        peer_addr: SocketAddr,
        host: &str,
        deadline: Pin<&mut Sleep>,
        attempt: &Attempt<'_>,
    ) -> Result<Connection, OverTcp> {
        tcp.set_nodelay(true).map_err(HandshakeError::Io)?;
        let tcp = self.tuning.buffered(tcp, self.endpoint.tls.is_none());
        let Some(tls) = &self.endpoint.tls else {
            let live = LiveGuard::admit_plain(&self.endpoint, peer_addr);
            return Ok(Connection::new(Io::Plain(tcp), live));
        };
        let name = ServerName::try_from(host).map_err(|_| OverTcp::InvalidName)?.to_owned();
        let generation = tls.current();
        attempt.under(generation.number());
        let config = self.configs.of(&generation, || {
            let mut config = ClientConfig::clone(generation.client_config());
            config.alpn_protocols = generation.offered(&self.alpn);
            Ok(Arc::new(config))
        })?;
        let write_buffer = self.tuning.write_buffer;
        let handshake = pin!(
            TlsConnector::from(config)
                .connect_with(name.clone(), tcp, |session| session.set_buffer_limit(Some(write_buffer)))
        );
        let stream = before(deadline, handshake)
            .await
            .ok_or(HandshakeError::Timeout(self.endpoint.limits.timeout))?
            .map_err(HandshakeError::from_io)?;
        let stream = TlsStream::from(stream);
        let handshake = Handshake::over_tcp(&stream, peer_addr, Some(name));
        let live = LiveGuard::admit(&self.endpoint, &generation, handshake).map_err(HandshakeError::Rejected)?;
        Ok(Connection::new(Io::Tls(Box::new(stream)), live))
    }
}

/// Attempts with growing, jittered pauses until one succeeds or `patience` is over; then the last error.
pub(crate) async fn within<T, F, Fut>(patience: Duration, mut attempt: F) -> Result<T, ConnectError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, ConnectError>>,
{
    let give_up = clock::later(Instant::now(), patience);
    let mut pause = RETRY_FIRST;
    loop {
        let error = match attempt().await {
            Ok(connection) => return Ok(connection),
            Err(error @ ConnectError::InvalidName { .. }) => return Err(error),
            Err(error) => error,
        };
        let jittered = pause.mul_f64(rand::rng().random_range(0.5..1.0));
        if Instant::now() + jittered >= give_up {
            return Err(error);
        }
        sleep(jittered).await;
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

/// Connects to the first address of `host` that answers, as tokio does; but says which.
async fn dial(host: &str, port: u16) -> io::Result<(TcpStream, SocketAddr)> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok((tcp, address)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

enum OverTcp {
    InvalidName,
    Failed(HandshakeError),
}

impl From<HandshakeError> for OverTcp {
    fn from(error: HandshakeError) -> Self {
        Self::Failed(error)
    }
}
