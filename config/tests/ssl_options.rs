//! What the `security.ssl.*` options do to real files and connections, one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use config::Configuration;
use config::tls::{
    Internal, internal_context, internal_endpoint, rest_client_context, rest_endpoint, rest_server_context,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, RevokedCertParams, date_time_ymd,
};
use std::fs;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tempfile::TempDir;
use tls_common::{Connection, Endpoint, Fingerprint, HandshakeError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Made by Java's keytool, opened by `store_password`.
const KEYTOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tls-common/tests/fixtures/keytool.p12");

const OWN: u64 = 1;
const OTHER: u64 = 2;

/// A CA that made `own.pem` (serial number 1, for 127.0.0.1) and `other.pem` (2, for nobody), `trust.pem` with it.
struct Material {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
    own: Fingerprint,
    other: Fingerprint,
}

impl Material {
    fn new() -> Self {
        let mut root = params("root", 0, &[]);
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("trust.pem"), root.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(root, key);
        let [own, other] =
            [("own", OWN, ["127.0.0.1"].as_slice()), ("other", OTHER, &[])].map(|(name, serial, names)| {
                let key = KeyPair::generate().unwrap();
                let certificate = params(name, serial, names).signed_by(&key, &issuer).unwrap();
                fs::write(directory.path().join(format!("{name}.pem")), key.serialize_pem() + &certificate.pem())
                    .unwrap();
                Fingerprint::sha256_of(certificate.der())
            });
        Self { directory, issuer, own, other }
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn crl(&self, revoked: &[u64]) -> String {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2200, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write("crl.pem", &list.signed_by(&self.issuer).unwrap().pem().unwrap())
    }

    /// Everything on, with the identity `own.pem`, and `more` over it.
    fn configuration(&self, more: Pairs<'_>) -> Configuration {
        configuration(self.directory.path(), "own.pem", more)
    }

    /// The same with the identity `other.pem`.
    fn of_other(&self, more: Pairs<'_>) -> Configuration {
        configuration(self.directory.path(), "other.pem", more)
    }
}

fn params(name: &str, serial: u64, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial.into());
    params
}

fn configuration(directory: &Path, identity: &str, more: Pairs<'_>) -> Configuration {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let base = [
        ("security.ssl.internal.enabled", "true".to_owned()),
        ("security.ssl.rest.enabled", "true".to_owned()),
        ("security.ssl.keystore", path(identity)),
        ("security.ssl.truststore", path("trust.pem")),
    ];
    let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
    Configuration::from_pairs(base.into_iter().chain(more)).unwrap()
}

async fn internal(configuration: &Configuration) -> Endpoint {
    let context = internal_context(configuration).await.unwrap();
    internal_endpoint(configuration, Internal::Rpc, context.as_ref()).unwrap()
}

async fn gateway(configuration: &Configuration) -> Endpoint {
    let context = rest_server_context(configuration).await.unwrap();
    rest_endpoint(configuration, context.as_ref()).unwrap()
}

async fn rest_client(configuration: &Configuration) -> Endpoint {
    let context = rest_client_context(configuration).await.unwrap();
    rest_endpoint(configuration, context.as_ref()).unwrap()
}

/// One connection of `client` to `server` with a byte over it, or what the refusing sides say.
async fn meet(server: &Endpoint, client: &Endpoint) -> Result<(Connection, Connection), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepting = async {
        let (tcp, peer) = listener.accept().await.unwrap();
        server.acceptor(&["test"]).accept(tcp, peer).await
    };
    let connector = client.connector(&["test"]);
    let (accepted, connected) = tokio::join!(accepting, connector.connect("127.0.0.1", port));
    let (mut accepted, mut connected) = match (accepted, connected) {
        (Ok(accepted), Ok(connected)) => (accepted, connected),
        (Err(server), Ok(_)) => return Err(format!("server: {server}")),
        (Ok(_), Err(client)) => return Err(format!("client: {client}")),
        (Err(server), Err(client)) => return Err(format!("server: {server}; client: {client}")),
    };
    accepted.write_all(b"!").await.unwrap();
    accepted.flush().await.unwrap();
    assert_eq!(connected.read_u8().await.unwrap(), b'!');
    Ok((accepted, connected))
}

async fn refusal(server: &Endpoint, client: &Endpoint) -> String {
    match meet(server, client).await {
        Ok(_) => "no refusal".to_owned(),
        Err(refusal) => refusal,
    }
}

#[tokio::test]
async fn protocol_and_algorithms_are_what_is_spoken() {
    let material = Material::new();
    let with = async |more: Pairs<'_>| internal(&material.configuration(more)).await;
    let tls12 = with(&[("security.ssl.protocol", "TLSv1.2")]).await;
    let tls13 = with(&[("security.ssl.protocol", "TLSv1.3")]).await;
    let both = with(&[]).await;
    meet(&tls12, &both).await.unwrap();
    meet(&both, &tls13).await.unwrap();
    assert_ne!(refusal(&tls12, &tls13).await, "no refusal");
    let suite = |name: &'static str| [("security.ssl.algorithms", name)];
    let aes128 = with(&suite("TLS_AES_128_GCM_SHA256")).await;
    let aes256 = with(&suite("TLS_AES_256_GCM_SHA384")).await;
    meet(&aes128, &both).await.unwrap();
    meet(&both, &aes256).await.unwrap();
    assert_ne!(refusal(&aes128, &aes256).await, "no refusal");
}

#[tokio::test]
async fn fingerprints_of_option_and_file_choose_among_the_trusted() {
    let material = Material::new();
    let own = material.own.to_string();
    let with_other = material.write("pins", &format!("# ours\n{}\n", material.other));
    let other = internal(&material.of_other(&[])).await;
    let narrow = [("security.ssl.internal.cert.fingerprint", own.as_str())];
    let wide = [narrow[0], ("security.ssl.internal.cert.fingerprint-file", with_other.as_str())];
    let refused = refusal(&internal(&material.configuration(&narrow)).await, &other).await;
    assert!(refused.contains("server: ") && refused.contains("fingerprint"), "{refused}");
    meet(&internal(&material.configuration(&wide)).await, &other).await.unwrap();

    let server = gateway(&material.configuration(&[])).await;
    for (pin, expected) in [(material.own, true), (material.other, false)] {
        let pin = pin.to_string();
        let file = material.write("rest-pins", &pin);
        for (key, value) in [("cert.fingerprint", pin.as_str()), ("cert.fingerprint-file", &file)] {
            let key = format!("security.ssl.rest.{key}");
            let client = rest_client(&material.configuration(&[(&key, value)])).await;
            assert_eq!(meet(&server, &client).await.is_ok(), expected, "{key}");
        }
    }
}

#[tokio::test]
async fn revoked_peers_are_refused_and_strictness_wants_to_know() {
    let material = Material::new();
    let other = internal(&material.of_other(&[])).await;
    let crl = material.crl(&[OTHER]);
    let listed = internal(&material.configuration(&[("security.ssl.internal.crl", &crl)])).await;
    let refused = refusal(&listed, &other).await;
    assert!(refused.contains("server: ") && refused.contains("revoked"), "{refused}");
    meet(&listed, &internal(&material.configuration(&[])).await).await.unwrap();

    let crl = material.crl(&[OWN]);
    let server = gateway(&material.configuration(&[])).await;
    let client = rest_client(&material.configuration(&[("security.ssl.rest.crl", &crl)])).await;
    assert!(refusal(&server, &client).await.contains("revoked"));

    let stranger = Material::new();
    let foreign = stranger.crl(&[]);
    for (strict, expected) in [("false", true), ("true", false)] {
        let more = [("security.ssl.rest.crl", foreign.as_str()), ("security.ssl.rest.crl-strict", strict)];
        let client = rest_client(&material.configuration(&more)).await;
        assert_eq!(meet(&server, &client).await.is_ok(), expected, "strict: {strict}");
    }
    let more = [("security.ssl.crl", foreign.as_str()), ("security.ssl.internal.crl-strict", "true")];
    let error = internal_context(&material.configuration(&more)).await.unwrap_err().to_string();
    assert!(error.contains("self-test") && error.contains("revocation list"), "{error}");
}

#[tokio::test]
async fn what_java_would_accept_is_accepted_by_name() {
    let material = Material::new();
    let mut expired = params("expired", 3, &[]);
    expired.not_after = date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().unwrap();
    let pem = key.serialize_pem() + &expired.self_signed(&key).unwrap().pem();
    let store = material.write("expired.pem", &pem);
    let stores = [("security.ssl.internal.keystore", store.as_str()), ("security.ssl.internal.truststore", &store)];
    let error = internal_context(&material.configuration(&stores)).await.unwrap_err().to_string();
    assert!(error.contains("\"expired\""), "{error}");
    let lenient = [stores[0], stores[1], ("security.ssl.lenient", "expired")];
    let endpoint = internal(&material.configuration(&lenient)).await;
    meet(&endpoint, &endpoint).await.unwrap();
}

#[tokio::test]
async fn small_keys_are_refused() {
    let material = Material::new();
    let server = gateway(&material.configuration(&[])).await;
    let client = rest_client(&material.configuration(&[("security.ssl.min-ec-key-size", "384")])).await;
    let refused = refusal(&server, &client).await;
    assert!(refused.contains("client: ") && refused.contains("256 bits"), "{refused}");
    let larger = [
        ("security.ssl.internal.keystore", KEYTOOL),
        ("security.ssl.internal.truststore", KEYTOOL),
        ("security.ssl.keystore-password", "store_password"),
        ("security.ssl.truststore-password", "store_password"),
        ("security.ssl.min-rsa-key-size", "3072"),
    ];
    let error = internal_context(&material.configuration(&larger)).await.unwrap_err().to_string();
    assert!(error.contains("RSA key has 2048 bits"), "{error}");
}

#[tokio::test]
async fn host_names_count_for_rest_unless_switched_off() {
    let material = Material::new();
    let nameless = gateway(&material.of_other(&[])).await;
    let refused = refusal(&nameless, &rest_client(&material.configuration(&[])).await).await;
    assert!(refused.contains("is not for"), "{refused}");
    let off = [("security.ssl.rest.verify-hostname", "false")];
    meet(&nameless, &rest_client(&material.configuration(&off)).await).await.unwrap();
}

#[tokio::test]
async fn with_authentication_the_gateway_wants_a_certificate() {
    let material = Material::new();
    let on = [("security.ssl.rest.authentication-enabled", "true")];
    let (anonymous, known) =
        (rest_client(&material.configuration(&[])).await, rest_client(&material.configuration(&on)).await);
    let server = gateway(&material.configuration(&on)).await;
    assert!(refusal(&server, &anonymous).await.contains("server: "));
    let (accepted, _client) = meet(&server, &known).await.unwrap();
    assert!(accepted.info().peer().is_some());
    let (accepted, _client) = meet(&gateway(&material.configuration(&[])).await, &anonymous).await.unwrap();
    assert!(accepted.info().peer().is_none());
}

#[tokio::test]
async fn a_store_must_be_of_its_type() {
    let material = Material::new();
    for (store, part) in [("keystore", "keystore"), ("truststore", "truststore")] {
        for (kind, works) in [("pem", true), ("auto", true), ("pkcs12", false)] {
            let key = format!("security.ssl.internal.{store}-type");
            let loaded = internal_context(&material.configuration(&[(&key, kind)])).await;
            assert_eq!(loaded.is_ok(), works, "{key}: {kind}");
            let key = format!("security.ssl.rest.{store}-type");
            let configuration = material.configuration(&[(&key, kind)]);
            let result = match part {
                "keystore" => rest_server_context(&configuration).await.err(),
                _ => rest_client_context(&configuration).await.err(),
            };
            assert_eq!(result.is_none(), works, "{key}: {kind}");
            if let Some(error) = result {
                assert!(error.to_string().contains("configured as PKCS12, but the file is PEM"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn passwords_open_stores_given_in_line_or_in_a_file() {
    let material = Material::new();
    let file = material.write("password", "store_password\n");
    for side in ["internal", "rest"] {
        let key = |name: &str| format!("security.ssl.{side}.{name}");
        let (keystore, truststore) = (key("keystore"), key("truststore"));
        let [password, trust_password] = ["keystore-password", "truststore-password"].map(key);
        let [password_file, trust_password_file] = ["keystore-password-file", "truststore-password-file"].map(key);
        let [key_password, key_password_file] = ["key-password", "key-password-file"].map(key);
        let load = async |more: Pairs<'_>| {
            let stores = [(keystore.as_str(), KEYTOOL), (&truststore, KEYTOOL)];
            let configuration = material.configuration(&[&stores, more].concat());
            match side {
                "internal" => internal_context(&configuration).await.map(drop).map_err(|error| error.to_string()),
                _ => {
                    let server = rest_server_context(&configuration).await.map(drop);
                    let client = rest_client_context(&configuration).await.map(drop);
                    server.and(client).map_err(|error| error.to_string())
                }
            }
        };
        assert!(load(&[]).await.unwrap_err().contains("a password is needed"), "{side}");
        let right = [(password.as_str(), "store_password"), (&trust_password, "store_password")];
        load(&right).await.unwrap();
        load(&[(&password_file, &file), (&trust_password_file, &file)]).await.unwrap();
        let wrong_store = load(&[(&password, "wrong"), right[1]]).await.unwrap_err();
        assert!(wrong_store.contains("keystore") && wrong_store.contains("wrong password"), "{side}: {wrong_store}");
        let wrong_trust = load(&[right[0], (&trust_password, "wrong")]).await.unwrap_err();
        assert!(wrong_trust.contains("truststore") && wrong_trust.contains("wrong password"), "{side}: {wrong_trust}");
        // PKCS12 has one password for all: the key's alone opens the store.
        load(&[(&key_password, "store_password"), right[1]]).await.unwrap();
        load(&[(&key_password_file, &file), right[1]]).await.unwrap();
    }
}

#[tokio::test]
async fn sessions_are_kept_as_many_and_as_long_as_the_options_say() {
    let material = Material::new();
    for (more, resumed) in [
        ([("security.ssl.internal.session-cache-size", "16")].as_slice(), true),
        (&[("security.ssl.internal.session-cache-size", "0")], false),
        (&[("security.ssl.internal.session-timeout", "1 h")], true),
        (&[("security.ssl.internal.session-timeout", "0")], false),
    ] {
        let server = internal(&material.configuration(more)).await;
        let client = internal(&material.configuration(&[])).await;
        meet(&server, &client).await.unwrap();
        let (again, _client) = meet(&server, &client).await.unwrap();
        assert_eq!(again.is_resumed(), resumed, "at the server: {more:?}");

        let server = internal(&material.configuration(&[])).await;
        let client = internal(&material.configuration(more)).await;
        meet(&server, &client).await.unwrap();
        let (again, _client) = meet(&server, &client).await.unwrap();
        assert_eq!(again.is_resumed(), resumed, "at the client: {more:?}");
    }
}

#[tokio::test]
async fn a_silent_peer_is_given_up_after_the_handshake_timeout() {
    let material = Material::new();
    let endpoint = internal(&material.configuration(&[("security.ssl.internal.handshake-timeout", "30 ms")])).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, peer) = listener.accept().await.unwrap();
    let error = endpoint.acceptor(&["test"]).accept(tcp, peer).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Timeout(limit) if limit == Duration::from_millis(30)), "{error}");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_waited_for_as_long_as_the_close_notify_timeout() {
    let material = Material::new();
    let more = [("security.ssl.internal.close-notify-flush-timeout", "1234 s")];
    let endpoint = internal(&material.configuration(&more)).await;
    // The kernel may move bytes on after a write had to wait, and so make room for a close: then that was no try.
    for _ in 0..100 {
        let (mut accepted, _does_not_read) = meet(&endpoint, &endpoint).await.unwrap();
        fill(&mut accepted).await;
        // From here on nothing but the timeout is left to happen, and time jumps to it.
        tokio::time::pause();
        let before = tokio::time::Instant::now();
        let closed = accepted.shutdown().await;
        let waited = before.elapsed();
        tokio::time::resume();
        if let Err(error) = closed {
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
            assert!((1234..1236).contains(&waited.as_secs()), "{waited:?}, of which none went by");
            return;
        }
    }
    panic!("a peer that does not read was never waited for");
}

/// Writes until every buffer on the way to the peer is full.
async fn fill(connection: &mut Connection) {
    let block = vec![0; 64 * 1024];
    loop {
        let mut write = pin!(tokio::task::unconstrained(connection.write(&block)));
        if poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_pending())).await {
            return;
        }
    }
}

#[tokio::test]
async fn nothing_is_watched_without_reload() {
    let material = Material::new();
    for (reload, watching) in [("false", false), ("true", true)] {
        let configuration = material.configuration(&[("security.ssl.reload", reload)]);
        assert_eq!(internal_context(&configuration).await.unwrap().unwrap().status().watching, watching);
    }
}
