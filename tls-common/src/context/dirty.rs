//! The mark that callbacks leave: a sequence number, so that a change during a reload is never lost.

use crate::clock;
use crate::watch::FileWatchListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// How often a bundle was marked, and when the current burst began.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    marks: AtomicU64,
    /// Monotonic milliseconds of the first mark since the last [`Dirty::begin`]; 0 = none.
    first_ms: AtomicU64,
    /// The last attempt failed on what was there then: the next mark is the first sign of what will replace it.
    failed: AtomicBool,
    /// Somebody asked, rather than the file system.
    asked: AtomicBool,
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
        self.marks.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_one();
    }

    /// Somebody wants the files looked at.
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.mark();
    }

    /// Whether [`Self::ask`] was called since the last time this was.
    pub(super) fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }

    /// Resolves at the next mark, or at once if one came since the last call.
    pub(super) async fn marked(&self) {
        self.wake.notified().await;
    }

    pub(super) fn marks(&self) -> u64 {
        self.marks.load(Ordering::Acquire)
    }

    /// Starts an attempt: when its burst began (now, if nothing was marked: a poll or a retry).
    pub(super) fn begin(&self) -> u64 {
        match self.first_ms.swap(0, Ordering::AcqRel) {
            0 => clock::monotonic_ms(),
            first => first,
        }
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
