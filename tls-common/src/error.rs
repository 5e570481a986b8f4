//! What can be wrong with certificates, by whose fault: [`MaterialError`] is the operator's (a file of ours),
//! [`Rejection`] is the peer's.

mod rejection;

use std::{io, path::PathBuf};

use x509_parser::time::ASN1Time;

pub use rejection::Rejection;

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

/// A moment in Unix seconds, for people.
pub(crate) fn date(seconds: i64) -> String {
    ASN1Time::from_timestamp(seconds).map_or_else(|_| format!("{seconds} (Unix seconds)"), |time| time.to_string())
}
