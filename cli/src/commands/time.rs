//! Spans of time on the command line.

use std::time::Duration;

/// A span of time with its unit, at least [`SHORTEST`].
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let seconds_per_unit = match unit.trim() {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "min" | "m" => 60.0,
        other => return Err(format!("'{other}' is no unit of time here: use ms, s or min")),
    };
    let number: f64 = number.parse().map_err(|_| format!("'{number}' is not a number"))?;
    let time = Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|error| error.to_string())?;
    if time < SHORTEST { Err(format!("at least {SHORTEST:?}")) } else { Ok(time) }
}

/// Of rotations: faster than this, making the keys would be most of the work.
const SHORTEST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("2"), Ok(Duration::from_secs(2)));
        assert!(parse("10ms").is_err() && parse("1h").is_err() && parse("s").is_err());
    }
}
