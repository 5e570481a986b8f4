//! Why a TaskManager could not start, or had to stop.

use std::io;
use std::net::SocketAddr;

use config::{ConfigError, MemorySize};
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
    /// The operator's: the receiver would wait for more before it acknowledges, and the sender for an acknowledgement.
    #[error("taskmanager.network.channel.retained: {retained}: expected at least {min}")]
    Retained { retained: MemorySize, min: MemorySize },
    /// The operator's.
    #[error("taskmanager.network.lanes: {lanes}: expected 1 to {max}")]
    Lanes { lanes: u16, max: u16 },
    /// The port is taken, or the address is not one of this machine's.
    #[error(
        "cannot listen on {address}: {source}; change {port_option} or taskmanager.bind-host, or stop what uses it"
    )]
    Listen { address: SocketAddr, port_option: &'static str, source: io::Error },
    /// The operator's: QUIC is always encrypted, and only by TLS 1.3.
    #[error(
        "taskmanager.data.transport: quic: {0}; it needs security.ssl.internal.enabled and taskmanager.data.ssl.enabled, \
         and TLSv1.3 in security.ssl.protocol"
    )]
    Quic(io::Error),
    /// The machine's.
    #[error("cannot open the data plane's socket: {0}")]
    DataPlane(io::Error),
}
