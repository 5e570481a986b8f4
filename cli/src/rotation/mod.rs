//! Identities, and the ways operators replace them on disk.
//!
//! ```text
//!  identity  ──▶  store  ──▶  bundle  ──▶  directory
//!  key pairs,     PKCS12      a set of     in place, by rename, or the
//!  a small CA     bytes       files        `..data` swap of Kubernetes
//! ```
//!
//! [`Rotator`] drives both bundles of a cluster through these stages, one step at a time; `Renewer` does so with
//! identities that are already on disk (`Kept`), whose passwords stay. Trust is handed over: each
//! step's truststore already holds the certificates of the coming steps and still holds those of the last ones, so that
//! two processes that are some steps apart accept each other.
//!
//! Everything here blocks (key generation, PKCS12 key derivation, file IO): call it off the async threads.

mod bundle;
mod directory;
mod identity;
mod kept;
mod renewer;
mod rotator;
mod store;

pub use bundle::{InternalBundle, RestBundle};
pub use directory::{Directory, FileSet, Way};
pub(crate) use directory::{create_dir, create_together};
pub use identity::{Authority, Identity, Validity};
pub(crate) use kept::{Kept, Passwords, internal_files, rest_files};
pub(crate) use renewer::{Renewed, Renewer};
pub(crate) use rotator::LOOPBACK;
pub use rotator::{Replaced, Rotation, Rotator, RotatorOptions};
pub use store::{keystore, random_password, truststore};

use std::io;
use std::path::PathBuf;

/// Why an identity could not be made or replaced.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The caller asked for a certificate that cannot exist, for example with an invalid host name.
    #[error("cannot make a certificate for {subject}: {cause}; check the host names")]
    Certificate {
        /// Whose certificate it would have been.
        subject: String,
        /// What the certificate library says.
        cause: rcgen::Error,
    },
    /// The PKCS12 writer refused its input.
    #[error("cannot write a PKCS12 store: {0}")]
    Store(#[from] p12_keystore::error::Error),
    /// The machine's fault: disk full, no permission, a directory that is gone.
    #[error("cannot write {path}: {cause}")]
    File {
        /// The file or directory that could not be written.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The machine's or the caller's fault: a file that is not there, or that others may read only.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The caller's fault: a file that is there and is not what `tidemill tls init` has made.
    #[error("cannot use {path}: {reason}")]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The caller's fault: a bundle replaces its files, it does not change which files there are.
    #[error("a replacement must have the same files as the bundle in {path}")]
    DifferentFiles {
        /// The directory of the bundle.
        path: PathBuf,
    },
}
