//! Strangers: joining. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz joining`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::joining(bytes));
