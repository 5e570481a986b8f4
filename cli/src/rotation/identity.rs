//! Key pairs and certificates: self-signed pairs for the internal identity, a small certificate authority for REST.
//! ECDSA on P-256 throughout, which every TLS library reads and which costs little per handshake.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::RotationError;

/// How long a certificate is valid: from a little before now (clocks of peers may be behind) until now plus this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity(pub Duration);

impl Validity {
    /// Validity of `days` days.
    pub const fn days(days: u64) -> Self {
        Self(Duration::from_secs(days * 24 * 60 * 60))
    }

    fn apply(self, params: &mut CertificateParams) {
        let now = SystemTime::now();
        params.not_before = (now - CLOCK_SKEW).into();
        params.not_after = (now + self.0).into();
    }
}

/// A private key with its certificate chain, the leaf first.
pub struct Identity {
    key_pkcs8: Vec<u8>,
    chain: Vec<CertificateDer<'static>>,
}

impl Identity {
    /// One self-signed pair, as in Flink's recipe for internal connections: it is its own trust anchor, and knowing its
    /// private key is what makes a process a member of the cluster. It names no host.
    pub fn self_signed(common_name: &str, validity: Validity) -> Result<Self, RotationError> {
        let failed = |cause| RotationError::Certificate { subject: common_name.to_owned(), cause };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(common_name, &[], validity).map_err(failed)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { key_pkcs8: key.serialize_der(), chain: vec![certificate.into()] })
    }

    /// A key as PKCS#8 and its chain, the leaf first; `None` without a certificate.
    pub(super) fn from_parts(key_pkcs8: Vec<u8>, chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        (!chain.is_empty()).then_some(Self { key_pkcs8, chain })
    }

    /// The certificate that peers see.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        // All constructors put the leaf there.
        &self.chain[0]
    }

    /// The leaf and, for a signed identity, its issuer.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// SHA-256 of the leaf in lower-case hex without colons, as the cluster's TLS status shows it.
    pub fn fingerprint(&self) -> String {
        Sha256::digest(self.certificate()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The DNS names and IP addresses that the leaf is for.
    pub(super) fn hosts(&self) -> Vec<String> {
        let Ok((_, certificate)) = parse_x509_certificate(self.certificate()) else { return Vec::new() };
        let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
        let host = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => match **octets {
                [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).to_string()),
                _ => <[u8; 16]>::try_from(*octets).ok().map(|octets| Ipv6Addr::from(octets).to_string()),
            },
            _ => None,
        };
        names.value.general_names.iter().filter_map(host).collect()
    }

    /// Of the leaf's subject.
    pub(super) fn common_name(&self) -> Option<String> {
        let (_, certificate) = parse_x509_certificate(self.certificate()).ok()?;
        certificate.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
    }

    pub(super) fn key_pkcs8(&self) -> &[u8] {
        &self.key_pkcs8
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// A certificate authority with one self-signed root and no intermediates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// A new root named `common_name`.
    pub fn new(common_name: &str, validity: Validity) -> Result<Self, RotationError> {
        let failed = |cause| RotationError::Certificate { subject: common_name.to_owned(), cause };
        let params = authority_params(common_name, validity).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?.into();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The root named `common_name` whose key pair was kept; see [`Authority::identity`].
    pub(super) fn kept(common_name: &str, identity: &Identity) -> Result<Self, RotationError> {
        let failed = |cause| RotationError::Certificate { subject: common_name.to_owned(), cause };
        // Of them, an issued certificate shows the name and what follows from the key only.
        let params = authority_params(common_name, Validity::days(0)).map_err(failed)?;
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(identity.key_pkcs8())).map_err(failed)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate: identity.certificate().clone() })
    }

    /// A server certificate for `hosts`: DNS names and IP addresses. The first is also its common name.
    pub fn issue(&self, hosts: &[String], validity: Validity) -> Result<Identity, RotationError> {
        let subject = hosts.first().map_or("server", String::as_str);
        let failed = |cause| RotationError::Certificate { subject: hosts.join(", "), cause };
        let mut params = params(subject, hosts, validity).map_err(failed)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity { key_pkcs8: key.serialize_der(), chain: vec![certificate.into(), self.certificate.clone()] })
    }

    /// The root as a key pair of its own, to be kept for issuing later certificates.
    pub fn identity(&self) -> Identity {
        Identity { key_pkcs8: self.issuer.key().serialize_der(), chain: vec![self.certificate.clone()] }
    }

    /// The root certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The root certificate as PEM, for `curl --cacert`.
    pub fn pem(&self) -> String {
        let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
        pem::encode_config(&Pem::new("CERTIFICATE", self.certificate.as_ref()), lines)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn authority_params(common_name: &str, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(common_name, &[], validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn params(common_name: &str, hosts: &[String], validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    validity.apply(&mut params);
    Ok(params)
}

/// How far in the past a new certificate starts to be valid.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
