//! Strangers: link_proof. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz link_proof`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| server::fuzzing::link_proof(bytes));
