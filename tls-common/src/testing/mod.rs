//! A fault kit for files that somebody follows: every way in which people and their tools replace them.
//!
//! For tests and benchmarks, this crate's own first (cargo feature `testing`, off by default). A [`Directory`] holds a
//! set of files and replaces it in one [`Way`]: as keytool, `cp`, certbot, Vault's agent or the kubelet do. What it does
//! is a [`Change`], a list of file operations ([`Step`]), and the caller decides when each of them happens: a slow disk
//! is a step that comes later.
//!
//! ```
//! use tls_common::testing::{Directory, FileSet, Step, Way};
//!
//! # fn main() -> std::io::Result<()> {
//! let scratch = tempfile::tempdir()?;
//! let files = |content: &str| FileSet::from([("tls.crt".to_owned(), content.as_bytes().to_vec())]);
//! let mut volume = Directory::create(scratch.path(), Way::AtomicWriter, &files("old"))?;
//!
//! // The kubelet has written everything, but the link has not moved yet.
//! let mut change = volume.plan(&files("new"))?;
//! change.run_until(|next| matches!(next, Step::Rename { .. }))?;
//! assert_eq!(std::fs::read(volume.file("tls.crt"))?, b"old");
//!
//! change.run()?;
//! assert_eq!(std::fs::read(volume.file("tls.crt"))?, b"new");
//! # Ok(())
//! # }
//! ```
//!
//! What no directory can do is here too: [`BindMount`], [`overflow_queue`] and [`break_watcher`].
//! Everything blocks; nothing knows what is in the files.

mod directory;
mod mount;
mod steps;
mod watcher;

pub use directory::{Directory, FileSet, Way};
pub use mount::{BindMount, Namespace, in_own_mount_namespace};
pub use steps::{Change, Step};
pub(crate) use watcher::injected_read_error;
pub use watcher::{break_watcher, overflow_queue};
