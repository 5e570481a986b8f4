//! quinn's errors in our terms: whose fault it was.

use crate::endpoint::error::HandshakeError;
use crate::error::Rejection;
use quinn::{ConnectionError, TransportErrorCode};
use rustls::AlertDescription;
use std::io;
use std::ops::RangeInclusive;

/// TLS alerts as QUIC carries them: this plus the alert's number (RFC 9001, section 4.8).
const CRYPTO_ERRORS: RangeInclusive<u64> = 0x100..=0x1ff;

/// The alert by which the peer ended the connection, if it did so by one.
pub(super) fn alert_of(error: &ConnectionError) -> Option<AlertDescription> {
    let ConnectionError::ConnectionClosed(close) = error else { return None };
    alert(close.error_code)
}

/// Why a handshake failed.
pub(super) fn handshake_error(error: ConnectionError) -> HandshakeError {
    if let Some(alert) = alert_of(&error) {
        return HandshakeError::RefusedByPeer(format!("{alert:?}"));
    }
    match error {
        ConnectionError::TransportError(error) => {
            match alert(error.code).and_then(|ours| rejection(ours, &error.reason)) {
                Some(rejection) => HandshakeError::Rejected(rejection),
                None => HandshakeError::Protocol(error.to_string()),
            }
        }
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            HandshakeError::Io(io::ErrorKind::ConnectionRefused.into())
        }
        ConnectionError::TimedOut => HandshakeError::Io(io::ErrorKind::TimedOut.into()),
        ConnectionError::Reset => HandshakeError::Io(io::ErrorKind::ConnectionReset.into()),
        other => HandshakeError::Protocol(other.to_string()),
    }
}

fn alert(code: TransportErrorCode) -> Option<AlertDescription> {
    let code = u64::from(code);
    let [alert, ..] = code.to_le_bytes();
    CRYPTO_ERRORS.contains(&code).then(|| AlertDescription::from(alert))
}

/// The rejection behind the alert that we sent; quinn keeps no more of it than this and a sentence.
fn rejection(ours: AlertDescription, sentence: &str) -> Option<Rejection> {
    match ours {
        AlertDescription::UnknownCA => Some(Rejection::Untrusted),
        AlertDescription::CertificateRequired => Some(Rejection::NoCertificate),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => Some(Rejection::Unusable(sentence.to_owned())),
        _ => None,
    }
}
