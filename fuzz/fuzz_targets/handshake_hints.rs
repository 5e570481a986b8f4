//! What a peer says in its handshake before it has proved anything: hints of its trust, a ServerHello, a certificate.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tls_common::fuzzing::parse_handshake(data));
