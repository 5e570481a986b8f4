//! The mark that callbacks leave: a sequence number, so that a change during a reload is never lost.

use crate::clock;
use crate::watch::FileWatchListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// How often a bundle was marked, and when the current burst began.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    marks: AtomicU64,
    /// Monotonic milliseconds of the first mark since the last [`Dirty::begin`]; 0 = none.
    first_ms: AtomicU64,
    /// The last attempt failed on what was there then: the next mark is the first sign of what will replace it.
    failed: AtomicBool,
    /// Who asked, if it was not the file system.
    asked: Mutex<Option<&'static str>>,
    wake: Notify,
}

impl Dirty {
    /// Something may have changed.
    pub(super) fn mark(&self) {
        if self.failed.swap(false, Ordering::AcqRel) {
            self.first_ms.store(clock::monotonic_ms(), Ordering::Release);
        } else {
            // Only the first mark of a burst sets the time; a failure means it is set already.
            let _ = self.first_ms.compare_exchange(0, clock::monotonic_ms(), Ordering::AcqRel, Ordering::Acquire);
        }
        self.wake_up();
    }

    /// `who` wants the files looked at, whether or not anything has changed.
    pub(super) fn ask(&self, who: &'static str) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
        self.wake_up();
    }

    /// Who has called [`Self::ask`] last since the last time this was called.
    pub(super) fn take_asked(&self) -> Option<&'static str> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn wake_up(&self) {
        self.marks.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Resolves at the next mark, or at once if one came since the last call.
    pub(super) async fn marked(&self) {
        self.wake.notified().await;
    }

    pub(super) fn marks(&self) -> u64 {
        self.marks.load(Ordering::Acquire)
    }

    /// Starts an attempt: when its burst began; `None` if nothing was marked (a poll, or somebody asked).
    pub(super) fn begin(&self) -> Option<u64> {
        Some(self.first_ms.swap(0, Ordering::AcqRel)).filter(|first| *first != 0)
    }

    /// Gives a burst back whose attempt failed: a retry that succeeds without another mark counts from its beginning.
    pub(super) fn give_back(&self, first_ms: u64) {
        if self.first_ms.compare_exchange(0, first_ms, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.failed.store(true, Ordering::Release);
        }
    }
}

impl FileWatchListener for Dirty {
    // A directory that starts to be watched may have changed in the instant before.
    fn on_watch_started(&self, _directory: &Path) {
        self.mark();
    }

    fn on_created(&self, _path: &Path) {
        self.mark();
    }

    fn on_deleted(&self, _path: &Path) {
        self.mark();
    }

    fn on_modified(&self, _path: &Path) {
        self.mark();
    }
}
