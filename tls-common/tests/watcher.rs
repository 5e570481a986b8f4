//! One watcher serves all bundles of a process, and all of them survive it. A test binary of its own, because it counts
//! what the process has; for the same reason its tests run one after another.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use futures::future::join_all;
use std::path::Path;
use std::sync::{Arc, Weak};
use support::{Bundle, Pair, Recorder, eventually, options_of, polling, quick, serves, stores, until};
use tls_common::TlsContext;
use tls_common::testing::{Directory, Step, Way, break_watcher, overflow_queue};
use tls_common::watch::{FileWatchListener, FileWatchService};
use tokio::sync::{Mutex, MutexGuard};

/// Begins a test when nothing of the one before is registered any more.
async fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let guard = ONE_AT_A_TIME.lock().await;
    eventually("nothing registered, nothing watched", || service().registered() == 0 && watches() == 0).await;
    guard
}

fn service() -> &'static FileWatchService {
    FileWatchService::global()
}

/// Generation 1 of a bundle, registered and with nothing left to look at.
async fn follow(bundle: &Bundle) -> TlsContext {
    let context = TlsContext::load(bundle.options(), Some(quick())).await.unwrap();
    until(&context, |status| status.checks > 0).await;
    context
}

#[tokio::test]
async fn a_hundred_bundles_share_one_watcher_and_dropping_them_unregisters() {
    let _alone = alone().await;
    let (old, new) = (Pair::new(), Pair::new());
    // Two bundles to a directory: one that goes must not take the other's watch along.
    let directories: Vec<Bundle> = (0..50).map(|_| Bundle::new(&old, &[&old])).collect();
    let mut staying = join_all(directories.iter().map(follow)).await;
    let leaving = join_all(directories.iter().map(follow)).await;
    assert_eq!((service().registered(), watches(), instances(), threads()), (100, 50, 1, 1));

    drop(leaving);
    eventually("half of them gone", || service().registered() == 50).await;
    directories.iter().for_each(|directory| directory.write_in_place(&new, &[&new]));
    for context in &staying {
        assert_eq!(serves(context, &new).await, 2);
    }
    assert_eq!((watches(), instances(), threads()), (50, 1, 1));

    let clone = staying.pop().unwrap();
    drop(staying);
    eventually("all but one gone", || service().registered() == 1 && watches() == 1).await;
    drop(clone);
    eventually("all gone", || service().registered() == 0 && watches() == 0).await;
}

#[tokio::test]
async fn a_directory_that_is_renamed_away_takes_no_watch_along_and_no_bundle_is_left_behind() {
    let _alone = alone().await;
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().canonicalize().unwrap();
    let pairs: Vec<Pair> = (0..5).map(|_| Pair::new()).collect();
    let mut directory = Directory::create(&root, Way::SwappedDirectory, &stores(&pairs[0])).unwrap();
    let mut contexts = Vec::new();
    for _ in 0..2 {
        let context = TlsContext::load(options_of(&directory), Some(quick())).await.unwrap();
        until(&context, |status| status.checks > 0).await;
        contexts.push(context);
    }
    for (round, pair) in pairs.iter().enumerate().skip(1) {
        directory.replace(&stores(pair)).unwrap();
        for context in &contexts {
            assert_eq!(serves(context, pair).await, round as u64 + 1);
        }
        // The old directories still lie elsewhere.
        eventually("one directory watched", || watches() == 1).await;
    }
}

#[tokio::test]
async fn whoever_finds_a_directory_replaced_tells_every_bundle_in_it() {
    let _alone = alone().await;
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().canonicalize().unwrap();
    let mut directory = Directory::create(&root, Way::SwappedDirectory, &stores(&Pair::new())).unwrap();
    let (finds, finder) = Recorder::register(directory.file("keystore.p12"));
    let (is_told, _handle) = Recorder::register(directory.file("truststore.p12"));
    assert_eq!((finds.started(), is_told.started()), (1, 1));
    directory.replace(&stores(&Pair::new())).unwrap();
    // Events of the old directory that nobody has read yet go with its watch.
    finder.rearm();
    assert_eq!((finds.started(), is_told.started()), (2, 2));
    finder.rearm();
    assert_eq!((finds.started(), is_told.started()), (2, 2), "and once is enough");
}

#[tokio::test]
async fn a_queue_that_overflows_costs_no_change() {
    let _alone = alone().await;
    let (old, new, newer) = (Pair::new(), Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old]);
    let context = follow(&bundle).await;
    let (recorder, _handle) = Recorder::register(bundle.keystore());
    let flood = tempfile::tempdir().unwrap();
    let (bundle, new) = (Arc::new(bundle), Arc::new(new));
    let overflowed = tokio::task::spawn_blocking({
        let (bundle, new) = (Arc::clone(&bundle), Arc::clone(&new));
        move || overflow_queue(flood.path(), || bundle.write_in_place(&new, &[&new]))
    });
    match overflowed.await.unwrap() {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return eprintln!("skipped: {error}"),
        done => done.unwrap(),
    }
    assert_eq!(serves(&context, &new).await, 2);
    assert_eq!(recorder.reported(), [Path::new("")], "the write's own events were lost, and nothing but that was told");
    bundle.write_in_place(&newer, &[&newer]);
    assert_eq!(serves(&context, &newer).await, 3, "events come again");
}

#[tokio::test]
async fn a_dead_watcher_is_replaced_at_the_next_look_of_any_bundle_for_all_of_them() {
    let _alone = alone().await;
    let pairs: Vec<Pair> = (0..4).map(|_| Pair::new()).collect();
    let (bundle, other) = (Bundle::new(&pairs[0], &[&pairs[0]]), Bundle::new(&pairs[0], &[&pairs[0]]));
    let (context, other) = (follow(&bundle).await, follow(&other).await);
    let (restarts, checks) = (service().restarts(), context.status().checks);
    for (round, pair) in pairs.iter().enumerate().skip(1) {
        if round == 1 {
            // The watcher dies of the very event that would have told of the change.
            break_watcher();
            bundle.write_in_place(pair, &[pair]);
            eventually("its end", || threads() == 0).await;
            assert_eq!((context.status().checks, instances()), (checks, 0), "nobody has told, nothing is left open");
            // In an hour a poll would have come by.
            other.reload_now();
        } else {
            bundle.write_in_place(pair, &[pair]);
        }
        assert_eq!(serves(&context, pair).await, round as u64 + 1);
        assert_eq!((service().restarts(), instances(), threads(), watches()), (restarts + 1, 1, 1, 2));
    }
}

#[tokio::test]
async fn polls_find_every_change_while_watchers_die_one_after_another() {
    let _alone = alone().await;
    let pairs: Vec<Pair> = (0..4).map(|_| Pair::new()).collect();
    let bundle = Bundle::new(&pairs[0], &[&pairs[0]]);
    let context = TlsContext::load(bundle.options(), Some(polling())).await.unwrap();
    let restarts = service().restarts();
    for (round, pair) in pairs.iter().enumerate().skip(1) {
        break_watcher();
        bundle.write_in_place(pair, &[pair]);
        assert_eq!(serves(&context, pair).await, round as u64 + 1);
        eventually("a new watcher", || service().restarts() == restarts + round as u64).await;
    }
    assert_eq!((instances(), threads()), (1, 1));
}

#[tokio::test]
async fn a_listener_that_panics_takes_neither_the_watcher_nor_other_bundles_along() {
    struct Panics;
    impl FileWatchListener for Panics {
        fn on_watch_started(&self, _directory: &Path) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        fn on_created(&self, path: &Path) {
            self.on_watch_started(path);
        }
        fn on_deleted(&self, path: &Path) {
            self.on_watch_started(path);
        }
        fn on_modified(&self, path: &Path) {
            self.on_watch_started(path);
        }
    }
    let _alone = alone().await;
    let pairs: Vec<Pair> = (0..4).map(|_| Pair::new()).collect();
    let bundle = Bundle::new(&pairs[0], &[&pairs[0]]);
    let context = follow(&bundle).await;
    let restarts = service().restarts();
    let panics = Arc::new(Panics);
    let listener: Weak<Panics> = Arc::downgrade(&panics);
    let _handle = service().register(vec![bundle.keystore()], listener);
    for (round, pair) in pairs.iter().enumerate().skip(1) {
        Step::Write { path: bundle.dir.join("unrelated"), bytes: vec![0; round] }.run().unwrap();
        bundle.write_in_place(pair, &[pair]);
        assert_eq!(serves(&context, pair).await, round as u64 + 1);
    }
    assert_eq!((service().restarts(), threads()), (restarts, 1));
}

/// Descriptors of this process that are inotify instances (Linux).
fn instances() -> usize {
    inotify_descriptors().len()
}

/// Directories that these instances watch.
fn watches() -> usize {
    let count = |descriptor: &String| {
        // Closed meanwhile, it watches nothing.
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).unwrap_or_default();
        info.lines().filter(|line| line.starts_with("inotify wd:")).count()
    };
    inotify_descriptors().iter().map(count).sum()
}

fn inotify_descriptors() -> Vec<String> {
    let is_inotify = |path: &Path| std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("inotify"));
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap());
    entries.filter(|entry| is_inotify(&entry.path())).map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Threads that read these instances. The kernel keeps 15 bytes of a thread's name.
fn threads() -> usize {
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap());
    tasks.map(name).filter(|name| name.trim_end() == "notify-rs inoti").count()
}
