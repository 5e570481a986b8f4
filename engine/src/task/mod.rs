//! Running one subtask of one vertex: rows in, through the operators, out.

mod pace;
mod sink;
mod source;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::RecordBatch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::channel::{InputChannel, OutputChannel};
use crate::error::TaskError;
use crate::exchange::gate::{Element, Gate};
use crate::exchange::router::Router;
use crate::graph::{JobGraph, Vertex};
use crate::metrics::TaskMetrics;
use crate::operators::Chain;
use crate::plan::{InputPlan, OutputPlan};

use sink::SinkTask;
use source::SourceStream;

/// How long a row or a source's watermark is held back at most, to be sent with others.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Runs one subtask to its end: until its inputs have ended and its outputs are complete, or it
/// fails, or `cancel` fires.
///
/// `inputs` has one entry per edge in [`JobGraph::inputs`], each with one channel per upstream
/// subtask in order; `outputs` likewise for [`JobGraph::outputs`] and downstream subtasks. Outputs
/// are finished here. Needs a tokio runtime with time enabled. Operators run on the calling task;
/// sources and sinks, which block, on threads of their own.
///
/// # Errors
/// [`TaskError::Cancelled`] after `cancel`; everything else is a failure of the job. Either way the
/// sink keeps nothing of this subtask.
pub async fn run_task(
    job: &JobGraph,
    vertex: usize,
    subtask: usize,
    inputs: Vec<Vec<Box<dyn InputChannel>>>,
    outputs: Vec<Vec<Box<dyn OutputChannel>>>,
    metrics: Arc<TaskMetrics>,
    cancel: CancellationToken,
) -> Result<(), TaskError> {
    let work = async {
        let vertex = check(job, vertex, subtask, &inputs, &outputs)?;
        Task::open(vertex, subtask, inputs, outputs, metrics)?.run().await
    };
    // Dropping the work abandons every channel, and both worker threads notice.
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(TaskError::Cancelled),
        result = work => result,
    }
}

/// The vertex, if the host's channels fit it.
fn check<'a, I, O>(
    job: &'a JobGraph,
    index: usize,
    subtask: usize,
    inputs: &[Vec<I>],
    outputs: &[Vec<O>],
) -> Result<&'a Vertex, TaskError> {
    let vertex = job.vertices.get(index).filter(|vertex| subtask < vertex.parallelism);
    let vertex = vertex.ok_or_else(|| TaskError::Wiring(format!("there is no subtask {subtask} of vertex {index}")))?;
    let parallelism = |vertex: usize| job.vertices.get(vertex).map_or(0, |vertex| vertex.parallelism);
    let expected_in = job.inputs(index).filter_map(|edge| job.edges.get(edge)).map(|edge| parallelism(edge.from));
    let expected_out = job.outputs(index).filter_map(|edge| job.edges.get(edge)).map(|edge| parallelism(edge.to));
    if !expected_in.eq(inputs.iter().map(Vec::len)) || !expected_out.eq(outputs.iter().map(Vec::len)) {
        return Err(TaskError::Wiring(format!("vertex {index} was given the wrong number of channels")));
    }
    Ok(vertex)
}

struct Task {
    input: Input,
    chain: Chain,
    output: Output,
    metrics: Arc<TaskMetrics>,
}

enum Input {
    Source(SourceStream),
    Gate(Gate),
}

enum Output {
    Exchange(Box<Router>),
    Sink(SinkTask),
}

impl Task {
    fn open(
        vertex: &Vertex,
        subtask: usize,
        inputs: Vec<Vec<Box<dyn InputChannel>>>,
        outputs: Vec<Vec<Box<dyn OutputChannel>>>,
        metrics: Arc<TaskMetrics>,
    ) -> Result<Self, TaskError> {
        let input = match &vertex.plan.input {
            InputPlan::Source(read) => {
                Input::Source(SourceStream::open(read, subtask, vertex.parallelism, Arc::clone(&metrics))?)
            }
            InputPlan::Exchange(schema) => {
                Input::Gate(Gate::new(Arc::clone(schema), inputs.into_iter().flatten().collect(), Arc::clone(&metrics)))
            }
        };
        let output = match &vertex.plan.output {
            OutputPlan::Exchange { schema, key, compression } => {
                let channels = outputs.into_iter().flatten().collect();
                Output::Exchange(Box::new(Router::new(
                    Arc::clone(schema),
                    key.clone(),
                    channels,
                    *compression,
                    Arc::clone(&metrics),
                )?))
            }
            OutputPlan::Sink { table, sink } => {
                Output::Sink(SinkTask::open(table, Arc::clone(sink), subtask, Arc::clone(&metrics))?)
            }
        };
        Ok(Self { input, chain: Chain::open(&vertex.plan.operators, &metrics)?, output, metrics })
    }

    async fn run(mut self) -> Result<(), TaskError> {
        let mut tick = interval_at(Instant::now() + FLUSH_INTERVAL, FLUSH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let element = tokio::select! {
                biased;
                _ = tick.tick() => None,
                element = self.input.next() => Some(element?),
            };
            match element {
                None => self.tick().await?,
                Some(Element::Batch(batch)) => {
                    let rows = self.chain.batch(batch)?;
                    self.send(rows).await?;
                }
                Some(Element::Watermark(time)) => self.watermark(time).await?,
                Some(Element::End) => return self.end().await,
            }
            // A batch is work enough for one turn: others share this thread.
            tokio::task::yield_now().await;
        }
    }

    /// Passes on what has been held back for others to join.
    async fn tick(&mut self) -> Result<(), TaskError> {
        let risen = match &mut self.input {
            Input::Source(source) => source.risen_watermark(),
            Input::Gate(_) => None,
        };
        match (risen, &mut self.output) {
            (Some(time), _) => self.watermark(time).await,
            (None, Output::Exchange(router)) => router.flush().await,
            (None, Output::Sink(_)) => Ok(()),
        }
    }

    async fn watermark(&mut self, time: i64) -> Result<(), TaskError> {
        let rows = self.chain.watermark(time)?;
        self.send(rows).await?;
        self.metrics.advanced(time);
        match &mut self.output {
            Output::Exchange(router) => router.watermark(time).await,
            Output::Sink(_) => Ok(()),
        }
    }

    async fn end(mut self) -> Result<(), TaskError> {
        let rows = self.chain.watermark(i64::MAX)?;
        self.send(rows).await?;
        match self.output {
            Output::Exchange(router) => router.end().await?,
            Output::Sink(sink) => sink.finish().await?,
        }
        self.metrics.advanced(i64::MAX);
        Ok(())
    }

    async fn send(&mut self, batches: Vec<RecordBatch>) -> Result<(), TaskError> {
        for batch in batches {
            match &mut self.output {
                Output::Exchange(router) => router.send(batch).await?,
                Output::Sink(sink) => sink.write(batch).await?,
            }
        }
        Ok(())
    }
}

impl Input {
    /// The next element. Cancel safe.
    async fn next(&mut self) -> Result<Element, TaskError> {
        match self {
            Self::Source(source) => source.next().await,
            Self::Gate(gate) => gate.next().await,
        }
    }
}
