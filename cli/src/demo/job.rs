//! The job of the demo: departures from New York per day, airline and airport.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::ensure;

/// The job's files.
#[derive(Debug)]
pub(super) struct Job {
    data: PathBuf,
    /// Directory of the sink.
    pub(super) output: PathBuf,
}

impl Job {
    /// Puts the built-in data into `directory`, unless other `data` is given.
    pub(super) fn prepare(directory: &Path, data: Option<&Path>) -> io::Result<Self> {
        let output = directory.join("out");
        let data = match data {
            Some(data) => data.canonicalize()?,
            None => {
                let path = directory.join("flights.csv.gz");
                fs::write(&path, FLIGHTS)?;
                path
            }
        };
        Ok(Self { data, output })
    }

    /// The script. The source delivers `rows_per_second` rows per second; without it as fast as it can.
    pub(super) fn sql(&self, rows_per_second: Option<u64>) -> String {
        let pace = rows_per_second.map(|rows| format!("\n  'rows-per-second' = '{rows}',")).unwrap_or_default();
        let (data, output) = (quoted(&self.data), quoted(&self.output));
        format!(
            "CREATE TABLE flights (
  sched_dep TIMESTAMP(3), carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING,
  dep_delay INT, arr_delay INT, air_time INT, distance INT
) WITH (
  'connector' = 'filesystem',
  'path' = '{data}',
  'format' = 'csv',{pace}
  'watermark.column' = 'sched_dep',
  'watermark.delay' = '24 h'
);

CREATE TABLE departures (
  day TIMESTAMP(3), carrier STRING, origin STRING, flights BIGINT, avg_dep_delay DOUBLE, max_arr_delay INT
) WITH ('connector' = 'filesystem', 'path' = '{output}', 'format' = 'json');

INSERT INTO departures
SELECT tumble(sched_dep, INTERVAL '1 day'), carrier, origin, count(*), avg(dep_delay), max(arr_delay)
FROM flights
GROUP BY tumble(sched_dep, INTERVAL '1 day'), carrier, origin;
"
        )
    }
}

/// The pace at which `rows` take `seconds` and a little more, so that what happens every second happens `seconds` times.
pub(super) fn rows_per_second(rows: u64, seconds: u64) -> anyhow::Result<u64> {
    ensure!(rows > seconds, "the data has {rows} rows only; ask for fewer --seconds");
    Ok(rows / (seconds + 1))
}

/// A path within a SQL string.
fn quoted(path: &Path) -> String {
    path.display().to_string().replace('\'', "''")
}

const FLIGHTS: &[u8] = include_bytes!("../../../data/flights.csv.gz");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_pace_gives_a_second_more_than_the_time_asked_for() {
        let pace = rows_per_second(336_776, 60).unwrap();
        assert!((61..63).contains(&(336_776 / pace)));
        assert!(rows_per_second(10, 60).is_err());
    }

    #[test]
    fn a_path_cannot_end_the_string_it_stands_in() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("it's");
        fs::create_dir(&directory).unwrap();
        let job = Job::prepare(&directory, None).unwrap();
        assert!(job.sql(Some(5)).contains("it''s/flights.csv.gz',"));
        assert!(job.sql(Some(5)).contains("'rows-per-second' = '5',"));
        assert!(!job.sql(None).contains("rows-per-second"));
    }
}
