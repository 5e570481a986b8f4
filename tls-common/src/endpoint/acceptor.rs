//! [`Acceptor`]: a TCP connection in, a [`Connection`] under the current generation out.

use super::EndpointInner;
use super::audit::Attempt;
use super::connection::{Connection, Io};
use super::deadline::before;
use super::error::HandshakeError;
use super::info::{Handshake, LiveGuard};
use super::latest::Latest;
use super::policy::StreamTuning;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

/// The accepting side of an [`crate::Endpoint`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct Acceptor {
    endpoint: Arc<EndpointInner>,
    alpn: Vec<Vec<u8>>,
    tuning: StreamTuning,
    configs: Arc<Latest<Arc<ServerConfig>>>,
}

impl Acceptor {
    pub(super) fn new(endpoint: Arc<EndpointInner>, alpn: &[&str]) -> Self {
        let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { endpoint, alpn, tuning: StreamTuning::INTERACTIVE, configs: Arc::default() }
    }

    /// The same with other buffers.
    #[must_use]
    pub fn tuned(self, tuning: StreamTuning) -> Self {
        Self { tuning, ..self }
    }

    pub(crate) fn endpoint(&self) -> &Arc<EndpointInner> {
        &self.endpoint
    }

    /// Shakes hands with `peer_addr`, who called, within the endpoint's timeout. Do not await it in an accept loop: a slow
    /// peer would block it.
    ///
    /// # Errors
    /// See [`HandshakeError`]; each is counted and leaves an audit record.
    pub async fn accept(&self, tcp: TcpStream, peer_addr: SocketAddr) -> Result<Connection, HandshakeError> {
        let attempt = Attempt::new(Some(peer_addr), None);
        let result = attempt.presented.during(pin!(self.shake_hands(tcp, peer_addr, &attempt))).await;
        result.inspect_err(|error| self.endpoint.note_failure(&attempt, error))
    }

    async fn shake_hands(
        &self,
        tcp: TcpStream,
        peer_addr: SocketAddr,
        attempt: &Attempt<'_>,
    ) -> Result<Connection, HandshakeError> {
        // Without it a small frame waits for the acknowledgement of the one before. A socket that refuses is dying.
        tcp.set_nodelay(true).map_err(HandshakeError::Io)?;
        let tcp = self.tuning.buffered(tcp, self.endpoint.tls.is_none());
        let Some(tls) = &self.endpoint.tls else {
            let live = LiveGuard::admit_plain(&self.endpoint, peer_addr);
            return Ok(Connection::new(Io::Plain(tcp), live));
        };
        let limit = self.endpoint.limits.timeout;
        let handshake = pin!(async {
            // Who has nothing to serve with need not wait for a hello.
            if tls.current().server_config().is_none() {
                return Err(HandshakeError::NoIdentity);
            }
            let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp);
            let hello = hello.await.map_err(HandshakeError::from_io)?;
            // Only from here on a handshake costs anything, so who connects and says nothing takes no permit from others.
            // Never closed; an error would only mean that the endpoint is gone.
            let _permit = self.endpoint.handshakes.acquire().await.ok();
            let generation = tls.current();
            attempt.under(generation.number());
            let config = self.configs.of(&generation, || {
                let mut config = ServerConfig::clone(generation.server_config().ok_or(HandshakeError::NoIdentity)?);
                config.alpn_protocols.clone_from(&self.alpn);
                Ok(Arc::new(config))
            })?;
            let write_buffer = self.tuning.write_buffer;
            let accepted = hello
                .into_stream_with(config, |session| session.set_buffer_limit(Some(write_buffer)))
                .await
                .map_err(HandshakeError::from_io)?;
            Ok((generation, accepted))
        });
        let (generation, stream) =
            before(pin!(sleep(limit)), handshake).await.ok_or(HandshakeError::Timeout(limit))??;
        let stream = TlsStream::from(stream);
        let handshake = Handshake::over_tcp(&stream, peer_addr, None);
        let live = LiveGuard::admit(&self.endpoint, &generation, handshake).map_err(HandshakeError::Rejected)?;
        Ok(Connection::new(Io::Tls(Box::new(stream)), live))
    }
}
