//! Replays a seed, runs many, or runs new ones until the time is over.
//!
//! A run prints nothing unless it fails; then it prints the command that replays it and the rule
//! that was broken.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sim::paths::{Paths, RUNS_MIN};
use sim::run::{Failure, Report, attempt};
use sim::settings::{Fault, SCENARIOS, Settings};
use sim::trace::{Trace, seconds};

const USAGE: &str = "\
cargo run -p sim -- [what] [how]

what:
  --seed N             one run (also 0x...)
  --seeds N            the N seeds from 1 on (or from --seed on; `--seed new`: that nobody has played)
  --soak MINUTES       new seeds until the time is over
how:
  --scenario NAME      default: swarm; `all` plays them one after the other
  --without A,B        turn faults off
  --busy SECONDS       how long load and faults last
  --nodes N            the number of nodes at first
  --shrink             after a failure, find the faults that can be turned off
  --trace              show each input and output
  --paths              show how often rare paths were reached
  --first              stop at the first failure
";

/// The letters of a failure that are shown, unless all is to be shown.
const WORDS_MAX: usize = 500;

/// What was asked for on the command line.
#[derive(Clone, Default)]
struct Wanted {
    seed: Option<u64>,
    seeds: Option<u64>,
    soak: Option<u64>,
    scenario: Option<String>,
    without: BTreeSet<Fault>,
    busy: Option<u64>,
    nodes: Option<usize>,
    shrink: bool,
    trace: bool,
    paths: bool,
    first: bool,
}

/// What many runs come to.
#[derive(Default)]
struct Total {
    micros: AtomicU64,
    failed: AtomicU64,
    /// The longest time without an acknowledged write, and in which run.
    gap: Mutex<(u64, u64)>,
    paths: Mutex<Paths>,
}

impl Total {
    fn add(&self, seed: u64, report: &Report) {
        let mut gap = self.gap.lock().expect("no one panics while counting");
        *gap = (*gap).max((report.gap, seed));
        drop(gap);
        self.micros.fetch_add(report.time, Ordering::Relaxed);
        self.paths.lock().expect("no one panics while counting").add(&report.paths);
    }
}

fn main() -> ExitCode {
    // A panic of a node is reported as a broken rule; the run says which.
    if !std::env::args().any(|argument| argument == "--trace") {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Wanted::parse(&arguments).and_then(|wanted| wanted.check().map(|()| wanted)) {
        Ok(wanted) => wanted.execute(),
        Err(why) => {
            say(&format!("{why}\n\n{USAGE}"));
            ExitCode::FAILURE
        }
    }
}

impl Wanted {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut wanted = Self::default();
        let mut rest = arguments.iter();
        while let Some(flag) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{flag} needs something after it"));
            match flag.as_str() {
                "--seed" => {
                    let seed = value()?;
                    let new = (seed == "new").then(new_seed).map(Ok);
                    wanted.seed = Some(new.unwrap_or_else(|| number(seed))?);
                }
                "--seeds" => wanted.seeds = Some(number(value()?)?),
                "--soak" => wanted.soak = Some(number(value()?)?),
                "--scenario" => wanted.scenario = Some(value()?.clone()),
                "--without" => wanted.without.extend(faults(value()?)?),
                "--busy" => wanted.busy = Some(number(value()?)?),
                "--nodes" => {
                    let nodes = number(value()?)?;
                    wanted.nodes = Some(usize::try_from(nodes).map_err(|error| error.to_string())?);
                }
                "--shrink" => wanted.shrink = true,
                "--trace" => wanted.trace = true,
                "--paths" => wanted.paths = true,
                "--first" => wanted.first = true,
                other => return Err(format!("'{other}' is not known")),
            }
        }
        Ok(wanted)
    }

    fn check(&self) -> Result<(), String> {
        if self.seed.is_none() && self.seeds.is_none() && self.soak.is_none() {
            return Err("say what to run".into());
        }
        if self.is_of_all() {
            let is_of_many = self.seeds.is_some() || self.soak.is_some();
            return is_of_many.then_some(()).ok_or("one run is of one scenario".into());
        }
        if self.settings(1).is_none() {
            let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no such scenario; there are {}", names.join(", ")));
        }
        Ok(())
    }

    fn scenario(&self) -> &str {
        self.scenario.as_deref().unwrap_or("swarm")
    }

    fn settings(&self, seed: u64) -> Option<Settings> {
        let mut settings = Settings::new(seed, self.scenario())?;
        settings.faults.retain(|fault| !self.without.contains(fault));
        if let Some(busy) = self.busy {
            settings.busy = busy * sim::agenda::SECOND;
        }
        if let Some(nodes) = self.nodes {
            settings.set_nodes(nodes);
        }
        Some(settings)
    }

    fn is_of_all(&self) -> bool {
        self.scenario() == "all"
    }

    /// The same for each scenario, or a part of the time for each.
    fn each_scenario(&self) -> Vec<Self> {
        let of =
            |(name, _): &(&str, _)| Self { scenario: Some((*name).to_owned()), ..self.clone() };
        SCENARIOS.iter().map(of).collect()
    }

    fn execute(&self) -> ExitCode {
        let parts = if self.is_of_all() { self.each_scenario() } else { vec![self.clone()] };
        let share = u64::try_from(parts.len()).expect("there are few scenarios");
        let failed: u64 = parts.iter().map(|part| part.play(share)).sum();
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// How many runs failed. `share`: among how many scenarios the time is divided.
    fn play(&self, share: u64) -> u64 {
        if let Some(minutes) = self.soak {
            self.soak(Duration::from_secs(minutes * 60 / share))
        } else if let Some(count) = self.seeds {
            let first = self.seed.unwrap_or(1);
            self.run_all(first, count)
        } else {
            u64::from(!self.run_one(self.seed.unwrap_or(1)))
        }
    }

    fn run_one(&self, seed: u64) -> bool {
        let trace = if self.trace { Trace::shown(say) } else { Trace::default() };
        let settings = self.settings(seed).expect("the scenario was checked");
        match attempt(&settings, trace) {
            Ok(report) => {
                if self.trace {
                    say(&format!("{report:?}"));
                }
                true
            }
            Err(failure) => {
                self.tell(seed, &failure);
                false
            }
        }
    }

    fn run_all(&self, first: u64, count: u64) -> u64 {
        let next = AtomicU64::new(first);
        let total = self.in_parallel(&|| {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            (seed < first + count).then_some(seed)
        });
        let from = if first == 1 { String::new() } else { format!(" from {first} on") };
        self.conclude(total, &format!("{count} seeds{from}"), count)
    }

    fn soak(&self, time: Duration) -> u64 {
        let end = Instant::now() + time;
        let first = self.seed.unwrap_or_else(new_seed);
        let next = AtomicU64::new(first);
        let total = self
            .in_parallel(&|| (Instant::now() < end).then(|| next.fetch_add(1, Ordering::Relaxed)));
        let count = next.load(Ordering::Relaxed) - first;
        self.conclude(total, &format!("{count} seeds from {first} on"), count)
    }

    /// Says what the runs came to; how many failed. A path that no run has reached is a failure.
    fn conclude(&self, total: Total, what: &str, runs: u64) -> u64 {
        let failed = total.failed.into_inner();
        let hours = seconds(total.micros.into_inner()) / 3600.0;
        let paths = total.paths.into_inner().expect("no one panics while counting");
        let scenario = self.scenario();
        say(&format!("{scenario}: {what}, {hours:.2} simulated hours, {failed} failed"));
        if self.paths {
            let (gap, seed) = total.gap.into_inner().expect("no one panics while counting");
            say(&format!("  longest time without a write: {:.3} s (seed {seed})", seconds(gap)));
            say(&paths.show());
        }
        // Whoever turns faults off, or takes few runs, cannot reach everything.
        if runs < RUNS_MIN || !self.without.is_empty() {
            return failed;
        }
        let missing = paths.missing(self.scenario());
        for path in &missing {
            say(&format!("no run has reached this: {path}"));
        }
        failed + u64::try_from(missing.len()).expect("there are few")
    }

    /// Runs the seeds that `next` gives on all cores.
    fn in_parallel(&self, next: &(dyn Fn() -> Option<u64> + Sync)) -> Total {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let total = Total::default();
        std::thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    let is_enough = || self.first && total.failed.load(Ordering::Relaxed) > 0;
                    while !is_enough()
                        && let Some(seed) = next()
                    {
                        self.one(seed, &total);
                    }
                });
            }
        });
        total
    }

    fn one(&self, seed: u64, total: &Total) {
        let settings = self.settings(seed).expect("the scenario was checked");
        match attempt(&settings, Trace::default()) {
            Ok(report) => total.add(seed, &report),
            Err(failure) => {
                self.tell(seed, &failure);
                total.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// One line: how to see it again, and what is wrong.
    fn tell(&self, seed: u64, failure: &Failure) {
        let mut without = self.without.clone();
        if self.shrink {
            self.shrink(seed, failure, &mut without);
        }
        let mut words = failure.to_string();
        if let Some(end) = words.char_indices().nth(WORDS_MAX).filter(|_| !self.trace) {
            words.truncate(end.0);
            words.push('…');
        }
        say(&format!("{}: {words}", self.command(seed, &without)));
    }

    fn command(&self, seed: u64, without: &BTreeSet<Fault>) -> String {
        let mut command =
            format!("cargo run -p sim -- --seed {seed} --scenario {}", self.scenario());
        if let Some(busy) = self.busy {
            command += &format!(" --busy {busy}");
        }
        if let Some(nodes) = self.nodes {
            command += &format!(" --nodes {nodes}");
        }
        if !without.is_empty() {
            let names: Vec<String> = without.iter().map(|fault| fault.name()).collect();
            command += &format!(" --without {}", names.join(","));
        }
        command
    }

    /// Turns faults off one by one as long as the same rule is broken.
    fn shrink(&self, seed: u64, failure: &Failure, without: &mut BTreeSet<Fault>) {
        for fault in Fault::every() {
            let mut settings = self.settings(seed).expect("the scenario was checked");
            settings.faults.retain(|fault| !without.contains(fault));
            if !settings.faults.remove(&fault) {
                continue;
            }
            let again = attempt(&settings, Trace::default());
            if again.is_err_and(|other| other.rule == failure.rule) {
                without.insert(fault);
            }
        }
    }
}

/// One that nobody has played: a million for each second since 1970.
fn new_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs()) * 1_000_000
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("'{text}' is not a number"))
}

fn faults(text: &str) -> Result<Vec<Fault>, String> {
    let named = |name: &str| {
        Fault::named(name).ok_or_else(|| {
            let names: Vec<String> = Fault::every().map(|fault| fault.name()).collect();
            format!("there is no fault '{name}'; there are {}", names.join(", "))
        })
    };
    text.split(',').map(named).collect()
}

/// A closed pipe is no reason to stop.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
