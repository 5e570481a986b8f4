//! Which sessions survive which change of the files.

use super::*;

#[test]
fn sessions_are_resumed_within_a_generation() {
    let own = Pair::self_signed(leaf("own", &[]));
    for protocol in PROTOCOLS {
        let mut bundle = Bundle::mutual(&own, &[&own]).protocol(protocol);
        let generation = bundle.first();
        assert!(full(connect(&generation, &generation)), "{protocol:?}: the canary has left no session behind");
        assert_eq!(connect(&generation, &generation), Ok(HandshakeKind::Resumed), "{protocol:?}");

        bundle.options.session_cache_size = 0;
        let generation = bundle.first();
        assert!(full(connect(&generation, &generation)), "{protocol:?}");
        assert!(full(connect(&generation, &generation)), "{protocol:?}: resumption is off");
    }
}

#[test]
fn a_server_that_no_longer_trusts_a_client_does_not_resume_its_session() {
    let [server_pair, client_pair] = ["server", "client"].map(|name| Pair::self_signed(leaf(name, &[])));
    for protocol in PROTOCOLS {
        let before = Bundle::mutual(&server_pair, &[&server_pair, &client_pair]).protocol(protocol).first();
        let client = Bundle::mutual(&client_pair, &[&server_pair, &client_pair]).protocol(protocol).first();
        assert!(full(connect(&client, &before)), "{protocol:?}");
        assert_eq!(connect(&client, &before), Ok(HandshakeKind::Resumed), "{protocol:?}");

        let after = Bundle::mutual(&server_pair, &[&server_pair]).protocol(protocol).after(&before);
        assert!(!after.keeps_sessions_of(&before));
        assert_eq!(connect(&client, &after), Err(("server", Rejection::Untrusted)), "{protocol:?}");
    }
}

#[test]
fn a_client_that_no_longer_trusts_a_server_does_not_resume_its_session() {
    let [server_pair, client_pair] = ["server", "client"].map(|name| Pair::self_signed(leaf(name, &[])));
    for protocol in PROTOCOLS {
        let server = Bundle::mutual(&server_pair, &[&server_pair, &client_pair]).protocol(protocol).first();
        let before = Bundle::mutual(&client_pair, &[&server_pair, &client_pair]).protocol(protocol).first();
        assert!(full(connect(&before, &server)), "{protocol:?}");
        assert_eq!(connect(&before, &server), Ok(HandshakeKind::Resumed), "{protocol:?}");

        let after = Bundle::mutual(&client_pair, &[&client_pair]).protocol(protocol).after(&before);
        assert_eq!(connect(&after, &server), Err(("client", Rejection::Untrusted)), "{protocol:?}");
    }
}

#[test]
fn any_change_of_the_rules_ends_the_sessions() {
    let root = Pair::self_signed(authority("root"));
    let own = root.sign(leaf("own", &[]));
    let other = Pair::self_signed(leaf("other", &[]));
    let bundle = || Bundle::mutual(&own, &[&root]);
    let before = bundle().first();
    let mut pinned = bundle();
    pinned.options.pins = vec![Fingerprint::sha256_of(&own.der())];
    let mut suite = bundle();
    suite.options.cipher_suites = vec!["TLS_AES_256_GCM_SHA384".into()];
    let wider = Bundle::mutual(&own, &[&root, &other]);
    let mut lenient = bundle();
    lenient.options.leniency = Leniency::JAVA;
    let mut keys = bundle();
    keys.options.min_key.rsa = 3072;
    let revoked = bundle().crl(&[root.crl(&[&other], 2200)]);
    let pin = bundle().pins_file(&format!("{} not-after=2200-01-01", Fingerprint::sha256_of(&own.der())));
    let client_auth = bundle().client_auth(ClientAuth::Optional);
    for changed in [pinned, suite, wider, client_auth, lenient, keys, revoked, pin] {
        assert!(!changed.after(&before).keeps_sessions_of(&before), "{:?}", changed.options);
    }
}

#[test]
fn a_client_forgets_its_sessions_after_the_timeout() {
    let own = Pair::self_signed(leaf("own", &[]));
    let name = ServerName::try_from("localhost").unwrap();
    for protocol in PROTOCOLS {
        let mut bundle = Bundle::mutual(&own, &[&own]).protocol(protocol);
        let server = bundle.first();
        bundle.options.session_timeout = Duration::ZERO;
        let client = bundle.first();
        for _ in 0..2 {
            assert!(full(connect(&client, &server)), "{protocol:?}: offered after its end");
        }

        let timeout = Duration::from_secs(3600);
        let store = Arc::new(ClientSessions::new(8, timeout));
        let mut config = ClientConfig::clone(client.client_config());
        config.resumption = Resumption::store(Arc::clone(&store) as _);
        let config = Arc::new(config);
        assert!(full(connect_configs(&config, server.server_config().unwrap())));
        let received = Instant::now();
        // Each look takes a TLS 1.3 ticket, of which the server gives two.
        let offered = |now| match protocol {
            ProtocolVersion::Tls12 => store.tls12_at(&name, now).is_some(),
            ProtocolVersion::Tls13 => store.take_tls13_at(&name, now).is_some(),
        };
        assert!(offered(received), "{protocol:?}");
        assert!(!offered(received + timeout), "{protocol:?}");
        connect_configs(&config, server.server_config().unwrap()).unwrap();
        let kind = connect_configs(&config, server.server_config().unwrap());
        assert_eq!(kind, Ok(HandshakeKind::Resumed), "{protocol:?}: within the timeout");
    }
}

#[test]
fn new_credentials_under_the_same_trust_keep_the_sessions() {
    let root = Pair::self_signed(authority("root"));
    let other_root = Pair::self_signed(authority("other root"));
    for protocol in PROTOCOLS {
        let bundle = |own: &Pair, trusted: &[&Pair]| Bundle::mutual(own, trusted).protocol(protocol);
        let client = bundle(&root.sign(leaf("client", &[])), &[&root, &other_root]).first();
        let before = bundle(&root.sign(leaf("server", &[])), &[&root, &other_root]).first();
        assert!(full(connect(&client, &before)));

        // The truststore's order is not a change of trust.
        let after = bundle(&root.sign(leaf("server", &[])), &[&other_root, &root]).after(&before);
        assert_ne!(after.fingerprint(), before.fingerprint());
        assert!(after.keeps_sessions_of(&before));
        assert_eq!(connect(&client, &after), Ok(HandshakeKind::Resumed), "{protocol:?}");

        // The client's own new certificate has to be seen by the server.
        let renewed = bundle(&root.sign(leaf("client", &[])), &[&root, &other_root]).after(&client);
        assert!(full(connect(&renewed, &after)), "{protocol:?}");
        assert_eq!(connect(&renewed, &after), Ok(HandshakeKind::Resumed), "{protocol:?}");
    }
}

#[test]
fn files_written_again_with_the_same_content_change_nothing() {
    let own = Pair::self_signed(leaf("own", &[]));
    let bundle = Bundle::mutual(&own, &[&own]);
    let before = bundle.first();
    assert!(full(connect(&before, &before)));
    let after = bundle.after(&before);
    assert_eq!(after.number(), 2);
    assert_eq!(connect(&after, &after), Ok(HandshakeKind::Resumed));

    let anonymous = Bundle::new(None, Some(&own.certificate_pem())).client_auth(ClientAuth::None);
    let server = Bundle::mutual(&own, &[&own]).client_auth(ClientAuth::None).first();
    let before = anonymous.first();
    assert!(full(connect(&before, &server)));
    assert_eq!(connect(&anonymous.after(&before), &server), Ok(HandshakeKind::Resumed));
}
