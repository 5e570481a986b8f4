//! HTTPS by axum whose key, certificate and trust change on disk while it serves.
//!
//! ```text
//! hot_reload_axum keystore.p12 truststore.p12 PASSWORD 127.0.0.1:8443
//! curl --cacert server.pem --cert client.pem https://localhost:8443/     # shows who you are
//! ```
//!
//! Replace the files in any way: new connections get the new certificate, connections of clients that are still trusted
//! stay, those of others are drained.

use axum::{Extension, Router, routing::get};
use std::error::Error;
use tls_common::{
    BundleOptions, ClientAuth, ConnectionInfo, Endpoint, Listener, Password, PeerIdentity, ReloadOptions, Secret,
    StoreOptions, TlsContext, http,
};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [keystore, truststore, password, address] = arguments.as_slice() else {
        return Err("usage: hot_reload_axum KEYSTORE TRUSTSTORE PASSWORD ADDRESS:PORT".into());
    };
    let password = Password::Inline(Secret::new(password.clone()));
    let mut bundle = BundleOptions::new("web");
    bundle.keystore = Some(StoreOptions::new(keystore, password.clone()));
    bundle.truststore = Some(StoreOptions::new(truststore, password));
    bundle.client_auth = ClientAuth::Required;
    let tls = TlsContext::load(bundle, Some(ReloadOptions::default())).await?;
    let endpoint = Endpoint::new("web", Some(tls.clone()), Default::default(), Default::default());

    let router = Router::new().route("/", get(who_am_i));
    let listener = Listener::bind(address.parse()?).await?;
    println!("listening on {}", listener.local_addr());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(http::serve(listener, endpoint.acceptor(&["h2", "http/1.1"]), stop.clone(), router));
    let mut generations = tls.subscribe();
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            Ok(()) = generations.changed() => println!("serving {}", tls.status().fingerprint.unwrap_or_default()),
        }
    }
    stop.cancel();
    Ok(serving.await?)
}

/// Each request carries what is known about its connection.
async fn who_am_i(Extension(connection): Extension<ConnectionInfo>) -> String {
    connection.peer().and_then(PeerIdentity::fingerprint).unwrap_or_default()
}
