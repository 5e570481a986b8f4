//! Connectors: where rows come from and where they go. Chosen by the option `connector`.
//!
//! Options of every table:
//!
//! | option | meaning |
//! | --- | --- |
//! | `slot-sharing-group` | vertices of different groups do not share task slots (Flink's slot sharing groups); the source's holds up to the exchange, the sink's behind it; default `default` |
//! | `exchange.compression` | `none`, `lz4` or `zstd` for rows that go to another TaskManager; the source's holds for the exchange behind it, the sink's for any later one; absent: the TaskManager's `taskmanager.network.compression.codec` |
//!
//! # Sources
//!
//! Options of every source:
//!
//! | option | meaning |
//! | --- | --- |
//! | `rows-per-second` | rows per second of all subtasks together; absent: as fast as possible |
//! | `watermark.column` | the TIMESTAMP column that is the event time |
//! | `watermark.delay` | how far behind the highest event time seen a row may be (`24 h`); default 0 |
//!
//! **`filesystem`** reads CSV. Every file of a directory is a split; splits are spread over the
//! subtasks and read in event-time order.
//!
//! | option | meaning |
//! | --- | --- |
//! | `path` | a file, or a directory of files; names that start with `.` or `_` are skipped; gzip is recognised by content |
//! | `format` | `csv` |
//! | `header` | `true` (default): the first line of each file names the columns, in the order of the table; `false`: no such line |
//!
//! An empty field is NULL. `TIMESTAMP` is read as RFC 3339 or `YYYY-MM-DD HH:MM:SS[.fff]`, in UTC.
//!
//! **`datagen`** makes rows up. Row *n* depends on the seed and *n* only, not on the parallelism.
//!
//! | option | meaning |
//! | --- | --- |
//! | `number-of-rows` | ends after so many rows; absent: never, unless a sequence ends |
//! | `seed` | default 0 |
//! | `fields.<f>.kind` | `random` (default), `sequence` (`BIGINT`, `INT`, `DOUBLE`, `TIMESTAMP`) or `pooled` (`STRING`: pieces of one random text, many times faster to make) |
//! | `fields.<f>.min`, `.max` | bounds of random numbers, both inclusive (`DOUBLE`: below max), and of `TIMESTAMP` and `DATE` |
//! | `fields.<f>.length` | characters of a STRING (hexadecimal); default 100 |
//! | `fields.<f>.start`, `.end` | bounds of a sequence, both inclusive; a `TIMESTAMP` sequence counts milliseconds (`TIMESTAMP(0)`: seconds) |
//! | `fields.<f>.null-rate` | share of NULLs, 0 (default) to 1 |
//!
//! # Sinks
//!
//! **`filesystem`** writes JSON lines: `path` is a directory, `format` is `json`. Each subtask
//! writes `part-<subtask>-0.jsonl`, under a hidden name until it has all its rows; an existing part
//! is never overwritten. **`print`** writes JSON lines to standard output, after the subtask's
//! number. **`blackhole`** forgets.

mod blackhole;
mod csv;
mod datagen;
mod files;
mod filesystem;
mod generate;
mod json;
mod print;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};

use crate::error::{PlanError, TaskError};
use crate::exchange::compression::Compression;
use crate::script::{OptionReader, Table};

pub(crate) use files::plain_copy;
pub(crate) use filesystem::FileSource;
pub(crate) use json::write_lines;

/// Most rows of a batch that a source makes.
pub(crate) const BATCH_ROWS: usize = 8192;

/// The names of all connectors, for messages.
const CONNECTORS: &str = "filesystem, datagen, print, blackhole";

/// One part of a source, read by one subtask. Blocking: runs on a thread of its own.
pub(crate) type Split = Box<dyn Iterator<Item = Result<RecordBatch, TaskError>> + Send>;

/// Where rows come from.
pub(crate) trait Source: Debug + Send + Sync {
    /// Whether the rows end.
    fn bounded(&self) -> bool;
    /// How many subtasks can share the work.
    fn max_parallelism(&self) -> usize;
    /// What it reads beyond its options, such as the names of the files, for the plan's
    /// fingerprint.
    fn canonical(&self) -> String;
    /// The splits of one subtask. Batches have the columns `projection` and at most `batch_rows`
    /// rows.
    fn splits(&self, subtask: usize, parallelism: usize, projection: &[usize], batch_rows: usize) -> Vec<Split>;
}

/// A table that is read.
#[derive(Debug, Clone)]
pub(crate) struct SourceTable {
    pub(crate) table: Arc<Table>,
    pub(crate) source: Arc<dyn Source>,
    /// Of all subtasks together.
    pub(crate) rows_per_second: Option<f64>,
    pub(crate) event_time: Option<EventTime>,
    pub(crate) slot_sharing_group: String,
    pub(crate) compression: Option<Compression>,
}

/// The column that is the event time, and how much it may be out of order.
#[derive(Debug, Clone)]
pub(crate) struct EventTime {
    pub(crate) column: String,
    pub(crate) delay: Duration,
}

impl SourceTable {
    /// Checks the options of a table that a query reads. Blocking: lists directories.
    pub(crate) fn open(table: &Arc<Table>) -> Result<Self, PlanError> {
        let mut options = table.options.reader();
        let rows_per_second = options.parse("rows-per-second", "a positive number", positive)?;
        let event_time = event_time(&table.schema, &mut options)?;
        let slot_sharing_group = slot_sharing_group(&mut options);
        let compression = compression(&mut options)?;
        let source: Arc<dyn Source> = match table.options.connector() {
            "filesystem" => Arc::new(FileSource::open(table, &mut options)?),
            "datagen" => Arc::new(datagen::DataGen::open(&table.schema, &mut options)?),
            "print" | "blackhole" => {
                return Err(options.error(format!("connector '{}' can only be written to", table.options.connector())));
            }
            other => return Err(options.error(format!("unknown connector '{other}'; known: {CONNECTORS}"))),
        };
        options.finish()?;
        Ok(Self { table: Arc::clone(table), source, rows_per_second, event_time, slot_sharing_group, compression })
    }
}

/// Flink's name of the group that everything is in.
const DEFAULT_GROUP: &str = "default";

fn slot_sharing_group(options: &mut OptionReader<'_>) -> String {
    options.text("slot-sharing-group").unwrap_or_else(|| DEFAULT_GROUP.to_owned())
}

fn compression(options: &mut OptionReader<'_>) -> Result<Option<Compression>, PlanError> {
    options.get("exchange.compression", Compression::WORDS)
}

fn positive(text: &str) -> Option<f64> {
    text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0)
}

fn event_time(schema: &SchemaRef, options: &mut OptionReader<'_>) -> Result<Option<EventTime>, PlanError> {
    let column = options.text("watermark.column");
    let delay = options.duration("watermark.delay")?;
    let Some(column) = column else {
        return match delay {
            None => Ok(None),
            Some(_) => Err(options.error("option 'watermark.delay' needs 'watermark.column'")),
        };
    };
    match schema.field_with_name(&column).map(|field| field.data_type()) {
        Ok(DataType::Timestamp(..)) => Ok(Some(EventTime { column, delay: delay.unwrap_or_default() })),
        Ok(other) => Err(options.error(format!("'watermark.column' = '{column}' is {other}, not a TIMESTAMP"))),
        Err(_) => Err(options.error(format!("'watermark.column' = '{column}' is not a column of the table"))),
    }
}

/// Where rows go.
pub(crate) trait Sink: Debug + Send + Sync {
    /// Opens the part of one subtask. May block if [`Self::blocks`].
    fn open(&self, subtask: usize) -> Result<Box<dyn SinkWriter>, TaskError>;

    /// Whether it and its writers may wait for a disk or a pipe: then they live on a thread of their own, not on the task's.
    fn blocks(&self) -> bool {
        true
    }
}

/// The open part of one subtask of a sink; blocking if the sink is. Dropped unfinished, it leaves nothing behind.
pub(crate) trait SinkWriter: Send {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), TaskError>;
    /// Makes what was written final.
    fn finish(self: Box<Self>) -> Result<(), TaskError>;
}

/// A table that is written to.
#[derive(Debug)]
pub(crate) struct SinkTable {
    pub(crate) name: String,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) slot_sharing_group: String,
    pub(crate) compression: Option<Compression>,
}

/// Checks the options of the table that the `INSERT` names.
pub(crate) fn sink(table: &Table) -> Result<SinkTable, PlanError> {
    let mut options = table.options.reader();
    let slot_sharing_group = slot_sharing_group(&mut options);
    let compression = compression(&mut options)?;
    let sink: Arc<dyn Sink> = match table.options.connector() {
        "filesystem" => Arc::new(filesystem::FileSink::open(table, &mut options)?),
        "print" => Arc::new(print::Print::new(&table.name)),
        "blackhole" => Arc::new(blackhole::BlackHole),
        "datagen" => return Err(options.error("connector 'datagen' can only be read")),
        other => return Err(options.error(format!("unknown connector '{other}'; known: {CONNECTORS}"))),
    };
    options.finish()?;
    Ok(SinkTable { name: table.name.clone(), sink, slot_sharing_group, compression })
}
