//! Rows as JSON lines: one object per row, every column present, NULL as `null`.

use std::io::Write;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;

/// Writes the rows of `batch`. The one place that decides how a value looks, so that texts can be
/// compared.
pub(crate) fn write_lines(batch: &RecordBatch, to: &mut impl Write) -> Result<(), ArrowError> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(to);
    writer.write(batch)?;
    writer.finish()
}
