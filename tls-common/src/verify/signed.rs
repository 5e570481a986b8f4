//! Signed DER values (a certificate, a revocation list) and the keys that may have signed them, without any judgement.
//!
//! webpki does this inside, but offers it neither for a list and a certificate that lies in the truststore, nor for
//! the handshake of an X.509 version 1 certificate.

use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{SignatureVerificationAlgorithm, TrustAnchor, alg_id},
};
use x509_parser::asn1_rs::{Any, FromDer};

/// `SEQUENCE { what is signed, algorithm, signature }`.
pub(super) struct Signed<'a> {
    message: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// A public key with its algorithm.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    algorithm: &'a [u8],
    bits: &'a [u8],
}

/// What kind of key, and of how many bits; `None` for kinds that have no size to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeySize {
    Rsa(u32),
    Ec(u32),
}

impl<'a> Signed<'a> {
    pub(super) fn from_der(der: &'a [u8]) -> Option<Self> {
        let (message, rest) = value(content(der)?)?;
        let (algorithm, rest) = value(rest)?;
        let (signature, _) = value(rest)?;
        Some(Self { message, algorithm: content(algorithm)?, signature: octets(signature)? })
    }

    pub(super) fn is_by(&self, key: Key<'_>, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        algorithms.all.iter().any(|algorithm| {
            algorithm.signature_alg_id().as_ref() == self.algorithm
                && key.verifies(*algorithm, self.message, self.signature)
        })
    }
}

impl<'a> Key<'a> {
    /// Of a `SubjectPublicKeyInfo`.
    pub(crate) fn from_spki(der: &'a [u8]) -> Option<Self> {
        Self::from_content(content(der)?)
    }

    pub(super) fn of_anchor(anchor: &'a TrustAnchor<'_>) -> Option<Self> {
        Self::from_content(anchor.subject_public_key_info.as_ref())
    }

    /// The key itself, without its algorithm.
    pub(super) fn bits(&self) -> &'a [u8] {
        self.bits
    }

    fn from_content(spki: &'a [u8]) -> Option<Self> {
        let (algorithm, rest) = value(spki)?;
        let (bits, _) = value(rest)?;
        Some(Self { algorithm: content(algorithm)?, bits: octets(bits)? })
    }

    pub(super) fn verifies(
        &self,
        algorithm: &dyn SignatureVerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        algorithm.public_key_alg_id().as_ref() == self.algorithm
            && algorithm.verify_signature(self.bits, message, signature).is_ok()
    }

    pub(crate) fn size(&self) -> Option<KeySize> {
        let is = |id: alg_id::AlgorithmIdentifier| id.as_ref() == self.algorithm;
        if is(alg_id::RSA_ENCRYPTION) {
            let (modulus, _) = value(content(self.bits)?)?;
            let modulus = content(modulus)?;
            let leading = modulus.iter().take_while(|byte| **byte == 0).count();
            let unused = modulus.get(leading)?.leading_zeros();
            let bytes = u32::try_from(modulus.len() - leading).ok()?;
            return Some(KeySize::Rsa(bytes.checked_mul(8)? - unused));
        }
        let curves = [
            (alg_id::ECDSA_P256, 256),
            (alg_id::ED25519, 256),
            (alg_id::ECDSA_P384, 384),
            (alg_id::ED448, 448),
            (alg_id::ECDSA_P521, 521),
        ];
        curves.into_iter().find(|(id, _)| is(*id)).map(|(_, bits)| KeySize::Ec(bits))
    }
}

/// The first value of `der`, header included, and what follows it.
pub(super) fn value(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, _) = Any::from_der(der).ok()?;
    der.split_at_checked(der.len() - rest.len())
}

/// What stands inside the one value of `der`.
pub(super) fn content(der: &[u8]) -> Option<&[u8]> {
    match Any::from_der(der) {
        Ok(([], any)) => Some(any.data),
        _ => None,
    }
}

/// A bit string of whole octets.
fn octets(der: &[u8]) -> Option<&[u8]> {
    match content(der)?.split_first()? {
        (0, octets) => Some(octets),
        _ => None,
    }
}
