//! What befell the connections while something was measured.

use serde::Serialize;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Incidents {
    /// Times that traffic moved to a newer connection.
    pub(crate) migrations: u64,
    /// Times that a lost connection was replaced.
    pub(crate) reconnects: u64,
    pub(crate) retransmitted_bytes: u64,
    /// Longest time from a change on disk to the last byte under what it replaced, milliseconds; 0 = not measured.
    pub(crate) last_old_byte_ms: u64,
    /// 99th percentile of a frame's delay from `send` to `recv`, microseconds: the median and the greatest of the
    /// readings.
    pub(crate) delay_p99_us: (u64, u64),
}

/// Of several runs together.
impl FromIterator<Self> for Incidents {
    fn from_iter<T: IntoIterator<Item = Self>>(runs: T) -> Self {
        let runs: Vec<Self> = runs.into_iter().collect();
        Self {
            migrations: runs.iter().map(|run| run.migrations).sum(),
            reconnects: runs.iter().map(|run| run.reconnects).sum(),
            retransmitted_bytes: runs.iter().map(|run| run.retransmitted_bytes).sum(),
            last_old_byte_ms: runs.iter().map(|run| run.last_old_byte_ms).max().unwrap_or(0),
            delay_p99_us: usual_and_worst(runs.iter().map(|run| run.delay_p99_us)),
        }
    }
}

/// The median of what was usual and the greatest of what was worst; zeros of nothing.
pub(super) fn usual_and_worst(readings: impl IntoIterator<Item = (u64, u64)>) -> (u64, u64) {
    let (mut usual, worst): (Vec<u64>, Vec<u64>) = readings.into_iter().unzip();
    usual.sort_unstable();
    (usual.get(usual.len() / 2).copied().unwrap_or(0), worst.into_iter().max().unwrap_or(0))
}
