//! QUIC by quinn: the same generations, policy, limits, counters and audit records as over TCP.
//!
//! [`Acceptor`] and [`Connector`] mirror [`crate::Acceptor`] and [`crate::Connector`]: each connection takes the
//! generation that is current, and the endpoint's judge looks after it from then on. Draining means that the application
//! is told ([`ConnectionInfo::draining`](crate::ConnectionInfo::draining)); what has not ended after the grace is closed
//! with [`Tuning::cut_code`]. There is no 0-RTT: early data can be replayed.
//!
//! A bundle must allow TLS 1.3, and both sides should name an ALPN protocol.

mod acceptor;
mod config;
mod connection;
mod connector;
mod error;
mod serve;
mod session;

use std::sync::Arc;

pub use acceptor::Acceptor;
pub use connection::Connection;
pub use connector::Connector;
pub use serve::serve;
pub use session::HandshakeData;
#[cfg(feature = "fuzzing")]
pub(crate) use session::read_server_hello;

/// The application error code, unless [`Tuning::cut_code`] says otherwise, of a connection that outlived its drain grace.
/// Reconnect when you see it: the peer is there, only this connection's certificates are not wanted any more.
pub const DRAINED: quinn::VarInt = quinn::VarInt::from_u32(0x6472_6169);

/// How connections of an acceptor or connector behave.
///
/// Mind one trap in [`quinn::TransportConfig`]: with segmentation offload an MTU above about 6,400 bytes makes every full
/// batch fail (the kernel takes 64 KiB, quinn sends ten segments at once), which costs all but a hundredth of the
/// throughput without any error. Raise the MTU or keep the offload.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// Windows, timeouts, MTU; quinn's defaults.
    pub transport: Arc<quinn::TransportConfig>,
    /// With what a connection is closed that outlived its drain grace. Default [`DRAINED`]; set it where your
    /// application protocol gives these codes a meaning, as HTTP/3 does.
    pub cut_code: quinn::VarInt,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { transport: Arc::default(), cut_code: DRAINED }
    }
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}
