//! The expiry alarm: whether a certificate is near its end, and when that is worth a line in the log.
//!
//! Two certificates are looked at: our own leaf, and of the truststore the one that ends last (with it nobody is
//! trusted any more; that some of several end is how overlapping authorities are replaced, and no alarm). Near its end
//! is a certificate of which less than a given percentage of its life is left. Both rules know no clock: Unix seconds
//! come from outside, and only [`spawn`]'s task looks at one.

use super::Shared;
use crate::clock;
use crate::error::date;
use crate::generation::Validity;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// An alarm that stays as it is gets into the log again after this long, in seconds (a day).
const REPEAT_SECONDS: i64 = 24 * 3600;

/// How often the clock is looked at; what is in the log may be this late. The status is always exact.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// What an alarm follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Our leaf.
    pub(super) own: Option<Validity>,
    /// The last certificate of the truststore to end.
    pub(super) trust: Option<Validity>,
    pub(super) files: Files,
}

/// How what we use came from the files, hence what there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// They were read once.
    NotWatched,
    /// They are watched, and hold what we use.
    Unchanged,
    /// They are watched, and hold something else that cannot be used.
    Refused,
}

/// One or both certificates are near their end or past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alarm {
    own: Option<End>,
    trust: Option<End>,
    files: Files,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    not_after: i64,
    over: bool,
}

impl Alarm {
    /// At `now`, if less than `percent` of a life is left; with 0 never.
    pub(super) fn assess(facts: &Facts, percent: u8, now: i64) -> Option<Self> {
        let own = facts.own.and_then(|life| End::of(life, percent, now));
        let trust = facts.trust.and_then(|life| End::of(life, percent, now));
        (own.is_some() || trust.is_some()).then_some(Self { own, trust, files: facts.files })
    }
}

impl End {
    fn of(life: Validity, percent: u8, now: i64) -> Option<Self> {
        let left = i128::from(life.not_after) - i128::from(now);
        let whole = i128::from(life.not_after) - i128::from(life.not_before);
        let over = left < 0;
        let near = over || left * 100 < whole * i128::from(percent);
        (near && percent != 0).then_some(Self { not_after: life.not_after, over })
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = |end: End, ended, ends| format!("{} {}", if end.over { ended } else { ends }, date(end.not_after));
        if let Some(own) = self.own {
            write!(f, "our certificate {}; ", ends(own, "expired at", "is near its end, which is at"))?;
        }
        if let Some(trust) = self.trust {
            let ends = ends(trust, "expired, the last of them at", "are near their end, the last of them at");
            write!(f, "all certificates in the truststore {ends}; ")?;
        }
        f.write_str(match self.files {
            Files::NotWatched => {
                "renew the files and restart this process, as it does not watch them (`security.ssl.reload` in Flink's \
                 terms)"
            }
            Files::Unchanged => {
                "the files are watched but have not changed: renew them; if somebody has, is this a subPath or \
                 single-file mount? Such files never change"
            }
            Files::Refused => "the files have changed but cannot be used: see the last error",
        })
    }
}

/// When to speak: at every change, and daily while an alarm lasts.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    said: Option<(Alarm, i64)>,
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announcement {
    Raised(Alarm),
    Over,
}

impl Announcer {
    /// The state at `now`; `Some` if it should be said.
    pub(super) fn observe(&mut self, alarm: Option<Alarm>, now: i64) -> Option<Announcement> {
        match (alarm, self.said) {
            (None, None) => None,
            (None, Some(_)) => {
                self.said = None;
                Some(Announcement::Over)
            }
            // A clock that was set back does not silence it.
            (Some(alarm), Some((said, at)))
                if alarm == said && (at..at.saturating_add(REPEAT_SECONDS)).contains(&now) =>
            {
                None
            }
            (Some(alarm), _) => {
                self.said = Some((alarm, now));
                Some(Announcement::Raised(alarm))
            }
        }
    }
}

/// Starts what writes alarms into the log; it ends when `stop` is cancelled.
pub(super) fn spawn(shared: &Arc<Shared>, stop: CancellationToken) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = announce(shared) => {}
        }
    });
}

async fn announce(shared: Arc<Shared>) {
    let bundle = &shared.options.name;
    let mut published = shared.published.subscribe();
    let mut announcer = Announcer::default();
    loop {
        let now = clock::wall_ms() / 1000;
        match announcer.observe(shared.alarm(now), now) {
            Some(Announcement::Raised(alarm)) => tracing::warn!(%bundle, %alarm, "certificate near its end"),
            Some(Announcement::Over) => tracing::info!(%bundle, "certificates are far from their end again"),
            None => {}
        }
        // A new generation or just time; what is published cannot end while we hold it.
        let _ = timeout(CHECK_INTERVAL, published.changed()).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    const PERCENT: u8 = 33;

    fn life(first_day: i64, last_day: i64) -> Validity {
        Validity { not_before: first_day * DAY, not_after: last_day * DAY }
    }

    fn facts(own: Validity, files: Files) -> Facts {
        Facts { own: Some(own), trust: Some(life(0, 36_500)), files }
    }

    /// Lets hours pass; what is said, with the day it is said on.
    fn days(
        announcer: &mut Announcer,
        range: std::ops::Range<i64>,
        facts: impl Fn(i64) -> Facts,
    ) -> Vec<(i64, Announcement)> {
        let hours = range.start * 24..range.end * 24;
        let said = hours.filter_map(|hour| {
            let now = hour * HOUR;
            let alarm = Alarm::assess(&facts(hour / 24), PERCENT, now);
            announcer.observe(alarm, now).map(|announcement| (hour / 24, announcement))
        });
        said.collect()
    }

    fn raised(announcement: &Announcement) -> String {
        match announcement {
            Announcement::Raised(alarm) => alarm.to_string(),
            Announcement::Over => panic!("no alarm"),
        }
    }

    #[test]
    fn fresh_then_near_said_daily_then_renewed_and_fresh_again() {
        let renewed_on = 75;
        let at = |day: i64| facts(if day < renewed_on { life(0, 90) } else { life(70, 160) }, Files::Unchanged);
        let mut announcer = Announcer::default();
        assert_eq!(days(&mut announcer, 0..60, at), []);
        // 33 % of 90 days are left on day 60.3.
        let said = days(&mut announcer, 60..130, at);
        let on: Vec<i64> = said.iter().map(|(day, _)| *day).collect();
        assert_eq!(on, (60..=renewed_on).collect::<Vec<_>>());
        let (over, warnings) = said.split_last().unwrap();
        assert_eq!(*over, (renewed_on, Announcement::Over));
        assert!(warnings.iter().all(|(_, warning)| raised(warning).starts_with("our certificate is near its end")));
    }

    #[test]
    fn expiry_is_said_at_once_and_goes_on_being_said() {
        let mut announcer = Announcer::default();
        let said = days(&mut announcer, 88..93, |_| facts(life(0, 90), Files::Unchanged));
        let texts: Vec<(i64, bool)> = said.iter().map(|(day, it)| (*day, raised(it).contains("expired"))).collect();
        // not_after itself is still good: the first hour after it is on day 90.
        assert_eq!(texts, [(88, false), (89, false), (90, false), (90, true), (91, true), (92, true)]);
    }

    #[test]
    fn the_alarm_says_what_to_do() {
        let text = |files| Alarm::assess(&facts(life(0, 90), files), PERCENT, 89 * DAY).unwrap().to_string();
        assert!(text(Files::Unchanged).contains("is this a subPath or single-file mount?"));
        assert!(text(Files::NotWatched).contains("restart") && text(Files::NotWatched).contains("security.ssl.reload"));
        assert!(text(Files::Refused).contains("cannot be used"));
        assert!(text(Files::Unchanged).contains("1970"), "the date is named");
    }

    #[test]
    fn a_truststore_alarms_when_all_of_it_ends() {
        let trust = Facts { own: None, trust: Some(life(0, 90)), files: Files::Unchanged };
        assert_eq!(Alarm::assess(&trust, PERCENT, 10 * DAY), None);
        let near = Alarm::assess(&trust, PERCENT, 80 * DAY).unwrap().to_string();
        assert!(near.starts_with("all certificates in the truststore are near their end"), "{near}");
        let both = Facts { own: Some(life(0, 100)), ..trust };
        let both = Alarm::assess(&both, PERCENT, 91 * DAY).unwrap().to_string();
        assert!(both.contains("our certificate is near") && both.contains("truststore expired"), "{both}");
    }

    #[test]
    fn a_renewal_that_is_near_its_own_end_is_said_anew() {
        let at = |day: i64| facts(if day < 80 { life(0, 90) } else { life(0, 91) }, Files::Unchanged);
        let mut announcer = Announcer::default();
        let said = days(&mut announcer, 79..81, at);
        assert_eq!(said.len(), 2);
        let mut announcer = Announcer::default();
        let alarm = |not_after| Alarm::assess(&facts(life(0, not_after), Files::Unchanged), PERCENT, 89 * DAY);
        assert!(announcer.observe(alarm(90), 89 * DAY).is_some());
        assert!(announcer.observe(alarm(90), 89 * DAY + 1).is_none());
        assert!(announcer.observe(alarm(91), 89 * DAY + 2).is_some(), "another certificate");
        assert!(announcer.observe(alarm(91), DAY).is_some(), "the clock was set back");
    }

    #[test]
    fn zero_percent_turns_it_off() {
        for day in [0, 89, 91] {
            assert_eq!(Alarm::assess(&facts(life(0, 90), Files::Unchanged), 0, day * DAY), None);
        }
    }

    proptest! {
        #[test]
        fn no_certificate_is_too_strange(not_before: i64, not_after: i64, now: i64, percent in 0u8..=100) {
            let strange = facts(Validity { not_before, not_after }, Files::Unchanged);
            let alarm = Alarm::assess(&strange, percent, now);
            prop_assert!(percent == 0 || now <= not_after || alarm.is_some());
            prop_assert!(percent != 0 || alarm.is_none());
            if let Some(alarm) = alarm {
                prop_assert!(!alarm.to_string().is_empty());
                Announcer::default().observe(Some(alarm), now);
            }
        }
    }
}
