//! [`FileWatchService`]: one watcher thread per process, any number of registered bundles.

use super::backend::Backend;
use super::hops;
use notify::event::{AccessKind, AccessMode, Event, EventKind};
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// What a bundle is told. Calls come from the watcher's own thread: mark something dirty and return. A listener that
/// panics is logged and takes nobody along.
pub trait FileWatchListener: Send + Sync {
    /// A directory that matters to this bundle is now watched; what happened to it before has told nobody.
    fn on_watch_started(&self, directory: &Path);
    /// Something appeared in a watched directory, a rename onto a name included.
    fn on_created(&self, path: &Path);
    /// Something vanished from a watched directory, or the directory itself did.
    fn on_deleted(&self, path: &Path);
    /// Something was written, its attributes changed, or events were lost (then `path` is empty).
    fn on_modified(&self, path: &Path);
}

/// The singleton. Registering is cheap; the thread starts with the first registration.
#[derive(Debug)]
pub struct FileWatchService {
    // Never held while a listener runs, and never taken by the notify thread while it is held over a call into notify:
    // notify answers `watch()` from that same thread.
    bundles: Mutex<HashMap<u64, Registration>>,
    watcher: Mutex<WatcherState>,
    restarts: AtomicU64,
}

struct Registration {
    listener: Weak<dyn FileWatchListener>,
    paths: Vec<PathBuf>,
    directories: BTreeSet<PathBuf>,
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration").field("directories", &self.directories).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct WatcherState {
    backend: Option<Backend>,
    /// What the backend watches: the path it was given, and the directory that had this path then.
    watched: HashMap<PathBuf, DirectoryId>,
    /// A watcher has run before, so that the next one is a restart.
    ran: bool,
    /// No watcher could be started, and this was logged.
    start_failed: bool,
    next_id: u64,
}

/// Device and inode: a path may name another directory than before.
type DirectoryId = (u64, u64);

/// Keeps a registration alive; dropping it unregisters.
#[derive(Debug)]
pub struct WatchHandle {
    id: u64,
}

impl FileWatchService {
    /// The one service of this process.
    pub fn global() -> &'static Self {
        static SERVICE: OnceLock<FileWatchService> = OnceLock::new();
        SERVICE.get_or_init(|| Self {
            bundles: Mutex::default(),
            watcher: Mutex::default(),
            restarts: AtomicU64::new(0),
        })
    }

    /// Watches every directory that can change what `paths` name, and tells `listener`.
    ///
    /// Blocking (a round trip to the watcher's thread). A directory that cannot be watched is logged and tried again at
    /// each [`WatchHandle::rearm`]; the caller's own poll covers it meanwhile.
    pub fn register(&'static self, paths: Vec<PathBuf>, listener: Weak<dyn FileWatchListener>) -> WatchHandle {
        let id = {
            let mut state = lock(&self.watcher);
            state.next_id += 1;
            state.next_id
        };
        let registration = Registration { listener, paths, directories: BTreeSet::new() };
        lock(&self.bundles).insert(id, registration);
        let handle = WatchHandle { id };
        handle.rearm();
        handle
    }

    /// How many bundles are registered.
    pub fn registered(&self) -> usize {
        lock(&self.bundles).len()
    }

    /// How often the watcher died and a new one took over.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    fn rearm(&self, id: u64) {
        // Held throughout: between another bundle's unwatch and our watch a directory would be lost.
        let mut state = lock(&self.watcher);
        let ids = match self.ensure_running(&mut state) {
            Running::No => return,
            Running::Still => vec![id],
            // It knows of no bundle yet, and the others may not come by for a long time.
            Running::Fresh => lock(&self.bundles).keys().copied().collect(),
        };
        let started: Vec<_> = ids.into_iter().flat_map(|id| self.arm(&mut state, id)).collect();
        drop(state);
        for (listener, directory) in started {
            tell(&*listener, |listener| listener.on_watch_started(&directory));
        }
    }

    /// Sees whether the watcher has died, and starts one if there is none.
    fn ensure_running(&self, state: &mut WatcherState) -> Running {
        if state.backend.as_ref().is_some_and(Backend::is_alive) {
            return Running::Still;
        }
        if state.backend.take().is_some() {
            tracing::error!("the file watcher has died; changes are found by polling until a new one runs");
            state.watched.clear();
            lock(&self.bundles).values_mut().for_each(|bundle| bundle.directories.clear());
        }
        match Backend::start(|event| Self::global().dispatch(&event)) {
            Ok(backend) => state.backend = Some(backend),
            Err(error) => {
                if !std::mem::replace(&mut state.start_failed, true) {
                    tracing::warn!(%error, "no file watcher (inotify limit?); changes are found by polling only");
                }
                return Running::No;
            }
        }
        state.start_failed = false;
        if std::mem::replace(&mut state.ran, true) {
            let restarts = self.restarts.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::info!(restarts, "a new file watcher runs");
        }
        Running::Fresh
    }

    /// Watches what one bundle needs now. Returns whom to tell of which directory whose watch has only begun.
    fn arm(&self, state: &mut WatcherState, id: u64) -> Vec<(Arc<dyn FileWatchListener>, PathBuf)> {
        let Some((paths, before)) =
            lock(&self.bundles).get(&id).map(|bundle| (bundle.paths.clone(), bundle.directories.clone()))
        else {
            return Vec::new();
        };
        let resolve = || paths.iter().flat_map(|path| hops::watched_directories(path)).collect();
        let mut candidates = before.clone();
        let mut replaced = BTreeSet::new();
        let watched = hops::arm(resolve, |directory| {
            candidates.insert(directory.to_owned());
            if state.is_another(directory) {
                state.unwatch(directory);
                replaced.insert(directory.to_owned());
            }
            state.watch(directory)
        });
        let (orphans, started) = {
            let mut bundles = lock(&self.bundles);
            if let Some(bundle) = bundles.get_mut(&id) {
                bundle.directories.clone_from(&watched);
            }
            let ours = watched.difference(&before).map(|directory| (id, directory));
            // The last events of a directory that was replaced went with its watch, for every bundle in it.
            let everyones = replaced.iter().flat_map(|directory| {
                let concerned = bundles.iter().filter(|(_, bundle)| bundle.directories.contains(directory));
                concerned.map(move |(id, _)| (*id, directory))
            });
            let started: BTreeSet<(u64, &PathBuf)> = ours.chain(everyones).collect();
            let listener = |id| bundles.get(&id).and_then(|bundle| bundle.listener.upgrade());
            let started: Vec<_> =
                started.into_iter().filter_map(|(id, directory)| Some((listener(id)?, directory.clone()))).collect();
            (unused(&bundles, candidates.iter()), started)
        };
        orphans.iter().for_each(|directory| state.unwatch(directory));
        started
    }

    fn unregister(&self, id: u64) {
        let mut state = lock(&self.watcher);
        let orphans = {
            let mut bundles = lock(&self.bundles);
            let Some(gone) = bundles.remove(&id) else { return };
            unused(&bundles, gone.directories.iter())
        };
        orphans.iter().for_each(|directory| state.unwatch(directory));
    }

    fn dispatch(&self, event: &Event) {
        if event.need_rescan() {
            return self.events_were_lost();
        }
        let Some(change) = Change::of(event.kind) else { return };
        for path in &event.paths {
            let listeners: Vec<_> = lock(&self.bundles)
                .values()
                .filter(|bundle| concerns(&bundle.directories, path))
                .filter_map(|bundle| bundle.listener.upgrade())
                .collect();
            for listener in listeners {
                tell(&*listener, |listener| match change {
                    Change::Created => listener.on_created(path),
                    Change::Deleted => listener.on_deleted(path),
                    Change::Modified => listener.on_modified(path),
                });
            }
        }
    }

    fn events_were_lost(&self) {
        tracing::warn!("file events were lost (queue overflow); every bundle is checked");
        let listeners: Vec<_> = lock(&self.bundles).values().filter_map(|bundle| bundle.listener.upgrade()).collect();
        for listener in listeners {
            tell(&*listener, |listener| listener.on_modified(Path::new("")));
        }
    }
}

impl WatchHandle {
    /// Resolves every symlink hop again and watches what is new. Blocking; not to be called from a listener.
    pub fn rearm(&self) {
        FileWatchService::global().rearm(self.id);
    }
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        FileWatchService::global().unregister(self.id);
    }
}

impl WatcherState {
    /// Whether `directory` is no longer the one that is watched under this path. Its watch went along with the other.
    fn is_another(&self, directory: &Path) -> bool {
        self.watched.get(directory).is_some_and(|known| directory_id(directory).is_some_and(|now| now != *known))
    }

    /// Watching again is how a directory that was deleted and made anew is found: inotify ties a watch to the inode,
    /// and adding an existing watch is a cheap no-op.
    fn watch(&mut self, directory: &Path) -> bool {
        let Some(backend) = &mut self.backend else { return false };
        match backend.watch(directory) {
            Ok(()) => {
                if let Some(id) = directory_id(directory) {
                    self.watched.insert(directory.to_owned(), id);
                }
                true
            }
            Err(error) => {
                tracing::debug!(directory = %directory.display(), %error, "cannot watch, polling covers it");
                false
            }
        }
    }

    fn unwatch(&mut self, directory: &Path) {
        self.watched.remove(directory);
        if let Some(backend) = &mut self.backend {
            // An error means the directory is gone, and its watch with it.
            let _ = backend.unwatch(directory);
        }
    }
}

/// Whether there is a watcher.
enum Running {
    No,
    Still,
    Fresh,
}

#[derive(Clone, Copy)]
enum Change {
    Created,
    Deleted,
    Modified,
}

impl Change {
    /// `None` for events that change nothing: our own reading opens files too.
    fn of(kind: EventKind) -> Option<Self> {
        match kind {
            EventKind::Create(_) => Some(Self::Created),
            EventKind::Remove(_) => Some(Self::Deleted),
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Self::Modified),
            EventKind::Access(_) => None,
            EventKind::Modify(_) | EventKind::Any | EventKind::Other => Some(Self::Modified),
        }
    }
}

/// Calls a listener. It is somebody else's code on the thread that serves all: its panic stays with it.
fn tell(listener: &dyn FileWatchListener, call: impl FnOnce(&dyn FileWatchListener)) {
    if catch_unwind(AssertUnwindSafe(|| call(listener))).is_err() {
        tracing::error!("a file watch listener panicked; its bundle may have missed a change until its next poll");
    }
}

fn directory_id(directory: &Path) -> Option<DirectoryId> {
    std::fs::metadata(directory).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn concerns(directories: &BTreeSet<PathBuf>, path: &Path) -> bool {
    directories.contains(path) || path.parent().is_some_and(|parent| directories.contains(parent))
}

fn unused<'a>(bundles: &HashMap<u64, Registration>, candidates: impl Iterator<Item = &'a PathBuf>) -> Vec<PathBuf> {
    candidates.filter(|dir| !bundles.values().any(|bundle| bundle.directories.contains(*dir))).cloned().collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Only so that a listener can be handed over as a weak trait object.
pub(crate) fn weak_listener<L: FileWatchListener + 'static>(listener: &Arc<L>) -> Weak<dyn FileWatchListener> {
    let weak: Weak<L> = Arc::downgrade(listener);
    weak
}
