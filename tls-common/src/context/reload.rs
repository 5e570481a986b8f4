//! The reload loop of one context: hint, quiet period, digests, build, canary, publish. Never on a connection's path.

use super::{ReloadOptions, Shared, blocking, hex};
use crate::clock;
use crate::error::MaterialError;
use crate::generation::Generation;
use crate::read::{Digests, newest_change_ms, read_consistently};
use crate::watch::debounce::Debounce;
use crate::watch::{FileWatchService, WatchHandle, weak_listener};
use rand::Rng as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Bounds of the poll interval: no busy loop, and no clock that overflows.
const SHORTEST_POLL: Duration = Duration::from_millis(10);
const LONGEST_POLL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// First and longest pause before a failed reload looks at the files again without an event.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// What one look at the files came to.
enum Outcome {
    Unchanged(Digests),
    Changed(Box<Generation>, Digests),
}

/// Starts the loop; it ends when `stop` is cancelled.
pub(super) fn spawn(shared: &Arc<Shared>, stop: CancellationToken) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let Some(options) = shared.reload.clone() else { return };
        let watch = start_watching(&shared).await;
        tokio::select! {
            () = stop.cancelled() => {}
            () = run(&shared, &options, &watch) => {}
        }
        // Unregistering waits for the watcher's thread.
        tokio::task::spawn_blocking(move || drop(watch));
    });
}

async fn run(shared: &Arc<Shared>, options: &ReloadOptions, watch: &Option<Arc<WatchHandle>>) {
    let mut debounce = Debounce::new(options.quiet_period, options.max_delay);
    let mut retry_pause = RETRY_FIRST;
    let poll_interval = options.poll_interval.clamp(SHORTEST_POLL, LONGEST_POLL);
    let mut next_look = Instant::now() + jittered(poll_interval);
    loop {
        let overlap_ends = shared.current.load().overlap_ends();
        if overlap_ends.is_some_and(|end| end <= Instant::now()) {
            end_overlap(shared).await;
            continue;
        }
        // Nothing breaks into a burst: half of a change would be read. It ends by itself.
        let due = debounce.due().unwrap_or(next_look);
        tokio::select! {
            // What is due comes first, or a storm of marks could put it off.
            biased;
            () = sleep_until(overlap_ends.unwrap_or(due)), if overlap_ends.is_some_and(|end| end < due) => continue,
            () = sleep_until(due) => {}
            () = shared.dirty.marked() => {
                debounce.mark(Instant::now());
                continue;
            }
        }
        let burst = if debounce.due().is_some() { "event" } else { "poll" };
        let source = shared.dirty.take_asked().unwrap_or(burst);
        debounce.settle();
        let marks = shared.dirty.marks();
        match look(shared, watch).await {
            Ok(()) => {
                retry_pause = RETRY_FIRST;
                next_look = Instant::now() + jittered(poll_interval);
            }
            Err(error) => {
                note_failure(shared, &error);
                next_look = Instant::now() + retry_pause.min(poll_interval);
                retry_pause = (retry_pause * 2).min(RETRY_LONGEST);
            }
        }
        {
            let mut progress = shared.progress();
            progress.checks += 1;
            progress.last_look = Some((source, clock::wall_ms()));
        }
        // A change that came while we looked has left its mark, and `marked()` will return at once; saying so here
        // as well keeps the quiet period counted from now.
        if shared.dirty.marks() != marks {
            debounce.mark(Instant::now());
        }
    }
}

async fn start_watching(shared: &Arc<Shared>) -> Option<Arc<WatchHandle>> {
    let paths = shared.options.paths();
    let listener = weak_listener(&shared.dirty);
    let handle = tokio::task::spawn_blocking(move || FileWatchService::global().register(paths, listener)).await;
    handle.ok().map(Arc::new)
}

/// Publishes the current generation without what was before it and whose time is over. Files have no part in it.
async fn end_overlap(shared: &Arc<Shared>) {
    let before = shared.current.load_full();
    let (ended, builder) = (Arc::clone(&before), Arc::clone(shared));
    let after = blocking(&shared.options.name, move || ended.after_overlap(&builder.options, ended.number() + 1)).await;
    match after {
        Ok(generation) => {
            let digests = shared.progress().digests.clone();
            let number = generation.number();
            shared.publish(generation, digests, clock::monotonic_ms());
            tracing::info!(bundle = %shared.options.name, generation = number, "overlap over: what was before counts no more");
        }
        // The runtime shuts down. Not at once again, whatever it is.
        Err(error) => {
            tracing::error!(bundle = %shared.options.name, %error, "the overlap's end could not be published");
            sleep_until(Instant::now() + RETRY_FIRST).await;
        }
    }
}

/// One look: re-arm the watches, read, compare, and publish what changed.
async fn look(shared: &Arc<Shared>, watch: &Option<Arc<WatchHandle>>) -> Result<(), MaterialError> {
    let (marked_ms, started_ms) = (shared.dirty.begin(), clock::monotonic_ms());
    let (builder, watch) = (Arc::clone(shared), watch.clone());
    let outcome = blocking(&shared.options.name, move || {
        if let Some(watch) = watch {
            watch.rearm();
        }
        build_if_changed(&builder)
    })
    .await;
    match outcome {
        Ok(Outcome::Unchanged(digests)) => {
            let mut progress = shared.progress();
            progress.digests = digests;
            progress.looked_ms = started_ms;
            if progress.last_error.take().is_some() {
                tracing::info!(bundle = %shared.options.name, "files are back to what is served");
            }
            Ok(())
        }
        Ok(Outcome::Changed(generation, digests)) => {
            let seen_at_ms = marked_ms.unwrap_or_else(|| unseen_change_ms(shared));
            {
                let mut progress = shared.progress();
                progress.looked_ms = started_ms;
                progress.last_error = None;
            }
            shared.publish(*generation, digests, seen_at_ms);
            let generation = shared.current.load();
            tracing::info!(
                bundle = %shared.options.name,
                generation = generation.number(),
                fingerprint = generation.fingerprint().map(|fingerprint| hex(fingerprint.as_bytes())),
                not_after = generation.not_after(),
                took_ms = clock::monotonic_ms().saturating_sub(seen_at_ms),
                "new generation"
            );
            Ok(())
        }
        Err(error) => {
            shared.dirty.give_back(marked_ms.unwrap_or(started_ms));
            Err(error)
        }
    }
}

/// When a change happened that nobody told us of: as the files say, but not before the last look, which did not see it.
fn unseen_change_ms(shared: &Shared) -> u64 {
    let now_ms = clock::monotonic_ms();
    let ago_ms = newest_change_ms(&shared.options).map_or(0, |changed| clock::wall_ms().saturating_sub(changed));
    now_ms.saturating_sub(u64::try_from(ago_ms).unwrap_or(0)).max(shared.progress().looked_ms)
}

fn build_if_changed(shared: &Shared) -> Result<Outcome, MaterialError> {
    let (files, digests) = read_consistently(&shared.options)?;
    if digests == shared.progress().digests {
        return Ok(Outcome::Unchanged(digests));
    }
    let previous = shared.current.load_full();
    let number = previous.number() + 1;
    let generation = Generation::build(&shared.options, &files, number, Some(&previous))?;
    Ok(Outcome::Changed(Box::new(generation), digests))
}

/// Counts, and logs each distinct reason once: a bad file stays bad for many polls.
fn note_failure(shared: &Shared, error: &MaterialError) {
    let reason = error.to_string();
    let mut progress = shared.progress();
    progress.failed_reloads += 1;
    if progress.last_error.as_deref() != Some(reason.as_str()) {
        tracing::warn!(bundle = %shared.options.name, %reason, "reload failed; the last good generation goes on serving");
        progress.last_error = Some(reason);
    }
}

fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(rand::rng().random_range(1.0..1.1))
}
