//! Pinned certificates, and the file that lists them with their windows of time.
//!
//! One entry a line: `FINGERPRINT [not-before=DATE] [not-after=DATE]`; `#` begins a comment. So the next certificate
//! can be pinned before it is there, and the last one ends without anybody coming back to delete it.

use std::{path::Path, time::Duration};

use rustls::pki_types::UnixTime;

use crate::{Fingerprint, MaterialError, Rejection};

/// Longest line (bytes) that is looked at; a fingerprint with colons and two dates has 180.
const MAX_LINE_BYTES: usize = 1024;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// One pinned certificate, and when the pin counts: both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pin {
    fingerprint: Fingerprint,
    not_before: Option<UnixTime>,
    not_after: Option<UnixTime>,
}

impl From<Fingerprint> for Pin {
    /// A pin that always counts.
    fn from(fingerprint: Fingerprint) -> Self {
        Self { fingerprint, not_before: None, not_after: None }
    }
}

impl Pin {
    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Whether `now` is in its window.
    pub(crate) fn counts(&self, now: UnixTime) -> bool {
        self.not_before.is_none_or(|from| from <= now) && self.not_after.is_none_or(|until| now <= until)
    }
}

/// Whether the certificate `der` is pinned at `now`. No pins, no demand.
pub(crate) fn check(pins: &[Pin], der: &[u8], now: UnixTime) -> Result<(), Rejection> {
    if pins.is_empty() {
        return Ok(());
    }
    let mut rejection = Rejection::Pin;
    for pin in pins.iter().filter(|pin| pin.fingerprint.matches(der)) {
        match (pin.not_before, pin.not_after) {
            (Some(not_before), _) if now < not_before => rejection = Rejection::PinNotYet { not_before },
            (_, Some(not_after)) if now > not_after => rejection = Rejection::PinEnded { not_after },
            _ => return Ok(()),
        }
    }
    Err(rejection)
}

/// When the last pin of `der` that counts at `now` ends; `None` if it never does.
pub(crate) fn end(pins: &[Pin], der: &[u8], now: UnixTime) -> Option<UnixTime> {
    let counting = pins.iter().filter(|pin| check(std::slice::from_ref(pin), der, now).is_ok());
    let mut last = None;
    for pin in counting {
        last = last.max(Some(pin.not_after?));
    }
    last
}

/// Reads the file's content.
pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Vec<Pin>, MaterialError> {
    let fault = |line, reason| MaterialError::Pins { path: path.to_owned(), line, reason };
    let text = std::str::from_utf8(bytes).map_err(|_| fault(None, "it is not UTF-8 text".into()))?;
    let mut pins = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let pin = parse_line(line).map_err(|reason| fault(Some(index + 1), reason))?;
        pins.extend(pin);
    }
    if pins.is_empty() {
        return Err(fault(None, "it pins nothing; write one fingerprint a line, or remove the option".into()));
    }
    Ok(pins)
}

fn parse_line(line: &str) -> Result<Option<Pin>, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("longer than {MAX_LINE_BYTES} bytes"));
    }
    let (entry, _comment) = line.split_once('#').unwrap_or((line, ""));
    let mut words = entry.split_whitespace();
    let Some(fingerprint) = words.next() else { return Ok(None) };
    let mut pin = Pin::from(fingerprint.parse::<Fingerprint>().map_err(|error| error.to_string())?);
    for word in words {
        let (end, date) = match word.split_once('=') {
            Some(("not-before", text)) => (&mut pin.not_before, parse_date(text, false)),
            Some(("not-after", text)) => (&mut pin.not_after, parse_date(text, true)),
            _ => return Err(format!("{word:?} is neither not-before=DATE nor not-after=DATE")),
        };
        let date = date.ok_or_else(|| format!("{word:?}: give the date as 2027-01-31 or 2027-01-31T12:00:00Z"))?;
        if end.replace(date).is_some() {
            return Err(format!("{word:?} is the second of its kind"));
        }
    }
    match (pin.not_before, pin.not_after) {
        (Some(not_before), Some(not_after)) if not_before > not_after => Err("not-before is after not-after".into()),
        _ => Ok(Some(pin)),
    }
}

/// `YYYY-MM-DD` (its first second, or with `end_of_day` its last) or `YYYY-MM-DDTHH:MM:SSZ`, from 1970 on.
fn parse_date(text: &str, end_of_day: bool) -> Option<UnixTime> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time.strip_suffix('Z')?)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let days = days_since_epoch(year, month, day)?;
    let second = match time {
        Some(time) => match numbers(time, ':', [2, 2, 2])? {
            [hour @ 0..24, minute @ 0..60, second @ 0..60] => (hour * 60 + minute) * 60 + second,
            _ => return None,
        },
        None if end_of_day => DAY_SECONDS - 1,
        None => 0,
    };
    Some(UnixTime::since_unix_epoch(Duration::from_secs(days * DAY_SECONDS + second)))
}

/// Three decimal numbers of exactly these lengths.
fn numbers(text: &str, separator: char, lengths: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut values = [0; 3];
    for (value, length) in values.iter_mut().zip(lengths) {
        let part = parts.next()?;
        if part.len() != length || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *value = part.parse().ok()?;
    }
    parts.next().is_none().then_some(values)
}

fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month.checked_sub(1)?).ok()?;
    if !(1970..=9999).contains(&year) || !(1..=*months.get(before)?).contains(&day) {
        return None;
    }
    let leap_days = (1970..year).filter(|year| is_leap(*year)).count() as u64;
    Some((year - 1970) * 365 + leap_days + months.iter().take(before).sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    const SHA1: &str = "a9993e364706816aba3e25717850c26c9cd0d89d"; // of "abc"
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn pins(text: &str) -> Vec<Pin> {
        parse(text.as_bytes(), Path::new("/tls/pins")).unwrap()
    }

    fn fault(text: &str) -> String {
        parse(text.as_bytes(), Path::new("/tls/pins")).unwrap_err().to_string()
    }

    fn at(date: &str) -> UnixTime {
        parse_date(date, false).unwrap()
    }

    #[test]
    fn dates_are_what_the_calendar_says() {
        // From `date -u -d … +%s`.
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2026-11-26T14:12:23Z", 1_795_702_343),
            ("2027-03-01", 1_803_859_200),
            ("2100-03-01", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse_date(text, false).map(|time| time.as_secs()), Some(seconds), "{text}");
        }
        assert_eq!(parse_date("1970-01-01", true).unwrap().as_secs(), 86_399, "an end is the day's last second");
        for text in [
            "",
            "2027",
            "2027-1-1",
            "2027-02-29",
            "2100-02-29",
            "2027-13-01",
            "2027-00-01",
            "2027-01-00",
            "1969-12-31",
            "2027-01-01T",
            "2027-01-01Z",
            "2027-01-01T12:00:00",
            "2027-01-01T24:00:00Z",
            "2027-01-01T12:60:00Z",
            "2027-01-01T12:00:00+02:00",
            "2027-01-01-01",
            "+027-01-01",
            "2027-01-01T12:00:00.5Z",
        ] {
            assert_eq!(parse_date(text, false), None, "{text:?}");
        }
    }

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        let text = format!("# next year's\n\n  {SHA1} # the old one\r\n\t{SHA256}\tnot-before=2027-01-01\n");
        let parsed = pins(&text);
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0], Pin::from(Fingerprint::sha1_of(b"abc")));
        assert_eq!(parsed[1].not_before, Some(at("2027-01-01")));
    }

    #[test]
    fn a_pin_counts_within_its_window_only() {
        let pins = pins(&format!("{SHA256} not-before=2027-01-01 not-after=2027-01-31"));
        let (not_before, not_after) = (at("2027-01-01"), at("2027-01-31T23:59:59Z"));
        assert_eq!(check(&pins, b"abc", at("2026-12-31T23:59:59Z")), Err(Rejection::PinNotYet { not_before }));
        assert_eq!(check(&pins, b"abc", not_before), Ok(()));
        assert_eq!(check(&pins, b"abc", not_after), Ok(()));
        assert_eq!(check(&pins, b"abc", at("2027-02-01")), Err(Rejection::PinEnded { not_after }));
        assert_eq!(check(&pins, b"abd", not_before), Err(Rejection::Pin));
    }

    #[test]
    fn one_of_several_pins_is_enough() {
        let pins = pins(&format!("{SHA1} not-after=2027-01-31\n{SHA256} not-before=2027-01-15"));
        for now in ["2026-01-01", "2027-01-20", "2027-02-01"] {
            assert_eq!(check(&pins, b"abc", at(now)), Ok(()), "{now}");
        }
        assert_eq!(end(&pins, b"abc", at("2026-01-01")), Some(at("2027-01-31T23:59:59Z")));
        assert_eq!(end(&pins, b"abc", at("2027-01-20")), None, "the second has no end");
        assert_eq!(end(&pins, b"abd", at("2026-01-01")), None);
    }

    #[test]
    fn a_malformed_line_is_named_by_number() {
        for (text, line, reason) in [
            (format!("\n{SHA1}\n{}\n", &SHA1[2..]), 3, "not a certificate fingerprint"),
            (format!("{SHA1} {SHA256}"), 1, "neither not-before"),
            (format!("{SHA1} not-after=tomorrow"), 1, "2027-01-31"),
            (format!("{SHA1} not-after=2027-01-01 not-after=2027-01-02"), 1, "second of its kind"),
            (format!("#\n{SHA1} not-before=2027-01-02 not-after=2027-01-01"), 2, "not-before is after"),
            ("a".repeat(2000), 1, "longer than"),
        ] {
            let fault = fault(&text);
            assert!(fault.starts_with(&format!("pin file /tls/pins, line {line}: ")), "{fault}");
            assert!(fault.contains(reason), "{fault}");
        }
    }

    #[test]
    fn a_file_that_pins_nothing_is_an_error() {
        for text in ["", "\n\n", "# all gone\n"] {
            assert!(fault(text).contains("it pins nothing"), "{text:?}");
        }
        assert!(parse(b"\xff", Path::new("/tls/pins")).unwrap_err().to_string().contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&bytes, Path::new("x"));
        }

        #[test]
        fn nearly_right_lines_do_not_either(text in "([0-9a-fA-F:]{0,95}( not-(before|after)=[0-9TZ:=-]{0,24}){0,3}[#\r\n]?){0,4}") {
            let _ = parse(text.as_bytes(), Path::new("x"));
        }

        /// Every second of the calendar is read back as written, and the order of texts is that of time.
        #[test]
        fn later_texts_are_later(one in 0_u64..253_402_300_800, other in 0_u64..253_402_300_800) {
            let text = |seconds: u64| {
                let time = x509_parser::time::ASN1Time::from_timestamp(i64::try_from(seconds).unwrap()).unwrap();
                let time = time.to_datetime();
                format!(
                    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                    time.year(), u8::from(time.month()), time.day(), time.hour(), time.minute(), time.second()
                )
            };
            prop_assert_eq!(parse_date(&text(one), false).map(|time| time.as_secs()), Some(one));
            prop_assert_eq!(text(one) < text(other), one < other);
        }
    }
}
