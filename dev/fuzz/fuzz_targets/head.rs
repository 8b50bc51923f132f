//! Heads of requests. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::head(bytes));
