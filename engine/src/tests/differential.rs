//! Random rows, out of order by less than the watermark's delay, in random files: the stream equals
//! the batch.

use std::fmt::Write;
use std::fs;

use proptest::prelude::*;

use super::{run, sum};
use crate::batch;

/// Most that a row is behind the ones before it, in milliseconds; the script's delay.
const DISORDER: i64 = 20_000;

/// Rows of one file: steps forward in event time, how far each row is behind, a key, a value.
type Rows = Vec<(i64, i64, Option<u8>, Option<i32>)>;

fn rows() -> impl Strategy<Value = Rows> {
    proptest::collection::vec(
        (0i64..10_000, 0..=DISORDER, proptest::option::weighted(0.9, 0u8..5), any::<Option<i32>>()),
        0..120,
    )
}

fn csv(rows: &Rows) -> String {
    let mut text = "time,tag,value\n".to_owned();
    let mut now = 1_600_000_000_000;
    for (step, behind, key, value) in rows {
        now += step;
        let time = datafusion::arrow::temporal_conversions::timestamp_ms_to_datetime(now - behind).unwrap();
        let key = key.map_or(String::new(), |key| format!("k{key}"));
        let value = value.map_or(String::new(), |value| value.to_string());
        writeln!(text, "{},{key},{value}", time.format("%Y-%m-%dT%H:%M:%S%.3f")).unwrap();
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_stream_equals_the_batch(files in proptest::collection::vec(rows(), 1..4), parallelism in 1usize..5, rate in 100u32..20_000) {
        let dir = tempfile::tempdir().unwrap();
        for (index, rows) in files.iter().enumerate() {
            fs::create_dir_all(dir.path().join("in")).unwrap();
            fs::write(dir.path().join(format!("in/{index}.csv")), csv(rows)).unwrap();
        }
        let sql = format!(
            "CREATE TABLE t (time TIMESTAMP(3), tag STRING, value INT) WITH ('connector' = 'filesystem', 'path' = '{0}/in', 'format' = 'csv',
               'watermark.column' = 'time', 'watermark.delay' = '{DISORDER} ms', 'rows-per-second' = '{rate}');
             CREATE TABLE s (w TIMESTAMP(3), k STRING, n BIGINT, total BIGINT, mean DOUBLE, low INT, high INT, kinds BIGINT)
               WITH ('connector' = 'filesystem', 'path' = '{0}/out', 'format' = 'json');
             INSERT INTO s SELECT tumble(time, INTERVAL '30 seconds'), tag, count(*), sum(value), avg(value), min(value), max(value), count(DISTINCT value)
             FROM t GROUP BY tumble(time, INTERVAL '30 seconds'), tag",
            dir.path().display()
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (oracle, metrics) = runtime.block_on(async { (batch::run(&sql).await.unwrap(), run(&sql, parallelism).await.unwrap()) });
        let comparison = batch::compare(&dir.path().join("out"), &oracle).unwrap();
        prop_assert!(comparison.exact, "{:?}", comparison);
        prop_assert_eq!(sum(&metrics[1], |m| m.late_records), 0);
    }
}
