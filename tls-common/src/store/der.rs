//! A single certificate in DER, as `keytool -exportcert` writes it.
//!
//! PKCS#12 is DER too. What follows the outermost header tells them apart: a certificate goes on with a sequence (what
//! is signed), PKCS#12 and PKCS#8 with a number (their version).

use rustls::pki_types::CertificateDer;

use super::{CertEntry, Contents, parse};
use crate::error::StoreFault;

const SEQUENCE: u8 = 0x30;

/// `[0] EXPLICIT Version`, with which every certificate of version 2 and 3 begins, and no request and no CRL.
const VERSION: u8 = 0xa0;

/// Whether these bytes cannot be a PKCS#12 store: they are a certificate or something else that is signed.
pub(super) fn is_signed_object(bytes: &[u8]) -> bool {
    content(bytes).and_then(|(content, _)| content.first()) == Some(&SEQUENCE)
}

/// Whether these bytes are, or begin like, a certificate.
pub(super) fn is_certificate(bytes: &[u8]) -> bool {
    let signed = content(bytes).and_then(|(signed, _)| content(signed));
    signed.is_some_and(|(signed, _)| signed.first() == Some(&VERSION))
        || (is_signed_object(bytes) && parse(bytes).is_ok())
}

/// The certificate, trusted.
pub(super) fn decode(bytes: &[u8]) -> Result<Contents, StoreFault> {
    if let Some((content, length)) = content(bytes)
        && content.len() < length
    {
        return Err(StoreFault::Damaged("it ends too early".into()));
    }
    let der = CertificateDer::from(bytes.to_vec());
    Ok(Contents { keys: Vec::new(), certs: vec![CertEntry { local_id: None, trusted: true, der }] })
}

/// What follows the header of a sequence, and how long the header says that its part of it is.
fn content(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let [SEQUENCE, length, rest @ ..] = bytes else { return None };
    match length {
        0..=0x7f => Some((rest, usize::from(*length))),
        0x81..=0x84 => {
            let (length, content) = rest.split_at_checked(usize::from(length & 0x7f))?;
            Some((content, length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))))
        }
        _ => None,
    }
}
