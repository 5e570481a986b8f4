//! What can be wrong with certificates, by whose fault: [`MaterialError`] is the operator's (a file of ours),
//! [`Rejection`] is the peer's.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    CertificateError, OtherError,
    pki_types::{ServerName, UnixTime},
};
use x509_parser::time::ASN1Time;

/// A bundle that cannot be used: which file, why, and what to do. Never contains a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialError {
    /// The content of a keystore or truststore is at fault.
    #[error("{part} {}: {fault}", path.display())]
    Store {
        /// Which of the bundle's stores.
        part: StorePart,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: StoreFault,
    },
    /// A file of the bundle cannot be read.
    #[error("cannot read {}: {error}; check that it exists and that this process may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// A password file has no usable text.
    #[error("password file {} {reason}; write the {part}'s password into it", path.display())]
    PasswordFile {
        /// Which store it should open.
        part: StorePart,
        /// The password file.
        path: PathBuf,
        /// "is empty", "is not UTF-8".
        reason: &'static str,
    },
    /// The file of pins is at fault.
    #[error("pin file {}{}: {reason}", path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Pins {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1; `None` if it is the whole.
        line: Option<usize>,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// The file of certificate revocation lists is at fault.
    #[error("CRL file {}: {reason}", path.display())]
    Crl {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The files changed again and again while they were read.
    #[error(
        "the files of TLS bundle {bundle:?} did not hold still while they were read; replace them by rename \
         instead of writing in place"
    )]
    Unstable {
        /// Name of the bundle.
        bundle: String,
    },
    /// The options contradict each other or ask for what this build does not have.
    #[error("TLS bundle {bundle:?}: {reason}")]
    Options {
        /// Name of the bundle.
        bundle: String,
        /// What is contradictory and which option to change.
        reason: String,
    },
    /// The new material does not even make a connection with itself.
    #[error("TLS bundle {bundle:?} fails its self-test: {reason}")]
    Canary {
        /// Name of the bundle.
        bundle: String,
        /// Which side refused what, and what to change.
        reason: String,
    },
}

/// Which of a bundle's stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorePart {
    /// Our own key and certificates.
    Keystore,
    /// Our own key, where it has a file of its own.
    PrivateKey,
    /// The certificates we believe.
    Truststore,
}

impl std::fmt::Display for StorePart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Keystore => "keystore",
            Self::PrivateKey => "private key",
            Self::Truststore => "truststore",
        })
    }
}

/// What is wrong with the content of a store, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFault {
    /// Zero bytes, as seen while someone else is still writing.
    #[error("the file is empty")]
    Empty,
    /// None of the formats we read.
    #[error(
        "neither a PKCS12, JKS, PEM nor DER file; make one with keytool -storetype PKCS12, openssl pkcs12 -export, or \
         openssl req"
    )]
    UnknownFormat,
    /// A format only Java reads.
    #[error(
        "a {format} store, which is not supported; convert it: keytool -importkeystore -srckeystore OLD \
         -destkeystore NEW -deststoretype PKCS12"
    )]
    JavaFormat {
        /// "JCEKS".
        format: &'static str,
    },
    /// The configured type is not what the file holds.
    #[error("configured as {configured}, but the file is {found}; correct the store type")]
    WrongKind {
        /// What the options say.
        configured: &'static str,
        /// What the file is.
        found: &'static str,
    },
    /// The store does not open.
    #[error("wrong password; set the password the store was made with")]
    WrongPassword,
    /// The store does not open, and no password was given.
    #[error("a password is needed; set the password the store was made with")]
    NoPassword,
    /// The store opens but its key does not: one password must open everything.
    #[error(
        "the private key has another password than the store; PKCS12 stores have one password: change it with \
         keytool -importkeystore or openssl pkcs12"
    )]
    KeyPassword,
    /// The store opens but its key does not, in a format where the two passwords may differ.
    #[error("the store opens, but its key {alias:?} has another password; set the key's own password")]
    WrongKeyPassword {
        /// Name of the key's entry.
        alias: String,
    },
    /// Truncated, half-written or not what its first bytes promise.
    #[error("damaged or incomplete ({0}); is it still being written? Otherwise make it again")]
    Damaged(String),
    /// A private key in a form we do not decrypt.
    #[error(
        "the private key is {0}; encrypt it anew with openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD -out NEW and put it \
         in the old one's place"
    )]
    EncryptedKey(&'static str),
    /// A keystore without any private key.
    #[error("contains no private key; is it a truststore? A key that has a file of its own must be configured as such")]
    NoKey,
    /// Two candidates for our key.
    #[error("holds a private key, but another one is configured in a file of its own; take one of the two away")]
    SecondKey,
    /// Key and chain can lie in two files only in PEM.
    #[error(
        "{found}, but a private key in a file of its own and its certificates must both be PEM; convert with openssl"
    )]
    NotPem {
        /// What the file is.
        found: &'static str,
    },
    /// A keystore with a private key and no certificate at all.
    #[error("contains a private key but no certificate for it")]
    NoCertificate,
    /// Key and certificates are of different pairs.
    #[error("no certificate in it belongs to its private key; were key and certificate replaced at different moments?")]
    KeyMismatch,
    /// A key of a kind TLS cannot use.
    #[error("unusable private key ({0}); use RSA (2048 bits or more), ECDSA P-256, P-384, P-521 or Ed25519")]
    UnsupportedKey(String),
    /// Our own key is smaller than peers are allowed to have.
    #[error(
        "its {algorithm} key has {bits} bits, and the least allowed is {minimum}; make a larger key, or lower the          minimum {algorithm} key size"
    )]
    WeakKey {
        /// "RSA" or "EC".
        algorithm: &'static str,
        /// Its size.
        bits: u32,
        /// What the options ask for.
        minimum: u32,
    },
    /// X.509 version 1, which has no extensions and which TLS libraries refuse.
    #[error(
        "the certificate {subject:?} is X.509 version 1; make it again as version 3 (keytool does; openssl x509 \
         needs -extfile), or grant the leniency \"x509v1\""
    )]
    Version1 {
        /// Subject of that certificate.
        subject: String,
    },
    /// Not X.509.
    #[error("one of its certificates is not valid X.509 ({0})")]
    BadCertificate(String),
    /// A truststore that trusts nobody.
    #[error("{}", no_anchor(*untagged))]
    NoAnchor {
        /// Certificates without Java's mark of trust, which count for nothing.
        untagged: usize,
    },
}

fn no_anchor(untagged: usize) -> String {
    if untagged == 0 {
        return "contains no trusted certificate; add one with keytool -importcert".into();
    }
    format!(
        "contains no trusted certificate, only {untagged} without Java's trusted-certificate attribute \
         (as openssl pkcs12 -nokeys writes them); import them with keytool -importcert, or use a PEM file"
    )
}

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

/// A moment in Unix seconds, for people.
pub(crate) fn date(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| format!("{seconds} (Unix seconds)"), |time| time.to_string())
}
