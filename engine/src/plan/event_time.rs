//! Recognises the key of a `GROUP BY` that is a tumbling window over the event time, also through
//! subqueries.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::functions::datetime::date_bin::DateBinFunc;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};

use crate::error::PlanError;
use crate::operators::window::Tumble;

/// What is known about where the columns of a stream come from.
#[derive(Debug, Clone)]
pub(super) struct Lineage {
    /// Index of the event time among the source's columns, if the query reads it.
    event_time: Option<usize>,
    columns: Vec<Origin>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// This column of the source.
    Source(usize),
    /// The start of a tumbling window over the event time.
    Window {
        unit: TimeUnit,
        size: i64,
    },
    Other,
}

impl Lineage {
    /// Of the source itself.
    pub(super) fn of_source(columns: usize, event_time: Option<usize>) -> Self {
        Self { event_time, columns: (0..columns).map(Origin::Source).collect() }
    }

    /// After a projection to these expressions.
    pub(super) fn project(&mut self, expressions: &[Arc<dyn PhysicalExpr>]) -> Result<(), PlanError> {
        self.columns = expressions.iter().map(|expression| self.origin(expression)).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// After keeping only these columns.
    pub(super) fn select(&mut self, columns: &[usize]) {
        self.columns = columns.iter().map(|index| self.column(*index)).collect();
    }

    /// After an aggregation.
    pub(super) fn aggregate(&mut self, columns: usize) {
        self.columns = vec![Origin::Other; columns];
    }

    /// The key of a `GROUP BY` that is a tumbling window; the shortest if there are several.
    pub(super) fn tumble(&self, keys: &[Arc<dyn PhysicalExpr>]) -> Result<Option<Tumble>, PlanError> {
        let mut shortest: Option<Tumble> = None;
        for (key, expression) in keys.iter().enumerate() {
            if let Origin::Window { unit, size } = self.origin(expression)?
                && shortest.as_ref().is_none_or(|tumble| size < tumble.size)
            {
                shortest = Some(Tumble { key, unit, size });
            }
        }
        Ok(shortest)
    }

    fn column(&self, index: usize) -> Origin {
        self.columns.get(index).copied().unwrap_or(Origin::Other)
    }

    fn origin(&self, expression: &Arc<dyn PhysicalExpr>) -> Result<Origin, PlanError> {
        if let Some(column) = expression.downcast_ref::<Column>() {
            return Ok(self.column(column.index()));
        }
        let Some(bin) = ScalarFunctionExpr::try_downcast_func::<DateBinFunc>(expression.as_ref()) else {
            return Ok(Origin::Other);
        };
        let ([interval, time, ..], DataType::Timestamp(unit, _)) = (bin.args(), bin.return_type()) else {
            return Ok(Origin::Other);
        };
        let time = time.downcast_ref::<Column>().map(|column| self.column(column.index()));
        if self.event_time.is_none() || time != self.event_time.map(Origin::Source) {
            return Ok(Origin::Other);
        }
        let size = interval
            .downcast_ref::<Literal>()
            .and_then(|literal| nanoseconds(literal.value()))
            .filter(|size| *size > 0);
        match size {
            Some(size) => Ok(Origin::Window { unit: *unit, size }),
            None => Err(PlanError::Unsupported(format!(
                "a window of {interval}: its size has to be a positive interval of days or less"
            ))),
        }
    }
}

/// An interval of a fixed length.
fn nanoseconds(interval: &ScalarValue) -> Option<i64> {
    const DAY: i64 = 86_400_000_000_000;
    match interval {
        ScalarValue::IntervalMonthDayNano(Some(interval)) if interval.months == 0 => {
            i64::from(interval.days).checked_mul(DAY)?.checked_add(interval.nanoseconds)
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            i64::from(interval.days).checked_mul(DAY)?.checked_add(i64::from(interval.milliseconds) * 1_000_000)
        }
        _ => None,
    }
}
