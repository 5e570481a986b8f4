//! Blob protocol headers as either side could receive them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemill_fuzz::blob_requests(data));
