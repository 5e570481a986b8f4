//! Data-plane frames as a peer could send them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemill_fuzz::frames(data));
