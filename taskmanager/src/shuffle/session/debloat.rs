//! How much a channel needs under way so that its reader is never without, and no more: what it reads in a given time
//! (Flink's buffer debloating, FLIP-183).

use std::time::{Duration, Instant};

/// Between two looks at the rate: Flink's default period.
const PERIOD: Duration = Duration::from_millis(200);

/// Share of the newest period in the average, of 4: a single slow one does not starve the next.
const NEWEST: u64 = 2;

/// The rate of one reader.
#[derive(Debug)]
pub(super) struct Debloat {
    target: Duration,
    /// Begin of the period; `None` before anything was read.
    since: Option<Instant>,
    bytes: u64,
    /// Bytes per second; `None` before the first period is over.
    rate: Option<u64>,
}

impl Debloat {
    /// What is under way should last for `target`.
    pub(super) fn new(target: Duration) -> Self {
        Self { target, since: None, bytes: 0, rate: None }
    }

    /// So much has been read; the new window, bytes, if it is time for one.
    pub(super) fn read(&mut self, bytes: u64, now: Instant) -> Option<u64> {
        self.bytes += bytes;
        let elapsed = now.duration_since(*self.since.get_or_insert(now));
        if elapsed < PERIOD {
            return None;
        }
        let newest = (self.bytes as f64 / elapsed.as_secs_f64()) as u64;
        let rate = self.rate.map_or(newest, |rate| (rate * (4 - NEWEST) + newest * NEWEST) / 4);
        (self.rate, self.since, self.bytes) = (Some(rate), Some(now), 0);
        Some((rate as f64 * self.target.as_secs_f64()) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_readers_rate() {
        let start = Instant::now();
        let mut debloat = Debloat::new(Duration::from_secs(1));
        // It has waited for its first payload for a minute, which says nothing about its rate.
        let at = |millis: u64| start + Duration::from_millis(60_000 + millis);
        assert_eq!(debloat.read(0, at(0)), None);
        assert_eq!(debloat.read(100_000, at(100)), None, "too early to tell");
        assert_eq!(debloat.read(100_000, at(200)), Some(1_000_000));
        assert_eq!(debloat.read(20_000, at(400)), Some(550_000), "half the old rate, half the new one");
        assert_eq!(debloat.read(20_000, at(600)), Some(325_000));
        assert_eq!(debloat.read(1, at(60_600)), Some(162_500), "a reader that stood still");
    }
}
