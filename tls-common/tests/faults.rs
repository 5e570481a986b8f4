//! Files change in every way in which people and tools change them; exactly the right generations follow.
//!
//! "Exactly" is proved without waiting for nothing to happen: every replacement is a set of its own, and the number of
//! the generation that serves it tells how many there were before. No mixture of two sets can be published, because
//! each trusts only itself. Where events are to be proved the poll comes once an hour; where the poll is, events cannot.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use futures::future::join_all;
use std::path::Path;
use std::time::{Duration, Instant};
use support::{
    PASSWORD, Pair, Recorder, eventually, keystore, options_for, options_of, polling, quick, serves, stores,
    truststore, until,
};
use tls_common::testing::{BindMount, Change, Directory, FileSet, Namespace, Step, Way, in_own_mount_namespace};
use tls_common::{ReloadOptions, TlsContext};

/// A followed directory. Its files lie there until the last field goes.
struct Followed {
    directory: Directory,
    context: TlsContext,
    _scratch: tempfile::TempDir,
}

impl Followed {
    /// Generation 1, with nothing left to look at.
    async fn new(way: Way, first: &FileSet, reload: ReloadOptions) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let directory = Directory::create(&scratch.path().canonicalize().unwrap(), way, first).unwrap();
        let context = TlsContext::load(options_of(&directory), Some(reload)).await.unwrap();
        until(&context, |status| status.checks > 0).await;
        Self { directory, context, _scratch: scratch }
    }

    /// Waits for a look at the files that began after now.
    async fn looked_at(&self) {
        // The first of two may have begun before.
        for _ in 0..2 {
            let checks = self.context.status().checks;
            self.context.reload_now();
            until(&self.context, |status| status.checks > checks).await;
        }
    }
}

/// How files in this way are followed: by events, unless there are none.
fn reload_for(way: Way) -> ReloadOptions {
    if way == Way::HardLink { polling() } else { quick() }
}

/// Pairs whose two stores are as large as the first's, for [`Way::InPlaceUnchangedTimes`].
fn pairs_of_one_size(count: usize) -> Vec<(Pair, FileSet)> {
    let sizes = |files: &FileSet| files.values().map(Vec::len).collect::<Vec<_>>();
    let mut pairs: Vec<(Pair, FileSet)> = Vec::new();
    while pairs.len() < count {
        let pair = Pair::new();
        let files = stores(&pair);
        // A signature may be a byte shorter or longer than the last one.
        if pairs.first().is_none_or(|(_, first)| sizes(first) == sizes(&files)) {
            pairs.push((pair, files));
        }
    }
    pairs
}

#[tokio::test]
async fn every_way_of_replacing_files_is_noticed_every_time_and_is_exactly_one_generation() {
    let follow = |way: Way| async move {
        let pairs = pairs_of_one_size(7);
        let mut followed = Followed::new(way, &pairs[0].1, reload_for(way)).await;
        for (round, (pair, files)) in pairs.iter().enumerate().skip(1) {
            followed.directory.replace(files).unwrap();
            assert_eq!(serves(&followed.context, pair).await, round as u64 + 1, "{way:?}");
        }
    };
    join_all(Way::ALL.map(follow)).await;
}

#[tokio::test]
async fn however_long_each_step_takes_nothing_but_the_whole_new_set_is_published_and_that_once() {
    let follow = |way: Way| async move {
        let pairs = pairs_of_one_size(3);
        let mut followed = Followed::new(way, &pairs[0].1, reload_for(way)).await;
        for (round, (pair, files)) in pairs.iter().enumerate().skip(1) {
            let mut change = followed.directory.plan(files).unwrap();
            while change.step().unwrap() {
                followed.looked_at().await;
                let status = followed.context.status();
                let whole = status.fingerprint.as_deref() == Some(pair.fingerprint().as_str());
                assert_eq!(status.generation, round as u64 + u64::from(whole), "{way:?} before {:?}", change.next());
            }
            assert_eq!(serves(&followed.context, pair).await, round as u64 + 1, "{way:?}");
        }
    };
    join_all(Way::ALL.map(follow)).await;
}

#[tokio::test]
async fn a_slow_kubelet_is_followed_at_the_swap_and_not_one_renewal_later() {
    let pairs = pairs_of_one_size(6);
    let mut followed = Followed::new(Way::AtomicWriter, &pairs[0].1, quick()).await;
    for (round, (pair, files)) in pairs.iter().enumerate().skip(1) {
        let checks = followed.context.status().checks;
        let mut change = followed.directory.plan(files).unwrap();
        change.run_until(|next| matches!(next, Step::Rename { .. })).unwrap();
        // The new directory and its chmod have been seen, and found to be nothing.
        until(&followed.context, |status| status.checks > checks).await;
        followed.looked_at().await;
        assert_eq!(followed.context.status().generation, round as u64);
        change.run().unwrap();
        assert_eq!(serves(&followed.context, pair).await, round as u64 + 1);
    }
}

#[tokio::test]
async fn a_key_store_long_before_its_trust_store_waits_for_it_in_either_order() {
    let pairs = pairs_of_one_size(5);
    let mut followed = Followed::new(Way::RenameBeside, &pairs[0].1, quick()).await;
    for (round, (pair, files)) in pairs.iter().enumerate().skip(1) {
        let mut halves: Vec<FileSet> =
            files.iter().map(|(name, bytes)| FileSet::from([(name.clone(), bytes.clone())])).collect();
        if round % 2 == 0 {
            halves.reverse();
        }
        followed.directory.replace(&halves[0]).unwrap();
        let waiting = until(&followed.context, |status| status.last_error.is_some()).await;
        assert_eq!(waiting.generation, round as u64, "half of a pair is not published");
        followed.directory.replace(&halves[1]).unwrap();
        assert_eq!(serves(&followed.context, pair).await, round as u64 + 1);
        assert_eq!(followed.context.status().last_error, None);
    }
}

#[tokio::test]
async fn what_leaves_the_content_as_it_is_makes_no_generation() {
    type Harmless = fn(&mut Directory, &FileSet) -> Change;
    let cases: [(&str, Way, Harmless); 7] = [
        ("chmod of a file", Way::InPlace, |directory, _| {
            [Step::SetMode { path: directory.file("keystore.p12"), mode: 0o640 }].into_iter().collect()
        }),
        ("chmod of the directory", Way::InPlace, |directory, _| {
            [Step::SetMode { path: directory.path(), mode: 0o750 }].into_iter().collect()
        }),
        ("touch", Way::InPlace, |directory, _| {
            let time = std::time::SystemTime::UNIX_EPOCH;
            [Step::SetModified { path: directory.file("keystore.p12"), time }].into_iter().collect()
        }),
        ("the same bytes in place", Way::InPlace, |directory, files| directory.plan(files).unwrap()),
        ("the same bytes by rename", Way::RenameBeside, |directory, files| directory.plan(files).unwrap()),
        ("the same bytes by the kubelet", Way::AtomicWriter, |directory, files| directory.plan(files).unwrap()),
        ("an unrelated file", Way::InPlace, |directory, _| {
            [Step::Write { path: directory.file("unrelated.log"), bytes: b"x".into() }].into_iter().collect()
        }),
    ];
    let follow = |(what, way, harmless): (&'static str, Way, Harmless)| async move {
        let [(_, first), (second, files)] = <[_; 2]>::try_from(pairs_of_one_size(2)).ok().unwrap();
        let mut followed = Followed::new(way, &first, quick()).await;
        let checks = followed.context.status().checks;
        harmless(&mut followed.directory, &first).run().unwrap();
        until(&followed.context, |status| status.checks > checks).await;
        followed.looked_at().await;
        let status = followed.context.status();
        assert_eq!((status.generation, status.last_error), (1, None), "{what}");
        followed.directory.replace(&files).unwrap();
        assert_eq!(serves(&followed.context, &second).await, 2, "{what}");
    };
    join_all(cases.map(follow)).await;
}

#[tokio::test]
async fn a_truncated_file_makes_no_generation_and_says_so_until_it_is_whole_again() {
    let (first, second) = (Pair::new(), Pair::new());
    let whole = stores(&first);
    let mut followed = Followed::new(Way::InPlace, &whole, quick()).await;
    for name in whole.keys() {
        Step::Truncate(followed.directory.file(name)).run().unwrap();
        let status = until(&followed.context, |status| status.last_error.is_some()).await;
        assert_eq!((status.generation, status.fingerprint), (1, Some(first.fingerprint())));
        followed.directory.replace(&whole).unwrap();
        until(&followed.context, |status| status.last_error.is_none()).await;
    }
    followed.directory.replace(&stores(&second)).unwrap();
    assert_eq!(serves(&followed.context, &second).await, 2);
}

#[tokio::test]
async fn the_system_reports_nothing_of_a_write_through_another_name() {
    let (first, second) = (Pair::new(), Pair::new());
    let mut followed = Followed::new(Way::HardLink, &stores(&first), polling()).await;
    let (recorder, _handle) = Recorder::register(followed.directory.file("keystore.p12"));
    followed.directory.replace(&stores(&second)).unwrap();
    // Events come in order: once this one is there, any of the write would be.
    let last = followed.directory.file("last");
    Step::Write { path: last.clone(), bytes: Vec::new() }.run().unwrap();
    eventually("an event", || recorder.reported().contains(&last)).await;
    assert!(recorder.reported().iter().all(|path| *path == last), "{:?}", recorder.reported());
    assert_eq!(serves(&followed.context, &second).await, 2);
}

#[tokio::test]
async fn two_swaps_in_quick_succession_leave_the_last_target_watched() {
    for way in [Way::SwappedDirectoryLink, Way::AtomicWriter, Way::SwappedDirectory, Way::SwappedLinks] {
        let pairs = pairs_of_one_size(4);
        let mut followed = Followed::new(way, &pairs[0].1, quick()).await;
        for _ in 0..4 {
            for (_, files) in &pairs[1..3] {
                followed.directory.replace(files).unwrap();
            }
            let swapped = serves(&followed.context, &pairs[2].0).await;
            // Nothing moves but the content of the last target. Missed, it would be seen in an hour.
            let (pair, files) = &pairs[3];
            for (name, bytes) in files {
                Step::Write { path: followed.directory.file(name), bytes: bytes.clone() }.run().unwrap();
            }
            assert_eq!(serves(&followed.context, pair).await, swapped + 1, "{way:?}");
        }
    }
}

#[tokio::test]
async fn ten_thousand_quick_modifications_end_in_the_last_content_with_a_bounded_number_of_looks() {
    // With both alike a look comes this long after the one before, whether the storm pauses or not.
    const APART: Duration = Duration::from_millis(200);
    let pairs: Vec<Pair> = (0..5).map(|_| Pair::new()).collect();
    let trusted: Vec<&Pair> = pairs.iter().collect();
    let mut files = stores(&pairs[0]);
    files.insert("truststore.p12".to_owned(), truststore(&trusted, PASSWORD));
    let versions: Vec<Vec<u8>> = pairs.iter().map(|pair| keystore(pair, PASSWORD)).collect();
    let began = Instant::now();
    let reload = ReloadOptions { quiet_period: APART, max_delay: APART, ..quick() };
    let followed = Followed::new(Way::InPlace, &files, reload).await;
    let path = followed.directory.file("keystore.p12");
    let storm = move || {
        let rounds = (0..10_000).map(|round| &versions[round % 4]).chain([&versions[4]]);
        rounds.for_each(|bytes| std::fs::write(&path, bytes).unwrap());
    };
    tokio::task::spawn_blocking(storm).await.unwrap();
    serves(&followed.context, &pairs[4]).await;
    followed.looked_at().await;
    let status = followed.context.status();
    let bound = began.elapsed().as_millis() / APART.as_millis() + 1;
    assert!(u128::from(status.checks) <= bound, "{} looks, at most {bound} fit: {status:?}", status.checks);
    assert!(status.reloads + status.failed_reloads <= status.checks, "each look is at most one of them: {status:?}");
    assert_eq!(status.fingerprint, Some(pairs[4].fingerprint()));
}

#[tokio::test]
async fn a_file_that_is_a_mount_of_its_own_is_followed_by_polls_as_far_as_it_can_change() {
    let name = "a_file_that_is_a_mount_of_its_own_is_followed_by_polls_as_far_as_it_can_change";
    match in_own_mount_namespace(name).unwrap() {
        Namespace::Passed => return,
        Namespace::Refused(reason) => return eprintln!("skipped: no mount namespace here: {reason}"),
        Namespace::Inside => {}
    }
    let pairs: Vec<Pair> = (0..4).map(|_| Pair::new()).collect();
    let trusted: Vec<&Pair> = pairs.iter().collect();
    let write = |path: &Path, pair: &Pair| std::fs::write(path, keystore(pair, PASSWORD)).unwrap();
    let (host, container) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (source, target) = (host.path().join("keystore.p12"), container.path().join("keystore.p12"));
    write(&source, &pairs[0]);
    std::fs::write(&target, b"").unwrap();
    std::fs::write(container.path().join("truststore.p12"), truststore(&trusted, PASSWORD)).unwrap();
    let _mount = BindMount::new(&source, &target).unwrap();
    let options = options_for(&target, &container.path().join("truststore.p12"));
    let context = TlsContext::load(options, Some(polling())).await.unwrap();
    let (recorder, _handle) = Recorder::register(target.clone());

    write(&source, &pairs[1]);
    assert_eq!(serves(&context, &pairs[1]).await, 2, "written in place on the host");
    let last = container.path().join("last");
    std::fs::write(&last, b"").unwrap();
    eventually("an event", || recorder.reported().contains(&last)).await;
    assert!(recorder.reported().iter().all(|path| *path == last), "no event tells: {:?}", recorder.reported());

    // The mount holds on to the old file, however often anybody looks.
    let renamed = host.path().join("renamed");
    write(&renamed, &pairs[2]);
    std::fs::rename(&renamed, &source).unwrap();
    let checks = context.status().checks;
    until(&context, |status| status.checks > checks + 2).await;
    assert_eq!(context.status().generation, 2, "replaced on the host, but not here");

    write(&target, &pairs[3]);
    assert_eq!(serves(&context, &pairs[3]).await, 3, "written in place from inside");
}
