//! Generations against each other in memory: what the canary lets through, and which sessions survive which change.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod overlap;

use std::time::{Duration, Instant};

use rustls::{
    ClientConnection, ConnectionCommon, Error, HandshakeKind, ServerConnection, SideData,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};
use zeroize::Zeroizing;

use super::*;
use crate::{
    Leniency, Password, ProtocolVersion, Secret, StoreOptions,
    session::client::ClientSessions,
    store::testing::{Pair, authority, leaf},
};

const PROTOCOLS: [ProtocolVersion; 2] = [ProtocolVersion::Tls12, ProtocolVersion::Tls13];

/// A bundle and its files, both in PEM; `Required` and without host names, as for internal connections.
struct Bundle {
    options: BundleOptions,
    files: Files,
}

impl Bundle {
    fn new(keystore: Option<&str>, truststore: Option<&str>) -> Self {
        let mut options = BundleOptions::new("internal");
        let mut files = Files::default();
        let mut store = |path: &str, content: Option<&str>| {
            let content = content?;
            files.map.insert(path.into(), Zeroizing::new(content.into()));
            Some(StoreOptions::new(path, Password::None))
        };
        options.keystore = store("/tls/keystore.pem", keystore);
        options.truststore = store("/tls/truststore.pem", truststore);
        options.verify_hostname = false;
        if options.truststore.is_some() {
            options.client_auth = ClientAuth::Required;
        }
        Self { options, files }
    }

    /// Identity `own`, believing `trusted`.
    fn mutual(own: &Pair, trusted: &[&Pair]) -> Self {
        let trusted: String = trusted.iter().map(|pair| pair.certificate_pem()).collect();
        Self::new(Some(&own.keystore(&[])), Some(&trusted))
    }

    fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.options.client_auth = client_auth;
        self
    }

    fn protocol(mut self, protocol: ProtocolVersion) -> Self {
        self.options.protocols = vec![protocol];
        self
    }

    fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.map.insert(path.into(), Zeroizing::new(content.to_vec()));
        self
    }

    /// With these revocation lists.
    fn crl(mut self, lists: &[rcgen::CertificateRevocationList]) -> Self {
        self.options.crl = Some("/tls/crl.pem".into());
        let pem: String = lists.iter().map(|list| list.pem().unwrap()).collect();
        self.file("/tls/crl.pem", pem.as_bytes())
    }

    /// With this file of pins.
    fn pins_file(mut self, content: &str) -> Self {
        self.options.pins_file = Some("/tls/pins".into());
        self.file("/tls/pins", content.as_bytes())
    }

    fn build(&self) -> Result<Generation, MaterialError> {
        Generation::build(&self.options, &self.files, 1, None)
    }

    fn first(&self) -> Generation {
        self.build().unwrap()
    }

    fn after(&self, previous: &Generation) -> Generation {
        Generation::build(&self.options, &self.files, previous.number() + 1, Some(previous)).unwrap()
    }
}

fn error(result: Result<Generation, MaterialError>) -> String {
    result.expect_err("must not build").to_string()
}

/// A handshake to its very end, tickets included; what kind it was, or which side refused what.
fn connect(client: &Generation, server: &Generation) -> Result<HandshakeKind, (&'static str, Rejection)> {
    connect_configs(client.client_config(), server.server_config().unwrap())
}

fn connect_configs(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<HandshakeKind, (&'static str, Rejection)> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        transfer(&mut client, &mut server).map_err(|error| ("server", Rejection::from_tls(&error).unwrap()))?;
        transfer(&mut server, &mut client).map_err(|error| ("client", Rejection::from_tls(&error).unwrap()))?;
    }
    assert_eq!(client.handshake_kind(), server.handshake_kind());
    Ok(client.handshake_kind().unwrap())
}

fn transfer<A: SideData, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), Error> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut unread = bytes.as_slice();
    while !unread.is_empty() {
        to.read_tls(&mut unread).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

fn full(kind: Result<HandshakeKind, (&'static str, Rejection)>) -> bool {
    matches!(kind, Ok(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest))
}

#[test]
fn flinks_own_keytool_recipe_makes_a_mutual_connection() {
    let store = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keytool.p12"));
    let mut bundle = Bundle::new(Some(""), Some(""));
    let password = Password::File("/tls/password".into());
    let options =
        StoreOptions { key_password: Some(password.clone()), ..StoreOptions::new("/tls/internal.keystore", password) };
    bundle.options.keystore = Some(options.clone());
    bundle.options.truststore = Some(options);
    bundle.files.map.insert("/tls/internal.keystore".into(), Zeroizing::new(store.to_vec()));
    bundle.files.map.insert("/tls/password".into(), Zeroizing::new(b"store_password\n".to_vec()));
    let generation = bundle.first();
    assert_eq!(generation.subject(), Some("CN=flink.internal"));
    assert_eq!(generation.fingerprint(), generation.leaf().map(|leaf| Fingerprint::sha256_of(leaf)));
    assert!(generation.not_before().unwrap() < generation.not_after().unwrap());
    assert!(full(connect(&generation, &generation)));

    bundle.files.map.insert("/tls/password".into(), Zeroizing::default());
    assert!(error(bundle.build()).contains("/tls/password is empty"));
    bundle.files.map.insert("/tls/password".into(), Zeroizing::new(b"wrong".to_vec()));
    assert!(error(bundle.build()).contains("keystore /tls/internal.keystore: wrong password"));
}

#[test]
fn a_bundle_for_both_sides_must_believe_itself() {
    let own = Pair::self_signed(leaf("own", &[]));
    let other = Pair::self_signed(leaf("other", &[]));
    let reason = error(Bundle::mutual(&own, &[&other]).build());
    assert!(reason.contains("self-test") && reason.contains("not trusted"), "{reason}");
    Bundle::mutual(&own, &[&other, &own]).first();
    // A server whose clients have a bundle of their own need not.
    for client_auth in [ClientAuth::Optional, ClientAuth::None] {
        Bundle::mutual(&own, &[&other]).client_auth(client_auth).first();
    }
}

#[test]
fn expired_material_is_not_taken_for_both_sides() {
    let mut params = leaf("own", &[]);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let own = Pair::self_signed(params);
    let reason = error(Bundle::mutual(&own, &[&own]).build());
    assert!(reason.contains("expired"), "{reason}");
}

#[test]
fn one_sided_bundles_have_one_side() {
    let own = Pair::self_signed(leaf("rest", &["localhost"]));
    let server = Bundle::new(Some(&own.keystore(&[])), None).first();
    let client = Bundle::new(None, Some(&own.certificate_pem())).client_auth(ClientAuth::None);
    let client = client.first();
    assert!(client.server_config().is_none() && client.fingerprint().is_none());
    assert!(full(connect(&client, &server)));
    assert_eq!(connect(&server, &server), Err(("client", Rejection::NoTruststore)));
}

#[test]
fn contradictory_options_are_named() {
    let own = Pair::self_signed(leaf("own", &[]));
    assert!(error(Bundle::new(None, None).build()).contains("neither a keystore nor a truststore"));
    let no_trust = Bundle::new(Some(&own.keystore(&[])), None).client_auth(ClientAuth::Optional);
    assert!(error(no_trust.build()).contains("no truststore"));
    let mut key_of_trust = Bundle::mutual(&own, &[&own]);
    key_of_trust.options.truststore.as_mut().unwrap().private_key = Some("/tls/tls.key".into());
    assert!(error(key_of_trust.build()).contains("only a keystore can have"));
    let mut no_protocol = Bundle::mutual(&own, &[&own]);
    no_protocol.options.protocols.clear();
    assert!(error(no_protocol.build()).contains("protocol"));
    let mut missing = Bundle::mutual(&own, &[&own]);
    missing.files.map.clear();
    assert!(error(missing.build()).contains("cannot read /tls/keystore.pem"));
}

#[test]
fn a_client_without_a_certificate_gets_in_only_where_it_may() {
    let root = Pair::self_signed(authority("root"));
    let own = root.sign(leaf("own", &[]));
    let anonymous = Bundle::new(None, Some(&root.certificate_pem())).first();
    let stranger = Pair::self_signed(leaf("stranger", &[]));
    let stranger = Bundle::mutual(&stranger, &[&root, &stranger]).first();
    for (client_auth, without, untrusted) in [
        (ClientAuth::None, None, None),
        (ClientAuth::Optional, None, Some(Rejection::Untrusted)),
        (ClientAuth::Required, Some(Rejection::NoCertificate), Some(Rejection::Untrusted)),
    ] {
        let server = Bundle::mutual(&own, &[&root]).client_auth(client_auth).first();
        for (client, expected) in [(&anonymous, without), (&stranger, untrusted)] {
            let refusal = connect(client, &server).err();
            assert_eq!(refusal, expected.map(|rejection| ("server", rejection)), "{client_auth:?}");
        }
    }
}

#[test]
fn a_copied_certificate_is_worth_nothing_without_its_key() {
    let own = Pair::self_signed(leaf("own", &[]));
    let thief = Pair::self_signed(leaf("thief", &[]));
    for protocol in PROTOCOLS {
        let honest = Bundle::mutual(&own, &[&own]).protocol(protocol).first();
        let key = PrivateKeyDer::from_pem_slice(thief.key_pem().as_bytes()).unwrap();
        let stolen = Arc::new(CertifiedKey::new(vec![own.der()], aws_lc_rs::sign::any_supported_type(&key).unwrap()));
        let resolver = Arc::new(SingleCertAndKey::from(stolen));

        let mut server = ServerConfig::clone(honest.server_config().unwrap());
        server.cert_resolver = Arc::clone(&resolver) as _;
        let refusal = connect_configs(honest.client_config(), &Arc::new(server));
        assert_eq!(refusal, Err(("client", Rejection::HandshakeSignature)), "{protocol:?}");

        let mut client = ClientConfig::clone(honest.client_config());
        client.client_auth_cert_resolver = resolver;
        let refusal = connect_configs(&Arc::new(client), honest.server_config().unwrap());
        assert_eq!(refusal, Err(("server", Rejection::HandshakeSignature)), "{protocol:?}");
    }
}

#[test]
fn live_peers_are_judged_again() {
    let root = Pair::self_signed(authority("root"));
    let own = root.sign(leaf("own", &["localhost"]));
    let mut bundle = Bundle::mutual(&own, &[&root]);
    let localhost = ServerName::try_from("localhost").unwrap();
    let elsewhere = ServerName::try_from("elsewhere").unwrap();
    let chain = [own.der()];

    let lenient = bundle.first();
    assert_eq!(lenient.judge_client(&chain, UnixTime::now()), Ok(()));
    assert_eq!(lenient.judge_server(&chain, &elsewhere, UnixTime::now()), Ok(()), "host names are not verified");
    assert_eq!(lenient.judge_client(&[], UnixTime::now()), Err(Rejection::NoCertificate));

    bundle.options.verify_hostname = true;
    let strict = bundle.first();
    assert_eq!(strict.judge_server(&chain, &localhost, UnixTime::now()), Ok(()));
    let refusal = strict.judge_server(&chain, &elsewhere, UnixTime::now());
    assert!(matches!(refusal, Err(Rejection::WrongName { .. })), "{refusal:?}");
    assert!(full(connect(&strict, &strict)), "the handshake goes to localhost");
}

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
        generation.accepts_until(&[two.der()], PeerRole::Client, within),
        Some(end),
        "a live connection ends with its pin"
    );
    let broken = Bundle::mutual(&own, &[&root]).pins_file("\nnonsense");
    assert!(error(broken.build()).starts_with("pin file /tls/pins, line 2: "));
    assert!(error(Bundle::mutual(&own, &[&root]).pins_file("# none").build()).contains("pins nothing"));
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
fn a_version_1_pair_makes_a_mutual_connection_where_it_is_granted() {
    let pem = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openssl-v1.pem"));
    let mut bundle = Bundle::new(Some(pem), Some(pem));
    let reason = error(bundle.build());
    assert!(reason.contains("version 1") && reason.contains("\"x509v1\""), "{reason}");
    for protocol in PROTOCOLS {
        bundle.options.leniency.x509v1 = true;
        bundle.options.protocols = vec![protocol];
        let generation = bundle.first();
        assert!(full(connect(&generation, &generation)), "{protocol:?}");

        // With its key replaced the signature is of another key, and no leniency helps.
        let thief = Pair::self_signed(leaf("thief", &[]));
        let key = PrivateKeyDer::from_pem_slice(thief.key_pem().as_bytes()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        let stolen = Arc::new(CertifiedKey::new(vec![generation.leaf().unwrap().clone()], key));
        let mut server = ServerConfig::clone(generation.server_config().unwrap());
        server.cert_resolver = Arc::new(SingleCertAndKey::from(stolen));
        // Of a generation without sessions: a resumed one would not be shown the signature.
        let refusal = connect_configs(bundle.first().client_config(), &Arc::new(server));
        assert_eq!(refusal, Err(("client", Rejection::HandshakeSignature)), "{protocol:?}");
    }
}

#[test]
fn an_expired_pair_makes_a_mutual_connection_where_it_is_granted() {
    let mut params = leaf("own", &[]);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let own = Pair::self_signed(params);
    let mut bundle = Bundle::mutual(&own, &[&own]);
    bundle.options.leniency.expired = true;
    let generation = bundle.first();
    assert!(full(connect(&generation, &generation)));
    assert_eq!(generation.accepts_until(&[own.der()], PeerRole::Client, UnixTime::now()), None);
}

#[test]
fn an_own_key_that_is_too_small_names_the_option() {
    let pem = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/trust/rsa-1024.pem"));
    let reason = error(Bundle::new(Some(pem), Some(pem)).build());
    assert!(reason.starts_with("keystore /tls/keystore.pem: ") && reason.contains("2048"), "{reason}");
    let own = Pair::self_signed(leaf("own", &[]));
    let mut bundle = Bundle::mutual(&own, &[&own]);
    bundle.options.min_key.ec = 384;
    let reason = error(bundle.build());
    assert!(reason.contains("EC key has 256 bits") && reason.contains("minimum EC key size"), "{reason}");
    bundle.options.min_key = KeySizes { rsa: 1024, ec: 256 };
    assert!(error(bundle.build()).contains("minimum RSA key size to 2048"));
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

#[test]
fn a_hand_over_of_trust_lets_old_and_new_connect() {
    let [old, new] = [(); 2].map(|()| Pair::self_signed(leaf("flink.internal", &[])));
    let before = Bundle::mutual(&old, &[&old, &new]).first();
    let after = Bundle::mutual(&new, &[&old, &new]).after(&before);
    assert!(full(connect(&before, &after)));
    assert!(full(connect(&after, &before)));
}

#[test]
fn nothing_secret_is_printed() {
    let own = Pair::self_signed(leaf("own", &[]));
    let mut bundle = Bundle::mutual(&own, &[&own]);
    let secret = Secret::new("hunter2".into());
    bundle.options.keystore.as_mut().unwrap().password = Password::Inline(secret);
    let printed = format!("{:?} {:?} {:?}", bundle.first(), bundle.files, bundle.options);
    let key_line = own.key_pem().lines().nth(1).unwrap().to_owned();
    assert!(!printed.contains("hunter2") && !printed.contains(&key_line), "{printed}");
    assert!(printed.contains("CN=own"), "{printed}");
}
