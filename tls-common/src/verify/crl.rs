//! Certificate revocation lists, as of one generation.
//!
//! webpki parses them (and refuses delta, indirect and partial-by-reason lists, and critical extensions it does not
//! know), but which list counts is decided here, because webpki takes the first of the issuer's *name*: after a CA's
//! key was renewed under its old name, the lists of both keys stand in one file, and each speaks for its own
//! certificates. A list counts if the key that signed the certificate signed it.
//!
//! A list can only take trust away. So an entry of an overdue list still counts, and so does one whose issuer nobody
//! can show us: a revoked peer must not get in by withholding its issuer's certificate.

use std::{
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateRevocationListDer, UnixTime, pem::PemObject},
};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList as ParsedList,
};

use super::signed::{Key, Signed, content};
use crate::{Fingerprint, MaterialError, Rejection};

/// The keys that signed a certificate, as far as they are known.
#[derive(Default)]
pub(super) struct Issuers<'k> {
    /// From the truststore, or from a path to it.
    pub(super) proven: Vec<Key<'k>>,
    /// From certificates that the peer presented and nobody has verified. That they fit the signature proves nothing: to
    /// each ECDSA signature there is a second key that nobody owns and anybody can compute.
    pub(super) claimed: Vec<Key<'k>>,
}

/// The lists of one generation; equal if their bytes are.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Crls {
    lists: Vec<Crl>,
    /// Whether a certificate must be on nobody's list provably.
    strict: bool,
}

#[derive(Debug)]
struct Crl {
    der: CertificateRevocationListDer<'static>,
    list: CertRevocationList<'static>,
    next_update: UnixTime,
    /// It speaks for all certificates of its issuer.
    complete: bool,
    overdue_noted: AtomicBool,
    /// The key that signed it, once it was met: a long list is not hashed again for every peer.
    signer: OnceLock<Vec<u8>>,
}

impl Crls {
    /// Reads a file of lists: PEM or DER by content.
    pub(crate) fn parse(bytes: &[u8], strict: bool, path: &Path) -> Result<Self, MaterialError> {
        let fault = |reason: String| MaterialError::Crl { path: path.to_owned(), reason };
        let lists: Vec<CertificateRevocationListDer<'static>> = match bytes {
            [] => return Err(fault("the file is empty".into())),
            [0x30, ..] => vec![bytes.to_vec().into()],
            _ => CertificateRevocationListDer::pem_slice_iter(bytes)
                .collect::<Result<_, _>>()
                .map_err(|error| fault(format!("damaged or incomplete ({error}); is it still being written?")))?,
        };
        if lists.is_empty() {
            return Err(fault(
                "it holds no certificate revocation list; PEM lists begin with -----BEGIN X509 CRL".into(),
            ));
        }
        let mut lists = lists.into_iter().map(Crl::parse).collect::<Result<Vec<_>, _>>().map_err(fault)?;
        lists.sort_by(|one, other| one.der.as_ref().cmp(other.der.as_ref()));
        Ok(Self { lists, strict })
    }

    /// The last second at which no list is overdue that is not already at `now`; `None` if for ever.
    pub(super) fn unchanged_until(&self, now: UnixTime) -> Option<UnixTime> {
        let due = self.lists.iter().map(|crl| crl.next_update).filter(|next_update| *next_update > now).min()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(due.as_secs().saturating_sub(1))))
    }

    /// Whether `certificate` is on a list. `must_be_known` says whether strictness applies to it.
    pub(super) fn check<'k>(
        &self,
        certificate: &X509Certificate<'_>,
        issuers: impl FnOnce() -> Issuers<'k>,
        must_be_known: bool,
        algorithms: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Result<(), Rejection> {
        let name = content(certificate.issuer().as_raw()).unwrap_or_default();
        let lists: Vec<&Crl> = self.lists.iter().filter(|crl| crl.list.issuer() == name).collect();
        let must_be_known = must_be_known && self.strict;
        if lists.is_empty() {
            return if must_be_known { Err(Rejection::RevocationUnknown) } else { Ok(()) };
        }
        let issuers = issuers();
        let (mut known, mut overdue) = (false, None);
        for crl in lists {
            let is_overdue = crl.is_overdue(now);
            let listed = !matches!(crl.list.find_serial(certificate.raw_serial()), Ok(None));
            // Only who is proven to be the issuer can say that this list is another one's.
            if listed && (issuers.proven.is_empty() || crl.is_by(&issuers.proven, algorithms)) {
                return Err(Rejection::Revoked { serial: Some(certificate.raw_serial_as_string()) });
            }
            let is_issuers = || crl.is_by(&issuers.proven, algorithms) || crl.is_by(&issuers.claimed, algorithms);
            if must_be_known && crl.complete && is_issuers() {
                if is_overdue {
                    overdue = Some(crl.next_update);
                } else {
                    known = true;
                }
            }
        }
        match overdue {
            _ if known || !must_be_known => Ok(()),
            Some(next_update) => Err(Rejection::CrlExpired { next_update }),
            None => Err(Rejection::RevocationUnknown),
        }
    }

    /// Notes lists that a trusted certificate should have signed and did not. They may still be an intermediate's of
    /// that name, so it is no error.
    pub(super) fn note_foreign<'a: 'c, 'c>(
        &self,
        trusted: impl Iterator<Item = &'c X509Certificate<'a>> + Clone,
        algorithms: &WebPkiSupportedAlgorithms,
    ) {
        for crl in &self.lists {
            let issuers =
                trusted.clone().filter(|issuer| content(issuer.subject().as_raw()) == Some(crl.list.issuer()));
            let keys: Vec<Key<'_>> = issuers.filter_map(|issuer| Key::from_spki(issuer.subject_pki.raw)).collect();
            if !keys.is_empty() && !crl.is_by(&keys, algorithms) {
                tracing::warn!(
                    crl = %Fingerprint::sha256_of(&crl.der),
                    "a revocation list bears the name of a trusted issuer but not its signature; it counts only for \
                     certificates signed with the list's own key"
                );
            }
        }
    }
}

impl Crl {
    fn parse(der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let list = OwnedCertRevocationList::from_der(&der)
            .map_err(|error| format!("a list in it cannot be used ({error:?}); give complete X.509 version 2 lists"))?;
        let (_, parsed) =
            ParsedList::from_der(&der).map_err(|error| format!("a list in it cannot be read ({error})"))?;
        let next_update = parsed.next_update().map_or(0, |time| time.timestamp());
        let next_update =
            UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(next_update).unwrap_or_default()));
        let list = CertRevocationList::from(list);
        let complete = list.issuing_distribution_point().is_none();
        Ok(Self { list, next_update, complete, overdue_noted: AtomicBool::new(false), signer: OnceLock::new(), der })
    }

    fn is_by(&self, keys: &[Key<'_>], algorithms: &WebPkiSupportedAlgorithms) -> bool {
        if let Some(signer) = self.signer.get() {
            return keys.iter().any(|key| key.bits() == signer);
        }
        let Some(signed) = Signed::from_der(&self.der) else { return false };
        let signer = keys.iter().find(|key| signed.is_by(**key, algorithms));
        signer.inspect(|key| drop(self.signer.set(key.bits().to_vec()))).is_some()
    }

    /// Whether the next one should be here by now; says so once in the log.
    fn is_overdue(&self, now: UnixTime) -> bool {
        let overdue = now >= self.next_update;
        if overdue && !self.overdue_noted.swap(true, Ordering::Relaxed) {
            let issuer = ParsedList::from_der(&self.der).map(|(_, list)| list.issuer().to_string());
            tracing::warn!(
                issuer = issuer.unwrap_or_default(),
                next_update = self.next_update.as_secs(),
                "a certificate revocation list is past its next update: newer revocations are not known; is it still \
                 being fetched?"
            );
        }
        overdue
    }
}

impl PartialEq for Crl {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}
