//! A source as its task sees it: batches from a reading thread, at the rate the script asks for,
//! and the watermark they imply.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::{cast, max};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimeUnit};
use tokio::sync::mpsc;

use super::pace::Pace;
use super::worker;
use crate::connectors::{BATCH_ROWS, Split};
use crate::error::TaskError;
use crate::exchange::gate::Element;
use crate::metrics::TaskMetrics;
use crate::plan::ReadPlan;

/// Batches read ahead of the task.
const QUEUE_BATCHES: usize = 4;

/// Rows, and the event time that is complete after them.
struct Read {
    batch: RecordBatch,
    watermark: i64,
}

pub(super) struct SourceStream {
    queue: mpsc::Receiver<Result<Read, TaskError>>,
    /// Resolves when the reading thread is over, fails if it panicked.
    reader: tokio::sync::oneshot::Receiver<()>,
    /// Waits for its time.
    next: Option<Read>,
    pace: Option<Pace>,
    watermark: i64,
    reported: i64,
    metrics: Arc<TaskMetrics>,
}

impl SourceStream {
    pub(super) fn open(
        plan: &ReadPlan,
        subtask: usize,
        parallelism: usize,
        metrics: Arc<TaskMetrics>,
    ) -> Result<Self, TaskError> {
        let rate = plan.source.rows_per_second.map(|rate| rate / parallelism as f64);
        let batch_rows = rate.map_or(BATCH_ROWS, |rate| Pace::batch_rows(rate, BATCH_ROWS));
        let delay =
            plan.source.event_time.as_ref().map_or(0, |time| i64::try_from(time.delay.as_nanos()).unwrap_or(i64::MAX));
        let (sender, queue) = mpsc::channel(QUEUE_BATCHES);
        let (source, projection, event_time) =
            (Arc::clone(&plan.source.source), plan.projection.clone(), plan.event_time);
        let read = move || {
            let splits = source.splits(subtask, parallelism, &projection, batch_rows);
            let reads = InOrder::new(splits, event_time.map(|column| (column, delay)));
            for read in reads {
                let failed = read.is_err();
                // A task that is gone does not want more.
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        };
        let reader = worker::spawn(format!("source-{}-{subtask}", plan.source.table.name), read)?;
        Ok(Self {
            queue,
            reader,
            next: None,
            pace: rate.map(Pace::new),
            watermark: i64::MIN,
            reported: i64::MIN,
            metrics,
        })
    }

    /// The next batch, once its time has come, or the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Element, TaskError> {
        if self.next.is_none() {
            match self.queue.recv().await {
                Some(read) => self.next = Some(read?),
                None => {
                    return (&mut self.reader)
                        .await
                        .map(|()| Element::End)
                        .map_err(|_| worker::died("the source's thread"));
                }
            }
        }
        if let Some(pace) = &self.pace {
            pace.wait().await;
        }
        let Some(read) = self.next.take() else { return Ok(Element::End) };
        if let Some(pace) = &mut self.pace {
            pace.gone(read.batch.num_rows());
        }
        self.watermark = read.watermark;
        self.metrics.received(read.batch.num_rows(), 0);
        Ok(Element::Batch(read.batch))
    }

    /// The watermark, if it has risen since the last call.
    pub(super) fn risen_watermark(&mut self) -> Option<i64> {
        let risen = self.watermark > self.reported;
        self.reported = self.watermark;
        risen.then_some(self.watermark)
    }
}

/// The splits of a subtask, merged: the one whose event time is furthest behind goes next. So each
/// split may be out of order only within itself, and files that follow each other in time are read
/// one after the other.
struct InOrder {
    splits: Vec<(Split, i64)>,
    /// Column, and the delay in nanoseconds.
    event_time: Option<(usize, i64)>,
    watermark: i64,
}

impl InOrder {
    fn new(splits: Vec<Split>, event_time: Option<(usize, i64)>) -> Self {
        Self { splits: splits.into_iter().map(|split| (split, i64::MIN)).collect(), event_time, watermark: i64::MIN }
    }

    fn read(&mut self) -> Result<Option<Read>, TaskError> {
        loop {
            let behind =
                self.splits.iter().enumerate().min_by_key(|(_, (_, watermark))| *watermark).map(|(index, _)| index);
            let Some(behind) = behind else { return Ok(None) };
            let (split, watermark) = &mut self.splits[behind];
            let Some(batch) = split.next().transpose()? else {
                // In order, not swapped: ties go to the first, so files without event time are read
                // by name.
                drop(self.splits.remove(behind));
                continue;
            };
            if let Some((column, delay)) = self.event_time {
                *watermark = highest(batch.column(column), delay)?.map_or(*watermark, |time| time.max(*watermark));
            }
            // A watermark never falls back, though a split may be found empty only after others
            // have moved on.
            self.watermark =
                self.splits.iter().map(|(_, watermark)| *watermark).min().unwrap_or(i64::MIN).max(self.watermark);
            return Ok(Some(Read { batch, watermark: self.watermark }));
        }
    }
}

impl Iterator for InOrder {
    type Item = Result<Read, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The highest time of a column less the delay, in milliseconds, rounded down. `None` without a
/// time.
fn highest(column: &ArrayRef, delay: i64) -> Result<Option<i64>, TaskError> {
    let nanoseconds: i128 = match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    };
    let highest = max(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>());
    Ok(highest.map(|highest| {
        let millis = (i128::from(highest) * nanoseconds - i128::from(delay)).div_euclid(1_000_000);
        // Beyond the range of time, the nearest watermark that is not the end.
        millis.clamp(i64::MIN.into(), (i64::MAX - 1).into()) as i64
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use datafusion::arrow::array::{TimestampMicrosecondArray, TimestampSecondArray};

    use super::*;

    fn split(batches: &[&[i64]]) -> Split {
        let batches: Vec<RecordBatch> = batches
            .iter()
            .map(|times| {
                RecordBatch::try_from_iter([("t", Arc::new(TimestampSecondArray::from(times.to_vec())) as ArrayRef)])
                    .unwrap()
            })
            .collect();
        Box::new(batches.into_iter().map(Ok))
    }

    fn read(splits: Vec<Split>, event_time: Option<(usize, i64)>) -> Vec<(i64, Option<i64>)> {
        let reads = InOrder::new(splits, event_time).map(Result::unwrap);
        let first = |batch: &RecordBatch| {
            batch.column(0).as_primitive::<datafusion::arrow::datatypes::TimestampSecondType>().value(0)
        };
        reads.map(|read| (first(&read.batch), (read.watermark > i64::MIN).then_some(read.watermark))).collect()
    }

    #[test]
    fn the_split_that_is_behind_goes_next() {
        let splits = || vec![split(&[&[10, 12], &[11], &[40]]), split(&[&[20], &[21]]), split(&[])];
        let delay = 1_000_000_000;
        assert_eq!(
            read(splits(), Some((0, delay))),
            [(10, None), (20, None), (11, Some(11_000)), (40, Some(19_000)), (21, Some(20_000))]
        );
        assert_eq!(read(splits(), None), [(10, None), (11, None), (40, None), (20, None), (21, None)]);
    }

    #[test]
    fn the_watermark_is_rounded_down_and_stays_in_range() {
        let micros = |values: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(values)) as ArrayRef;
        assert_eq!(highest(&micros(vec![Some(-5), None, Some(1_999)]), 0).unwrap(), Some(1));
        assert_eq!(highest(&micros(vec![Some(0)]), 1).unwrap(), Some(-1));
        assert_eq!(highest(&micros(vec![None]), 0).unwrap(), None);
        let seconds = Arc::new(TimestampSecondArray::from(vec![i64::MAX])) as ArrayRef;
        assert_eq!(highest(&seconds, 0).unwrap(), Some(i64::MAX - 1));
        let seconds = Arc::new(TimestampSecondArray::from(vec![i64::MIN])) as ArrayRef;
        assert_eq!(highest(&seconds, i64::MAX).unwrap(), Some(i64::MIN));
    }
}
