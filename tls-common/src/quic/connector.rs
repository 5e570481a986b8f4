//! [`Connector`]: a name in, a QUIC [`Connection`] under the current generation out.

use super::config::ClientConfigs;
use super::error::handshake_error;
use super::{Connection, Tuning};
use crate::endpoint::EndpointInner;
use crate::endpoint::audit::Attempt;
use crate::endpoint::connector::within;
use crate::endpoint::error::{ConnectError, HandshakeError};
use futures::future::select_ok;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

/// A name's next address is tried after this long without an answer from the ones before (RFC 8305): that nobody is
/// there is something UDP does not tell.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// The connecting side of an [`crate::Endpoint`] over QUIC; cheap to clone. Clones share one UDP socket.
#[derive(Clone, Debug)]
pub struct Connector {
    endpoint: Arc<EndpointInner>,
    socket: quinn::Endpoint,
    alpn: Vec<Vec<u8>>,
    tuning: Tuning,
    configs: Arc<ClientConfigs>,
}

impl Connector {
    pub(crate) fn new(endpoint: Arc<EndpointInner>, alpn: &[&str]) -> io::Result<Self> {
        let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        // A socket for both families, where the machine has both.
        let socket = quinn::Endpoint::client(any_v6).or_else(|_| quinn::Endpoint::client(any_v4))?;
        Ok(Self { endpoint, socket, alpn: super::protocols(alpn), tuning: Tuning::default(), configs: Arc::default() })
    }

    /// The same from another UDP socket, which may serve, too.
    #[must_use]
    pub fn over(self, socket: quinn::Endpoint) -> Self {
        Self { socket, ..self }
    }

    /// The same with other parameters.
    #[must_use]
    pub fn tuned(self, tuning: Tuning) -> Self {
        Self { tuning, configs: Arc::default(), ..self }
    }

    /// One attempt, within the endpoint's timeout.
    ///
    /// A server's refusal of our certificate arrives only after the handshake: read the server's first bytes before
    /// reporting "connected".
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, host: &str, port: u16) -> Result<Connection, ConnectError> {
        let target = format!("{host}:{port}");
        let limit = self.endpoint.limits.timeout;
        let unreachable = |source| ConnectError::Unreachable { target: target.clone(), source };
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| ConnectError::InvalidName { host: host.to_owned() })?;
        let attempt = async {
            let addresses = lookup_host((host, port)).await.map_err(unreachable)?;
            let attempts: Vec<_> = (0u32..)
                .zip(addresses)
                .map(|(nth, address)| Box::pin(self.shake_hands(NEXT_ADDRESS * nth, address, host, &name)))
                .collect();
            if attempts.is_empty() {
                return Err(unreachable(io::ErrorKind::NotFound.into()));
            }
            let first = select_ok(attempts).await.map(|(connection, _)| connection);
            first.map_err(|source| match source {
                HandshakeError::Io(source) if source.kind() == io::ErrorKind::ConnectionRefused => unreachable(source),
                source => ConnectError::Handshake { target: target.clone(), source },
            })
        };
        let timed_out = ConnectError::Handshake { target: target.clone(), source: HandshakeError::Timeout(limit) };
        timeout(limit, attempt).await.unwrap_or(Err(timed_out)).inspect_err(|error| match error {
            ConnectError::Handshake { source, .. } => {
                self.endpoint.note_failure(&Attempt::new(None, Some(host)), source)
            }
            ConnectError::Unreachable { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                self.endpoint.counters.refused_connects.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        })
    }

    /// Attempts with growing, jittered pauses until one succeeds or `patience` is over; then the last error.
    ///
    /// # Errors
    /// The last attempt's.
    pub async fn connect_within(&self, host: &str, port: u16, patience: Duration) -> Result<Connection, ConnectError> {
        within(patience, || self.connect(host, port)).await
    }

    async fn shake_hands(
        &self,
        pause: Duration,
        address: SocketAddr,
        host: &str,
        name: &ServerName<'static>,
    ) -> Result<Connection, HandshakeError> {
        // Even a pause of nothing would cost a tick of the timer.
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let (generation, config) = self.configs.current(&self.endpoint, &self.alpn, &self.tuning)?;
        let connecting = self.socket.connect_with(config, address, host).map_err(connect_error)?;
        let quic = connecting.await.map_err(handshake_error)?;
        Connection::admit(quic, &self.endpoint, &generation, Some(name.clone()), self.tuning.cut_code)
    }
}

/// The attempt did not even begin.
fn connect_error(error: quinn::ConnectError) -> HandshakeError {
    HandshakeError::Io(io::Error::other(error))
}
