//! One watcher serves all bundles of a process. Its own test binary, because it counts registrations.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::{Bundle, Pair, quick, serves, until};
use tls_common::TlsContext;
use tls_common::watch::FileWatchService;

#[tokio::test]
async fn a_hundred_bundles_share_one_watcher_and_dropping_them_unregisters() {
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old, &new]);
    let mut contexts = Vec::new();
    for _ in 0..100 {
        contexts.push(TlsContext::load(bundle.options(), Some(quick())).await.unwrap());
    }
    while FileWatchService::global().registered() < contexts.len() {
        tokio::task::yield_now().await;
    }
    assert_eq!(inotify_instances(), 1, "one inotify instance for all");
    bundle.write_in_place(&new, &[&old, &new]);
    for context in &contexts {
        serves(context, &new).await;
    }
    let last = contexts.pop().unwrap();
    drop(contexts);
    while FileWatchService::global().registered() > 1 {
        tokio::task::yield_now().await;
    }
    bundle.write_in_place(&old, &[&old, &new]);
    until(&last, |status| status.generation == 3).await;
}

/// Descriptors of this process that are inotify instances (Linux).
fn inotify_instances() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().contains("inotify"))
        .count()
}
