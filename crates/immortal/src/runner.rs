//! Keeps a program connected: one session after the other, until it is stopped or cannot go on.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::dial::Dial;
use crate::format::put_arguments;
use crate::impulses::Impulses;
use crate::link::Socket;
use crate::machine::{Machine, Stage, Upgradable, Versions};
use crate::program::Immortal;
use crate::session::{Ended, Plan, Told, run as run_session};

/// The pause before the connection is made again; doubled with each further time.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// At most this many times a program may fail at the same input in a row; then it gives up, so that
/// somebody looks.
const FAULTS_MAX: u32 = 3;

/// So long it is tried again when the node says that another program is attached, or that it has no
/// replica: both may be over in a moment.
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// Where the node is, and as what the program attaches.
#[derive(Clone, Debug)]
pub struct Options {
    dial: Dial,
    instance: String,
    versions: Versions,
    initial: Vec<u8>,
    give_up_after: Option<Duration>,
    pause_max: Duration,
}

/// Why a program does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The node does not take it, for a reason that does not pass by itself.
    Refused { code: String, text: String },
    /// It failed several times at the same input.
    Fault { input: u64, text: String },
    /// The node was not reached for as long as the options allow.
    Unreachable(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, text } if code == "DETACHED" => {
                write!(f, "the node lets this program go: {text}")
            }
            Self::Refused { code, text } => write!(f, "the node refuses: {code}: {text}"),
            Self::Fault { input, text } => {
                write!(f, "the program failed {FAULTS_MAX} times at input {input}: {text}")
            }
            Self::Unreachable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for RunError {}

impl Options {
    /// The node is `http://host:port`, the socket in its sandbox, or the sandbox. Of several behind
    /// commas the first is taken that is there.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(node: &str, instance: &str) -> Result<Self, String> {
        Ok(Self::with_dial(Dial::parse(node)?, instance))
    }

    /// Another way to a node, for tests.
    pub(crate) fn dialled(
        dial: impl Fn() -> io::Result<Socket> + Send + Sync + 'static,
        instance: &str,
    ) -> Self {
        let options = Self::with_dial(Dial::Other(Arc::new(dial)), instance);
        Self { pause_max: PAUSE_MIN, ..options }
    }

    fn with_dial(dial: Dial, instance: &str) -> Self {
        Self {
            dial,
            instance: instance.to_owned(),
            versions: Versions { program: 0, upgrade_to: 0 },
            initial: Vec::new(),
            give_up_after: None,
            pause_max: PAUSE_MAX,
        }
    }

    /// Reads `--node` and `--instance` from the process's arguments, with these as what they are
    /// when they are not given. Gives back the arguments that are left.
    ///
    /// # Errors
    /// When a value is missing or the address is none.
    pub fn from_arguments(node: &str, instance: &str) -> Result<(Self, Vec<String>), String> {
        Self::parse(node, instance, std::env::args().skip(1))
    }

    /// As [`Self::from_arguments`], with arguments from elsewhere.
    ///
    /// # Errors
    /// As [`Self::from_arguments`].
    pub fn parse(
        node: &str,
        instance: &str,
        arguments: impl Iterator<Item = String>,
    ) -> Result<(Self, Vec<String>), String> {
        let (mut node, mut instance) = (node.to_owned(), instance.to_owned());
        let (mut rest, mut arguments) = (Vec::new(), arguments);
        while let Some(argument) = arguments.next() {
            let (name, mut value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let wanted = match name {
                "--node" => &mut node,
                "--instance" => &mut instance,
                _ => {
                    rest.push(argument);
                    continue;
                }
            };
            value = value.or_else(|| arguments.next());
            *wanted = value.ok_or_else(|| format!("{argument} needs a value"))?;
        }
        Ok((Self::new(&node, &instance)?, rest))
    }

    /// What [`Immortal::start`] is given, as a JSON array.
    #[must_use]
    pub fn initial(mut self, arguments: &impl Serialize) -> Self {
        self.initial.clear();
        put_arguments(&mut self.initial, arguments);
        self
    }

    /// The version of the program's state and code; 0 unless it is told.
    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.versions = Versions { program: version, upgrade_to: version };
        self
    }

    /// Give up when the node was not reached for so long. Without it, it is tried for ever.
    #[must_use]
    pub fn give_up_after(mut self, patience: Duration) -> Self {
        self.give_up_after = Some(patience);
        self
    }
}

/// Runs a program until [`Impulses::stop`], with this as the state before its first input. Each
/// connection begins with the state that the node gives.
///
/// # Errors
/// When it cannot go on.
pub fn run<P: Immortal>(options: &Options, fresh: impl Fn() -> P) -> Result<(), RunError> {
    run_with(options, fresh, &Impulses::default())
}

/// As [`run`], with a handle for threads that the program starts by itself.
///
/// # Errors
/// As [`run`].
pub fn run_with<P: Immortal>(
    options: &Options,
    fresh: impl Fn() -> P,
    impulses: &Impulses,
) -> Result<(), RunError> {
    let version = options.versions.program;
    keep_running(options, &|| Machine::new(version, fresh()), impulses)
}

/// As [`run_with`], for a program that has the code of the next version too. When the upgrade to it
/// comes, as an input among the others, the state is converted with `From`, and what it waits for
/// too.
///
/// # Errors
/// As [`run`].
pub fn run_upgradable<Old, New>(
    options: &Options,
    upgrade_to: u64,
    fresh: impl Fn() -> Old,
    impulses: &Impulses,
) -> Result<(), RunError>
where
    Old: Immortal,
    New: Immortal<Next: From<Old::Next>, Effect: From<Old::Effect>> + From<Old>,
{
    let version = options.versions.program;
    let options =
        Options { versions: Versions { program: version, upgrade_to }, ..options.clone() };
    let fresh =
        || Upgradable::<Old, New>::Old { machine: Machine::new(version, fresh()), upgrade_to };
    keep_running(&options, &fresh, impulses)
}

/// How a program ends that was called wrongly, as `amrita` does.
const EXIT_USAGE: u8 = 2;

/// The whole main program of an immortal: the options, or what was wrong with them, and the state
/// before the first input.
pub fn main<P: Immortal>(options: Result<Options, String>, fresh: impl Fn() -> P) -> ExitCode {
    let options = match options {
        Ok(options) => options,
        Err(why) => {
            tell(&why);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run(&options, fresh) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            tell(&why.to_string());
            ExitCode::FAILURE
        }
    }
}

fn keep_running<S: Stage>(
    options: &Options,
    fresh: &dyn Fn() -> S,
    impulses: &Impulses,
) -> Result<(), RunError> {
    let mut worries = Worries::new(options);
    while !impulses.is_stopped() {
        let plan = Plan {
            instance: &options.instance,
            versions: worries.versions,
            initial: &options.initial,
            fresh,
            impulses,
        };
        let told = match options.dial.connect(&options.instance) {
            Ok(socket) => run_session(&plan, socket),
            Err(ended) => Told { ended, caught_up: false },
        };
        if impulses.is_stopped() {
            break;
        }
        if matches!(told.ended, Ended::Said { .. }) {
            options.dial.turn_to_the_next();
        }
        impulses.pause(worries.after(told)?);
    }
    Ok(())
}

/// What went wrong lately.
struct Worries {
    versions: Versions,
    give_up_after: Option<Duration>,
    pause: Duration,
    pause_max: Duration,
    /// Since when it does not work at all.
    since: Option<Instant>,
    /// The input at which it failed, and how often in a row.
    fault: (u64, u32),
    /// The reason that was told last: each is told once.
    told: String,
}

impl Worries {
    fn new(options: &Options) -> Self {
        let Options { versions, give_up_after, pause_max, .. } = *options;
        Self {
            versions,
            give_up_after,
            pause: PAUSE_MIN,
            pause_max,
            since: None,
            fault: (0, 0),
            told: String::new(),
        }
    }

    /// How long to wait before the next session, or why there is none.
    fn after(&mut self, Told { ended, caught_up }: Told) -> Result<Duration, RunError> {
        if caught_up {
            self.pause = PAUSE_MIN;
            self.since = None;
            self.told.clear();
        }
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        match ended {
            Ended::Lost(why) => {
                if self.give_up_after.is_some_and(|patience| waited >= patience) {
                    return Err(RunError::Unreachable(why));
                }
                self.tell_once(&why);
            }
            Ended::Said { code, text } => self.was_refused(code, text, waited)?,
            Ended::Fault { input, text } => {
                let times = if self.fault.0 == input { self.fault.1 + 1 } else { 1 };
                self.fault = (input, times);
                if times >= FAULTS_MAX {
                    return Err(RunError::Fault { input, text });
                }
                tell(&format!("failed at input {input}, trying again: {text}"));
            }
        }
        let pause = self.pause;
        self.pause = (self.pause * 2).min(self.pause_max);
        Ok(pause)
    }

    fn was_refused(
        &mut self,
        code: String,
        text: String,
        waited: Duration,
    ) -> Result<(), RunError> {
        let Versions { program, upgrade_to } = self.versions;
        match code.as_str() {
            "RELOAD" | "STOPPING" | "NOT_PRIMARY" => {}
            "ATTACHED" | "NOT_HERE" if waited < REFUSED_MAX => {}
            // The upgrade is done: this program is the new version, and says so from now on.
            "PROGRAM_VERSION" | "UPGRADED" if program != upgrade_to => {
                self.versions.program = upgrade_to;
            }
            _ => return Err(RunError::Refused { code, text }),
        }
        self.tell_once(&format!("{code}: {text}"));
        Ok(())
    }

    fn tell_once(&mut self, why: &str) {
        if self.told != why {
            why.clone_into(&mut self.told);
            tell(&format!("{why}; trying again"));
        }
    }
}

/// A line on standard error. Nobody may be there to read it.
fn tell(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_taken_in_both_spellings_and_the_others_left() {
        let parse = |words: &[&str]| {
            let words = words.iter().map(|word| (*word).to_owned());
            Options::parse("http://127.0.0.1:8000", "server", words)
        };
        let (options, rest) = parse(&["--instance=s2", "--numbers", "--node", "x.sock"]).unwrap();
        assert_eq!((&options.instance[..], rest), ("s2", vec!["--numbers".to_owned()]));
        assert!(matches!(options.dial, Dial::Unix(_)));
        assert_eq!(parse(&["--node"]).unwrap_err(), "--node needs a value");
        assert!(parse(&["--node", "ftp://x"]).is_err());
    }
}
