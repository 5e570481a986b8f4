//! Why a TaskManager could not start, or had to stop.

use std::io;
use std::net::SocketAddr;

use config::ConfigError;
use proto::ids::InvalidId;

/// One clear line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum TaskManagerError {
    /// The configuration, or a file it names: the operator's to fix.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operator's: the name is not one.
    #[error("taskmanager.resource-id or taskmanager.host: {0}")]
    Id(#[from] InvalidId),
    /// The operator's: more or fewer slots than can be registered.
    #[error("taskmanager.numberOfTaskSlots: {slots}: expected 1 to {max}")]
    Slots { slots: usize, max: usize },
    /// The port is taken, or the address is not one of this machine's.
    #[error(
        "cannot listen on {address}: {source}; change {port_option} or taskmanager.bind-host, or stop what uses it"
    )]
    Listen { address: SocketAddr, port_option: &'static str, source: io::Error },
}
