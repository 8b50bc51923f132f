//! Write a program that does not die.
//!
//! An *immortal* is a state that is changed only by inputs, one after the other. The node beside it
//! logs each input on a quorum before the program sees it, and gives it to every copy of the
//! program; when one dies, another carries on with the same state, and nothing is lost or done
//! twice.
//!
//! A program implements [`Immortal`] and is given to [`run`]. Its methods are listed in an
//! [`interface!`](crate::interface), which also makes the proxy with which others call it. What a
//! handler may do stands in [`Context`]. What comes from outside enters by [`Impulses`].
//! [`testing`] has a node for tests, and a check that a program is deterministic.
//!
//! ```no_run
//! use immortal::{self, Context, Immortal, Incoming, Options};
//! use serde::{Deserialize, Serialize};
//!
//! immortal::interface! {
//!     /// Counts.
//!     pub trait Counter => CounterProxy {
//!         1 => fn add(number: u64) -> u64;
//!     }
//! }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Sum { sum: u64 }
//!
//! impl Counter for Sum {
//!     fn add(&mut self, _: &mut Context<'_, Self>, number: u64) -> u64 {
//!         self.sum += number;
//!         self.sum
//!     }
//! }
//!
//! impl Immortal for Sum {
//!     type Next = ();
//!     type Effect = ();
//!
//!     fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
//!         self.dispatch(context, incoming);
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     immortal::main(Options::new("http://127.0.0.1:8000", "counter"), Sum::default)
//! }
//! ```
//!
//! Inside: `session` is one connection, `machine` the state with what it waits for, `outputs`
//! gathers what is said, `link` writes, `inbox` has what was read, `runner` connects again.

mod book;
mod dial;
mod documents;
mod effects;
mod format;
mod impulses;
mod inbox;
mod incoming;
mod interface;
mod link;
mod machine;
mod outputs;
mod program;
mod runner;
mod session;
pub mod testing;
mod tls;

pub use book::WaitId;
pub use documents::{Document, Write, Written};
pub use impulses::{Fate, Impulses, Ticket};
pub use incoming::{Incoming, Outcome, Performed, Refused, Reply, Sender, SenderKind};
pub use interface::Outgoing;
pub use program::{Context, Immortal};
pub use protocol::Moment;
pub use runner::{Options, RunError, main, run, run_upgradable, run_with};
#[doc(hidden)]
pub use serde;
