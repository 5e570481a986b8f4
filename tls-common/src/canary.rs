//! The canary: a generation makes a connection with itself, in memory, before anyone else gets to see it.
//!
//! It proves that key and chain work and, where both sides of a connection use the same bundle, that the bundle
//! believes itself. Half of a two-file change (a new keystore with the old truststore) is caught here. Names are not
//! compared: which name a peer will dial is not known. Resumption is off, so that nothing of it stays behind.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, DigitallySignedStruct, Error, ServerConfig, ServerConnection,
    SideData, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::{
    BundleOptions, ClientAuth, Generation, MaterialError, Rejection, generation::NoClientCertificate,
    session::Sessions, verify::server::ServerVerifier,
};

/// More round trips than any handshake takes; one that is not done by then never will be.
const MAX_ROUND_TRIPS: usize = 10;

/// The self-test.
///
/// A bundle that requires client certificates is used on both sides, so it must believe itself. With other bundles the
/// clients may be somebody else's with a truststore of their own: then self-rejection is only worth a warning, and what
/// must work is the identity.
pub(crate) fn test(generation: &Generation, options: &BundleOptions) -> Result<(), MaterialError> {
    let Some(server) = generation.server_config() else { return Ok(()) };
    let canary = |reason| MaterialError::Canary { bundle: options.name.clone(), reason };
    if options.truststore.is_some() {
        let failure = match handshake(without_names(generation), server) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if options.client_auth == ClientAuth::Required {
            return Err(canary(format!("{failure} (keystore and truststore of this bundle must accept each other)")));
        }
        tracing::warn!(
            bundle = options.name, generation = generation.number(), %failure,
            "the bundle's truststore does not accept its own keystore; fine if clients use another truststore"
        );
    }
    handshake(believing(generation), server).map_err(|failure| canary(failure.to_string()))
}

/// Warns if peers that still use `previous` and this one do not believe each other.
pub(crate) fn compare(generation: &Generation, previous: &Generation, options: &BundleOptions) {
    if options.truststore.is_none() || generation.keeps_sessions_of(previous) {
        return; // nobody to disagree with, or the same trust as before and already tested
    }
    let (Some(server), Some(previous_server)) = (generation.server_config(), previous.server_config()) else { return };
    for (client, server, direction) in [
        (previous, server, "clients with the previous certificates cannot connect to this server"),
        (generation, previous_server, "this client cannot connect to servers with the previous certificates"),
    ] {
        if let Err(failure) = handshake(without_names(client), server) {
            tracing::warn!(bundle = options.name, generation = generation.number(), %failure, "{direction}");
        }
    }
}

/// The generation's client, except that it takes any server name.
fn without_names(generation: &Generation) -> ClientConfig {
    let mut client = ClientConfig::clone(generation.client_config());
    let verifier = ServerVerifier::new(Arc::clone(generation.trust_judge()), false);
    client.dangerous().set_certificate_verifier(Arc::new(verifier));
    client
}

/// A client that believes every certificate, but only if its owner signed the handshake; it presents none itself.
fn believing(generation: &Generation) -> ClientConfig {
    let mut client = ClientConfig::clone(generation.client_config());
    let algorithms = *generation.trust_judge().algorithms();
    client.dangerous().set_certificate_verifier(Arc::new(Believe(algorithms)));
    client.client_auth_cert_resolver = Arc::new(NoClientCertificate);
    client
}

#[derive(Debug)]
struct Believe(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Believe {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Which side gave up, and why.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the client refuses the server's certificate: {0}")]
    Client(Rejection),
    #[error("the server refuses the client's certificate: {0}")]
    Server(Rejection),
    #[error("the handshake fails: {0}")]
    Handshake(#[from] Error),
    #[error("the handshake does not end")]
    Endless,
}

fn handshake(mut client: ClientConfig, server: &ServerConfig) -> Result<(), Failure> {
    let mut server = server.clone();
    Sessions::disabled().install_client(&mut client);
    Sessions::disabled().install_server(&mut server);
    let name = ServerName::try_from("canary.invalid").map_err(|_| Error::General("canary name".into()))?;
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    for _ in 0..MAX_ROUND_TRIPS {
        transfer(&mut client, &mut server).map_err(|error| failure(error, Failure::Server))?;
        transfer(&mut server, &mut client).map_err(|error| failure(error, Failure::Client))?;
        // With TLS 1.3 the client is done before the server has judged it.
        if !client.is_handshaking() && !server.is_handshaking() && !client.wants_write() {
            return Ok(());
        }
    }
    Err(Failure::Endless)
}

fn failure(error: Error, refused_by: fn(Rejection) -> Failure) -> Failure {
    Rejection::from_tls(&error).map_or(Failure::Handshake(error), refused_by)
}

fn transfer<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), Error> {
    let io = |error: std::io::Error| Error::General(error.to_string());
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).map_err(io)?;
    }
    let mut unread = bytes.as_slice();
    while !unread.is_empty() {
        to.read_tls(&mut unread).map_err(io)?;
        to.process_new_packets()?;
    }
    Ok(())
}
