//! TLS: Flink's `security.ssl.*` and the switches of the single connection kinds.
//!
//! `security.ssl.keystore` and its kin without `internal` or `rest` stand in for both, as in Flink.

use super::options;
use crate::option::{ConfigOption, OptionInfo};
use crate::value::{OrDefault, Percent, ProtocolVersions, SslProvider};
use std::path::PathBuf;
use std::time::Duration;
use tls_common::{EstablishedConnections, Fingerprint, Leniency, Secret, StoreKind};

options! {
    /// Mutual TLS between the processes of the cluster: RPC, data plane and blob server.
    SSL_INTERNAL_ENABLED: bool =
        "security.ssl.internal.enabled", default = "false", deprecated = ["security.ssl.enabled"];
    /// Key and certificates of every process of the cluster.
    SSL_INTERNAL_KEYSTORE: PathBuf = "security.ssl.internal.keystore", fallback = ["security.ssl.keystore"];
    /// Format of the internal keystore: `pkcs12`, `jks`, `pem`, or `auto` to find it out from the content.
    SSL_INTERNAL_KEYSTORE_TYPE: StoreKind = "security.ssl.internal.keystore-type", default = "auto";
    /// The private key in a PEM file of its own, where the internal keystore is a PEM file that holds only the
    /// certificates (cert-manager's `tls.key` beside `tls.crt`).
    SSL_INTERNAL_PRIVATE_KEY: PathBuf = "security.ssl.internal.private-key", fallback = ["security.ssl.private-key"];
    /// Password of the internal keystore.
    SSL_INTERNAL_KEYSTORE_PASSWORD: Secret =
        "security.ssl.internal.keystore-password", fallback = ["security.ssl.keystore-password"];
    /// File that holds the password of the internal keystore.
    SSL_INTERNAL_KEYSTORE_PASSWORD_FILE: PathBuf =
        "security.ssl.internal.keystore-password-file", fallback = ["security.ssl.keystore-password-file"];
    /// Password of the key in the internal keystore, where it has its own (JKS and PEM; PKCS12 knows only one).
    SSL_INTERNAL_KEY_PASSWORD: Secret = "security.ssl.internal.key-password", fallback = ["security.ssl.key-password"];
    /// File that holds the password of the key in the internal keystore.
    SSL_INTERNAL_KEY_PASSWORD_FILE: PathBuf =
        "security.ssl.internal.key-password-file", fallback = ["security.ssl.key-password-file"];
    /// Certificates (of authorities, or the peers' own) that the processes of the cluster believe: a store, or a
    /// directory of PEM and DER files.
    SSL_INTERNAL_TRUSTSTORE: PathBuf = "security.ssl.internal.truststore", fallback = ["security.ssl.truststore"];
    /// Format of the internal truststore: `pkcs12`, `jks`, `pem`, `der`, or `auto` to find it out from the content.
    SSL_INTERNAL_TRUSTSTORE_TYPE: StoreKind = "security.ssl.internal.truststore-type", default = "auto";
    /// Password of the internal truststore.
    SSL_INTERNAL_TRUSTSTORE_PASSWORD: Secret =
        "security.ssl.internal.truststore-password", fallback = ["security.ssl.truststore-password"];
    /// File that holds the password of the internal truststore.
    SSL_INTERNAL_TRUSTSTORE_PASSWORD_FILE: PathBuf =
        "security.ssl.internal.truststore-password-file", fallback = ["security.ssl.truststore-password-file"];
    /// SHA-1 or SHA-256 fingerprints, separated by commas: an internal peer's certificate must, beside being
    /// trusted, be one of them.
    SSL_INTERNAL_CERT_FINGERPRINT: Vec<Fingerprint> = "security.ssl.internal.cert.fingerprint", default = "";
    /// File of more such fingerprints, one a line, each with an optional window of time:
    /// `FINGERPRINT not-before=2027-01-01 not-after=2027-12-31T12:00:00Z`. `#` begins a comment. They add up with
    /// those of `security.ssl.internal.cert.fingerprint`; a file without any is an error.
    SSL_INTERNAL_CERT_FINGERPRINT_FILE: PathBuf = "security.ssl.internal.cert.fingerprint-file";
    /// File of certificate revocation lists (PEM, several; or DER): an internal peer that its issuer's list names is
    /// refused, even if its own certificate lies in the truststore.
    SSL_INTERNAL_CRL: PathBuf = "security.ssl.internal.crl", fallback = ["security.ssl.crl"];
    /// Whether an internal peer is refused, too, if no complete list of its issuer is in the file, or only one past its
    /// next update. Without it lists can only refuse, and an overdue list is a warning in the log.
    SSL_INTERNAL_CRL_STRICT: bool =
        "security.ssl.internal.crl-strict", default = "false", fallback = ["security.ssl.crl-strict"];
    /// TLS sessions kept for resumption, per side; 0 turns resumption off, -1 leaves the choice to Tidemill (1024).
    SSL_INTERNAL_SESSION_CACHE_SIZE: OrDefault<usize> =
        "security.ssl.internal.session-cache-size", default = "-1", deprecated = ["security.ssl.session-cache-size"];
    /// How long a TLS session can be resumed; -1 leaves the choice to Tidemill (a day).
    SSL_INTERNAL_SESSION_TIMEOUT: OrDefault<Duration> =
        "security.ssl.internal.session-timeout", default = "-1", deprecated = ["security.ssl.session-timeout"];
    /// Longest TLS handshake; -1 leaves the choice to Tidemill (10 s).
    SSL_INTERNAL_HANDSHAKE_TIMEOUT: OrDefault<Duration> =
        "security.ssl.internal.handshake-timeout",
        default = "-1", deprecated = ["security.ssl.handshake-timeout"], positive = true;
    /// How long closing a connection waits for `close_notify` to leave; -1 leaves the choice to Tidemill (1 s).
    SSL_INTERNAL_CLOSE_NOTIFY_FLUSH_TIMEOUT: OrDefault<Duration> =
        "security.ssl.internal.close-notify-flush-timeout",
        default = "-1", deprecated = ["security.ssl.close-notify-flush-timeout"];

    /// HTTPS instead of HTTP at the REST gateway.
    SSL_REST_ENABLED: bool = "security.ssl.rest.enabled", default = "false", deprecated = ["security.ssl.enabled"];
    /// Whether the REST gateway refuses clients without a trusted certificate, and clients present theirs.
    SSL_REST_AUTHENTICATION_ENABLED: bool = "security.ssl.rest.authentication-enabled", default = "false";
    /// Whether REST clients compare the host name they dialled with the server's certificate.
    SSL_REST_VERIFY_HOSTNAME: bool =
        "security.ssl.rest.verify-hostname", default = "true", deprecated = ["security.ssl.verify-hostname"];
    /// Key and certificates of the REST gateway; with authentication, of REST clients too.
    SSL_REST_KEYSTORE: PathBuf = "security.ssl.rest.keystore", fallback = ["security.ssl.keystore"];
    /// Format of the REST keystore: `pkcs12`, `jks`, `pem`, or `auto` to find it out from the content.
    SSL_REST_KEYSTORE_TYPE: StoreKind = "security.ssl.rest.keystore-type", default = "auto";
    /// The private key in a PEM file of its own, where the REST keystore is a PEM file that holds only the
    /// certificates (cert-manager's `tls.key` beside `tls.crt`).
    SSL_REST_PRIVATE_KEY: PathBuf = "security.ssl.rest.private-key", fallback = ["security.ssl.private-key"];
    /// Password of the REST keystore.
    SSL_REST_KEYSTORE_PASSWORD: Secret =
        "security.ssl.rest.keystore-password", fallback = ["security.ssl.keystore-password"];
    /// File that holds the password of the REST keystore.
    SSL_REST_KEYSTORE_PASSWORD_FILE: PathBuf =
        "security.ssl.rest.keystore-password-file", fallback = ["security.ssl.keystore-password-file"];
    /// Password of the key in the REST keystore, where it has its own (JKS and PEM; PKCS12 knows only one).
    SSL_REST_KEY_PASSWORD: Secret = "security.ssl.rest.key-password", fallback = ["security.ssl.key-password"];
    /// File that holds the password of the key in the REST keystore.
    SSL_REST_KEY_PASSWORD_FILE: PathBuf =
        "security.ssl.rest.key-password-file", fallback = ["security.ssl.key-password-file"];
    /// Certificates that REST clients believe; with authentication, the REST gateway too. A store, or a directory of
    /// PEM and DER files.
    SSL_REST_TRUSTSTORE: PathBuf = "security.ssl.rest.truststore", fallback = ["security.ssl.truststore"];
    /// Format of the REST truststore: `pkcs12`, `jks`, `pem`, `der`, or `auto` to find it out from the content.
    SSL_REST_TRUSTSTORE_TYPE: StoreKind = "security.ssl.rest.truststore-type", default = "auto";
    /// Password of the REST truststore.
    SSL_REST_TRUSTSTORE_PASSWORD: Secret =
        "security.ssl.rest.truststore-password", fallback = ["security.ssl.truststore-password"];
    /// File that holds the password of the REST truststore.
    SSL_REST_TRUSTSTORE_PASSWORD_FILE: PathBuf =
        "security.ssl.rest.truststore-password-file", fallback = ["security.ssl.truststore-password-file"];
    /// SHA-1 or SHA-256 fingerprints, separated by commas: a REST peer's certificate must, beside being trusted,
    /// be one of them.
    SSL_REST_CERT_FINGERPRINT: Vec<Fingerprint> = "security.ssl.rest.cert.fingerprint", default = "";
    /// File of more such fingerprints, one a line, each with an optional window of time:
    /// `FINGERPRINT not-before=2027-01-01 not-after=2027-12-31T12:00:00Z`. `#` begins a comment. They add up with
    /// those of `security.ssl.rest.cert.fingerprint`; a file without any is an error.
    SSL_REST_CERT_FINGERPRINT_FILE: PathBuf = "security.ssl.rest.cert.fingerprint-file";
    /// File of certificate revocation lists (PEM, several; or DER): a REST peer that its issuer's list names is
    /// refused, even if its own certificate lies in the truststore.
    SSL_REST_CRL: PathBuf = "security.ssl.rest.crl", fallback = ["security.ssl.crl"];
    /// Whether a REST peer is refused, too, if no complete list of its issuer is in the file, or only one past its
    /// next update. Without it lists can only refuse, and an overdue list is a warning in the log.
    SSL_REST_CRL_STRICT: bool =
        "security.ssl.rest.crl-strict", default = "false", fallback = ["security.ssl.crl-strict"];

    /// TLS versions, separated by commas.
    SSL_PROTOCOL: ProtocolVersions = "security.ssl.protocol", default = "TLSv1.2,TLSv1.3";
    /// Cipher suites in order of preference, separated by commas, in Java's (IANA) or OpenSSL's spelling. Without it
    /// all that Tidemill has: AES-128-GCM, then AES-256-GCM and ChaCha20-Poly1305, in TLS 1.2 with ECDHE.
    SSL_ALGORITHMS: Vec<String> = "security.ssl.algorithms", default = "";
    /// Which certificates Java would accept, and we would not, are accepted if they lie themselves in the truststore:
    /// `expired`, `x509v1` (X.509 version 1), `ca-as-end-entity` (`CA:TRUE`, as `openssl req -x509` makes them),
    /// `untrusted-issuer` (signed by somebody who is not trusted), several separated by commas, or `none`.
    SSL_LENIENT: Leniency = "security.ssl.lenient", default = "ca-as-end-entity,untrusted-issuer";
    /// Smallest RSA key, in bits, of our own certificate and in a peer's chain; 2048 at least.
    SSL_MIN_RSA_KEY_SIZE: usize = "security.ssl.min-rsa-key-size", default = "2048";
    /// Smallest elliptic curve, in bits, of our own certificate and in a peer's chain; Ed25519 counts as 256.
    SSL_MIN_EC_KEY_SIZE: usize = "security.ssl.min-ec-key-size", default = "256";
    /// Accepted for Flink's sake: Tidemill has one TLS implementation.
    SSL_PROVIDER: SslProvider = "security.ssl.provider", default = "JDK";

    /// TLS on the data plane, where `security.ssl.internal.enabled` is on.
    TASKMANAGER_DATA_SSL_ENABLED: bool = "taskmanager.data.ssl.enabled", default = "true";
    /// TLS at the blob server, where `security.ssl.internal.enabled` is on.
    BLOB_SERVICE_SSL_ENABLED: bool = "blob.service.ssl.enabled", default = "true";
    /// TLS for RPC, where `security.ssl.internal.enabled` is on.
    PEKKO_SSL_ENABLED: bool = "pekko.ssl.enabled", default = "true", deprecated = ["akka.ssl.enabled"];

    /// Whether changed keystores, truststores, password files, pins and CRLs are taken over while the process runs (FLIP-523).
    SSL_RELOAD: bool = "security.ssl.reload", default = "false";
    /// A burst of file changes is over after this long without another one.
    SSL_RELOAD_QUIET_PERIOD: Duration = "security.ssl.reload.quiet-period", default = "300 ms";
    /// A burst of file changes that does not end is read after this long anyway.
    SSL_RELOAD_MAX_DELAY: Duration = "security.ssl.reload.max-delay", default = "3 s", positive = true;
    /// How often the files are compared even if the file system reported no change.
    SSL_RELOAD_POLL_INTERVAL: Duration = "security.ssl.reload.poll-interval", default = "10 s", positive = true;
    /// For how long after a reload the previous trust still counts and the previous identity is still shown to peers that do
    /// not believe the new one, so that hosts may rotate at different instants. 0: not at all, and whoever was removed is
    /// out at once.
    SSL_RELOAD_OVERLAP: Duration = "security.ssl.reload.overlap", default = "0 s";
    /// What happens to live connections when new material is taken over: `keep` them, `drain-untrusted` (those
    /// whose peer
    /// is no longer trusted), or `renew` all.
    SSL_RELOAD_ESTABLISHED_CONNECTIONS: EstablishedConnections =
        "security.ssl.reload.established-connections", default = "drain-untrusted";
    /// How long a draining connection may finish what it does before it is cut.
    SSL_RELOAD_DRAIN_GRACE: Duration = "security.ssl.reload.drain-grace", default = "10 s";
    /// An alarm is given in the log (daily), in the TLS status and in the metrics when less than this share of the life
    /// of our own certificate is left, or of the one in the truststore that ends last. `0 %` turns it off. The default
    /// lies just below the third of its life at which cert-manager renews a certificate.
    SSL_EXPIRY_ALARM: Percent = "security.ssl.expiry-alarm", default = "33 %";
    /// Longest life of a connection. Without it only the peer certificate's end of validity limits it.
    SSL_CONNECTION_MAX_AGE: Duration = "security.ssl.connection.max-age", positive = true;
}
