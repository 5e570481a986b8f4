//! [`ConfigError`]: what is wrong with a configuration. All of it is the operator's to mend, and says how.

use std::{io, path::PathBuf};
use tls_common::MaterialError;

/// A configuration that cannot be used. Displays as one line that names the key or file; never contains a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A configuration file that cannot be read.
    #[error("cannot read {}: {error}; give the directory that holds config.yaml with --config-dir", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// Text that is no configuration.
    #[error("{source_name}: {reason}")]
    Syntax {
        /// Which file or variable, with the line where known.
        source_name: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A security option that nobody has heard of: most likely a spelling mistake that would leave a door open.
    #[error("unknown security option `{key}`; did you mean `{nearest}`?")]
    UnknownSecurityOption {
        /// As configured.
        key: String,
        /// The known key that is most like it.
        nearest: &'static str,
    },
    /// A security option that exists in Flink or is planned, and that would have no effect.
    #[error("`{key}` is not supported: {advice}")]
    Unsupported {
        /// As configured.
        key: String,
        /// Why, and what to do.
        advice: &'static str,
    },
    /// A value that its option cannot have.
    #[error("`{key}: {value}`: {reason}")]
    Invalid {
        /// The key as configured.
        key: String,
        /// The value as configured; `******` if it is secret.
        value: String,
        /// What the value should be.
        reason: String,
    },
    /// An option without which the configuration makes no sense.
    #[error("`{key}` is not set: {reason}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What needs it.
        reason: &'static str,
    },
    /// Two options of which only one can be meant.
    #[error("`{first}` and `{second}` are both set; keep one")]
    Conflict {
        /// One key.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A host name that does not lead to an address.
    #[error("`{key}: {host}`: cannot resolve the host name: {error}")]
    Unresolvable {
        /// The key.
        key: &'static str,
        /// Its value.
        host: String,
        /// What the resolver said.
        #[source]
        error: io::Error,
    },
    /// The port of another process, which that process may choose but which must be known here.
    #[error("`{key}: 0`: the process behind it takes any port; give this one the port it took (-D{key}=PORT)")]
    UnknownPort {
        /// The key.
        key: &'static str,
    },
    /// Keystores, truststores and password files that cannot be used.
    #[error("`{keys}.*`: {error}")]
    Material {
        /// What the keys that name them begin with.
        keys: &'static str,
        /// Which file, and what is wrong with it.
        #[source]
        error: MaterialError,
    },
    /// The ready file cannot be written.
    #[error("`{key}`: cannot write {}: {error}", path.display())]
    ReadyFile {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// Standard input is not the pipe that it should be.
    #[error("`{key}`: standard input is no pipe from a parent process ({error}); remove the option")]
    NoParent {
        /// The key that asks for one.
        key: &'static str,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
}
