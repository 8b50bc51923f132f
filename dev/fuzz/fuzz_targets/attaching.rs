//! Strangers: attaching. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz attaching`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::attaching(bytes));
