//! Generations against each other in memory: what the canary lets through, and which sessions survive which change.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod overlap;
mod revocation;
mod sessions;

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
    assert_eq!(generation.judge(&[own.der()], PeerRole::Client, None, UnixTime::now()), Ok(None));
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
