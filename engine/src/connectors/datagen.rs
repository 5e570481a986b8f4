//! The `datagen` connector: rows made up from a seed, the same for every parallelism.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Schema, SchemaRef};

use super::generate::Generator;
use super::{Source, Split};
use crate::error::{PlanError, TaskError};
use crate::exchange::key_group::{KEY_GROUPS, mix};
use crate::script::OptionReader;

/// About how many bytes of rows a batch has at most.
const BATCH_BYTES: usize = 1024 * 1024;

#[derive(Debug)]
pub(super) struct DataGen {
    schema: SchemaRef,
    columns: Vec<Generator>,
    /// `None`: for ever.
    rows: Option<u64>,
}

impl DataGen {
    pub(super) fn open(schema: &SchemaRef, options: &mut OptionReader<'_>) -> Result<Self, PlanError> {
        let seed: u64 = options.get("seed", "a whole number")?.unwrap_or(0);
        let number_of_rows: Option<u64> = options.get("number-of-rows", "a whole number")?;
        let columns = schema.fields().iter().enumerate();
        // Columns of one table have to differ, so each has its own seed.
        let columns =
            columns.map(|(index, field)| Generator::open(field, mix(seed).wrapping_add(index as u64), options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = columns.iter().filter_map(Generator::rows).chain(number_of_rows).min();
        Ok(Self { schema: Arc::clone(schema), columns, rows })
    }
}

impl Source for DataGen {
    fn bounded(&self) -> bool {
        self.rows.is_some()
    }

    fn max_parallelism(&self) -> usize {
        KEY_GROUPS
    }

    fn canonical(&self) -> String {
        String::new()
    }

    fn splits(&self, subtask: usize, parallelism: usize, projection: &[usize], batch_rows: usize) -> Vec<Split> {
        let columns: Vec<Generator> = projection.iter().filter_map(|index| self.columns.get(*index)).cloned().collect();
        let width: usize = columns.iter().map(Generator::width).sum::<usize>().max(1);
        let fields: Vec<_> = projection.iter().map(|index| Arc::clone(&self.schema.fields()[*index])).collect();
        vec![Box::new(Rows {
            schema: Arc::new(Schema::new(fields)),
            columns,
            next: subtask as u64,
            step: parallelism as u64,
            end: self.rows.unwrap_or(u64::MAX),
            batch_rows: batch_rows.min(BATCH_BYTES / width).max(1),
        })]
    }
}

/// The rows `next`, `next + step`, ... below `end`.
#[derive(Debug)]
struct Rows {
    schema: SchemaRef,
    columns: Vec<Generator>,
    next: u64,
    step: u64,
    end: u64,
    batch_rows: usize,
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.end.checked_sub(self.next)?.div_ceil(self.step);
        let count = left.min(self.batch_rows as u64);
        if count == 0 {
            return None;
        }
        let (first, step) = (self.next, self.step);
        self.next = first.saturating_add(step.saturating_mul(count));
        let rows = (0..count).map(move |index| first + step * index);
        let columns: Result<Vec<ArrayRef>, _> = self.columns.iter().map(|column| column.column(rows.clone())).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count as usize));
        let batch =
            columns.and_then(|columns| RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options));
        Some(batch.map_err(TaskError::from))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use datafusion::arrow::array::AsArray;
    use datafusion::arrow::compute::concat_batches;
    use datafusion::arrow::datatypes::{Int64Type, TimestampMillisecondType};

    use super::*;
    use crate::connectors::{SourceTable, write_lines};
    use crate::script::Script;

    fn open(options: &str) -> Result<SourceTable, PlanError> {
        let script = Script::parse(&format!(
            "CREATE TABLE g (id BIGINT, n INT, d DOUBLE, s STRING, b BOOLEAN, day DATE, t TIMESTAMP(3) NOT NULL) WITH ('connector' = 'datagen', {options}); \
             INSERT INTO g SELECT 1"
        ))
        .unwrap();
        SourceTable::open(&script.sink)
    }

    const OPTIONS: &str = "'number-of-rows' = '1000', 'seed' = '9', 'fields.id.kind' = 'sequence', 'fields.id.start' = '-5', \
        'fields.n.min' = '3', 'fields.n.max' = '7', 'fields.n.null-rate' = '0.5', 'fields.d.min' = '-1', 'fields.s.length' = '20', \
        'fields.day.min' = '2020-02-29', 'fields.day.max' = '2020-03-01', 'fields.t.kind' = 'sequence', 'fields.t.start' = '2020-01-01 00:00:00'";

    fn lines(source: &SourceTable, parallelism: usize) -> Vec<String> {
        let mut out = Vec::new();
        for subtask in 0..parallelism {
            for batch in source.source.splits(subtask, parallelism, &[0, 1, 2, 3, 4, 5, 6], 64).into_iter().flatten() {
                write_lines(&batch.unwrap(), &mut out).unwrap();
            }
        }
        let mut lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn rows_do_not_depend_on_the_parallelism() {
        let source = open(OPTIONS).unwrap();
        let one = lines(&source, 1);
        assert_eq!(one.len(), 1000);
        assert_eq!(lines(&source, 3), one);
        // A seed means the same rows in every version.
        let first = one.iter().find(|line| line.contains("\"id\":-5,")).unwrap();
        assert_eq!(
            first,
            "{\"id\":-5,\"n\":7,\"d\":-0.992132777018103,\"s\":\"510a8a88d31fd26335c4\",\"b\":true,\"day\":\"2020-03-01\",\"t\":\"2020-01-01T00:00:00\"}"
        );
    }

    #[test]
    fn values_keep_their_bounds() {
        let source = open(OPTIONS).unwrap();
        let batches: Vec<RecordBatch> =
            source.source.splits(0, 1, &[0, 1, 2, 3, 6], 300).into_iter().flatten().map(Result::unwrap).collect();
        assert!(batches.iter().all(|batch| batch.num_rows() <= 300));
        let all = concat_batches(&batches[0].schema(), &batches).unwrap();
        assert_eq!(all.column(0).as_primitive::<Int64Type>().value(999), 994);
        let ints: Vec<Option<i32>> =
            all.column(1).as_primitive::<datafusion::arrow::datatypes::Int32Type>().iter().collect();
        assert!(ints.iter().flatten().all(|n| (3..=7).contains(n)));
        assert!((3..=7).all(|n| ints.contains(&Some(n))));
        assert!((400..600).contains(&ints.iter().filter(|n| n.is_none()).count()));
        assert!(
            all.column(2)
                .as_primitive::<datafusion::arrow::datatypes::Float64Type>()
                .values()
                .iter()
                .all(|d| (-1.0..1.0).contains(d))
        );
        assert!(all.column(3).as_string::<i32>().iter().all(|s| s.unwrap().len() == 20));
        assert_eq!(all.column(4).as_primitive::<TimestampMillisecondType>().value(7), 1_577_836_800_007);
    }

    #[test]
    fn pooled_text_differs_from_row_to_row_and_keeps_its_length() {
        let source = open("'number-of-rows' = '1000', 'fields.s.kind' = 'pooled', 'fields.s.length' = '32'").unwrap();
        let batches = source.source.splits(0, 1, &[3], 300).into_iter().flatten().map(Result::unwrap);
        let texts: std::collections::BTreeSet<String> = batches
            .flat_map(|batch| {
                batch.column(0).as_string::<i32>().iter().map(|s| s.unwrap().to_owned()).collect::<Vec<_>>()
            })
            .collect();
        assert!(texts.len() > 990 && texts.iter().all(|text| text.len() == 32), "{}", texts.len());
        assert_eq!(lines(&source, 1), lines(&source, 4));
    }

    #[test]
    fn ends_with_the_shortest_sequence_or_never() {
        let bounded = open("'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '10'").unwrap();
        assert!(bounded.source.bounded());
        assert_eq!(lines(&bounded, 4).len(), 10);
        assert!(!open("'seed' = '1'").unwrap().source.bounded());
        assert_eq!(lines(&open("'number-of-rows' = '2'").unwrap(), 5).len(), 2);
    }

    #[test]
    fn refuses_options_that_do_not_fit() {
        for (options, expected) in [
            (
                "'fields.x.min' = '1'",
                "unknown option 'fields.x.min' of connector 'datagen'; known here: rows-per-second",
            ),
            ("'fields.n.min' = '5', 'fields.n.max' = '4'", "'fields.n.max' is below"),
            ("'fields.n.max' = '3000000000'", "is not a value of Int32"),
            ("'fields.s.kind' = 'sequence'", "a sequence of Utf8"),
            ("'fields.n.kind' = 'pooled'", "only a STRING can be pooled"),
            ("'fields.t.null-rate' = '0.1'", "NOT NULL"),
            ("'fields.n.length' = '1'", "unknown option 'fields.n.length'"),
            ("'rows-per-second' = '0'", "is not a positive number"),
            ("'fields.d.max' = 'NaN'", "is not above"),
            ("'watermark.column' = 'n'", "not a TIMESTAMP"),
            ("'watermark.delay' = '1 s'", "needs 'watermark.column'"),
        ] {
            let error = open(options).unwrap_err().to_string();
            assert!(error.contains(expected), "{options}: {error}");
        }
    }
}
