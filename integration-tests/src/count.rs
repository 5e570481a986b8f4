//! A job whose result is known without running it: numbers grouped by their remainder and by a window of their time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;

/// Number of keys.
const KEYS: u64 = 7;

/// Numbers in a window: number n happens n milliseconds after the start.
const WINDOW: u64 = 10_000;

/// The numbers from 0 to `rows`, counted and summed by remainder and window.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    /// How many.
    pub rows: u64,
}

/// Count, sum, least and greatest number.
type Row = (u64, u64, u64, u64);

impl Count {
    /// A script that makes the numbers itself; `options` are further ones of the source, such as `'rows-per-second'`.
    pub fn generated(self, options: &str, sink: &Path) -> String {
        let source = format!(
            "'connector' = 'datagen', 'fields.v.kind' = 'sequence', 'fields.v.start' = '0', 'fields.v.end' = '{last}',
             'fields.ts.kind' = 'sequence', 'fields.ts.start' = '2024-01-01 00:00:00' {options}",
            last = self.rows - 1,
        );
        script(&source, sink)
    }

    /// A script that reads the numbers from `file`.
    pub fn read(file: &Path, options: &str, sink: &Path) -> String {
        let path = file.display();
        let source =
            format!("'connector' = 'filesystem', 'format' = 'csv', 'header' = 'false', 'path' = '{path}' {options}");
        script(&source, sink)
    }

    /// Lines of such a file.
    pub fn csv(numbers: Range<u64>) -> String {
        numbers.fold(String::new(), |mut csv, number| {
            writeln!(csv, "{number},{}", timestamp(number)).unwrap();
            csv
        })
    }

    /// Checks that the sink holds exactly the right rows.
    ///
    /// # Panics
    /// One is missing, doubled or wrong.
    pub fn assert_exact(self, sink: &Path) {
        let parts = fs::read_dir(sink).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        let lines: Vec<String> = parts.flat_map(|part| part.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let mut rows = BTreeMap::new();
        for line in lines {
            let row: Value = serde_json::from_str(&line).unwrap();
            let number = |name: &str| row[name].as_u64().unwrap();
            let start = row["w"].as_str().unwrap();
            // The seconds are enough to tell windows apart, whatever the fraction looks like.
            let key = (number("k"), start[.."2024-01-01T00:00:00".len()].to_owned());
            let doubled = rows.insert(key, (number("n"), number("total"), number("least"), number("greatest")));
            assert_eq!(doubled, None, "a group fired twice: {line}");
        }
        let expected = self.expected();
        let wrong = |(key, row): (&(u64, String), &Row)| (rows.get(key) != Some(row)).then(|| key.clone());
        let wrong: Vec<_> = expected.iter().filter_map(wrong).collect();
        assert!(wrong.is_empty(), "missing or wrong: {wrong:?}");
        assert_eq!(rows.len(), expected.len(), "there are groups that should not be");
    }

    fn expected(self) -> BTreeMap<(u64, String), Row> {
        let mut groups = BTreeMap::new();
        for number in 0..self.rows {
            let start = timestamp(number / WINDOW * WINDOW);
            let key = (number % KEYS, start[.."2024-01-01T00:00:00".len()].to_owned());
            let row: &mut Row = groups.entry(key).or_insert((0, 0, number, number));
            *row = (row.0 + 1, row.1 + number, row.2.min(number), row.3.max(number));
        }
        groups
    }
}

fn script(source: &str, sink: &Path) -> String {
    format!(
        "CREATE TABLE numbers (v BIGINT, ts TIMESTAMP(3)) WITH (
             {source}, 'watermark.column' = 'ts', 'watermark.delay' = '1 s');
         CREATE TABLE counts (k BIGINT, w TIMESTAMP(3), n BIGINT, total BIGINT, least BIGINT, greatest BIGINT) WITH (
             'connector' = 'filesystem', 'format' = 'json', 'path' = '{sink}');
         INSERT INTO counts
             SELECT v % {KEYS}, tumble(ts, INTERVAL '{seconds} seconds'), count(*), sum(v), min(v), max(v)
             FROM numbers GROUP BY v % {KEYS}, tumble(ts, INTERVAL '{seconds} seconds');",
        sink = sink.display(),
        seconds = WINDOW / 1000,
    )
}

/// When a number happens: `2024-01-01T00:00:00.000` and so many milliseconds, which has to be within that day.
fn timestamp(number: u64) -> String {
    let (hours, minutes, seconds) = (number / 3_600_000, number / 60_000 % 60, number / 1000 % 60);
    assert!(hours < 24);
    format!("2024-01-01T{hours:02}:{minutes:02}:{seconds:02}.{:03}", number % 1000)
}
