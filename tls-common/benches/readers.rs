//! What a connection pays to learn the current generation, while nothing happens and during a storm of reloads.
//!
//! Two proofs that readers never wait: the voluntary context switches of their threads (a thread that waits for a lock is
//! switched away), and the longest single reading beside that of a plain `Arc`, which meets the same interruptions.
#![allow(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

mod support;

use arc_swap::ArcSwap;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use support::Figures;
use tls_common::{BundleOptions, Password, ReloadOptions, StoreOptions, TlsContext};

/// Readings between two looks at the clock.
const BATCH: u32 = 1000;

/// One thread's readings.
struct Readings {
    ns: f64,
    longest: Duration,
    waits: i64,
}

fn main() {
    support::print_machine();
    let (rounds, span) =
        if support::is_quick() { (1, Duration::from_millis(5)) } else { (15, Duration::from_millis(100)) };
    println!("{rounds} rounds of {span:?}; ns per reading and thread, median [least-greatest]");
    println!("| threads | storm | who | ns | longest, median and greatest (us) | waits | generations/s |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("identity.pem");
    let identities = [identity(), identity()];
    std::fs::write(&file, &identities[0]).unwrap();
    let context = runtime.block_on(TlsContext::load(options(&file), Some(at_once()))).unwrap();

    let shared = Arc::new(0u64);
    let swap = ArcSwap::from_pointee(0u64);
    let contestants: [(&str, &(dyn Fn() + Sync)); 4] = [
        ("Arc::clone", &|| drop(black_box(Arc::clone(&shared)))),
        ("ArcSwap::load", &|| drop(black_box(swap.load()))),
        ("ArcSwap::load_full", &|| drop(black_box(swap.load_full()))),
        ("TlsContext::current", &|| drop(black_box(context.current()))),
    ];
    // Over all storms: each write differs from what the file holds.
    let written = AtomicUsize::new(0);
    for threads in [1, 2, 4] {
        for storm in [false, true] {
            let mut all: Vec<Vec<Readings>> = contestants.iter().map(|_| Vec::new()).collect();
            let (generation, started) = (context.current().number(), Instant::now());
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                if storm {
                    scope.spawn(|| publish(&context, &file, &identities, &written, &swap, &over));
                }
                for round in 0..rounds {
                    for turn in 0..contestants.len() {
                        let who = (round + turn) % contestants.len();
                        all[who].extend(read(contestants[who].1, threads, span));
                    }
                }
                over.store(true, Ordering::Relaxed);
            });
            let made = context.current().number() - generation;
            assert!(!storm || support::is_quick() || made > 0, "there was no storm");
            let rate = made as f64 / started.elapsed().as_secs_f64();
            for ((name, _), readings) in contestants.iter().zip(all) {
                let figures = |of: fn(&Readings) -> f64| Figures(readings.iter().map(of).collect());
                let longest = figures(|one| one.longest.as_secs_f64() * 1e6);
                let waits: i64 = readings.iter().map(|one| one.waits).sum();
                println!(
                    "| {threads} | {} | {name} | {} | {:.1}, {:.0} | {waits} | {rate:.0} |",
                    if storm { "yes" } else { "no" },
                    figures(|one| one.ns).show(1),
                    longest.median(),
                    longest.quantile(1.0),
                );
            }
        }
    }
    drop(context);
}

/// `threads` read for `span`: in batches for the mean, then one by one for the longest.
fn read(reading: &(dyn Fn() + Sync), threads: usize, span: Duration) -> Vec<Readings> {
    let ready = Barrier::new(threads);
    let one = || {
        ready.wait();
        let (before, started) = (support::thread_usage().voluntary_context_switches(), Instant::now());
        let mut count = 0u64;
        let cpu = support::cpu_seconds();
        while count == 0 || started.elapsed() < span / 2 {
            (0..BATCH).for_each(|_| reading());
            count += u64::from(BATCH);
        }
        let ns = (support::cpu_seconds() - cpu) * 1e9 / count as f64;
        let mut longest = Duration::ZERO;
        while started.elapsed() < span {
            for _ in 0..BATCH {
                let begun = Instant::now();
                reading();
                longest = longest.max(begun.elapsed());
            }
        }
        Readings { ns, longest, waits: support::thread_usage().voluntary_context_switches() - before }
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    })
}

/// Publishes generation after generation, each made from a changed file, until it is `over`.
fn publish(
    context: &TlsContext,
    file: &Path,
    identities: &[Vec<u8>; 2],
    written: &AtomicUsize,
    swap: &ArcSwap<u64>,
    over: &AtomicBool,
) {
    while !over.load(Ordering::Relaxed) {
        let before = context.current().number();
        std::fs::write(file, &identities[(written.fetch_add(1, Ordering::Relaxed) + 1) % 2]).unwrap();
        context.reload_now();
        // The last one, too, is waited for: it must not fall into the calm that follows.
        while context.current().number() == before {
            swap.store(Arc::new(before));
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// No quiet period: a generation for every change.
fn at_once() -> ReloadOptions {
    ReloadOptions { quiet_period: Duration::ZERO, max_delay: Duration::ZERO, poll_interval: Duration::from_secs(3600) }
}

fn options(file: &Path) -> BundleOptions {
    let mut options = BundleOptions::new("bench");
    options.keystore = Some(StoreOptions::new(file, Password::None));
    options.truststore = Some(StoreOptions::new(file, Password::None));
    options
}

fn identity() -> Vec<u8> {
    let pair = rcgen::generate_simple_self_signed([support::HOST.to_owned()]).unwrap();
    (pair.cert.pem() + &pair.signing_key.serialize_pem()).into_bytes()
}
