//! One run of one cell, and what came of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::cell::Cell;
use super::incidents::{Incidents, usual_and_worst};
use super::sample::{Sample, Series};

/// Figures of one run, of the window after the warm-up.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) cell: Cell,
    pub(crate) seconds: f64,
    pub(crate) gib_per_second: f64,
    pub(crate) records_per_second: f64,
    /// Of both ends, or all TaskManagers.
    pub(crate) cpu_seconds_per_gib: f64,
    pub(crate) processes: Vec<Process>,
    /// Files in place, seconds from the window's begin.
    pub(crate) rotations: Vec<f64>,
    #[serde(flatten)]
    pub(crate) incidents: Incidents,
    /// (seconds from the window's begin, GiB/s).
    pub(crate) timeline: Vec<(f64, f64)>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) cpu_seconds_per_gib: f64,
    pub(crate) cores: f64,
    pub(crate) peak_resident_mib: f64,
}

pub(crate) const GIB: f64 = (1u64 << 30) as f64;

impl Run {
    /// `processes` by name; the one that has moved the most bytes is where they are counted. `None` if nothing moved in
    /// the window.
    pub(super) fn new(
        cell: Cell,
        processes: &BTreeMap<String, Series>,
        marks: &[i64],
        (from, until): (i64, i64),
    ) -> Option<Self> {
        let windows: BTreeMap<&str, Series> =
            processes.iter().map(|(name, series)| (name.as_str(), series.within(from, until))).collect();
        let moved = |series: &Series| series.delta().map_or(0, |delta| delta.bytes);
        let counted = windows.values().max_by_key(|series| moved(series))?;
        let delta = counted.delta().filter(|delta| delta.bytes > 0)?;
        let gib = delta.bytes as f64 / GIB;
        let begin = counted.iter().next()?.time_ms;
        let seconds = |time_ms: i64| (time_ms - begin) as f64 / 1000.0;
        let process = |(name, series): (&&str, &Series)| {
            let own = series.delta()?;
            // Heartbeats of several processes do not come at the same moments.
            let cores = own.cpu_seconds / own.seconds;
            Some(Process {
                name: (*name).to_owned(),
                cpu_seconds_per_gib: cores * delta.seconds / gib,
                cores,
                peak_resident_mib: series.last()?.peak_resident_bytes as f64 / f64::from(1 << 20),
            })
        };
        let costs: Vec<Process> = windows.iter().filter_map(process).collect();
        let ends: Vec<(Sample, Sample)> =
            windows.values().filter_map(|series| Some((*series.iter().next()?, *series.last()?))).collect();
        let sum = |field: fn(&Sample) -> u64| {
            ends.iter().map(|(first, last)| field(last).saturating_sub(field(first))).sum::<u64>()
        };
        // Each end counts each of them.
        let most = |field: fn(&Sample) -> u64| {
            ends.iter().map(|(first, last)| field(last).saturating_sub(field(first))).max().unwrap_or(0)
        };
        Some(Self {
            cell,
            seconds: delta.seconds,
            gib_per_second: gib / delta.seconds,
            records_per_second: delta.records as f64 / delta.seconds,
            cpu_seconds_per_gib: costs.iter().map(|process| process.cpu_seconds_per_gib).sum(),
            processes: costs,
            rotations: marks.iter().filter(|mark| (from..=until).contains(mark)).map(|mark| seconds(*mark)).collect(),
            incidents: Incidents {
                migrations: most(|sample| sample.migrations),
                reconnects: most(|sample| sample.reconnects),
                retransmitted_bytes: sum(|sample| sample.retransmitted_bytes),
                last_old_byte_ms: ends.iter().map(|(_, last)| last.last_old_byte_ms).max().unwrap_or(0),
                delay_p99_us: usual_and_worst(counted.iter().map(|sample| (sample.delay_p99_us, sample.delay_p99_us))),
            },
            timeline: counted.rates().into_iter().map(|(time, rate)| (seconds(time), rate / GIB)).collect(),
        })
    }

    /// The most memory that any process has had, MiB.
    pub(crate) fn peak_resident_mib(&self) -> f64 {
        self.processes.iter().map(|process| process.peak_resident_mib).fold(0.0, f64::max)
    }
}

/// Median, least and greatest of some figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let upper = *figures.get(middle)?;
        let median =
            if figures.len().is_multiple_of(2) { f64::midpoint(*figures.get(middle - 1)?, upper) } else { upper };
        Some(Self { median, least: *figures.first()?, greatest: *figures.last()? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::bench::cell::{Level, Policy, Transport};

    fn series(bytes_per_second: u64, cpu_ms_per_second: u64) -> Series {
        let mut series = Series::default();
        for second in 0..=10 {
            series.push(Sample {
                time_ms: 1_000 * second as i64,
                records: second,
                bytes: bytes_per_second * second,
                cpu_ms: cpu_ms_per_second * second,
                peak_resident_bytes: 10 << 20,
                migrations: second / 5,
                ..Sample::default()
            });
        }
        series
    }

    #[test]
    fn a_run_is_what_happened_in_its_window() {
        let cell = Cell {
            level: Level::Plane,
            transport: Transport::Tls,
            record_bytes: 1024,
            parallelism: 1,
            rotate_every_ms: Some(1000),
            policy: Policy::Renew,
        };
        let processes =
            BTreeMap::from([("receiver".to_owned(), series(1 << 30, 500)), ("sender".to_owned(), series(0, 250))]);
        let run = Run::new(cell, &processes, &[500, 3_500, 9_500], (2_000, 8_000)).unwrap();
        assert_eq!((run.seconds, run.gib_per_second, run.records_per_second), (6.0, 1.0, 1.0));
        assert_eq!((run.cpu_seconds_per_gib, run.processes.len()), (0.75, 2));
        assert_eq!((run.rotations.clone(), run.incidents.migrations), (vec![1.5], 1));
        assert_eq!((run.timeline.len(), run.timeline[0]), (6, (1.0, 1.0)));
        assert!(Run::new(cell, &processes, &[], (20_000, 30_000)).is_none());
    }

    #[test]
    fn a_median_of_an_even_number_lies_between() {
        assert_eq!(Spread::of([3.0, 1.0]), Some(Spread { median: 2.0, least: 1.0, greatest: 3.0 }));
        assert_eq!(Spread::of([]), None);
    }
}
