//! What can be chosen about a benchmark of the shuffle.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::cell::{Cell, Level, Policy, Transport};
use crate::commands::connection::Connection;
use crate::commands::time;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A set of choices; any of them can be changed by its own option
    #[arg(long, value_enum, default_value_t = Preset::Standard)]
    preset: Preset,
    /// Levels: the bare stream, the data plane alone, a job on a cluster
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LEVEL,...")]
    levels: Option<Vec<Level>>,
    /// What carries the bytes
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TRANSPORT,...")]
    transports: Option<Vec<Transport>>,
    /// Bytes of a record
    #[arg(long, value_delimiter = ',', value_name = "BYTES,...", value_parser = record_bytes)]
    records: Option<Vec<usize>>,
    /// Sources, and sinks, of the job
    #[arg(long, value_delimiter = ',', value_name = "N,...", value_parser = parallelism)]
    parallelism: Option<Vec<usize>>,
    /// Time between two rotations: `none`, `500ms`, `1s` ...
    #[arg(long, value_delimiter = ',', value_name = "TIME,...", value_parser = rotation)]
    rotate_every: Option<Vec<Rotation>>,
    /// What happens to live connections at a rotation
    #[arg(long, value_enum, value_delimiter = ',', value_name = "POLICY,...")]
    policies: Option<Vec<Policy>>,
    /// Times that each cell of the matrix is measured, in turns
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: Option<u32>,
    /// How long each measurement takes
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    window: Option<Duration>,
    /// How long a transfer goes on before it is measured
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    warm_up: Option<Duration>,
    /// Directory for report.json, report.md and throughput.svg
    #[arg(long, value_name = "DIR", default_value = "bench-report")]
    pub(super) out: PathBuf,
    /// Run the jobs on the cluster of --config-dir or --rest-url, as it is configured, instead of clusters of our own
    /// (to which -D applies). Its transport, policy and rotation are whatever they are there: the report calls them what
    /// is asked for here, and marks when its certificates did change (at most once per heartbeat.interval)
    #[arg(long)]
    pub(super) existing_cluster: bool,
    #[command(flatten)]
    pub(super) connection: Connection,
}

/// Sets of choices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// Everything once: what a newcomer wants to see, in some minutes
    Standard,
    /// The sizes and parallelisms that Flink was measured with
    Flink,
    /// ShuffleBench's shape: 1 KiB records with random keys
    Shufflebench,
    /// What rotations cost, under each policy
    Rotation,
    /// Only that it works
    Quick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rotation(Option<Duration>);

/// What is measured, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Each once, in the order in which they take turns.
    pub(crate) cells: Vec<Cell>,
    pub(crate) repeats: u32,
    pub(crate) window: Duration,
    pub(crate) warm_up: Duration,
}

impl Arguments {
    pub(super) fn choice(&self) -> Choice {
        use Level::{Job, Plane, Raw};
        use Policy::{DrainUntrusted, Keep, Renew};
        use Transport::{Plain, Quic, Tls};
        let every_second = Rotation(Some(Duration::from_secs(1)));
        let still = Rotation(None);
        type Set<'a> = (&'a [Level], &'a [Transport], &'a [usize], &'a [usize], &'a [Rotation], &'a [Policy], u32, u64);
        let set: Set<'_> = match self.preset {
            Preset::Standard => (
                &[Raw, Plane, Job],
                &[Plain, Tls, Quic],
                &[100, 1 << 10, 32 << 10],
                &[1],
                &[still, every_second],
                &[Renew],
                3,
                3,
            ),
            Preset::Flink => (&[Raw, Job], &[Plain, Tls], &[100, 1 << 10, 32 << 10], &[1, 2], &[still], &[Renew], 5, 5),
            Preset::Shufflebench => {
                (&[Raw, Job], &[Plain, Tls, Quic], &[1 << 10], &[1, 2, 4], &[still], &[Renew], 5, 5)
            }
            Preset::Rotation => (
                &[Raw, Plane, Job],
                &[Tls],
                &[1 << 10],
                &[1],
                &[still, every_second],
                &[Keep, DrainUntrusted, Renew],
                7,
                5,
            ),
            Preset::Quick => (&[Raw, Plane, Job], &[Tls], &[1 << 10], &[1], &[every_second], &[Renew], 1, 2),
        };
        let (levels, transports, records, parallelisms, rotations, policies, repeats, seconds) = set;
        let levels = self.levels.as_deref().unwrap_or(levels);
        let transports = self.transports.as_deref().unwrap_or(transports);
        let records = self.records.as_deref().unwrap_or(records);
        let parallelisms = self.parallelism.as_deref().unwrap_or(parallelisms);
        let rotations = self.rotate_every.as_deref().unwrap_or(rotations);
        let policies = self.policies.as_deref().unwrap_or(policies);
        let mut cells = Vec::new();
        for (level, transport) in pairs(levels, transports) {
            for (record_bytes, parallelism) in pairs(records, parallelisms) {
                for (rotation, policy) in pairs(rotations, policies) {
                    let rotate_every_ms = rotation.0.map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
                    cells.push(Cell { level, transport, record_bytes, parallelism, rotate_every_ms, policy });
                }
            }
        }
        let limits: Vec<Cell> = cells.iter().filter(|_| levels.contains(&Raw)).map(Cell::limit).collect();
        let cells = cells.into_iter().filter(|cell| cell.level != Raw).map(Cell::normal);
        let mut distinct: Vec<Cell> = Vec::new();
        for cell in limits.into_iter().chain(cells) {
            if !distinct.contains(&cell) {
                distinct.push(cell);
            }
        }
        Choice {
            cells: distinct,
            repeats: self.repeats.unwrap_or(repeats),
            window: self.window.unwrap_or(Duration::from_secs(seconds)),
            warm_up: self.warm_up.unwrap_or(Duration::from_secs(1)),
        }
    }
}

fn pairs<A: Copy, B: Copy>(one: &[A], other: &[B]) -> impl Iterator<Item = (A, B)> {
    one.iter().flat_map(|a| other.iter().map(|b| (*a, *b)))
}

fn record_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| format!("'{text}' is not a whole number"))?;
    if (MIN_RECORD..=MAX_RECORD).contains(&bytes) { Ok(bytes) } else { Err(format!("{MIN_RECORD} to {MAX_RECORD}")) }
}

fn parallelism(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| (1..=128).contains(number)).ok_or_else(|| "expected 1 to 128".to_owned())
}

fn rotation(text: &str) -> Result<Rotation, String> {
    if text == "none" { Ok(Rotation(None)) } else { time::parse(text).map(|every| Rotation(Some(every))) }
}

/// A key and a byte more.
const MIN_RECORD: usize = 16;
/// Well below the longest payload.
const MAX_RECORD: usize = 1 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn cells(options: &[&str]) -> Vec<String> {
        let line = Line::try_parse_from(["bench"].iter().chain(options)).unwrap();
        line.arguments.choice().cells.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_limit_is_measured_once_and_what_makes_no_difference_is_no_other_cell() {
        let options = ["--levels", "raw,plane", "--transports", "tls", "--records", "100", "--parallelism", "1,2"];
        let rotation = ["--rotate-every", "none,1s", "--policies", "keep,renew"];
        assert_eq!(
            cells(&[options.as_slice(), rotation.as_slice()].concat()),
            [
                "raw TLS",
                "plane TLS, 100 B",
                "plane TLS, 100 B, a rotation every 1 s, keep",
                "plane TLS, 100 B, a rotation every 1 s, renew",
            ]
        );
    }

    #[test]
    fn there_is_nothing_to_rotate_without_tls() {
        let options = ["--levels", "job", "--transports", "plain", "--records", "100", "--rotate-every", "none,1s"];
        assert_eq!(cells(&options), ["job plain TCP, 100 B, p = 1"]);
    }

    #[test]
    fn presets_are_what_they_say() {
        assert!(cells(&["--preset", "flink"]).contains(&"job TLS, 32 KiB, p = 2".to_owned()));
        assert_eq!(cells(&["--preset", "quick"]).len(), 3);
        assert!(Line::try_parse_from(["bench", "--records", "1"]).is_err());
    }
}
