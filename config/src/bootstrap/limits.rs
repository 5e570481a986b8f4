//! The system's limit of open files, which is a limit of connections.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

/// What a process with all its connections and files may need: its endpoints' bound of 4096 connections each, and
/// some more. Fewer are worth a warning.
const OPEN_FILES_WANTED: u64 = 16_384;

/// Raises the soft limit of open files to the hard one. Shells leave it at 1024 for the sake of `select(2)`, which nobody
/// calls here.
pub(super) fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok((soft, hard))
    });
    match raised {
        Ok((_, hard)) if hard < OPEN_FILES_WANTED => {
            warn!("only {hard} files and connections can be open at once: raise the hard limit (`ulimit -Hn`)");
        }
        Ok((soft, hard)) if soft < hard => info!("limit of open files raised from {soft} to {hard}"),
        Ok(_) => {}
        Err(error) => warn!("cannot raise the limit of open files: {error}"),
    }
}
