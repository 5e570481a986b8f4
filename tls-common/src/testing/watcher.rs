//! Faults of the process's one file watcher: a full event queue, and its death.

use crate::watch::{FileWatchListener, FileWatchService, weak_listener};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Overflowing a queue that holds more events than this would take too long.
const MAX_QUEUED_EVENTS: u64 = 1_000_000;

/// The watcher's thread reaches our listener within this, or something is broken.
const HOLD_TIMEOUT: Duration = Duration::from_secs(60);

/// Overflows the event queue of this process's file watcher, really: holds the watcher's thread, makes more events than
/// the kernel queues, runs `meanwhile`, whose events are lost, and lets go.
///
/// `scratch` is an existing directory that nobody else watches. `meanwhile` must not wait for the watcher.
///
/// # Errors
/// What the system says; `Unsupported` if the kernel's queue is too long for this.
pub fn overflow_queue(scratch: &Path, meanwhile: impl FnOnce()) -> io::Result<()> {
    let queued = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?;
    let queued: u64 = queued.trim().parse().map_err(io::Error::other)?;
    if queued > MAX_QUEUED_EVENTS {
        let reason = format!("fs.inotify.max_queued_events is {queued}, more than {MAX_QUEUED_EVENTS}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
    }
    let hold = Arc::new(Hold::default());
    let files = [scratch.join("flood-a"), scratch.join("flood-b")];
    let registration = FileWatchService::global().register(vec![files[0].clone()], weak_listener(&hold));
    {
        let _let_go = LetGo(&hold);
        fs::write(&files[0], b"x")?;
        hold.await_held()?;
        // Two files in turn: the kernel merges an event with an equal one before it. Each write is two events or more.
        for _ in 0..=queued / 3 {
            files.iter().try_for_each(|file| fs::write(file, b"x"))?;
        }
        meanwhile();
    }
    drop(registration);
    Ok(())
}

/// The next file event of this process's watcher, in whatever directory, cannot be read: the watcher dies of it.
pub fn break_watcher() {
    BROKEN.store(true, Ordering::Release);
}

/// What [`break_watcher`] asked for.
pub(crate) fn injected_read_error() -> Option<notify::Error> {
    BROKEN.swap(false, Ordering::AcqRel).then(|| notify::Error::generic("a read error, injected by a test"))
}

static BROKEN: AtomicBool = AtomicBool::new(false);

/// A listener that keeps the watcher's thread until it is let go.
#[derive(Debug, Default)]
struct Hold {
    state: Mutex<HoldState>,
    changed: Condvar,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum HoldState {
    #[default]
    Free,
    Held,
    LetGo,
}

impl Hold {
    fn state(&self) -> MutexGuard<'_, HoldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self) {
        let mut state = self.state();
        if *state == HoldState::Free {
            *state = HoldState::Held;
            self.changed.notify_all();
        }
        let held = self.changed.wait_while(state, |state| *state == HoldState::Held);
        drop(held);
    }

    fn await_held(&self) -> io::Result<()> {
        let waited = self.changed.wait_timeout_while(self.state(), HOLD_TIMEOUT, |state| *state == HoldState::Free);
        let (_state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

/// Lets go however the block ends.
struct LetGo<'a>(&'a Hold);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        *self.0.state() = HoldState::LetGo;
        self.0.changed.notify_all();
    }
}

impl FileWatchListener for Hold {
    fn on_watch_started(&self, _directory: &Path) {}

    fn on_created(&self, _path: &Path) {
        self.hold();
    }

    fn on_deleted(&self, _path: &Path) {
        self.hold();
    }

    fn on_modified(&self, _path: &Path) {
        self.hold();
    }
}
