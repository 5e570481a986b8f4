//! QUIC by quinn (here: each stream is sent back) whose key, certificate and trust change on disk while it serves.
//!
//! ```text
//! hot_reload_quic keystore.p12 truststore.p12 PASSWORD 127.0.0.1:7000
//! ```

use std::error::Error;
use tls_common::{
    BundleOptions, ClientAuth, Endpoint, Password, ReloadOptions, Secret, StoreOptions, TlsContext, quic,
};
use tokio_util::sync::CancellationToken;

/// Bytes taken from one stream.
const LONGEST_MESSAGE: usize = 64 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [keystore, truststore, password, address] = arguments.as_slice() else {
        return Err("usage: hot_reload_quic KEYSTORE TRUSTSTORE PASSWORD ADDRESS:PORT".into());
    };
    let password = Password::Inline(Secret::new(password.clone()));
    let mut bundle = BundleOptions::new("echo");
    bundle.keystore = Some(StoreOptions::new(keystore, password.clone()));
    bundle.truststore = Some(StoreOptions::new(truststore, password));
    bundle.client_auth = ClientAuth::Required;
    let tls = TlsContext::load(bundle, Some(ReloadOptions::default())).await?;
    let endpoint = Endpoint::new("echo", Some(tls.clone()), Default::default(), Default::default());

    let acceptor = endpoint.quic_acceptor(&["echo"]);
    let socket = acceptor.bind(address.parse()?)?;
    println!("listening on {}", socket.local_addr()?);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(quic::serve(socket, acceptor, stop.clone(), echo));
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

async fn echo(connection: quic::Connection) {
    let info = connection.info().clone();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept_bi() => accepted,
            // The client is not trusted any more, or we are stopping: finish where your protocol allows it.
            _ = info.draining() => return,
        };
        let Ok((mut send, mut receive)) = accepted else { return };
        tokio::spawn(async move {
            if let Ok(message) = receive.read_to_end(LONGEST_MESSAGE).await
                && send.write_all(&message).await.is_ok()
            {
                let _ = send.finish();
            }
        });
    }
}
