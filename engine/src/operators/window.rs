//! Event-time tumbling windows: a grouped aggregation per window, fired when the watermark reaches
//! the window's end.
//!
//! A window is known by its end in milliseconds, rounded up, so that it compares with watermarks.
//! Rows without an event time, and all rows of a query without a window, belong to a window that
//! ends with the input.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Int64Type, SchemaRef, TimeUnit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::window_state::{Rows, WindowState};
use super::{Operator, columns};
use crate::connectors::BATCH_ROWS;
use crate::error::TaskError;
use crate::metrics::TaskMetrics;

/// Most bytes of window state in one subtask. Beyond it the task fails: better than the whole
/// process.
pub const MAX_STATE_BYTES: usize = 1024 * 1024 * 1024;

/// The end of the window that ends with the input.
const END_OF_INPUT: i64 = i64::MAX;

/// A grouped aggregation, windowed or not.
#[derive(Debug)]
pub(crate) struct WindowPlan {
    pub(crate) keys: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) group_schema: SchemaRef,
    pub(crate) aggregates: Vec<Aggregate>,
    /// Which key is the window's start; `None`: one window for all.
    pub(crate) window: Option<Tumble>,
    /// Keys, then aggregates.
    pub(crate) schema: SchemaRef,
}

#[derive(Debug)]
pub(crate) struct Aggregate {
    pub(crate) function: Arc<AggregateFunctionExpr>,
    pub(crate) arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub(crate) filter: Option<Arc<dyn PhysicalExpr>>,
}

/// A key that is the start of a tumbling window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tumble {
    /// Which key.
    pub(crate) key: usize,
    /// Unit of the key.
    pub(crate) unit: TimeUnit,
    /// Nanoseconds, positive.
    pub(crate) size: i64,
}

impl Tumble {
    /// The size in its largest whole unit, as in `24 h`.
    pub(crate) fn readable_size(&self) -> String {
        let units =
            [(3_600_000_000_000, "h"), (60_000_000_000, "min"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
        let whole = units.into_iter().find(|(nanos, _)| self.size % nanos == 0);
        let (nanos, unit) = whole.unwrap_or((1, "ns"));
        format!("{} {unit}", self.size / nanos)
    }

    /// The end of the window that starts at `start`, in milliseconds, rounded up.
    fn end(&self, start: i64) -> i64 {
        let unit: i128 = match self.unit {
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        };
        let end = i128::from(start) * unit + i128::from(self.size);
        let millis = -(-end).div_euclid(1_000_000);
        // A window that would end later than time itself ends with the input.
        i64::try_from(millis).unwrap_or(END_OF_INPUT)
    }
}

/// The open windows of one subtask.
pub(crate) struct Window {
    plan: Arc<WindowPlan>,
    /// By end.
    windows: BTreeMap<i64, WindowState>,
    /// Sum of the windows' sizes.
    size: usize,
    limit: usize,
    watermark: i64,
    metrics: Arc<TaskMetrics>,
    indices: Vec<usize>,
}

impl Window {
    pub(crate) fn new(plan: Arc<WindowPlan>, metrics: Arc<TaskMetrics>) -> Self {
        Self {
            plan,
            windows: BTreeMap::new(),
            size: 0,
            limit: MAX_STATE_BYTES,
            watermark: i64::MIN,
            metrics,
            indices: Vec::new(),
        }
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<Rows, TaskError> {
        let aggregates = &self.plan.aggregates;
        Ok(Rows {
            keys: columns(&self.plan.keys, batch)?,
            arguments: aggregates
                .iter()
                .map(|aggregate| columns(&aggregate.arguments, batch))
                .collect::<Result<_, _>>()?,
            filters: aggregates
                .iter()
                .map(|aggregate| Ok(columns(&aggregate.filter, batch)?.pop()))
                .collect::<Result<_, TaskError>>()?,
        })
    }

    /// The rows of each window.
    fn assign(&self, keys: &[ArrayRef], rows: usize) -> Result<BTreeMap<i64, Vec<u32>>, TaskError> {
        let all = 0..rows as u32;
        let Some((tumble, starts)) = self.plan.window.as_ref().and_then(|tumble| Some((tumble, keys.get(tumble.key)?)))
        else {
            return Ok(BTreeMap::from([(END_OF_INPUT, all.collect())]));
        };
        let starts = cast(starts, &DataType::Int64)?;
        let mut windows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, start) in all.zip(starts.as_primitive::<Int64Type>()) {
            windows.entry(start.map_or(END_OF_INPUT, |start| tumble.end(start))).or_default().push(row);
        }
        Ok(windows)
    }

    fn add(&mut self, end: i64, rows: &Rows) -> Result<(), TaskError> {
        let window = match self.windows.entry(end) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => new.insert(WindowState::new(&self.plan)?),
        };
        let before = window.size;
        window.update(rows, &mut self.indices)?;
        self.size = self.size - before + window.size;
        if self.size > self.limit {
            return Err(TaskError::StateLimit { bytes: self.size, limit: self.limit });
        }
        Ok(())
    }
}

impl Operator for Window {
    fn batch(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, TaskError> {
        let rows = self.evaluate(&batch)?;
        let windows = self.assign(&rows.keys, batch.num_rows())?;
        for (end, members) in windows {
            if end <= self.watermark {
                self.metrics.dropped_late(members.len());
            } else if members.len() == batch.num_rows() {
                self.add(end, &rows)?;
            } else {
                let members = UInt32Array::from(members);
                self.add(end, &rows.map(|column| Ok(take(column, &members, None)?))?)?;
            }
        }
        Ok(Vec::new())
    }

    fn watermark(&mut self, watermark: i64) -> Result<Vec<RecordBatch>, TaskError> {
        self.watermark = self.watermark.max(watermark);
        let mut out = Vec::new();
        while let Some(first) = self.windows.first_entry()
            && *first.key() <= self.watermark
        {
            let window = first.remove();
            self.size -= window.size;
            let batch = window.finish(&self.plan)?;
            out.extend(
                (0..batch.num_rows())
                    .step_by(BATCH_ROWS)
                    .map(|from| batch.slice(from, BATCH_ROWS.min(batch.num_rows() - from))),
            );
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use datafusion::arrow::array::{Array, Int32Array, StringArray, TimestampMillisecondArray};
    use datafusion::arrow::datatypes::TimestampMillisecondType;
    use proptest::prelude::*;
    use tokio::sync::OnceCell;

    use super::*;
    use crate::operators::OperatorPlan;
    use crate::{PlanOptions, plan};

    type Row = (Option<i64>, &'static str, Option<i32>);

    struct Fixture {
        window: Window,
        metrics: Arc<TaskMetrics>,
    }

    /// The operator of a query with windows of ten seconds.
    async fn fixture() -> Fixture {
        static PLAN: OnceCell<Arc<WindowPlan>> = OnceCell::const_new();
        let plan = PLAN.get_or_init(window_plan).await;
        let metrics = Arc::new(TaskMetrics::default());
        Fixture { window: Window::new(Arc::clone(plan), Arc::clone(&metrics)), metrics }
    }

    async fn window_plan() -> Arc<WindowPlan> {
        let sql = "CREATE TABLE t (time TIMESTAMP(3), tag STRING, value INT)
              WITH ('connector' = 'datagen', 'watermark.column' = 'time');
            CREATE TABLE s (start TIMESTAMP(3), tag STRING, n BIGINT, total BIGINT, kinds BIGINT, positive BIGINT)
              WITH ('connector' = 'blackhole');
            INSERT INTO s SELECT date_bin(INTERVAL '10 seconds', time), tag, count(*), sum(value),
              count(DISTINCT value), count(*) FILTER (WHERE value > 0)
            FROM t GROUP BY date_bin(INTERVAL '10 seconds', time), tag";
        let job = plan(sql, &PlanOptions { parallelism: 1 }).await.unwrap();
        let mut operators = job.vertices.into_iter().flat_map(|vertex| vertex.plan.operators);
        operators
            .find_map(|operator| match operator {
                OperatorPlan::Window(plan) => Some(plan),
                _ => None,
            })
            .unwrap()
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([
            ("time", Arc::new(rows.iter().map(|row| row.0).collect::<TimestampMillisecondArray>()) as ArrayRef, true),
            ("key", Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>()), true),
            ("value", Arc::new(rows.iter().map(|row| row.2).collect::<Int32Array>()), true),
        ])
        .unwrap()
    }

    /// A result: window start, key, count, sum, distinct values, positive values.
    type Out = (Option<i64>, String, i64, Option<i64>, i64, i64);

    fn results(batches: &[RecordBatch]) -> BTreeSet<Out> {
        let mut results = BTreeSet::new();
        for batch in batches {
            let start = batch.column(0).as_primitive::<TimestampMillisecondType>();
            let integer = |column: usize| batch.column(column).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let start = start.is_valid(row).then(|| start.value(row));
                let total = integer(3).is_valid(row).then(|| integer(3).value(row));
                let key = batch.column(1).as_string::<i32>().value(row).to_owned();
                assert!(
                    results.insert((
                        start,
                        key,
                        integer(2).value(row),
                        total,
                        integer(4).value(row),
                        integer(5).value(row)
                    )),
                    "twice"
                );
            }
        }
        results
    }

    #[tokio::test]
    async fn fires_at_the_end_of_the_window_and_counts_what_comes_after() {
        let Fixture { mut window, metrics } = fixture().await;
        let rows: &[Row] =
            &[(Some(0), "a", Some(1)), (Some(9_999), "a", Some(1)), (Some(10_000), "b", Some(-1)), (None, "c", None)];
        assert!(window.batch(batch(rows)).unwrap().is_empty());
        assert!(window.watermark(9_999).unwrap().is_empty());
        assert_eq!(results(&window.watermark(10_000).unwrap()), [(Some(0), "a".to_owned(), 2, Some(2), 1, 2)].into());
        let late: &[Row] = &[(Some(9_999), "a", Some(1)), (Some(-1), "a", Some(1)), (Some(10_000), "b", Some(5))];
        window.batch(batch(late)).unwrap();
        assert_eq!(metrics.snapshot().late_records, 2);
        let rest = [(Some(10_000), "b".to_owned(), 2, Some(4), 2, 1), (None, "c".to_owned(), 1, None, 0, 0)];
        assert_eq!(results(&window.watermark(i64::MAX).unwrap()), rest.into());
        assert_eq!(window.size, 0);
    }

    #[tokio::test]
    async fn fails_rather_than_outgrow_its_memory() {
        let Fixture { mut window, .. } = fixture().await;
        window.limit = 100;
        let error = window.batch(batch(&[(Some(0), "a", None)])).unwrap_err();
        assert!(matches!(error, TaskError::StateLimit { limit: 100, .. }), "{error}");
    }

    #[test]
    fn ends_are_rounded_up_and_stay_in_range() {
        let end = |unit, size, start| Tumble { key: 0, unit, size }.end(start);
        assert_eq!(end(TimeUnit::Nanosecond, 1_500_000, 0), 2);
        assert_eq!(end(TimeUnit::Nanosecond, 1_500_000, -3_000_000), -1);
        assert_eq!(end(TimeUnit::Microsecond, 1_000_000, 2_000), 3);
        assert_eq!(end(TimeUnit::Second, 86_400_000_000_000, 0), 86_400_000);
        assert_eq!(end(TimeUnit::Second, 1, i64::MAX), END_OF_INPUT);
    }

    #[test]
    fn sizes_are_readable() {
        let size = |size| Tumble { key: 0, unit: TimeUnit::Second, size }.readable_size();
        assert_eq!(
            [size(86_400_000_000_000), size(90_000_000_000), size(1_500_000), size(7)],
            ["24 h", "90 s", "1500 µs", "7 ns"]
        );
    }

    /// Rows interleaved with watermarks: `Err` is a watermark.
    fn input() -> impl Strategy<Value = Vec<Result<Vec<Row>, i64>>> {
        let row = (
            proptest::option::weighted(0.95, -30_000i64..60_000),
            prop_oneof![Just("a"), Just("b"), Just("c")],
            any::<Option<i8>>(),
        );
        let row = row.prop_map(|(time, key, value)| (time, key, value.map(i32::from)));
        let step = prop_oneof![3 => proptest::collection::vec(row, 1..20).prop_map(Ok), 1 => (-30_000i64..60_000).prop_map(Err)];
        proptest::collection::vec(step, 0..30)
    }

    proptest! {
        #[test]
        fn equals_a_model_for_any_order_of_rows_and_watermarks(input in input()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let Fixture { mut window, metrics } = runtime.block_on(fixture());
            let (mut out, mut kept, mut late, mut watermark) = (Vec::new(), Vec::new(), 0, i64::MIN);
            for step in input {
                match step {
                    Ok(rows) => {
                        out.extend(window.batch(batch(&rows)).unwrap());
                        for row in rows {
                            if row.0.is_some_and(|time| time.div_euclid(10_000) * 10_000 + 10_000 <= watermark) { late += 1 } else { kept.push(row) }
                        }
                    }
                    Err(time) => {
                        watermark = watermark.max(time);
                        out.extend(window.watermark(time).unwrap());
                        let fired = results(&out).into_iter().filter_map(|out| out.0).max();
                        prop_assert!(fired.is_none_or(|start| start + 10_000 <= watermark));
                    }
                }
            }
            out.extend(window.watermark(i64::MAX).unwrap());
            let start = |row: &Row| row.0.map(|time| time.div_euclid(10_000) * 10_000);
            let groups: BTreeSet<_> = kept.iter().map(|row| (start(row), row.1)).collect();
            let expected = groups.into_iter().map(|group| {
                let rows = kept.iter().filter(|row| (start(row), row.1) == group);
                let values: Vec<i32> = rows.clone().filter_map(|row| row.2).collect();
                let total = (!values.is_empty()).then(|| values.iter().map(|value| i64::from(*value)).sum());
                let kinds = values.iter().collect::<BTreeSet<_>>().len() as i64;
                let positive = values.iter().filter(|value| **value > 0).count() as i64;
                (group.0, group.1.to_owned(), rows.count() as i64, total, kinds, positive)
            });
            prop_assert_eq!(results(&out), expected.collect());
            prop_assert_eq!(metrics.snapshot().late_records, late);
        }
    }
}
