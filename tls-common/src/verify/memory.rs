//! Signatures in certificates that were good before. The same peers come back with the same certificates, and verifying
//! the issuers' signatures again is most of what judging one costs: half as much as a whole resumed handshake.
//!
//! Whether a signature is good depends on nothing but the key, the message and the signature, all of which go into what
//! is remembered; so nothing is believed longer for it. Time, use, revocation, key sizes and pins are looked at every
//! time, and so is the handshake's own signature, which is never the same twice.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use sha2::{Digest as _, Sha256};

/// Signatures remembered at most, of 32 bytes each. When there are more, all are forgotten: only certificates with a path
/// to a trusted one get this far.
const SIGNATURES_MAX: usize = 4096;

/// The good signatures, by digest.
#[derive(Debug, Default)]
pub(super) struct GoodSignatures(Mutex<HashSet<[u8; 32]>>);

/// A verification algorithm that looks into its memory first.
#[derive(Debug)]
pub(super) struct Remembering<'a> {
    pub(super) algorithm: &'static dyn SignatureVerificationAlgorithm,
    pub(super) good: &'a GoodSignatures,
}

impl GoodSignatures {
    fn contain(&self, digest: &[u8; 32]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    fn add(&self, digest: [u8; 32]) {
        let mut good = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= SIGNATURES_MAX {
            good.clear();
        }
        good.insert(digest);
    }
}

impl SignatureVerificationAlgorithm for Remembering<'_> {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let (kind, scheme) = (self.public_key_alg_id(), self.signature_alg_id());
        let mut digest = Sha256::new();
        for part in [kind.as_ref(), scheme.as_ref(), public_key, message, signature] {
            // The length keeps one part from ending where another begins.
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let digest = digest.finalize().into();
        if !self.good.contain(&digest) {
            self.algorithm.verify_signature(public_key, message, signature)?;
            self.good.add(digest);
        }
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::pki_types::alg_id;

    use super::*;

    /// Good is what ends like the message; counts how often it was asked.
    #[derive(Debug)]
    struct Counting(AtomicUsize);

    impl SignatureVerificationAlgorithm for Counting {
        fn verify_signature(&self, _: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if message.ends_with(signature) { Ok(()) } else { Err(InvalidSignature) }
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_P256
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            alg_id::ECDSA_SHA256
        }
    }

    static ALGORITHM: Counting = Counting(AtomicUsize::new(0));

    /// One test, because the algorithm must be static.
    #[test]
    fn a_good_signature_is_verified_once_a_bad_one_every_time_and_no_other_passes_for_it() {
        let good = GoodSignatures::default();
        let remembering = Remembering { algorithm: &ALGORITHM, good: &good };
        let verify = |key: &[u8], message: &[u8], signature: &[u8]| {
            let before = ALGORITHM.0.load(Ordering::Relaxed);
            let verdict = remembering.verify_signature(key, message, signature);
            (verdict.is_ok(), ALGORITHM.0.load(Ordering::Relaxed) - before)
        };
        assert_eq!(verify(b"key", b"message", b"age"), (true, 1));
        assert_eq!(verify(b"key", b"message", b"age"), (true, 0));
        for _ in 0..2 {
            assert_eq!(verify(b"key", b"message", b"bad"), (false, 1));
        }
        for (key, message, signature) in
            [("yek", "message", "age"), ("key", "a message", "age"), ("key", "message", "e")]
        {
            assert_eq!(verify(key.as_bytes(), message.as_bytes(), signature.as_bytes()), (true, 1));
        }
        // The same bytes in a row, cut elsewhere.
        assert_eq!(verify(b"keym", b"essage", b"age"), (true, 1));
        assert_eq!(verify(b"key", b"messagea", b"ge"), (false, 1));
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let good = GoodSignatures::default();
        for number in 0..=SIGNATURES_MAX as u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            good.add(digest);
            assert!(good.contain(&digest));
        }
        assert!(good.0.lock().unwrap().len() <= SIGNATURES_MAX);
    }
}
