//! Services and tasks written as any user would write them, with nothing but `sdk`.
//!
//! [`ExampleService`] and [`ExampleTaskService`] behave as Xenon's own, which its tutorials use;
//! the bootstrap task is one job that is done once for the whole cluster, whatever dies meanwhile,
//! and orders are paid at a ledger, an immortal, exactly once.

mod bootstrap;
mod example;
mod example_task;
mod order;

pub use bootstrap::{BootstrapTaskService, CounterService, UserService};
pub use example::ExampleService;
pub use example_task::ExampleTaskService;
pub use order::OrderService;
use sdk::service::Catalogue;

/// All of them.
pub fn catalogue() -> Catalogue {
    Catalogue::new()
        .with(ExampleService)
        .with_task(ExampleTaskService)
        .with(UserService)
        .with(CounterService)
        .with_task(BootstrapTaskService)
        .with(OrderService)
}

/// A node with all of them, to be started.
pub fn host() -> sdk::Host {
    sdk::Host::with_catalogue(catalogue())
}
