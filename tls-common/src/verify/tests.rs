//! Which certificates are believed: the table of cases, mostly where Java's and webpki's answers differ.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod crl;
mod java;
mod keys;
mod remembered;

use std::time::Duration;

use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, KeyUsagePurpose, date_time_ymd};
use rustls::{crypto::aws_lc_rs, pki_types::pem::PemObject};

use super::*;
use crate::{
    MaterialError,
    store::testing::{Pair, authority, leaf},
};

const CLIENT: PeerRole = PeerRole::Client;
const SERVER: PeerRole = PeerRole::Server;

/// 2026-01-01, within the validity of everything here that has no dates of its own.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600))
}

fn judge_by(trusted: &[CertificateDer<'static>], criteria: Criteria) -> Judge {
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    Judge::new(trusted, Arc::new(criteria), algorithms)
}

fn judge_with_pins(trusted: &[CertificateDer<'static>], pins: &[Fingerprint]) -> Judge {
    judge_by(trusted, Criteria { pins: pins.iter().copied().map(Pin::from).collect(), ..Criteria::default() })
}

fn judge(trusted: &[&Pair]) -> Judge {
    judge_with_pins(&trusted.iter().map(|pair| pair.der()).collect::<Vec<_>>(), &[])
}

/// The verdict on `chain` in both roles, which must be the same.
fn verdict(judge: &Judge, chain: &[&Pair]) -> Result<(), Rejection> {
    let chain: Vec<_> = chain.iter().map(|pair| pair.der()).collect();
    let verdict = |role| judge.judge(&chain[0], &chain[1..], role, None, now());
    match (verdict(CLIENT), verdict(SERVER)) {
        (Err(Rejection::WrongUsage { .. }), Err(rejection @ Rejection::WrongUsage { .. })) => Err(rejection),
        (as_client, as_server) => {
            assert_eq!(as_client, as_server);
            as_client
        }
    }
}

fn named(judge: &Judge, pair: &Pair, name: &str) -> Result<(), Rejection> {
    judge.judge(&pair.der(), &[], SERVER, Some(&ServerName::try_from(name).unwrap()), now())
}

fn fixture(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}

#[test]
fn a_trusted_self_signed_certificate_is_believed() {
    let own = Pair::self_signed(leaf("flink.internal", &[]));
    assert_eq!(verdict(&judge(&[&own]), &[&own]), Ok(()));
}

#[test]
fn a_certificate_from_a_trusted_ca_is_believed() {
    let root = Pair::self_signed(authority("root"));
    let middle = root.sign(authority("middle"));
    let own = middle.sign(leaf("own", &[]));
    assert_eq!(verdict(&judge(&[&root]), &[&own, &middle]), Ok(()));
    assert_eq!(verdict(&judge(&[&middle]), &[&own]), Ok(()), "the trusted CA need not be a root");
    assert_eq!(verdict(&judge(&[&root]), &[&own]), Err(Rejection::Untrusted), "the link to it is missing");
}

#[test]
fn a_trusted_certificate_is_believed_whoever_signed_it() {
    let own = Pair::self_signed(authority("root")).sign(leaf("own", &[]));
    assert_eq!(verdict(&judge(&[&own]), &[&own]), Ok(()));
}

#[test]
fn a_ca_certificate_is_believed_only_if_it_is_itself_trusted() {
    let made_by_openssl = Pair::self_signed(authority("openssl req -x509"));
    let other = Pair::self_signed(authority("other"));
    assert_eq!(verdict(&judge(&[&made_by_openssl]), &[&made_by_openssl]), Ok(()));
    assert_eq!(verdict(&judge(&[&other]), &[&made_by_openssl]), Err(Rejection::CaAsEndEntity));

    let made_by_openssl =
        fixture(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openssl-pkcs8.pem")));
    let judge = judge_with_pins(std::slice::from_ref(&made_by_openssl), &[]);
    assert_eq!(judge.judge(&made_by_openssl, &[], CLIENT, None, now()), Err(not_yet_valid(&made_by_openssl)));
    let later = UnixTime::since_unix_epoch(Duration::from_secs(2_000_000_000));
    assert_eq!(judge.judge(&made_by_openssl, &[], CLIENT, None, later), Ok(()));
    let localhost = ServerName::try_from("localhost").unwrap();
    assert_eq!(judge.judge(&made_by_openssl, &[], SERVER, Some(&localhost), later), Ok(()));
}

fn not_yet_valid(der: &CertificateDer<'_>) -> Rejection {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    let seconds = certificate.validity().not_before.timestamp().try_into().unwrap();
    Rejection::NotYetValid { not_before: UnixTime::since_unix_epoch(Duration::from_secs(seconds)) }
}

#[test]
fn version_one_is_refused_by_name() {
    let version_one = fixture(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openssl-v1.pem")));
    let other = Pair::self_signed(authority("other")).der();
    for trusted in [version_one.clone(), other] {
        let judge = judge_with_pins(&[trusted], &[]);
        assert_eq!(judge.judge(&version_one, &[], SERVER, None, now()), Err(Rejection::Version1));
    }
}

#[test]
fn validity_counts_even_for_a_trusted_certificate() {
    let dated = |from, until| {
        let mut params = leaf("own", &[]);
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        params
    };
    let root = Pair::self_signed(authority("root"));
    for sign in
        [Pair::self_signed as fn(CertificateParams) -> Pair, |params| Pair::self_signed(authority("x")).sign(params)]
    {
        let (expired, future) = (sign(dated(2020, 2021)), sign(dated(2090, 2091)));
        let judge = judge(&[&root, &expired, &future]);
        assert!(
            matches!(verdict(&judge, &[&expired]), Err(Rejection::Expired { not_after }) if not_after.as_secs() == 1_609_459_200)
        );
        assert!(matches!(verdict(&judge, &[&future]), Err(Rejection::NotYetValid { .. })));
    }
    let judge = judge(&[&root]);
    assert!(matches!(verdict(&judge, &[&root.sign(dated(2020, 2021))]), Err(Rejection::Expired { .. })));
    assert!(matches!(verdict(&judge, &[&root.sign(dated(2090, 2091))]), Err(Rejection::NotYetValid { .. })));
}

#[test]
fn several_trusted_certificates_of_one_name_work_in_any_order() {
    let [old, new] = [(); 2].map(|()| Pair::self_signed(leaf("flink.internal", &[])));
    for judge in [judge(&[&old, &new]), judge(&[&new, &old])] {
        assert_eq!(verdict(&judge, &[&old]), Ok(()));
        assert_eq!(verdict(&judge, &[&new]), Ok(()));
    }
    assert_eq!(verdict(&judge(&[&old]), &[&new]), Err(Rejection::Untrusted));

    let [old, new] = [(); 2].map(|()| Pair::self_signed(authority("Sample CA")));
    for judge in [judge(&[&old, &new]), judge(&[&new, &old])] {
        assert_eq!(verdict(&judge, &[&old.sign(leaf("own", &[]))]), Ok(()));
        assert_eq!(verdict(&judge, &[&new.sign(leaf("own", &[]))]), Ok(()));
    }
    assert_eq!(verdict(&judge(&[&old]), &[&new.sign(leaf("own", &[]))]), Err(Rejection::BadSignature));
}

#[test]
fn the_owner_of_a_trusted_certificate_cannot_issue_more() {
    let own = Pair::self_signed(leaf("own", &[]));
    let forged = own.sign(leaf("forged", &[]));
    assert_eq!(verdict(&judge(&[&own]), &[&forged]), Err(Rejection::Untrusted));
    assert_eq!(verdict(&judge(&[&own]), &[&forged, &own]), Err(Rejection::Untrusted));

    let root = Pair::self_signed(authority("root"));
    let own = root.sign(leaf("own", &[]));
    let forged = own.sign(leaf("forged", &[]));
    assert_eq!(verdict(&judge(&[&own]), &[&forged]), Err(Rejection::Untrusted));
    assert_eq!(verdict(&judge(&[&own, &root]), &[&forged, &own]), Err(Rejection::Untrusted));
}

#[test]
fn usages_are_respected() {
    let root = Pair::self_signed(authority("root"));
    let with = |usage: ExtendedKeyUsagePurpose| {
        let mut params = leaf("own", &[]);
        params.extended_key_usages = vec![usage];
        params
    };
    for sign in [&|params| root.sign(params), &Pair::self_signed as &dyn Fn(CertificateParams) -> Pair] {
        let for_clients = sign(with(ExtendedKeyUsagePurpose::ClientAuth));
        let for_servers = sign(with(ExtendedKeyUsagePurpose::ServerAuth));
        let for_mail = sign(with(ExtendedKeyUsagePurpose::EmailProtection));
        // Trusted itself, and (where the root signed it) by its issuer.
        for judge in [judge(&[&root]), judge(&[&for_clients, &for_servers, &for_mail])] {
            let verdict_as = |pair: &Pair, role| judge.judge(&pair.der(), &[], role, None, now());
            if verdict_as(&for_clients, CLIENT) == Err(Rejection::Untrusted) {
                continue;
            }
            assert_eq!(verdict_as(&for_clients, CLIENT), Ok(()));
            assert_eq!(verdict_as(&for_clients, SERVER), Err(Rejection::WrongUsage { role: "server" }));
            assert_eq!(verdict_as(&for_servers, SERVER), Ok(()));
            assert_eq!(verdict_as(&for_servers, CLIENT), Err(Rejection::WrongUsage { role: "client" }));
            assert_eq!(verdict_as(&for_mail, SERVER), Err(Rejection::WrongUsage { role: "server" }));
        }
    }
    let mut only_signs_certificates = authority("own");
    only_signs_certificates.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let own = Pair::self_signed(only_signs_certificates);
    assert_eq!(verdict(&judge(&[&own]), &[&own]), Err(Rejection::WrongUsage { role: "server" }));
}

#[test]
fn unknown_demands_of_a_trusted_certificate_are_not_ignored() {
    let mut params = leaf("own", &[]);
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![0x05, 0x00]);
    params.custom_extensions = vec![extension.clone()];
    let harmless = Pair::self_signed(params.clone());
    assert_eq!(verdict(&judge(&[&harmless]), &[&harmless]), Ok(()));

    extension.set_criticality(true);
    params.custom_extensions = vec![extension];
    let critical = Pair::self_signed(params);
    assert!(matches!(verdict(&judge(&[&critical]), &[&critical]), Err(Rejection::Unusable(_))));
}

#[test]
fn the_name_counts_only_where_one_is_asked_for() {
    let own = Pair::self_signed(leaf("flink.internal", &["flink.company.org", "10.0.2.15"]));
    let nameless = Pair::self_signed(leaf("flink.internal", &[]));
    let judge = judge(&[&own, &nameless]);
    assert_eq!(named(&judge, &own, "flink.company.org"), Ok(()));
    assert_eq!(named(&judge, &own, "10.0.2.15"), Ok(()));
    let wrong = named(&judge, &own, "other.company.org");
    assert!(
        matches!(&wrong, Err(Rejection::WrongName { expected, presented })
            if expected.to_str() == "other.company.org" && presented.len() == 2),
        "{wrong:?}"
    );
    assert!(matches!(named(&judge, &nameless, "flink.internal"), Err(Rejection::WrongName { .. })), "CN is no name");
    assert_eq!(verdict(&judge, &[&nameless]), Ok(()));
}

#[test]
fn a_right_name_does_not_make_up_for_missing_trust() {
    let stranger = Pair::self_signed(leaf("stranger", &["localhost"]));
    let judge = judge(&[&Pair::self_signed(authority("root"))]);
    assert_eq!(named(&judge, &stranger, "localhost"), Err(Rejection::Untrusted));
}

#[test]
fn pins_come_on_top_of_trust() {
    let root = Pair::self_signed(authority("root"));
    let pinned = root.sign(leaf("pinned", &[]));
    let other = root.sign(leaf("other", &[]));
    let stranger = Pair::self_signed(leaf("stranger", &[]));
    for of in [Fingerprint::sha1_of as fn(&[u8]) -> Fingerprint, Fingerprint::sha256_of] {
        let judge = judge_with_pins(&[root.der()], &[of(b"another"), of(&pinned.der()), of(&stranger.der())]);
        assert_eq!(verdict(&judge, &[&pinned]), Ok(()));
        assert_eq!(verdict(&judge, &[&other]), Err(Rejection::Pin));
        assert_eq!(verdict(&judge, &[&stranger]), Err(Rejection::Untrusted), "pinned, but not trusted");
    }
}

#[test]
fn without_truststore_nobody_is_believed() {
    let own = Pair::self_signed(leaf("own", &[]));
    assert_eq!(verdict(&judge(&[]), &[&own]), Err(Rejection::NoTruststore));
}

#[test]
fn garbage_is_refused() {
    let judge = judge(&[&Pair::self_signed(authority("root"))]);
    for garbage in [b"".as_slice(), b"garbage", &[0x30, 0x82, 0xff, 0xff]] {
        let verdict = judge.judge(&CertificateDer::from(garbage), &[], CLIENT, None, now());
        assert!(matches!(verdict, Err(Rejection::Unusable(_))), "{verdict:?}");
    }
}

#[test]
fn a_rejection_survives_its_way_through_rustls() {
    let moment = now();
    for rejection in [
        Rejection::Untrusted,
        Rejection::Expired { not_after: moment },
        Rejection::NotYetValid { not_before: moment },
        Rejection::WrongName { expected: ServerName::try_from("a").unwrap(), presented: vec!["b".into()] },
        Rejection::UntrustedIssuer,
        Rejection::Pin,
        Rejection::PinNotYet { not_before: moment },
        Rejection::PinEnded { not_after: moment },
        Rejection::Revoked { serial: None },
        Rejection::RevocationUnknown,
        Rejection::CrlExpired { next_update: moment },
        Rejection::WeakKey { algorithm: "RSA", bits: 1024, minimum: 2048 },
        Rejection::BadSignature,
        Rejection::HandshakeSignature,
        Rejection::WrongUsage { role: "client" },
        Rejection::CaAsEndEntity,
        Rejection::Version1,
        Rejection::NoTruststore,
        Rejection::Unusable("x".into()),
    ] {
        assert_eq!(Rejection::from_tls(&rejection.clone().into()), Some(rejection));
    }
    // The peer gets the alert "certificate revoked"; the serial number stays in our own log.
    let revoked = rustls::Error::from(Rejection::Revoked { serial: Some("01".into()) });
    assert_eq!(Rejection::from_tls(&revoked), Some(Rejection::Revoked { serial: None }));
    assert_eq!(Rejection::from_tls(&rustls::Error::NoCertificatesPresented), Some(Rejection::NoCertificate));
    assert_eq!(Rejection::from_tls(&rustls::Error::DecryptError), None);
}

#[test]
fn the_end_of_a_certificate_is_found_without_parsing_all_of_it() {
    let fixtures = ["openssl-v1.pem", "openssl-pkcs8.pem"];
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for der in fixtures.map(|name| fixture(&std::fs::read(directory.join(name)).unwrap())) {
        let expected = parse(&der).unwrap().validity().not_after.timestamp();
        assert_eq!(usable::not_after(&der).unwrap().as_secs(), u64::try_from(expected).unwrap());
        for cut in 0..der.len() {
            assert_eq!(usable::not_after(&der[..cut].into()), None);
        }
    }
    // A GeneralizedTime, as from 2050 on.
    let mut params = leaf("far", &[]);
    params.not_after = date_time_ymd(2070, 1, 1);
    assert_eq!(usable::not_after(&Pair::self_signed(params).der()).unwrap().as_secs(), 3_155_760_000);
}

#[test]
fn a_second_verdict_goes_by_everything_again_but_who_knows_the_issuers_signature_need_not_verify_it() {
    let ca = Pair::self_signed(authority("root"));
    let host = ca.sign(leaf("own", &[]));
    let judge = judge(&[&ca]);
    let at = |now| judge.judge(&host.der(), &[], CLIENT, None, now);
    assert_eq!((at(now()), at(now())), (Ok(()), Ok(())));
    let forged = Pair::self_signed(authority("root")).sign(leaf("own", &[]));
    assert!(verdict(&judge, &[&forged]).is_err(), "the same names by another key");
    let after = UnixTime::since_unix_epoch(Duration::from_secs(100_000_000_000));
    assert!(matches!(at(after), Err(Rejection::Expired { .. })));
}
