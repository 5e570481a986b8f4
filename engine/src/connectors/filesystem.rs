//! The `filesystem` connector: CSV files in, JSON lines out.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::csv::{CsvFile, State};
use super::{Sink, SinkWriter, Source, Split, files, write_lines};
use crate::error::{PlanError, TaskError};
use crate::script::{OptionReader, Table};

/// Most files of one directory: a subtask reads its files side by side, each with its own buffers.
const MAX_FILES: usize = 1024;

/// Bytes gathered before a write to the sink's file.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// A file, or the files of a directory; each is a split.
#[derive(Debug)]
pub(crate) struct FileSource {
    schema: SchemaRef,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) header: bool,
}

impl FileSource {
    pub(crate) fn open(table: &Table, options: &mut OptionReader<'_>) -> Result<Self, PlanError> {
        let path = files::local_path(&options.required("path")?);
        format(options, "csv", "read")?;
        let header = options.get("header", "true or false")?.unwrap_or(true);
        let files = files::list(&path).map_err(|e| options.error(format!("'path' = '{}': {e}", path.display())))?;
        match files.len() {
            0 => Err(options.error(format!("'path' = '{}': the directory has no files", path.display()))),
            more if more > MAX_FILES => Err(options.error(format!(
                "'path' = '{}': the directory has {more} files; the limit is {MAX_FILES}",
                path.display()
            ))),
            _ => Ok(Self { schema: Arc::clone(&table.schema), files, header }),
        }
    }
}

/// Checks `format`; there is one per direction.
fn format(options: &mut OptionReader<'_>, only: &str, verb: &str) -> Result<(), PlanError> {
    let format = options.required("format")?;
    if format == only {
        return Ok(());
    }
    Err(options.error(format!("'format' = '{format}' cannot be {verb}; known: {only}")))
}

impl Source for FileSource {
    fn bounded(&self) -> bool {
        true
    }

    fn max_parallelism(&self) -> usize {
        self.files.len()
    }

    fn canonical(&self) -> String {
        format!("{:?}", self.files)
    }

    fn splits(&self, subtask: usize, parallelism: usize, projection: &[usize], batch_rows: usize) -> Vec<Split> {
        let mine = self.files.iter().skip(subtask).step_by(parallelism);
        mine.map(|path| -> Split {
            Box::new(CsvFile {
                path: path.clone(),
                schema: Arc::clone(&self.schema),
                projection: projection.to_vec(),
                header: self.header,
                batch_rows,
                state: State::New,
            })
        })
        .collect()
    }
}

/// A directory of parts, one per subtask.
#[derive(Debug)]
pub(super) struct FileSink {
    directory: PathBuf,
}

impl FileSink {
    pub(super) fn open(_table: &Table, options: &mut OptionReader<'_>) -> Result<Self, PlanError> {
        let directory = files::local_path(&options.required("path")?);
        format(options, "json", "written")?;
        Ok(Self { directory })
    }
}

impl Sink for FileSink {
    fn open(&self, subtask: usize) -> Result<Box<dyn SinkWriter>, TaskError> {
        Part::create(&self.directory, subtask).map(|part| Box::new(part) as Box<dyn SinkWriter>)
    }
}

/// A part being written under its hidden name.
#[derive(Debug)]
struct Part {
    file: BufWriter<File>,
    hidden: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl Part {
    fn create(directory: &Path, subtask: usize) -> Result<Self, TaskError> {
        let name = format!("part-{subtask}-0.jsonl");
        let path = directory.join(&name);
        // Of its own: another job that writes to the same directory must not share it.
        let hidden = directory.join(format!(".{name}.{:016x}.inprogress", rand::random::<u64>()));
        let create = || {
            fs::create_dir_all(directory)?;
            if path.try_exists()? {
                return Err(io::Error::new(
                    ErrorKind::AlreadyExists,
                    "the part of an earlier job is in the way: write to an empty directory",
                ));
            }
            File::create_new(&hidden)
        };
        let file = create().map_err(|source| TaskError::File { path: path.clone(), source })?;
        Ok(Self { file: BufWriter::with_capacity(WRITE_BUFFER_BYTES, file), hidden, path, finished: false })
    }

    fn publish(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        // A rename would replace the part of another job that was first; a link does not.
        fs::hard_link(&self.hidden, &self.path)?;
        fs::remove_file(&self.hidden)?;
        self.finished = true;
        // The new name is durable once its directory is.
        match self.path.parent() {
            Some(directory) if directory != Path::new("") => File::open(directory)?.sync_all(),
            _ => Ok(()),
        }
    }
}

impl SinkWriter for Part {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), TaskError> {
        write_lines(batch, &mut self.file)
            .map_err(|e| TaskError::File { path: self.hidden.clone(), source: io::Error::other(e.to_string()) })
    }

    fn finish(mut self: Box<Self>) -> Result<(), TaskError> {
        self.publish().map_err(|source| TaskError::File { path: self.path.clone(), source })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_file(&self.hidden)
        {
            tracing::warn!(path = %self.hidden.display(), %error, "an unfinished part was not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use datafusion::arrow::array::{ArrayRef, Int32Array, StringArray};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn of_two_jobs_with_one_directory_the_first_keeps_its_rows_and_the_other_fails() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink { directory: dir.path().to_owned() };
        let rows =
            |value| RecordBatch::try_from_iter([("a", Arc::new(Int32Array::from(vec![value])) as ArrayRef)]).unwrap();
        let (mut first, mut second) = (Sink::open(&sink, 0).unwrap(), Sink::open(&sink, 0).unwrap());
        first.write(&rows(1)).unwrap();
        second.write(&rows(2)).unwrap();
        first.finish().unwrap();
        assert!(second.finish().is_err());
        assert_eq!(names(dir.path()), ["part-0-0.jsonl"]);
        assert_eq!(fs::read_to_string(dir.path().join("part-0-0.jsonl")).unwrap(), "{\"a\":1}\n");
    }

    #[test]
    fn a_part_is_visible_once_complete_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink { directory: dir.path().join("out/rows") };
        let batch = RecordBatch::try_from_iter([
            ("a", Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef),
            ("b", Arc::new(StringArray::from(vec!["x", "y"]))),
        ])
        .unwrap();
        let mut part = Sink::open(&sink, 2).unwrap();
        part.write(&batch).unwrap();
        assert!(names(&sink.directory).iter().all(|name| name.starts_with(".part-2-0.jsonl.")));
        part.finish().unwrap();
        assert_eq!(names(&sink.directory), ["part-2-0.jsonl"]);
        assert_eq!(
            fs::read_to_string(sink.directory.join("part-2-0.jsonl")).unwrap(),
            "{\"a\":1,\"b\":\"x\"}\n{\"a\":null,\"b\":\"y\"}\n"
        );
        assert!(Sink::open(&sink, 2).err().unwrap().to_string().contains("in the way"));
    }

    #[test]
    fn an_unfinished_part_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let sink = FileSink { directory: dir.path().to_owned() };
        drop(Sink::open(&sink, 0).unwrap());
        assert!(names(dir.path()).is_empty());
    }
}
