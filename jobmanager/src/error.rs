//! Why a JobManager could not start, or had to stop.

use std::io;
use std::net::SocketAddr;

use config::ConfigError;

/// One clear line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum JobManagerError {
    /// The configuration, or a file it names: the operator's to fix.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The port is taken, or the address is not one of this machine's.
    #[error(
        "cannot listen on {address}: {source}; change jobmanager.rpc.port or jobmanager.bind-host, or stop what uses it"
    )]
    Listen { address: SocketAddr, source: io::Error },
}
