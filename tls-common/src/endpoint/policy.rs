//! What an endpoint does with connections that outlive the generation they were made under, and its bounds.

use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::TcpStream;

/// What happens to established connections when a new generation is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EstablishedConnections {
    /// Nothing: only new connections use the new material (FLIP-523's behaviour).
    Keep,
    /// The stored peer chain of every live connection is judged under the new generation; those that now fail are drained.
    #[default]
    DrainUntrusted,
    /// Every connection of an older generation is drained, so that all traffic moves to the new one.
    Renew,
}

/// The lifetime rules of one endpoint's connections.
#[derive(Clone, Debug)]
pub struct ConnectionPolicy {
    /// See [`EstablishedConnections`].
    pub established: EstablishedConnections,
    /// How long a draining connection may finish what it does before its IO fails. Default 10 s. A TCP connection that is
    /// only moved to newer material ([`EstablishedConnections::Renew`]) has this long without a byte either way, and
    /// altogether an hour more: a transfer under way is not cut.
    pub drain_grace: Duration,
    /// Longest age of any connection, shortened by up to a tenth of jitter. Default: none. A peer certificate's
    /// not-after ends a connection in any case.
    pub max_age: Option<Duration>,
}

impl Default for ConnectionPolicy {
    fn default() -> Self {
        Self { established: EstablishedConnections::default(), drain_grace: Duration::from_secs(10), max_age: None }
    }
}

/// The bounds of one endpoint.
#[derive(Clone, Debug)]
pub struct HandshakeLimits {
    /// TCP connect and TLS handshake together. Default 10 s.
    pub timeout: Duration,
    /// Handshakes under way at once; more wait. Default 256.
    pub max_concurrent: usize,
    /// Connections served at once; more wait in the kernel's backlog. Default 4096.
    pub max_connections: usize,
    /// How long closing may wait for `close_notify` to leave. Default 1 s.
    pub close_notify_timeout: Duration,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            max_concurrent: 256,
            max_connections: 4096,
            close_notify_timeout: Duration::from_secs(1),
        }
    }
}

/// Buffers of one connection. Bulk streams want bytes per system call at both ends; everything else wants little memory.
#[derive(Clone, Copy, Debug)]
pub struct StreamTuning {
    /// Read buffer beneath TLS, bytes; 0 = none, TLS reads the socket itself, 4 KiB at a time. Plain TCP has at least
    /// [`Self::PLAIN_LEAST`].
    pub read_buffer: usize,
    /// Encrypted bytes queued before a write waits for the socket. Never unlimited: without a limit `poll_write`
    /// takes everything and back-pressure is gone.
    pub write_buffer: usize,
}

impl StreamTuning {
    /// Least read buffer of plain TCP, bytes.
    pub const PLAIN_LEAST: usize = 4 * 1024;

    /// For request/response protocols: none (a short-lived connection would clear more memory than it reads) and 64 KiB.
    pub const INTERACTIVE: Self = Self { read_buffer: 0, write_buffer: 64 * 1024 };
    /// For bulk data: 256 KiB each; measured to be worth a fifth of the throughput, and only together.
    pub const BULK: Self = Self { read_buffer: 256 * 1024, write_buffer: 256 * 1024 };

    /// `tcp` with its read buffer; `plain` without TLS above it.
    pub(super) fn buffered(self, tcp: TcpStream, plain: bool) -> BufReader<TcpStream> {
        // A read that does not fit passes a buffer by: one of a single byte is none.
        let least = if plain { Self::PLAIN_LEAST } else { 1 };
        BufReader::with_capacity(self.read_buffer.max(least), tcp)
    }
}
