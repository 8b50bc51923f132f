//! The runners of the tasks in progress, and those who wait for tasks to end. What runners do is in
//! [`super::tasks`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use protocol::explanation::WaitsFor;
use protocol::{GroupId, Method, Moment, Request, Response};

use super::line::Item;
use crate::control::{Begun, Control, UnderWay, Waits};
use crate::handlers::{Calls, Step};
use crate::task::asks_to_end;

/// After how many answers of 503 or 504 to one call that is told to the log, and again after as
/// many; and after how many refusals of a step that is not written.
pub(super) const TRIES_TOLD: u32 = 8;

/// How long a step waits when fewer nodes are up than the membership quorum asks for.
const QUORUM_PAUSE_MICROS: u64 = 200_000;
/// The pause before a call is made again; it doubles each time ...
const PAUSE_FIRST_MICROS: u64 = 50_000;
/// ... up to this.
const PAUSE_MAX_MICROS: u64 = 5_000_000;

/// All tasks in progress of one partition.
pub(super) struct Tasks {
    pub(super) runners: BTreeMap<String, Runner>,
    /// Those that take steps now.
    pub(super) active: BTreeSet<String>,
    pub(super) active_max: usize,
    /// Those that wait for their turn.
    pub(super) turns: VecDeque<String>,
    /// Calls in flight: the task and the place in its step.
    pub(super) calls: BTreeMap<u64, (String, usize)>,
    /// The POSTs of direct tasks, which wait for the end.
    pub(super) waiting: BTreeMap<String, Waiting>,
    /// The fence that tasks of the last owner wait for, until it is everywhere.
    pub(super) fencing: Option<Fencing>,
    /// When to look whether each of them has a next event.
    pub(super) look_at_micros: u64,
}

/// A fence on its way into all partitions.
pub(super) struct Fencing {
    pub(super) since_micros: u64,
    /// A partition that has not taken it, and why, as of the last try.
    pub(super) lacking: Option<(GroupId, String)>,
}

pub(super) struct Waiting {
    pub(super) tickets: Vec<u64>,
    pub(super) expires: Moment,
}

pub(super) struct Runner {
    pub(super) phase: Phase,
    /// When that phase began.
    pub(super) since_micros: u64,
    /// The last owner may have begun this step, or this one has, before the task was held.
    pub(super) resumed: bool,
    /// Since when calls of the present step have been made here.
    pub(super) begun: Option<Moment>,
    /// Somebody holds it: no call is made once more.
    pub(super) held: bool,
    pub(super) expires: Moment,
    pub(super) deferred: VecDeque<Item>,
    /// Why its step is not written, until it is.
    pub(super) hindrance: Option<Hindrance>,
    /// The calls of the present step undo what the task has done.
    pub(super) undoes: bool,
}

/// A step that could not be written.
pub(super) struct Hindrance {
    /// Why not, the last time.
    pub(super) why: Why,
    pub(super) times: u32,
    pub(super) since_micros: u64,
}

/// Why a step is not written.
#[derive(Clone)]
pub(super) struct Why {
    pub(super) waits_for: WaitsFor,
    pub(super) text: String,
    pub(super) remedy: String,
}

impl Why {
    /// Too few nodes would hold it.
    fn no_quorum() -> Self {
        let text = "too few nodes are up that take writes".to_owned();
        let remedy = "amrita explain cluster tells which are missing".to_owned();
        Self { waits_for: WaitsFor::Quorum, text, remedy }
    }

    /// The messages that go with it have no place.
    pub(super) fn no_place(text: String, remedy: impl Into<String>) -> Self {
        Self { waits_for: WaitsFor::Destination, text, remedy: remedy.into() }
    }

    /// It came back from the log without effect, again and again.
    pub(super) fn without_effect() -> Self {
        let text = "it came back from the log without effect: another node may own the task by now";
        let remedy = "see whether the nodes agree on who owns it: amrita explain cluster";
        Self { waits_for: WaitsFor::Owner, text: text.to_owned(), remedy: remedy.to_owned() }
    }

    /// It did not get into the log.
    pub(super) fn no_room() -> Self {
        let text = "too many writes of its partition are under way".to_owned();
        let remedy = "see why so little is written: amrita explain cluster".to_owned();
        Self { waits_for: WaitsFor::Quorum, text, remedy }
    }
}

pub(super) enum Phase {
    /// Until no older owner's calls can have an effect.
    AwaitingFence,
    AwaitingTurn,
    /// Its next step is in the line, or in flight.
    Queued,
    Pausing {
        until_micros: u64,
        version: u64,
        calls: Calls,
        /// The last owner has not made these calls either.
        surely_not_begun: bool,
    },
    Calling(Vec<Call>),
    /// A step could not be persisted.
    Again {
        at_micros: u64,
        step: Step,
    },
    /// A write that ends the task is in flight.
    Ending,
    /// Somebody holds it, and nothing of it is under way. It waits for a person.
    Held,
}

/// One call of a step.
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) number: Option<u64>,
    pub(super) tries: u32,
    pub(super) again_at_micros: Option<u64>,
    pub(super) answer: Option<Response>,
}

/// Whether a client's write may run at a task now.
pub(super) enum Admission {
    Run,
    /// It may; the step that was planned is not valid after it.
    Replan,
    /// It waits until the step is learnt.
    Defer,
    /// It waits until what is in flight is applied.
    Wait,
}

impl Tasks {
    pub(super) fn new(active_max: usize) -> Self {
        Self {
            runners: BTreeMap::new(),
            active: BTreeSet::new(),
            active_max,
            turns: VecDeque::new(),
            calls: BTreeMap::new(),
            waiting: BTreeMap::new(),
            fencing: None,
            look_at_micros: 0,
        }
    }

    pub(super) fn deferred(&self, link: &str) -> usize {
        self.runners.get(link).map_or(0, |runner| runner.deferred.len())
    }

    /// `is_ahead`: versions of the task are in flight.
    pub(super) fn admit(
        &mut self,
        link: &str,
        request: &Request,
        (now, is_ahead): (u64, bool),
    ) -> Admission {
        let Some(runner) = self.runners.get_mut(link) else { return Admission::Run };
        if request.method != Method::Patch || asks_to_end(&request.body) {
            return Admission::Run;
        }
        let control = Control::of(&request.body);
        match &runner.phase {
            Phase::Ending => Admission::Run,
            // A release may be among them. A change after it waits for the step that goes on.
            Phase::Held if control.is_none() && is_ahead => Admission::Wait,
            Phase::Held => Admission::Run,
            Phase::Pausing { calls, surely_not_begun, .. }
                if matches!(control, None | Some(Control::Hold))
                    && (!runner.resumed || calls.requests.is_empty() || *surely_not_begun) =>
            {
                // What was not begun is begun by none but the plan that comes after this.
                runner.resumed = false;
                runner.enter(Phase::Queued, now);
                Admission::Replan
            }
            _ if control.is_some() => Admission::Run,
            _ if runner.resumed => Admission::Defer,
            Phase::Calling(_) | Phase::Again { .. } => Admission::Defer,
            _ => Admission::Run,
        }
    }

    /// What is known of the step of a task.
    pub(super) fn under_way(&self, link: &str) -> UnderWay {
        let Some(runner) = self.runners.get(link) else { return UnderWay::default() };
        let begun = match &runner.phase {
            // It is in the state whether it was begun.
            Phase::Held => Begun::No,
            _ if runner.resumed => Begun::Perhaps(None),
            _ if runner.begun.is_some() => Begun::Perhaps(runner.begun),
            _ => Begun::No,
        };
        let waits = match &runner.phase {
            Phase::Pausing { .. } => Waits::Pause,
            Phase::Again { .. } => Waits::WriteAgain,
            Phase::Calling(calls) => {
                match calls.iter().any(|call| call.again_at_micros.is_some()) {
                    true => Waits::CallAgain,
                    false => Waits::Answers,
                }
            }
            _ => Waits::Nothing,
        };
        UnderWay { begun, waits, undoes: runner.undoes }
    }

    pub(super) fn defer(&mut self, link: &str, item: Item) {
        let runner = self.runners.get_mut(link).expect("only a runner defers");
        runner.deferred.push_back(item);
    }

    pub(super) fn ending(&mut self, link: &str, now: u64) {
        if let Some(runner) = self.runners.get_mut(link) {
            runner.enter(Phase::Ending, now);
        }
    }

    /// The write that would have ended the task failed. True when there was one: then the task must
    /// be planned again. Its calls may have been made, so it is as if another owner had begun.
    pub(super) fn is_not_ended(&mut self, link: &str, now: u64) -> bool {
        match self.runners.get_mut(link) {
            Some(runner) if matches!(runner.phase, Phase::Ending) => {
                runner.enter(Phase::Queued, now);
                runner.resumed = true;
                true
            }
            _ => false,
        }
    }

    /// A step could not be persisted: once more after a pause. How often that was by now.
    pub(super) fn again_later(&mut self, link: &str, now: u64, step: Step, why: Why) -> u32 {
        let Some(runner) = self.runners.get_mut(link) else { return 0 };
        let times = runner.hinder(why, now);
        runner.enter(Phase::Again { at_micros: now + pause(times), step }, now);
        times
    }

    /// Fewer nodes are up than the membership quorum asks for: a step waits, as a client's write is
    /// refused. How often it has waited by now.
    pub(super) fn await_quorum(&mut self, link: &str, now: u64, step: Step) -> u32 {
        let Some(runner) = self.runners.get_mut(link) else { return 0 };
        let times = runner.hinder(Why::no_quorum(), now);
        runner.enter(Phase::Again { at_micros: now + QUORUM_PAUSE_MICROS, step }, now);
        times
    }

    /// The POST of a direct task is answered when the task has ended.
    pub(super) fn wait_for_end(&mut self, link: &str, ticket: u64, expires: Moment) {
        let waiting = self
            .waiting
            .entry(link.to_owned())
            .or_insert_with(|| Waiting { tickets: Vec::new(), expires });
        waiting.tickets.push(ticket);
    }

    pub(super) fn add(&mut self, link: String, runner: Runner) {
        self.runners.insert(link, runner);
    }

    pub(super) fn call_mut(&mut self, link: &str, place: usize) -> Option<&mut Call> {
        match &mut self.runners.get_mut(link)?.phase {
            Phase::Calling(calls) => calls.get_mut(place),
            _ => None,
        }
    }
}

impl Runner {
    pub(super) fn new(phase: Phase, expires: Moment, now: u64) -> Self {
        Self {
            phase,
            since_micros: now,
            resumed: false,
            begun: None,
            held: false,
            expires,
            deferred: VecDeque::new(),
            hindrance: None,
            undoes: false,
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: u64) {
        self.phase = phase;
        self.since_micros = now;
    }

    /// Its step was not written. Says how often that was so in a row.
    fn hinder(&mut self, why: Why, now: u64) -> u32 {
        let (times, since_micros) = match &self.hindrance {
            Some(before) => (before.times.saturating_add(1), before.since_micros),
            None => (1, now),
        };
        self.hindrance = Some(Hindrance { why, times, since_micros });
        times
    }

    pub(super) fn is_due(&self, now_micros: u64) -> bool {
        match &self.phase {
            Phase::Pausing { until_micros, .. } => *until_micros <= now_micros,
            Phase::Again { at_micros, .. } => *at_micros <= now_micros,
            Phase::Calling(calls) => !self.held && calls.iter().any(|it| it.is_due(now_micros)),
            Phase::AwaitingFence
            | Phase::AwaitingTurn
            | Phase::Queued
            | Phase::Ending
            | Phase::Held => false,
        }
    }
}

impl Call {
    pub(super) fn is_due(&self, now_micros: u64) -> bool {
        self.again_at_micros.is_some_and(|at| at <= now_micros)
    }
}

/// How long it is to the next try after this many.
pub(super) fn pause(tries: u32) -> u64 {
    let doubled = PAUSE_FIRST_MICROS.saturating_mul(1 << tries.saturating_sub(1).min(16));
    doubled.min(PAUSE_MAX_MICROS)
}
