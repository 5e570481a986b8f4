//! What a single certificate says about itself: its use, its time, its key.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::{
    certificate::{Validity, X509Certificate},
    extensions::ParsedExtension,
    prelude::{FromDer, X509Version},
};

use super::{
    PeerRole,
    signed::{Key, KeySize, content, value},
};
use crate::{KeySizes, Leniency, Rejection};

pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Rejection> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(Rejection::Unusable(error.to_string())),
    }
}

/// Whether a trusted certificate may vouch for others: a CA, or of X.509 version 1, which cannot say.
pub(super) fn may_issue(certificate: &X509Certificate<'_>) -> bool {
    certificate.version() == X509Version::V1 || certificate.is_ca()
}

pub(super) fn is_self_issued(certificate: &X509Certificate<'_>) -> bool {
    certificate.issuer().as_raw() == certificate.subject().as_raw()
}

/// Tag of the version, the only field before the validity that may be left out.
const VERSION: u8 = 0xa0;

/// The end of a certificate, without a look at the rest of it: each connection asks for it.
pub(super) fn not_after(der: &CertificateDer<'_>) -> Option<UnixTime> {
    let (tbs, _) = value(content(der)?)?;
    let mut rest = content(tbs)?;
    // Version (left out in version 1), serial number, algorithm, issuer.
    let before = if rest.first() == Some(&VERSION) { 4 } else { 3 };
    for _ in 0..before {
        (_, rest) = value(rest)?;
    }
    let (_, validity) = Validity::from_der(rest).ok()?;
    Some(unix(validity.not_after.timestamp()))
}

/// The checks on a certificate that is itself trusted: all that its owner and its issuer said about its use.
pub(super) fn check(
    certificate: &X509Certificate<'_>,
    role: PeerRole,
    leniency: Leniency,
    now: UnixTime,
) -> Result<(), Rejection> {
    match certificate.version() {
        X509Version::V3 => {}
        X509Version::V1 if leniency.x509v1 => {}
        _ => return Err(Rejection::Version1),
    }
    if certificate.is_ca() && !leniency.ca_as_end_entity {
        return Err(Rejection::CaAsEndEntity);
    }
    let not_before = unix(certificate.validity().not_before.timestamp());
    let not_after = unix(certificate.validity().not_after.timestamp());
    if now < not_before {
        return Err(Rejection::NotYetValid { not_before });
    }
    if now > not_after && !leniency.expired {
        return Err(Rejection::Expired { not_after });
    }
    for extension in certificate.extensions() {
        let allowed = match extension.parsed_extension() {
            ParsedExtension::KeyUsage(usage) => usage.digital_signature(),
            ParsedExtension::ExtendedKeyUsage(usage) => {
                usage.any
                    || match role {
                        PeerRole::Client => usage.client_auth,
                        PeerRole::Server => usage.server_auth,
                    }
            }
            // These speak about names, or about certificates below this one.
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::NameConstraints(_) => true,
            _ if extension.critical => {
                return Err(Rejection::Unusable(format!("unknown critical extension {}", extension.oid)));
            }
            _ => true,
        };
        if !allowed {
            return Err(Rejection::WrongUsage { role: role.name() });
        }
    }
    Ok(())
}

/// A key that is too small: (kind, its bits, the least allowed).
pub(crate) fn too_small(key: Key<'_>, minimum: KeySizes) -> Option<(&'static str, u32, u32)> {
    let (algorithm, bits, minimum) = match key.size()? {
        KeySize::Rsa(bits) => ("RSA", bits, minimum.rsa),
        KeySize::Ec(bits) => ("EC", bits, minimum.ec),
    };
    (bits < minimum).then_some((algorithm, bits, minimum))
}

pub(super) fn check_key(key: Option<Key<'_>>, minimum: KeySizes) -> Result<(), Rejection> {
    match key.and_then(|key| too_small(key, minimum)) {
        Some((algorithm, bits, minimum)) => Err(Rejection::WeakKey { algorithm, bits, minimum }),
        None => Ok(()),
    }
}

fn unix(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}
