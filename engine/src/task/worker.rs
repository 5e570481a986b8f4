//! Threads for code that blocks for as long as the task lives. Not tokio's blocking pool: its
//! threads are shared and counted, and these stay.

use std::thread;

use tokio::sync::oneshot;

use crate::error::TaskError;

/// Starts a thread; its result arrives on the receiver, which fails if the thread panics.
pub(super) fn spawn<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, TaskError> {
    let (done, result) = oneshot::channel();
    let run = move || {
        // Whether anybody still waits does not matter here.
        let _ = done.send(work());
    };
    thread::Builder::new()
        .name(name)
        .spawn(run)
        .map_err(|e| TaskError::Worker(format!("could not be started: {e}")))?;
    Ok(result)
}

/// What a thread that did not answer has done.
pub(super) fn died(what: &str) -> TaskError {
    TaskError::Worker(format!("{what} died: its panic is in this process's error output"))
}
