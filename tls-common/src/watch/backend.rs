//! notify's watcher as something that may die: its death is seen, and a call into a dead one is an error.
//!
//! notify 8 runs one thread per watcher and does not say when that thread ends: `watch` and even dropping the watcher
//! unwrap the channel to it, and panic. A thread that cannot read its events does not even end, it spins.

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One inotify instance and the thread that reads it.
#[derive(Debug)]
pub(super) struct Backend {
    /// `None` only while it is dropped.
    watcher: Option<RecommendedWatcher>,
    alive: Arc<AtomicBool>,
}

/// Why a directory is not watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("the watcher's thread has ended")]
    Dead,
    #[error(transparent)]
    Refused(#[from] notify::Error),
}

impl Backend {
    /// Starts the thread; `on_event` runs on it. The backend dies if `on_event` panics or events cannot be read.
    pub(super) fn start(on_event: impl Fn(Event) + Send + 'static) -> notify::Result<Self> {
        let alive = Arc::new(AtomicBool::new(true));
        let life = Life(Arc::clone(&alive));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            #[cfg(feature = "testing")]
            let event = crate::testing::injected_read_error().map_or(event, Err);
            match event {
                Ok(event) => on_event(event),
                Err(error) => life.end(&error),
            }
        })?;
        Ok(Self { watcher: Some(watcher), alive })
    }

    /// Whether its thread still runs.
    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Watches what is directly in `directory`. A round trip to the thread: never call it from `on_event`.
    pub(super) fn watch(&mut self, directory: &Path) -> Result<(), WatchError> {
        self.call(|watcher| watcher.watch(directory, RecursiveMode::NonRecursive))
    }

    /// Stops watching `directory`.
    pub(super) fn unwatch(&mut self, directory: &Path) -> Result<(), WatchError> {
        self.call(|watcher| watcher.unwatch(directory))
    }

    fn call(&mut self, call: impl FnOnce(&mut RecommendedWatcher) -> notify::Result<()>) -> Result<(), WatchError> {
        let alive = self.is_alive();
        let Some(watcher) = self.watcher.as_mut().filter(|_| alive) else { return Err(WatchError::Dead) };
        // The thread may end between the question and the call.
        match catch_unwind(AssertUnwindSafe(|| call(watcher))) {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                self.alive.store(false, Ordering::Release);
                Err(WatchError::Dead)
            }
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let watcher = self.watcher.take();
        if !self.is_alive() {
            // Dropping it would panic. The thread has closed the inotify instance; what leaks is the descriptor that
            // would wake the thread, one for each death.
            std::mem::forget(watcher);
        }
    }
}

/// Lives in the thread's event handler, and so ends with it, however it ends.
struct Life(Arc<AtomicBool>);

impl Life {
    /// Ends notify's loop, which goes on asking for the event that cannot be read. Unwinding is the only way out of it;
    /// it runs no panic hook, for nothing is wrong with the program.
    fn end(&self, error: &notify::Error) -> ! {
        tracing::error!(%error, "file events cannot be read");
        resume_unwind(Box::new("file events cannot be read"))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_backend_whose_thread_has_ended_refuses_calls_and_can_be_dropped() {
        let scratch = tempfile::tempdir().unwrap();
        let mut backend = Backend::start(|_| resume_unwind(Box::new("on purpose"))).unwrap();
        backend.watch(scratch.path()).unwrap();
        std::fs::write(scratch.path().join("x"), b"x").unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while backend.is_alive() {
            assert!(Instant::now() < deadline, "its death was never seen");
            std::thread::yield_now();
        }
        assert!(matches!(backend.watch(scratch.path()), Err(WatchError::Dead)));
        assert!(matches!(backend.unwatch(scratch.path()), Err(WatchError::Dead)));
        drop(backend);
    }

    #[test]
    fn a_call_that_meets_the_death_is_an_error() {
        let mut backend = Backend::start(|_| {}).unwrap();
        let answer = backend.call(|_| resume_unwind(Box::new("as notify does when its thread is gone")));
        assert!(matches!(answer, Err(WatchError::Dead)));
        assert!(!backend.is_alive());
    }
}
