//! Key pairs and certificates for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;

/// A certificate with its private key; may sign others.
pub(crate) struct Pair {
    params: CertificateParams,
    certificate: Certificate,
    key: KeyPair,
}

impl Pair {
    pub(crate) fn self_signed(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), params, key }
    }

    /// A certificate with these parameters, signed by this one, whether it is a CA or not.
    pub(crate) fn sign(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        Self { certificate: params.signed_by(&key, &issuer).unwrap(), params, key }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    pub(crate) fn certificate_pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A PEM keystore: key, own certificate, then `issuers`.
    pub(crate) fn keystore(&self, issuers: &[&Pair]) -> String {
        let issuers: String = issuers.iter().map(|issuer| issuer.certificate_pem()).collect();
        self.key_pem() + &self.certificate_pem() + &issuers
    }
}

/// Parameters of an end entity certificate named `subject`, with `names` as subjectAltName.
pub(crate) fn leaf(subject: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, subject);
    params
}

/// Parameters of a CA certificate named `subject`.
pub(crate) fn authority(subject: &str) -> CertificateParams {
    let mut params = leaf(subject, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}
