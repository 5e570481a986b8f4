//! Shares of a whole: `33 %`.

use super::{ConfigValue, Refusal};

/// 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// The number before the sign.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl ConfigValue for Percent {
    const FORM: &'static str = "a whole percentage from `0 %` to `100 %`";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        let digits_only = number.bytes().all(|byte| byte.is_ascii_digit());
        let percent = number.parse().ok().filter(|percent| digits_only && *percent <= 100);
        percent.map(Self).ok_or(Refusal::Malformed)
    }

    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_or_without_sign_and_space() {
        for (text, percent) in [("33 %", 33), ("33%", 33), (" 33 ", 33), ("0 %", 0), ("100 %", 100)] {
            assert_eq!(Percent::parse(text), Ok(Percent(percent)), "{text}");
        }
        for text in ["", "%", "101 %", "-1 %", "+1 %", "0.5", "33 % %", "a third", "256"] {
            assert_eq!(Percent::parse(text), Err(Refusal::Malformed), "{text}");
        }
    }
}
