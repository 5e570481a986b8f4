//! Where Java's trust manager and webpki give different answers: one test per case, with webpki's own verdict beside
//! ours. That Java's is what is said here, `tests/trust_oracles.rs` asks Java.

use super::*;

const KEYTOOL: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keytool.p12"));
const VERSION_1: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openssl-v1.pem"));
const ED25519: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/keytool-ed25519.pem"));
const REST: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/keytool-rest.pem"));

/// 2033, when the committed certificates are valid.
fn later() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000))
}

fn lenient(trusted: &CertificateDer<'static>, leniency: Leniency) -> Judge {
    judge_by(std::slice::from_ref(trusted), Criteria { leniency, ..Criteria::default() })
}

/// Our verdict on a certificate that is itself in the truststore, in both roles.
fn exact(der: &CertificateDer<'static>, leniency: Leniency) -> Result<(), Rejection> {
    let judge = lenient(der, leniency);
    let [client, server] = [CLIENT, SERVER].map(|role| judge.judge(der, &[], role, None, later()));
    assert_eq!(client, server);
    client
}

/// webpki's, with the certificate as the only anchor.
fn webpki(der: &CertificateDer<'static>) -> Result<(), webpki::Error> {
    let anchor = webpki::anchor_from_trusted_cert(der).unwrap();
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    EndEntityCert::try_from(der)?
        .verify_for_usage(algorithms.all, &[anchor], &[], later(), KeyUsage::server_auth(), None, None)
        .map(drop)
}

fn name_is_wrong(der: &CertificateDer<'static>) -> bool {
    let name = ServerName::try_from("flink.internal").unwrap();
    let verdict = lenient(der, Leniency::JAVA).judge(der, &[], SERVER, Some(&name), later());
    matches!(verdict, Err(Rejection::WrongName { .. }))
}

fn der_of_keytool() -> CertificateDer<'static> {
    let options = crate::StoreOptions::new("keytool.p12", crate::Password::None);
    let store = Some(crate::Secret::new("store_password".into()));
    let passwords = crate::store::ResolvedPasswords { store, key: None };
    crate::store::parse_trust(KEYTOOL, &options, &passwords).unwrap().remove(0)
}

#[test]
fn keytools_self_signed_rsa_pair_without_names_is_believed_but_is_for_no_host() {
    let der = der_of_keytool();
    assert_eq!(webpki(&der), Ok(()));
    assert_eq!(exact(&der, Leniency::STRICT), Ok(()));
    assert!(name_is_wrong(&der));
}

#[test]
fn keytools_self_signed_pair_with_names_is_believed_for_these_hosts() {
    let der = fixture(REST);
    assert_eq!(webpki(&der), Ok(()));
    assert_eq!(exact(&der, Leniency::STRICT), Ok(()));
    for name in ["flink.company.org", "10.0.2.15"] {
        let name = ServerName::try_from(name).unwrap();
        assert_eq!(lenient(&der, Leniency::STRICT).judge(&der, &[], SERVER, Some(&name), later()), Ok(()));
    }
    assert!(name_is_wrong(&der));
}

#[test]
fn keytools_ed25519_pair_is_believed_but_is_for_no_host() {
    let der = fixture(ED25519);
    assert_eq!(webpki(&der), Ok(()));
    assert_eq!(exact(&der, Leniency::STRICT), Ok(()));
    assert!(name_is_wrong(&der));
}

#[test]
fn a_leaf_under_a_trusted_ca_is_believed() {
    let root = Pair::self_signed(authority("root"));
    let own = root.sign(leaf("own", &[]));
    let judge = lenient(&root.der(), Leniency::STRICT);
    assert_eq!(judge.judge(&own.der(), &[], SERVER, None, later()), Ok(()));
}

#[test]
fn a_trusted_leaf_of_an_untrusted_ca_needs_the_leniency_untrusted_issuer() {
    let own = Pair::self_signed(authority("root")).sign(leaf("own", &[])).der();
    assert_eq!(webpki(&own), Err(webpki::Error::UnknownIssuer));
    assert_eq!(exact(&own, Leniency::default()), Ok(()), "granted unless taken back");
    assert_eq!(exact(&own, Leniency::STRICT), Err(Rejection::UntrustedIssuer));
    assert!(Rejection::UntrustedIssuer.to_string().contains("\"untrusted-issuer\""));
    assert_eq!(exact(&own, Leniency { untrusted_issuer: true, ..Leniency::STRICT }), Ok(()));
}

#[test]
fn a_trusted_leaf_of_a_trusted_ca_needs_no_leniency() {
    let root = Pair::self_signed(authority("root"));
    let own = root.sign(leaf("own", &[]));
    let criteria = Criteria { leniency: Leniency::STRICT, ..Criteria::default() };
    assert_eq!(verdict(&judge_by(&[root.der(), own.der()], criteria), &[&own]), Ok(()));
}

#[test]
fn openssls_req_x509_makes_a_ca_certificate_which_needs_the_leniency_ca_as_end_entity() {
    let der = fixture(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openssl-pkcs8.pem")));
    assert_eq!(webpki(&der), Err(webpki::Error::CaUsedAsEndEntity));
    assert_eq!(exact(&der, Leniency::default()), Ok(()), "granted unless taken back");
    assert_eq!(exact(&der, Leniency::STRICT), Err(Rejection::CaAsEndEntity));
    assert!(Rejection::CaAsEndEntity.to_string().contains("\"ca-as-end-entity\""));
    assert_eq!(exact(&der, Leniency { ca_as_end_entity: true, ..Leniency::STRICT }), Ok(()));
}

#[test]
fn a_trusted_version_1_certificate_needs_the_leniency_x509v1() {
    let der = fixture(VERSION_1);
    assert_eq!(webpki(&der), Err(webpki::Error::UnsupportedCertVersion));
    assert_eq!(exact(&der, Leniency::default()), Err(Rejection::Version1));
    assert!(Rejection::Version1.to_string().contains("\"x509v1\""));
    assert_eq!(exact(&der, Leniency { x509v1: true, ..Leniency::STRICT }), Ok(()));
    assert!(name_is_wrong(&der), "it has no place for names");
    let other = Pair::self_signed(authority("other")).der();
    let verdict = lenient(&other, Leniency::JAVA).judge(&der, &[], SERVER, None, later());
    assert_eq!(verdict, Err(Rejection::Version1), "only if it is itself trusted");
}

#[test]
fn an_expired_trusted_certificate_needs_the_leniency_expired() {
    let mut params = leaf("own", &[]);
    params.not_after = date_time_ymd(2020, 1, 1);
    let own = Pair::self_signed(params.clone()).der();
    assert!(matches!(webpki(&own), Err(webpki::Error::CertExpired { .. })));
    let refusal = exact(&own, Leniency::default()).unwrap_err();
    assert!(matches!(refusal, Rejection::Expired { .. }) && refusal.to_string().contains("\"expired\""), "{refusal}");
    let expired = Leniency { expired: true, ..Leniency::STRICT };
    assert_eq!(exact(&own, expired), Ok(()));
    let until = lenient(&own, expired).judge_until(&own, &[], CLIENT, None, later());
    assert_eq!(until, Ok(None), "no end that is past already");

    let root = Pair::self_signed(authority("root"));
    let under_a_ca = root.sign(params);
    let verdict = lenient(&root.der(), Leniency::JAVA).judge(&under_a_ca.der(), &[], SERVER, None, later());
    assert!(matches!(verdict, Err(Rejection::Expired { .. })), "only if it is itself trusted: {verdict:?}");
}

#[test]
fn two_anchors_of_one_name_work_in_either_order() {
    let [old, new] = [(); 2].map(|()| Pair::self_signed(authority("Sample CA")));
    for trusted in [[old.der(), new.der()], [new.der(), old.der()]] {
        let judge = judge_by(&trusted, Criteria { leniency: Leniency::STRICT, ..Criteria::default() });
        for issuer in [&old, &new] {
            assert_eq!(verdict(&judge, &[&issuer.sign(leaf("own", &[]))]), Ok(()));
        }
    }
}

#[test]
fn under_the_old_anchor_of_its_name_the_new_certificate_is_badly_signed_not_unknown() {
    let [old, new] = [(); 2].map(|()| Pair::self_signed(authority("Sample CA")));
    let own = new.sign(leaf("own", &[]));
    assert_eq!(verdict(&judge(&[&old]), &[&own]), Err(Rejection::BadSignature));
}
