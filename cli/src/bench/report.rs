//! All that was measured, and what it comes to.

use serde::Serialize;

use super::arguments::Choice;
use super::cell::Cell;
use super::incidents::Incidents;
use super::run::{Run, Spread};

/// The content of `report.json`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) machine: Machine,
    pub(crate) window_seconds: f64,
    pub(crate) repeats: u32,
    pub(crate) cells: Vec<Summary>,
    /// Turn by turn.
    pub(crate) runs: Vec<Vec<Run>>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// When the report was made: 1, 5, 15 minutes.
    pub(crate) load: String,
}

/// One cell over all turns.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) name: String,
    pub(crate) cell: Cell,
    pub(crate) gib_per_second: Spread,
    pub(crate) records_per_second: Spread,
    pub(crate) cpu_seconds_per_gib: Spread,
    /// Most of any process in any turn.
    pub(crate) peak_resident_mib: f64,
    /// Against the bare transport in the same turn; the figure where that was measured.
    pub(crate) of_limit: Option<Spread>,
    /// Against the same without rotation in the same turn.
    pub(crate) of_unrotated: Option<Spread>,
    pub(crate) rotations: usize,
    #[serde(flatten)]
    pub(crate) incidents: Incidents,
}

impl Report {
    pub(super) fn new(choice: Choice, runs: Vec<Vec<Run>>) -> Self {
        let cells = choice.cells.iter().filter_map(|cell| Summary::of(*cell, &runs)).collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::read(),
            window_seconds: choice.window.as_secs_f64(),
            repeats: choice.repeats,
            cells,
            runs,
        }
    }
}

impl Summary {
    fn of(cell: Cell, turns: &[Vec<Run>]) -> Option<Self> {
        let find = |turn: &Vec<Run>, cell: Cell| turn.iter().find(|run| run.cell == cell).cloned();
        let runs: Vec<Run> = turns.iter().filter_map(|turn| find(turn, cell)).collect();
        let against = |other: Cell| {
            let both = turns.iter().filter_map(|turn| Some((find(turn, cell)?, find(turn, other)?)));
            Spread::of(both.map(|(run, other)| run.gib_per_second / other.gib_per_second)).filter(|_| cell != other)
        };
        Some(Self {
            name: cell.to_string(),
            cell,
            gib_per_second: Spread::of(runs.iter().map(|run| run.gib_per_second))?,
            records_per_second: Spread::of(runs.iter().map(|run| run.records_per_second))?,
            cpu_seconds_per_gib: Spread::of(runs.iter().map(|run| run.cpu_seconds_per_gib))?,
            peak_resident_mib: runs.iter().map(Run::peak_resident_mib).fold(0.0, f64::max),
            of_limit: against(cell.limit()),
            of_unrotated: against(cell.unrotated()),
            rotations: runs.iter().map(|run| run.rotations.len()).sum(),
            incidents: runs.iter().map(|run| run.incidents).collect(),
        })
    }
}

impl Machine {
    fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let meminfo = read("/proc/meminfo");
        let kilobytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
        Self {
            processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kilobytes.and_then(|text| text.parse().ok()).unwrap_or(0.0) / f64::from(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::bench::cell::{Level, Policy, Transport};

    pub(in crate::bench) fn run(cell: Cell, gib_per_second: f64) -> Run {
        Run {
            cell,
            seconds: 3.0,
            gib_per_second,
            records_per_second: gib_per_second * 1e6,
            cpu_seconds_per_gib: 1.0,
            processes: Vec::new(),
            rotations: cell.rotate_every_ms.map(|_| 1.0).into_iter().collect(),
            incidents: Incidents {
                migrations: 1,
                last_old_byte_ms: 80,
                delay_p99_us: (500, 900),
                ..Incidents::default()
            },
            timeline: vec![(0.1, gib_per_second), (0.2, gib_per_second)],
        }
    }

    /// Limit, still and rotating, in two turns.
    pub(in crate::bench) fn report() -> Report {
        let rotating = Cell {
            level: Level::Plane,
            transport: Transport::Tls,
            record_bytes: 1024,
            parallelism: 1,
            rotate_every_ms: Some(1000),
            policy: Policy::Renew,
        };
        let cells = vec![rotating.limit(), rotating.unrotated(), rotating];
        let turn = |figures: [f64; 3]| cells.iter().zip(figures).map(|(cell, figure)| run(*cell, figure)).collect();
        let runs = vec![turn([2.0, 1.8, 1.8]), turn([4.0, 3.8, 3.42])];
        let second = std::time::Duration::from_secs(1);
        Report::new(Choice { cells, repeats: 2, window: second, warm_up: second }, runs)
    }

    #[test]
    fn ratios_are_taken_within_a_turn() {
        let report = report();
        let [limit, still, rotating] = &report.cells[..] else { panic!("{:?}", report.cells) };
        assert!(limit.of_limit.is_none() && still.of_unrotated.is_none());
        assert_eq!(still.of_limit.map(|ratio| (ratio.least, ratio.greatest)), Some((0.9, 0.95)));
        assert_eq!(rotating.of_unrotated.map(|ratio| (ratio.least, ratio.greatest)), Some((0.9, 1.0)));
        assert_eq!((rotating.rotations, rotating.incidents.migrations), (2, 2));
    }
}
