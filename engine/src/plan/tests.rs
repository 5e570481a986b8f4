//! Scripts in, job graphs or refusals out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;

const TABLES: &str = "
CREATE TABLE events (id BIGINT, tag STRING, value INT, time TIMESTAMP(3), other TIMESTAMP(3)) WITH
  ('connector' = 'datagen', 'watermark.column' = 'time', 'watermark.delay' = '5 s');
CREATE TABLE endless (id BIGINT, tag STRING, time TIMESTAMP(3)) WITH ('connector' = 'datagen');
CREATE TABLE finite (id BIGINT, tag STRING, time TIMESTAMP(3)) WITH ('connector' = 'datagen', 'number-of-rows' = '10');
CREATE TABLE sink (tag STRING, n BIGINT) WITH ('connector' = 'blackhole');
";

async fn planned(insert: &str) -> Result<JobGraph, PlanError> {
    plan(&format!("{TABLES}{insert}"), &PlanOptions { parallelism: 4 }).await
}

/// The graph as text: `name/parallelism`, one per vertex.
async fn shape(insert: &str) -> Vec<String> {
    let job = planned(insert).await.unwrap();
    assert_eq!(job.edges.len(), job.vertices.len() - 1);
    job.vertices.iter().map(|vertex| format!("{} /{}", vertex.name, vertex.parallelism)).collect()
}

#[tokio::test]
async fn shapes() {
    assert_eq!(
        shape("INSERT INTO sink SELECT tag, id FROM endless").await,
        ["Source: endless -> Calc -> Sink: sink /4"]
    );
    assert_eq!(
        shape("INSERT INTO sink SELECT tag, id FROM endless WHERE id % 2 = 0 DISTRIBUTE BY tag").await,
        ["Source: endless -> Calc /4", "Calc -> Sink: sink /4"]
    );
    for window in [
        "date_bin(INTERVAL '1 minute', time)",
        "tumble(time, INTERVAL '1' MINUTE)",
        "date_bin(INTERVAL '60 seconds', time, TIMESTAMP '2020-01-01 00:00:07')",
    ] {
        assert_eq!(
            shape(&format!("INSERT INTO sink SELECT tag, count(*) FROM events WHERE value > 3 GROUP BY tag, {window} HAVING count(*) > 1")).await,
            ["Source: events -> Watermark -> Calc /4", "Window(tumble(time, 1 min)) -> Calc -> Sink: sink /4"],
            "{window}"
        );
    }
    // All rows of a window without other keys belong together.
    assert_eq!(
        shape("INSERT INTO sink SELECT 'all', count(*) FROM events GROUP BY date_bin(INTERVAL '1 hour', time)").await
            [1],
        "Window(tumble(time, 1 h)) -> Calc -> Sink: sink /1"
    );
    // The window may come out of a subquery, under another name.
    assert_eq!(
        shape("INSERT INTO sink SELECT k, max(i) FROM (SELECT date_bin(INTERVAL '1 hour', time) AS w, upper(tag) AS k, id AS i FROM events) GROUP BY w, k").await[1],
        "Window(tumble(time, 1 h)) -> Calc -> Sink: sink /4"
    );
    assert_eq!(
        shape("INSERT INTO sink SELECT tag, count(DISTINCT id) FROM finite GROUP BY tag").await,
        ["Source: finite /4", "GroupAggregate -> Calc -> Sink: sink /4"]
    );
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    for (insert, expected) in [
        (
            "SELECT tag, count(*) FROM events GROUP BY tag",
            "GROUP BY over the event time of 'events' without a window: add date_bin",
        ),
        ("SELECT tag, count(*) FROM events GROUP BY tag, time", "without a window"),
        ("SELECT tag, count(*) FROM events GROUP BY tag, date_bin(INTERVAL '1 day', other)", "without a window"),
        ("SELECT tag, count(*) FROM endless GROUP BY tag", "'endless', which never ends: set 'watermark.column'"),
        (
            "SELECT tag, count(*) FROM events GROUP BY tag, date_bin(INTERVAL '1 month', time)",
            "positive interval of days or less",
        ),
        ("SELECT 'x', count(*) FROM finite", "an aggregation without GROUP BY"),
        ("SELECT tag, count(*) FROM finite GROUP BY CUBE (tag, id)", "CUBE"),
        (
            "SELECT tag, sum(n) FROM (SELECT tag, id, count(*) AS n FROM finite GROUP BY tag, id) GROUP BY tag",
            "an aggregation of an aggregation",
        ),
        ("SELECT tag, id FROM endless ORDER BY id", "ORDER BY"),
        ("SELECT tag, id FROM endless LIMIT 3", "LIMIT"),
        ("SELECT tag, row_number() OVER (ORDER BY id) FROM endless", "not supported: "),
        ("SELECT a.tag, a.id FROM endless a JOIN finite b ON a.id = b.id", "JOIN: a query reads one table"),
        ("SELECT tag, id FROM endless UNION ALL SELECT tag, id FROM finite", "UNION: a query reads one table"),
        ("VALUES ('a', 1)", "a query that reads no table"),
        ("SELECT 'a', 1", "a query that reads no table"),
        ("SELECT tag, n FROM sink", "reading from 'sink', the table that is written"),
        ("SELECT tag, id FROM endless WHERE random() < 0.5", "random(): its value depends on when"),
        ("SELECT tag, id FROM endless WHERE time < now()", "now(): its value depends on when"),
        ("SELECT tag, id FROM endless WHERE id = (SELECT max(id) FROM finite)", "not supported: "),
        ("SELECT tag, missing FROM endless", "missing"),
        ("SELECT tag FROM endless", "column count"),
        ("SELECT tag, id FROM endless WHERE id", "boolean"),
    ] {
        let error = planned(&format!("INSERT INTO sink {insert}")).await.unwrap_err().to_string();
        assert!(error.to_lowercase().contains(&expected.to_lowercase()), "{insert}\n{error}");
    }
    assert!(
        planned("INSERT OVERWRITE sink SELECT tag, id FROM endless")
            .await
            .unwrap_err()
            .to_string()
            .contains("only appends")
    );
}

#[tokio::test]
async fn tables_that_do_not_fit_are_refused() {
    for (table, sink, expected) in [
        (
            "'connector' = 'kafka'",
            "'connector' = 'print'",
            "table 't': unknown connector 'kafka'; known: filesystem, datagen",
        ),
        (
            "'connector' = 'datagen', 'sed' = '1'",
            "'connector' = 'print'",
            "unknown option 'sed' of connector 'datagen'; known here: rows-per-second",
        ),
        ("'connector' = 'print'", "'connector' = 'print'", "can only be written to"),
        ("'connector' = 'datagen'", "'connector' = 'datagen'", "table 's': connector 'datagen' can only be read"),
        (
            "'connector' = 'datagen'",
            "'connector' = 'print', 'watermark.column' = 'a'",
            "unknown option 'watermark.column'",
        ),
        ("'connector' = 'datagen'", "'connector' = 'filesystem', 'path' = '/tmp/x'", "option 'format' is missing"),
        (
            "'connector' = 'datagen'",
            "'connector' = 'filesystem', 'path' = '/tmp/x', 'format' = 'csv'",
            "'format' = 'csv' cannot be written; known: json",
        ),
        ("'connector' = 'filesystem', 'format' = 'csv'", "'connector' = 'print'", "option 'path' is missing"),
        (
            "'connector' = 'filesystem', 'path' = '/does/not/exist', 'format' = 'csv'",
            "'connector' = 'print'",
            "'path' = '/does/not/exist': No such file",
        ),
        (
            "'connector' = 'datagen', 'rows-per-second' = 'fast'",
            "'connector' = 'print'",
            "'rows-per-second' = 'fast' is not a positive number",
        ),
        (
            "'connector' = 'datagen', 'watermark.column' = 'b'",
            "'connector' = 'print'",
            "'watermark.column' = 'b' is not a column",
        ),
        (
            "'connector' = 'datagen', 'exchange.compression' = 'lz4'",
            "'connector' = 'print'",
            "table 't': option 'exchange.compression': the query has no exchange",
        ),
        (
            "'connector' = 'datagen'",
            "'connector' = 'print', 'exchange.compression' = 'none'",
            "table 's': option 'exchange.compression': the query has no exchange",
        ),
        (
            "'connector' = 'datagen', 'exchange.compression' = 'lzo'",
            "'connector' = 'print'",
            "'exchange.compression' = 'lzo' is not 'none', 'lz4' or 'zstd'",
        ),
    ] {
        let sql = format!(
            "CREATE TABLE t (a INT) WITH ({table}); CREATE TABLE s (a INT) WITH ({sink}); INSERT INTO s SELECT a FROM t"
        );
        let error = plan(&sql, &PlanOptions { parallelism: 1 }).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{table} / {sink}\n{error}");
    }
}

#[tokio::test]
async fn the_fingerprint_follows_from_the_script_and_the_parallelism() {
    let insert = "INSERT INTO sink SELECT tag, count(*) FROM events GROUP BY tag, date_bin(INTERVAL '1 minute', time)";
    let job = planned(insert).await.unwrap();
    assert_eq!(job.fingerprint.len(), 64);
    for _ in 0..5 {
        assert_eq!(planned(insert).await.unwrap().fingerprint, job.fingerprint);
    }
    // Layout and tables that are not used do not matter; what is computed, and how, does.
    let equal = format!("-- the same\n{}", insert.to_lowercase());
    assert_eq!(planned(&equal).await.unwrap().fingerprint, job.fingerprint);
    for other in [insert.replace("1 minute", "2 minutes"), insert.replace("count(*)", "count(value)")] {
        assert_ne!(planned(&other).await.unwrap().fingerprint, job.fingerprint);
    }
    for (from, to) in [("'5 s'", "'6 s'"), ("n BIGINT", "n DOUBLE"), ("value INT", "value BIGINT")] {
        let sql = format!("{TABLES}{insert}").replace(from, to);
        assert_ne!(plan(&sql, &PlanOptions { parallelism: 4 }).await.unwrap().fingerprint, job.fingerprint, "{from}");
    }
    let sql = format!("{TABLES}{insert}");
    assert_ne!(plan(&sql, &PlanOptions { parallelism: 3 }).await.unwrap().fingerprint, job.fingerprint);
}

#[tokio::test]
async fn parallelism_has_bounds() {
    for parallelism in [0, KEY_GROUPS + 1] {
        let error = plan(TABLES, &PlanOptions { parallelism }).await.unwrap_err();
        assert_eq!(error.to_string(), format!("parallelism {parallelism} is not between 1 and 128"));
    }
}

/// The longest chains of operators that a script can hold overflow nobody's stack.
#[tokio::test]
async fn deep_expressions_are_refused_not_fatal() {
    let sum = |terms: usize| vec!["id"; terms].join(" + ");
    let error = planned(&format!("INSERT INTO sink SELECT tag, {} FROM endless", sum(9000))).await.unwrap_err();
    assert!(error.to_string().contains("nested more than 128 deep"), "{error}");
    // Each level is within the limit, but they merge into one.
    let level = " + 1".repeat(60);
    let nested =
        (0..3).fold("endless".to_owned(), |from, _| format!("(SELECT tag, length(tag) + id{level} AS id FROM {from})"));
    let error = planned(&format!("INSERT INTO sink SELECT tag, id FROM {nested}")).await.unwrap_err();
    assert!(error.to_string().contains("nested more than 128 deep"), "{error}");
    planned(&format!("INSERT INTO sink SELECT tag, {} FROM endless", sum(100))).await.unwrap();
}
