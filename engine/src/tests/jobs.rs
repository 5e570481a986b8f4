//! Jobs of other shapes: without windows, without ends, and with faults.

use std::fs;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::{run, run_until, sum};
use crate::{TaskError, batch};

/// Writes the files of a table `(id BIGINT, tag STRING, time TIMESTAMP(3))`.
fn write_files(directory: &Path, files: &[&str]) {
    fs::create_dir_all(directory).unwrap();
    for (index, rows) in files.iter().enumerate() {
        fs::write(directory.join(format!("{index}.csv")), format!("id,tag,time\n{rows}")).unwrap();
    }
}

fn script(dir: &Path, options: &str, columns: &str, select: &str) -> String {
    format!(
        "CREATE TABLE t (id BIGINT, tag STRING, time TIMESTAMP(3)) WITH ('connector' = 'filesystem', 'path' = '{0}/in', 'format' = 'csv'{options});
         CREATE TABLE s ({columns}) WITH ('connector' = 'filesystem', 'path' = '{0}/out', 'format' = 'json');
         INSERT INTO s {select}",
        dir.display()
    )
}

const FILES: &[&str] = &[
    "1,a,2020-01-01T00:00:00Z\n2,b,2020-01-01T00:00:50Z\n3,,2020-01-01T00:01:10Z\n",
    "4,a,2020-01-02T00:00:00Z\n5,\"b,\"\"c\",2020-01-02 00:00:30\n",
    ",a,2020-01-01T00:00:30.500Z\n7,c,\n",
];

/// Every query gives what the batch gives, at any parallelism.
#[tokio::test]
async fn queries_equal_the_batch_result() {
    let event_time = ", 'watermark.column' = 'time', 'watermark.delay' = '1 min'";
    for (options, columns, select) in [
        ("", "a BIGINT, b STRING, c TIMESTAMP(3)", "SELECT * FROM t"),
        ("", "b STRING, a BIGINT", "SELECT upper(tag), id * 2 + 1 FROM t WHERE id > 1 AND tag IS NOT NULL"),
        ("", "b STRING, a BIGINT", "SELECT tag, id FROM t DISTRIBUTE BY tag"),
        (", 'exchange.compression' = 'zstd'", "b STRING, a BIGINT", "SELECT tag, id FROM t DISTRIBUTE BY tag"),
        ("", "b STRING", "SELECT DISTINCT tag FROM t"),
        (
            "",
            "b STRING, n BIGINT, d BIGINT, m DOUBLE",
            "SELECT tag, count(*), count(DISTINCT id), median(id) FROM t GROUP BY tag HAVING count(*) > 0",
        ),
        (
            event_time,
            "w TIMESTAMP(3), n BIGINT",
            "SELECT tumble(time, INTERVAL '1 minute'), count(id) FROM t GROUP BY tumble(time, INTERVAL '1 minute')",
        ),
        (
            event_time,
            "w TIMESTAMP(3), b STRING, n BIGINT, f BIGINT",
            "SELECT w, k, n * 10, f FROM (SELECT date_bin(INTERVAL '1 minute', time) AS w, coalesce(tag, 'none') AS k, count(*) AS n, \
             sum(id) FILTER (WHERE id < 5) AS f FROM t GROUP BY 1, 2) WHERE n < 10",
        ),
    ] {
        for parallelism in [1, 2, 5] {
            let dir = tempfile::tempdir().unwrap();
            write_files(&dir.path().join("in"), FILES);
            let sql = script(dir.path(), options, columns, select);
            let oracle = batch::run(&sql).await.unwrap();
            run(&sql, parallelism).await.unwrap();
            let comparison = batch::compare(&dir.path().join("out"), &oracle).unwrap();
            assert!(comparison.exact && comparison.rows_in == 7, "{select} at {parallelism}: {comparison:?}");
        }
    }
}

#[tokio::test]
async fn generated_rows_cross_a_keyed_exchange() {
    let sql = "CREATE TABLE g (id BIGINT, body STRING) WITH ('connector' = 'datagen', 'number-of-rows' = '20000', 'fields.id.kind' = 'sequence', 'fields.body.length' = '1024');
               CREATE TABLE s (id BIGINT, body STRING) WITH ('connector' = 'blackhole');
               INSERT INTO s SELECT * FROM g DISTRIBUTE BY id";
    let metrics = run(sql, 3).await.unwrap();
    assert_eq!(sum(&metrics[0], |m| m.records_in), 20_000);
    assert_eq!(sum(&metrics[1], |m| m.records_out), 20_000);
    assert!(sum(&metrics[1], |m| m.bytes_in) > 20_000 * 1024);
    assert!(metrics[1].iter().all(|m| m.records_in > 6_000), "uneven: {:?}", metrics[1]);
}

/// What an exchange moves with its compression as the source's options say, and 20,000 rows in.
async fn bytes_of(options: &str) -> u64 {
    let sql = format!(
        "CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '20000', 'fields.id.kind' = 'sequence'{options});
         CREATE TABLE s (id BIGINT) WITH ('connector' = 'blackhole');
         INSERT INTO s SELECT id FROM g DISTRIBUTE BY id"
    );
    let metrics = run(&sql, 2).await.unwrap();
    assert_eq!(sum(&metrics[1], |m| m.records_in), 20_000);
    let (sent, received) = (sum(&metrics[0], |m| m.bytes_out), sum(&metrics[1], |m| m.bytes_in));
    assert_eq!(sent, received);
    sent
}

#[tokio::test]
async fn a_script_says_what_its_rows_are_compressed_with() {
    let [unsaid, none, lz4, zstd] = [
        bytes_of("").await,
        bytes_of(", 'exchange.compression' = 'none'").await,
        bytes_of(", 'exchange.compression' = 'LZ4'").await,
        bytes_of(", 'exchange.compression' = 'zstd'").await,
    ];
    // How the rows are cut into batches, and so a few bytes, depends on the clock.
    let least = unsaid.min(none);
    assert!(zstd < lz4 && lz4 < least * 9 / 10 && least > 20_000 * 8, "{unsaid}, {none}, {lz4}, {zstd}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_by_all_subtasks_together() {
    let sql = "CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '1000', 'rows-per-second' = '100');
               CREATE TABLE s (id BIGINT) WITH ('connector' = 'blackhole');
               INSERT INTO s SELECT * FROM g";
    let start = tokio::time::Instant::now();
    run(sql, 4).await.unwrap();
    let taken = start.elapsed().as_secs_f64();
    // Paused time also passes while the reading thread works, so there is no upper bound.
    assert!(taken >= 9.5, "{taken}");
}

#[tokio::test]
async fn a_job_without_end_stops_when_cancelled() {
    let sql = "CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen');
               CREATE TABLE s (id BIGINT) WITH ('connector' = 'blackhole');
               INSERT INTO s SELECT * FROM g DISTRIBUTE BY id";
    let cancel = CancellationToken::new();
    let job = run_until(sql, 2, cancel.clone());
    let (result, ()) = tokio::join!(job, async {
        tokio::task::yield_now().await;
        cancel.cancel();
    });
    assert!(matches!(result, Err(TaskError::Cancelled)), "{result:?}");
}

#[tokio::test]
async fn faults_of_files_fail_the_job_with_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let sql = script(dir.path(), "", "a BIGINT", "SELECT id FROM t");
    write_files(&dir.path().join("in"), &["1,a,2020-01-01T00:00:00Z\nx,b,2020-01-01T00:00:00Z\n"]);
    let error = run(&sql, 1).await.unwrap_err().to_string();
    assert!(error.contains("0.csv") && error.contains('x'), "{error}");
    assert!(!dir.path().join("out/part-0-0.jsonl").exists());

    write_files(&dir.path().join("in"), &["1,a,2020-01-01T00:00:00Z\n"]);
    run(&sql, 1).await.unwrap();
    let error = run(&sql, 1).await.unwrap_err().to_string();
    assert!(error.contains("part-0-0.jsonl: the part of an earlier job is in the way"), "{error}");
}

#[tokio::test]
async fn the_oracle_refuses_what_it_cannot_read() {
    let sql = "CREATE TABLE g (id BIGINT) WITH ('connector' = 'datagen'); CREATE TABLE s (id BIGINT) WITH ('connector' = 'print'); INSERT INTO s SELECT * FROM g";
    let error = batch::run(sql).await.unwrap_err().to_string();
    assert_eq!(error, "table 'g': connector 'datagen' cannot be read as a batch");
}
