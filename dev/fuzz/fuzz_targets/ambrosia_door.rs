//! The decoder of AMBROSIA's door, and what it is told in between. Run: `cargo +nightly fuzz run
//! --fuzz-dir dev/fuzz ambrosia_door`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::ambrosia_door(bytes));
