//! How the text of an option becomes a value: one [`ConfigValue`] per type an option can have.

mod choice;
mod duration;
mod memory;
mod percent;

pub use choice::{CompressionCodec, DataTransport, LogFormat, ProtocolVersions, SslProvider};
pub use memory::MemorySize;
pub use percent::Percent;

use std::path::PathBuf;
use tls_common::{Fingerprint, Secret};

/// A type that options can have.
pub trait ConfigValue: Sized {
    /// What a value looks like, to complete "expected …".
    const FORM: &'static str;
    /// Whether the text is masked wherever it is shown.
    const SECRET: bool = false;

    /// Reads `text`, which may have space around it.
    ///
    /// # Errors
    /// It is not of this [`FORM`](Self::FORM), or something we have a better answer to.
    fn parse(text: &str) -> Result<Self, Refusal>;

    /// Whether this is the number, duration or amount zero.
    fn is_zero(&self) -> bool {
        false
    }
}

/// Why a text is not a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It does not have the form.
    Malformed,
    /// It has, but we cannot do that; with the reason and what to do.
    Because(&'static str),
}

/// A value of which `-1` means "as you think best", as in several of Flink's TLS options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrDefault<T> {
    /// `-1`.
    Default,
    /// Anything else.
    Value(T),
}

impl<T> OrDefault<T> {
    /// The value, or else `default`.
    pub fn unwrap_or(self, default: T) -> T {
        match self {
            Self::Default => default,
            Self::Value(value) => value,
        }
    }
}

impl<T: ConfigValue> ConfigValue for OrDefault<T> {
    const FORM: &'static str = T::FORM;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.trim() == "-1" { Ok(Self::Default) } else { T::parse(text).map(Self::Value) }
    }

    fn is_zero(&self) -> bool {
        matches!(self, Self::Value(value) if value.is_zero())
    }
}

impl ConfigValue for String {
    const FORM: &'static str = "text";

    fn parse(text: &str) -> Result<Self, Refusal> {
        Ok(text.trim().to_owned())
    }
}

/// Kept to the letter: space may belong to a password.
impl ConfigValue for Secret {
    const FORM: &'static str = "text";
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, Refusal> {
        Ok(Self::new(text.to_owned()))
    }
}

impl ConfigValue for PathBuf {
    const FORM: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        if text.is_empty() { Err(Refusal::Malformed) } else { Ok(Self::from(text)) }
    }
}

impl ConfigValue for bool {
    const FORM: &'static str = "`true` or `false`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// Ports are the only such numbers.
impl ConfigValue for u16 {
    const FORM: &'static str = "one port, 0 to 65535 (0 takes any free one)";

    fn parse(text: &str) -> Result<Self, Refusal> {
        text.trim().parse().map_err(|_| Refusal::Malformed)
    }
}

impl ConfigValue for usize {
    const FORM: &'static str = "a whole number";

    fn parse(text: &str) -> Result<Self, Refusal> {
        text.trim().parse().map_err(|_| Refusal::Malformed)
    }

    fn is_zero(&self) -> bool {
        *self == 0
    }
}

impl ConfigValue for Fingerprint {
    const FORM: &'static str = "SHA-1 (40) or SHA-256 (64) hexadecimal digits of a certificate, with or without colons";

    fn parse(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|_| Refusal::Malformed)
    }
}

/// Items separated by commas or semicolons; empty ones do not count.
impl<T: ConfigValue> ConfigValue for Vec<T> {
    const FORM: &'static str = T::FORM;
    const SECRET: bool = T::SECRET;

    fn parse(text: &str) -> Result<Self, Refusal> {
        text.split([',', ';']).filter(|item| !item.trim().is_empty()).map(T::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn minus_one_is_the_default() {
        assert_eq!(OrDefault::<usize>::parse(" -1 "), Ok(OrDefault::Default));
        assert_eq!(OrDefault::<usize>::parse("0"), Ok(OrDefault::Value(0)));
        assert_eq!(OrDefault::<usize>::parse("-2"), Err(Refusal::Malformed));
        assert_eq!(OrDefault::Default.unwrap_or(7), 7);
    }

    #[test]
    fn lists_take_commas_and_semicolons() {
        let list: Vec<String> = ConfigValue::parse(" a, b;c ,,").unwrap();
        assert_eq!(list, ["a", "b", "c"]);
        assert_eq!(Vec::<String>::parse(" "), Ok(Vec::new()));
    }

    #[test]
    fn passwords_keep_their_spaces() {
        assert_eq!(Secret::parse(" x ").unwrap().expose(), " x ");
    }

    #[test]
    fn ports_are_single_numbers() {
        assert_eq!(u16::parse("6123"), Ok(6123));
        for text in ["", "-1", "65536", "50100-50200"] {
            assert_eq!(u16::parse(text), Err(Refusal::Malformed), "{text}");
        }
    }

    #[test]
    fn booleans_in_any_case() {
        assert_eq!(bool::parse("TRUE"), Ok(true));
        assert_eq!(bool::parse("False"), Ok(false));
        assert_eq!(bool::parse("yes"), Err(Refusal::Malformed));
    }
}
