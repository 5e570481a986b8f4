//! Whole jobs in one process, against the oracle.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

pub(crate) mod channels;
mod differential;
mod flights;
mod jobs;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::channel::{InputChannel, OutputChannel};
use crate::{JobGraph, PlanOptions, TaskError, TaskMetrics, TaskMetricsSnapshot, plan, run_task};

/// The metrics of every subtask of every vertex.
type JobMetrics = Vec<Vec<TaskMetricsSnapshot>>;

async fn planned(sql: &str, parallelism: usize) -> JobGraph {
    plan(sql, &PlanOptions { parallelism }).await.unwrap()
}

/// Plans and runs a job with channels in memory; the first failure that is not the cancelling of
/// the others is its result.
async fn run(sql: &str, parallelism: usize) -> Result<JobMetrics, TaskError> {
    run_until(sql, parallelism, CancellationToken::new()).await
}

async fn run_until(sql: &str, parallelism: usize, cancel: CancellationToken) -> Result<JobMetrics, TaskError> {
    let job = Arc::new(planned(sql, parallelism).await);
    let subtasks = |vertex: usize| job.vertices[vertex].parallelism;
    // outputs[edge][from][to], inputs[edge][to][from]
    let (mut outputs, mut inputs) = (Vec::new(), Vec::new());
    for edge in &job.edges {
        let mut receivers: Vec<Vec<Box<dyn InputChannel>>> = (0..subtasks(edge.to)).map(|_| Vec::new()).collect();
        let mut senders: Vec<Vec<Box<dyn OutputChannel>>> = Vec::new();
        for _ in 0..subtasks(edge.from) {
            let (outs, ins): (Vec<_>, Vec<_>) = (0..subtasks(edge.to)).map(|_| channels::channel()).unzip();
            senders.push(outs.into_iter().map(|out| Box::new(out) as _).collect());
            receivers.iter_mut().zip(ins).for_each(|(to, input)| to.push(Box::new(input)));
        }
        outputs.push(senders);
        inputs.push(receivers);
    }
    let mut tasks = JoinSet::new();
    let mut metrics = Vec::new();
    for vertex in 0..job.vertices.len() {
        let mut of_vertex = Vec::new();
        for subtask in 0..subtasks(vertex) {
            let ins = job.inputs(vertex).map(|edge| std::mem::take(&mut inputs[edge][subtask])).collect();
            let outs = job.outputs(vertex).map(|edge| std::mem::take(&mut outputs[edge][subtask])).collect();
            let (job, own, cancel) = (Arc::clone(&job), Arc::new(TaskMetrics::default()), cancel.clone());
            of_vertex.push(Arc::clone(&own));
            tasks.spawn(async move { run_task(&job, vertex, subtask, ins, outs, own, cancel).await });
        }
        metrics.push(of_vertex);
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap()?;
    }
    Ok(metrics.iter().map(|vertex| vertex.iter().map(|subtask| subtask.snapshot()).collect()).collect())
}

fn sum(metrics: &[TaskMetricsSnapshot], value: impl Fn(&TaskMetricsSnapshot) -> u64) -> u64 {
    metrics.iter().map(value).sum()
}
