//! The simulated world: whole clusters in one thread, under one seed.
//!
//! The nodes are the nodes that ship: `node::Node` over `storage::Log`, with the real services.
//! What is simulated is what lies outside of them: disks, the network, clocks, the end of
//! processes. A [`settings::Settings`] follows from a seed and the name of a scenario; [`run::run`]
//! makes the run and holds everything that happens against the rules in [`checkers`]. The same seed
//! gives the same run, down to the last byte of the last frame: a failing run is told by its seed
//! alone.
//!
//! The parts: [`agenda`] is the only clock. [`random`] is the only source of chance. [`network`]
//! delays, cuts and breaks. [`media`] loses, tears, flips and refuses. `machine` is a node with its
//! sandbox, `shell` carries out what a node says, `faults` decides what goes wrong, `workload` and
//! `work` are the clients, [`tallies`] are services of the simulator's own, `immortals` and
//! `served` are programs beside the nodes, `orders` has documents that send to immortals, which
//! write to documents, `subscribers` are told of changes, `backups` makes backups, and `referee`
//! watches them all.

use services::Catalogue;

pub mod agenda;
mod backups;
mod batches;
pub mod checkers;
mod controls;
mod detours;
mod faults;
mod handlers;
mod immortals;
pub mod jobs;
mod machine;
pub mod media;
mod members;
pub mod network;
mod orders;
pub mod paths;
mod receipts;
mod referee;
mod rights;
pub mod run;
mod served;
mod subscribers;
mod work;

pub mod settings;
mod shell;
pub mod tallies;
pub mod trace;
mod workload;
mod world;

/// The services of a node with an older program: it has no examples.
fn older_catalogue() -> Catalogue {
    Catalogue::new().with(tallies::TallyService).with_task(tallies::WalkTask)
}

/// The services of a simulated node.
fn catalogue() -> Catalogue {
    examples::catalogue().with(tallies::TallyService).with_task(tallies::WalkTask)
}

/// The same where the tallies send what is added to them.
fn catalogue_of_orders() -> Catalogue {
    let sending = examples::catalogue().with(orders::SendingTallies);
    sending.with(receipts::ReceiptService).with_task(tallies::WalkTask)
}

/// The same where the tallies are a kind that is defined while the cluster runs.
fn catalogue_without_tallies() -> Catalogue {
    examples::catalogue().with_task(tallies::WalkTask)
}
