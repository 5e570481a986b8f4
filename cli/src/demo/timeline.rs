//! Which certificate was on disk when, and which was served when: pure bookkeeping, no clock, no IO.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The certificates of one bundle in the order in which they came onto the disk.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    replaced_at: Vec<Instant>,
    step_of: HashMap<String, usize>,
}

impl Timeline {
    /// `fingerprint` comes onto the disk next: it may be seen from now on.
    pub(super) fn announced(&mut self, fingerprint: String) {
        self.step_of.insert(fingerprint, self.replaced_at.len());
    }

    /// `fingerprint` is complete on disk since `at`.
    pub(super) fn replaced(&mut self, fingerprint: String, at: Instant) {
        self.announced(fingerprint);
        self.replaced_at.push(at);
    }
}

/// What one server has been seen to serve.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// The newest step served, and when it was first seen.
    newest: Option<(usize, Instant)>,
    /// Longest time from a replacement until that certificate or a newer one was served.
    pub(super) slowest: Duration,
    /// Connections begun after a certificate had been seen that got an older one.
    pub(super) went_back: u64,
    /// Certificates that were never on disk.
    pub(super) unknown: u64,
}

impl Follower {
    /// A connection begun at `begun` had, at `seen`, been answered with `fingerprint`.
    pub(super) fn served(&mut self, timeline: &Timeline, fingerprint: &str, begun: Instant, seen: Instant) {
        let Some(&step) = timeline.step_of.get(fingerprint) else {
            self.unknown += 1;
            return;
        };
        match self.newest {
            Some((newest, first_seen)) if step < newest => self.went_back += u64::from(begun > first_seen),
            Some((newest, _)) if step == newest => {}
            previous => {
                let first_new = previous.map_or(step, |(newest, _)| newest + 1);
                // One that is only announced was served as soon as could be.
                for replaced_at in timeline.replaced_at.iter().take(step + 1).skip(first_new) {
                    self.slowest = self.slowest.max(seen.saturating_duration_since(*replaced_at));
                }
                self.newest = Some((step, seen));
            }
        }
    }

    /// How long the certificate on disk has not been served at `now`; zero if it is. Steps skipped count from the first.
    pub(super) fn behind(&self, timeline: &Timeline, now: Instant) -> Duration {
        let missing = self.newest.map_or(0, |(newest, _)| newest + 1);
        timeline.replaced_at.get(missing).map_or(Duration::ZERO, |at| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Certificates "0", "1", "2" replaced one second apart.
    fn three(start: Instant) -> Timeline {
        let mut timeline = Timeline::default();
        for step in 0..3 {
            timeline.replaced(step.to_string(), start + ms(1_000 * step));
        }
        timeline
    }

    #[test]
    fn the_slowest_step_counts() {
        let start = Instant::now();
        let (timeline, mut follower) = (three(start), Follower::default());
        for (fingerprint, at) in [("0", 10), ("0", 200), ("1", 1_400), ("1", 1_500), ("2", 2_300)] {
            follower.served(&timeline, fingerprint, start + ms(at - 5), start + ms(at));
        }
        assert_eq!((follower.slowest, follower.went_back, follower.unknown), (ms(400), 0, 0));
        assert_eq!(follower.behind(&timeline, start + ms(9_000)), Duration::ZERO);
    }

    #[test]
    fn a_skipped_step_counts_from_its_own_replacement() {
        let start = Instant::now();
        let (timeline, mut follower) = (three(start), Follower::default());
        follower.served(&timeline, "0", start, start + ms(1));
        assert_eq!(follower.behind(&timeline, start + ms(2_500)), ms(1_500));
        follower.served(&timeline, "2", start + ms(2_500), start + ms(2_600));
        assert_eq!(follower.slowest, ms(1_600));
    }

    #[test]
    fn an_older_certificate_counts_only_if_the_connection_began_after_the_newer() {
        let start = Instant::now();
        let (timeline, mut follower) = (three(start), Follower::default());
        follower.served(&timeline, "1", start + ms(1_100), start + ms(1_200));
        follower.served(&timeline, "0", start + ms(1_150), start + ms(1_250));
        assert_eq!(follower.went_back, 0);
        follower.served(&timeline, "0", start + ms(1_300), start + ms(1_350));
        assert_eq!(follower.went_back, 1);
    }

    #[test]
    fn a_certificate_may_be_served_before_its_replacement_is_noted() {
        let start = Instant::now();
        let (mut timeline, mut follower) = (three(start), Follower::default());
        follower.served(&timeline, "2", start + ms(2_000), start + ms(2_100));
        timeline.announced("3".to_owned());
        follower.served(&timeline, "3", start + ms(3_100), start + ms(3_200));
        timeline.replaced("3".to_owned(), start + ms(3_000));
        follower.served(&timeline, "3", start + ms(9_000), start + ms(9_100));
        assert_eq!((follower.unknown, follower.went_back), (0, 0));
        assert!(follower.behind(&timeline, start + ms(9_100)).is_zero());
        assert_eq!(follower.slowest, ms(100));
    }

    #[test]
    fn a_certificate_that_was_never_on_disk_is_noticed() {
        let start = Instant::now();
        let mut follower = Follower::default();
        follower.served(&three(start), "other", start, start);
        assert_eq!(follower.unknown, 1);
    }
}
