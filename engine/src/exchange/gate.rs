//! The receiving side of a task: all its channels merged into one stream of rows, watermarks and
//! one end.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::codec;
use super::compression::Decompressor;
use super::event::Event;
use crate::channel::{ChannelFailure, ChannelKind, InputChannel};
use crate::error::TaskError;
use crate::metrics::TaskMetrics;

/// What an operator chain receives.
#[derive(Debug)]
pub(crate) enum Element {
    Batch(RecordBatch),
    /// The least watermark of all inputs has risen to this, in milliseconds.
    Watermark(i64),
    /// All inputs have ended.
    End,
}

type Received = (Box<dyn InputChannel>, usize, Result<Option<(ChannelKind, Bytes)>, ChannelFailure>);

/// Reads every channel at once; holds at most one payload of each.
pub(crate) struct Gate {
    schema: SchemaRef,
    /// One per open channel. Each owns its channel, so `next` is cancel safe though `recv` need not
    /// be.
    pending: FuturesUnordered<BoxFuture<'static, Received>>,
    /// Per channel; `i64::MAX` after its end event.
    watermarks: Vec<i64>,
    watermark: i64,
    decompressor: Decompressor,
    metrics: Arc<TaskMetrics>,
}

impl Gate {
    pub(crate) fn new(schema: SchemaRef, channels: Vec<Box<dyn InputChannel>>, metrics: Arc<TaskMetrics>) -> Self {
        let watermarks = vec![i64::MIN; channels.len()];
        let pending = channels.into_iter().enumerate().map(|(index, channel)| receive(channel, index)).collect();
        Self { schema, pending, watermarks, watermark: i64::MIN, decompressor: Decompressor::default(), metrics }
    }

    /// The next element. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Element, TaskError> {
        while let Some((channel, subtask, received)) = self.pending.next().await {
            let failure = |source| TaskError::Channel { direction: "from", subtask, source };
            let payload = received.map_err(failure)?;
            let ended = self.watermarks.get(subtask) == Some(&i64::MAX);
            if payload.is_some() {
                self.pending.push(receive(channel, subtask));
            }
            match payload {
                Some(_) if ended => return Err(broken(subtask, "a payload after the end")),
                Some((ChannelKind::Data, payload)) => {
                    let bytes = payload.len();
                    let decoded =
                        self.decompressor.decompress(payload).and_then(|rows| codec::decode(&self.schema, rows));
                    let batch = decoded.map_err(|message| broken(subtask, message))?;
                    self.metrics.received(batch.num_rows(), bytes);
                    return Ok(Element::Batch(batch));
                }
                Some((ChannelKind::Event, payload)) => {
                    let event = Event::decode(&payload).ok_or_else(|| broken(subtask, "not an event"))?;
                    if let Some(risen) = self.merge(subtask, event) {
                        return Ok(Element::Watermark(risen));
                    }
                }
                None if ended => {}
                None => return Err(failure(ChannelFailure("finished before its end event".to_owned()))),
            }
        }
        Ok(Element::End)
    }

    /// The least watermark of all channels, if this event raises it. The end of the last channel is
    /// the end, not a watermark.
    fn merge(&mut self, subtask: usize, event: Event) -> Option<i64> {
        let time = match event {
            Event::Watermark(time) => time.min(i64::MAX - 1),
            Event::End => i64::MAX,
        };
        if let Some(watermark) = self.watermarks.get_mut(subtask) {
            *watermark = time.max(*watermark);
        }
        let least =
            self.watermarks.iter().copied().min().filter(|least| *least > self.watermark && *least < i64::MAX)?;
        self.watermark = least;
        Some(least)
    }
}

fn receive(mut channel: Box<dyn InputChannel>, subtask: usize) -> BoxFuture<'static, Received> {
    Box::pin(async move {
        let received = channel.recv().await;
        (channel, subtask, received)
    })
}

fn broken(subtask: usize, message: impl Into<String>) -> TaskError {
    TaskError::Payload { subtask, message: message.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use datafusion::arrow::array::{ArrayRef, Int32Array};

    use super::*;
    use crate::exchange::codec::Encoder;
    use crate::tests::channels::{Sender, channel};

    struct Fixture {
        gate: Gate,
        senders: Vec<Sender>,
        metrics: Arc<TaskMetrics>,
    }

    fn fixture(channels: usize) -> Fixture {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..channels).map(|_| channel()).unzip();
        let metrics = Arc::new(TaskMetrics::default());
        let receivers = receivers.into_iter().map(|receiver| Box::new(receiver) as Box<dyn InputChannel>).collect();
        Fixture { gate: Gate::new(rows().schema(), receivers, Arc::clone(&metrics)), senders, metrics }
    }

    fn rows() -> RecordBatch {
        RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef)]).unwrap()
    }

    impl Fixture {
        fn event(&mut self, channel: usize, event: Event) {
            self.senders[channel].push(ChannelKind::Event, event.encode());
        }

        async fn next(&mut self) -> String {
            match self.gate.next().await {
                Ok(Element::Batch(batch)) => format!("{} rows", batch.num_rows()),
                Ok(Element::Watermark(time)) => format!("watermark {time}"),
                Ok(Element::End) => "end".to_owned(),
                Err(error) => error.to_string(),
            }
        }
    }

    #[tokio::test]
    async fn the_watermark_is_the_least_of_the_inputs_that_have_not_ended() {
        let mut fixture = fixture(2);
        fixture.event(0, Event::Watermark(10));
        fixture.event(1, Event::Watermark(5));
        assert_eq!(fixture.next().await, "watermark 5");
        fixture.event(1, Event::Watermark(3));
        fixture.event(1, Event::Watermark(20));
        assert_eq!(fixture.next().await, "watermark 10");
        fixture.event(0, Event::End);
        assert_eq!(fixture.next().await, "watermark 20");
        fixture.event(1, Event::End);
        fixture.senders.clear();
        assert_eq!(fixture.next().await, "end");
    }

    #[tokio::test]
    async fn rows_are_decoded_and_counted() {
        let mut fixture = fixture(1);
        let payload = Encoder::new(&rows().schema()).unwrap().encode(&rows()).unwrap().concat();
        let bytes = payload.len() as u64;
        fixture.senders[0].push(ChannelKind::Data, payload.into());
        assert_eq!(fixture.next().await, "3 rows");
        let metrics = fixture.metrics.snapshot();
        assert_eq!((metrics.records_in, metrics.bytes_in), (3, bytes));
    }

    #[tokio::test]
    async fn what_a_neighbour_may_not_do_is_an_error() {
        let mut fixture = fixture(1);
        fixture.senders[0].push(ChannelKind::Event, vec![9].into());
        assert_eq!(fixture.next().await, "payload from subtask 0: not an event");
        fixture.senders[0].push(ChannelKind::Data, vec![9].into());
        assert_eq!(fixture.next().await, "payload from subtask 0: shorter than its prefix");
        fixture.senders.clear();
        assert_eq!(fixture.next().await, "channel from subtask 0: finished before its end event");

        let mut fixture = self::fixture(1);
        fixture.event(0, Event::End);
        fixture.event(0, Event::Watermark(1));
        assert_eq!(fixture.next().await, "payload from subtask 0: a payload after the end");
    }
}
