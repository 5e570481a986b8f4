//! [`Acceptor`]: a QUIC connection attempt in, a [`Connection`] under the current generation out.

use super::config::ServerConfigs;
use super::error::handshake_error;
use super::{Connection, Tuning};
use crate::endpoint::EndpointInner;
use crate::endpoint::audit::Attempt;
use crate::endpoint::error::HandshakeError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::time::timeout;

/// The accepting side of an [`crate::Endpoint`] over QUIC; cheap to clone.
#[derive(Clone, Debug)]
pub struct Acceptor {
    endpoint: Arc<EndpointInner>,
    alpn: Vec<Vec<u8>>,
    tuning: Tuning,
    configs: Arc<ServerConfigs>,
}

impl Acceptor {
    pub(crate) fn new(endpoint: Arc<EndpointInner>, alpn: &[&str]) -> Self {
        Self { endpoint, alpn: super::protocols(alpn), tuning: Tuning::default(), configs: Arc::default() }
    }

    /// The same with other parameters.
    #[must_use]
    pub fn tuned(self, tuning: Tuning) -> Self {
        Self { tuning, configs: Arc::default(), ..self }
    }

    /// A UDP socket on `addr` for [`super::serve`]; port 0 takes any. Call it within a tokio runtime.
    ///
    /// # Errors
    /// The address is in use or not ours, or the endpoint cannot serve QUIC.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<quinn::Endpoint> {
        let config = self.server_config().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        quinn::Endpoint::server(config, addr)
    }

    /// What a [`quinn::Endpoint`] that you make yourself needs so that its attempts can be passed to [`Self::accept`].
    /// It is of use for nothing else: the connections themselves take their configuration from the current generation.
    ///
    /// # Errors
    /// The endpoint cannot serve QUIC.
    pub fn server_config(&self) -> Result<quinn::ServerConfig, HandshakeError> {
        let (_, config) = self.configs.current(&self.endpoint, &self.alpn, &self.tuning)?;
        Ok(quinn::ServerConfig::clone(&config))
    }

    pub(super) fn endpoint(&self) -> &Arc<EndpointInner> {
        &self.endpoint
    }

    /// Shakes hands within the endpoint's timeout. Do not await it in an accept loop: a slow peer would block it.
    ///
    /// # Errors
    /// See [`HandshakeError`]; each is counted and leaves an audit record.
    pub async fn accept(&self, incoming: quinn::Incoming) -> Result<Connection, HandshakeError> {
        let attempt = Attempt::new(Some(incoming.remote_address()), None);
        let limit = self.endpoint.limits.timeout;
        let handshake = timeout(limit, self.shake_hands(incoming, &attempt)).await;
        handshake
            .unwrap_or(Err(HandshakeError::Timeout(limit)))
            .inspect_err(|error| self.endpoint.note_failure(&attempt, error))
    }

    async fn shake_hands(
        &self,
        incoming: quinn::Incoming,
        attempt: &Attempt<'_>,
    ) -> Result<Connection, HandshakeError> {
        // Never closed; an error would only mean that the endpoint is gone.
        let _permit = self.endpoint.handshakes.acquire().await.ok();
        let (generation, config) = self.configs.current(&self.endpoint, &self.alpn, &self.tuning)?;
        attempt.under(generation.number());
        let connecting = incoming.accept_with(config).map_err(handshake_error)?;
        let quic = connecting.await.map_err(handshake_error)?;
        Connection::admit(quic, &self.endpoint, &generation, None, self.tuning.cut_code)
    }
}
