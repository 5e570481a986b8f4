//! The sending side of a task: rows go to the owner of their key group, gathered into batches worth
//! sending.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Array, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;
use futures::future::try_join_all;

use super::codec::Encoder;
use super::compression::{Compression, Compressor};
use super::event::Event;
use super::key_group::{hash_rows, key_group, owner};
use crate::channel::{ChannelFailure, ChannelKind, OutputChannel};
use crate::connectors::BATCH_ROWS;
use crate::error::TaskError;
use crate::metrics::TaskMetrics;
use crate::operators::columns;

/// A target's rows are sent once they take about this many bytes (or are [`BATCH_ROWS`]); longer
/// batches are cut to it.
const BATCH_BYTES: usize = 256 * 1024;

/// One outgoing edge. Holds back at most [`BATCH_BYTES`] and the last batch per target, and a few
/// times as much to compress in.
pub(crate) struct Router {
    schema: SchemaRef,
    key: Vec<Arc<dyn PhysicalExpr>>,
    targets: Vec<Target>,
    encoder: Encoder,
    compressor: Compressor,
    metrics: Arc<TaskMetrics>,
}

struct Target {
    channel: Box<dyn OutputChannel>,
    compression: Compression,
    waiting: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Router {
    /// `compression` is what the script says, if it says anything.
    pub(crate) fn new(
        schema: SchemaRef,
        key: Vec<Arc<dyn PhysicalExpr>>,
        channels: Vec<Box<dyn OutputChannel>>,
        compression: Option<Compression>,
        metrics: Arc<TaskMetrics>,
    ) -> Result<Self, TaskError> {
        let targets = channels.into_iter().map(|channel| {
            let compression = match compression {
                _ if channel.is_local() => Compression::None,
                Some(chosen) => chosen,
                None => channel.default_compression(),
            };
            Target { channel, compression, waiting: Vec::new(), rows: 0, bytes: 0 }
        });
        let (targets, encoder) = (targets.collect(), Encoder::new(&schema)?);
        Ok(Self { schema, key, targets, encoder, compressor: Compressor::default(), metrics })
    }

    /// Takes rows, and sends what has become worth sending.
    pub(crate) async fn send(&mut self, batch: RecordBatch) -> Result<(), TaskError> {
        for (target, part) in self.split(batch)? {
            let bytes = size(&part);
            // Batches of long rows are cut, so that no payload is far above the limit.
            let rows = (part.num_rows() * BATCH_BYTES / bytes.max(1)).clamp(1, BATCH_ROWS);
            for from in (0..part.num_rows()).step_by(rows) {
                let piece = part.slice(from, rows.min(part.num_rows() - from));
                self.push(target, piece).await?;
            }
        }
        Ok(())
    }

    /// Sends all rows held back.
    pub(crate) async fn flush(&mut self) -> Result<(), TaskError> {
        for target in 0..self.targets.len() {
            self.flush_target(target).await?;
        }
        Ok(())
    }

    /// Sends a watermark after all rows before it.
    pub(crate) async fn watermark(&mut self, time: i64) -> Result<(), TaskError> {
        self.flush().await?;
        self.event(Event::Watermark(time)).await
    }

    /// Ends all channels after all rows.
    pub(crate) async fn end(mut self) -> Result<(), TaskError> {
        self.flush().await?;
        self.event(Event::End).await?;
        let finish = self.targets.into_iter().enumerate().map(|(index, target)| {
            let finished = target.channel.finish();
            async move { finished.await.map_err(|e| failure(index, e)) }
        });
        try_join_all(finish).await.map(drop)
    }

    /// The parts of a batch and the targets they go to.
    fn split(&self, batch: RecordBatch) -> Result<Vec<(usize, RecordBatch)>, TaskError> {
        let parallelism = self.targets.len();
        if parallelism == 1 {
            return Ok(vec![(0, batch)]);
        }
        let hashes = hash_rows(&columns(&self.key, &batch)?, batch.num_rows())?;
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); parallelism];
        for (row, hash) in hashes.into_iter().enumerate() {
            rows[owner(key_group(hash), parallelism)].push(row as u32);
        }
        let parts = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
        parts.map(|(target, rows)| Ok((target, take_record_batch(&batch, &UInt32Array::from(rows))?))).collect()
    }

    async fn push(&mut self, index: usize, batch: RecordBatch) -> Result<(), TaskError> {
        let bytes = size(&batch);
        // Before, not after: a batch never grows beyond the limit.
        if self.targets[index].rows + batch.num_rows() > BATCH_ROWS || self.targets[index].bytes + bytes > BATCH_BYTES {
            self.flush_target(index).await?;
        }
        let target = &mut self.targets[index];
        target.rows += batch.num_rows();
        target.bytes += bytes;
        target.waiting.push(batch);
        Ok(())
    }

    async fn flush_target(&mut self, index: usize) -> Result<(), TaskError> {
        let target = &mut self.targets[index];
        let batch = match target.waiting.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            many => concat_batches(&self.schema, many)?,
        };
        target.waiting.clear();
        (target.rows, target.bytes) = (0, 0);
        let chunks = self.compressor.compress(target.compression, self.encoder.encode(&batch)?)?;
        let bytes = chunks.iter().map(Bytes::len).sum();
        target.channel.send(ChannelKind::Data, chunks).await.map_err(|e| failure(index, e))?;
        self.metrics.emitted(batch.num_rows(), bytes);
        Ok(())
    }

    async fn event(&mut self, event: Event) -> Result<(), TaskError> {
        for (index, target) in self.targets.iter_mut().enumerate() {
            target.channel.send(ChannelKind::Event, vec![event.encode()]).await.map_err(|e| failure(index, e))?;
        }
        Ok(())
    }
}

/// The bytes that the rows of a batch take, without the rest of shared buffers.
fn size(batch: &RecordBatch) -> usize {
    // A type that cannot tell counts as nothing: then the number of rows is the limit.
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

fn failure(subtask: usize, source: ChannelFailure) -> TaskError {
    TaskError::Channel { direction: "to", subtask, source }
}
