//! Stores made by keytool and openssl (see `tests/fixtures/make.sh`), and damaged ones.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use proptest::prelude::*;

use super::{testing::*, *};
use crate::Password;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/", $name)).as_slice()
    };
}

mod directory;
mod encrypted;
mod jks;
mod regenerated;
mod two_files;

const PASSWORD: &str = "store_password";

fn options() -> StoreOptions {
    StoreOptions::new("/tls/store", Password::None)
}

fn passwords(store: &str) -> ResolvedPasswords {
    ResolvedPasswords { store: Some(Secret::new(store.into())), key: None }
}

fn identity_of(bytes: &[u8]) -> Result<Identity, MaterialError> {
    parse_identity(bytes, &options(), &passwords(PASSWORD))
}

fn trust_of(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    parse_trust(bytes, &options(), &passwords(PASSWORD))
}

fn subjects(chain: &[CertificateDer<'_>]) -> Vec<String> {
    chain.iter().map(|der| parse(der).unwrap().subject().to_string()).collect()
}

fn store_fault<T>(result: Result<T, MaterialError>) -> StoreFault {
    match result {
        Err(MaterialError::Store { fault, .. }) => fault,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no error"),
    }
}

#[test]
fn identities_of_every_tool_are_read() {
    for (name, bytes, expected) in [
        ("keytool", fixture!("keytool.p12"), vec!["CN=flink.internal"]),
        ("keytool legacy", fixture!("keytool-legacy.p12"), vec!["CN=flink.internal"]),
        ("keytool signed", fixture!("keytool-signed.p12"), vec!["CN=flink.company.org", "CN=Sample CA"]),
        ("openssl", fixture!("openssl.p12"), vec!["CN=openssl"]),
        ("openssl -legacy", fixture!("openssl-legacy.p12"), vec!["CN=openssl"]),
        ("openssl -nomac", fixture!("openssl-nomac.p12"), vec!["CN=openssl"]),
        ("PKCS#8", fixture!("openssl-pkcs8.pem"), vec!["CN=openssl"]),
        ("PKCS#1", fixture!("openssl-pkcs1.pem"), vec!["CN=pkcs1"]),
        ("SEC1", fixture!("openssl-sec1.pem"), vec!["CN=openssl"]),
        ("PKCS#8 with PBES2", fixture!("openssl-encrypted.pem"), vec!["CN=openssl"]),
        ("PKCS#8 with scrypt", fixture!("openssl-encrypted-scrypt.pem"), vec!["CN=openssl"]),
        ("JKS", fixture!("keytool.jks"), vec!["CN=jks"]),
        ("JKS signed", fixture!("keytool-signed.jks"), vec!["CN=flink.company.org", "CN=Sample CA"]),
    ] {
        let identity = identity_of(bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(subjects(&identity.chain), expected, "{name}");
    }
}

#[test]
fn unusual_passwords_open_their_stores() {
    let empty = fixture!("openssl-empty-password.p12");
    assert!(parse_identity(empty, &options(), &ResolvedPasswords::default()).is_ok(), "none given");
    assert!(parse_identity(empty, &options(), &passwords("")).is_ok(), "the empty one given");
    assert!(parse_identity(fixture!("openssl-utf8-password.p12"), &options(), &passwords("pässwörd")).is_ok());
}

#[test]
fn truststores_of_every_tool_are_read() {
    for (name, bytes, expected) in [
        ("keytool -importcert", fixture!("keytool-trust.p12"), vec!["CN=flink.internal"]),
        ("keytool without encryption and MAC", fixture!("keytool-trust-open.p12"), vec!["CN=flink.internal"]),
        ("a CA", fixture!("keytool-signed-trust.p12"), vec!["CN=Sample CA"]),
        ("Flink's one file for both", fixture!("keytool.p12"), vec!["CN=flink.internal"]),
        ("PEM", fixture!("openssl-pkcs8.pem"), vec!["CN=openssl"]),
        ("DER", fixture!("keytool.cer"), vec!["CN=flink.internal"]),
        ("JKS", fixture!("keytool-trust.jks"), vec!["CN=Sample CA", "CN=flink.internal"]),
        ("JKS for both", fixture!("keytool.jks"), vec!["CN=jks"]),
    ] {
        let mut trusted = subjects(&trust_of(bytes).unwrap_or_else(|error| panic!("{name}: {error}")));
        trusted.sort();
        assert_eq!(trusted, expected, "{name}");
    }
    for (name, bytes) in [("PKCS12", fixture!("keytool-signed.p12")), ("JKS", fixture!("keytool-signed.jks"))] {
        let mut both = subjects(&trust_of(bytes).unwrap());
        both.sort();
        assert_eq!(both, ["CN=Sample CA", "CN=flink.company.org"], "{name}: own leaf and the trusted entry");
    }
}

#[test]
fn a_wrong_password_is_told_apart_from_a_missing_one() {
    for bytes in [
        fixture!("keytool.p12"),
        fixture!("keytool-legacy.p12"),
        fixture!("openssl-nomac.p12"),
        fixture!("keytool.jks"),
        fixture!("openssl-encrypted.pem"),
    ] {
        assert!(matches!(store_fault(parse_identity(bytes, &options(), &passwords("no"))), StoreFault::WrongPassword));
        let none = ResolvedPasswords::default();
        assert!(matches!(store_fault(parse_identity(bytes, &options(), &none)), StoreFault::NoPassword));
    }
    let error = parse_identity(fixture!("keytool.p12"), &options(), &passwords("hunter2")).err().unwrap().to_string();
    assert!(error.contains("keystore /tls/store: wrong password"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn the_first_alias_is_our_identity() {
    let identity = identity_of(fixture!("keytool-two-keys.p12")).unwrap();
    assert_eq!(subjects(&identity.chain), ["CN=first"], "'First' comes before 'second'");
    let mut trusted = subjects(&trust_of(fixture!("keytool-two-keys.p12")).unwrap());
    trusted.sort();
    assert_eq!(trusted, ["CN=first", "CN=second"], "the leaf of every key entry is trusted");
}

#[test]
fn chains_are_put_in_order() {
    let root = Pair::self_signed(authority("root"));
    let middle = root.sign(authority("middle"));
    let own = middle.sign(leaf("own", &["localhost"]));
    let stranger = Pair::self_signed(authority("stranger"));
    let pem = [&root, &stranger, &middle, &own].map(Pair::certificate_pem).concat() + &own.key_pem();
    let identity = identity_of(pem.as_bytes()).unwrap();
    assert_eq!(identity.chain, [own.der(), middle.der(), root.der()]);
}

#[test]
fn what_openssl_writes_without_javas_mark_is_not_trusted() {
    let fault = store_fault(trust_of(fixture!("openssl-nokeys.p12")));
    assert!(matches!(fault, StoreFault::NoAnchor { untagged: 1 }), "{fault}");
    assert!(fault.to_string().contains("keytool -importcert"));
}

#[test]
fn unusable_stores_say_what_is_wrong() {
    let own = Pair::self_signed(leaf("own", &[]));
    let other = Pair::self_signed(leaf("other", &[]));
    let mixed = own.key_pem() + &other.certificate_pem();
    let cut = own.keystore(&[]);
    let cut = &cut.as_bytes()[..cut.len() / 2];
    let check = |name: &str, bytes: &[u8], expected: fn(&StoreFault) -> bool| {
        let fault = store_fault(identity_of(bytes));
        assert!(expected(&fault), "{name}: {fault:?}");
    };
    check("empty", b"", |fault| matches!(fault, StoreFault::Empty));
    check("text", b"hello", |fault| matches!(fault, StoreFault::UnknownFormat));
    check("JCEKS", &[0xce; 64], |fault| matches!(fault, StoreFault::JavaFormat { format: "JCEKS" }));
    check("a DER certificate", fixture!("keytool.cer"), |fault| matches!(fault, StoreFault::NoKey));
    check("a JKS truststore", fixture!("keytool-trust.jks"), |fault| matches!(fault, StoreFault::NoKey));
    check("half a PEM", cut, |fault| matches!(fault, StoreFault::Damaged(_)));
    check("a truststore", fixture!("keytool-trust.p12"), |fault| matches!(fault, StoreFault::NoKey));
    check("a certificate", own.certificate_pem().as_bytes(), |fault| matches!(fault, StoreFault::NoKey));
    check("a key", own.key_pem().as_bytes(), |fault| matches!(fault, StoreFault::NoCertificate));
    check("mixed", mixed.as_bytes(), |fault| matches!(fault, StoreFault::KeyMismatch));
    let key_only = own.key_pem();
    assert!(matches!(store_fault(trust_of(key_only.as_bytes())), StoreFault::NoAnchor { untagged: 0 }));
}

#[test]
fn a_configured_kind_must_be_the_files() {
    let mut options = options();
    options.kind = StoreKind::Pkcs12;
    let pem = fixture!("openssl-pkcs8.pem");
    assert!(matches!(
        store_fault(parse_identity(pem, &options, &passwords(PASSWORD))),
        StoreFault::WrongKind { configured: "PKCS12", found: "PEM" }
    ));
    for (kind, right) in [
        (StoreKind::Pem, pem),
        (StoreKind::Jks, fixture!("keytool.jks")),
        (StoreKind::Der, fixture!("keytool.cer")),
        (StoreKind::Pkcs12, fixture!("keytool.p12")),
    ] {
        options.kind = kind;
        assert!(parse_trust(right, &options, &passwords(PASSWORD)).is_ok(), "{kind:?}");
        for wrong in [fixture!("openssl.p12"), fixture!("keytool-trust.jks"), pem, fixture!("keytool.cer")] {
            if sniff(wrong).unwrap() != kind {
                let fault = store_fault(parse_trust(wrong, &options, &passwords(PASSWORD)));
                assert!(matches!(fault, StoreFault::WrongKind { .. }), "{kind:?}: {fault}");
            }
        }
    }
}

#[test]
fn truncated_stores_are_errors() {
    for bytes in [fixture!("keytool.p12"), fixture!("openssl.p12"), fixture!("openssl-nomac.p12")] {
        for len in [1, 2, 10, bytes.len() / 2, bytes.len() - 1] {
            let fault = store_fault(identity_of(&bytes[..len]));
            assert!(matches!(fault, StoreFault::Damaged(_)), "{len} bytes: {fault:?}");
        }
    }
    let certificate = fixture!("keytool.cer");
    for len in 1..certificate.len() {
        let fault = store_fault(trust_of(&certificate[..len]));
        assert!(matches!(fault, StoreFault::Damaged(_)), "{len} bytes of a certificate: {fault:?}");
    }
    let longer = [certificate, b"\n"].concat();
    assert!(matches!(store_fault(trust_of(&longer)), StoreFault::BadCertificate(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A store with flipped bytes may still be read or may not, but it never brings the process down.
    #[test]
    fn damaged_stores_never_panic(which in 0..8_usize, flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let original = [
            fixture!("openssl.p12"),
            fixture!("openssl-nomac.p12"),
            fixture!("openssl-legacy.p12"),
            fixture!("keytool-trust-open.p12"),
            fixture!("openssl-pkcs8.pem"),
            fixture!("openssl-encrypted.pem"),
            fixture!("keytool.cer"),
            fixture!("keytool-signed.jks"),
        ][which];
        let mut bytes = original.to_vec();
        for (index, value) in flips {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        let _ = identity_of(&bytes);
        let _ = trust_of(&bytes);
    }
}
