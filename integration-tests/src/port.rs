//! What is spoken where: enough of each protocol to tell whether a server talks to us.

use crate::Role;

/// A kind of server port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// gRPC over HTTP/2.
    Rpc,
    /// The data plane.
    Data,
    /// The blob protocol.
    Blob,
    /// HTTPS.
    Rest,
}

impl Port {
    /// Every port of a process of this role.
    pub fn of(role: Role) -> &'static [Port] {
        match role {
            Role::JobManager => &[Port::Rpc],
            Role::TaskManager => &[Port::Rpc, Port::Data],
            Role::BlobServer => &[Port::Blob],
            Role::RestGateway => &[Port::Rest],
        }
    }

    /// Its name in ready files and in the TLS report.
    pub fn name(self) -> &'static str {
        match self {
            Port::Rpc => "rpc",
            Port::Data => "data",
            Port::Blob => "blob",
            Port::Rest => "rest",
        }
    }

    /// The protocol's name in ALPN.
    pub fn alpn(self) -> &'static str {
        match self {
            Port::Rpc => "h2",
            Port::Data => proto::frame::ALPN,
            Port::Blob => proto::blob::ALPN,
            Port::Rest => "http/1.1",
        }
    }

    /// What a client says first, where it has to: a data and a blob server speak first.
    pub fn opening(self) -> &'static [u8] {
        match self {
            // The preface of HTTP/2 and empty SETTINGS.
            Port::Rpc => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            Port::Data | Port::Blob => b"",
            Port::Rest => b"GET /v1/overview HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        }
    }

    /// What only a server that has accepted the client says: SETTINGS, the magic numbers of our protocols, a status line.
    pub fn greeting(self) -> &'static [u8] {
        match self {
            Port::Rpc => b"\x04\0\0\0\0\0",
            Port::Data => b"TMDP",
            Port::Blob => b"TMBL",
            Port::Rest => b"HTTP/1.1 200",
        }
    }
}

/// Whether `needle` is somewhere in `bytes`.
pub(crate) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
