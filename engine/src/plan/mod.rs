//! Planning: from a script to a job graph.
//!
//! DataFusion parses, types and optimises the query and makes a physical plan of it for one
//! partition; `harvest` takes that plan apart into operators; `graph` cuts the chain of operators
//! at the exchanges.
//!
//! Planning is deterministic: the same script, files and engine give the same graph, wherever.
//! Functions that are not (`now()`, `random()`) are refused.

mod determinism;
mod event_time;
mod fingerprint;
mod harvest;
mod scan;
mod session;
mod vertices;

use std::sync::Arc;
use std::thread;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use tokio::sync::oneshot;

use crate::connectors::{self, Sink, SourceTable};
use crate::error::PlanError;
use crate::exchange::compression::Compression;
use crate::exchange::key_group::KEY_GROUPS;
use crate::graph::JobGraph;
use crate::operators::OperatorPlan;
use crate::script::Script;

pub(crate) use session::insert_input;

/// Stack of the thread that plans, in bytes. Expression trees are walked recursively by everybody;
/// the bound on a script's tokens bounds their depth, and only touched pages count.
const PLANNER_STACK_BYTES: usize = 64 * 1024 * 1024;

/// What planning depends on besides the script.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Subtasks per vertex, `1..=`[`KEY_GROUPS`]; a source has at most as many as it has splits.
    pub parallelism: usize,
}

/// Plans a script. Deterministic, so that every process can plan for itself and compare
/// [`JobGraph::fingerprint`].
///
/// Lists the directories of file sources, off the async threads.
///
/// # Errors
/// Every error is about the script (or about files it names) and says what to change.
pub async fn plan(sql: &str, options: &PlanOptions) -> Result<JobGraph, PlanError> {
    let (sql, options) = (sql.to_owned(), options.clone());
    on_planner_thread(move || async move { plan_here(&sql, &options).await }).await
}

async fn plan_here(sql: &str, options: &PlanOptions) -> Result<JobGraph, PlanError> {
    if !(1..=KEY_GROUPS).contains(&options.parallelism) {
        return Err(PlanError::Parallelism(options.parallelism));
    }
    let script = Script::parse(sql)?;
    let sink = connectors::sink(&script.sink)?;
    let physical = session::physical_plan(&script).await?;
    let pipeline = harvest::harvest(&physical, &script)?;
    let canonical = fingerprint::canonical(&physical, &script, &pipeline.source, options);
    vertices::assemble(pipeline, sink, options.parallelism, &canonical)
}

/// Runs planning on a thread with enough stack for the deepest expression a script can have.
pub(crate) async fn on_planner_thread<T, E, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<PlanError> + Send + 'static,
    F: Future<Output = Result<T, E>>,
{
    let (done, result) = oneshot::channel();
    let failed = |what: &str| PlanError::Query(format!("the planner {what}"));
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let planned = match runtime {
            Ok(runtime) => runtime.block_on(work()),
            Err(error) => Err(failed(&format!("could not start: {error}")).into()),
        };
        // Nobody waits any more: nothing to do.
        let _ = done.send(planned);
    };
    let thread = thread::Builder::new().name("planner".to_owned()).stack_size(PLANNER_STACK_BYTES).spawn(run);
    if let Err(error) = thread {
        return Err(failed(&format!("could not start: {error}")).into());
    }
    result.await.unwrap_or_else(|_| Err(failed("died on this script: please report it").into()))
}

/// What one vertex does: the executable part of [`crate::Vertex`].
#[derive(Debug, Clone)]
pub(crate) struct VertexPlan {
    pub(crate) input: InputPlan,
    pub(crate) operators: Vec<OperatorPlan>,
    pub(crate) output: OutputPlan,
}

#[derive(Debug, Clone)]
pub(crate) enum InputPlan {
    Source(ReadPlan),
    /// Rows of this schema from the exchange.
    Exchange(SchemaRef),
}

/// How a source is read.
#[derive(Debug, Clone)]
pub(crate) struct ReadPlan {
    pub(crate) source: SourceTable,
    /// Indices of the table's columns.
    pub(crate) projection: Vec<usize>,
    /// Index of the event time in the projected columns, if the query reads it.
    pub(crate) event_time: Option<usize>,
}

#[derive(Debug, Clone)]
pub(crate) enum OutputPlan {
    /// `compression` is what the script says, if it says anything.
    Exchange {
        schema: SchemaRef,
        key: Vec<Arc<dyn PhysicalExpr>>,
        compression: Option<Compression>,
    },
    Sink {
        table: String,
        sink: Arc<dyn Sink>,
    },
}

#[cfg(test)]
mod tests;
