//! rustls' hook through which our servers judge a client's certificate.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{Judge, PeerRole, presented};
use crate::generation::Hint;

/// Judges clients.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    judge: Arc<Judge>,
    mandatory: bool,
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    /// With `mandatory` a client without a certificate is refused. `hint` goes out behind the names of real authorities.
    pub(crate) fn new(judge: Arc<Judge>, mandatory: bool, hint: Option<&Hint>) -> Self {
        let names = judge.issuer_names().into_iter().map(DistinguishedName::from);
        let hints = names.chain(hint.into_iter().flat_map(Hint::names)).collect();
        Self { judge, mandatory, hints }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// Names of the issuers we accept; Java picks its certificate by them.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        presented::note(end_entity);
        self.judge.judge(end_entity, intermediates, PeerRole::Client, None, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.algorithms().supported_schemes()
    }
}
