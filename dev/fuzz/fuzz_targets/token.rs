//! Tokens of an outside issuer. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::token(bytes));
