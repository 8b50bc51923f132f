//! Instances in a world under a seed. Replicas fall, programs are killed, messages are lost.
//! Whatever happens, every message is handled once and in order, and all programs have the same
//! state.
//!
//! `SEED=7 cargo test -p immortals --test world` runs one history and shows it, `SEEDS=10000` more.

#![expect(clippy::unwrap_used, reason = "in a test, also beside its functions, it is a finding")]

mod base;
mod cases;
mod histories;
mod life;
mod log;
mod program;
mod script;
mod watch;
