//! The sink that forgets: for measuring everything before it.

use datafusion::arrow::array::RecordBatch;

use super::{Sink, SinkWriter};
use crate::error::TaskError;

#[derive(Debug)]
pub(super) struct BlackHole;

impl Sink for BlackHole {
    fn open(&self, _subtask: usize) -> Result<Box<dyn SinkWriter>, TaskError> {
        Ok(Box::new(Self))
    }

    fn blocks(&self) -> bool {
        false
    }
}

impl SinkWriter for BlackHole {
    fn write(&mut self, _batch: &RecordBatch) -> Result<(), TaskError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), TaskError> {
        Ok(())
    }
}
