//! What can be measured: one cell of the matrix, and how to choose cells on the command line.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How much of Tidemill is in the way of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Nothing: a bare socket, or a tuned tokio-rustls stream on it, between two processes. The limit.
    Raw,
    /// The data plane between two processes, one channel, no job.
    Plane,
    /// A job on a cluster: source, keyed exchange, blackhole; everything crosses from one TaskManager to another.
    Job,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// TCP without TLS.
    Plain,
    /// TLS 1.3 over TCP.
    Tls,
    /// QUIC.
    Quic,
}

/// What happens to live connections at a rotation: `security.ssl.reload.established-connections`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    Keep,
    DrainUntrusted,
    Renew,
}

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) level: Level,
    pub(crate) transport: Transport,
    /// Payload bytes of a record.
    pub(crate) record_bytes: usize,
    /// Sources, and sinks. One where there is no job.
    pub(crate) parallelism: usize,
    /// Time between two rotations, milliseconds.
    pub(crate) rotate_every_ms: Option<u64>,
    pub(crate) policy: Policy,
}

impl Cell {
    pub(crate) fn rotate_every(&self) -> Option<Duration> {
        self.rotate_every_ms.map(Duration::from_millis)
    }

    /// What this cell is to be compared with: the bare transport.
    pub(crate) fn limit(&self) -> Self {
        // There is no bare QUIC here: it has to compete with TLS.
        let transport = if self.transport == Transport::Plain { Transport::Plain } else { Transport::Tls };
        Self {
            level: Level::Raw,
            transport,
            record_bytes: BLOCK_BYTES,
            parallelism: 1,
            rotate_every_ms: None,
            policy: Policy::DrainUntrusted,
        }
    }

    /// Without what makes no difference to it: another parallelism where there is no job, a policy where nothing rotates,
    /// rotation where there is nothing to rotate.
    pub(crate) fn normal(self) -> Self {
        let parallelism = if self.level == Level::Job { self.parallelism } else { 1 };
        let rotates = self.transport != Transport::Plain && self.rotate_every_ms.is_some();
        let cell = Self { parallelism, ..self };
        if rotates { cell } else { cell.unrotated() }
    }

    /// The same without rotation.
    pub(crate) fn unrotated(&self) -> Self {
        Self { rotate_every_ms: None, policy: Policy::DrainUntrusted, ..*self }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.level.name(), self.transport.name())?;
        if self.level != Level::Raw {
            write!(f, ", {}", size(self.record_bytes))?;
        }
        if self.level == Level::Job {
            write!(f, ", p = {}", self.parallelism)?;
        }
        if let Some(every) = self.rotate_every() {
            write!(f, ", a rotation every {} s, {}", every.as_secs_f64(), self.policy.name())?;
        }
        Ok(())
    }
}

impl Level {
    pub(crate) const ALL: [Self; 3] = [Self::Raw, Self::Plane, Self::Job];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Plane => "plane",
            Self::Job => "job",
        }
    }
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain TCP",
            Self::Tls => "TLS",
            Self::Quic => "QUIC",
        }
    }
}

impl Policy {
    /// As the option has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::DrainUntrusted => "drain-untrusted",
            Self::Renew => "renew",
        }
    }
}

/// `100 B`, `1 KiB`.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// Bytes of a write where there are no records, and about the bytes that records are packed to before they travel.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_says_what_matters_about_it() {
        let cell = Cell {
            level: Level::Job,
            transport: Transport::Tls,
            record_bytes: 1024,
            parallelism: 2,
            rotate_every_ms: Some(500),
            policy: Policy::Renew,
        };
        assert_eq!(cell.to_string(), "job TLS, 1 KiB, p = 2, a rotation every 0.5 s, renew");
        assert_eq!(cell.unrotated().to_string(), "job TLS, 1 KiB, p = 2");
        assert_eq!(cell.limit().to_string(), "raw TLS");
        assert_eq!(Cell { transport: Transport::Plain, ..cell }.limit().to_string(), "raw plain TCP");
        assert_eq!((size(100), size(1024), size(32 << 10)), ("100 B".into(), "1 KiB".into(), "32 KiB".into()));
    }
}
