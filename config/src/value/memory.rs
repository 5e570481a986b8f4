//! Amounts of memory as Flink writes them: `64 mb`, `32kb`; a bare number is bytes, and every unit is a power of 1024.

use super::{ConfigValue, Refusal};
use std::fmt;

/// Bytes. Displays in the largest unit that needs no fraction, and parses from what it displays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(u64);

/// Every unit with its length in bytes and the spellings Flink takes, in lower case.
const UNITS: [(u64, &[&str]); 5] = [
    (1 << 40, &["tb", "t", "tebibytes"]),
    (1 << 30, &["gb", "g", "gibibytes"]),
    (1 << 20, &["mb", "m", "mebibytes"]),
    (1 << 10, &["kb", "k", "kibibytes"]),
    (1, &["bytes", "b", ""]),
];

impl MemorySize {
    /// `bytes` bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The amount in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The amount in bytes for things that are held in memory; on a 64-bit machine the same as [`bytes`](Self::bytes).
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl ConfigValue for MemorySize {
    const FORM: &'static str = "an amount of memory such as `64 mb` or `32kb` (a bare number is bytes)";

    fn parse(text: &str) -> Result<Self, Refusal> {
        number_and_unit(text.trim()).map(Self).ok_or(Refusal::Malformed)
    }

    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

fn number_and_unit(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = unit.trim_start().to_ascii_lowercase();
    let (length, _) = UNITS.iter().find(|(_, names)| names.contains(&unit.as_str()))?;
    number.parse::<u64>().ok()?.checked_mul(*length)
}

impl fmt::Display for MemorySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (length, names) in UNITS {
            if let Some(name) = names.first()
                && self.0 >= length
                && self.0.is_multiple_of(length)
            {
                return write!(f, "{} {name}", self.0 / length);
            }
        }
        f.write_str("0 bytes")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<u64> {
        MemorySize::parse(text).ok().map(MemorySize::bytes)
    }

    #[test]
    fn flinks_spellings() {
        for (text, bytes) in [
            ("64 mb", 64 << 20),
            ("32kb", 32 << 10),
            ("1g", 1 << 30),
            ("2 T", 2 << 40),
            ("104857600", 100 << 20),
            ("10485760b", 10 << 20),
            (" 0 bytes ", 0),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn other_texts() {
        for text in ["", "mb", "-1", "1.5 gb", "1 pb", "18446744073709551616", "18446744073709551615 kb"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_displayed_parses_to_the_same(bytes: u64, shift in 0..60_u32) {
            let size = MemorySize::from_bytes(bytes >> shift << (shift / 10 * 10));
            prop_assert_eq!(MemorySize::parse(&size.to_string()), Ok(size));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[0-9]{0,22} ?\\PC{0,3}") {
            let _ = parse(&text);
        }
    }
}
