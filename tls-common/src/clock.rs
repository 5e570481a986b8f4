//! Two clocks: wall time for people, a monotonic one for differences.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;

/// Milliseconds since the Unix epoch, for status and logs only: it may jump.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Timers further away (ten years) are as good as none; and so no option can make the clock overflow.
const FARTHEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// `now` and `by`, at most ten years on.
pub(crate) fn later(now: tokio::time::Instant, by: Duration) -> tokio::time::Instant {
    now + by.min(FARTHEST)
}

/// `now` and `by`, at most ten years on.
pub(crate) fn unix_after(now: UnixTime, by: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + by.min(FARTHEST))
}

/// Milliseconds since this process first asked, at least 1, so that 0 can stand for "never".
pub(crate) fn monotonic_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}
