//! Waiting for something in another process that sends no event.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// No test passes or fails by this bound on a machine that works: it ends one that would hang.
const GIVE_UP: Duration = Duration::from_secs(120);

/// Looks until `check` has what is awaited. Until then `check` says what it sees instead.
///
/// # Panics
/// It never comes; the message has `what` was awaited and what was seen last.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + GIVE_UP;
    loop {
        match check().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "never came: {what}; last seen: {seen}"),
        }
        sleep(POLL).await;
    }
}

/// What `work` comes to.
///
/// # Panics
/// It does not come to an end.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(GIVE_UP, work).await.unwrap_or_else(|_| panic!("does not end: {what}"))
}
