//! A protocol of your own over plain TLS streams (here: what comes in goes out again) whose key, certificate and trust
//! change on disk while it serves.
//!
//! ```text
//! hot_reload_tokio_rustls keystore.p12 truststore.p12 PASSWORD 127.0.0.1:7000
//! ```

use std::error::Error;
use tls_common::{
    BundleOptions, ClientAuth, Connection, Endpoint, Listener, Password, ReloadOptions, Secret, StoreOptions,
    TlsContext, serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [keystore, truststore, password, address] = arguments.as_slice() else {
        return Err("usage: hot_reload_tokio_rustls KEYSTORE TRUSTSTORE PASSWORD ADDRESS:PORT".into());
    };
    let password = Password::Inline(Secret::new(password.clone()));
    let mut bundle = BundleOptions::new("echo");
    bundle.keystore = Some(StoreOptions::new(keystore, password.clone()));
    bundle.truststore = Some(StoreOptions::new(truststore, password));
    bundle.client_auth = ClientAuth::Required;
    let tls = TlsContext::load(bundle, Some(ReloadOptions::default())).await?;
    let endpoint = Endpoint::new("echo", Some(tls.clone()), Default::default(), Default::default());

    let listener = Listener::bind(address.parse()?).await?;
    println!("listening on {}", listener.local_addr());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, endpoint.acceptor(&["echo"]), stop.clone(), echo));
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

async fn echo(mut connection: Connection) {
    let info = connection.info().clone();
    let mut buffer = [0; 4096];
    loop {
        let count = tokio::select! {
            read = connection.read(&mut buffer) => read.unwrap_or(0),
            // The client is not trusted any more, or we are stopping: finish where your protocol allows it.
            _ = info.draining() => 0,
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() || connection.write_all(bytes).await.is_err() || connection.flush().await.is_err() {
            let _ = connection.shutdown().await;
            return;
        }
    }
}
