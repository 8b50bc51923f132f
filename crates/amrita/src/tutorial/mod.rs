//! Tutorials that play themselves: real nodes as real processes on this machine, every step told,
//! the `curl` line shown that does the same, and every outcome checked.

mod ask;
mod cluster;
mod ha;
mod hello;
mod options;
mod orders;
mod program;
mod shell;
mod story;
mod task;

pub(crate) use options::Tutorial;
use options::{By, HaOptions, HelloOptions, OrdersOptions, Place, TaskOptions};

/// # Errors
/// When anything went otherwise than told: which step, what was expected and what was seen.
pub(crate) async fn run(tutorial: Tutorial) -> Result<(), String> {
    match tutorial {
        Tutorial::Ha(options) => ha::run(&options).await,
        Tutorial::Task(options) => task::run(&options).await,
        Tutorial::Hello(options) => hello::run(&options).await,
        Tutorial::Orders(options) => orders::run(&options).await,
    }
}
