//! Plain rustls as its own documentation sets it up: the limit that ours is compared with.

use super::{ALPN, Pki, Settings, Side};
use rcgen::CertifiedKey;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::sync::Arc;
use tls_common::ProtocolVersion;

/// Sessions on each side, as many as ours keeps by default.
const SESSIONS: usize = 1024;

/// Mutual TLS with rustls' own verifiers and session stores.
pub fn configs(pki: &Pki, settings: &Settings) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    configs_by(provider(settings), pki, settings)
}

/// The same by another provider.
pub fn configs_by(provider: CryptoProvider, pki: &Pki, settings: &Settings) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let provider = Arc::new(provider);
    let version: &SupportedProtocolVersion = match settings.version {
        ProtocolVersion::Tls12 => &rustls::version::TLS12,
        ProtocolVersion::Tls13 => &rustls::version::TLS13,
    };
    let identity = |side| -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let CertifiedKey { cert, signing_key } = pki.identity(side);
        (vec![cert.der().clone()], PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap())
    };
    let ((server_chain, server_key), (client_chain, client_key)) = (identity(Side::Server), identity(Side::Client));
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca.der().clone()).unwrap();
    let roots = Arc::new(roots);

    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider)).build().unwrap();
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(server_chain, server_key)
        .unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(client_chain, client_key)
        .unwrap();
    for alpn in [&mut server.alpn_protocols, &mut client.alpn_protocols] {
        *alpn = vec![ALPN.into()];
    }
    if settings.resume {
        server.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        client.resumption = Resumption::in_memory_sessions(SESSIONS);
    } else {
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
    }
    (Arc::new(server), Arc::new(client))
}

/// The name that is dialled.
pub fn name() -> ServerName<'static> {
    ServerName::try_from(super::HOST).unwrap()
}

fn provider(settings: &Settings) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    if !settings.suites.is_empty() {
        let ours = |name: &str| settings.suites.iter().any(|suite| suite.replace("TLS_", "TLS13_") == name);
        provider.cipher_suites.retain(|suite| suite.suite().as_str().is_some_and(ours));
    }
    provider
}
