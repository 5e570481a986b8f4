//! The state of one open window: its groups, and an accumulator per aggregate.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use super::window::WindowPlan;
use crate::error::TaskError;

/// Rows of one window on their way into its state.
pub(super) struct Rows {
    /// One column per group key.
    pub(super) keys: Vec<ArrayRef>,
    /// Per aggregate, its arguments.
    pub(super) arguments: Vec<Vec<ArrayRef>>,
    /// Per aggregate, its `FILTER (WHERE ...)`.
    pub(super) filters: Vec<Option<ArrayRef>>,
}

impl Rows {
    /// The same rows, each column passed through `each`.
    pub(super) fn map(&self, each: impl Fn(&ArrayRef) -> Result<ArrayRef, TaskError>) -> Result<Self, TaskError> {
        let all = |columns: &[ArrayRef]| columns.iter().map(&each).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            keys: all(&self.keys)?,
            arguments: self.arguments.iter().map(|columns| all(columns)).collect::<Result<_, _>>()?,
            filters: self
                .filters
                .iter()
                .map(|filter| filter.as_ref().map(&each).transpose())
                .collect::<Result<_, _>>()?,
        })
    }
}

pub(super) struct WindowState {
    groups: Box<dyn GroupValues>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// Bytes, as of the last update.
    pub(super) size: usize,
}

impl WindowState {
    pub(super) fn new(plan: &WindowPlan) -> Result<Self, TaskError> {
        Ok(Self {
            groups: new_group_values(Arc::clone(&plan.group_schema), &GroupOrdering::None)?,
            accumulators: plan
                .aggregates
                .iter()
                .map(|aggregate| accumulator(&aggregate.function))
                .collect::<Result<_, _>>()?,
            size: 0,
        })
    }

    /// Adds rows. `indices` is scratch space that callers keep to save allocations.
    pub(super) fn update(&mut self, rows: &Rows, indices: &mut Vec<usize>) -> Result<(), TaskError> {
        self.groups.intern(&rows.keys, indices)?;
        let groups = self.groups.len();
        for ((accumulator, arguments), filter) in self.accumulators.iter_mut().zip(&rows.arguments).zip(&rows.filters) {
            let filter: Option<&BooleanArray> = filter.as_ref().and_then(|filter| filter.as_boolean_opt());
            accumulator.update_batch(arguments, indices, filter, groups)?;
        }
        self.size = self.groups.size() + self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>();
        Ok(())
    }

    /// The result: a row per group.
    pub(super) fn finish(mut self, plan: &WindowPlan) -> Result<RecordBatch, TaskError> {
        let mut columns = self.groups.emit(EmitTo::All)?;
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.evaluate(EmitTo::All)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&plan.schema), columns)?)
    }
}

fn accumulator(function: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>, TaskError> {
    if function.groups_accumulator_supported() {
        return Ok(function.create_groups_accumulator()?);
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}
