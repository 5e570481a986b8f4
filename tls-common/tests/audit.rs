//! Who connected, who was refused, who had to go: each leaves one record with everything there is to know.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use rcgen::{DnType, SanType, string::Ia5String};
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use support::log::Log;
use support::{Bundle, Pair, echo, quick, serves};
use tls_common::{
    BundleOptions, Connection, ConnectionPolicy, Endpoint, EstablishedConnections, Fingerprint, HandshakeLimits,
    Listener, ProtocolVersion, TlsContext, serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const ALPN: &[&str] = &["echo"];

/// No handshake of these tests fails for want of time, however slow the machine.
fn patient() -> HandshakeLimits {
    HandshakeLimits { timeout: Duration::from_secs(60), ..Default::default() }
}

async fn endpoint(name: &str, options: BundleOptions) -> Endpoint {
    let context = TlsContext::load(options, None).await.unwrap();
    Endpoint::new(name, Some(context), ConnectionPolicy::default(), patient())
}

fn named(name: &str, sans: &[&str]) -> Pair {
    Pair::made(&[], |params| {
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names =
            sans.iter().map(|san| SanType::DnsName(Ia5String::try_from(*san).unwrap())).collect();
    })
}

async fn start<F: Future<Output = ()> + Send + 'static>(
    endpoint: &Endpoint,
    handler: impl Fn(Connection) -> F + Clone + Send + Sync + 'static,
) -> (SocketAddr, CancellationToken) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let (address, stop) = (listener.local_addr(), CancellationToken::new());
    tokio::spawn(serve(listener, endpoint.acceptor(ALPN), stop.clone(), handler));
    (address, stop)
}

async fn ping(connection: &mut Connection) -> std::io::Result<()> {
    connection.write_all(b"ping").await?;
    connection.flush().await?;
    connection.read_exact(&mut [0; 4]).await.map(drop)
}

async fn connected(endpoint: &Endpoint, address: SocketAddr) -> Connection {
    let mut connection = endpoint.connector(ALPN).connect("127.0.0.1", address.port()).await.unwrap();
    ping(&mut connection).await.unwrap();
    connection
}

/// Connects and is refused, at once or, with TLS 1.3, at the first read.
async fn refused(endpoint: &Endpoint, address: SocketAddr) {
    if let Ok(mut connection) = endpoint.connector(ALPN).connect("127.0.0.1", address.port()).await {
        assert!(ping(&mut connection).await.is_err(), "not refused");
    }
}

fn absent(record: &Value, fields: &[&str]) {
    fields.iter().for_each(|field| assert_eq!(record.get(field), None, "{field} in {record}"));
}

#[tokio::test]
async fn a_handshake_is_recorded_by_both_sides_with_all_they_settled_on() {
    for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        let log = Log::json();
        let (server, client) = (named("server, Inc", &["server.example"]), named("client", &[]));
        let (serving, dialling) =
            (Bundle::new(&server, &[&server, &client]), Bundle::new(&client, &[&client, &server]));
        let options = |bundle: &Bundle| BundleOptions { protocols: vec![version], ..bundle.options() };
        let (serving, dialling) =
            (endpoint("serving", options(&serving)).await, endpoint("dialling", options(&dialling)).await);
        let (address, _stop) = start(&serving, echo).await;
        let first = connected(&dialling, address).await;
        let second = connected(&dialling, address).await;
        assert!(!first.is_resumed() && second.is_resumed());

        let accepted = log.audited("serving", "handshake", 2).await;
        let dialled = log.audited("dialling", "handshake", 2).await;
        for (index, record) in accepted.iter().chain(&dialled).enumerate() {
            assert_eq!(record["generation"], 1);
            let (name, suite) = match version {
                ProtocolVersion::Tls12 => ("TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES"),
                ProtocolVersion::Tls13 => ("TLSv1.3", "TLS_AES_"),
            };
            assert_eq!(record["protocol"], name);
            assert!(record["cipher_suite"].as_str().unwrap().starts_with(suite), "{record}");
            let resumed = index % 2 == 1;
            assert_eq!(record["handshake"], if resumed { "resumed" } else { "full" });
            match (version, resumed) {
                (ProtocolVersion::Tls12, true) => absent(record, &["group"]),
                (ProtocolVersion::Tls12, false) => assert_eq!(record["group"], "X25519"),
                (ProtocolVersion::Tls13, _) => assert_eq!(record["group"], "X25519MLKEM768"),
            }
            absent(record, &["reason", "reason_code"]);
        }
        for (index, record) in accepted.iter().enumerate() {
            assert_eq!((&record["side"], &record["connection"]), (&json!("accepted"), &json!(index + 1)));
            assert_eq!(record["peer_fingerprint"], json!(client.fingerprint()));
            assert_eq!(record["peer_subject"], "CN=client");
            absent(record, &["peer_sans", "server_name"]);
            assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
        }
        for record in &dialled {
            assert_eq!((&record["side"], &record["server_name"]), (&json!("dialled"), &json!("127.0.0.1")));
            assert_eq!(record["peer_fingerprint"], json!(server.fingerprint()));
            assert_eq!(record["peer_subject"], "CN=server\\, Inc");
            assert_eq!(record["peer_sans"], "DNS:server.example");
            assert_eq!(record["peer"], json!(address.to_string()));
        }
    }
}

#[tokio::test]
async fn a_handshake_with_a_retried_hello_is_called_so() {
    let log = Log::json();
    let server = named("server", &["server.example"]);
    let bundle = Bundle::new(&server, &[&server]);
    let options = BundleOptions { client_auth: tls_common::ClientAuth::None, ..bundle.options() };
    let serving = endpoint("serving", options).await;
    let (address, _stop) = start(&serving, echo).await;
    // A client whose first key share the server cannot use, although it could use another one.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups =
        vec![rustls::crypto::aws_lc_rs::kx_group::MLKEM768, rustls::crypto::aws_lc_rs::kx_group::SECP256R1];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(server.cert.clone())).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("server.example").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    let record = log.audited("serving", "handshake", 1).await.remove(0);
    assert_eq!((&record["handshake"], &record["group"]), (&json!("full_with_hello_retry"), &json!("secp256r1")));
    absent(&record, &["peer_fingerprint", "peer_subject", "peer_sans"]);
}

#[tokio::test]
async fn a_rejection_is_recorded_with_the_certificate_that_was_shown() {
    let (server, stranger) = (Pair::new(), named("stranger", &["stranger.example"]));
    for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
        let log = Log::json();
        let bundle = Bundle::new(&server, &[&server]);
        let serving = endpoint("serving", bundle.options()).await;
        let (address, _stop) = start(&serving, echo).await;
        let own = Bundle::new(&stranger, &[&server, &stranger]);
        let dialling = endpoint("dialling", BundleOptions { protocols: vec![version], ..own.options() }).await;
        refused(&dialling, address).await;

        let record = log.audited("serving", "rejection", 1).await.remove(0);
        assert_eq!((&record["reason_code"], &record["side"]), (&json!("untrusted"), &json!("accepted")));
        assert_eq!(record["peer_fingerprint"], json!(stranger.fingerprint()));
        assert_eq!(record["peer_subject"], "CN=stranger");
        assert_eq!(record["peer_sans"], "DNS:stranger.example");
        assert_eq!(record["generation"], 1);
        assert!(record["reason"].as_str().unwrap().contains("not trusted"));
        absent(&record, &["connection"]);

        let record = log.audited("dialling", "rejection", 1).await.remove(0);
        assert_eq!((&record["reason_code"], &record["side"]), (&json!("refused_by_peer"), &json!("dialled")));
        assert_eq!(record["peer_fingerprint"], json!(server.fingerprint()));
        // With TLS 1.3 it was a connection by then.
        assert_eq!(record.get("connection"), (version == ProtocolVersion::Tls13).then_some(&json!(1)));
        for endpoint in [&serving, &dialling] {
            let code = if endpoint.status().endpoint == "serving" { "untrusted" } else { "refused_by_peer" };
            assert_eq!(endpoint.status().failed_by_reason, BTreeMap::from([(code.to_owned(), 1)]));
        }
    }
}

#[tokio::test]
async fn every_way_to_fail_has_its_code_and_its_counter() {
    let log = Log::json();
    let (server, client) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&server, &[&server, &client]);
    let pinned = BundleOptions { pins: vec![Fingerprint::sha256_of(&server.cert)], ..bundle.options() };
    let serving = endpoint("serving", pinned).await;
    let (address, _stop) = start(&serving, echo).await;

    // The server's side.
    let own = Bundle::new(&client, &[&client, &server]);
    refused(&endpoint("dialling", own.options()).await, address).await;
    let nameless = BundleOptions { keystore: None, ..own.options() };
    refused(&endpoint("dialling", nameless.clone()).await, address).await;
    TcpStream::connect(address).await.unwrap().write_all(&[0x47; 4096]).await.unwrap();
    drop(TcpStream::connect(address).await.unwrap());
    let codes = |records: &[Value]| {
        let mut counts = BTreeMap::new();
        let codes = records.iter().map(|record| record["reason_code"].as_str().unwrap().to_owned());
        codes.for_each(|code| *counts.entry(code).or_insert(0) += 1);
        counts
    };
    let counts = |codes: &[&str]| codes.iter().map(|code| ((*code).to_owned(), 1)).collect::<BTreeMap<_, u64>>();
    let records = log.audited("serving", "rejection", 4).await;
    assert_eq!(codes(&records), counts(&["pin", "no_certificate", "protocol", "io"]));
    assert_eq!(serving.status().failed_by_reason, counts(&["pin", "no_certificate", "protocol", "io"]));
    assert_eq!(serving.status().failed_handshakes, 4);

    // The client's side.
    let open = BundleOptions { client_auth: tls_common::ClientAuth::None, ..bundle.options() };
    let (address, _stop) = start(&endpoint("open", open).await, echo).await;
    let dialling = endpoint("choosy", BundleOptions { verify_hostname: true, ..nameless.clone() }).await;
    refused(&dialling, address).await;
    assert_eq!(dialling.status().failed_by_reason, counts(&["wrong_name"]));
    assert_eq!(log.audited("choosy", "rejection", 1).await[0]["peer_fingerprint"], json!(server.fingerprint()));
    // And one that only dials has nothing to serve with.
    let (address, _stop) = start(&dialling, echo).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(log.audited("choosy", "rejection", 2).await[1]["reason_code"], "no_identity");

    // Time: whatever else this one sees, it is too late.
    let hasty = HandshakeLimits { timeout: Duration::from_millis(50), ..Default::default() };
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let hasty = Endpoint::new("hasty", Some(context), ConnectionPolicy::default(), hasty);
    let (address, _stop) = start(&hasty, echo).await;
    let _silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(log.audited("hasty", "rejection", 1).await[0]["reason_code"], "timeout");
    assert_eq!(hasty.status().failed_by_reason, counts(&["timeout"]));
}

#[tokio::test]
async fn drains_and_cuts_are_recorded_with_who_and_why() {
    let log = Log::json();
    let (server, next, alice, mallory) = (Pair::new(), Pair::new(), Pair::new(), Pair::new());
    for (name, established) in
        [("trusting", EstablishedConnections::DrainUntrusted), ("renewing", EstablishedConnections::Renew)]
    {
        let bundle = Bundle::new(&server, &[&server, &alice, &mallory]);
        let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
        let policy = ConnectionPolicy { established, ..Default::default() };
        let serving = Endpoint::new(name, Some(context.clone()), policy, patient());
        let (address, stop) = start(&serving, echo).await;
        let mut connections = Vec::new();
        for pair in [&alice, &mallory] {
            let own = Bundle::new(pair, &[pair, &server]);
            connections.push(connected(&endpoint("dialling", own.options()).await, address).await);
        }
        bundle.write_in_place(&next, &[&next, &server, &alice]);
        serves(&context, &next).await;
        let drained = |records: &[Value]| {
            let who = |record: &Value| (record["peer_fingerprint"].clone(), record["reason_code"].clone());
            records.iter().map(who).collect::<Vec<_>>()
        };
        let by = |pair: &Pair, code: &str| (json!(pair.fingerprint()), json!(code));
        if established == EstablishedConnections::Renew {
            let mut records = drained(&log.audited(name, "drain", 2).await);
            records.sort_by_key(|(fingerprint, _)| *fingerprint != json!(alice.fingerprint()));
            assert_eq!(records, [by(&alice, "renewed"), by(&mallory, "untrusted")]);
            let counted = BTreeMap::from([("renewed".to_owned(), 1), ("untrusted".to_owned(), 1)]);
            assert_eq!(serving.status().drained_by_reason, counted);
        } else {
            let records = log.audited(name, "drain", 1).await;
            assert_eq!(drained(&records), [by(&mallory, "untrusted")]);
            assert_eq!((&records[0]["generation"], &records[0]["handshake"]), (&json!(1), &json!("full")));
            stop.cancel();
            assert_eq!(drained(&log.audited(name, "drain", 2).await)[1], by(&alice, "shutdown"));
        }
    }

    let bundle = Bundle::new(&server, &[&server]);
    let context = TlsContext::load(bundle.options(), None).await.unwrap();
    let policy = ConnectionPolicy {
        max_age: Some(Duration::from_millis(20)),
        drain_grace: Duration::from_millis(20),
        ..Default::default()
    };
    let stubborn = Endpoint::new("stubborn", Some(context), policy, patient());
    let (address, _stop) = start(&stubborn, |mut connection: Connection| async move {
        // Ignores its drain.
        let _ = connection.read(&mut [0; 1]).await;
    })
    .await;
    let dialling = endpoint("dialling", bundle.options()).await;
    let _connection = dialling.connector(ALPN).connect("127.0.0.1", address.port()).await.unwrap();
    let cut = log.audited("stubborn", "cut", 1).await.remove(0);
    assert_eq!(cut["peer_fingerprint"], json!(server.fingerprint()));
    assert_eq!((&cut["connection"], &cut["reason_code"]), (&json!(1), &json!("max_age")));
    assert_eq!(log.audited("stubborn", "drain", 1).await[0]["reason_code"], "max_age");
    assert_eq!(stubborn.status().killed, 1);
}

#[tokio::test]
async fn no_peer_can_write_a_line_of_its_own_into_the_log() {
    let evil = " INFO audit: event=\"handshake\" peer_subject=\"CN=root\"";
    let names: Vec<String> = (0..20).map(|number| format!("{number}\n{evil}, DNS:bank.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mallory = named(&format!("x\r\n{evil}\u{1b}[1A"), &names);
    let server = Pair::new();
    for trusted in [true, false] {
        let log = Log::text();
        let bundle =
            if trusted { Bundle::new(&server, &[&server, &mallory]) } else { Bundle::new(&server, &[&server]) };
        let serving = endpoint("serving", bundle.options()).await;
        let (address, _stop) = start(&serving, echo).await;
        let own = Bundle::new(&mallory, &[&mallory, &server]);
        let dialling = endpoint("dialling", own.options()).await;
        if trusted {
            connected(&dialling, address).await;
        } else {
            refused(&dialling, address).await;
            while serving.status().failed_handshakes == 0 {
                tokio::task::yield_now().await;
            }
        }
        let text = log.written();
        let about_mallory: Vec<&str> = text.lines().filter(|line| line.contains("endpoint=\"serving\"")).collect();
        let [record] = about_mallory.as_slice() else { panic!("{text}") };
        assert!(record.contains(&mallory.fingerprint()), "{record}");
        assert!(record.len() < 16_000, "{} bytes", record.len());
        assert!(!text.lines().any(|line| line.starts_with(evil) || line.contains('\u{1b}')), "{text}");
    }
}
