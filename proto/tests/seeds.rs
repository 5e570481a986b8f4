//! What fuzzing has found worth keeping, given again to what the fuzz targets call; `fuzz/README.md` says more.
#![allow(clippy::expect_used, reason = "tests")]

use std::{fs, path::Path};

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own in `fuzz`")]
mod fuzzed;

/// Gives every seed of a fuzz target to what the target calls.
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
fn every_seed_of_frames_is_decoded_the_same_however_it_is_cut() {
    replay("frames", fuzzed::frames);
}

#[test]
fn every_seed_of_a_blob_header_that_parses_encodes_to_the_same_bytes() {
    replay("blob_requests", fuzzed::blob_requests);
}
