//! Rows as payloads: one Arrow IPC record batch message each, without its schema, which both sides
//! know from the plan.
//!
//! The payload is the IPC encapsulated message: `ffffffff`, the metadata's length, the metadata (a
//! FlatBuffer), the body. Chunks share the arrays' buffers when sent, and arrays share the
//! payload's buffer when received, if it is aligned to 8 bytes.
//!
//! Only flat columns travel (no lists, structs, maps, unions or dictionaries), because only for
//! those every length can be checked before Arrow, which panics on lengths that do not fit, sees
//! the message.

use std::collections::HashMap;
use std::fmt::{self, Display};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::buffer::Buffer;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::reader::RecordBatchDecoder;
use datafusion::arrow::ipc::writer::StreamEncoder;
use datafusion::arrow::ipc::{self, MetadataVersion};

/// Longest payload accepted in either direction, in bytes. Batches are cut to a fraction of it;
/// only a single row can be longer.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 16 * 1024 * 1024;

/// Chunks shorter than this, in bytes, are copied together: cheaper than handing them on one by
/// one.
const SMALL_CHUNK_BYTES: usize = 1024;

const CONTINUATION: [u8; 4] = [0xff; 4];

/// Whether a column of this type can be exchanged.
pub(crate) fn is_flat(data_type: &DataType) -> bool {
    !data_type.is_nested() && !matches!(data_type, DataType::Dictionary(..) | DataType::RunEndEncoded(..))
}

/// Turns batches of one schema into payloads.
pub(crate) struct Encoder(StreamEncoder);

impl Encoder {
    pub(crate) fn new(schema: &SchemaRef) -> Result<Self, ArrowError> {
        let mut encoder = StreamEncoder::try_new(schema)?;
        // The first message of an IPC stream is the schema: made here, and not sent.
        encoder.encode(&RecordBatch::new_empty(schema.clone()))?;
        Ok(Self(encoder))
    }

    /// The payload of a batch, as chunks.
    pub(crate) fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>, ArrowError> {
        let mut chunks = Vec::new();
        let mut small = Vec::new();
        let mut length = 0;
        for buffer in self.0.encode(batch)? {
            length += buffer.len();
            if buffer.len() < SMALL_CHUNK_BYTES {
                small.extend_from_slice(&buffer);
                continue;
            }
            if !small.is_empty() {
                chunks.push(Bytes::from(std::mem::take(&mut small)));
            }
            chunks.push(Bytes::from_owner(Shared(buffer)));
        }
        if !small.is_empty() {
            chunks.push(Bytes::from(small));
        }
        if length > MAX_PAYLOAD_BYTES {
            return Err(ArrowError::IpcError(format!(
                "{} rows take {length} bytes; the limit of a payload is {MAX_PAYLOAD_BYTES}",
                batch.num_rows()
            )));
        }
        Ok(chunks)
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

/// Lets `Bytes` keep an Arrow buffer alive.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// Reads a payload back. Any bytes are safe: what does not fit the schema is an error that says
/// why.
pub(crate) fn decode(schema: &SchemaRef, payload: Bytes) -> Result<RecordBatch, String> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(format!("{} bytes; the limit is {MAX_PAYLOAD_BYTES}", payload.len()));
    }
    let (prefix, rest) = payload.split_at_checked(8).ok_or("shorter than its prefix")?;
    let (marker, length) = prefix.split_at(4);
    let length = length.try_into().map(u32::from_le_bytes).map_err(text)? as usize;
    if marker != CONTINUATION {
        return Err("no IPC message".to_owned());
    }
    let (metadata, body) = rest.split_at_checked(length).ok_or("shorter than its metadata")?;
    let message = ipc::root_as_message(metadata).map_err(text)?;
    let batch = message.header_as_record_batch().ok_or("no record batch")?;
    check(schema, &batch, body.len())?;
    if message.version() != MetadataVersion::V5 {
        return Err(format!("IPC version {:?}", message.version()));
    }
    let body = Buffer::from(payload.slice(8 + length..));
    RecordBatchDecoder::try_new(&body, batch, schema.clone(), &HashMap::new(), &MetadataVersion::V5)
        .and_then(RecordBatchDecoder::read_record_batch)
        .map_err(text)
}

/// Every length the message claims, against the schema and the body.
fn check(schema: &SchemaRef, batch: &ipc::RecordBatch<'_>, body: usize) -> Result<(), String> {
    if batch.compression().is_some() {
        return Err("compressed".to_owned());
    }
    let rows = usize::try_from(batch.length()).map_err(text)?;
    // A row takes no bytes only without columns, and then nobody reads it.
    if rows > MAX_PAYLOAD_BYTES {
        return Err(format!("{rows} rows"));
    }
    let mut nodes = batch.nodes().into_iter().flatten();
    let mut buffers = batch.buffers().into_iter().flatten();
    let mut variadic = batch.variadicBufferCounts().into_iter().flatten();
    for field in schema.fields() {
        let node = nodes.next().ok_or("too few columns")?;
        let nulls = usize::try_from(node.null_count()).map_err(text)?;
        if usize::try_from(node.length()) != Ok(rows) || nulls > rows {
            return Err(format!("column '{}' has another length than the batch", field.name()));
        }
        let count = match field.data_type() {
            DataType::Null => 0,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => 3,
            DataType::Utf8View | DataType::BinaryView => {
                let data = variadic.next().ok_or("too few variadic counts")?;
                usize::try_from(data).ok().and_then(|data| data.checked_add(2)).ok_or("bad variadic count")?
            }
            _ => 2,
        };
        for index in 0..count {
            let buffer = buffers.next().ok_or("too few buffers")?;
            let (offset, length) =
                (usize::try_from(buffer.offset()).map_err(text)?, usize::try_from(buffer.length()).map_err(text)?);
            if offset.checked_add(length).is_none_or(|end| end > body) {
                return Err(format!("a buffer of column '{}' is outside the body", field.name()));
            }
            if index == 1 && length % width(field.data_type()) != 0 {
                return Err(format!("a buffer of column '{}' ends within a value", field.name()));
            }
            if index == 0 && nulls > 0 && length < rows.div_ceil(8) {
                return Err(format!("the null buffer of column '{}' is too short", field.name()));
            }
        }
    }
    if nodes.next().is_some() || buffers.next().is_some() || variadic.next().is_some() {
        return Err("more columns than the plan has".to_owned());
    }
    Ok(())
}

/// Bytes of a value in the buffer after the null buffer: offsets, views or the values themselves.
fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::Utf8 | DataType::Binary => 4,
        DataType::LargeUtf8 | DataType::LargeBinary => 8,
        DataType::Utf8View | DataType::BinaryView => 16,
        other => other.primitive_width().unwrap_or(1),
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use datafusion::arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatchOptions, StringArray, StringViewArray,
    };
    use datafusion::arrow::datatypes::Schema;
    use proptest::prelude::*;

    use super::*;

    fn payload(batch: &RecordBatch) -> Vec<u8> {
        Encoder::new(&batch.schema()).unwrap().encode(batch).unwrap().concat()
    }

    type Row = (Option<String>, Option<i64>, f64, Option<bool>, Option<String>);

    fn batch(rows: &[Row]) -> RecordBatch {
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("s", Arc::new(rows.iter().map(|row| row.0.clone()).collect::<StringArray>()), true),
            ("i", Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()), true),
            ("f", Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>()), false),
            ("b", Arc::new(rows.iter().map(|row| row.3).collect::<BooleanArray>()), true),
            ("v", Arc::new(rows.iter().map(|row| row.4.clone()).collect::<StringViewArray>()), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        proptest::collection::vec(
            (
                any::<Option<String>>(),
                any::<Option<i64>>(),
                -1e9..1e9,
                any::<Option<bool>>(),
                proptest::option::of("[a-z]{0,40}"),
            ),
            0..60,
        )
    }

    proptest! {
        #[test]
        fn round_trips_slices(rows in rows(), from in 0usize..60) {
            let batch = batch(&rows);
            let from = from.min(rows.len());
            let slice = batch.slice(from, rows.len() - from);
            prop_assert_eq!(decode(&batch.schema(), payload(&slice).into()).unwrap(), slice);
        }

        #[test]
        fn damaged_payloads_are_errors_or_rows(rows in rows(), damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..8), cut in any::<u16>()) {
            let batch = batch(&rows);
            let mut bytes = payload(&batch);
            for (at, value) in damage {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            let _ = decode(&batch.schema(), bytes.clone().into());
            bytes.truncate(usize::from(cut) % bytes.len());
            let _ = decode(&batch.schema(), bytes.into());
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode(&batch(&[]).schema(), bytes.into()).is_err());
        }
    }

    #[test]
    fn any_damaged_byte_is_an_error_or_rows() {
        let row = |text: &str| (Some(text.to_owned()), None, 0.5, Some(true), Some(text.to_owned()));
        let batch = batch(&[row("a"), row("longer than a view holds"), row("")]);
        let bytes = payload(&batch);
        for at in 0..bytes.len() {
            let old = bytes[at];
            for value in [0, 1, 2, 13, 0x7f, 0x80, 0xff, old.wrapping_add(1), old.wrapping_sub(1), old ^ 0x10] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _ = decode(&batch.schema(), damaged.into());
            }
        }
    }

    #[test]
    fn big_buffers_are_shared_and_small_ones_joined() {
        let batch =
            RecordBatch::try_from_iter([("i", Arc::new(Int64Array::from_iter_values(0..1000)) as ArrayRef)]).unwrap();
        let chunks = Encoder::new(&batch.schema()).unwrap().encode(&batch).unwrap();
        assert_eq!(chunks.len(), 2);
        assert_eq!(chunks[1].as_ptr(), batch.column(0).to_data().buffers()[0].as_ptr());
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let schema = Arc::new(Schema::empty());
        let batch = RecordBatch::try_new_with_options(
            schema.clone(),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(7)),
        )
        .unwrap();
        assert_eq!(decode(&schema, payload(&batch).into()).unwrap().num_rows(), 7);
    }

    #[test]
    fn another_schema_is_an_error() {
        let one = RecordBatch::try_from_iter([("i", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        assert!(decode(&batch(&[]).schema(), payload(&one).into()).is_err());
        let two = batch(&[(None, None, 0.0, None, None)]);
        assert!(decode(&one.schema(), payload(&two).into()).is_err());
    }

    #[test]
    fn an_oversized_row_is_an_error_of_the_sender() {
        let row = "x".repeat(MAX_PAYLOAD_BYTES);
        let batch = RecordBatch::try_from_iter([("s", Arc::new(StringArray::from(vec![row])) as ArrayRef)]).unwrap();
        let error = Encoder::new(&batch.schema()).unwrap().encode(&batch).unwrap_err();
        assert!(error.to_string().contains("1 rows take"), "{error}");
    }
}
