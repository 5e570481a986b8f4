//! The oracle: the same script over the same files by plain DataFusion, as a batch.
//!
//! Shares with the stream only the parser of scripts (to know the tables) and the JSON writer (to
//! compare texts). Reading files, planning and executing the query are DataFusion's own. Reads
//! `filesystem` tables only; their files are unpacked into a temporary directory first.

mod compare;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{LogicalPlan, Partitioning, Repartition};
use datafusion::prelude::CsvReadOptions;
use tempfile::TempDir;

use crate::connectors::{FileSource, plain_copy, write_lines};
use crate::error::{PlanError, TaskError};
use crate::plan::{insert_input, on_planner_thread};
use crate::script::{Script, Table};

pub use compare::{Comparison, compare};

/// What a script has to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oracle {
    /// Rows of the table that is read.
    pub rows_in: u64,
    /// The rows that the sink has to have, as JSON lines without line ends, sorted.
    pub rows: Vec<String>,
}

/// The oracle could not answer, or the sink could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the batch query failed: {0}")]
    Query(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl From<DataFusionError> for BatchError {
    fn from(error: DataFusionError) -> Self {
        Self::Query(error.strip_backtrace())
    }
}

impl From<TaskError> for BatchError {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::File { path, source } => Self::File { path, source },
            other => Self::Query(other.to_string()),
        }
    }
}

/// Runs the query of a script over its files and returns the rows its sink has to have. Off the
/// async threads; the rows are held in memory.
pub async fn run(sql: &str) -> Result<Oracle, BatchError> {
    let sql = sql.to_owned();
    on_planner_thread(move || async move { run_here(&sql).await }).await
}

async fn run_here(sql: &str) -> Result<Oracle, BatchError> {
    let script = Script::parse(sql)?;
    let unpacked = TempDir::with_prefix("tidemill-batch-")
        .map_err(|source| BatchError::File { path: std::env::temp_dir(), source })?;
    let context = SessionContext::new();
    for table in script.tables.values() {
        let is_sink = table.name == script.sink.name;
        register(&context, table, is_sink, unpacked.path()).await?;
    }
    let state = context.state();
    let plan = insert_input(&state, &script).await?.transform_up(without_exchange)?.data;
    let rows_in = rows_read(&context, &script, &plan).await?;
    let batches = context.execute_logical_plan(plan).await?.collect().await?;
    let mut lines = Vec::new();
    for batch in &batches {
        write_lines(batch, &mut lines).map_err(DataFusionError::from)?;
    }
    let mut rows: Vec<String> = String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect();
    rows.sort_unstable();
    Ok(Oracle { rows_in, rows })
}

async fn register(
    context: &SessionContext,
    table: &Arc<Table>,
    is_sink: bool,
    unpacked: &Path,
) -> Result<(), BatchError> {
    if is_sink || table.options.connector() != "filesystem" {
        // Only its columns matter; `rows_read` refuses to read it.
        let empty = datafusion::datasource::empty::EmptyTable::new(Arc::clone(&table.schema));
        context.register_table(table.name.as_str(), Arc::new(empty))?;
        return Ok(());
    }
    let mut options = table.options.reader();
    let source = FileSource::open(table, &mut options)?;
    let directory = unpacked.join(&table.name);
    std::fs::create_dir(&directory).map_err(|source| BatchError::File { path: directory.clone(), source })?;
    for (index, file) in source.files.iter().enumerate() {
        let path = directory.join(format!("{index}.csv"));
        let mut to = std::fs::File::create(&path).map_err(|source| BatchError::File { path: path.clone(), source })?;
        plain_copy(file, &mut to)?;
    }
    let options = CsvReadOptions::new().schema(&table.schema).has_header(source.header);
    context.register_csv(table.name.as_str(), directory.to_string_lossy(), options).await?;
    Ok(())
}

/// `DISTRIBUTE BY` means nothing to a batch.
fn without_exchange(plan: LogicalPlan) -> datafusion::common::Result<Transformed<LogicalPlan>> {
    Ok(match plan {
        LogicalPlan::Repartition(Repartition { input, partitioning_scheme: Partitioning::DistributeBy(_) }) => {
            Transformed::yes(Arc::unwrap_or_clone(input))
        }
        other => Transformed::no(other),
    })
}

/// How many rows the tables have that the plan reads. Refuses tables that are not files: they would
/// seem empty.
async fn rows_read(context: &SessionContext, script: &Script, plan: &LogicalPlan) -> Result<u64, BatchError> {
    let mut names = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            names.push(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut rows = 0;
    for name in names {
        let connector = script.tables.get(&name).map_or("", |table| table.options.connector());
        if connector != "filesystem" || name == script.sink.name {
            return Err(PlanError::table(&name, format!("connector '{connector}' cannot be read as a batch")).into());
        }
        rows += context.table(name).await?.count().await? as u64;
    }
    Ok(rows)
}
