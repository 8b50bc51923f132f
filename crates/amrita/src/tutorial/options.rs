//! What the tutorials can be told.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Tutorial {
    /// High availability in twelve steps: three nodes, a quorum, a node that goes and comes back.
    Ha(HaOptions),
    /// One job for the whole cluster, done once although its owner is killed twice in mid-work.
    Task(TaskOptions),
    /// Hello World that does not die: its primary is killed ten times while messages come.
    Hello(HelloOptions),
    /// Orders as documents, a ledger as an immortal: each is paid once, whatever is killed.
    Orders(OrdersOptions),
}

/// Where a tutorial's nodes live.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The nodes take the three ports after this one [default: any that are free]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(0..=65_000))]
    pub(super) base_port: Option<u16>,
    /// Leave the nodes' data and logs in the temporary folder
    #[arg(long)]
    pub(super) keep: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct HaOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// How the node of step 5 goes: asked to stop, killed, or one run of each.
    #[arg(long, value_enum, default_value = "both")]
    pub(super) by: By,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// DELETE on its /core/management.
    Delete,
    /// SIGKILL.
    Kill,
    /// The whole tutorial twice, once with each.
    Both,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TaskOptions {
    #[command(flatten)]
    pub(super) place: Place,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct HelloOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// How often the primary goes, by the death of its program and of its whole node in turn
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(super) failovers: usize,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct OrdersOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// How many orders are made while each thing is killed
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(super) orders: u64,
}
