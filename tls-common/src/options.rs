//! What a TLS bundle is made of and how strict it is: typed options, without any configuration format.

mod trust;

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub use self::trust::{KeySizes, Leniency};
use crate::secret::Secret;

/// All files and rules of one endpoint class ("internal", "rest"). They change together and are loaded together.
#[derive(Debug, Clone)]
pub struct BundleOptions {
    /// Name in logs, errors and status.
    pub name: String,
    /// Our private key and certificate chain. Without it there is no server side.
    pub keystore: Option<StoreOptions>,
    /// Which peers are believed. Without it every server is refused, and clients cannot be asked for a certificate.
    pub truststore: Option<StoreOptions>,
    /// Whether our servers ask their clients for a certificate.
    pub client_auth: ClientAuth,
    /// Whether our clients compare the host name they dialled with the names in the server's certificate.
    pub verify_hostname: bool,
    /// If not empty, the peer's own certificate must in addition be one of these.
    pub pins: Vec<Fingerprint>,
    /// A text file with more of them, one a line: `FINGERPRINT [not-before=DATE] [not-after=DATE]`, where a date is
    /// `2027-01-31` (the whole day, UTC) or `2027-01-31T12:00:00Z`. `#` begins a comment. Outside its window a pin does
    /// not count; a file without any pin is an error.
    pub pins_file: Option<PathBuf>,
    /// A file of certificate revocation lists: PEM (several) or DER (one). What one of them lists is refused, even if
    /// it lies in the truststore, provided the issuer of both signed the list.
    pub crl: Option<PathBuf>,
    /// Whether a certificate is refused, too, if no valid list of its issuer is there: none at all, one in parts, or
    /// one past its next update. Otherwise lists can only refuse, and an overdue one is noted in the log: a job that
    /// stopped fetching lists must not stop the cluster.
    pub crl_strict: bool,
    /// Which of Java's liberties are taken.
    pub leniency: Leniency,
    /// How small keys may be.
    pub min_key: KeySizes,
    /// Protocol versions both sides may speak; at least one.
    pub protocols: Vec<ProtocolVersion>,
    /// IANA names (`TLS_AES_128_GCM_SHA256`) in order of preference; empty means all of the provider's, those with
    /// AES-128-GCM first.
    /// Names the provider does not have are dropped with a warning; it is an error if none is left.
    pub cipher_suites: Vec<String>,
    /// Who does the cryptography.
    pub provider: Provider,
    /// Sessions remembered for resumption, on each side; 0 turns resumption off.
    pub session_cache_size: usize,
    /// How long a session can be resumed, on each side.
    pub session_timeout: Duration,
    /// For how long after a change the previous trust still counts and the previous identity is still shown to peers
    /// that do not believe the new one, so that hosts may rotate at different instants. Zero: not at all.
    pub overlap: Duration,
    /// An alarm is given when less than this percentage of our certificate's life is left, or of the truststore's last
    /// certificate's; 0 turns it off.
    pub expiry_alarm_percent: u8,
}

impl BundleOptions {
    /// A bundle without files, with the strict defaults: host names are verified, TLS 1.2 and 1.3, 1024 sessions for
    /// a day.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            keystore: None,
            truststore: None,
            client_auth: ClientAuth::None,
            verify_hostname: true,
            pins: Vec::new(),
            pins_file: None,
            crl: None,
            crl_strict: false,
            leniency: Leniency::default(),
            min_key: KeySizes::default(),
            protocols: vec![ProtocolVersion::Tls12, ProtocolVersion::Tls13],
            cipher_suites: Vec::new(),
            provider: Provider::default(),
            session_cache_size: 1024,
            session_timeout: Duration::from_secs(24 * 60 * 60),
            overlap: Duration::ZERO,
            expiry_alarm_percent: 33,
        }
    }

    /// The password files among [`Self::paths`].
    pub(crate) fn password_files(&self) -> Vec<PathBuf> {
        let stores = self.keystore.iter().chain(&self.truststore);
        stores.flat_map(StoreOptions::password_files).collect()
    }

    /// Every file of the bundle once, in no meaningful order: stores, password files, pins and revocation lists.
    pub fn paths(&self) -> Vec<PathBuf> {
        let stores = self.keystore.iter().chain(&self.truststore);
        let mut paths: Vec<PathBuf> = stores.flat_map(StoreOptions::paths).collect();
        paths.extend(self.pins_file.iter().chain(&self.crl).cloned());
        paths.sort();
        paths.dedup();
        paths
    }
}

/// One keystore or truststore.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The store's file. A truststore may also be a directory: every PEM or DER file in it that holds certificates
    /// counts; names that start with a dot and sub-directories do not.
    pub path: PathBuf,
    /// Its format.
    pub kind: StoreKind,
    /// Opens the store; in PEM, the private key. A JKS truststore opens without one too, but unchecked.
    pub password: Password,
    /// Opens the private key where it differs from the store's password (which PKCS12 does not allow).
    pub key_password: Option<Password>,
    /// The private key's own file, where the keystore's holds only the certificates (`tls.key` beside `tls.crt`); both
    /// in PEM.
    pub private_key: Option<PathBuf>,
}

impl StoreOptions {
    /// A store whose format is found out from its content.
    pub fn new(path: impl Into<PathBuf>, password: Password) -> Self {
        Self { path: path.into(), kind: StoreKind::Auto, password, key_password: None, private_key: None }
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        std::iter::once(self.path.clone()).chain(self.private_key.clone()).chain(self.password_files())
    }

    fn password_files(&self) -> impl Iterator<Item = PathBuf> {
        let passwords = [Some(&self.password), self.key_password.as_ref()];
        passwords.into_iter().flatten().filter_map(|password| match password {
            Password::File(path) => Some(path.clone()),
            Password::None | Password::Inline(_) => None,
        })
    }
}

/// Where a password comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// None is needed (or the store was made with the empty one).
    None,
    /// Given in the configuration.
    Inline(Secret),
    /// The content of this UTF-8 file, without one line break at its end. The file belongs to the bundle.
    File(PathBuf),
}

/// Format of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// By the file's content, never by its name.
    Auto,
    /// PKCS#12, as made by `keytool` and `openssl pkcs12`.
    Pkcs12,
    /// Java's own format before PKCS#12, `keytool -storetype JKS`.
    Jks,
    /// Certificates and private key in PEM: PKCS#8 (plain, or encrypted with PBES2 or scrypt), PKCS#1 or SEC1.
    Pem,
    /// One certificate in DER (`keytool -exportcert`), for truststores.
    Der,
}

/// Whether a server asks its clients for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// It does not ask.
    None,
    /// It asks; a client without one is let in, a client with an unacceptable one is not.
    Optional,
    /// It refuses clients without an acceptable certificate.
    Required,
}

/// A TLS version we can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolVersion {
    /// TLS 1.2, with ECDHE key exchange and AEAD ciphers only.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// A library of cryptography beneath rustls. Choosing one that is not built in is an error that names the cargo feature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// AWS-LC by aws-lc-rs; always built in.
    #[default]
    AwsLc,
    /// *ring*; cargo feature `ring`. It has neither P-521 nor post-quantum key exchange.
    Ring,
    /// The system's OpenSSL by rustls-openssl, also as a FIPS module; cargo feature `openssl`. What it offers depends on
    /// the machine's OpenSSL.
    OpenSsl,
}

/// SHA-1 or SHA-256 of a certificate's DER bytes.
///
/// Parses from 40 or 64 hexadecimal digits in any case, with or without colons between the bytes (as `openssl x509
/// -fingerprint` and `keytool -list` print it); displays as lower-case digits without colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(FingerprintBytes);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum FingerprintBytes {
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

impl Fingerprint {
    /// SHA-256 of `der`.
    pub fn sha256_of(der: &[u8]) -> Self {
        Self(FingerprintBytes::Sha256(Sha256::digest(der).into()))
    }

    /// SHA-1 of `der`.
    pub fn sha1_of(der: &[u8]) -> Self {
        Self(FingerprintBytes::Sha1(Sha1::digest(der).into()))
    }

    /// Whether this is the fingerprint of `der`; takes the same time wherever they differ.
    pub fn matches(&self, der: &[u8]) -> bool {
        let actual = match self.0 {
            FingerprintBytes::Sha1(_) => Self::sha1_of(der),
            FingerprintBytes::Sha256(_) => Self::sha256_of(der),
        };
        self.as_bytes().ct_eq(actual.as_bytes()).into()
    }

    /// The digest: 20 or 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            FingerprintBytes::Sha1(bytes) => bytes,
            FingerprintBytes::Sha256(bytes) => bytes,
        }
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let bytes = hex_pairs(text.trim()).ok_or(FingerprintError(()))?;
        if let Ok(sha1) = <[u8; 20]>::try_from(bytes.as_slice()) {
            Ok(Self(FingerprintBytes::Sha1(sha1)))
        } else if let Ok(sha256) = <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(Self(FingerprintBytes::Sha256(sha256)))
        } else {
            Err(FingerprintError(()))
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no certificate fingerprint.
#[derive(Debug, thiserror::Error)]
#[error(
    "not a certificate fingerprint: give the SHA-1 (40) or SHA-256 (64) hexadecimal digits of the certificate, \
     with or without colons"
)]
pub struct FingerprintError(());

/// Pairs of hexadecimal digits, with a colon between every two pairs or between none.
fn hex_pairs(text: &str) -> Option<Vec<u8>> {
    let digits = if text.contains(':') {
        let pairs: Vec<&str> = text.split(':').collect();
        pairs.iter().all(|pair| pair.len() == 2).then(|| pairs.concat())?
    } else {
        text.to_owned()
    };
    if digits.len() % 2 != 0 {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = digits.as_bytes().as_chunks::<2>().0;
    pairs.iter().map(|&[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    const SHA1: &str = "a9993e364706816aba3e25717850c26c9cd0d89d"; // of "abc"
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn fingerprints_parse_in_every_usual_spelling() {
        let with_colons = |hex: &str| {
            let pairs: Vec<&str> = (0..hex.len()).step_by(2).map(|i| &hex[i..i + 2]).collect();
            pairs.join(":").to_uppercase()
        };
        for (plain, expected) in [(SHA1, Fingerprint::sha1_of(b"abc")), (SHA256, Fingerprint::sha256_of(b"abc"))] {
            for spelling in [plain.to_owned(), plain.to_uppercase(), with_colons(plain), format!(" {plain}\n")] {
                let parsed: Fingerprint = spelling.parse().unwrap();
                assert_eq!(parsed, expected, "{spelling}");
                assert!(parsed.matches(b"abc"));
                assert!(!parsed.matches(b"abd"));
                assert_eq!(parsed.to_string(), plain);
            }
        }
    }

    #[test]
    fn other_texts_are_no_fingerprints() {
        let too_short = &SHA1[2..];
        let uneven_colons = format!("{}:{}", &SHA1[..4], &SHA1[4..]);
        let not_hex = SHA1.replace('a', "g");
        let not_ascii = format!("{}é", &SHA1[2..]);
        for text in ["", ":", too_short, &uneven_colons, &not_hex, &not_ascii] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_are_all_files_of_the_bundle_once() {
        let mut options = BundleOptions::new("internal");
        let mut keystore = StoreOptions::new("/tls/store.p12", Password::File("/tls/password".into()));
        keystore.key_password = Some(Password::File("/tls/key-password".into()));
        keystore.private_key = Some("/tls/tls.key".into());
        options.truststore = Some(StoreOptions::new("/tls/store.p12", Password::None));
        options.keystore = Some(keystore);
        options.pins_file = Some("/tls/pins".into());
        options.crl = Some("/tls/crl.pem".into());
        let expected =
            ["/tls/crl.pem", "/tls/key-password", "/tls/password", "/tls/pins", "/tls/store.p12", "/tls/tls.key"];
        assert_eq!(options.paths(), expected.map(PathBuf::from));
    }
}
