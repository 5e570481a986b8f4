//! Compares what a sink has with what it has to have.

use std::cmp::Ordering;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BatchError, Oracle};

/// The difference between a sink and its oracle, as multisets of rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Rows of the table that was read.
    pub rows_in: u64,
    /// Rows found in the sink.
    pub rows_out: u64,
    /// Rows the sink should have and has not.
    pub missing: u64,
    /// Rows the sink has and should not have: wrong, or twice.
    pub extra: u64,
    /// Nothing missing, nothing extra.
    pub exact: bool,
}

/// Compares the finished parts in a sink's directory with the oracle, byte by byte. Blocking; holds
/// all rows in memory.
pub fn compare(directory: &Path, oracle: &Oracle) -> Result<Comparison, BatchError> {
    let rows = read_parts(directory).map_err(|source| BatchError::File { path: directory.to_owned(), source })?;
    let (missing, extra) = difference(&oracle.rows, &rows);
    Ok(Comparison {
        rows_in: oracle.rows_in,
        rows_out: rows.len() as u64,
        missing,
        extra,
        exact: missing == 0 && extra == 0,
    })
}

/// The rows of all parts, sorted. Hidden files are not parts yet.
fn read_parts(directory: &Path) -> io::Result<Vec<String>> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("part-") {
            for line in BufReader::new(fs::File::open(entry.path())?).lines() {
                rows.push(line?);
            }
        }
    }
    rows.sort_unstable();
    Ok(rows)
}

/// How many rows of `expected` are not in `actual`, and the other way round. Both sorted.
fn difference(expected: &[String], actual: &[String]) -> (u64, u64) {
    let (mut missing, mut extra) = (0, 0);
    let (mut expected, mut actual) = (expected.iter().peekable(), actual.iter().peekable());
    loop {
        let order = match (expected.peek(), actual.peek()) {
            (Some(expected), Some(actual)) => expected.cmp(actual),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return (missing, extra),
        };
        if order.is_le() {
            expected.next();
        }
        if order.is_ge() {
            actual.next();
        }
        missing += u64::from(order.is_lt());
        extra += u64::from(order.is_gt());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn counts_rows_as_multisets_and_ignores_unfinished_parts() {
        let dir = tempfile::tempdir().unwrap();
        for (name, rows) in
            [("part-0-0.jsonl", "b\nb\n"), ("part-1-0.jsonl", "d\na\n"), (".part-2-0.jsonl.inprogress", "c\n")]
        {
            fs::write(dir.path().join(name), rows).unwrap();
        }
        let oracle = |rows: &[&str]| Oracle { rows_in: 9, rows: rows.iter().map(|row| (*row).to_owned()).collect() };
        let comparison = compare(dir.path(), &oracle(&["a", "a", "b", "c", "d"])).unwrap();
        assert_eq!(comparison, Comparison { rows_in: 9, rows_out: 4, missing: 2, extra: 1, exact: false });
        assert!(compare(dir.path(), &oracle(&["a", "b", "b", "d"])).unwrap().exact);
        assert!(compare(&dir.path().join("none"), &oracle(&[])).is_err());
    }
}
