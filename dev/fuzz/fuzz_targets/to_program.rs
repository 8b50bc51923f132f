//! Frames of nodes. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz to_program`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::to_program(bytes));
