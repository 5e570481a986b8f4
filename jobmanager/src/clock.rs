//! The two clocks a decision may need, read once per event and passed down.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For time limits: never jumps.
    pub instant: Instant,
    /// For people: milliseconds since 1970 UTC by the machine's clock.
    pub unix_ms: i64,
}

impl Now {
    /// The present moment.
    pub fn read() -> Self {
        // A machine whose clock stands before 1970 shows 0.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), unix_ms: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX) }
    }
}
