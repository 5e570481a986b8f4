//! Jobs: a SQL script becomes a graph of operators that run over Arrow batches.
//!
//! ```text
//!   script --plan()--> JobGraph --run_task(vertex, subtask, channels)--> rows in a sink
//!      \
//!       `--batch::run()--> the same rows by plain DataFusion: the oracle of every test
//! ```
//!
//! The only crate that depends on DataFusion, which parses, types, optimises and plans the query
//! and provides expressions and aggregates. The stream runtime is ours: sources, watermarks, keyed
//! exchange, event-time windows, sinks. A bounded input is a stream that ends.
//!
//! **The script** holds `CREATE TABLE name (columns) WITH ('connector' = ...)` and exactly one
//! `INSERT INTO sink SELECT ...`. See [`connectors`] for the options.
//!
//! **The graph** is linear: `Source -> Watermark -> Calc`, and after a hash exchange
//! `Window -> Calc -> Sink`. A query without aggregation runs as one vertex unless it asks for an
//! exchange with `DISTRIBUTE BY`.
//!
//! **Event time** is the column named by `watermark.column`. A watermark `w` promises that no later
//! row has an event time before `w`; it is the highest event time seen minus `watermark.delay`, per
//! file, and the least of all inputs. A window fires when the watermark reaches its end. Rows of a
//! window that has fired are late: counted and dropped.
//!
//! **Memory** is bounded by named constants: [`MAX_STATE_BYTES`] of window state, and a fixed
//! number of batches of at most `BATCH_ROWS` rows in each queue.

pub mod batch;
mod channel;
pub mod connectors;
mod error;
mod exchange;
mod graph;
mod metrics;
mod operators;
mod plan;
mod script;
mod task;
#[cfg(test)]
mod tests;

pub use channel::{ChannelFailure, ChannelKind, InputChannel, OutputChannel};
pub use error::{PlanError, TaskError};
pub use exchange::compression::{Compression, UnknownCompression};
pub use exchange::key_group::{HASH_VERSION, KEY_GROUPS};
pub use graph::{Edge, JobGraph, Ship, Vertex, VertexId};
pub use metrics::{TaskMetrics, TaskMetricsSnapshot};
pub use operators::window::MAX_STATE_BYTES;
pub use plan::{PlanOptions, plan};
pub use task::run_task;
