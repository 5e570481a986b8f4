//! gRPC by tonic, both sides of a mutual TLS whose keys, certificates and trust change on disk: a server that says who
//! its caller is, and a client that asks the peer (this process itself, unless another is named) once a second.
//!
//! ```text
//! hot_reload_tonic keystore.p12 truststore.p12 PASSWORD 127.0.0.1:5000 [HOST PORT]
//! ```
//!
//! The server leaves connections of callers alone that are still trusted; the client moves to its own new certificate
//! at once. Generated code goes into the same two places: `Routes::new(GreeterServer::new(..))` is a service for
//! `http::serve`, and `GreeterClient::new(channel.channel())` a client.

use std::error::Error;
use std::future::{Ready, ready};
use std::time::Duration;
use tls_common::grpc::RotatingChannel;
use tls_common::{
    BundleOptions, ClientAuth, ConnectionInfo, ConnectionPolicy, Endpoint, EstablishedConnections, Listener, Password,
    PeerIdentity, ReloadOptions, Secret, StoreOptions, TlsContext, http,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, client, codegen::http::uri::PathAndQuery, server};
use tonic_prost::ProstCodec;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [keystore, truststore, password, address, peer @ ..] = arguments.as_slice() else {
        return Err("usage: hot_reload_tonic KEYSTORE TRUSTSTORE PASSWORD ADDRESS:PORT [HOST PORT]".into());
    };
    let password = Password::Inline(Secret::new(password.clone()));
    let mut bundle = BundleOptions::new("rpc");
    bundle.keystore = Some(StoreOptions::new(keystore, password.clone()));
    bundle.truststore = Some(StoreOptions::new(truststore, password));
    bundle.client_auth = ClientAuth::Required;
    let tls = TlsContext::load(bundle, Some(ReloadOptions::default())).await?;

    let serving = Endpoint::new("server", Some(tls.clone()), Default::default(), Default::default());
    let listener = Listener::bind(address.parse()?).await?;
    let own = listener.local_addr();
    println!("listening on {own}");
    let stop = CancellationToken::new();
    let service = tower::service_fn(|request| async {
        Ok::<_, Status>(server::Grpc::new(ProstCodec::<String, ()>::default()).unary(WhoAmI, request).await)
    });
    let served = tokio::spawn(http::serve(listener, serving.acceptor(&["h2"]), stop.clone(), service));

    let (host, port) = match peer {
        [host, port] => (host.clone(), port.parse()?),
        _ => (own.ip().to_string(), own.port()),
    };
    let renew = ConnectionPolicy { established: EstablishedConnections::Renew, ..Default::default() };
    let calling = Endpoint::new("client", Some(tls), renew, Default::default());
    let channel = RotatingChannel::new(calling.connector(&["h2"]), host, port);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            _ = ticks.tick() => match ask(&channel).await {
                Ok(answer) => println!("called as {answer}"),
                Err(status) => println!("call failed: {status}"),
            },
        }
    }
    stop.cancel();
    Ok(served.await?)
}

/// The client: a channel per call, so that it is the current one.
async fn ask(channel: &RotatingChannel) -> Result<String, Status> {
    let mut client = client::Grpc::new(channel.channel());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/example.WhoAmI/Ask");
    client.unary(Request::new(()), path, ProstCodec::<(), String>::default()).await.map(Response::into_inner)
}

/// The server: answers with the SHA-256 of the caller's certificate.
struct WhoAmI;

impl server::UnaryService<()> for WhoAmI {
    type Response = String;
    type Future = Ready<Result<Response<String>, Status>>;

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let caller = request.extensions().get::<ConnectionInfo>().and_then(ConnectionInfo::peer);
        let fingerprint = caller.and_then(PeerIdentity::fingerprint);
        ready(fingerprint.map(Response::new).ok_or_else(|| Status::unauthenticated("no certificate")))
    }
}
