//! A sink as its task sees it: batches go to a writing thread, unless the sink never blocks.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use tokio::sync::{mpsc, oneshot};

use super::worker;
use crate::connectors::{Sink, SinkWriter};
use crate::error::TaskError;
use crate::metrics::TaskMetrics;

/// Batches waiting for the writer.
const QUEUE_BATCHES: usize = 4;

enum Command {
    Write(RecordBatch),
    Finish,
}

pub(super) struct SinkTask {
    writer: Writer,
    metrics: Arc<TaskMetrics>,
}

enum Writer {
    Here(Box<dyn SinkWriter>),
    Thread(WriterThread),
}

struct WriterThread {
    queue: mpsc::Sender<Command>,
    result: oneshot::Receiver<Result<(), TaskError>>,
}

impl SinkTask {
    pub(super) fn open(
        table: &str,
        sink: Arc<dyn Sink>,
        subtask: usize,
        metrics: Arc<TaskMetrics>,
    ) -> Result<Self, TaskError> {
        let writer = if sink.blocks() {
            Writer::Thread(WriterThread::start(table, sink, subtask)?)
        } else {
            Writer::Here(sink.open(subtask)?)
        };
        Ok(Self { writer, metrics })
    }

    pub(super) async fn write(&mut self, batch: RecordBatch) -> Result<(), TaskError> {
        let rows = batch.num_rows();
        match &mut self.writer {
            Writer::Here(writer) => writer.write(&batch)?,
            Writer::Thread(thread) => thread.write(batch).await?,
        }
        self.metrics.emitted(rows, 0);
        Ok(())
    }

    /// Waits until everything is written and final.
    pub(super) async fn finish(self) -> Result<(), TaskError> {
        match self.writer {
            Writer::Here(writer) => writer.finish(),
            Writer::Thread(thread) => thread.finish().await,
        }
    }
}

impl WriterThread {
    fn start(table: &str, sink: Arc<dyn Sink>, subtask: usize) -> Result<Self, TaskError> {
        let (queue, mut commands) = mpsc::channel(QUEUE_BATCHES);
        let write = move || {
            let mut writer = sink.open(subtask)?;
            while let Some(command) = commands.blocking_recv() {
                match command {
                    Command::Write(batch) => writer.write(&batch)?,
                    Command::Finish => return writer.finish(),
                }
            }
            // The task is gone without finishing; dropping the writer discards its part.
            Err(TaskError::Cancelled)
        };
        let result = worker::spawn(format!("sink-{table}-{subtask}"), write)?;
        Ok(Self { queue, result })
    }

    async fn write(&mut self, batch: RecordBatch) -> Result<(), TaskError> {
        match self.queue.send(Command::Write(batch)).await {
            Ok(()) => Ok(()),
            Err(_) => self.result().await,
        }
    }

    async fn finish(mut self) -> Result<(), TaskError> {
        // A closed queue means that the thread is over, and then its result says why.
        let _ = self.queue.send(Command::Finish).await;
        self.result().await
    }

    /// The thread's result.
    async fn result(&mut self) -> Result<(), TaskError> {
        (&mut self.result).await.unwrap_or_else(|_| Err(worker::died("the sink's thread")))
    }
}
