//! Which key group a row belongs to: a fixed hash of our own, because key groups will be persisted
//! with state.
//!
//! **Hash, version 1.** The hash of a row is a fold over its key columns, left to right, from `h =
//! 0`. Each column contributes words of 64 bits; each word `w` is folded as `h = mix(h ^ w)`:
//!
//! | value | words |
//! | --- | --- |
//! | NULL | `0xd1b54a32d192ed03` |
//! | integer, DATE, TIME, TIMESTAMP, DURATION | the value sign-extended to 64 bits (TIMESTAMP in the column's own unit) |
//! | BOOLEAN | 0 or 1 |
//! | FLOAT, DOUBLE | IEEE 754 bits of the value as DOUBLE; -0 as +0; every NaN as `0x7ff8000000000000` |
//! | DECIMAL up to 128 bits | the low, then the high 64 bits of the unscaled value sign-extended to 128 |
//! | STRING, BINARY | the bytes in little-endian words, the last one padded with zeros, then the length in bytes |
//!
//! `mix(x)` is the finaliser of SplitMix64 after adding its constant: `x += 0x9e3779b97f4a7c15; x =
//! (x ^ x >> 30) * 0xbf58476d1ce4e5b9; x = (x ^ x >> 27) * 0x94d049bb133111eb; x ^ x >> 31`, all
//! modulo 2^64.
//!
//! The key group is the top 7 bits of the hash. Key group `g` belongs to subtask `g * parallelism /
//! 128`, as in Flink.

use datafusion::arrow::array::{Array, ArrayAccessor, ArrayIter, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};

use crate::error::TaskError;

/// Version of the hash. Part of every plan's fingerprint.
pub const HASH_VERSION: u32 = 1;

/// How many key groups there are: the unit in which keyed state moves, hence the highest
/// parallelism.
pub const KEY_GROUPS: usize = 128;

/// `log2(KEY_GROUPS)`.
const KEY_GROUP_BITS: u32 = KEY_GROUPS.trailing_zeros();

const NULL_WORD: u64 = 0xd1b5_4a32_d192_ed03;

const NAN_WORD: u64 = 0x7ff8_0000_0000_0000;

/// Whether a column of this type can be a key.
pub(crate) fn is_key(data_type: &DataType) -> bool {
    widest(data_type).is_some()
}

/// The hash of each of `rows` rows over the key columns.
pub(crate) fn hash_rows(columns: &[ArrayRef], rows: usize) -> Result<Vec<u64>, TaskError> {
    let mut hashes = vec![0; rows];
    for column in columns {
        let Some(widest) = widest(column.data_type()) else {
            return Err(TaskError::Compute(format!("a column of {} cannot be a key", column.data_type())));
        };
        // Casting to the widest type of its kind leaves one loop per kind; the cast of a 64-bit
        // column only shares its buffers.
        let column = if column.data_type() == &widest { column.clone() } else { cast(column, &widest)? };
        match widest {
            DataType::Int64 => fold(&mut hashes, column.as_primitive::<Int64Type>(), |h, v| step(h, v as u64)),
            DataType::Float64 => fold(&mut hashes, column.as_primitive::<Float64Type>(), |h, v| step(h, float_word(v))),
            DataType::Boolean => fold(&mut hashes, column.as_boolean(), |h, v| step(h, v.into())),
            DataType::Decimal128(..) => fold(&mut hashes, column.as_primitive::<Decimal128Type>(), |h, v| {
                step(step(h, v as u64), (v >> 64) as u64)
            }),
            DataType::Binary => fold(&mut hashes, column.as_binary::<i32>(), bytes),
            DataType::LargeBinary => fold(&mut hashes, column.as_binary::<i64>(), bytes),
            DataType::BinaryView => fold(&mut hashes, column.as_binary_view(), bytes),
            DataType::Utf8 => fold(&mut hashes, column.as_string::<i32>(), |h, v| bytes(h, v.as_bytes())),
            DataType::LargeUtf8 => fold(&mut hashes, column.as_string::<i64>(), |h, v| bytes(h, v.as_bytes())),
            _ => fold(&mut hashes, column.as_string_view(), |h, v| bytes(h, v.as_bytes())),
        }
    }
    Ok(hashes)
}

/// The key group of a hash.
pub(crate) fn key_group(hash: u64) -> usize {
    (hash >> (u64::BITS - KEY_GROUP_BITS)) as usize
}

/// The subtask that owns a key group.
pub(crate) fn owner(key_group: usize, parallelism: usize) -> usize {
    key_group * parallelism / KEY_GROUPS
}

/// A bijection of 64-bit words that looks random. See the module documentation.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn step(hash: u64, word: u64) -> u64 {
    mix(hash ^ word)
}

fn bytes(hash: u64, value: &[u8]) -> u64 {
    let (words, rest) = value.as_chunks::<8>();
    let hash = words.iter().fold(hash, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let hash = if rest.is_empty() { hash } else { step(hash, u64::from_le_bytes(last)) };
    step(hash, value.len() as u64)
}

fn float_word(value: f64) -> u64 {
    match value {
        nan if nan.is_nan() => NAN_WORD,
        // Both zeros.
        0.0 => 0,
        other => other.to_bits(),
    }
}

fn fold<A: ArrayAccessor>(hashes: &mut [u64], column: A, value: impl Fn(u64, A::Item) -> u64) {
    for (hash, item) in hashes.iter_mut().zip(ArrayIter::new(column)) {
        *hash = match item {
            Some(item) => value(*hash, item),
            None => step(*hash, NULL_WORD),
        };
    }
}

/// The type a key column is hashed as.
fn widest(data_type: &DataType) -> Option<DataType> {
    use DataType::{
        BinaryView, Boolean, Date32, Date64, Decimal32, Decimal64, Decimal128, Duration, Float16, Float32, Float64,
        Int8, Int16, Int32, Int64, LargeBinary, LargeUtf8, Time32, Time64, Timestamp, UInt8, UInt16, UInt32, Utf8,
        Utf8View,
    };
    Some(match data_type {
        Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Date32 | Date64 | Time32(_) | Time64(_)
        | Timestamp(..) | Duration(_) => Int64,
        Float16 | Float32 | Float64 => Float64,
        Decimal32(precision, scale) | Decimal64(precision, scale) | Decimal128(precision, scale) => {
            Decimal128(*precision, *scale)
        }
        Boolean | DataType::Binary | LargeBinary | BinaryView | Utf8 | LargeUtf8 | Utf8View => data_type.clone(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use datafusion::arrow::array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
        LargeStringArray, StringArray, StringViewArray, TimestampMillisecondArray,
    };
    use proptest::prelude::*;

    use super::*;

    fn hash(columns: &[ArrayRef]) -> Vec<u64> {
        hash_rows(columns, columns[0].len()).unwrap()
    }

    /// State is stored by key group: these values never change within a version.
    #[test]
    fn golden_values_of_version_1() {
        assert_eq!(HASH_VERSION, 1);
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        let strings = hash(&[Arc::new(StringArray::from(vec![
            Some(""),
            Some("AA"),
            Some("tidemill"),
            Some("tidemill stream"),
            None,
        ]))]);
        let ints = hash(&[Arc::new(Int64Array::from(vec![0, 1, -1, i64::MAX]))]);
        let floats = hash(&[Arc::new(Float64Array::from(vec![0.0, 1.5, f64::NAN]))]);
        let decimals = hash(&[Arc::new(Decimal128Array::from(vec![-1, 1i128 << 70]))]);
        let pair = hash(&[Arc::new(StringArray::from(vec!["AA"])), Arc::new(StringArray::from(vec!["JFK"]))]);
        assert_eq!(
            strings,
            [
                0xe220_a839_7b1d_cdaf,
                0x4208_37b3_4913_c513,
                0xa769_f926_c24d_6d16,
                0x961c_a6c0_ee4c_4c9a,
                0x2d0f_28c7_e7e7_86b2
            ]
        );
        assert_eq!(ints, [0xe220_a839_7b1d_cdaf, 0x910a_2dec_8902_5cc1, 0xe4d9_7177_1b65_2c20, 0x2a67_d755_2e03_9ea7]);
        assert_eq!(floats, [0xe220_a839_7b1d_cdaf, 0xd6da_b18e_1392_608a, 0xc729_71d8_2e15_bb46]);
        assert_eq!(decimals, [0x6309_143e_67a4_7936, 0x6476_7ea3_57db_cfd7]);
        assert_eq!(pair, [0x885c_cabe_84d9_e1cc]);
    }

    #[test]
    fn equal_values_of_any_representation_have_one_hash() {
        let text = ["", "a", "12345678", "123456789"];
        let expected = hash(&[Arc::new(StringArray::from(text.to_vec()))]);
        assert_eq!(hash(&[Arc::new(LargeStringArray::from(text.to_vec()))]), expected);
        assert_eq!(hash(&[Arc::new(StringViewArray::from(text.to_vec()))]), expected);
        assert_eq!(hash(&[Arc::new(BinaryArray::from(text.map(str::as_bytes).to_vec()))]), expected);
        let expected = hash(&[Arc::new(Int64Array::from(vec![-3, 0, 7]))]);
        assert_eq!(hash(&[Arc::new(Int32Array::from(vec![-3, 0, 7]))]), expected);
        assert_eq!(hash(&[Arc::new(Date32Array::from(vec![-3, 0, 7]))]), expected);
        assert_eq!(hash(&[Arc::new(TimestampMillisecondArray::from(vec![-3, 0, 7]))]), expected);
        let expected = hash(&[Arc::new(Float64Array::from(vec![0.0, f64::NAN, 0.5]))]);
        assert_eq!(hash(&[Arc::new(Float64Array::from(vec![-0.0, -f64::NAN, 0.5]))]), expected);
        assert_eq!(hash(&[Arc::new(Float32Array::from(vec![0.0, f32::NAN, 0.5]))]), expected);
        assert_ne!(
            hash(&[Arc::new(BooleanArray::from(vec![true]))]),
            hash(&[Arc::new(BooleanArray::from(vec![false]))])
        );
        assert!(!is_key(&DataType::Null) && is_key(&DataType::Utf8));
    }

    #[test]
    fn key_groups_are_split_evenly_and_in_order() {
        for parallelism in 1..=KEY_GROUPS {
            let owners: Vec<usize> = (0..KEY_GROUPS).map(|group| owner(group, parallelism)).collect();
            assert!(owners.is_sorted() && owners[0] == 0 && owners[KEY_GROUPS - 1] == parallelism - 1);
            let sizes = (0..parallelism).map(|subtask| owners.iter().filter(|owner| **owner == subtask).count());
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        }
    }

    #[test]
    fn similar_keys_spread_over_all_key_groups() {
        let ints = hash(&[Arc::new(Int64Array::from_iter_values(0..128_000))]);
        let texts = hash(&[Arc::new(StringArray::from_iter_values((0..128_000).map(|n| format!("key-{n}"))))]);
        for hashes in [ints, texts] {
            let mut sizes = [0; KEY_GROUPS];
            hashes.iter().for_each(|hash| sizes[key_group(*hash)] += 1);
            // 1000 expected; the standard deviation is 31.
            assert!(sizes.iter().all(|size| (800..1200).contains(size)), "{sizes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_hash_depends_on_its_row_only(rows in proptest::collection::vec((any::<Option<String>>(), any::<Option<i64>>()), 1..50), from in 0usize..50) {
            let texts: ArrayRef = Arc::new(rows.iter().map(|row| row.0.clone()).collect::<StringArray>());
            let ints: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
            let all = hash(&[texts.clone(), ints.clone()]);
            let from = from % rows.len();
            let part = hash(&[texts.slice(from, rows.len() - from), ints.slice(from, rows.len() - from)]);
            prop_assert_eq!(&all[from..], part.as_slice());
            prop_assert!(all.iter().all(|hash| key_group(*hash) < KEY_GROUPS));
        }
    }
}
