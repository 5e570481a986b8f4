//! The scripts of jobs as they lie in the blob server: fetched when a job comes in, deleted with the last job that has
//! them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use blob_server::{BlobClient, BlobError};
use bytes::Bytes;
use proto::blob::Digest;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio::time::timeout;

/// How long the blob server is tried if it does not answer.
const BLOB_PATIENCE: Duration = Duration::from_secs(10);

/// How long a deletion may take, and hold up jobs that come in.
const DELETE_TIMEOUT: Duration = Duration::from_secs(2);

/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Scripts {
    blob: BlobClient,
    /// Read while a job comes in, written while a script is deleted: names are digests, so a new job may have the script
    /// that an old one leaves behind.
    coming_in: Arc<RwLock<()>>,
}

/// While it lives, no script is deleted.
#[derive(Debug)]
pub struct InUse(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<()>);

impl Scripts {
    pub fn new(blob: BlobClient) -> Self {
        Self { blob: blob.with_patience(BLOB_PATIENCE), coming_in: Arc::default() }
    }

    /// Fetches a script. Keep the guard until a job has it.
    pub async fn fetch(&self, script: &Digest) -> Result<(Bytes, InUse), BlobError> {
        let in_use = InUse(Arc::clone(&self.coming_in).read_owned().await);
        Ok((self.blob.get(script).await?, in_use))
    }

    /// Deletes a script unless it is `wanted` again. A blob server that does not answer keeps it: it costs a few kilobytes.
    pub async fn delete(&self, script: &Digest, wanted: impl FnOnce() -> bool) {
        let _alone = self.coming_in.write().await;
        if wanted() {
            return;
        }
        let deleted = timeout(DELETE_TIMEOUT, self.blob.delete(script)).await;
        match deleted.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
            Ok(()) => tracing::debug!(%script, "deleted: no job has it any more"),
            Err(error) => tracing::warn!(%script, %error, "a script that no job has any more stays in the blob server"),
        }
    }
}
