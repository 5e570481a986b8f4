//! Durations as Flink writes them: `10 s`, `300ms`, `1 min`, ISO 8601 `PT1H30M`; a bare number is milliseconds.

use super::{ConfigValue, Refusal};
use std::time::Duration;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Every unit with its length and the spellings Flink takes, in lower case.
const UNITS: [(Duration, &[&str]); 7] = [
    (Duration::from_nanos(1), &["ns", "nano", "nanos", "nanosecond", "nanoseconds"]),
    (Duration::from_micros(1), &["µs", "us", "micro", "micros", "microsecond", "microseconds"]),
    (Duration::from_millis(1), &["", "ms", "milli", "millis", "millisecond", "milliseconds"]),
    (Duration::from_secs(1), &["s", "sec", "secs", "second", "seconds"]),
    (Duration::from_secs(60), &["m", "min", "mins", "minute", "minutes"]),
    (Duration::from_secs(60 * 60), &["h", "hour", "hours"]),
    (Duration::from_secs(DAY_SECONDS), &["d", "day", "days"]),
];

impl ConfigValue for Duration {
    const FORM: &'static str =
        "a duration such as `10 s`, `300 ms`, `1 min` or `PT10S` (a bare number is milliseconds)";

    fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let duration = if text.starts_with(['P', 'p']) { iso_8601(text) } else { number_and_unit(text) };
        duration.ok_or(Refusal::Malformed)
    }

    fn is_zero(&self) -> bool {
        Self::is_zero(self)
    }
}

fn number_and_unit(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let unit = unit.trim_start().to_lowercase();
    let (length, _) = UNITS.iter().find(|(_, names)| names.contains(&unit.as_str()))?;
    multiply(*length, number)
}

/// `P1DT2H3M4.5S`: every part may be missing, but not all; nothing negative.
fn iso_8601(text: &str) -> Option<Duration> {
    let text = text.to_ascii_uppercase();
    let body = text.strip_prefix('P')?;
    let (date, time) = match body.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None if body.is_empty() => return None,
        None => (body, ""),
    };
    let mut total = Duration::ZERO;
    if !date.is_empty() {
        total = multiply(Duration::from_secs(DAY_SECONDS), digits(date.strip_suffix('D')?)?)?;
    }
    let mut rest = time;
    for (seconds, unit) in [(60 * 60, 'H'), (60, 'M')] {
        if let Some((number, after)) = rest.split_once(unit) {
            total = total.checked_add(multiply(Duration::from_secs(seconds), digits(number)?)?)?;
            rest = after;
        }
    }
    if rest.is_empty() { Some(total) } else { total.checked_add(seconds(rest.strip_suffix('S')?)?) }
}

/// `4` or `4.5`, to the nanosecond.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 9 {
        return None;
    }
    let nanos = digits(&format!("{fraction:0<9}"))?;
    Some(Duration::new(digits(whole)?, u32::try_from(nanos).ok()?))
}

fn digits(text: &str) -> Option<u64> {
    // `u64::from_str` would also take "+1".
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn multiply(unit: Duration, number: u64) -> Option<Duration> {
    let nanos = unit.as_nanos().checked_mul(u128::from(number))?;
    let subsecond = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(u64::try_from(nanos / 1_000_000_000).ok()?, subsecond))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<Duration> {
        Duration::parse(text).ok()
    }

    #[test]
    fn flinks_spellings() {
        for (text, millis) in [
            ("10 s", 10_000),
            (" 300ms ", 300),
            ("1 min", 60_000),
            ("2 Hours", 7_200_000),
            ("1d", 86_400_000),
            ("250", 250),
            ("PT10S", 10_000),
            ("pt1h30m", 5_400_000),
            ("P1DT0.25S", 86_400_250),
            ("P2D", 172_800_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("5 µs"), Some(Duration::from_micros(5)));
        assert_eq!(parse("5 nanos"), Some(Duration::from_nanos(5)));
    }

    #[test]
    fn other_texts() {
        for text in [
            "",
            "s",
            "-1",
            "-1 s",
            "1.5 s",
            "10 parsecs",
            "P",
            "PT",
            "P1DT",
            "PT1",
            "PT-1S",
            "PT1M1H",
            "PT1.0000000001S",
            "PT+1S",
            "99999999999999999999",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse(&format!("{} d", u64::MAX)), None, "too long to hold");
    }

    proptest! {
        #[test]
        fn every_number_and_unit_is_their_product(
            number in 0..1_000_000_u32,
            unit in 0..UNITS.len(),
            spelling in 0..5_usize,
            space in " {0,2}",
        ) {
            let (length, names) = UNITS[unit];
            let name = names[spelling % names.len()];
            prop_assert_eq!(parse(&format!("{space}{number}{space}{name}{space}")), Some(length * number));
        }

        #[test]
        fn iso_is_the_sum_of_its_parts(
            days in 0..1000_u64,
            hours in 0..100_u64,
            minutes in 0..100_u64,
            seconds in 0..100_u64,
            nanos in 0..1_000_000_000_u32,
        ) {
            let text = format!("P{days}DT{hours}H{minutes}M{seconds}.{nanos:09}S");
            let expected = Duration::new(((days * 24 + hours) * 60 + minutes) * 60 + seconds, nanos);
            prop_assert_eq!(parse(&text), Some(expected));
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn nearly_right_texts_do_not_either(text in "[pPtT0-9dhmsDHMS.+ -]{0,24}") {
            let _ = parse(&text);
        }
    }
}
