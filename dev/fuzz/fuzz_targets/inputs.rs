//! Blocks and messages. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz inputs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::inputs(bytes));
