//! Rotation during a measurement.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::rotation::Rotator;

/// Rotates every `every`, if at all, until `stop`. Returns the rotator, and when the files were in place, Unix milliseconds.
pub(super) async fn spin(
    mut rotator: Rotator,
    every: Option<Duration>,
    stop: CancellationToken,
) -> anyhow::Result<(Rotator, Vec<i64>)> {
    let mut marks = Vec::new();
    let Some(every) = every else {
        stop.cancelled().await;
        return Ok((rotator, marks));
    };
    let mut ticks = interval_at(Instant::now() + every, every);
    // After a stall no burst: that would be another experiment.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        rotator = spawn_blocking(move || rotator.prepare().map(|_| rotator)).await??;
        tokio::select! {
            () = stop.cancelled() => return Ok((rotator, marks)),
            _ = ticks.tick() => {}
        }
        rotator = spawn_blocking(move || rotator.rotate().map(|_| rotator)).await??;
        marks.push(now_ms());
    }
}

/// Unix milliseconds.
fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
