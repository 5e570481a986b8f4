//! Counters of one running subtask, written by its task and read by anybody.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Live counters. All are monotonic; reads are not a consistent cut.
#[derive(Debug)]
pub struct TaskMetrics {
    records_in: AtomicU64,
    records_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    late_records: AtomicU64,
    watermark: AtomicI64,
}

impl Default for TaskMetrics {
    fn default() -> Self {
        Self {
            records_in: AtomicU64::new(0),
            records_out: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            late_records: AtomicU64::new(0),
            watermark: AtomicI64::new(i64::MIN),
        }
    }
}

impl TaskMetrics {
    /// The counters now.
    pub fn snapshot(&self) -> TaskMetricsSnapshot {
        let watermark = self.watermark.load(Ordering::Relaxed);
        TaskMetricsSnapshot {
            records_in: self.records_in.load(Ordering::Relaxed),
            records_out: self.records_out.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            late_records: self.late_records.load(Ordering::Relaxed),
            watermark: (watermark != i64::MIN).then_some(watermark),
        }
    }

    pub(crate) fn received(&self, records: usize, bytes: usize) {
        self.records_in.fetch_add(records as u64, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn emitted(&self, records: usize, bytes: usize) {
        self.records_out.fetch_add(records as u64, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn dropped_late(&self, records: usize) {
        self.late_records.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(crate) fn advanced(&self, watermark: i64) {
        self.watermark.fetch_max(watermark, Ordering::Relaxed);
    }
}

/// [`TaskMetrics`] at one moment, for heartbeats and REST.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMetricsSnapshot {
    /// Rows read from the channels or, in a source, from the connector.
    pub records_in: u64,
    /// Rows sent to the channels or given to the sink.
    pub records_out: u64,
    /// Payload bytes received over channels; 0 in a source.
    pub bytes_in: u64,
    /// Payload bytes sent over channels; 0 in a task that ends in a sink.
    pub bytes_out: u64,
    /// Rows dropped because their window had already fired.
    pub late_records: u64,
    /// Event time that is complete, in milliseconds since 1970 UTC; `i64::MAX` once the input has
    /// ended, `None` before the first watermark.
    pub watermark: Option<i64>,
}
