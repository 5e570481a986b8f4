//! The scripts of jobs as they lie in the blob server: fetched when a job comes in, deleted with the last job that has
//! them.
//!
//! Names are digests, so a job that comes in may have the script that an old one leaves behind. Two rules keep it: what
//! is in use is not deleted, and what is being deleted is not handed out before that has come to its end, however long
//! the blob server takes for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blob_server::{BlobClient, BlobError};
use bytes::Bytes;
use proto::blob::Digest;

/// How long the blob server is tried if it does not answer.
const BLOB_PATIENCE: Duration = Duration::from_secs(10);

/// Scripts whose deletion is under way or of unknown outcome. Further ones stay in the blob server: a few kilobytes each.
const DOUBTFUL_MAX: usize = 1_024;

/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Scripts {
    blob: BlobClient,
    /// Never held across an await.
    state: Arc<Mutex<State>>,
    /// One deletion at a time: its end is awaited by who wants the script.
    deleting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// How many jobs are coming in with each.
    in_use: BTreeMap<Digest, usize>,
    /// No job has these; whether the blob server does is not known.
    doubtful: BTreeSet<Digest>,
}

/// While it lives, the script is not deleted.
#[derive(Debug)]
pub struct InUse {
    script: Digest,
    state: Arc<Mutex<State>>,
}

impl Scripts {
    pub fn new(blob: BlobClient) -> Self {
        Self { blob: blob.with_patience(BLOB_PATIENCE), state: Arc::default(), deleting: Arc::default() }
    }

    /// Fetches a script. Keep the guard until a job has it. One that is being deleted is not found, once it is.
    pub async fn fetch(&self, script: &Digest) -> Result<(Bytes, InUse), BlobError> {
        let (in_use, is_doubtful) = self.claim(*script);
        if is_doubtful {
            let (scripts, script) = (self.clone(), *script);
            // A task of its own: were it given up along with its caller, nobody would know when it ends.
            let finishing = tokio::spawn(async move {
                let _alone = scripts.deleting.lock().await;
                scripts.finish(&script).await
            });
            finishing.await.map_err(io::Error::other)??;
            return Err(BlobError::NotFound(script));
        }
        Ok((self.blob.get(script).await?, in_use))
    }

    /// Deletes a script unless it is `wanted`, or in use: then who uses it sees to it. Returns when the blob server has
    /// answered or was tried long enough; not to be given up before.
    pub async fn delete(&self, script: &Digest, wanted: impl FnOnce() -> bool) {
        if !self.doom(*script, wanted) {
            return;
        }
        let _alone = self.deleting.lock().await;
        // The earlier ones, too, that could not be deleted when it was their turn.
        let doubtful = self.state().doubtful.clone();
        for script in doubtful {
            if let Err(error) = self.finish(&script).await {
                tracing::warn!(%script, %error, "a script that no job has any more stays in the blob server for now");
                return;
            }
        }
    }

    /// Counts as a use; and whether its deletion is under way or of unknown outcome.
    fn claim(&self, script: Digest) -> (InUse, bool) {
        let mut state = self.state();
        *state.in_use.entry(script).or_default() += 1;
        let is_doubtful = state.doubtful.contains(&script);
        (InUse { script, state: Arc::clone(&self.state) }, is_doubtful)
    }

    /// Whether it is to be deleted. Nobody is handed it from now on.
    fn doom(&self, script: Digest, wanted: impl FnOnce() -> bool) -> bool {
        let mut state = self.state();
        if state.in_use.contains_key(&script) || wanted() {
            return false;
        }
        if state.doubtful.len() >= DOUBTFUL_MAX {
            tracing::warn!(%script, "too many deletions are due: a script that no job has any more stays in the blob server");
            return false;
        }
        state.doubtful.insert(script)
    }

    /// Brings a deletion to its end, unless that has happened meanwhile. Only under `deleting`.
    async fn finish(&self, script: &Digest) -> Result<(), BlobError> {
        if self.state().doubtful.contains(script) {
            self.blob.delete(script).await?;
            self.state().doubtful.remove(script);
            tracing::debug!(%script, "deleted: no job has it any more");
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = state.in_use.get_mut(&self.script) {
            *count -= 1;
            if *count == 0 {
                state.in_use.remove(&self.script);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use blob_server::store::digest;
    use config::{Configuration, tls};
    use proto::blob::{Greeting, Refusal, Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const SQL: &[u8] = b"SELECT 1";

    /// What a blob server has. While it is broken, what answers there is something else.
    #[derive(Debug, Default)]
    struct Server {
        stored: Vec<Digest>,
        broken: bool,
    }

    type Shared = Arc<Mutex<Server>>;

    async fn scripts() -> (Scripts, Shared) {
        let server = Shared::new(Mutex::new(Server { stored: vec![digest(SQL)], broken: false }));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = tls::internal_endpoint(&Configuration::default(), tls::Internal::Blob, None).unwrap();
        let port = listener.local_addr().unwrap().port();
        let blob = BlobClient::new(endpoint.connector(&[]), "127.0.0.1".to_owned(), port);
        let shared = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                serve(connection, &shared).await;
            }
        });
        (Scripts::new(blob), server)
    }

    async fn serve(mut connection: TcpStream, server: &Shared) {
        if server.lock().unwrap().broken {
            return connection.write_all(&[0; Greeting::LEN]).await.unwrap();
        }
        connection.write_all(&Greeting.encode()).await.unwrap();
        let mut request = [0; Request::LEN];
        connection.read_exact(&mut request).await.unwrap();
        let (response, body) = match Request::parse(&request).unwrap() {
            Request::Get { digest } if server.lock().unwrap().stored.contains(&digest) => {
                (Response::Blob { length: SQL.len() as u64 }, SQL)
            }
            Request::Delete { digest } => {
                server.lock().unwrap().stored.retain(|stored| *stored != digest);
                (Response::Deleted, &[][..])
            }
            _ => (Response::Refused { refusal: Refusal::NotFound, length: 0 }, &[][..]),
        };
        connection.write_all(&[&response.encode(), body].concat()).await.unwrap();
    }

    fn is_stored(server: &Shared) -> bool {
        server.lock().unwrap().stored.contains(&digest(SQL))
    }

    #[tokio::test]
    async fn a_script_is_not_deleted_while_a_job_comes_in_with_it() {
        let (scripts, server) = scripts().await;
        let (_, first) = scripts.fetch(&digest(SQL)).await.unwrap();
        let (text, second) = scripts.fetch(&digest(SQL)).await.unwrap();
        assert_eq!(text, SQL);
        drop(first);
        scripts.delete(&digest(SQL), || false).await;
        assert!(is_stored(&server));
        drop(second);
        scripts.delete(&digest(SQL), || false).await;
        assert!(!is_stored(&server));
        assert!(scripts.state().in_use.is_empty() && scripts.state().doubtful.is_empty());
    }

    #[tokio::test]
    async fn a_script_that_is_wanted_is_not_deleted() {
        let (scripts, server) = scripts().await;
        scripts.delete(&digest(SQL), || true).await;
        assert!(is_stored(&server));
        assert!(scripts.fetch(&digest(SQL)).await.is_ok());
    }

    #[tokio::test]
    async fn a_script_whose_deletion_may_yet_happen_is_not_handed_out_before_it_has() {
        let (scripts, server) = scripts().await;
        server.lock().unwrap().broken = true;
        scripts.delete(&digest(SQL), || false).await;
        assert!(is_stored(&server));
        assert!(matches!(scripts.fetch(&digest(SQL)).await, Err(BlobError::Protocol(_))), "its end is not known");
        server.lock().unwrap().broken = false;
        assert!(matches!(scripts.fetch(&digest(SQL)).await, Err(BlobError::NotFound(_))));
        assert!(!is_stored(&server), "so that it is stored anew");
        server.lock().unwrap().stored.push(digest(SQL));
        assert!(scripts.fetch(&digest(SQL)).await.is_ok());
    }

    #[tokio::test]
    async fn a_deletion_that_failed_is_made_with_the_next_one() {
        let (scripts, server) = scripts().await;
        server.lock().unwrap().broken = true;
        scripts.delete(&digest(SQL), || false).await;
        server.lock().unwrap().broken = false;
        scripts.delete(&digest(b"SELECT 2"), || false).await;
        assert!(!is_stored(&server));
    }

    #[tokio::test]
    async fn only_so_many_deletions_are_remembered() {
        let endpoint = tls::internal_endpoint(&Configuration::default(), tls::Internal::Blob, None).unwrap();
        let scripts = Scripts::new(BlobClient::new(endpoint.connector(&[]), String::new(), 1));
        for n in 0..DOUBTFUL_MAX {
            assert!(scripts.doom(digest(&n.to_le_bytes()), || false));
        }
        assert!(!scripts.doom(digest(SQL), || false));
        assert!(!scripts.claim(digest(SQL)).1, "it stays, and can be handed out");
    }
}
