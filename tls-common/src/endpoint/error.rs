//! Why a connection did not come about: the peer's fault, the network's, or time's.

use crate::error::Rejection;
use std::io;
use std::time::Duration;

/// A handshake that failed on the accepting or the connecting side.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// We refused the peer.
    #[error("peer refused: {0}")]
    Rejected(Rejection),
    /// The peer refused us.
    #[error("refused by the peer ({0}): its truststore, pins or options do not accept our certificate")]
    RefusedByPeer(String),
    /// The peer does not speak TLS, or not as it should.
    #[error("TLS failed: {0}")]
    Protocol(String),
    /// The endpoint's files give no identity to serve with.
    #[error("this endpoint has no certificate to serve with: set a keystore")]
    NoIdentity,
    /// The endpoint's TLS cannot carry QUIC; the sentence says what to change.
    #[cfg(feature = "quic")]
    #[error("this endpoint cannot speak QUIC: {0}")]
    NoQuic(&'static str),
    /// The peer took longer than the handshake timeout.
    #[error("no handshake within {0:?}")]
    Timeout(Duration),
    /// The connection broke.
    #[error("connection lost during the handshake: {0}")]
    Io(#[source] io::Error),
}

impl HandshakeError {
    pub(crate) const REFUSED_BY_PEER: &'static str = "refused_by_peer";

    /// For machines; never changes its meaning: a [`Rejection::code`] if we refused the peer, otherwise
    /// `refused_by_peer`, `protocol`, `no_identity`, `no_quic`, `timeout` or `io`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::RefusedByPeer(_) => Self::REFUSED_BY_PEER,
            Self::Protocol(_) => "protocol",
            Self::NoIdentity => "no_identity",
            #[cfg(feature = "quic")]
            Self::NoQuic(_) => "no_quic",
            Self::Timeout(_) => "timeout",
            Self::Io(_) => "io",
        }
    }

    /// Whether files of ours that have changed unnoticed would explain it: certificates that one side did not believe.
    pub(crate) fn smells_of_stale_files(&self) -> bool {
        match self {
            Self::Rejected(rejection) => !matches!(
                rejection,
                Rejection::NoCertificate | Rejection::HandshakeSignature | Rejection::WrongName { .. }
            ),
            Self::RefusedByPeer(alert) => STALE_ALERTS.iter().any(|stale| alert.contains(stale)),
            _ => false,
        }
    }

    pub(crate) fn from_io(error: io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return Self::Io(error);
        };
        match tls {
            rustls::Error::AlertReceived(alert) => Self::RefusedByPeer(format!("{alert:?}")),
            other => match Rejection::from_tls(other) {
                Some(rejection) => Self::Rejected(rejection),
                None => Self::Protocol(other.to_string()),
            },
        }
    }
}

/// Alerts by which a peer says that it does not believe our certificate, in rustls' spelling.
const STALE_ALERTS: [&str; 6] = [
    "BadCertificate",
    "CertificateExpired",
    "CertificateRevoked",
    "CertificateUnknown",
    "UnknownCA",
    "DecryptError", // what a verifier with another key of the same name makes of our signature
];

/// A connection attempt that failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name is neither an address nor a valid DNS name.
    #[error("'{host}' is neither an IP address nor a host name")]
    InvalidName {
        /// As given.
        host: String,
    },
    /// TCP did not come about.
    #[error("cannot reach {target}: {source}")]
    Unreachable {
        /// `host:port`.
        target: String,
        /// What the system said.
        source: io::Error,
    },
    /// TCP did, TLS did not.
    #[error("cannot connect to {target}: {source}")]
    Handshake {
        /// `host:port`.
        target: String,
        /// Why.
        source: HandshakeError,
    },
}
