//! Key pairs and certificates for tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationList, CertificateRevocationListParams,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate with its private key; may sign others.
pub(crate) struct Pair {
    params: CertificateParams,
    certificate: Certificate,
    key: KeyPair,
}

impl Pair {
    pub(crate) fn self_signed(params: CertificateParams) -> Self {
        Self::with_key(None, params, KeyPair::generate().unwrap())
    }

    /// A certificate with these parameters, signed by this one, whether it is a CA or not.
    pub(crate) fn sign(&self, params: CertificateParams) -> Self {
        Self::with_key(Some(self), params, KeyPair::generate().unwrap())
    }

    /// A certificate for this key, signed by `issuer` or by itself.
    pub(crate) fn with_key(issuer: Option<&Pair>, params: CertificateParams, key: KeyPair) -> Self {
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)),
            None => params.self_signed(&key),
        };
        Self { certificate: certificate.unwrap(), params, key }
    }

    /// A list of what this one revokes, to be renewed by the first of January of that year.
    pub(crate) fn crl(&self, revoked: &[&Pair], next_update: i32) -> CertificateRevocationList {
        let entry = |pair: &&Pair| RevokedCertParams {
            serial_number: SerialNumber::from_slice(
                X509Certificate::from_der(&pair.der()).unwrap().1.tbs_certificate.raw_serial(),
            ),
            revocation_time: date_time_ymd(2025, 6, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 6, 1),
            next_update: date_time_ymd(next_update, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&Issuer::from_params(&self.params, &self.key)).unwrap()
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
