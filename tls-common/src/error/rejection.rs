//! [`Rejection`]: why a peer's certificate was refused, in our words, in the TLS library's, and as a code for machines.

use std::sync::Arc;

use rustls::{
    CertificateError, OtherError,
    pki_types::{ServerName, UnixTime},
};

use super::date;

/// Why a peer's certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Neither the certificate itself nor an issuer of it is in our truststore.
    #[error("the certificate is not trusted: neither it nor an issuer of it is in the truststore")]
    Untrusted,
    /// It is in our truststore, and a CA that signed it is not.
    #[error(
        "the certificate is in the truststore, but its issuer is not; add the issuer, or grant the leniency \
         \"untrusted-issuer\""
    )]
    UntrustedIssuer,
    /// A certificate of the chain has ended.
    #[error(
        "the certificate expired at {}; renew it (the leniency \"expired\" accepts it if it is itself in the truststore)",
        date(seconds(*not_after))
    )]
    Expired {
        /// Last moment it was good.
        not_after: UnixTime,
    },
    /// A certificate of the chain has not begun.
    #[error("the certificate is valid only from {} on; are the clocks right?", date(seconds(*not_before)))]
    NotYetValid {
        /// First moment it is good.
        not_before: UnixTime,
    },
    /// The server is trusted but is not the one we dialled.
    #[error(
        "the certificate is not for {:?} but for {presented:?}; add the name as a subjectAltName, or turn host name \
         verification off", expected.to_str()
    )]
    WrongName {
        /// The name we dialled.
        expected: ServerName<'static>,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// Trusted, but not one of the pinned certificates.
    #[error("the certificate's fingerprint is not among the pinned ones")]
    Pin,
    /// Pinned, but from later on.
    #[error("the certificate's fingerprint is pinned only from {} on (not-before in the pin file)", date(seconds(*not_before)))]
    PinNotYet {
        /// First moment the pin counts.
        not_before: UnixTime,
    },
    /// Pinned, but no longer.
    #[error("the certificate's fingerprint was pinned only until {} (not-after in the pin file)", date(seconds(*not_after)))]
    PinEnded {
        /// Last moment the pin counted.
        not_after: UnixTime,
    },
    /// The certificate or an issuer of it is on a revocation list.
    #[error("the certificate{} is revoked by its issuer, says the CRL file", serial_of(serial.as_deref()))]
    Revoked {
        /// Serial number, hexadecimal with colons; `None` where only the TLS library's error is left of it.
        serial: Option<String>,
    },
    /// No revocation list speaks for the certificate or an issuer of it, and one must.
    #[error("no revocation list of the certificate's issuer is in the CRL file; add it, or turn CRL strictness off")]
    RevocationUnknown,
    /// The revocation list that speaks for it is too old, and must not be.
    #[error(
        "the revocation list of the certificate's issuer had to be renewed by {}; put a new one into the CRL file, or \
         turn CRL strictness off", date(seconds(*next_update))
    )]
    CrlExpired {
        /// When the list's successor was promised for.
        next_update: UnixTime,
    },
    /// A key of the chain is too small.
    #[error(
        "the certificate or an issuer of it has an {algorithm} key of {bits} bits, and the least allowed is {minimum}; \
         make a larger key, or lower the minimum {algorithm} key size"
    )]
    WeakKey {
        /// "RSA" or "EC".
        algorithm: &'static str,
        /// Its size.
        bits: u32,
        /// What the options ask for.
        minimum: u32,
    },
    /// An issuer of that name is trusted, but it did not sign this.
    #[error(
        "the certificate is not signed by the trusted issuer of that name; was the issuer's key renewed under the \
         same name?"
    )]
    BadSignature,
    /// The peer has shown a certificate whose private key it does not own.
    #[error("the handshake is not signed with the certificate's private key")]
    HandshakeSignature,
    /// Key usage or extended key usage forbids this use.
    #[error("the certificate may not be used as a TLS {role} (key usage or extended key usage)")]
    WrongUsage {
        /// "client" or "server".
        role: &'static str,
    },
    /// A CA certificate that is not itself in the truststore, or may not be used so even then.
    #[error(
        "the certificate is a CA certificate; it is accepted only if it is itself in the truststore and the leniency \
         \"ca-as-end-entity\" is granted"
    )]
    CaAsEndEntity,
    /// X.509 version 1.
    #[error(
        "the certificate is X.509 version 1; make it again as version 3 (the leniency \"x509v1\" accepts it if it is \
         itself in the truststore)"
    )]
    Version1,
    /// The peer sent no certificate.
    #[error("no certificate was presented")]
    NoCertificate,
    /// We have nothing to judge by.
    #[error("there is no truststore to judge the certificate by; configure one")]
    NoTruststore,
    /// Not decodable, or with demands we do not understand.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
}

impl From<Rejection> for rustls::Error {
    /// The standard certificate errors where there is one, because they choose the alert the peer gets to see;
    /// otherwise `CertificateError::Other` with the rejection inside. [`Rejection::from_tls`] is the way back.
    fn from(rejection: Rejection) -> Self {
        Self::InvalidCertificate(match rejection {
            Rejection::Untrusted => CertificateError::UnknownIssuer,
            Rejection::Expired { not_after } => CertificateError::ExpiredContext { time: UnixTime::now(), not_after },
            Rejection::NotYetValid { not_before } => {
                CertificateError::NotValidYetContext { time: UnixTime::now(), not_before }
            }
            Rejection::WrongName { expected, presented } => {
                CertificateError::NotValidForNameContext { expected, presented }
            }
            Rejection::HandshakeSignature => CertificateError::BadSignature,
            Rejection::Revoked { .. } => CertificateError::Revoked,
            Rejection::RevocationUnknown => CertificateError::UnknownRevocationStatus,
            Rejection::CrlExpired { next_update } => {
                CertificateError::ExpiredRevocationListContext { time: UnixTime::now(), next_update }
            }
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

impl Rejection {
    /// For machines; never changes its meaning: the variant's name in snake case, such as `untrusted` or `expired`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::UntrustedIssuer => "untrusted_issuer",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::WrongName { .. } => "wrong_name",
            Self::Pin => "pin",
            Self::PinNotYet { .. } => "pin_not_yet",
            Self::PinEnded { .. } => "pin_ended",
            Self::Revoked { .. } => "revoked",
            Self::RevocationUnknown => "revocation_unknown",
            Self::CrlExpired { .. } => "crl_expired",
            Self::WeakKey { .. } => "weak_key",
            Self::BadSignature => "bad_signature",
            Self::HandshakeSignature => "handshake_signature",
            Self::WrongUsage { .. } => "wrong_usage",
            Self::CaAsEndEntity => "ca_as_end_entity",
            Self::Version1 => "version1",
            Self::NoCertificate => "no_certificate",
            Self::NoTruststore => "no_truststore",
            Self::Unusable(_) => "unusable",
        }
    }

    /// The rejection behind a failed handshake, if it failed because *we* refused the peer's certificate.
    pub fn from_tls(error: &rustls::Error) -> Option<Self> {
        let error = match error {
            rustls::Error::InvalidCertificate(error) => error,
            rustls::Error::NoCertificatesPresented => return Some(Self::NoCertificate),
            _ => return None,
        };
        Some(match error {
            CertificateError::UnknownIssuer => Self::Untrusted,
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired { not_after: *not_after },
            CertificateError::NotValidYetContext { not_before, .. } => Self::NotYetValid { not_before: *not_before },
            CertificateError::NotValidForNameContext { expected, presented } => {
                Self::WrongName { expected: expected.clone(), presented: presented.clone() }
            }
            CertificateError::BadSignature => Self::HandshakeSignature,
            CertificateError::Revoked => Self::Revoked { serial: None },
            CertificateError::UnknownRevocationStatus => Self::RevocationUnknown,
            CertificateError::ExpiredRevocationListContext { next_update, .. } => {
                Self::CrlExpired { next_update: *next_update }
            }
            CertificateError::Other(OtherError(inner)) => match inner.downcast_ref::<Self>() {
                Some(rejection) => rejection.clone(),
                None => Self::Unusable(inner.to_string()),
            },
            other => Self::Unusable(other.to_string()),
        })
    }
}

fn serial_of(serial: Option<&str>) -> String {
    serial.map(|serial| format!(" with the serial number {serial}")).unwrap_or_default()
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
