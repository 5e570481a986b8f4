//! Revocation lists and pins: what a change of them does to sessions, and to the own identity.

use super::*;

#[test]
fn another_revocation_list_or_pin_file_ends_the_sessions_and_the_same_one_does_not() {
    let root = Pair::self_signed(authority("root"));
    let [own, other] = ["own", "other"].map(|name| root.sign(leaf(name, &[])));
    let bundle = || Bundle::mutual(&own, &[&root]);
    let list = |revoked: &[&Pair]| [root.crl(revoked, 2200)];
    let before = bundle().crl(&list(&[])).first();
    let nothing = list(&[]);
    let mut strict = bundle().crl(&nothing);
    strict.options.crl_strict = true;
    assert!(!bundle().crl(&list(&[&other])).after(&before).keeps_sessions_of(&before));
    assert!(!strict.after(&before).keeps_sessions_of(&before));
    let same = bundle().crl(&nothing);
    let before = same.first();
    assert!(same.after(&before).keeps_sessions_of(&before));

    let pin = Fingerprint::sha256_of(&own.der());
    let before = bundle().pins_file(&format!("{pin} not-after=2200-01-01")).first();
    let commented = bundle().pins_file(&format!("# ours\n{pin} not-after=2200-01-01"));
    assert!(commented.after(&before).keeps_sessions_of(&before), "a comment is no change");
    let longer = bundle().pins_file(&format!("{pin} not-after=2200-01-02"));
    assert!(!longer.after(&before).keeps_sessions_of(&before));
}

#[test]
fn a_revoked_client_is_not_resumed_by_the_server() {
    let root = Pair::self_signed(authority("root"));
    let [server, revoked, other] = ["server", "revoked", "other"].map(|name| root.sign(leaf(name, &[])));
    for protocol in PROTOCOLS {
        let bundle = |own: &Pair| Bundle::mutual(own, &[&root]).protocol(protocol);
        let before = bundle(&server).crl(&[root.crl(&[], 2200)]).first();
        let [client, untouched] = [&revoked, &other].map(|own| bundle(own).first());
        for client in [&client, &untouched] {
            assert!(full(connect(client, &before)), "{protocol:?}");
            assert_eq!(connect(client, &before), Ok(HandshakeKind::Resumed), "{protocol:?}");
        }
        let after = bundle(&server).crl(&[root.crl(&[&revoked], 2200)]).after(&before);
        for _ in 0..2 {
            assert_eq!(connect(&client, &after), Err(("server", Rejection::Revoked { serial: None })), "{protocol:?}");
        }
        assert!(full(connect(&untouched, &after)), "{protocol:?}");
        assert_eq!(connect(&untouched, &after), Ok(HandshakeKind::Resumed), "{protocol:?}");
    }
}

#[test]
fn a_client_does_not_resume_to_a_revoked_server() {
    let root = Pair::self_signed(authority("root"));
    let [revoked, client] = ["revoked", "client"].map(|name| root.sign(leaf(name, &[])));
    for protocol in PROTOCOLS {
        let bundle = |own: &Pair| Bundle::mutual(own, &[&root]).protocol(protocol);
        let server = bundle(&revoked).first();
        let before = bundle(&client).first();
        assert!(full(connect(&before, &server)));
        assert_eq!(connect(&before, &server), Ok(HandshakeKind::Resumed), "{protocol:?}");
        let after = bundle(&client).crl(&[root.crl(&[&revoked], 2200)]).after(&before);
        let refusal = connect(&after, &server);
        assert_eq!(refusal, Err(("client", Rejection::Revoked { serial: None })), "{protocol:?}");
    }
}

#[test]
fn an_identity_that_the_list_revokes_is_not_taken() {
    let root = Pair::self_signed(authority("root"));
    let own = root.sign(leaf("own", &[]));
    let reason = error(Bundle::mutual(&own, &[&root]).crl(&[root.crl(&[&own], 2200)]).build());
    assert!(reason.contains("self-test") && reason.contains("revoked"), "{reason}");
    let mut no_list = Bundle::mutual(&own, &[&root]);
    no_list.options.crl_strict = true;
    assert!(error(no_list.build()).contains("no CRL file"));
    let broken = Bundle::mutual(&own, &[&root]).crl(&[]).file("/tls/crl.pem", b"hello");
    assert!(error(broken.build()).starts_with("CRL file /tls/crl.pem: "));
}

#[test]
fn pins_of_the_options_and_of_the_file_add_up() {
    let root = Pair::self_signed(authority("root"));
    let [own, one, two, three] = ["own", "one", "two", "three"].map(|name| root.sign(leaf(name, &[])));
    let pin = |pair: &Pair| Fingerprint::sha256_of(&pair.der());
    let mut bundle = Bundle::mutual(&own, &[&root]).pins_file(&format!(
        "{}\n{} not-before=2100-01-01 not-after=2100-12-31",
        pin(&own),
        pin(&two)
    ));
    bundle.options.pins = vec![pin(&one)];
    let generation = bundle.first();
    let moment = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let (before, within, after) = (moment(4_102_444_799), moment(4_102_444_800), moment(4_133_980_800));
    let verdict = |pair: &Pair, now| generation.judge_client(&[pair.der()], now);
    for now in [before, within, after] {
        assert_eq!(verdict(&own, now), Ok(()));
        assert_eq!(verdict(&one, now), Ok(()));
        assert_eq!(verdict(&three, now), Err(Rejection::Pin));
    }
    assert_eq!(verdict(&two, before), Err(Rejection::PinNotYet { not_before: within }));
    assert_eq!(verdict(&two, within), Ok(()));
    let end = moment(4_133_980_799);
    assert_eq!(verdict(&two, after), Err(Rejection::PinEnded { not_after: end }));
    assert_eq!(
        generation.judge(&[two.der()], PeerRole::Client, None, within),
        Ok(Some(end)),
        "a live connection ends with its pin"
    );
    let broken = Bundle::mutual(&own, &[&root]).pins_file("\nnonsense");
    assert!(error(broken.build()).starts_with("pin file /tls/pins, line 2: "));
    assert!(error(Bundle::mutual(&own, &[&root]).pins_file("# none").build()).contains("pins nothing"));
}
