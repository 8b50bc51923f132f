//! Frames of the service protocol. Run: `cargo +nightly fuzz run --fuzz-dir dev/fuzz of_services`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::of_services(bytes));
