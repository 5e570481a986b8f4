//! The way out of a connection: it is told to go, and cut off if it does not.
//!
//! This is looked at with every read and write, so looking takes no lock.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Why a connection should finish and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainReason {
    /// A newer generation is there and the policy is to move everything to it.
    Renewed,
    /// The peer's certificate would not be accepted any more; the sentence says why.
    Untrusted(String),
    /// The connection reached its own or its peer certificate's end of life.
    MaxAge,
    /// This process is stopping.
    Shutdown,
}

/// What a connection was told. Those who serve it wait here.
#[derive(Debug, Default)]
pub(crate) struct Departure {
    /// Why it should go, and when it is cut at the latest.
    told: Mutex<Option<(DrainReason, Instant)>>,
    news: Notify,
    cut: AtomicBool,
    /// By [`End`].
    waiting: [AtomicWaker; 2],
}

/// Who hears that a connection was cut: the two halves of a split one are polled by different tasks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Read,
    Write,
}

impl Departure {
    /// Tells it to go. The first reason stays, except that a connection which was only to be renewed may turn out worse,
    /// and that nothing is worse than not to be trusted, which gives nobody a longer time than there was. Returns whether
    /// this is the reason now.
    pub(crate) fn tell(&self, reason: DrainReason, cut_at: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let untrusted = matches!(reason, DrainReason::Untrusted(_));
        let (news, cut_at) = match &*told {
            None => (true, cut_at),
            Some((DrainReason::Untrusted(_), _)) => (false, cut_at),
            Some((_, before)) if untrusted && *before > Instant::now() => (true, cut_at.min(*before)),
            Some((DrainReason::Renewed, _)) => (reason != DrainReason::Renewed, cut_at),
            Some(_) => (untrusted, cut_at),
        };
        if news {
            *told = Some((reason, cut_at));
            drop(told);
            self.news.notify_waiters();
        }
        news
    }

    /// Why it was told to go, and when it is cut.
    pub(crate) fn told(&self) -> Option<(DrainReason, Instant)> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first thing it is told, or was told, of which `wanted` makes something.
    pub(crate) async fn once<T>(&self, wanted: impl Fn(DrainReason) -> Option<T>) -> T {
        loop {
            // Made before the look, so that nothing said between the two is missed.
            let news = self.news.notified();
            if let Some(wanted) = self.told().and_then(|(reason, _)| wanted(reason)) {
                return wanted;
            }
            news.await;
        }
    }

    /// Cuts it off. Returns whether it was not yet.
    pub(crate) fn cut(&self) -> bool {
        let first = !self.cut.swap(true, Ordering::AcqRel);
        self.waiting.iter().for_each(AtomicWaker::wake);
        first
    }

    /// Nobody polls the connection any more: what was polled last need not be kept for those who still look at it.
    pub(crate) fn forget_waiting(&self) {
        for end in &self.waiting {
            drop(end.take());
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Ready once it is cut; until then the last who asked for `end` is woken.
    pub(crate) fn poll_cut(&self, end: End, cx: &Context<'_>) -> Poll<()> {
        self.waiting[end as usize].register(cx.waker());
        // After the registration: whoever cuts later finds the waker.
        if self.is_cut() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl DrainReason {
    /// For machines; never changes its meaning: `renewed`, `untrusted`, `max_age`, `shutdown`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Untrusted(_) => "untrusted",
            Self::MaxAge => "max_age",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for DrainReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renewed => f.write_str("a newer certificate generation is in use"),
            Self::Untrusted(why) => write!(f, "the peer is not trusted any more: {why}"),
            Self::MaxAge => f.write_str("the connection or the peer's certificate reached its end of life"),
            Self::Shutdown => f.write_str("this process is stopping"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn untrusted() -> DrainReason {
        DrainReason::Untrusted("revoked".to_owned())
    }

    #[tokio::test]
    async fn the_first_reason_stays_unless_it_was_only_a_renewal_and_each_is_heard_by_who_waits_for_it() {
        let departure = Arc::new(Departure::default());
        let waits = |wanted: DrainReason| {
            let departure = Arc::clone(&departure);
            tokio::spawn(async move { departure.once(|reason| (reason == wanted).then_some(())).await })
        };
        let (renewed, worse) = (waits(DrainReason::Renewed), waits(untrusted()));
        tokio::task::yield_now().await;
        let soon = Instant::now() + Duration::from_secs(3600);
        assert!(departure.told().is_none());
        assert!(departure.tell(DrainReason::Renewed, soon));
        assert!(renewed.await.is_ok() && !worse.is_finished());
        assert!(!departure.tell(DrainReason::Renewed, soon));
        assert!(departure.tell(untrusted(), soon));
        assert!(worse.await.is_ok());
        assert!(!departure.tell(DrainReason::Shutdown, soon));
        assert_eq!(departure.told(), Some((untrusted(), soon)));
        departure.once(Some).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_trusted_any_more_hears_it_whatever_it_was_told_and_gets_no_longer_time() {
        let [sooner, later] = [1, 2].map(|hours| Instant::now() + Duration::from_secs(hours * 3600));
        for before in [DrainReason::Renewed, DrainReason::MaxAge, DrainReason::Shutdown] {
            for (was, gets, is) in [(sooner, later, sooner), (later, sooner, sooner)] {
                let departure = Departure::default();
                assert!(departure.tell(before.clone(), was));
                assert!(departure.tell(untrusted(), gets));
                assert_eq!(departure.told(), Some((untrusted(), is)), "{before}");
            }
        }
        // Except who was on because bytes moved, although the time was over: its last answer takes a moment.
        let departure = Departure::default();
        assert!(departure.tell(DrainReason::Renewed, Instant::now()));
        assert!(departure.tell(untrusted(), later));
        assert_eq!(departure.told(), Some((untrusted(), later)));
    }

    #[tokio::test]
    async fn both_ends_hear_that_they_are_cut_whether_they_wait_or_come_later() {
        let departure = Arc::new(Departure::default());
        let ends = [End::Read, End::Write].map(|end| {
            let departure = Arc::clone(&departure);
            tokio::spawn(async move { poll_fn(|cx| departure.poll_cut(end, cx)).await })
        });
        tokio::task::yield_now().await;
        assert!(ends.iter().all(|end| !end.is_finished()) && !departure.is_cut());
        assert!(departure.cut());
        for end in ends {
            assert!(end.await.is_ok());
        }
        assert!(!departure.cut() && departure.is_cut());
        poll_fn(|cx| departure.poll_cut(End::Read, cx)).await;
    }
}
