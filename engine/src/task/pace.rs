//! The rate limit of a source: when the next batch may go.

use std::time::Duration;

use tokio::time::Instant;

/// How much of the rate a source that was held up may make good at once.
const CATCH_UP: Duration = Duration::from_secs(1);

/// How much time a batch of a rate-limited source covers: short, so that rows flow evenly.
const BATCH_TIME: Duration = Duration::from_millis(20);

/// Paces rows at a constant rate.
#[derive(Debug)]
pub(super) struct Pace {
    rows_per_second: f64,
    due: Instant,
}

impl Pace {
    pub(super) fn new(rows_per_second: f64) -> Self {
        Self { rows_per_second, due: Instant::now() }
    }

    /// A size of batches that suits the rate.
    pub(super) fn batch_rows(rows_per_second: f64, most: usize) -> usize {
        // A cast from a float saturates.
        ((rows_per_second * BATCH_TIME.as_secs_f64()) as usize).clamp(1, most)
    }

    /// Waits until rows may go. Cancel safe.
    pub(super) async fn wait(&self) {
        tokio::time::sleep_until(self.due).await;
    }

    /// Notes that so many rows go now.
    pub(super) fn gone(&mut self, rows: usize) {
        let earliest = Instant::now().checked_sub(CATCH_UP).unwrap_or(self.due);
        // Slower than one batch in a year is as good as stopped.
        let time = (rows as f64 / self.rows_per_second).min(31_536_000.0);
        self.due = self.due.max(earliest) + Duration::from_secs_f64(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_rate_and_catches_up_for_a_second_at_most() {
        let start = Instant::now();
        let mut pace = Pace::new(1000.0);
        for _ in 0..100 {
            pace.wait().await;
            pace.gone(20);
        }
        assert_eq!(start.elapsed(), Duration::from_millis(99 * 20));

        tokio::time::advance(Duration::from_secs(60)).await;
        let resumed = Instant::now();
        let mut burst = 0;
        loop {
            pace.wait().await;
            if resumed.elapsed() > Duration::from_millis(1) {
                break;
            }
            pace.gone(20);
            burst += 1;
        }
        assert_eq!(burst, 51);
    }

    #[test]
    fn batches_suit_the_rate() {
        assert_eq!(Pace::batch_rows(0.1, 8192), 1);
        assert_eq!(Pace::batch_rows(5000.0, 8192), 100);
        assert_eq!(Pace::batch_rows(1e30, 8192), 8192);
    }
}
