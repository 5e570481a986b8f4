//! Keystores and truststores as an operator, or a half-finished copy, could leave them on disk.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tls_common::fuzzing::parse_stores(data));
