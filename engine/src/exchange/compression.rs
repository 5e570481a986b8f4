//! Compressed payloads: what a payload of rows is put into when its exchange asks for it.
//!
//! A compressed payload says so itself: its codec and its length when unpacked, four bytes each in
//! little-endian order, then one LZ4 block or one Zstandard frame. A payload that is not compressed
//! begins with an IPC message's `ffffffff`, which is no codec. So the two ends need not be told
//! alike (whoever is admitted as a peer chooses what is unpacked here, too), and rows that do not
//! get smaller travel as they are.

use std::fmt::{self, Display};
use std::str::FromStr;

use bytes::Bytes;
use datafusion::arrow::error::ArrowError;
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use zstd::bulk;
use zstd::zstd_safe::compress_bound;

use super::codec::MAX_PAYLOAD_BYTES;

/// Zstandard's level: its fastest, because a network is waiting.
const ZSTD_LEVEL: i32 = 1;

/// Memory to compress in that is kept for the next payload, in bytes of each of two buffers. Payloads
/// are rarely longer; the longest takes [`MAX_PAYLOAD_BYTES`] and a tenth for a moment.
const KEPT_BYTES: usize = 1024 * 1024;

/// Shorter payloads, in bytes, are left alone: a codec's set-up costs more than they could save.
const WORTHWHILE_BYTES: usize = 512;

const PREFIX_BYTES: usize = 8;
const LZ4: u32 = 1;
const ZSTD: u32 = 2;

/// What the rows of an exchange are compressed with on their way to another process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// LZ4 blocks: cheap.
    Lz4,
    /// Zstandard at its fastest level: smaller, and several times as much work.
    Zstd,
}

impl Compression {
    /// The words that [`Self::from_str`] takes, in any case, for messages.
    pub const WORDS: &'static str = "'none', 'lz4' or 'zstd'";
}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "none" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            _ => Err(UnknownCompression),
        }
    }
}

/// The text names no [`Compression`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not {}", Compression::WORDS)]
pub struct UnknownCompression;

/// Compresses payloads, whatever codec each asks for; keeps its tables between them.
#[derive(Default)]
pub(crate) struct Compressor {
    lz4: Option<CompressTable>,
    zstd: Option<bulk::Compressor<'static>>,
    plain: Vec<u8>,
    packed: Vec<u8>,
}

impl Compressor {
    /// The same payload, smaller if it can be. The chunks' concatenation is at most
    /// [`MAX_PAYLOAD_BYTES`].
    pub(crate) fn compress(&mut self, codec: Compression, chunks: Vec<Bytes>) -> Result<Vec<Bytes>, ArrowError> {
        let length = chunks.iter().map(Bytes::len).sum();
        let (id, bound) = match codec {
            _ if !(WORTHWHILE_BYTES..=MAX_PAYLOAD_BYTES).contains(&length) => return Ok(chunks),
            Compression::None => return Ok(chunks),
            Compression::Lz4 => (LZ4, get_maximum_output_size(length)),
            Compression::Zstd => (ZSTD, compress_bound(length)),
        };
        self.plain.clear();
        chunks.iter().for_each(|chunk| self.plain.extend_from_slice(chunk));
        self.packed.resize(PREFIX_BYTES + bound, 0);
        let (prefix, block) = self.packed.split_at_mut(PREFIX_BYTES);
        let written = match id {
            ZSTD => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    unused => unused.insert(bulk::Compressor::new(ZSTD_LEVEL)?),
                };
                zstd.compress_to_buffer(&self.plain, block)?
            }
            _ => compress_into_with_table(&self.plain, block, self.lz4.get_or_insert_default())
                .map_err(|e| ArrowError::IpcError(e.to_string()))?,
        };
        prefix[..4].copy_from_slice(&id.to_le_bytes());
        // Within MAX_PAYLOAD_BYTES, so it fits.
        prefix[4..].copy_from_slice(&(length as u32).to_le_bytes());
        let packed = &self.packed[..PREFIX_BYTES + written];
        let sent = if packed.len() < length { vec![Bytes::copy_from_slice(packed)] } else { chunks };
        if self.packed.len() > KEPT_BYTES {
            (self.plain, self.packed) = (Vec::new(), Vec::new());
        }
        Ok(sent)
    }
}

/// Unpacks what [`Compressor`] has made, whatever its codec.
#[derive(Default)]
pub(crate) struct Decompressor {
    zstd: Option<bulk::Decompressor<'static>>,
}

impl Decompressor {
    /// The payload as it was before; one that was not compressed is handed back. Any bytes are
    /// safe: what no [`Compressor`] has made is an error that says why.
    pub(crate) fn decompress(&mut self, payload: Bytes) -> Result<Bytes, String> {
        let Some((prefix, block)) = payload.split_at_checked(PREFIX_BYTES) else { return Ok(payload) };
        let codec = u32::from_le_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]);
        if codec != LZ4 && codec != ZSTD {
            return Ok(payload);
        }
        let length = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]) as usize;
        if length > MAX_PAYLOAD_BYTES {
            return Err(format!("{length} bytes when unpacked; the limit is {MAX_PAYLOAD_BYTES}"));
        }
        let mut plain = vec![0; length];
        let written = if codec == ZSTD {
            let zstd = match &mut self.zstd {
                Some(zstd) => zstd,
                unused => unused.insert(bulk::Decompressor::new().map_err(damaged)?),
            };
            zstd.decompress_to_buffer(block, plain.as_mut_slice()).map_err(damaged)?
        } else {
            decompress_into(block, &mut plain).map_err(damaged)?
        };
        if written != length {
            return Err(damaged(format!("{written} bytes instead of {length}")));
        }
        Ok(plain.into())
    }
}

fn damaged(error: impl Display) -> String {
    format!("compressed, and damaged: {error}")
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngCore, SeedableRng};

    use super::*;

    fn pack(codec: Compression, payload: &[u8]) -> Bytes {
        let chunks = payload.chunks(1000).map(Bytes::copy_from_slice).collect();
        Compressor::default().compress(codec, chunks).unwrap().concat().into()
    }

    fn codec() -> impl Strategy<Value = Compression> {
        prop_oneof![Just(Compression::None), Just(Compression::Lz4), Just(Compression::Zstd)]
    }

    /// Payloads as an encoder makes them: none begins like a compressed one.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        (proptest::collection::vec(any::<u8>(), 0..300), 1usize..200).prop_map(|(piece, times)| {
            let mut payload = vec![0xff; 4];
            payload.extend(piece.repeat(times));
            payload
        })
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked_again_by_whoever_and_never_grows(codec in codec(), payloads in proptest::collection::vec(payload(), 1..4)) {
            let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::default());
            for payload in payloads {
                let packed: Bytes = compressor.compress(codec, vec![payload.clone().into()]).unwrap().concat().into();
                prop_assert!(packed.len() <= payload.len());
                prop_assert_eq!(decompressor.decompress(packed).unwrap(), payload);
            }
        }

        #[test]
        fn damaged_payloads_are_errors_or_bytes_within_the_limit(codec in codec(), payload in payload(), damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..8), cut in any::<u16>()) {
            let mut packed = pack(codec, &payload).to_vec();
            for (at, value) in damage {
                let at = usize::from(at) % packed.len();
                packed[at] = value;
            }
            packed.truncate(usize::from(cut) % (packed.len() + 1));
            if let Ok(plain) = Decompressor::default().decompress(packed.into()) {
                prop_assert!(plain.len() <= MAX_PAYLOAD_BYTES);
            }
        }
    }

    #[test]
    fn what_gets_smaller_is_smaller_and_what_does_not_is_sent_as_it_is() {
        let text = b"\xff\xff\xff\xffthe same words again and again, ".repeat(1000);
        let [lz4, zstd] = [Compression::Lz4, Compression::Zstd].map(|codec| pack(codec, &text).len());
        assert!(zstd < lz4 && lz4 < text.len() / 20, "{zstd}, {lz4} of {}", text.len());
        let mut random = vec![0xff; 2 * KEPT_BYTES];
        StdRng::seed_from_u64(1).fill_bytes(&mut random[4..]);
        for codec in [Compression::None, Compression::Lz4, Compression::Zstd] {
            assert!(pack(codec, &random) == random, "{codec:?}");
            assert_eq!(pack(codec, &text[..WORTHWHILE_BYTES - 1]), text[..WORTHWHILE_BYTES - 1], "{codec:?}");
        }
    }

    #[test]
    fn what_others_have_compressed_is_read() {
        // Made by the commands lz4 1.9.4 and zstd 1.5.4.
        let payload = Bytes::from(vec![0xff; 600]);
        let lz4 =
            [&1u32.to_le_bytes()[..], &600u32.to_le_bytes(), b"\x1f\xff\x01\x00\xff\xff\x41\x50\xff\xff\xff\xff\xff"];
        let zstd = [
            &2u32.to_le_bytes()[..],
            &600u32.to_le_bytes(),
            b"\x28\xb5\x2f\xfd\x60\x58\x01\x4d\x00\x00\x10\xff\xff\x01\x00\x53\x2a\x80\x05",
        ];
        for packed in [lz4.concat(), zstd.concat()] {
            assert_eq!(Decompressor::default().decompress(packed.into()).as_ref(), Ok(&payload));
        }
    }

    #[test]
    fn a_length_is_checked_before_there_is_memory_for_it() {
        let mut packed = pack(Compression::Zstd, &[0xff; 10_000]).to_vec();
        packed[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        let error = Decompressor::default().decompress(packed.clone().into()).unwrap_err();
        assert_eq!(error, "4294967295 bytes when unpacked; the limit is 16777216");
        for length in [9_999u32, 10_001] {
            packed[4..8].copy_from_slice(&length.to_le_bytes());
            let error = Decompressor::default().decompress(packed.clone().into()).unwrap_err();
            assert!(error.starts_with("compressed, and damaged"), "{error}");
        }
    }

    #[test]
    fn its_names_are_taken_in_any_case() {
        assert_eq!(
            ["none", "LZ4", "Zstd"].map(str::parse),
            [Compression::None, Compression::Lz4, Compression::Zstd].map(Ok)
        );
        assert_eq!("lzo".parse::<Compression>().unwrap_err().to_string(), "not 'none', 'lz4' or 'zstd'");
    }
}
