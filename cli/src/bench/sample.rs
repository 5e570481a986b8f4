//! Readings of counters over time, and what follows from two of them.

use serde::{Deserialize, Serialize};

/// What has been moved and used so far, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Unix milliseconds.
    pub(crate) time_ms: i64,
    pub(crate) records: u64,
    /// Of the records themselves, without anything around them.
    pub(crate) bytes: u64,
    pub(crate) cpu_ms: u64,
    pub(crate) peak_resident_bytes: u64,
    /// Times that traffic moved to a newer connection, that a lost one was replaced, and bytes sent again.
    pub(crate) migrations: u64,
    pub(crate) reconnects: u64,
    pub(crate) retransmitted_bytes: u64,
    /// Longest time from the first sign of a change on disk to the last byte under what it replaced.
    pub(crate) last_old_byte_ms: u64,
    /// 99th percentile of the delay of the frames since the sample before, microseconds; 0 where it is not measured.
    pub(crate) delay_p99_us: u64,
}

/// The readings of one process, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Series(Vec<Sample>);

impl Series {
    /// Adds a reading, unless it is the last one again.
    pub(crate) fn push(&mut self, sample: Sample) {
        if self.0.last().is_none_or(|last| last.time_ms < sample.time_ms) {
            self.0.push(sample);
        }
    }

    pub(crate) fn last(&self) -> Option<&Sample> {
        self.0.last()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter()
    }

    /// The readings within `from..=until`.
    pub(crate) fn within(&self, from: i64, until: i64) -> Self {
        Self(self.0.iter().filter(|sample| (from..=until).contains(&sample.time_ms)).copied().collect())
    }

    /// What happened between the first and the last reading.
    pub(crate) fn delta(&self) -> Option<Delta> {
        let (first, last) = (self.0.first()?, self.0.last()?);
        let seconds = (last.time_ms - first.time_ms) as f64 / 1000.0;
        (seconds > 0.0).then(|| Delta {
            seconds,
            records: last.records.saturating_sub(first.records),
            bytes: last.bytes.saturating_sub(first.bytes),
            cpu_seconds: last.cpu_ms.saturating_sub(first.cpu_ms) as f64 / 1000.0,
        })
    }

    /// Bytes per second between neighbours: (end of the interval, rate).
    pub(crate) fn rates(&self) -> Vec<(i64, f64)> {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        pairs
            .map(|(before, after)| {
                let seconds = (after.time_ms - before.time_ms) as f64 / 1000.0;
                (after.time_ms, after.bytes.saturating_sub(before.bytes) as f64 / seconds)
            })
            .collect()
    }
}

/// Between two readings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Delta {
    pub(crate) seconds: f64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) cpu_seconds: f64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn figures_come_from_the_readings_within_the_window() {
        let mut series = Series::default();
        for second in 0..5 {
            let sample = Sample {
                time_ms: second * 1000,
                bytes: second as u64 * 10,
                cpu_ms: 500 * second as u64,
                ..Sample::default()
            };
            series.push(sample);
            series.push(sample);
        }
        let window = series.within(1000, 3500);
        let delta = window.delta().unwrap();
        assert_eq!((delta.seconds, delta.bytes, delta.cpu_seconds), (2.0, 20, 1.0));
        assert_eq!(window.rates(), [(2000, 10.0), (3000, 10.0)]);
        assert_eq!(series.within(4000, 5000).delta(), None, "one reading tells nothing");
    }
}
