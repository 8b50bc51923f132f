//! A program's state with what it waits for: handles one message after the other, goes out into a
//! checkpoint and comes back, and becomes its next version.

use std::io::{self, Read, Write};

use protocol::immortal::MessageView;
use serde::{Deserialize, Serialize};

use crate::book::{Book, What};
use crate::effects::Job;
use crate::format;
use crate::impulses::Impulses;
use crate::incoming::{Incoming, Outcome, Refused};
use crate::outputs::Outputs;
use crate::program::{Context, Immortal, Place};

/// The version of what stands before the state in a checkpoint.
const CHECKPOINT_FORMAT: u64 = 1;

/// The first thing in a checkpoint.
#[derive(Serialize, Deserialize)]
struct Head {
    format: u64,
    program_version: u64,
}

/// A program of one version, or one that can become its next version.
pub(crate) trait Stage: Sized {
    /// Handles one input.
    fn message(&mut self, place: Place<'_>, outputs: &mut Outputs, message: MessageView<'_>);

    /// The input UPGRADE.
    fn upgrade(self, version: u64) -> Result<Self, String>;

    fn save(&self, to: &mut dyn Write) -> io::Result<()>;

    /// The versions are the options': of the program, and what it can become.
    fn load(from: &mut dyn Read, versions: Versions) -> io::Result<Self>;

    /// The effects that were asked for since this was called last.
    fn new_effects(&mut self) -> Vec<Job>;

    /// All effects without a result.
    fn all_effects(&self) -> Vec<Job>;

    fn primary(&self, impulses: &Impulses);

    fn standby(&self);
}

/// The version of a program, and the one that it can turn its state into (the same if it cannot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) program: u64,
    pub(crate) upgrade_to: u64,
}

pub(crate) struct Machine<P: Immortal> {
    version: u64,
    state: P,
    book: Book<P::Next, P::Effect>,
    effects: Vec<u64>,
}

impl<P: Immortal> Machine<P> {
    pub(crate) fn new(version: u64, state: P) -> Self {
        Self { version, state, book: Book::default(), effects: Vec::new() }
    }

    fn load_rest(from: &mut dyn Read, version: u64) -> io::Result<Self> {
        let book = format::load(from)?;
        let state = P::load(from)?;
        Ok(Self { version, state, book, effects: Vec::new() })
    }

    fn into_version<P2>(self, version: u64) -> Machine<P2>
    where
        P2: Immortal<Next: From<P::Next>, Effect: From<P::Effect>> + From<P>,
    {
        let Self { state, book, effects, .. } = self;
        Machine { version, state: state.into(), book: book.converted(), effects }
    }

    fn resume(
        &mut self,
        place: Place<'_>,
        outputs: &mut Outputs,
        next: Option<P::Next>,
        outcome: Outcome<'_>,
    ) {
        // None: it was cancelled while its result was on the way.
        let Some(next) = next else { return };
        let mut context = Context::new(place, &mut self.book, outputs, &mut self.effects);
        self.state.resume(&mut context, next, outcome);
    }

    fn job(id: u64, effect: &P::Effect) -> Job {
        let effect = effect.clone();
        Job { id, perform: Box::new(move || P::perform(effect)) }
    }
}

impl<P: Immortal> Stage for Machine<P> {
    fn message(&mut self, place: Place<'_>, outputs: &mut Outputs, message: MessageView<'_>) {
        let (call, method, payload) = match message {
            MessageView::Fork { method, payload } | MessageView::Impulse { method, payload } => {
                (None, method, payload)
            }
            MessageView::Call { id, method, payload } => (Some(id), method, payload),
            MessageView::Start { payload } => {
                let mut context = Context::new(place, &mut self.book, outputs, &mut self.effects);
                return self.state.start(&mut context, payload);
            }
            MessageView::Timer { id } => {
                let next = self.book.strike(id, |what| matches!(what, What::Timer));
                return self.resume(place, outputs, next, Outcome::FIRED);
            }
            MessageView::Result { id, status, payload } => {
                let next = self.book.strike(id, |what| matches!(what, What::Effect(_)));
                return self.resume(place, outputs, next, Outcome { status, payload });
            }
            MessageView::Answer { id, status, payload } => {
                let name = if place.sender.name == place.me { "" } else { place.sender.name };
                let right = |what: &What<_>| matches!(what, What::Answer { from } if from == name);
                let next = self.book.strike(id, right);
                return self.resume(place, outputs, next, Outcome { status, payload });
            }
            // The session has seen to the first; the second is an input that is none.
            MessageView::Upgrade { .. } | MessageView::Skipped => return,
        };
        let mut context = Context::new(place, &mut self.book, outputs, &mut self.effects);
        let incoming = Incoming { method, payload, call };
        if method < 0 {
            let why = format!("method numbers below 0 are reserved, and {method} is not known");
            return context.refuse(&incoming, &Refused(why));
        }
        self.state.handle(&mut context, incoming);
    }

    fn upgrade(self, version: u64) -> Result<Self, String> {
        // A program that is the new version already and replays from before: nothing to convert.
        if version == self.version {
            return Ok(self);
        }
        let has = self.version;
        Err(format!("this program is version {has} and cannot become version {version}"))
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        let head = Head { format: CHECKPOINT_FORMAT, program_version: self.version };
        format::save(&head, to)?;
        format::save(&self.book, to)?;
        self.state.save(to)
    }

    fn load(from: &mut dyn Read, versions: Versions) -> io::Result<Self> {
        let version = load_head(from)?;
        if version != versions.program {
            return Err(wrong_version(version, versions));
        }
        Self::load_rest(from, version)
    }

    fn new_effects(&mut self) -> Vec<Job> {
        // Those that were cancelled since are gone from the book.
        let new = std::mem::take(&mut self.effects).into_iter();
        new.filter_map(|id| Some(Self::job(id, self.book.effect(id)?))).collect()
    }

    fn all_effects(&self) -> Vec<Job> {
        self.book.effects().map(|(id, effect)| Self::job(id, effect)).collect()
    }

    fn primary(&self, impulses: &Impulses) {
        self.state.primary(impulses);
    }

    fn standby(&self) {
        self.state.standby();
    }
}

fn load_head(from: &mut dyn Read) -> io::Result<u64> {
    let head: Head = format::load(from)?;
    if head.format != CHECKPOINT_FORMAT {
        let found = head.format;
        return Err(io::Error::other(format!(
            "the checkpoint is of format {found}; this binding knows {CHECKPOINT_FORMAT}"
        )));
    }
    Ok(head.program_version)
}

fn wrong_version(found: u64, versions: Versions) -> io::Error {
    let Versions { program, upgrade_to } = versions;
    let text = format!("the state is of program version {found}; this program has {program}");
    io::Error::other(if program == upgrade_to { text } else { format!("{text} and {upgrade_to}") })
}

/// A program with the code of two versions.
pub(crate) enum Upgradable<Old: Immortal, New: Immortal> {
    Old { machine: Machine<Old>, upgrade_to: u64 },
    New(Machine<New>),
}

/// Calls the same method of whichever version it is.
macro_rules! either {
    ($self:ident, $machine:ident => $call:expr) => {
        match $self {
            Self::Old { machine: $machine, .. } => $call,
            Self::New($machine) => $call,
        }
    };
}

impl<Old, New> Stage for Upgradable<Old, New>
where
    Old: Immortal,
    New: Immortal<Next: From<Old::Next>, Effect: From<Old::Effect>> + From<Old>,
{
    fn message(&mut self, place: Place<'_>, outputs: &mut Outputs, message: MessageView<'_>) {
        either!(self, machine => machine.message(place, outputs, message));
    }

    fn upgrade(self, version: u64) -> Result<Self, String> {
        match self {
            Self::Old { machine, upgrade_to } if version == upgrade_to => {
                Ok(Self::New(machine.into_version(version)))
            }
            Self::Old { machine, upgrade_to } => {
                Ok(Self::Old { machine: machine.upgrade(version)?, upgrade_to })
            }
            Self::New(machine) => machine.upgrade(version).map(Self::New),
        }
    }

    fn save(&self, to: &mut dyn Write) -> io::Result<()> {
        either!(self, machine => machine.save(to))
    }

    fn load(from: &mut dyn Read, versions: Versions) -> io::Result<Self> {
        let version = load_head(from)?;
        if version == versions.program {
            let machine = Machine::load_rest(from, version)?;
            Ok(Self::Old { machine, upgrade_to: versions.upgrade_to })
        } else if version == versions.upgrade_to {
            Machine::load_rest(from, version).map(Self::New)
        } else {
            Err(wrong_version(version, versions))
        }
    }

    fn new_effects(&mut self) -> Vec<Job> {
        either!(self, machine => machine.new_effects())
    }

    fn all_effects(&self) -> Vec<Job> {
        either!(self, machine => machine.all_effects())
    }

    fn primary(&self, impulses: &Impulses) {
        either!(self, machine => machine.primary(impulses));
    }

    fn standby(&self) {
        either!(self, machine => machine.standby());
    }
}
