//! The chores of this repository: `cargo xtask test`, `cargo xtask sdks`, `cargo xtask soak`,
//! `cargo xtask mutations`, `cargo xtask torture`, `cargo xtask powercut`, `cargo xtask tutorials`,
//! `cargo xtask release`.
//!
//! `test` is what the continuous integration runs and what a change must pass. Nothing here knows a
//! crate of ours: it only starts `cargo`, and the tests of other languages, so it builds in a
//! second.

mod mutations;
mod release;
mod run;
mod sdks;
mod told;

use std::process::ExitCode;

use run::{Step, say};
use told::Told;

const USAGE: &str = "\
cargo xtask <chore>

  test [--quick]             format, lints, all tests with the house rules, those of the packages
                             for other languages that are there, and the simulation's seeds;
                             --quick leaves the seeds out
  sdks                       only the tests of the packages for other languages
  soak [--minutes N]         the simulation with new seeds for N minutes (default 10); other
                             arguments are passed on to it
  mutations [--only A,B]     bugs planted by hand, in a copy of the tree: are they found? --list
                             shows them
  torture [--rows A,B]       real nodes behind a network that cuts, drops and delays: a table of
                             faults; other arguments are passed on to it
  powercut [--times N]       real nodes that all lose power at once, N times (default 200)
  tutorials [--times N]      all tutorials with real processes, N times in a row (default 1)
  release                    a static binary, a package for Debian, manual pages, completions, a bill
                             of materials and checksums, in target/dist; --binary FILE packs that
                             one, --without-packages makes the binary alone
";

/// How many short seeds of the simulation belong to every test run.
const SEEDS: &str = "200";

/// What a test says that could not be tried on this machine.
const LEFT_OUT: &str = "left out: ";

/// And of those in which only ways round are left: as many as it takes to reach the rare paths.
const SEEDS_OF_DETOURS: &str = "100";

/// And of those with immortals.
const SEEDS_OF_IMMORTALS: &str = "35";

/// And of every scenario there is.
const SEEDS_OF_EACH: &str = "12";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chore, rest) = match arguments.split_first() {
        Some((chore, rest)) => (chore.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match chore {
        "test" => test(rest),
        "sdks" => sdks(),
        "soak" => soak(rest),
        "mutations" => mutations::mutations(rest),
        "torture" => torture(&[], rest),
        "powercut" => torture(&["power"], rest),
        "tutorials" => tutorials(rest),
        "release" => release::release(rest),
        "help" | "--help" | "-h" => {
            say(USAGE);
            Ok(())
        }
        other => Err(format!("there is no chore '{other}'\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&format!("\nxtask {chore}: FAILED: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// Stops at the first step that fails, but every test binary is run before that step counts as
/// failed. The closing lines of the test runner are shown once more at the end.
fn test(arguments: &[String]) -> Result<(), String> {
    let quick = match arguments {
        [] => false,
        [flag] if flag == "--quick" => true,
        _ => return Err(format!("test takes --quick or nothing, not {arguments:?}")),
    };
    Step::new("format", &["fmt", "--all", "--check"]).run()?;
    Step::new(
        "lints",
        &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
    )
    .run()?;
    let (mut told, mut left_out) = (Told::default(), Vec::new());
    let tests = Step::new("tests", &["test", "--workspace", "--locked", "--no-fail-fast"])
        .run_and_see(&mut |line| {
            say(line);
            told.hear(line);
            left_out.extend(line.find(LEFT_OUT).map(|at| line[at..].to_owned()));
        });
    say("\nclosing lines of the tests:");
    told.closing_lines().for_each(|line| say(&line));
    tests?;
    left_out.extend(sdks::test()?);
    if !quick {
        Step::new("simulation", &sim(&["--seeds", SEEDS])).run()?;
        let detours = ["--seeds", SEEDS_OF_DETOURS, "--scenario", "detours"];
        Step::new("simulation of detours", &sim(&detours)).run()?;
        let immortals = ["--seeds", SEEDS_OF_IMMORTALS, "--scenario", "immortals"];
        Step::new("simulation of immortals", &sim(&immortals)).run()?;
        let each = ["--seeds", SEEDS_OF_EACH, "--scenario", "all"];
        Step::new("simulation of all scenarios", &sim(&each)).run()?;
        // One that fails is told with the line that plays it again, and is no reason to take back
        // what was changed: it may be as old as the project.
        let unplayed = ["--seed", "new", "--seeds", "2", "--scenario", "all"];
        let step = Step::new("simulation of seeds that nobody has played", &sim(&unplayed));
        if step.run().is_err() {
            say("xtask test: a seed that nobody has played has FAILED; the line above repeats it");
        }
    }
    say("\nxtask test: everything passed");
    for line in left_out {
        say(&format!("xtask test: {line}"));
    }
    Ok(())
}

/// The nodes that they start are built first.
fn sdks() -> Result<(), String> {
    Step::new("nodes", &["build", "--locked", "--bin", "amrita"]).run()?;
    sdks::test()?.iter().for_each(|line| say(line));
    Ok(())
}

fn soak(arguments: &[String]) -> Result<(), String> {
    let (minutes, rest) = number_after("--minutes", arguments, 10)?;
    let minutes = minutes.to_string();
    let mut all = sim(&["--soak", &minutes]);
    all.extend(rest.iter().map(String::as_str));
    Step::new("soak", &all).run()?;
    if rest.is_empty() {
        let immortals = sim(&["--soak", &minutes, "--scenario", "immortals"]);
        Step::new("soak of immortals", &immortals).run()?;
    }
    Ok(())
}

fn sim<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["run", "--quiet", "--release", "--locked", "--package", "sim", "--"];
    all.extend(arguments);
    all
}

/// The binary stands beside the program that tortures it.
fn torture(what: &[&str], arguments: &[String]) -> Result<(), String> {
    let build = ["build", "--release", "--locked", "--bin", "amrita", "--bin", "torture"];
    Step::new("build", &[&build[..], &["--package", "amrita", "--package", "torture"]].concat())
        .run()?;
    let run = ["run", "--quiet", "--release", "--locked", "--package", "torture", "--"];
    let arguments: Vec<&str> = run
        .into_iter()
        .chain(what.iter().copied())
        .chain(arguments.iter().map(String::as_str))
        .collect();
    Step::new("torture", &arguments).run()
}

fn tutorials(arguments: &[String]) -> Result<(), String> {
    let (times, rest) = number_after("--times", arguments, 1)?;
    if !rest.is_empty() {
        return Err(format!("tutorials takes --times N, not {rest:?}"));
    }
    for time in 1..=times {
        for tutorial in ["ha", "task", "hello", "orders"] {
            let name = format!("tutorial {tutorial}, time {time} of {times}");
            let run = [
                "run",
                "--quiet",
                "--release",
                "--locked",
                "--bin",
                "amrita",
                "--",
                "tutorial",
                tutorial,
            ];
            Step::new(&name, &run).run()?;
        }
    }
    say(&format!("\nxtask tutorials: all passed {times} times in a row"));
    Ok(())
}

/// The number after `flag`, or `otherwise`, and the arguments that are left.
fn number_after(
    flag: &str,
    arguments: &[String],
    otherwise: u32,
) -> Result<(u32, Vec<String>), String> {
    let mut rest = arguments.to_vec();
    let Some(at) = rest.iter().position(|argument| argument == flag) else {
        return Ok((otherwise, rest));
    };
    rest.remove(at);
    if at == rest.len() {
        return Err(format!("{flag} needs a number after it"));
    }
    let text = rest.remove(at);
    match text.parse() {
        Ok(number) if number > 0 => Ok((number, rest)),
        _ => Err(format!("{flag} needs a number over 0, not '{text}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_number_is_taken_out_and_the_rest_is_left() {
        let (minutes, rest) = number_after("--minutes", &words("--a --minutes 3 b"), 10).unwrap();
        assert_eq!((minutes, rest), (3, words("--a b")));
        assert_eq!(number_after("--times", &[], 7).unwrap(), (7, Vec::new()));
        assert!(number_after("--times", &words("--times"), 7).is_err());
        assert!(number_after("--times", &words("--times none"), 7).is_err());
        assert!(number_after("--times", &words("--times 0"), 7).is_err());
    }
}
