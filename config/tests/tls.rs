//! Contexts and endpoints from real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use config::tls::{
    Internal, internal_context, internal_endpoint, rest_client_context, rest_endpoint, rest_server_context,
};
use config::{ConfigError, Configuration};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use tls_common::Listener;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// A directory with one self-signed pair: `identity.pem` (key and certificate) and `trust.pem`.
fn material() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let identity = pair.signing_key.serialize_pem() + &pair.cert.pem();
    fs::write(directory.path().join("identity.pem"), identity).unwrap();
    fs::write(directory.path().join("trust.pem"), pair.cert.pem()).unwrap();
    directory
}

fn configuration(material: &Path, more: &[(&str, &str)]) -> Configuration {
    let path = |name: &str| material.join(name).to_str().unwrap().to_owned();
    let stores = [("security.ssl.keystore", path("identity.pem")), ("security.ssl.truststore", path("trust.pem"))];
    let switches = ["security.ssl.internal.enabled", "security.ssl.rest.enabled"].map(|key| (key, "true".to_owned()));
    let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
    Configuration::from_pairs(stores.into_iter().chain(switches).chain(more)).unwrap()
}

#[tokio::test]
async fn an_internal_connection_is_mutual_and_moves_bytes() {
    let material = material();
    let configuration = configuration(material.path(), &[]);
    let context = internal_context(&configuration).await.unwrap();
    let server = internal_endpoint(&configuration, Internal::Rpc, context.as_ref()).unwrap();
    let client = internal_endpoint(&configuration, Internal::Rpc, context.as_ref()).unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = listener.local_addr().port();
    let shutdown = CancellationToken::new();
    let handler = |mut connection: tls_common::Connection| async move {
        assert!(connection.info().peer().is_some(), "the client showed its certificate");
        connection.write_all(b"hello").await.unwrap();
        connection.shutdown().await.unwrap();
    };
    let serving = tokio::spawn(tls_common::serve(listener, server.acceptor(&["test"]), shutdown.clone(), handler));
    let mut connection = client.connector(&["test"]).connect("127.0.0.1", port).await.unwrap();
    let mut received = String::new();
    connection.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "hello");
    drop(connection);
    shutdown.cancel();
    serving.await.unwrap();
    assert_eq!(server.status().handshakes, 1);
}

#[tokio::test]
async fn each_internal_kind_can_be_switched_off_alone() {
    let material = material();
    let configuration =
        configuration(material.path(), &[("taskmanager.data.ssl.enabled", "false"), ("akka.ssl.enabled", "false")]);
    let context = internal_context(&configuration).await.unwrap();
    let encrypted = |kind| internal_endpoint(&configuration, kind, context.as_ref()).unwrap().tls().is_some();
    assert_eq!([Internal::Rpc, Internal::Data, Internal::Blob].map(encrypted), [false, false, true]);
}

#[tokio::test]
async fn rest_has_its_own_contexts() {
    let material = material();
    let configuration = configuration(material.path(), &[("security.ssl.reload", "true")]);
    let server = rest_server_context(&configuration).await.unwrap().unwrap();
    let client = rest_client_context(&configuration).await.unwrap().unwrap();
    assert_eq!((server.status().bundle.as_str(), client.status().bundle.as_str()), ("rest", "rest-client"));
    assert!(server.status().watching);
    assert!(client.status().fingerprint.is_none(), "a client without authentication has no identity");
    assert!(rest_endpoint(&configuration, Some(&server)).unwrap().tls().is_some());
    assert!(rest_endpoint(&configuration, None).unwrap().tls().is_none());
}

#[tokio::test]
async fn everything_off_is_plain() {
    let configuration = Configuration::default();
    assert!(internal_context(&configuration).await.unwrap().is_none());
    assert!(rest_server_context(&configuration).await.unwrap().is_none());
    assert!(rest_client_context(&configuration).await.unwrap().is_none());
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_with_their_keys() {
    let material = material();
    let store = material.path().join("identity.pem");
    fs::write(&store, "").unwrap();
    let error = internal_context(&configuration(material.path(), &[])).await.unwrap_err();
    assert!(matches!(error, ConfigError::Material { .. }));
    let line = error.to_string();
    assert!(line.starts_with("`security.ssl.internal.*`: keystore ") && line.contains("identity.pem"), "{line}");
    fs::remove_file(&store).unwrap();
    let line = rest_server_context(&configuration(material.path(), &[])).await.unwrap_err().to_string();
    assert!(line.starts_with("`security.ssl.rest.*`: cannot read "), "{line}");
}
