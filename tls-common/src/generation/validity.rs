//! From when to when certificates are good.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// One certificate's life, in Unix seconds, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

/// Of several certificates those that end first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) first: Validity,
    pub(crate) last: Validity,
}

impl Ends {
    /// `None` without certificates.
    pub(super) fn of(certificates: &[CertificateDer<'_>]) -> Option<Self> {
        let mut lives: Vec<Validity> = certificates.iter().filter_map(|certificate| life(certificate)).collect();
        lives.sort_by_key(|life| life.not_after);
        Some(Self { first: *lives.first()?, last: *lives.last()? })
    }
}

fn life(certificate: &[u8]) -> Option<Validity> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some(Validity { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
}
