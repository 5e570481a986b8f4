//! A foreign TLS client: plain rustls without anything of ours, which believes every server and shows what it saw.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use p12_keystore::Pkcs12Archive;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tidemill::rotation::Identity;
use tls_common::Fingerprint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::port::contains;
use crate::{Internal, PASSWORD, Port, within};

/// Most bytes of a server's first words that are looked at.
const FIRST_WORDS_BYTES: usize = 4096;

/// Connects as somebody, or as nobody. Never resumes a session.
#[derive(Debug, Clone)]
pub struct Client {
    config: ClientConfig,
}

/// What a server presented and whether it talked to us.
#[derive(Debug)]
pub struct Conversation {
    /// SHA-256 of its certificate.
    pub certificate: String,
    /// Whether it said what it says only to those it accepts.
    pub answered: bool,
}

impl Client {
    /// One that presents `identity`, or nothing.
    pub fn new(identity: Option<&Identity>) -> Self {
        Self::speaking(identity, rustls::ALL_VERSIONS)
    }

    /// The same, with these versions of TLS only.
    pub fn speaking(identity: Option<&Identity>, versions: &[&'static SupportedProtocolVersion]) -> Self {
        let credentials = identity.map(|identity| {
            let store = Pkcs12Archive::from_pkcs12(&Internal::keystore(identity), PASSWORD).unwrap();
            let key = PrivatePkcs8KeyDer::from(store.keys[0].key.as_der().to_vec());
            (identity.chain().to_vec(), key.into())
        });
        Self::with(credentials, versions)
    }

    /// One that presents this chain.
    pub fn presenting(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self::with(Some((chain, key)), rustls::ALL_VERSIONS)
    }

    fn with(
        credentials: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = builder.unwrap().dangerous().with_custom_certificate_verifier(Arc::new(Credulous(provider)));
        let mut config = match credentials {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        };
        config.resumption = Resumption::disabled();
        Self { config }
    }

    /// Connects and says nothing yet.
    pub async fn connect(&self, port: Port, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.connect_for(port.alpn(), address).await
    }

    /// The same, where a port speaks more than one protocol.
    pub async fn connect_for(&self, alpn: &str, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![alpn.into()];
        let tcp = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await
    }

    /// Connects, opens the conversation and reads the server's first words.
    ///
    /// # Errors
    /// The handshake failed, also if a server of TLS 1.3 refuses only after it.
    pub async fn converse(&self, port: Port, address: SocketAddr) -> io::Result<Conversation> {
        within("a conversation", self.first_words(port, address)).await
    }

    async fn first_words(&self, port: Port, address: SocketAddr) -> io::Result<Conversation> {
        let mut stream = self.connect(port, address).await?;
        let certificate = certificate_of(&stream);
        stream.write_all(port.opening()).await?;
        stream.flush().await?;
        let mut heard = Vec::new();
        while !contains(&heard, port.greeting()) && heard.len() < FIRST_WORDS_BYTES {
            if stream.read_buf(&mut heard).await? == 0 {
                break;
            }
        }
        Ok(Conversation { certificate, answered: contains(&heard, port.greeting()) })
    }
}

/// SHA-256 of the certificate that the server presented.
fn certificate_of(stream: &TlsStream<TcpStream>) -> String {
    let (_, session) = stream.get_ref();
    Fingerprint::sha256_of(&session.peer_certificates().unwrap()[0]).to_string()
}

/// Believes every certificate, but checks that the server has its key.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
