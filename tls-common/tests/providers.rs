//! Every library of cryptography that is built in speaks with every other one. By default there is one; run it with
//! `--features ring,openssl` for more.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::HashSet;
use std::time::Duration;
use support::{Bundle, Pair};
use tls_common::{
    Connection, ConnectionPolicy, Endpoint, HandshakeLimits, Listener, ProtocolVersion, Provider, TlsContext, quic,
    serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

fn built_in() -> Vec<Provider> {
    let mut providers = vec![Provider::AwsLc];
    if cfg!(feature = "ring") {
        providers.push(Provider::Ring);
    }
    if cfg!(feature = "openssl") {
        providers.push(Provider::OpenSsl);
    }
    providers
}

async fn endpoint(bundle: &Bundle, provider: Provider, protocols: &[ProtocolVersion]) -> Endpoint {
    let mut options = bundle.options();
    options.provider = provider;
    options.protocols = protocols.to_vec();
    let context = TlsContext::load(options, None).await.unwrap();
    let limits = HandshakeLimits { timeout: Duration::from_secs(60), ..Default::default() };
    Endpoint::new("test", Some(context), ConnectionPolicy::default(), limits)
}

/// Says one word.
async fn greet(mut connection: Connection) {
    let _ = connection.write_all(b"hello").await;
    let _ = connection.shutdown().await;
}

async fn greet_quic(connection: quic::Connection) {
    if let Ok(mut send) = connection.open_uni().await {
        let _ = send.write_all(b"hello").await;
        let _ = send.finish();
        connection.closed().await;
    }
}

#[tokio::test]
async fn the_option_decides_which_one_works() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let mut used = HashSet::new();
    for provider in built_in() {
        let endpoint = endpoint(&bundle, provider, &[ProtocolVersion::Tls12, ProtocolVersion::Tls13]).await;
        let generation = endpoint.tls().unwrap().current();
        let crypto = generation.server_config().unwrap().crypto_provider();
        used.insert(format!("{:?} {:?}", crypto.key_provider, crypto.secure_random));
    }
    assert_eq!(used.len(), built_in().len(), "{used:?}");
}

#[tokio::test]
async fn every_provider_connects_with_every_other() {
    let pair = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    for server in built_in() {
        for client in built_in() {
            for version in [ProtocolVersion::Tls12, ProtocolVersion::Tls13] {
                let serving = endpoint(&bundle, server, &[version]).await;
                let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
                let port = listener.local_addr().port();
                tokio::spawn(serve(listener, serving.acceptor(&["greet"]), CancellationToken::new(), greet));
                let dialling = endpoint(&bundle, client, &[version]).await;
                let connection = dialling.connector(&["greet"]).connect("127.0.0.1", port).await;
                let mut connection =
                    connection.unwrap_or_else(|e| panic!("{client:?} to {server:?}, {version:?}: {e}"));
                let mut word = String::new();
                connection.read_to_string(&mut word).await.unwrap();
                assert_eq!(word, "hello", "{client:?} to {server:?}, {version:?}");
            }
            let serving = endpoint(&bundle, server, &[ProtocolVersion::Tls13]).await;
            let acceptor = serving.quic_acceptor(&["greet"]);
            let socket = acceptor.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let port = socket.local_addr().unwrap().port();
            tokio::spawn(quic::serve(socket, acceptor, CancellationToken::new(), greet_quic));
            let dialling = endpoint(&bundle, client, &[ProtocolVersion::Tls13]).await;
            let connection = dialling.quic_connector(&["greet"]).unwrap().connect("127.0.0.1", port).await;
            let connection = connection.unwrap_or_else(|e| panic!("{client:?} to {server:?}, QUIC: {e}"));
            let word = connection.accept_uni().await.unwrap().read_to_end(64).await.unwrap();
            assert_eq!(word, b"hello", "{client:?} to {server:?}, QUIC");
        }
    }
}
