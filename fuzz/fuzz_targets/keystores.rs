//! Keystores and truststores as an operator, or a half-finished copy, could leave them on disk.
//!
//! Real ones to start from: `cargo fuzz run keystores fuzz/corpus/keystores tls-common/tests/fixtures`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tls_common::fuzzing::parse_stores(data));
