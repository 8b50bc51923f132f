//! AMBROSIA's adapter, tested by what stands on the wire. The tests have their own few lines of
//! that wire format (`wire`), so that a mistake in the adapter's is not made twice.

#![expect(clippy::unwrap_used, reason = "in a test, also beside its functions, it is a finding")]

mod bindings;
mod heard;
mod splits;
mod startup;
mod told;
mod wire;
