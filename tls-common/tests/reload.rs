//! Files change in every way people change them; exactly the right generations follow.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use support::{Bundle, PASSWORD, Pair, keystore, options_for, quick, serves, truststore, until};
use tls_common::{ReloadOptions, TlsContext};

async fn start(bundle: &Bundle) -> TlsContext {
    TlsContext::load(bundle.options(), Some(quick())).await.unwrap()
}

/// A bundle's two files as a Kubernetes volume: `name -> ..data/name`, `..data -> ..<version>`.
fn kubernetes_volume(root: &Path, version: &str, identity: &Pair, trusted: &[&Pair]) {
    let real = root.join(format!("..{version}"));
    std::fs::create_dir(&real).unwrap();
    std::fs::write(real.join("keystore.p12"), keystore(identity, PASSWORD)).unwrap();
    std::fs::write(real.join("truststore.p12"), truststore(trusted, PASSWORD)).unwrap();
}

fn swap_data_link(root: &Path, version: &str) {
    symlink(format!("..{version}"), root.join("..data_tmp")).unwrap();
    std::fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
}

#[tokio::test]
async fn writing_in_place_is_noticed() {
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old]);
    let context = start(&bundle).await;
    bundle.write_in_place(&new, &[&old, &new]);
    serves(&context, &new).await;
}

#[tokio::test]
async fn a_rename_from_the_same_directory_is_noticed() {
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old, &new]);
    let context = start(&bundle).await;
    let temporary = bundle.dir.join("keystore.tmp");
    std::fs::write(&temporary, keystore(&new, PASSWORD)).unwrap();
    std::fs::rename(&temporary, bundle.keystore()).unwrap();
    serves(&context, &new).await;
}

#[tokio::test]
async fn a_rename_from_another_directory_is_noticed_again_and_again() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut current = Pair::new();
    let bundle = Bundle::new(&current, &[&current]);
    let context = start(&bundle).await;
    for expected in 2..=5 {
        let next = Pair::new();
        for (name, bytes) in
            [("truststore.p12", truststore(&[&current, &next], PASSWORD)), ("keystore.p12", keystore(&next, PASSWORD))]
        {
            let temporary = elsewhere.path().join(name);
            std::fs::write(&temporary, bytes).unwrap();
            std::fs::rename(&temporary, bundle.dir.join(name)).unwrap();
        }
        let generation = serves(&context, &next).await;
        assert!(generation >= expected, "generation {generation} of at least {expected}");
        current = next;
    }
}

#[tokio::test]
async fn a_kubernetes_volume_is_followed_swap_after_swap_and_one_swap_is_one_generation() {
    let root = tempfile::tempdir().unwrap();
    let pairs: Vec<Pair> = (0..5).map(|_| Pair::new()).collect();
    let all: Vec<&Pair> = pairs.iter().collect();
    // Half of the versions lie there long before their swap, as on a slow disk: then the link alone moves.
    for version in [0, 2, 4] {
        kubernetes_volume(root.path(), &version.to_string(), &pairs[version], &all);
    }
    symlink("..0", root.path().join("..data")).unwrap();
    for name in ["keystore.p12", "truststore.p12"] {
        symlink(format!("..data/{name}"), root.path().join(name)).unwrap();
    }
    let options = options_for(&root.path().join("keystore.p12"), &root.path().join("truststore.p12"));
    let context = TlsContext::load(options, Some(quick())).await.unwrap();
    for (version, pair) in pairs.iter().enumerate().skip(1) {
        if version % 2 == 1 {
            kubernetes_volume(root.path(), &version.to_string(), pair, &all);
        }
        swap_data_link(root.path(), &version.to_string());
        assert_eq!(serves(&context, pair).await, version as u64 + 1);
        std::fs::remove_dir_all(root.path().join(format!("..{}", version - 1))).unwrap();
    }
}

#[tokio::test]
async fn a_swapped_symlink_and_a_swapped_symlinked_directory_are_noticed() {
    let root = tempfile::tempdir().unwrap();
    let (first, second, third) = (Pair::new(), Pair::new(), Pair::new());
    for (name, pair) in [("v1", &first), ("v2", &second), ("v3", &third)] {
        std::fs::create_dir(root.path().join(name)).unwrap();
        std::fs::write(root.path().join(name).join("k"), keystore(pair, PASSWORD)).unwrap();
        std::fs::write(root.path().join(name).join("t"), truststore(&[&first, &second, &third], PASSWORD)).unwrap();
    }
    symlink("v1", root.path().join("live")).unwrap();
    let options = options_for(&root.path().join("live/k"), &root.path().join("live/t"));
    let context = TlsContext::load(options, Some(quick())).await.unwrap();
    for (target, pair) in [("v2", &second), ("v3", &third)] {
        symlink(target, root.path().join("next")).unwrap();
        std::fs::rename(root.path().join("next"), root.path().join("live")).unwrap();
        serves(&context, pair).await;
    }
}

#[tokio::test]
async fn a_directory_that_is_removed_and_made_anew_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("tls");
    let (old, new, newer) = (Pair::new(), Pair::new(), Pair::new());
    let write = |pair: &Pair| {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("t"), truststore(&[&old, &new, &newer], PASSWORD)).unwrap();
        std::fs::write(dir.join("k"), keystore(pair, PASSWORD)).unwrap();
    };
    write(&old);
    let context = TlsContext::load(options_for(&dir.join("k"), &dir.join("t")), Some(quick())).await.unwrap();
    for pair in [&new, &newer] {
        std::fs::remove_dir_all(&dir).unwrap();
        until(&context, |status| status.last_error.is_some()).await;
        write(pair);
        serves(&context, pair).await;
    }
}

#[tokio::test]
async fn key_store_first_and_trust_store_a_moment_later_end_as_one_consistent_pair() {
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old]);
    let context = start(&bundle).await;
    // A new key whose own truststore does not know it yet fails the canary: nothing is published.
    std::fs::write(bundle.keystore(), keystore(&new, PASSWORD)).unwrap();
    let waiting = until(&context, |status| status.last_error.is_some()).await;
    assert_eq!(waiting.generation, 1);
    std::fs::write(bundle.truststore(), truststore(&[&old, &new], PASSWORD)).unwrap();
    assert_eq!(serves(&context, &new).await, 2);
    assert_eq!(context.status().last_error, None);
}

#[tokio::test]
async fn bad_files_keep_the_last_good_generation_and_say_why_until_a_good_one_comes() {
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old]);
    let context = start(&bundle).await;
    let good = std::fs::read(bundle.keystore()).unwrap();
    let mut empty_trust = truststore(&[], PASSWORD);
    let half_written = good.get(..good.len() / 2).unwrap().to_vec();
    let wrong_password = keystore(&new, "another");
    for (file, bytes) in [
        (bundle.keystore(), half_written),
        (bundle.keystore(), wrong_password),
        (bundle.keystore(), Vec::new()),
        (bundle.truststore(), std::mem::take(&mut empty_trust)),
    ] {
        let before = std::fs::read(&file).unwrap();
        let failures = context.status().failed_reloads;
        std::fs::write(&file, bytes).unwrap();
        let status = until(&context, |status| status.failed_reloads > failures).await;
        assert_eq!((status.generation, status.fingerprint), (1, Some(old.fingerprint())));
        assert!(status.last_error.is_some());
        std::fs::write(&file, before).unwrap();
        until(&context, |status| status.last_error.is_none()).await;
    }
    bundle.write_in_place(&new, &[&new]);
    assert_eq!(serves(&context, &new).await, 2);
}

#[tokio::test]
async fn an_unrelated_file_in_the_directory_makes_no_generation() {
    let pair = Pair::new();
    let other = Pair::new();
    let bundle = Bundle::new(&pair, &[&pair]);
    let context = start(&bundle).await;
    for round in 0..5 {
        std::fs::write(bundle.dir.join("unrelated.log"), vec![b'x'; round]).unwrap();
    }
    // The same bytes written again change nothing either.
    std::fs::write(bundle.keystore(), std::fs::read(bundle.keystore()).unwrap()).unwrap();
    // A real change proves that the events before it have been looked at.
    bundle.write_in_place(&other, &[&other]);
    assert_eq!(serves(&context, &other).await, 2);
}

#[tokio::test]
async fn ten_thousand_quick_modifications_end_in_the_last_content_with_few_reloads() {
    let pairs: Vec<Pair> = (0..5).map(|_| Pair::new()).collect();
    let all: Vec<&Pair> = pairs.iter().collect();
    let stores: Vec<Vec<u8>> = pairs.iter().map(|pair| keystore(pair, PASSWORD)).collect();
    let bundle = Bundle::new(&pairs[0], &all);
    let context = start(&bundle).await;
    let path = bundle.keystore();
    tokio::task::spawn_blocking(move || {
        for round in 0..10_000 {
            std::fs::write(&path, &stores[round % 4]).unwrap();
        }
        std::fs::write(&path, &stores[4]).unwrap();
    })
    .await
    .unwrap();
    let generation = serves(&context, &pairs[4]).await;
    assert!(generation < 1_000, "{generation} generations for 10,000 writes");
}

#[tokio::test]
async fn without_events_the_poll_finds_the_change() {
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old]);
    // A quiet period longer than the test stands for a file system that sends no events.
    let reload = ReloadOptions {
        quiet_period: Duration::from_secs(3600),
        max_delay: Duration::from_secs(3600),
        poll_interval: Duration::from_millis(50),
    };
    let context = TlsContext::load(bundle.options(), Some(reload)).await.unwrap();
    bundle.write_in_place(&new, &[&old, &new]);
    serves(&context, &new).await;
}

#[tokio::test]
async fn without_reload_nothing_is_watched_and_nothing_changes() {
    let (old, new) = (Pair::new(), Pair::new());
    let bundle = Bundle::new(&old, &[&old]);
    let still = TlsContext::load(bundle.options(), None).await.unwrap();
    let following = start(&bundle).await;
    bundle.write_in_place(&new, &[&new]);
    still.reload_now();
    serves(&following, &new).await;
    assert_eq!(still.status().generation, 1);
    assert!(!still.status().watching);
}
