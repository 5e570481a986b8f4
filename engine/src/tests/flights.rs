//! The demonstration job over real data: 336,776 departures, out of order by up to 21.7 hours.

use std::path::{Path, PathBuf};

use super::{planned, run, sum};
use crate::batch;

const ROWS: u64 = 336_776;

/// The script, writing to `out`, with more options for the source.
fn script(out: &Path, options: &str) -> String {
    format!(
        "CREATE TABLE flights (
           sched_dep TIMESTAMP(3), carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING,
           dep_delay INT, arr_delay INT, air_time INT, distance INT
         ) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'watermark.column' = 'sched_dep', {options});
         CREATE TABLE daily (
           carrier STRING, origin STRING, window_start TIMESTAMP(3), departures BIGINT, avg_dep_delay DOUBLE, max_arr_delay INT
         ) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         INSERT INTO daily
         SELECT carrier, origin, date_bin(INTERVAL '1 day', sched_dep) AS window_start, count(*), avg(dep_delay), max(arr_delay)
         FROM flights GROUP BY carrier, origin, date_bin(INTERVAL '1 day', sched_dep);",
        data().display(),
        out.display()
    )
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/flights.csv.gz")
}

/// Paused time passes as fast as the rows come, so that the paced job takes no longer, and fires
/// all along.
#[tokio::test(start_paused = true)]
async fn a_year_of_flights_equals_the_batch_result() {
    let dir = tempfile::tempdir().unwrap();
    let oracle = batch::run(&script(dir.path(), "'watermark.delay' = '24 h'")).await.unwrap();
    assert_eq!(oracle.rows_in, ROWS);
    for (parallelism, rate) in [(1, ""), (3, ", 'rows-per-second' = '100000'")] {
        let out = dir.path().join(parallelism.to_string());
        let metrics = run(&script(&out, &format!("'watermark.delay' = '24 h'{rate}")), parallelism).await.unwrap();
        let comparison = batch::compare(&out, &oracle).unwrap();
        assert!(comparison.exact, "parallelism {parallelism}: {comparison:?}");
        assert_eq!(metrics.iter().map(Vec::len).collect::<Vec<_>>(), [1, parallelism]);
        assert_eq!(sum(&metrics[0], |m| m.records_in), ROWS);
        assert_eq!(sum(&metrics[1], |m| m.records_in), ROWS);
        assert_eq!(sum(&metrics[1], |m| m.records_out), oracle.rows.len() as u64);
        assert_eq!(sum(&metrics[1], |m| m.late_records), 0);
        assert_eq!(sum(&metrics[0], |m| m.bytes_out), sum(&metrics[1], |m| m.bytes_in));
        assert!(metrics[1].iter().all(|m| m.watermark == Some(i64::MAX)));
    }
}

#[tokio::test(start_paused = true)]
async fn with_too_short_a_delay_late_rows_are_counted_and_no_others_are_lost() {
    let dir = tempfile::tempdir().unwrap();
    let metrics =
        run(&script(dir.path(), "'watermark.delay' = '1 min', 'rows-per-second' = '10000'"), 2).await.unwrap();
    let late = sum(&metrics[1], |m| m.late_records);
    assert!(late > 0);
    let mut departures = 0;
    for part in 0..2 {
        let rows = std::fs::read_to_string(dir.path().join(format!("part-{part}-0.jsonl"))).unwrap();
        for row in rows.lines() {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            departures += row["departures"].as_u64().unwrap();
        }
    }
    assert_eq!(departures + late, ROWS);
}

#[tokio::test]
async fn becomes_two_vertices() {
    let dir = tempfile::tempdir().unwrap();
    let job = planned(&script(dir.path(), "'watermark.delay' = '24 h'"), 4).await;
    let vertices: Vec<_> = job.vertices.iter().map(|vertex| (vertex.name.as_str(), vertex.parallelism)).collect();
    assert_eq!(
        vertices,
        [("Source: flights -> Watermark", 1), ("Window(tumble(sched_dep, 24 h)) -> Calc -> Sink: daily", 4)]
    );
    assert_eq!(job.name, "insert-into_daily");
}
