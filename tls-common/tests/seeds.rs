//! What fuzzing has found worth keeping, read again by the same entry points; `fuzz/README.md` says more.
#![allow(clippy::expect_used, reason = "tests")]

use std::{fs, path::Path};

use tls_common::fuzzing;

/// Gives every seed of a fuzz target to its entry point.
fn replay(target: &str, entry_point: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let files: Vec<_> = fs::read_dir(&directory).expect("the repository's fuzz/seeds").collect();
    assert!(files.len() > 1, "seeds in {}", directory.display());
    for file in files {
        let path = file.expect("a file of fuzz/seeds").path();
        println!("{}", path.display()); // shown if it fails
        entry_point(&fs::read(path).expect("a readable seed"));
    }
}

#[test]
fn no_seed_of_a_store_makes_its_readers_panic() {
    replay("keystores", fuzzing::parse_stores);
}

#[test]
fn no_seed_of_pins_or_revocation_lists_makes_their_readers_panic() {
    replay("trust_files", fuzzing::parse_trust_files);
}

#[test]
fn no_seed_of_a_handshake_makes_its_readers_panic() {
    replay("handshake_hints", fuzzing::parse_handshake);
}
