//! The blob server: keeps bytes under the SHA-256 of their content, for the processes of one cluster.
//!
//! ```text
//!  BlobClient ──▶ proto::blob over the blob endpoint ──▶ server ──▶ store (one file per blob)
//! ```
//!
//! It knows nothing of jobs: what is stored, and for how long, is its clients' business. Its listening socket is made
//! anew at every certificate generation, on the same port and without refusing anybody; that is tls-common's work.

pub mod client;
pub mod server;
pub mod store;
mod transfer;

use std::{io, net::SocketAddr, sync::Arc};

use config::{ConfigError, Configuration, address, bootstrap, options, tls};
use thiserror::Error;
use tls_common::Listener;
use tokio_util::sync::CancellationToken;

pub use client::{BlobClient, BlobError};
pub use proto::blob::Digest;

use server::SilenceLimits;
use store::{Store, StoreError};

/// Serves until `shutdown`, then finishes the requests in progress. Announces the address `blob`.
///
/// Without `blob.storage.directory` the blobs live in a temporary directory, and only as long as this call.
///
/// # Errors
/// The configuration, its key files, the storage directory or the port cannot be used.
pub async fn run(config: Configuration, shutdown: CancellationToken) -> Result<(), ServiceError> {
    let context = tls::internal_context(&config).await?;
    let endpoint = tls::internal_endpoint(&config, tls::Internal::Blob, context.as_ref())?;
    let address = address::bind_address(&config, &options::BLOB_SERVER_BIND_HOST, &options::BLOB_SERVER_PORT).await?;
    let listener =
        Listener::bind_rebinding(address).await.map_err(|source| ServiceError::Listen { address, source })?;
    let (directory, _removed_at_the_end) = match config.get_optional(&options::BLOB_STORAGE_DIRECTORY)? {
        Some(directory) => (config.resolve(&directory), None),
        None => {
            let temporary = tempfile::Builder::new().prefix("tidemill-blobs-").tempdir();
            let temporary = temporary.map_err(ServiceError::Temporary)?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let opened = tokio::task::spawn_blocking(move || Store::open(&directory)).await;
    let store = opened.unwrap_or(Err(StoreError::Stopping))?;
    bootstrap::announce(&config, "blob-server", &[("blob", listener.local_addr())])?;
    server::serve(listener, endpoint, Arc::new(store), SilenceLimits::default(), shutdown).await;
    Ok(())
}

/// Why the blob server cannot run: always something that its operator can change.
#[derive(Debug, Error)]
pub enum ServiceError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("`blob.storage.directory`: {0}")]
    Store(#[from] StoreError),
    #[error("cannot make a temporary directory ({0}): set blob.storage.directory")]
    Temporary(io::Error),
    #[error(
        "cannot listen on {address}: {source}; \
         change blob.server.port or blob.server.bind-host, or stop the process that uses it"
    )]
    Listen { address: SocketAddr, source: io::Error },
}
