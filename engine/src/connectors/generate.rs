//! One generated column: what `fields.<f>.*` says, turned into values of given rows.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, StringBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;

use crate::error::PlanError;
use crate::exchange::key_group::mix;
use crate::script::OptionReader;

/// Flink's default length of a random string.
const DEFAULT_LENGTH: usize = 100;

/// Longest random string, in characters.
const MAX_LENGTH: usize = 1024 * 1024;

/// Where in its block a pooled string begins; the block is longer by one string. More than a processor's first-level
/// cache, less than its second.
const POOL_BYTES: usize = 256 * 1024;

/// How the values of a column come about. Numbers of every type are made as `i64` (a `TIMESTAMP` in
/// its own unit) or `f64`.
#[derive(Debug, Clone)]
pub(super) struct Generator {
    kind: Kind,
    data_type: DataType,
    /// Share of NULLs, of 2^32.
    null_rate: u64,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Integer {
        min: i64,
        max: i64,
    },
    Float {
        min: f64,
        max: f64,
    },
    Text {
        length: usize,
    },
    /// A piece of a block of random text, beginning somewhere: costs a copy, not its making.
    Piece {
        block: Arc<str>,
        length: usize,
    },
    Flag,
    Sequence {
        start: i64,
        end: i64,
        step: i64,
    },
}

impl Generator {
    pub(super) fn open(field: &Field, seed: u64, options: &mut OptionReader<'_>) -> Result<Self, PlanError> {
        let key = |suffix: &str| format!("fields.{}.{suffix}", field.name());
        let data_type = field.data_type().clone();
        let kind = options.parse(&key("kind"), "random, sequence or pooled", |kind| match kind {
            "random" => Some(Choice::Random),
            "sequence" => Some(Choice::Sequence),
            "pooled" => Some(Choice::Pooled),
            _ => None,
        })?;
        let null_rate = options.parse(&key("null-rate"), "between 0 and 1", |text| {
            text.parse().ok().filter(|rate| (0.0..=1.0).contains(rate))
        })?;
        let null_rate = (null_rate.unwrap_or(0.0) * 2f64.powi(32)) as u64;
        if null_rate > 0 && !field.is_nullable() {
            return Err(options.error(format!("option '{}': the column is NOT NULL", key("null-rate"))));
        }
        let kind = match (kind.unwrap_or(Choice::Random), &data_type) {
            (Choice::Pooled, DataType::Utf8) => {
                let length = length(options, &key("length"))?;
                let mut block = String::with_capacity(POOL_BYTES + length);
                hexadecimal(seed, POOL_BYTES + length, &mut block);
                Kind::Piece { block: block.into(), length }
            }
            (Choice::Pooled, other) => {
                return Err(
                    options.error(format!("option '{}': only a STRING can be pooled, not {other}", key("kind")))
                );
            }
            (Choice::Sequence, DataType::Utf8 | DataType::Boolean | DataType::Date32) => {
                return Err(
                    options.error(format!("option '{}': a sequence of {data_type} is not supported", key("kind")))
                );
            }
            (Choice::Sequence, data_type) => {
                let start = bound(options, &key("start"), data_type)?.unwrap_or(0);
                let end = bound(options, &key("end"), data_type)?.unwrap_or(highest(data_type));
                Kind::Sequence { start, end, step: millisecond(data_type) }
            }
            (Choice::Random, DataType::Utf8) => Kind::Text { length: length(options, &key("length"))? },
            (Choice::Random, DataType::Boolean) => Kind::Flag,
            (Choice::Random, DataType::Float64) => {
                let min: f64 = options.get(&key("min"), "a number")?.unwrap_or(0.0);
                let max: f64 = options.get(&key("max"), "a number")?.unwrap_or(1.0);
                // Both infinite or NaN bounds and an empty range end here.
                if !(max - min).is_finite() || min > max {
                    return Err(options.error(format!("option '{}' is not above '{}'", key("max"), key("min"))));
                }
                Kind::Float { min, max }
            }
            (Choice::Random, data_type) => {
                let min = bound(options, &key("min"), data_type)?.unwrap_or(lowest(data_type));
                let max = bound(options, &key("max"), data_type)?.unwrap_or(highest(data_type));
                if min > max {
                    return Err(options.error(format!("option '{}' is below '{}'", key("max"), key("min"))));
                }
                Kind::Integer { min, max }
            }
        };
        Ok(Self { kind, data_type, null_rate, seed })
    }

    /// How many rows there can be; `None` if the column never ends.
    pub(super) fn rows(&self) -> Option<u64> {
        let Kind::Sequence { start, end, step } = &self.kind else { return None };
        let (start, end, step) = (*start, *end, *step);
        let span = u64::try_from(i128::from(end) - i128::from(start)).ok();
        Some(span.map_or(0, |span| (span / step.unsigned_abs()).saturating_add(1)))
    }

    /// About how many bytes a value takes.
    pub(super) fn width(&self) -> usize {
        match &self.kind {
            Kind::Text { length } | Kind::Piece { length, .. } => length + 4,
            _ => 8,
        }
    }

    /// The values of the given rows.
    pub(super) fn column(
        &self,
        rows: impl Iterator<Item = u64> + Clone,
    ) -> Result<ArrayRef, datafusion::arrow::error::ArrowError> {
        let random = |row: u64| mix(self.seed ^ mix(row));
        // Independent of the value's own bits.
        let valid = |row: u64| mix(random(row)) >> 32 >= self.null_rate;
        let array: ArrayRef = match &self.kind {
            Kind::Text { length } => {
                let mut builder = StringBuilder::new();
                let mut text = String::with_capacity(*length);
                for row in rows {
                    hexadecimal(random(row), *length, &mut text);
                    builder.append_option(valid(row).then_some(text.as_str()));
                }
                Arc::new(builder.finish())
            }
            Kind::Piece { block, length } => {
                let count = rows.size_hint().0;
                let mut builder = StringBuilder::with_capacity(count, count * length);
                for row in rows {
                    let begin = (random(row) % POOL_BYTES as u64) as usize;
                    builder.append_option(block.get(begin..begin + length).filter(|_| valid(row)));
                }
                Arc::new(builder.finish())
            }
            Kind::Flag => Arc::new(rows.map(|row| valid(row).then(|| random(row) & 1 == 1)).collect::<BooleanArray>()),
            Kind::Float { min, max } => {
                let (min, max) = (*min, *max);
                // 53 random bits: every value of [0, 1) on the grid of doubles below one.
                let unit = |row| (random(row) >> 11) as f64 / (1u64 << 53) as f64;
                Arc::new(rows.map(|row| valid(row).then(|| min + unit(row) * (max - min))).collect::<Float64Array>())
            }
            Kind::Integer { min, max } => {
                let (min, max) = (*min, *max);
                let span = (i128::from(max) - i128::from(min) + 1) as u128;
                let value = |row| min.wrapping_add(((u128::from(random(row)) * span) >> 64) as i64);
                self.integers(rows.map(|row| valid(row).then(|| value(row))).collect())?
            }
            Kind::Sequence { start, step, .. } => {
                let (start, step) = (*start, *step);
                let value = |row: u64| start.wrapping_add(step.wrapping_mul(row as i64));
                self.integers(rows.map(|row| valid(row).then(|| value(row))).collect())?
            }
        };
        Ok(array)
    }

    fn integers(&self, values: Int64Array) -> Result<ArrayRef, datafusion::arrow::error::ArrowError> {
        match &self.data_type {
            DataType::Int64 => Ok(Arc::new(values)),
            DataType::Int32 => Ok(Arc::new(values.iter().map(|value| value.map(|v| v as i32)).collect::<Int32Array>())),
            DataType::Date32 => {
                Ok(Arc::new(values.iter().map(|value| value.map(|v| v as i32)).collect::<Date32Array>()))
            }
            other => cast(&values, other),
        }
    }
}

/// What `kind` says.
enum Choice {
    Random,
    Sequence,
    Pooled,
}

fn length(options: &mut OptionReader<'_>, key: &str) -> Result<usize, PlanError> {
    let length = options.parse(key, &format!("at most {MAX_LENGTH}"), |text| {
        text.parse().ok().filter(|length| *length <= MAX_LENGTH)
    })?;
    Ok(length.unwrap_or(DEFAULT_LENGTH))
}

/// `length` hexadecimal digits that follow from `seed`.
fn hexadecimal(seed: u64, length: usize, text: &mut String) {
    text.clear();
    let mut word = seed;
    for digit in 0..length {
        if digit > 0 && digit % 16 == 0 {
            word = mix(word);
        }
        let nibble = (word >> (4 * (digit % 16)) & 15) as u32;
        text.extend(char::from_digit(nibble, 16));
    }
}

/// A bound in the column's own unit: a number or, for `TIMESTAMP` and `DATE`, a date.
fn bound(options: &mut OptionReader<'_>, key: &str, data_type: &DataType) -> Result<Option<i64>, PlanError> {
    let expected = format!("a value of {data_type}");
    options.parse(key, &expected, |text| match data_type {
        DataType::Int32 => text.parse::<i32>().ok().map(i64::from),
        DataType::Int64 | DataType::Float64 => text.parse().ok(),
        temporal => {
            let value = ScalarValue::try_from_string(text.to_owned(), temporal).ok()?;
            let array = value.cast_to(&temporal_integer(temporal)).ok()?.cast_to(&DataType::Int64).ok()?;
            match array {
                ScalarValue::Int64(value) => value,
                _ => None,
            }
        }
    })
}

/// The integer type with the bits of a temporal type.
fn temporal_integer(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Date32 => DataType::Int32,
        _ => DataType::Int64,
    }
}

fn lowest(data_type: &DataType) -> i64 {
    match data_type {
        DataType::Int32 => i32::MIN.into(),
        DataType::Int64 => i64::MIN,
        _ => 0,
    }
}

fn highest(data_type: &DataType) -> i64 {
    match data_type {
        DataType::Int32 => i32::MAX.into(),
        // The days and the milliseconds of the years up to 2037.
        DataType::Date32 => 24_836,
        DataType::Timestamp(..) => 24_836 * 86_400_000 / 1000 * per_second(data_type),
        DataType::Float64 => 1 << 53,
        _ => i64::MAX,
    }
}

/// One millisecond, in the column's own unit; one for a number.
fn millisecond(data_type: &DataType) -> i64 {
    match data_type {
        DataType::Timestamp(..) => (per_second(data_type) / 1000).max(1),
        _ => 1,
    }
}

fn per_second(data_type: &DataType) -> i64 {
    match data_type {
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1_000_000_000,
        _ => 1,
    }
}
