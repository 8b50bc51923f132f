//! The binary: a node, several nodes at once, and the command line of a cluster.

mod admin;
mod arguments;
mod example;
mod immortal;
mod node;
mod query;
mod screen;
mod tutorial;
mod up;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

/// A node makes and frees many small pieces of memory, some of them on other threads. The system's
/// allocator takes a tenth of its time for that, and keeps what it once had.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why a command failed, for people; the lines are shown as they are.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let arguments = match immortal::translated(std::env::args_os()) {
        Ok(arguments) => Arguments::parse_from(arguments),
        Err(why) => {
            screen::error(&why);
            return ExitCode::FAILURE;
        }
    };
    if let Command::Example { name, arguments } = &arguments.command {
        return example::run(name, arguments);
    }
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            screen::error(&why);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Outcome {
    let Arguments { cluster, command } = arguments;
    match command {
        Command::Node(options) => node::run(&options),
        Command::Up(options) => asynchronous(up::run(&options)),
        Command::Get(target) => asynchronous(verbs::get(&cluster, &target)),
        Command::Post(write) => asynchronous(verbs::write(&cluster, sdk::Method::Post, &write)),
        Command::Put(write) => asynchronous(verbs::write(&cluster, sdk::Method::Put, &write)),
        Command::Patch(write) => asynchronous(verbs::write(&cluster, sdk::Method::Patch, &write)),
        Command::Delete(write) => asynchronous(verbs::write(&cluster, sdk::Method::Delete, &write)),
        Command::Query(options) => asynchronous(query::run(&cluster, &options)),
        Command::Nodes => asynchronous(admin::nodes(&cluster)),
        Command::Quorum { number } => asynchronous(admin::quorum(&cluster, number)),
        Command::Stop { node } => asynchronous(admin::stop(&cluster, &node)),
        Command::Immortal(command) => asynchronous(immortal::run(&cluster, command)),
        Command::Example { .. } => unreachable!("it was run above"),
        Command::Tutorial(tutorial) => asynchronous(tutorial::run(tutorial)),
    }
}

/// Commands wait for sockets and clocks, one thing at a time: one thread is enough.
fn asynchronous(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the command cannot be started: {error}"))?;
    runtime.block_on(work)
}
