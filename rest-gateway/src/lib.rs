//! The REST gateway: the HTTP face of the cluster, for people, the CLI and Flink's own clients.
//!
//! ```text
//!  HTTP/1.1, HTTP/2 ──▶ routes (parse, call, render) ──▶ backend ──▶ JobManager (gRPC), blob server
//!   over the rest endpoint                  dto, problem          over the rpc and blob endpoints
//! ```
//!
//! It keeps no state: any number of gateways can stand before one JobManager. Its own TLS identity
//! (`security.ssl.rest.*`) is one thing, the one it shows to the cluster (`security.ssl.internal.*`) another; they
//! rotate separately.

pub mod backend;
mod blob_status;
pub mod dto;
pub mod problem;
mod render;
pub mod routes;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use config::{ConfigError, Configuration, address, bootstrap, options, tls};
use thiserror::Error;
use tls_common::{Endpoint, Listener, http};
use tokio_util::sync::CancellationToken;

use backend::{Cluster, RPC_TIMEOUT};
use routes::ApiOptions;

/// What REST clients may speak over TLS, the better first.
const ALPN: [&str; 2] = ["h2", "http/1.1"];

/// Serves until `shutdown`, then answers the requests under way and returns. Announces the address `rest`.
///
/// # Errors
/// The configuration, its key files or the port cannot be used. That the cluster cannot be reached is no error here:
/// requests are answered 503 until it can.
pub async fn run(config: Configuration, shutdown: CancellationToken) -> Result<(), ServiceError> {
    let internal = tls::internal_context(&config).await?;
    let rpc = tls::internal_endpoint(&config, tls::Internal::Rpc, internal.as_ref())?;
    let blob = tls::internal_endpoint(&config, tls::Internal::Blob, internal.as_ref())?;
    let rest = tls::rest_endpoint(&config, tls::rest_server_context(&config).await?.as_ref())?;
    let jobmanager = address::peer_address(&config, &options::JOBMANAGER_RPC_ADDRESS, &options::JOBMANAGER_RPC_PORT)?;
    let blobs = address::peer_address(&config, &options::BLOB_SERVER_ADDRESS, &options::BLOB_SERVER_PORT)?;
    let patience = config.get(&options::PEKKO_ASK_TIMEOUT)?;
    let api = ApiOptions {
        body_bytes_max: config.get(&options::REST_SERVER_MAX_CONTENT_LENGTH)?.as_usize(),
        request_timeout: request_timeout(patience),
        refresh_interval: config.get(&options::WEB_REFRESH_INTERVAL)?,
    };
    let address = address::bind_address(&config, &options::REST_BIND_ADDRESS, &options::REST_PORT).await?;
    let listener = Listener::bind(address).await.map_err(|source| ServiceError::Listen { address, source })?;

    let own_address = format!("{}:{}", config.get(&options::REST_ADDRESS)?, listener.local_addr().port());
    let cluster = Cluster::new(&rpc, jobmanager, &blob, blobs, &rest, own_address, patience);
    let router = routes::router(Arc::new(cluster), &api);
    bootstrap::announce(&config, "rest-gateway", &[("rest", listener.local_addr())])?;
    serve(listener, &rest, router, shutdown).await;
    Ok(())
}

async fn serve(listener: Listener, rest: &Endpoint, router: Router, shutdown: CancellationToken) {
    let handler = move |connection| http::serve_connection(connection, router.clone());
    tls_common::serve(listener, rest.acceptor(&ALPN), shutdown, handler).await;
}

/// To submit a job the blob server and the JobManager must be reached, and the JobManager then thinks about it.
fn request_timeout(patience: Duration) -> Duration {
    2 * (patience + RPC_TIMEOUT)
}

/// Why the REST gateway cannot run: always something that its operator can change.
#[derive(Debug, Error)]
pub enum ServiceError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "cannot listen on {address}: {source}; change rest.port or rest.bind-address, or stop the process that uses it"
    )]
    Listen { address: SocketAddr, source: io::Error },
}
