//! The process-wide file watcher: events are hints that mark a bundle dirty, nothing more.
//!
//! One inotify instance serves every bundle of the process (a user has 128 of them). For each registered path the
//! directory of every symlink hop is watched, because a rename over a file or a swap of Kubernetes' `..data` link
//! produces events in the directory only, and never under the file's own name. Therefore file names are not filtered:
//! whether anything changed is decided by digests, see [`crate::TlsContext`].
//!
//! What has no events is found by the poll of each bundle: network file systems, a file that is a mount of its own, a
//! write through a hard link from another directory, and the first of two names of one directory (a bind mount): inotify
//! knows it under the name that was watched last.
//!
//! The watcher may die, or never start where inotify instances have run out. Then polls find the changes, and each of
//! them tries to start a new watcher; see [`FileWatchService::restarts`].

mod backend;
pub(crate) mod debounce;
mod hops;
mod service;

pub(crate) use service::weak_listener;
pub use service::{FileWatchListener, FileWatchService, WatchHandle};
