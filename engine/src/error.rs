//! What can go wrong, by whose fault it is.

use std::path::PathBuf;

use datafusion::arrow::error::ArrowError;
use datafusion::common::DataFusionError;

use crate::channel::ChannelFailure;

/// The script cannot become a job. Always the author's to fix; the message says where and how.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not SQL, or not the SQL of this engine.
    #[error("{message} at line {line}, column {column}")]
    Script { message: String, line: u64, column: u64 },
    /// The text does not parse. The parser names the position itself.
    #[error("{0}")]
    Syntax(String),
    /// A table's columns or options.
    #[error("table '{table}': {message}")]
    Table { table: String, message: String },
    /// The query refers to something that does not exist or does not type-check.
    #[error("{0}")]
    Query(String),
    /// Valid SQL that this engine cannot run as a stream.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// Parallelism outside `1..=KEY_GROUPS`.
    #[error("parallelism {0} is not between 1 and {max}", max = crate::KEY_GROUPS)]
    Parallelism(usize),
}

impl PlanError {
    pub(crate) fn table(table: &str, message: impl Into<String>) -> Self {
        Self::Table { table: table.to_owned(), message: message.into() }
    }
}

impl From<DataFusionError> for PlanError {
    fn from(error: DataFusionError) -> Self {
        Self::Query(error.strip_backtrace())
    }
}

/// A running task failed. The job fails with it.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Asked to stop.
    #[error("the task was cancelled")]
    Cancelled,
    /// A sink could not be written.
    #[error("sink '{table}': {message}")]
    Sink { table: String, message: String },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// A neighbour was lost.
    #[error("channel {direction} subtask {subtask}: {source}")]
    Channel { direction: &'static str, subtask: usize, source: ChannelFailure },
    /// A neighbour sent something this plan does not allow.
    #[error("payload from subtask {subtask}: {message}")]
    Payload { subtask: usize, message: String },
    /// An expression or aggregate failed on the data, for example by overflow.
    #[error("{0}")]
    Compute(String),
    /// The open windows of one subtask outgrew [`crate::MAX_STATE_BYTES`].
    #[error(
        "window state of {bytes} bytes is over the limit of {limit} bytes per subtask: raise the \
         parallelism, shorten the windows or the watermark delay, or group by fewer keys"
    )]
    StateLimit { bytes: usize, limit: usize },
    /// The host handed over channels or a subtask that do not fit the graph.
    #[error("the task does not fit its job graph: {0}")]
    Wiring(String),
    /// A worker thread could not be started, or died.
    #[error("worker thread: {0}")]
    Worker(String),
}

impl From<DataFusionError> for TaskError {
    fn from(error: DataFusionError) -> Self {
        Self::Compute(error.strip_backtrace())
    }
}

impl From<ArrowError> for TaskError {
    fn from(error: ArrowError) -> Self {
        Self::Compute(error.to_string())
    }
}
