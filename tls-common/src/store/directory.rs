//! A directory of CA certificates as truststore: one or more per file, in PEM or DER.

use std::{collections::HashSet, path::Path};

use rustls::pki_types::CertificateDer;

use super::{ResolvedPasswords, contains, decode, der, trust};
use crate::{
    MaterialError, StoreKind, StoreOptions,
    error::{StoreFault, StorePart},
};

/// Whether a file of such a directory counts: it holds, or is a damaged copy of, a certificate in PEM or DER. Whatever
/// else lies there (a README, a key, a CRL) is nobody's business.
pub(crate) fn holds_certificates(bytes: &[u8]) -> bool {
    der::is_certificate(bytes) || contains(bytes, b"-----BEGIN CERTIFICATE-----")
}

/// Every certificate of these files once; never an empty list. One damaged file is an error: what it was to add or to
/// keep cannot be known.
pub(crate) fn parse_trust_directory<'a>(
    files: impl Iterator<Item = (&'a Path, &'a [u8])>,
    options: &StoreOptions,
) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let fault = |path: &Path, fault| MaterialError::Store { part: StorePart::Truststore, path: path.to_owned(), fault };
    if !matches!(options.kind, StoreKind::Auto | StoreKind::Pem | StoreKind::Der) {
        let wrong = StoreFault::WrongKind { configured: options.kind.name(), found: "a directory of certificates" };
        return Err(fault(&options.path, wrong));
    }
    let mut trusted = HashSet::new();
    for (path, bytes) in files {
        if !holds_certificates(bytes) {
            tracing::debug!(path = %path.display(), "file of the truststore's directory holds no certificate, ignored");
            continue;
        }
        let one = StoreOptions { kind: StoreKind::Auto, path: path.to_owned(), ..options.clone() };
        let found = decode(bytes, &one, &ResolvedPasswords::default(), StorePart::Truststore)
            .and_then(|contents| trust(contents, &one))
            .map_err(|reason| fault(path, reason))?;
        trusted.extend(found);
    }
    if trusted.is_empty() {
        return Err(fault(&options.path, StoreFault::NoAnchor { untagged: 0 }));
    }
    Ok(trusted.into_iter().collect())
}
