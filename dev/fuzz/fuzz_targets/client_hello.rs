//! The first bytes of TLS. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz client_hello`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::client_hello(bytes));
