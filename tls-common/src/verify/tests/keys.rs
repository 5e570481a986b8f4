//! How small a key may be.

use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};

use super::*;

macro_rules! trust_fixture {
    ($name:literal) => {
        fixture(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/", $name)))
    };
}

fn later() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000))
}

fn judge_of_size(trusted: &CertificateDer<'static>, rsa: u32, ec: u32) -> Judge {
    let min_key = KeySizes { rsa, ec };
    judge_by(std::slice::from_ref(trusted), Criteria { min_key, ..Criteria::default() })
}

fn weak<T>(verdict: Result<T, Rejection>) -> Option<(&'static str, u32, u32)> {
    match verdict {
        Err(Rejection::WeakKey { algorithm, bits, minimum }) => Some((algorithm, bits, minimum)),
        _ => None,
    }
}

#[test]
fn a_trusted_rsa_certificate_of_1024_bits_is_refused_with_its_size() {
    let small = trust_fixture!("rsa-1024.pem");
    for role in [CLIENT, SERVER] {
        let verdict = judge_of_size(&small, 2048, 256).judge(&small, &[], role, None, later());
        assert_eq!(weak(verdict), Some(("RSA", 1024, 2048)));
    }
}

#[test]
fn a_ca_of_1024_bits_is_named_as_the_reason() {
    // webpki itself does not verify such signatures, and says no more than that they are wrong.
    let verdict = judge_of_size(&trust_fixture!("rsa-1024-ca.pem"), 2048, 256).judge(
        &trust_fixture!("rsa-1024-signed.pem"),
        &[],
        SERVER,
        None,
        later(),
    );
    assert_eq!(weak(verdict), Some(("RSA", 1024, 2048)));
}

#[test]
fn larger_keys_can_be_demanded() {
    let rsa_4096 = trust_fixture!("keytool-rest.pem");
    assert_eq!(judge_of_size(&rsa_4096, 4096, 521).judge(&rsa_4096, &[], SERVER, None, later()), Ok(()));
    let verdict = judge_of_size(&rsa_4096, 4097, 256).judge(&rsa_4096, &[], SERVER, None, later());
    assert_eq!(weak(verdict), Some(("RSA", 4096, 4097)));
    let ed25519 = trust_fixture!("keytool-ed25519.pem");
    assert_eq!(judge_of_size(&ed25519, 4096, 256).judge(&ed25519, &[], SERVER, None, later()), Ok(()));
    let verdict = judge_of_size(&ed25519, 2048, 384).judge(&ed25519, &[], SERVER, None, later());
    assert_eq!(weak(verdict), Some(("EC", 256, 384)));
}

#[test]
fn every_key_of_a_chain_counts() {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let large = |issuer: Option<&Pair>, params| Pair::with_key(issuer, params, key());
    let root = large(None, authority("root"));
    let middle = large(Some(&root), authority("middle"));
    let own = large(Some(&middle), leaf("own", &[]));
    let judge = judge_of_size(&root.der(), 2048, 384);
    assert_eq!(verdict(&judge, &[&own, &middle]), Ok(()));
    let small = Some(("EC", 256, 384));
    assert_eq!(weak(verdict(&judge, &[&middle.sign(leaf("own", &[])), &middle])), small, "the leaf's");

    let small_middle = root.sign(authority("middle"));
    let own = large(Some(&small_middle), leaf("own", &[]));
    assert_eq!(weak(verdict(&judge, &[&own, &small_middle])), small, "an intermediate's");

    let small_root = Pair::self_signed(authority("root"));
    let own = large(Some(&small_root), leaf("own", &[]));
    assert_eq!(weak(verdict(&judge_of_size(&small_root.der(), 2048, 384), &[&own])), small, "the anchor's");
}
