//! The handshake's signature: proof that the peer owns the key of the certificate it showed.
//!
//! rustls' own helpers do it, except for X.509 version 1, which they refuse to parse: where that is granted, the bare
//! key is used.

use rustls::{
    CertificateError, DigitallySignedStruct, Error,
    client::danger::HandshakeSignatureValid,
    crypto::{verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
};
use x509_parser::{
    certificate::X509Certificate,
    prelude::{FromDer, X509Version},
};

use super::{Judge, signed::Key};

impl Judge {
    /// TLS 1.2: `message` is signed by the key of `leaf`.
    pub(crate) fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(spki) = self.version_1_key(leaf) else {
            return verify_tls12_signature(message, leaf, signed, &self.algorithms);
        };
        // As rustls does: each algorithm the scheme may stand for.
        let candidates = self.algorithms.mapping.iter().filter(|(scheme, _)| *scheme == signed.scheme);
        let verified = Key::from_spki(spki).is_some_and(|key| {
            candidates
                .flat_map(|(_, algorithms)| algorithms.iter())
                .any(|algorithm| key.verifies(*algorithm, message, signed.signature()))
        });
        if verified { Ok(HandshakeSignatureValid::assertion()) } else { Err(CertificateError::BadSignature.into()) }
    }

    /// TLS 1.3: likewise.
    pub(crate) fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.version_1_key(leaf) {
            None => verify_tls13_signature(message, leaf, signed, &self.algorithms),
            Some(spki) => {
                let spki = SubjectPublicKeyInfoDer::from(spki);
                verify_tls13_signature_with_raw_key(message, &spki, signed, &self.algorithms)
            }
        }
    }

    fn version_1_key<'a>(&self, leaf: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
        if !self.criteria.leniency.x509v1 {
            return None;
        }
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        (certificate.version() == X509Version::V1).then_some(certificate.subject_pki.raw)
    }
}
