//! The binary: a node, several nodes at once, and the command line of a cluster.

mod access;
mod admin;
mod arguments;
mod backup;
mod backup_options;
mod batch;
mod completions;
mod counts;
mod csv;
mod disk;
mod example;
mod explain;
mod export;
mod found;
mod help;
mod immortal;
mod key_options;
mod kind;
mod members;
mod node;
mod outcome;
mod query;
mod recover;
mod restore;
mod screen;
mod sql;
mod task;
mod task_options;
mod top;
mod tutorial;
mod unseal;
mod up;
mod verbs;
mod watch;

use std::process::ExitCode;

use arguments::{Arguments, Cluster, Command};
use outcome::{Ending, Outcome, Trouble};

/// A node makes and frees many small pieces of memory, some of them on other threads. The system's
/// allocator takes a tenth of its time for that, and keeps what it once had.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = match immortal::translated(std::env::args_os()) {
        Ok(translated) => {
            translated.notes.iter().for_each(|note| screen::aside(note));
            Arguments::of(translated.arguments)
        }
        Err(why) => {
            screen::error(&why);
            return ExitCode::from(Ending::Usage as u8);
        }
    };
    let outcome = match check(&arguments.cluster, &arguments.command) {
        Ok(()) => match &arguments.command {
            Command::Example { name, arguments } => return example::run(name, arguments),
            _ => run(arguments),
        },
        Err(trouble) => Err(trouble),
    };
    match outcome {
        Ok(()) if screen::is_all_said() => ExitCode::SUCCESS,
        Ok(()) => {
            screen::error(
                "standard output cannot be written (is the disk full?): some of it is lost",
            );
            ExitCode::from(Ending::Refused as u8)
        }
        Err(Trouble { ending, why }) => {
            screen::error(&why);
            ExitCode::from(ending as u8)
        }
    }
}

fn run(arguments: Arguments) -> Outcome {
    let Arguments { cluster, command } = arguments;
    match command {
        Command::Node(options) => node::run(&options),
        Command::Up(options) => asynchronous(up::run(&options, cluster.json)),
        Command::Unseal(options) => unseal::run(&options),
        Command::Get(target) => asynchronous(verbs::get(&cluster, &target)),
        Command::Diff(asked) => asynchronous(verbs::diff(&cluster, &asked)),
        Command::Revert(asked) => asynchronous(verbs::revert(&cluster, &asked)),
        Command::Post(write) => asynchronous(verbs::write(&cluster, client::Method::Post, &write)),
        Command::Put(write) => asynchronous(verbs::write(&cluster, client::Method::Put, &write)),
        Command::Patch(write) => {
            asynchronous(verbs::write(&cluster, client::Method::Patch, &write))
        }
        Command::Delete(write) => {
            asynchronous(verbs::write(&cluster, client::Method::Delete, &write))
        }
        Command::Query(options) => asynchronous(query::run(&cluster, &options)),
        Command::Sql(options) => asynchronous(sql::run(&cluster, &options)),
        Command::Batch(options) => asynchronous(batch::run(&cluster, &options)),
        Command::Export(options) => asynchronous(export::run(&cluster, &options)),
        Command::Kind(command) => asynchronous(kind::run(&cluster, &command)),
        Command::Watch(options) => asynchronous(watch::run(&cluster, &options)),
        Command::Nodes => asynchronous(admin::nodes(&cluster)),
        Command::Disk { node } => asynchronous(disk::run(&cluster, node.as_deref())),
        Command::Top(options) => asynchronous(top::run(&cluster, &options)),
        Command::Explain(explained) => asynchronous(explain::run(&cluster, &explained)),
        Command::Task(command) => asynchronous(task::run(&cluster, &command)),
        Command::Quorum { number } => asynchronous(admin::quorum(&cluster, number)),
        Command::Backup(options) => asynchronous(backup::run(&cluster, &options)),
        Command::Recover(options) => recover::run(&options, cluster.json),
        Command::Restore(options) => restore::run(&options, cluster.json),
        Command::Admit { node, at, refuse } => {
            asynchronous(members::admit(&cluster, node.as_deref(), at.as_deref(), refuse))
        }
        Command::Remove { node } => asynchronous(members::remove(&cluster, &node)),
        Command::Drain { node, undo } => asynchronous(members::drain(&cluster, &node, !undo)),
        Command::Stop { node } => asynchronous(admin::stop(&cluster, &node)),
        Command::Login(options) => asynchronous(access::login(&cluster, &options)),
        Command::Logout => asynchronous(access::logout(&cluster)),
        Command::Whoami => asynchronous(access::who_am_i(&cluster)),
        Command::User(command) => asynchronous(access::run_user(&cluster, &command)),
        Command::Role(command) => asynchronous(access::run_role(&cluster, &command)),
        Command::Token(command) => asynchronous(access::run_token(&cluster, &command)),
        Command::Audit(options) => asynchronous(access::run_audit(&cluster, &options)),
        Command::CanI(asked) => asynchronous(access::can_i(&cluster, &asked)),
        Command::Immortal(command) => asynchronous(immortal::run(&cluster, command)),
        Command::Example { .. } => unreachable!("it was run above"),
        Command::Tutorial(tutorial) => {
            asynchronous(async { tutorial::run(tutorial).await.map_err(Trouble::from) })
        }
        Command::Help { words } => help::run(&words, cluster.json),
        Command::Completions { shell } => completions::print(shell),
        Command::Man { folder } => completions::write_manual(&folder),
    }
}

/// What has nothing to say to programs does not take `--json` as if it had, and what asks no
/// cluster does not take `--address`.
fn check(cluster: &Cluster, command: &Command) -> Outcome {
    let json = match command {
        Command::Node(_) => "a node says nothing on standard output; ask it: amrita nodes --json",
        Command::Tutorial(_) => "a tutorial is told to people; its exit code says how it ended",
        Command::Example { .. } => "the program is for people; its exit code says how it ended",
        Command::Unseal(_) => "it shows the text as it was written",
        Command::Completions { .. } => "it is text for a shell",
        Command::Man { .. } => "the pages are for people",
        _ => "",
    };
    if cluster.json && !json.is_empty() {
        return Err(Trouble::usage(format!("--json does not go with this: {json}")));
    }
    let address = match command {
        Command::Node(_) => "a node finds the others by --peer-nodes",
        Command::Up(_) => "it starts a cluster of its own, see --base-port",
        Command::Tutorial(_) => "a tutorial starts a cluster of its own",
        Command::Recover(_) | Command::Restore(_) => "it reads folders, and speaks to no node",
        Command::Backup(options) if options.command.is_some() => {
            "it reads a folder, and speaks to no node"
        }
        Command::Example { .. } => "the program takes --node URL-OR-SOCKET",
        Command::Unseal(_) => "it reads a file of this machine",
        Command::Help { .. } | Command::Completions { .. } | Command::Man { .. } => {
            "it speaks to no node"
        }
        _ => "",
    };
    if cluster.is_named && !address.is_empty() {
        return Err(Trouble::usage(format!("--address does not go with this: {address}")));
    }
    Ok(())
}

/// Commands wait for sockets and clocks, one thing at a time: one thread is enough.
fn asynchronous(work: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the command cannot be started: {error}"))?;
    runtime.block_on(work)
}
