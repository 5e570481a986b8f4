//! Durations in Flink's spelling: a whole number and a unit, `24 h`, `30s`, `500 ms`.

use std::time::Duration;

/// `None` if the text is not a duration. A number alone means milliseconds, as in Flink.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(unit_at)?;
    let number: u64 = number.parse().ok()?;
    let nanos: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
        "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
        "h" | "hour" | "hours" => 3_600_000_000_000,
        "d" | "day" | "days" => 86_400_000_000_000,
        _ => return None,
    };
    number.checked_mul(nanos).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_flinks_units() {
        for (text, expected) in [
            ("24 h", Some(Duration::from_secs(86_400))),
            ("1day", Some(Duration::from_secs(86_400))),
            (" 5 MIN ", Some(Duration::from_secs(300))),
            ("0 s", Some(Duration::ZERO)),
            ("500", Some(Duration::from_millis(500))),
            ("-1 s", None),
            ("1.5 s", None),
            ("s", None),
            ("", None),
            ("1 week", None),
            ("99999999999 d", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
