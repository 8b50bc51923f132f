//! The Rust binding of the immortal protocol against a fake node: what users write, and what goes
//! over the wire when things break.

mod bank;
mod play;
mod speed;
mod upgrade;
mod wire;
