//! Operators: what happens to rows between an input and an output, synchronously, batch by batch.

mod calc;
pub(crate) mod window;
mod window_state;

use std::fmt::Debug;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::physical_expr::PhysicalExpr;

use crate::error::TaskError;
use crate::metrics::TaskMetrics;

pub(crate) use calc::{Filter, Project};
pub(crate) use window::WindowPlan;

/// A step of a chain: what it does to a batch of rows, and to the passing of event time.
pub(crate) trait Operator: Send {
    /// The rows that follow from these rows at once.
    fn batch(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, TaskError>;

    /// The rows that are complete once event time has reached `watermark` milliseconds. `i64::MAX`
    /// is the end.
    fn watermark(&mut self, watermark: i64) -> Result<Vec<RecordBatch>, TaskError>;
}

/// The plan of an operator: immutable, shared by all subtasks.
#[derive(Debug, Clone)]
pub(crate) enum OperatorPlan {
    Filter(Filter),
    Project(Project),
    Window(Arc<WindowPlan>),
}

impl OperatorPlan {
    fn open(&self, metrics: &Arc<TaskMetrics>) -> Result<Box<dyn Operator>, TaskError> {
        Ok(match self {
            Self::Filter(filter) => Box::new(filter.clone()),
            Self::Project(project) => Box::new(project.clone()),
            Self::Window(plan) => Box::new(window::Window::new(Arc::clone(plan), Arc::clone(metrics))),
        })
    }
}

/// Operators in a row.
pub(crate) struct Chain(Vec<Box<dyn Operator>>);

impl Chain {
    pub(crate) fn open(plans: &[OperatorPlan], metrics: &Arc<TaskMetrics>) -> Result<Self, TaskError> {
        plans.iter().map(|plan| plan.open(metrics)).collect::<Result<_, _>>().map(Self)
    }

    /// The rows that leave the chain because of this batch.
    pub(crate) fn batch(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, TaskError> {
        self.0.iter_mut().try_fold(vec![batch], |batches, operator| through(operator.as_mut(), batches))
    }

    /// The rows that leave the chain because event time has reached `watermark`.
    pub(crate) fn watermark(&mut self, watermark: i64) -> Result<Vec<RecordBatch>, TaskError> {
        self.0.iter_mut().try_fold(Vec::new(), |batches, operator| {
            let mut out = through(operator.as_mut(), batches)?;
            out.extend(operator.watermark(watermark)?);
            Ok(out)
        })
    }
}

fn through(operator: &mut dyn Operator, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, TaskError> {
    let mut out = Vec::new();
    for batch in batches {
        out.extend(operator.batch(batch)?.into_iter().filter(|batch| batch.num_rows() > 0));
    }
    Ok(out)
}

/// The values of expressions over a batch.
pub(crate) fn columns<'a>(
    expressions: impl IntoIterator<Item = &'a Arc<dyn PhysicalExpr>>,
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>, TaskError> {
    let values = expressions.into_iter().map(|expression| expression.evaluate(batch)?.into_array(batch.num_rows()));
    Ok(values.collect::<Result<_, datafusion::common::DataFusionError>>()?)
}
