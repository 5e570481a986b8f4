//! One CSV file as batches.

use std::io::{self, BufRead, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::csv::ReaderBuilder;
use datafusion::arrow::csv::reader::BufReader as CsvReader;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

use super::files;
use crate::error::TaskError;

/// Longest header line accepted, in bytes.
const MAX_HEADER_BYTES: u64 = 64 * 1024;

/// Of a header that does not fit, this many characters go into the error message.
const MAX_SHOWN_CHARACTERS: usize = 300;

/// Most bytes of a file that are taken for one batch: a quote that is never closed makes one field
/// of the rest of the file.
const MAX_BATCH_BYTES: usize = 256 * 1024 * 1024;

/// Reads a file from its first batch on; opens it then.
#[derive(Debug)]
pub(super) struct CsvFile {
    pub(super) path: PathBuf,
    pub(super) schema: SchemaRef,
    pub(super) projection: Vec<usize>,
    pub(super) header: bool,
    pub(super) batch_rows: usize,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    New,
    Open { reader: Box<CsvReader<Input>>, budget: Arc<AtomicUsize> },
    Done,
}

/// The unpacked bytes of the file, as many as the current batch may still take.
pub(super) struct Input {
    bytes: Box<dyn BufRead + Send>,
    budget: Arc<AtomicUsize>,
}

impl Iterator for CsvFile {
    type Item = Result<RecordBatch, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Done;
        }
        next
    }
}

impl CsvFile {
    fn advance(&mut self) -> Result<Option<RecordBatch>, TaskError> {
        if matches!(self.state, State::New) {
            self.state = self.open()?;
        }
        let State::Open { reader, budget } = &mut self.state else { return Ok(None) };
        budget.store(MAX_BATCH_BYTES, Ordering::Relaxed);
        reader.next().transpose().map_err(|e| failure(&self.path, e))
    }

    fn open(&self) -> Result<State, TaskError> {
        let mut input =
            files::open(&self.path).map_err(|source| TaskError::File { path: self.path.clone(), source })?;
        if self.header {
            self.check_header(&mut input)?;
        }
        let budget = Arc::new(AtomicUsize::new(0));
        let reader = ReaderBuilder::new(Arc::clone(&self.schema))
            .with_projection(self.projection.clone())
            .with_batch_size(self.batch_rows)
            .build_buffered(Input { bytes: input, budget: Arc::clone(&budget) })
            .map_err(|e| failure(&self.path, e))?;
        Ok(State::Open { reader: Box::new(reader), budget })
    }

    /// Consumes the first line, which has to name the table's columns: a file with other columns
    /// would be read as nonsense.
    fn check_header(&self, input: &mut impl BufRead) -> Result<(), TaskError> {
        let mut line = Vec::new();
        input
            .by_ref()
            .take(MAX_HEADER_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|source| TaskError::File { path: self.path.clone(), source })?;
        // Some editors put a byte order mark first.
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        let names = fields(line).map_err(|e| failure(&self.path, e))?;
        let columns = self.schema.fields().iter().map(|field| field.name());
        if names.len() == self.schema.fields().len()
            && columns.zip(&names).all(|(column, name)| column.eq_ignore_ascii_case(name.trim()))
        {
            return Ok(());
        }
        let columns: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        Err(failure(
            &self.path,
            format!(
                "the header names the columns {} but the table has {}; if the file has no header, set 'header' = 'false'",
                shown(&names.join(", ")),
                columns.join(", ")
            ),
        ))
    }
}

/// The fields of one CSV record.
fn fields(line: &[u8]) -> Result<Vec<String>, ArrowError> {
    // More columns than any line has; the reader fills the missing ones with NULL.
    let columns = line.iter().filter(|byte| **byte == b',').count() + 1;
    let schema = Schema::new((0..columns).map(|i| Field::new(i.to_string(), DataType::Utf8, true)).collect::<Vec<_>>());
    let mut reader = ReaderBuilder::new(Arc::new(schema)).with_truncated_rows(true).build_buffered(line)?;
    let Some(batch) = reader.next().transpose()? else { return Ok(Vec::new()) };
    let values = batch.columns().iter().map(|column| column.as_string::<i32>());
    Ok(values
        .filter(|column| !column.is_empty() && column.is_valid(0))
        .map(|column| column.value(0).to_owned())
        .collect())
}

fn failure(path: &Path, error: impl ToString) -> TaskError {
    TaskError::File { path: path.to_owned(), source: io::Error::new(ErrorKind::InvalidData, error.to_string()) }
}

impl Read for Input {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(to)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.budget.load(Ordering::Relaxed) == 0 {
            let message = format!("a batch takes more than {MAX_BATCH_BYTES} bytes: is a quote never closed?");
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        self.bytes.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        // Only this thread writes it.
        let left = self.budget.load(Ordering::Relaxed).saturating_sub(bytes);
        self.budget.store(left, Ordering::Relaxed);
        self.bytes.consume(bytes);
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Input")
    }
}

/// Text of a file for an error message: a path may name anything, a password file or a device too.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN_CHARACTERS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN_CHARACTERS).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use datafusion::arrow::array::Int32Array;

    use super::*;

    fn read(text: &str, header: bool) -> Result<Vec<RecordBatch>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, text).unwrap();
        let schema =
            Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Int32, true)]));
        let file = CsvFile { path, schema, projection: vec![1], header, batch_rows: 2, state: State::New };
        file.collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    #[test]
    fn projects_and_batches() {
        let batches = read("\"a\",B\nx,1\ny,\n\"z,\",3\n", true).unwrap();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(batches[0].column(0).as_ref(), &Int32Array::from(vec![Some(1), None]));
        assert_eq!(read("x,1\n", false).unwrap()[0].num_columns(), 1);
        assert!(read("", false).unwrap().is_empty());
    }

    #[test]
    fn a_batch_has_a_budget_of_bytes() {
        let budget = Arc::new(AtomicUsize::new(3));
        let mut input = Input { bytes: Box::new(&b"abcdef"[..]), budget };
        let mut text = [0; 3];
        input.read_exact(&mut text).unwrap();
        let error = input.read_exact(&mut text).unwrap_err();
        assert!(error.to_string().contains("is a quote never closed?"), "{error}");
    }

    #[test]
    fn complains_about_the_file() {
        assert!(
            read("a,c\nx,1\n", true).unwrap_err().contains("the header names the columns a, c but the table has a, b")
        );
        assert!(read("", true).unwrap_err().contains("header"));
        assert!(read("a,b\nx,one\n", true).unwrap_err().contains("one"));
        assert!(read("a,b\nx\n", true).unwrap_err().contains("t.csv"));
    }
}
