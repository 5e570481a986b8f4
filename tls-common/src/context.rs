//! [`TlsContext`]: the handle from which every connection takes the current [`Generation`], and the loop behind it.

mod dirty;
mod expiry;
mod reload;

use crate::clock;
use crate::error::MaterialError;
use crate::generation::Generation;
use crate::options::BundleOptions;
use crate::read::{Digests, read_consistently};
use crate::watch::FileWatchService;
use arc_swap::ArcSwap;
use dirty::Dirty;
use expiry::{Alarm, Facts, Files};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often failed handshakes make us look at the files at most.
const SUSPICION_PAUSE: Duration = Duration::from_secs(5);

/// How many past generations are remembered for the "last byte under an old certificate" figure.
const REMEMBERED_GENERATIONS: usize = 1024;

/// When and how files are looked at again.
#[derive(Clone, Debug)]
pub struct ReloadOptions {
    /// No event for this long ends a burst of changes. Default 300 ms.
    pub quiet_period: Duration,
    /// A burst that never ends is read after this long anyway. Default 3 s.
    pub max_delay: Duration,
    /// Digests are compared this often without any event (jittered by up to a tenth). Default 10 s.
    pub poll_interval: Duration,
}

impl Default for ReloadOptions {
    fn default() -> Self {
        Self {
            quiet_period: Duration::from_millis(300),
            max_delay: Duration::from_secs(3),
            poll_interval: Duration::from_secs(10),
        }
    }
}

/// One bundle of one process. Clones share the same generations; dropping the last one stops watching.
#[derive(Clone, Debug)]
pub struct TlsContext {
    shared: Arc<Shared>,
    _stop_on_last_drop: Arc<DropGuard>,
}

/// What the handle and the reload loop share.
#[derive(Debug)]
struct Shared {
    options: BundleOptions,
    reload: Option<ReloadOptions>,
    current: ArcSwap<Generation>,
    published: watch::Sender<u64>,
    dirty: Arc<Dirty>,
    /// When a failed handshake last made us look.
    suspected: Mutex<Option<Instant>>,
    progress: Mutex<Progress>,
}

/// What the status page shows beside the generation itself.
#[derive(Debug)]
struct Progress {
    digests: Digests,
    /// What made us look at the files last, and when that was over, in Unix milliseconds.
    last_look: Option<(&'static str, i64)>,
    /// When the last look that could read the files began, on the monotonic clock.
    looked_ms: u64,
    last_error: Option<String>,
    failed_reloads: u64,
    reloads: u64,
    checks: u64,
    slowest_reload_ms: u64,
    /// (generation, monotonic time at which the change that made it was first seen), oldest first.
    seen: VecDeque<(u64, u64)>,
}

/// A bundle's state for people and machines. What [`crate::EndpointStatus`] says of other releases holds here too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BundleStatus {
    /// The bundle's name, e.g. `internal`.
    pub bundle: String,
    /// Number of the generation that new connections get, from 1.
    pub generation: u64,
    /// SHA-256 of our own leaf certificate, lower-case hex; `None` without an identity.
    pub fingerprint: Option<String>,
    /// Our leaf's end of validity, seconds since the epoch.
    pub not_after: Option<i64>,
    /// Our leaf's start of validity, seconds since the epoch.
    pub not_before: Option<i64>,
    /// Seconds until our leaf's end of validity, as of this snapshot; negative after it.
    #[serde(default)]
    pub expires_in: Option<i64>,
    /// When the first certificate of the truststore ends, seconds since the epoch; `None` without one.
    #[serde(default)]
    pub trust_not_after: Option<i64>,
    /// Set while our leaf, or the last certificate of the truststore to end, is near its end or past it: which, when,
    /// and what to do. See [`BundleOptions::expiry_alarm_percent`].
    #[serde(default)]
    pub alarm: Option<String>,
    /// SHA-256 over the files last read, password files left out, lower-case hex. Hosts with equal files have equal
    /// digests, wherever the files lie.
    #[serde(default)]
    pub digest: String,
    /// Our leaf's subject.
    pub subject: Option<String>,
    /// When the current generation was published, milliseconds since the epoch.
    pub last_reload: i64,
    /// Why the files on disk are not what is served; `None` while they are.
    pub last_error: Option<String>,
    /// Reloads that kept the last good generation.
    pub failed_reloads: u64,
    /// Generations published after the first.
    pub reloads: u64,
    /// How often the files were read and compared, whatever came of it: it grows while anybody still looks.
    #[serde(default)]
    pub checks: u64,
    /// How often this process's file watcher died and a new one took over.
    #[serde(default)]
    pub watcher_restarts: u64,
    /// Whether changes are looked for at all.
    pub watching: bool,
    /// When the files were last looked at after the start, milliseconds since the epoch.
    #[serde(default)]
    pub last_look: Option<i64>,
    /// What made us look then: `event` (the file system reported something), `poll` (it was time to), `manual`
    /// (SIGHUP, an admin call) or `handshake` (one failed in a way that stale files would explain).
    #[serde(default)]
    pub last_look_source: Option<String>,
}

impl TlsContext {
    /// Loads the first generation and, if `reload` is given, follows the files from then on.
    ///
    /// # Errors
    /// Anything that keeps the first generation from being built. Later failures keep the last good generation.
    pub async fn load(options: BundleOptions, reload: Option<ReloadOptions>) -> Result<Self, MaterialError> {
        let stop = CancellationToken::new();
        let (generation, digests) = {
            let work = options.clone();
            blocking(&options.name, move || {
                let (files, digests) = read_consistently(&work)?;
                let generation = Generation::build(&work, &files, 1, None)?;
                Ok((generation, digests))
            })
            .await?
        };
        let shared = Arc::new(Shared {
            options,
            reload,
            current: ArcSwap::from_pointee(generation),
            published: watch::Sender::new(1),
            dirty: Arc::default(),
            suspected: Mutex::default(),
            progress: Mutex::new(Progress {
                digests,
                last_look: None,
                looked_ms: clock::monotonic_ms(),
                last_error: None,
                failed_reloads: 0,
                reloads: 0,
                checks: 0,
                slowest_reload_ms: 0,
                seen: VecDeque::from([(1, clock::monotonic_ms())]),
            }),
        });
        if shared.reload.is_some() {
            reload::spawn(&shared, stop.clone());
        }
        expiry::spawn(&shared, stop.clone());
        Ok(Self { shared, _stop_on_last_drop: Arc::new(stop.drop_guard()) })
    }

    /// The generation new connections are made under. Never blocks, never reads a file.
    pub fn current(&self) -> Arc<Generation> {
        self.shared.current.load_full()
    }

    /// The current generation's number and every later one.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.published.subscribe()
    }

    /// Looks at the files now, through the same path as an event (SIGHUP, admin call). Without reload nothing happens.
    pub fn reload_now(&self) {
        self.shared.dirty.ask("manual");
    }

    /// Looks at the files now, because a handshake failed in a way that stale files of ours would explain. Whoever makes
    /// handshakes fail could ask for it again and again, so that at most one look in [`SUSPICION_PAUSE`] is made.
    pub(crate) fn suspect(&self) {
        let mut last = self.shared.suspected.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= SUSPICION_PAUSE) {
            *last = Some(Instant::now());
            self.shared.dirty.ask("handshake");
        }
    }

    /// The options this context was loaded with.
    pub fn options(&self) -> &BundleOptions {
        &self.shared.options
    }

    /// A snapshot for status pages.
    pub fn status(&self) -> BundleStatus {
        let now = clock::wall_ms() / 1000;
        let alarm = self.shared.alarm(now).map(|alarm| alarm.to_string());
        let secrets = self.shared.options.password_files();
        let progress = self.shared.progress();
        // Not before: a generation is published under the same lock.
        let generation = self.current();
        BundleStatus {
            bundle: self.shared.options.name.clone(),
            generation: generation.number(),
            fingerprint: generation.fingerprint().map(|fingerprint| hex(fingerprint.as_bytes())),
            not_after: generation.not_after(),
            not_before: generation.not_before(),
            expires_in: generation.not_after().map(|not_after| not_after.saturating_sub(now)),
            trust_not_after: generation.trust_ends().map(|ends| ends.first.not_after),
            alarm,
            subject: generation.subject().map(str::to_owned),
            digest: hex(&progress.digests.combined(&secrets)),
            last_reload: generation.loaded_at_ms(),
            last_error: progress.last_error.clone(),
            failed_reloads: progress.failed_reloads,
            reloads: progress.reloads,
            checks: progress.checks,
            watcher_restarts: FileWatchService::global().restarts(),
            watching: self.shared.reload.is_some(),
            last_look: progress.last_look.map(|(_, at)| at),
            last_look_source: progress.last_look.map(|(source, _)| source.to_owned()),
        }
    }

    /// The longest time, in milliseconds, from the first sign of a change to the publication of its generation.
    pub(crate) fn slowest_reload_ms(&self) -> u64 {
        self.shared.progress().slowest_reload_ms
    }

    /// When the change that replaced `generation` was first seen, on the monotonic clock; `None` while it is current.
    pub(crate) fn replaced_at_ms(&self, generation: u64) -> Option<u64> {
        let progress = self.shared.progress();
        progress.seen.iter().find(|(number, _)| *number > generation).map(|(_, seen)| *seen)
    }
}

impl Shared {
    /// Whether a certificate is near its end at `now` (Unix seconds).
    fn alarm(&self, now: i64) -> Option<Alarm> {
        let generation = self.current.load();
        let files = match (&self.reload, &self.progress().last_error) {
            (None, _) => Files::NotWatched,
            (Some(_), None) => Files::Unchanged,
            (Some(_), Some(_)) => Files::Refused,
        };
        let facts = Facts { own: generation.validity(), trust: generation.trust_ends().map(|ends| ends.last), files };
        Alarm::assess(&facts, self.options.expiry_alarm_percent, now)
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, generation: Generation, digests: Digests, seen_at_ms: u64) {
        let number = generation.number();
        // Under one lock, so that no status has one without the other.
        let mut progress = self.progress();
        progress.digests = digests;
        progress.reloads += 1;
        progress.seen.push_back((number, seen_at_ms));
        if progress.seen.len() > REMEMBERED_GENERATIONS {
            progress.seen.pop_front();
        }
        self.current.store(Arc::new(generation));
        let took_ms = clock::monotonic_ms().saturating_sub(seen_at_ms);
        progress.slowest_reload_ms = progress.slowest_reload_ms.max(took_ms);
        drop(progress);
        self.published.send_replace(number);
    }
}

/// Lower-case hex without colons.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs file and key work on a blocking thread.
async fn blocking<T: Send + 'static>(
    bundle: &str,
    work: impl FnOnce() -> Result<T, MaterialError> + Send + 'static,
) -> Result<T, MaterialError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|stopped| {
        // Only a runtime that shuts down, or a bug: a parser that panicked must not take the last good generation along.
        Err(MaterialError::Options { bundle: bundle.to_owned(), reason: format!("loading was interrupted: {stopped}") })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{Password, StoreOptions};

    #[tokio::test(start_paused = true)]
    async fn failed_handshakes_make_us_look_no_more_often_than_the_pause_allows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.pem");
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&path, own.cert.pem()).unwrap();
        let mut options = BundleOptions::new("test");
        options.truststore = Some(StoreOptions::new(&path, Password::None));
        let context = TlsContext::load(options, None).await.unwrap();
        let asked = || context.shared.dirty.take_asked();
        context.suspect();
        assert_eq!(asked(), Some("handshake"));
        context.suspect();
        assert_eq!(asked(), None);
        tokio::time::advance(SUSPICION_PAUSE).await;
        context.suspect();
        assert_eq!(asked(), Some("handshake"));
    }
}
