//! How much each receiving channel may have under way: an equal share of one budget for the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The budget. Clones share it.
///
/// A channel holds at most its window, and at most its share: the total divided by the channels there are. When many
/// channels appear at once, the older ones still hold their former share until they are read from; what is not there is
/// then not given, except for the minimum that keeps every channel moving. Held bytes are so bounded by the total plus
/// the minimum per channel (plus a payload per channel, because a frame may start with the last byte of credit).
#[derive(Debug, Clone)]
pub(crate) struct CreditPool(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    total: u64,
    window: u64,
    minimum: u64,
    held: AtomicU64,
    channels: AtomicU64,
}

/// What one channel holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Holding {
    pool: CreditPool,
    held: u64,
    /// Whatever the share: no more than this.
    cap: u64,
}

impl CreditPool {
    /// All in bytes: for the process, the most and the least for a channel.
    pub(crate) fn new(total: u64, window: u64, minimum: u64) -> Self {
        let window = window.max(1);
        let minimum = minimum.clamp(1, window);
        Self(Arc::new(Budget { total, window, minimum, held: AtomicU64::new(0), channels: AtomicU64::new(0) }))
    }

    /// Nothing held yet, for one more channel.
    pub(crate) fn open(&self) -> Holding {
        self.0.channels.fetch_add(1, Ordering::Relaxed);
        Holding { pool: self.clone(), held: 0, cap: u64::MAX }
    }

    /// Bytes held by all channels.
    pub(crate) fn held(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    fn share(&self) -> u64 {
        let channels = self.0.channels.load(Ordering::Relaxed).max(1);
        (self.0.total / channels).clamp(self.0.minimum, self.0.window)
    }
}

impl Holding {
    /// Bytes a channel may hold at this moment.
    pub(crate) fn share(&self) -> u64 {
        self.pool.share().min(self.cap.max(self.pool.0.minimum))
    }

    /// From now on the channel holds no more than `bytes`, or the minimum; what it holds beyond is not taken away.
    pub(crate) fn cap(&mut self, bytes: u64) {
        self.cap = bytes;
    }

    /// Takes what is missing to the share, as far as it is there. Returns the bytes taken.
    pub(crate) fn top_up(&mut self) -> u64 {
        let budget = &self.pool.0;
        let wanted = self.share().saturating_sub(self.held);
        let due = budget.minimum.saturating_sub(self.held);
        let grant = |held: u64| wanted.min(budget.total.saturating_sub(held)).max(due);
        let before = budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held + grant(held)));
        let taken = grant(before.unwrap_or_else(|held| held));
        self.held += taken;
        taken
    }

    /// Books bytes that came beyond the credit given.
    pub(crate) fn overdraw(&mut self, bytes: u64) {
        self.held += bytes;
        self.pool.0.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what has been read.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.pool.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.give_back(self.held);
        self.pool.0.channels.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_gets_its_window_while_there_is_room() {
        let pool = CreditPool::new(1000, 100, 10);
        let mut one = pool.open();
        assert_eq!(one.top_up(), 100);
        assert_eq!(one.top_up(), 0);
        one.give_back(30);
        assert_eq!(one.top_up(), 30);
        drop(one);
        assert_eq!(pool.held(), 0);
    }

    #[test]
    fn many_channels_share_equally_and_never_less_than_the_minimum() {
        let pool = CreditPool::new(1000, 100, 10);
        let mut early: Vec<_> = (0..10).map(|_| pool.open()).collect();
        assert_eq!(early.iter_mut().map(Holding::top_up).sum::<u64>(), 1000);
        let mut late: Vec<_> = (0..30).map(|_| pool.open()).collect();
        assert_eq!(late.iter_mut().map(Holding::top_up).sum::<u64>(), 30 * 10, "nothing is left but the minimum");
        for holding in &mut early {
            holding.give_back(100);
            assert!(holding.top_up() >= 10);
        }
        early.iter_mut().chain(&mut late).for_each(|holding| {
            holding.top_up();
        });
        assert!(early.iter().chain(&late).all(|holding| holding.held == 25), "a fortieth each");
        assert_eq!(pool.held(), 1000);
    }

    #[test]
    fn a_capped_channel_gets_no_more_than_its_cap_and_no_less_than_the_minimum() {
        let pool = CreditPool::new(1000, 100, 10);
        let mut one = pool.open();
        assert_eq!(one.top_up(), 100);
        one.cap(40);
        one.give_back(50);
        assert_eq!(one.top_up(), 0, "it still holds more");
        one.give_back(50);
        assert_eq!(one.top_up(), 40);
        one.cap(0);
        one.give_back(40);
        assert_eq!(one.top_up(), 10);
        one.cap(u64::MAX);
        assert_eq!(one.top_up(), 90);
    }

    #[test]
    fn an_overdraft_is_paid_before_more_is_given() {
        let pool = CreditPool::new(1000, 100, 10);
        let mut one = pool.open();
        one.top_up();
        one.overdraw(500);
        one.give_back(450);
        assert_eq!((one.top_up(), pool.held()), (0, 150));
    }
}
