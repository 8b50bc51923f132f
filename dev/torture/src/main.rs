//! Real nodes on bad days: a table of faults, and what clients notice of each.
//!
//! The nodes live in network namespaces of their own, behind a switch of this program that drops,
//! delays and cuts packets. Documents are written all the time by clients that try every node; the
//! longest time that a document could not be written is the *time without service*. In the end each
//! document's whole history is read, and held against what was acknowledged.
//!
//! No rights are needed where user namespaces may be made.

mod check;
mod cluster;
mod load;
mod machine;
mod rows;
mod spaces;
mod switch;

use std::process::{Command, ExitCode};
use std::time::Duration;

use rows::{ROWS, Row};
use torture::power::Play;

const USAGE: &str = "\
cargo xtask torture [--rows a,b] [--times N] [--nodes N]

  --rows   which faults, of the list below [default: all]
  --times  how often each fault strikes [default: 20; the longest ones less]
  --nodes  how many nodes [default: 3]

cargo xtask powercut [--times N] [--seed N] [--lies yes]

  --times  how often the power of all three nodes fails [default: 200]
  --seed   decides what is lost [default: 1]
  --lies   nothing is synced, whatever is said: this must find losses
";

/// The first argument of a play with losses of power.
const POWER: &str = "power";

/// Set for the process that lives in a namespace of its own.
const WITHIN: &str = "AMRITA_TORTURE_WITHIN";

struct Wanted {
    rows: Vec<&'static Row>,
    times: Option<usize>,
    nodes: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == POWER) {
        return match play_power(&arguments[1..]) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                say(&format!("powercut: {why}"));
                ExitCode::FAILURE
            }
        };
    }
    let wanted = match parse(&arguments) {
        Ok(wanted) => wanted,
        Err(why) => {
            say(&format!("{why}\n\n{USAGE}\nfaults:"));
            ROWS.iter().for_each(|row| say(&format!("  {:<12} {}", row.name, row.what)));
            return ExitCode::FAILURE;
        }
    };
    if std::env::var_os(WITHIN).is_none() {
        return run_all(&wanted);
    }
    match run(&wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(&format!("torture: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Result<Wanted, String> {
    let mut wanted = Wanted { rows: ROWS.iter().collect(), times: None, nodes: 3 };
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().ok_or(format!("{flag} needs something after it"))?;
        let number = || value.parse().map_err(|_| format!("'{value}' is not a number"));
        match flag.as_str() {
            "--rows" => {
                let named = |name| {
                    let row = ROWS.iter().find(|row| row.name == name);
                    row.ok_or(format!("there is no fault '{name}'"))
                };
                wanted.rows = value.split(',').map(named).collect::<Result<_, _>>()?;
            }
            "--times" => wanted.times = Some(number()?),
            "--nodes" => wanted.nodes = number()?,
            other => return Err(format!("'{other}' is not known")),
        }
    }
    if !(3..=7).contains(&wanted.nodes) {
        return Err(format!("--nodes must be from 3 to 7, not {}", wanted.nodes));
    }
    Ok(wanted)
}

/// The power of all nodes fails, again and again.
fn play_power(arguments: &[String]) -> Result<(), String> {
    let (mut times, mut seed, mut lies) = (200, 1, false);
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        let value = rest.next().ok_or(format!("{flag} needs something after it"))?;
        let number = || value.parse().map_err(|_| format!("'{value}' is not a number"));
        match flag.as_str() {
            "--times" => times = number()?,
            "--seed" => seed = number()?,
            "--lies" => lies = value == "yes",
            other => return Err(format!("'{other}' is not known\n\n{USAGE}")),
        }
    }
    let folder = tempfile::tempdir().map_err(|error| format!("a folder: {error}"))?;
    let play =
        Play::in_folder(&cluster::binary()?, folder.path(), times.try_into().unwrap_or(1), seed);
    let report = Play { lies, ..play }.run(&mut say)?;
    say(&format!(
        "{} losses of power of all three nodes, {} acknowledged writes, {} impulses, {} bytes and {} names that \
         were not synced are gone: nothing was lost or doubled; served again within {} ms",
        report.losses,
        report.acknowledged,
        report.counted,
        report.taken.bytes,
        report.taken.names,
        report.slowest.as_millis()
    ));
    Ok(())
}

/// A program in a network namespace of its own.
fn unshared() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--net");
    command
}

/// Starts this program once more for each row. Where namespaces are not to be had, the table is
/// skipped, and says so.
fn run_all(wanted: &Wanted) -> ExitCode {
    let succeeds = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    if !succeeds(unshared().args(["test", "-w", "/dev/net/tun"])) {
        say("skipped: network namespaces or /dev/net/tun are not to be had here");
        return ExitCode::SUCCESS;
    }
    say(
        "| fault | times | without service: p50 | p99 | worst | well after its end | owners changed \
         | done | lost or doubled |",
    );
    say("|---|---|---|---|---|---|---|---|---|");
    let ourselves = std::env::current_exe().expect("a program knows where it is");
    let mut is_right = true;
    for row in &wanted.rows {
        let mut command = unshared();
        command.arg(&ourselves).args(["--rows", row.name, "--nodes", &wanted.nodes.to_string()]);
        if let Some(times) = wanted.times {
            command.args(["--times", &times.to_string()]);
        }
        is_right &= succeeds(command.env(WITHIN, "1"));
    }
    if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// True when nothing was lost or doubled.
fn run(wanted: &Wanted) -> Result<bool, String> {
    let mut is_right = true;
    for row in &wanted.rows {
        let times = wanted.times.unwrap_or(row.times);
        let outcome = row.run(wanted.nodes, times)?;
        let of = |gaps: &[Duration], part: usize| {
            let mut sorted = gaps.to_vec();
            sorted.sort_unstable();
            let at = (sorted.len() * part).div_ceil(100).clamp(1, sorted.len()) - 1;
            format!("{} ms", sorted[at].as_millis())
        };
        say(&format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.what,
            outcome.gaps.len(),
            of(&outcome.gaps, 50),
            of(&outcome.gaps, 99),
            of(&outcome.gaps, 100),
            of(&outcome.heals, 100),
            outcome.owner_changes,
            outcome.writes,
            outcome.wrong.len(),
        ));
        for wrong in outcome.wrong.iter().take(5) {
            say(&format!("  WRONG: {wrong}"));
        }
        is_right &= outcome.wrong.is_empty();
    }
    Ok(is_right)
}

/// A closed pipe is no reason to stop.
fn say(line: &str) {
    use std::io::Write;
    drop(writeln!(std::io::stdout(), "{line}"));
}
