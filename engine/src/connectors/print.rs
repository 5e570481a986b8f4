//! The sink that prints, for trying things out: `<subtask>> {json}` on standard output.

use std::io::{self, Write};

use datafusion::arrow::array::RecordBatch;

use super::{Sink, SinkWriter, write_lines};
use crate::error::TaskError;

#[derive(Debug)]
pub(super) struct Print {
    table: String,
}

impl Print {
    pub(super) fn new(table: &str) -> Self {
        Self { table: table.to_owned() }
    }
}

impl Sink for Print {
    fn open(&self, subtask: usize) -> Result<Box<dyn SinkWriter>, TaskError> {
        Ok(Box::new(Printer { table: self.table.clone(), subtask }))
    }
}

#[derive(Debug)]
struct Printer {
    table: String,
    subtask: usize,
}

impl SinkWriter for Printer {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), TaskError> {
        let mut lines = Vec::new();
        write_lines(batch, &mut lines)?;
        print(&mut io::stdout().lock(), self.subtask, &lines)
            .map_err(|e| TaskError::Sink { table: self.table.clone(), message: e.to_string() })
    }

    fn finish(self: Box<Self>) -> Result<(), TaskError> {
        Ok(())
    }
}

fn print(to: &mut impl Write, subtask: usize, lines: &[u8]) -> io::Result<()> {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        write!(to, "{subtask}> ")?;
        to.write_all(line)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn prefixes_every_line() {
        let mut out = Vec::new();
        print(&mut out, 3, b"{\"a\":1}\n{\"a\":2}\n").unwrap();
        assert_eq!(out, b"3> {\"a\":1}\n3> {\"a\":2}\n");
    }
}
