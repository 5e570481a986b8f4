//! When a burst of changes has settled: a pure state machine over an injected clock.

use crate::clock;
use std::time::Duration;
use tokio::time::Instant;

/// Trailing quiet period with an upper bound, so that a steady trickle of events cannot postpone a reload for ever.
#[derive(Debug)]
pub(crate) struct Debounce {
    quiet: Duration,
    max_delay: Duration,
    burst: Option<Burst>,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    first: Instant,
    last: Instant,
}

impl Debounce {
    pub(crate) fn new(quiet: Duration, max_delay: Duration) -> Self {
        Self { quiet, max_delay: max_delay.max(quiet), burst: None }
    }

    /// Something may have changed at `now`.
    pub(crate) fn mark(&mut self, now: Instant) {
        let first = self.burst.map_or(now, |burst| burst.first);
        self.burst = Some(Burst { first, last: now });
    }

    /// When the burst counts as settled; `None` without a burst.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.burst.map(|burst| clock::later(burst.last, self.quiet).min(clock::later(burst.first, self.max_delay)))
    }

    /// Ends the burst.
    pub(crate) fn settle(&mut self) {
        self.burst = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUIET: Duration = Duration::from_millis(300);
    const MAX: Duration = Duration::from_secs(3);

    #[test]
    fn nothing_is_due_without_a_mark() {
        assert_eq!(Debounce::new(QUIET, MAX).due(), None);
    }

    #[test]
    fn a_burst_settles_one_quiet_period_after_its_last_mark() {
        let start = Instant::now();
        let mut debounce = Debounce::new(QUIET, MAX);
        debounce.mark(start);
        debounce.mark(start + QUIET / 2);
        assert_eq!(debounce.due(), Some(start + QUIET / 2 + QUIET));
        debounce.settle();
        assert_eq!(debounce.due(), None);
    }

    proptest! {
        #[test]
        fn however_marks_fall_a_reload_is_due_within_the_maximum_delay(gaps in prop::collection::vec(0u64..400, 1..200)) {
            let start = Instant::now();
            let mut debounce = Debounce::new(QUIET, MAX);
            let mut now = start;
            for gap in gaps {
                debounce.mark(now);
                prop_assert!(debounce.due().is_some_and(|due| due <= start + MAX && due >= start + QUIET));
                now += Duration::from_millis(gap);
            }
        }
    }
}
