//! Frames of programs. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz to_node`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::to_node(bytes));
