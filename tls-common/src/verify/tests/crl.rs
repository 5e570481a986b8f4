//! Revocation lists: whom they refuse, and whom not.

use std::path::Path;

use proptest::prelude::*;

use super::*;

const CA: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/ca.pem"));
const GOOD: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/good.pem"));
const REVOKED: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/revoked.pem"));
const CRL_PEM: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/crl.pem"));
const CRL_DER: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/crl.der"));
const CRL_BEFORE: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/crl-before.pem"));

const LENIENT: bool = false;
const STRICT: bool = true;

fn parse_crl(bytes: &[u8], strict: bool) -> Result<Crls, MaterialError> {
    Crls::parse(bytes, strict, Path::new("/tls/crl.pem"))
}

fn judge_with_crl(trusted: &[&Pair], lists: &[&rcgen::CertificateRevocationList], strict: bool) -> Judge {
    let pem: String = lists.iter().map(|list| list.pem().unwrap()).collect();
    let trusted: Vec<_> = trusted.iter().map(|pair| pair.der()).collect();
    judge_by(&trusted, Criteria { crls: parse_crl(pem.as_bytes(), strict).unwrap().into(), ..Criteria::default() })
}

fn is_revoked(verdict: Result<(), Rejection>) -> bool {
    match verdict {
        Err(Rejection::Revoked { serial: Some(_) }) => true,
        Ok(()) => false,
        other => panic!("another verdict: {other:?}"),
    }
}

#[test]
fn what_openssl_revoked_is_refused_by_its_serial_number() {
    let later = UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000));
    for (list, expected) in [(CRL_PEM, true), (CRL_DER, true), (CRL_BEFORE, false)] {
        for strict in [LENIENT, STRICT] {
            let judge = judge_by(
                &[fixture(CA)],
                Criteria { crls: parse_crl(list, strict).unwrap().into(), ..Criteria::default() },
            );
            let verdict = |der: &[u8]| judge.judge(&fixture(der), &[], CLIENT, None, later);
            assert_eq!(verdict(GOOD), Ok(()));
            assert_eq!(is_revoked(verdict(REVOKED)), expected);
            if let Err(rejection) = verdict(REVOKED) {
                assert_eq!(rejection, Rejection::Revoked { serial: Some("10:01".into()) });
                assert!(rejection.to_string().contains("10:01") && rejection.to_string().contains("CRL file"));
            }
        }
    }
}

#[test]
fn a_listed_intermediate_takes_its_certificates_along() {
    let root = Pair::self_signed(authority("root"));
    let [middle, other] = ["middle", "other"].map(|name| root.sign(authority(name)));
    let [own, safe] = [&middle, &other].map(|issuer| issuer.sign(leaf("own", &[])));
    let judge = judge_with_crl(&[&root], &[&root.crl(&[&middle], 2027)], LENIENT);
    assert!(is_revoked(verdict(&judge, &[&own, &middle])));
    assert!(!is_revoked(verdict(&judge, &[&safe, &other])));
    let judge = judge_with_crl(&[&root], &[&middle.crl(&[&own], 2027)], LENIENT);
    assert!(is_revoked(verdict(&judge, &[&own, &middle])), "the intermediate's own list");
}

#[test]
fn a_trusted_ca_that_its_issuer_revoked_vouches_for_nobody() {
    let root = Pair::self_signed(authority("root"));
    let middle = root.sign(authority("middle"));
    let own = middle.sign(leaf("own", &[]));
    let list = root.crl(&[&middle], 2027);
    for trusted in [[&root, &middle], [&middle, &root]] {
        let judge = judge_with_crl(&trusted, &[&list], LENIENT);
        assert!(is_revoked(verdict(&judge, &[&own])));
        assert!(is_revoked(verdict(&judge, &[&own, &middle])));
    }
}

#[test]
fn a_trusted_certificate_is_refused_if_its_issuer_lists_it() {
    let root = Pair::self_signed(authority("root"));
    let [own, other] = ["own", "other"].map(|name| root.sign(leaf(name, &[])));
    let list = root.crl(&[&own], 2027);
    let judge = judge_with_crl(&[&own, &other, &root], &[&list], LENIENT);
    assert!(is_revoked(verdict(&judge, &[&own])), "the issuer is in the truststore");
    assert!(!is_revoked(verdict(&judge, &[&other])));
    let judge = judge_with_crl(&[&own, &other], &[&list], LENIENT);
    assert!(is_revoked(verdict(&judge, &[&own, &root])), "the peer shows the issuer");
    assert!(is_revoked(verdict(&judge, &[&own])), "nobody knows the issuer: withholding it does not help");
    assert!(!is_revoked(verdict(&judge, &[&other])));
}

#[test]
fn an_issuer_that_only_the_peer_vouches_for_exonerates_nobody() {
    // To an ECDSA signature there is a second key under which it verifies; here any key stands for it.
    let root = Pair::self_signed(authority("root"));
    let own = root.sign(leaf("own", &[]));
    let stranger = Pair::self_signed(authority("root")).der();
    let crls = parse_crl(root.crl(&[&own], 2027).pem().unwrap().as_bytes(), LENIENT).unwrap();
    let (own, claimed) = (own.der(), Key::from_spki(parse(&stranger).unwrap().subject_pki.raw).unwrap());
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    let verdict = |proven, claimed| {
        let issuers = || Issuers { proven, claimed };
        crls.check(&parse(&own).unwrap(), issuers, false, &algorithms, now())
    };
    assert!(is_revoked(verdict(vec![], vec![claimed])));
    assert!(!is_revoked(verdict(vec![claimed], vec![])), "who is proven can say that the list is another one's");
}

#[test]
fn a_self_signed_certificate_can_revoke_itself() {
    let [own, other] = [(); 2].map(|()| Pair::self_signed(leaf("flink.internal", &[])));
    let judge = judge_with_crl(&[&own, &other], &[&own.crl(&[&own], 2027)], LENIENT);
    assert!(is_revoked(verdict(&judge, &[&own])));
    assert!(!is_revoked(verdict(&judge, &[&other])), "of the same name");
}

#[test]
fn a_list_counts_for_the_key_that_signed_it_and_not_for_its_name() {
    let [old, new, stranger] = [(); 3].map(|()| Pair::self_signed(authority("Sample CA")));
    let [by_old, by_new] = [&old, &new].map(|issuer| {
        let mut params = leaf("own", &[]);
        params.serial_number = Some(7_u64.into());
        issuer.sign(params)
    });
    // Both have the serial number 7: only the right issuer's word counts, whichever list comes first.
    for (issuer, expected) in [(&old, [true, false]), (&new, [false, true]), (&stranger, [false, false])] {
        let (entry, nothing) = (issuer.crl(&[&by_old], 2027), new.crl(&[], 2027));
        for lists in [[&entry, &nothing], [&nothing, &entry]] {
            for trusted in [[&old, &new].as_slice(), &[&old, &new, &by_old, &by_new]] {
                let judge = judge_with_crl(trusted, &lists, LENIENT);
                let revoked = [&by_old, &by_new].map(|own| is_revoked(verdict(&judge, &[own])));
                assert_eq!(revoked, expected);
            }
        }
    }
}

#[test]
fn an_overdue_list_still_refuses_and_only_strictness_refuses_the_others() {
    let root = Pair::self_signed(authority("root"));
    let [own, other] = ["own", "other"].map(|name| root.sign(leaf(name, &[])));
    let list = root.crl(&[&own], 2026); // due at `now()`
    let moment_before = UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() - 1));
    let lenient = judge_with_crl(&[&root], &[&list], LENIENT);
    assert!(is_revoked(verdict(&lenient, &[&own])));
    assert!(!is_revoked(verdict(&lenient, &[&other])));
    let strict = judge_with_crl(&[&root], &[&list], STRICT);
    assert!(is_revoked(verdict(&strict, &[&own])));
    let refusal = verdict(&strict, &[&other]).unwrap_err();
    assert_eq!(refusal, Rejection::CrlExpired { next_update: now() });
    assert_eq!(strict.judge(&other.der(), &[], CLIENT, None, moment_before), Ok(()), "not yet due");
    assert_eq!(verdict(&strict, &[&other]), Err(refusal), "that it was believed before is no excuse");
    let renewed = judge_with_crl(&[&root], &[&list, &root.crl(&[], 2027)], STRICT);
    assert_eq!(verdict(&renewed, &[&other]), Ok(()), "its successor is there, too");
}

#[test]
fn strictness_wants_a_list_for_everyone_but_who_is_trusted_as_such() {
    let root = Pair::self_signed(authority("root"));
    let middle = root.sign(authority("middle"));
    let own = middle.sign(leaf("own", &[]));
    let stranger = Pair::self_signed(authority("middle"));
    let (of_root, of_middle) = (root.crl(&[], 2027), middle.crl(&[], 2027));
    let check = |lists: &[&rcgen::CertificateRevocationList]| {
        verdict(&judge_with_crl(&[&root], lists, STRICT), &[&own, &middle])
    };
    assert_eq!(check(&[&of_root, &of_middle]), Ok(()));
    assert_eq!(check(&[&of_root]), Err(Rejection::RevocationUnknown), "none for the leaf");
    assert_eq!(check(&[&of_middle]), Err(Rejection::RevocationUnknown), "none for the intermediate");
    assert_eq!(check(&[&of_root, &stranger.crl(&[], 2027)]), Err(Rejection::RevocationUnknown), "not its issuer's");
    assert_eq!(verdict(&judge_with_crl(&[&root], &[&of_root], LENIENT), &[&own, &middle]), Ok(()));

    let shared = Pair::self_signed(leaf("flink.internal", &[]));
    assert_eq!(verdict(&judge_with_crl(&[&shared], &[&of_root], STRICT), &[&shared]), Ok(()), "self-signed");
    assert_eq!(verdict(&judge_with_crl(&[&own], &[&of_root], STRICT), &[&own]), Err(Rejection::RevocationUnknown));
    let judge = judge_with_crl(&[&own], &[&of_middle], STRICT);
    assert_eq!(verdict(&judge, &[&own, &middle]), Ok(()));
    assert_eq!(
        verdict(&judge, &[&own]),
        Err(Rejection::RevocationUnknown),
        "a signature nobody can check proves nothing"
    );
}

#[test]
fn unusable_files_say_what_is_wrong() {
    let fault = |bytes: &[u8]| parse_crl(bytes, LENIENT).unwrap_err().to_string();
    let cut = &CRL_PEM[..CRL_PEM.len() / 2];
    for (bytes, expected) in [
        (b"".as_slice(), "is empty"),
        (b"hello", "no certificate revocation list"),
        (CA, "no certificate revocation list"),
        (cut, "damaged"),
        (&CRL_DER[..100], "cannot be used"),
    ] {
        let fault = fault(bytes);
        assert!(fault.starts_with("CRL file /tls/crl.pem: ") && fault.contains(expected), "{fault}");
    }
}

#[test]
fn equal_bytes_are_equal_lists() {
    let parse = |bytes: &[u8]| parse_crl(bytes, LENIENT).unwrap();
    let both = |one: &[u8], other: &[u8]| parse(&[one, other].concat());
    assert_eq!(parse(CRL_PEM), parse(CRL_DER));
    assert_eq!(both(CRL_PEM, CRL_BEFORE), both(CRL_BEFORE, CRL_PEM), "the order is no change");
    assert_ne!(parse(CRL_PEM), parse(CRL_BEFORE));
    assert_ne!(parse(CRL_PEM), parse_crl(CRL_PEM, STRICT).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_lists_never_panic(der in any::<bool>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = if der { CRL_DER } else { CRL_PEM }.to_vec();
        for (index, value) in flips {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if let Ok(crls) = parse_crl(&bytes, STRICT) {
            let judge = judge_by(&[fixture(CA)], Criteria { crls: crls.into(), ..Criteria::default() });
            let _ = judge.judge(&fixture(REVOKED), &[], CLIENT, None, now());
        }
    }
}
