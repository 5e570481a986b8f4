//! quinn's view of a generation, made once per generation: a connection costs a comparison and a reference count.

use super::Tuning;
use super::session::{ObservedClient, ObservedServer};
use crate::ProtocolVersion;
use crate::endpoint::EndpointInner;
use crate::endpoint::error::HandshakeError;
use crate::endpoint::latest::Latest;
use crate::generation::{Generation, quic_initial_suite};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::quic::Suite;
use std::sync::{Arc, OnceLock};

const NO_TLS: HandshakeError = HandshakeError::NoQuic("it has no TLS, and there is no QUIC without");
const NO_TLS13: HandshakeError = HandshakeError::NoQuic("allow TLS 1.3 and at least one of its cipher suites");

/// The configurations of an acceptor.
#[derive(Debug, Default)]
pub(super) struct ServerConfigs {
    latest: Latest<Arc<quinn::ServerConfig>>,
    /// The first one. Its key for address validation tokens is in all later ones: a token outlives a rotation.
    first: OnceLock<quinn::ServerConfig>,
}

/// The configurations of a connector.
#[derive(Debug, Default)]
pub(super) struct ClientConfigs {
    latest: Latest<quinn::ClientConfig>,
}

impl ServerConfigs {
    /// The current generation, and its configuration for the next connection.
    pub(super) fn current(
        &self,
        endpoint: &EndpointInner,
        alpn: &[Vec<u8>],
        tuning: &Tuning,
    ) -> Result<(Arc<Generation>, Arc<quinn::ServerConfig>), HandshakeError> {
        let generation = current(endpoint)?;
        let config = self.latest.of(&generation, || {
            let mut tls = rustls::ServerConfig::clone(generation.server_config().ok_or(HandshakeError::NoIdentity)?);
            tls.alpn_protocols = alpn.to_vec();
            let suite = initial_suite(tls.crypto_provider())?;
            let crypto = QuicServerConfig::with_initial(Arc::new(tls), suite).map_err(|_| NO_TLS13)?;
            let crypto: Arc<dyn quinn::crypto::ServerConfig> = Arc::new(ObservedServer::new(crypto));
            let first = self.first.get_or_init(|| quinn::ServerConfig::with_crypto(Arc::clone(&crypto)));
            let mut config = first.clone();
            config.crypto = crypto;
            config.transport_config(Arc::clone(&tuning.transport));
            Ok(Arc::new(config))
        })?;
        Ok((generation, config))
    }
}

impl ClientConfigs {
    /// The current generation, and its configuration for the next connection.
    pub(super) fn current(
        &self,
        endpoint: &EndpointInner,
        alpn: &[Vec<u8>],
        tuning: &Tuning,
    ) -> Result<(Arc<Generation>, quinn::ClientConfig), HandshakeError> {
        let generation = current(endpoint)?;
        let config = self.latest.of(&generation, || {
            let mut tls = rustls::ClientConfig::clone(generation.client_config());
            tls.alpn_protocols = generation.offered(alpn);
            let suite = initial_suite(tls.crypto_provider())?;
            let crypto = QuicClientConfig::with_initial(Arc::new(tls), suite).map_err(|_| NO_TLS13)?;
            let mut config = quinn::ClientConfig::new(Arc::new(ObservedClient::new(crypto)));
            config.transport_config(Arc::clone(&tuning.transport));
            Ok(config)
        })?;
        Ok((generation, config))
    }
}

fn current(endpoint: &EndpointInner) -> Result<Arc<Generation>, HandshakeError> {
    let tls = endpoint.tls.as_ref().ok_or(NO_TLS)?;
    if tls.options().protocols.contains(&ProtocolVersion::Tls13) { Ok(tls.current()) } else { Err(NO_TLS13) }
}

/// The suite of QUIC's first packets, which is not negotiated, so that a bundle without it speaks QUIC too.
///
/// Fails where the bundle itself has no suite for QUIC: quinn would panic at the first connection.
fn initial_suite(provider: &rustls::crypto::CryptoProvider) -> Result<Suite, HandshakeError> {
    let usable = provider.cipher_suites.iter().any(|suite| suite.tls13().is_some_and(|tls13| tls13.quic.is_some()));
    quic_initial_suite().filter(|_| usable).ok_or(NO_TLS13)
}
