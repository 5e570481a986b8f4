//! The rotator of the demo: replaces both bundles at a fixed pace and notes when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::findings::STALE_AFTER;
use super::timeline::Timeline;
use crate::rotation::{Rotator, RotatorOptions, Way};

/// Both bundles' history, shared by the rotator and the probers.
#[derive(Debug, Clone, Default)]
pub(super) struct Timelines {
    pub(super) internal: Shared,
    pub(super) rest: Shared,
}

/// A timeline that several tasks use; locked for a look-up or an insertion only.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared(Arc<Mutex<Timeline>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Timeline> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rotations done, by the way in which they were done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Rotations {
    pub(super) in_place: u64,
    pub(super) renamed: u64,
    pub(super) swapped: u64,
}

impl Rotations {
    pub(super) fn total(self) -> u64 {
        self.in_place + self.renamed + self.swapped
    }

    fn add(&mut self, way: Way) {
        match way {
            Way::InPlace => self.in_place += 1,
            Way::RenameBeside | Way::RenameFromOutside => self.renamed += 1,
            Way::SymlinkSwap => self.swapped += 1,
        }
    }
}

/// Options under which processes still accept each other even when one is stale, however fast the rotation: staleness
/// is a finding of its own, and a failed handshake is to mean something else.
pub(super) fn options(every: Duration) -> RotatorOptions {
    let steps = (2 * STALE_AFTER).as_millis().div_ceil(every.as_millis().max(1));
    let window = usize::try_from(steps).unwrap_or(usize::MAX).max(RotatorOptions::default().window);
    let ca_every = RotatorOptions::default().ca_every.max(window as u64);
    RotatorOptions { window, ca_every, steps_per_way: STEPS_PER_WAY, ..RotatorOptions::default() }
}

/// Rotates every `every` until `stop`; returns the rotator for what is on disk.
pub(super) async fn rotate(
    mut rotator: Rotator,
    every: Duration,
    timelines: Timelines,
    done: watch::Sender<Rotations>,
    stop: CancellationToken,
) -> anyhow::Result<Rotator> {
    let mut ticks = interval_at(tokio::time::Instant::now() + every, every);
    // After a stall no burst: that would be another experiment.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let (internal, rest);
        (rotator, (internal, rest)) =
            spawn_blocking(move || rotator.prepare().map(|coming| (rotator, coming))).await??;
        tokio::select! {
            () = stop.cancelled() => return Ok(rotator),
            _ = ticks.tick() => {}
        }
        // Before the files are: a probe may see them first when this process gets no time.
        timelines.internal.lock().announced(internal);
        timelines.rest.lock().announced(rest);
        let rotation;
        (rotator, rotation) = spawn_blocking(move || rotator.rotate().map(|rotation| (rotator, rotation))).await??;
        timelines.internal.lock().replaced(rotation.internal.fingerprint, rotation.internal.at);
        timelines.rest.lock().replaced(rotation.rest.fingerprint, rotation.rest.at);
        done.send_modify(|rotations| rotations.add(rotation.way));
    }
}

/// The timelines of what is on disk before the first rotation.
pub(super) fn begin(rotator: &Rotator, now: Instant) -> Timelines {
    let timelines = Timelines::default();
    let (internal, rest) = rotator.on_disk();
    timelines.internal.lock().replaced(internal.to_owned(), now);
    timelines.rest.lock().replaced(rest.to_owned(), now);
    timelines
}

/// Two, so that each way also follows itself; a short demo still sees all of them.
const STEPS_PER_WAY: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_may_be_stale_for_longer_than_is_found_fault_with() {
        for millis in [100, 500, 1_000, 60_000] {
            let every = Duration::from_millis(millis);
            let options = options(every);
            assert!(every * u32::try_from(options.window).unwrap_or(u32::MAX) >= 2 * STALE_AFTER, "{every:?}");
            assert!(options.ca_every >= options.window as u64, "{every:?}");
        }
    }
}
