//! [`FileWatchService`]: one watcher thread per process, any number of registered bundles.

use super::hops::watched_directories;
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// What a bundle is told. Calls come from the watcher's own thread: mark something dirty and return.
pub trait FileWatchListener: Send + Sync {
    /// A directory that matters to this bundle is now watched.
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
    watcher: Option<RecommendedWatcher>,
    next_id: u64,
}

/// Keeps a registration alive; dropping it unregisters.
#[derive(Debug)]
pub struct WatchHandle {
    id: u64,
}

impl FileWatchService {
    /// The one service of this process.
    pub fn global() -> &'static Self {
        static SERVICE: OnceLock<FileWatchService> = OnceLock::new();
        SERVICE.get_or_init(|| Self { bundles: Mutex::default(), watcher: Mutex::default() })
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

    fn rearm(&self, id: u64) {
        // Held throughout: between another bundle's unwatch and our watch a directory would be lost.
        let mut state = lock(&self.watcher);
        let Some((paths, listener, before)) = lock(&self.bundles)
            .get(&id)
            .map(|bundle| (bundle.paths.clone(), bundle.listener.clone(), bundle.directories.clone()))
        else {
            return;
        };
        let Some(watcher) = state.started() else { return };
        let wanted: BTreeSet<PathBuf> = paths.iter().flat_map(|path| watched_directories(path)).collect();
        let mut watched = BTreeSet::new();
        for directory in wanted {
            // Watching again is how a directory that was deleted and made anew is found: inotify ties a watch to the
            // inode, and adding an existing watch is a cheap no-op.
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(directory);
                }
                Err(error) => {
                    tracing::debug!(directory = %directory.display(), %error, "cannot watch, polling covers it");
                }
            }
        }
        let orphans = {
            let mut bundles = lock(&self.bundles);
            if let Some(bundle) = bundles.get_mut(&id) {
                bundle.directories.clone_from(&watched);
            }
            unused(&bundles, before.difference(&watched))
        };
        unwatch(watcher, &orphans);
        drop(state);
        if let Some(listener) = listener.upgrade() {
            for directory in watched.difference(&before) {
                listener.on_watch_started(directory);
            }
        }
    }

    fn unregister(&self, id: u64) {
        let mut state = lock(&self.watcher);
        let orphans = {
            let mut bundles = lock(&self.bundles);
            let Some(gone) = bundles.remove(&id) else { return };
            unused(&bundles, gone.directories.iter())
        };
        if let Some(watcher) = &mut state.watcher {
            unwatch(watcher, &orphans);
        }
    }

    fn dispatch(&self, event: notify::Result<notify::Event>) {
        let event = match event {
            Ok(event) if event.need_rescan() => return self.tell_all("events were lost"),
            Ok(event) => event,
            Err(error) => return self.tell_all(&error.to_string()),
        };
        let Some(change) = Change::of(event.kind) else { return };
        for path in &event.paths {
            let listeners: Vec<_> = lock(&self.bundles)
                .values()
                .filter(|bundle| concerns(&bundle.directories, path))
                .filter_map(|bundle| bundle.listener.upgrade())
                .collect();
            for listener in listeners {
                match change {
                    Change::Created => listener.on_created(path),
                    Change::Deleted => listener.on_deleted(path),
                    Change::Modified => listener.on_modified(path),
                }
            }
        }
    }

    fn tell_all(&self, why: &str) {
        tracing::warn!(why, "file watcher cannot tell what changed; every bundle is checked");
        let listeners: Vec<_> = lock(&self.bundles).values().filter_map(|bundle| bundle.listener.upgrade()).collect();
        for listener in listeners {
            listener.on_modified(Path::new(""));
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
    fn started(&mut self) -> Option<&mut RecommendedWatcher> {
        if self.watcher.is_none() {
            match notify::recommended_watcher(|event| FileWatchService::global().dispatch(event)) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => {
                    tracing::warn!(%error, "no file watcher (inotify limit?); changes are found by polling only")
                }
            }
        }
        self.watcher.as_mut()
    }
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

fn unwatch(watcher: &mut RecommendedWatcher, directories: &[PathBuf]) {
    for directory in directories {
        // An error means the directory is gone, and its watch with it.
        let _ = watcher.unwatch(directory);
    }
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
