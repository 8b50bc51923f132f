//! What a document waits for: its line, its handler, and the steps of a task. As the owner knows it
//! at that moment; no quorum is asked, so that the answer comes when nothing else does.

use std::sync::Arc;

use protocol::explanation::{Finding, WaitsFor, explanation};
use protocol::{Document, Moment, Response, links};
use storage::StoreError;

use super::asked::Asked;
use super::context::StepContext;
use super::line::Line;
use super::runners::{Call, Hindrance, Phase, Runner, Why};
use super::state::PartitionLeader;
use crate::control::Controlled;
use crate::invoker::Handlers;
use crate::outside::no_program_attached;
use crate::task::TaskInfo;

/// A handler that has run for longer, in microseconds, does not end by itself, as far as can be
/// told.
const RUNS_MICROS_MAX: u64 = 30_000_000;

/// After how many answers that were no success a call counts as stuck, and after how many refusals
/// a step.
const TRIES_STUCK: u32 = 8;

/// A write that has been on its way to the log for longer, in microseconds, does not get there by
/// itself.
const FLIES_MICROS_MAX: u64 = 10_000_000;

/// A fence that has been on its way to all partitions for longer is held up.
const FENCE_MICROS_MAX: u64 = 10_000_000;

/// Tasks that have kept the others waiting for longer, in microseconds, do not go on themselves.
const TURN_MICROS_MAX: u64 = 60_000_000;

/// How many of the tasks that have a turn are named.
const TURNS_NAMED: usize = 3;

impl PartitionLeader {
    /// The answer to GET on `/explain` of a document.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn explain(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        asked: &Asked,
    ) -> Result<(), StoreError> {
        let (link, _) = links::split_utility(&asked.request.path);
        let latest = cx.latest(link)?;
        let live = latest.filter(|it| !it.is_deleted() && !it.is_expired(cx.now().wall));
        if let Err(problem) = cx.permit(&asked.request, link, live.as_deref()) {
            self.refuse(cx, asked.ticket, &asked.request.path, problem);
            return Ok(());
        }
        let mut findings = self.findings(cx, link, live.as_ref());
        findings.extend(self.unconfirmed(cx, link)?);
        findings.extend(self.writes_waiting(link));
        let shown = explanation(link, &cx.handlers().node_id, &findings);
        self.respond(cx, asked.ticket, link, Response::json(200, &shown), None);
        Ok(())
    }

    fn findings(
        &self,
        cx: &StepContext<'_, '_>,
        link: &str,
        live: Option<&Arc<Document>>,
    ) -> Vec<Finding> {
        let now = cx.now().steady_micros;
        let mut findings = Vec::new();
        findings.extend(self.quorum(cx));
        findings.extend(no_program(cx, link));
        if live.is_none() && !self.lines.contains_key(link) {
            let text = format!("there is no document {link}");
            let factory = links::split(link).map_or("", |(factory, _)| factory);
            let remedy = format!("make it: POST {factory}");
            findings.push(Finding::stuck(WaitsFor::Person, text, remedy));
        }
        if let Some(line) = self.lines.get(link) {
            findings.extend(in_line(line, now));
        }
        let Some(task) = live.filter(|it| self.is_task(cx, it)) else { return findings };
        let info = TaskInfo::of(&task.body);
        findings.extend(of_hold(link, &info, cx.now().wall));
        match self.tasks.runners.get(link) {
            Some(runner) => findings.extend(self.of_runner(link, runner, now)),
            None if info.is_in_progress() => findings.push(no_next_event("nobody minds it")),
            None => {}
        }
        findings
    }

    fn is_task(&self, cx: &StepContext<'_, '_>, document: &Document) -> bool {
        cx.handlers().catalogue.spec_of(&document.link).is_some_and(|spec| spec.is_task)
    }

    fn of_runner(&self, link: &str, runner: &Runner, now: u64) -> Vec<Finding> {
        let lasted = now.saturating_sub(runner.since_micros);
        let mut findings = match &runner.phase {
            Phase::AwaitingFence => vec![self.of_fence(now)],
            Phase::AwaitingTurn => vec![self.of_turn(link, lasted)],
            Phase::Pausing { until_micros, .. } => {
                let left = until_micros.saturating_sub(now) / 1_000;
                let text = format!("the task pauses: its next step comes in {left} ms");
                vec![Finding::passing(WaitsFor::Timer, text).for_micros(Some(lasted))]
            }
            Phase::Calling(calls) => {
                let open = calls.iter().filter(|call| call.answer.is_none());
                let told = |call| of_call(link, call, runner, now).for_micros(Some(lasted));
                open.map(told).collect()
            }
            Phase::Queued | Phase::Again { .. } | Phase::Ending | Phase::Held => Vec::new(),
        };
        findings.extend(runner.hindrance.as_ref().map(|why| of_hindrance(link, why, runner, now)));
        findings.extend(self.lack(link, runner).map(no_next_event));
        if !runner.deferred.is_empty() {
            let text =
                format!("{} changes by clients wait until the step is done", runner.deferred.len());
            findings.push(Finding::passing(WaitsFor::Turn, text));
        }
        findings
    }

    fn of_fence(&self, now: u64) -> Finding {
        let mut text = "the owner before this one may have calls under way: the task goes on when \
                        the owner of every partition has shut them out"
            .to_owned();
        // Without a fence the task has no next event, which is told beside this.
        let Some(fencing) = &self.tasks.fencing else {
            return Finding::passing(WaitsFor::Fence, text);
        };
        if let Some((partition, why)) = &fencing.lacking {
            text.push_str(&format!("; that of partition {partition} has not: {why}"));
        }
        let lasted = now.saturating_sub(fencing.since_micros);
        let finding = match lasted > FENCE_MICROS_MAX {
            true => Finding::stuck(
                WaitsFor::Fence,
                text,
                "see which partitions have no owner, and why: amrita explain cluster",
            ),
            false => Finding::passing(WaitsFor::Fence, text),
        };
        finding.for_micros(Some(lasted))
    }

    fn of_turn(&self, link: &str, lasted: u64) -> Finding {
        let tasks = &self.tasks;
        let before = tasks.turns.iter().take_while(|it| *it != link).count();
        let with_turn: Vec<&str> =
            tasks.active.iter().take(TURNS_NAMED).map(String::as_str).collect();
        let text = format!(
            "{} tasks of this partition take steps at a time; {before} more are before this one. \
             Those that take steps now: {}{}",
            tasks.active_max,
            with_turn.join(", "),
            if tasks.active.len() > TURNS_NAMED { " and others" } else { "" }
        );
        let finding = match with_turn.first() {
            Some(first) if lasted > TURN_MICROS_MAX => {
                let remedy = format!(
                    "see what those wait for, and cancel what does not go on: amrita explain {first}"
                );
                Finding::stuck(WaitsFor::Turn, text, remedy)
            }
            _ => Finding::passing(WaitsFor::Turn, text),
        };
        finding.for_micros(Some(lasted))
    }

    /// Whether writes are refused at present.
    fn quorum(&self, cx: &StepContext<'_, '_>) -> Option<Finding> {
        let group::Quorum { needed, up, .. } = cx.at.quorum;
        let text = format!(
            "writes are refused: the membership quorum is {needed}, and {up} nodes are up that \
             take writes"
        );
        let since = self.absent.quorum_since;
        let lasted = since.map(|since| cx.now().steady_micros.saturating_sub(since));
        (up < needed).then(|| {
            Finding::stuck(WaitsFor::Quorum, text, "amrita explain cluster tells which")
                .for_micros(lasted)
        })
    }
}

/// The handlers of the document's kind are in a program, and none is attached.
fn no_program(cx: &StepContext<'_, '_>, link: &str) -> Option<Finding> {
    let (factory, _) = links::split(link)?;
    let Handlers { catalogue, attached, .. } = cx.handlers();
    catalogue.outside(factory)?;
    (!attached.contains(factory)).then(|| no_program_attached(factory))
}

/// Somebody holds the task, or has skipped what it waits for.
fn of_hold(link: &str, info: &TaskInfo, wall: Moment) -> Option<Finding> {
    let Controlled { held, held_time_micros, held_by, step_version, skipping, .. } = &info.control;
    if !held {
        return None;
    }
    let by = held_by.as_ref().map_or(String::new(), |user| format!(" by {user}"));
    let (step, skip) = match step_version {
        None => ("", String::new()),
        Some(_) if *skipping => ("; what its step waited for is skipped", String::new()),
        Some(_) => (
            " in the middle of a step, whose calls may have been made",
            format!(", give up what is not answered of that step: amrita task skip {link}"),
        ),
    };
    let text = format!("the task is held{by}{step}: it takes no step until it is released");
    let remedy = format!(
        "let it go on: amrita task release {link}{skip}, or end it: amrita task cancel {link}"
    );
    let lasted = held_time_micros.map(|since| wall.0.saturating_sub(since));
    Some(Finding::stuck(WaitsFor::Person, text, remedy).for_micros(lasted))
}

/// The step could not be written.
fn of_hindrance(link: &str, hindrance: &Hindrance, runner: &Runner, now: u64) -> Finding {
    let Hindrance { why: Why { waits_for, text, remedy }, times, since_micros } = hindrance;
    let goes_on = match &runner.phase {
        Phase::Again { at_micros, .. } => {
            format!("once more in {} ms", at_micros.saturating_sub(now) / 1_000)
        }
        _ => "now it is tried once more".to_owned(),
    };
    let often = if *times == 1 { "once".to_owned() } else { format!("{times} times") };
    let text = format!("the step could not be written, {often} so far: {text}; {goes_on}");
    let finding = match *times < TRIES_STUCK {
        true => Finding::passing(*waits_for, text),
        false => {
            let now = format!("to try it at once: amrita task retry {link}");
            Finding::stuck(*waits_for, text, format!("{remedy}; {now}"))
        }
    };
    finding.for_micros(Some(now.saturating_sub(*since_micros)))
}

/// What must not be: see [`super::next_events`].
fn no_next_event(lack: &str) -> Finding {
    let text = format!("the task is in progress, and nothing here will take its next step: {lack}");
    let remedy = "this is a mistake of Amrita: please report it. The next owner takes the step: stop \
                  and start the node that owns it";
    Finding::stuck(WaitsFor::Person, text, remedy)
}

fn of_call(link: &str, call: &Call, runner: &Runner, now: u64) -> Finding {
    let (method, path) = (call.request.method.name(), &call.request.path);
    let what =
        if runner.undoes { "to undo what it did, the task asks for" } else { "the task asks for" };
    // The one that is under way is not answered so far.
    let failed = call.tries.saturating_sub(u32::from(call.number.is_some()));
    let failed_so_often = match failed {
        0 => String::new(),
        1 => ", which was not possible once".to_owned(),
        times => format!(", which was not possible {times} times"),
    };
    let goes_on = match call.again_at_micros {
        Some(_) if runner.held => "not once more while the task is held".to_owned(),
        Some(at) => format!("once more in {} ms", at.saturating_sub(now) / 1_000),
        None => "no answer so far".to_owned(),
    };
    let text = format!("{what} {method} {path}{failed_so_often}; {goes_on}");
    if failed < TRIES_STUCK {
        return Finding::passing(WaitsFor::Call, text);
    }
    let remedy = format!(
        "see what {path} waits for: amrita explain {path}; to try at once: amrita task retry {link}; \
         to try no more until it is released: amrita task hold {link}; to go on without the answer: \
         amrita task skip {link}"
    );
    Finding::stuck(WaitsFor::Call, text, remedy)
}

fn in_line(line: &Line, now: u64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(running) = &line.running {
        let ran = now.saturating_sub(running.since_micros);
        let text = "a handler of the service runs for this document";
        let finding = if ran > RUNS_MICROS_MAX {
            let remedy = "see why that code does not end; stopping the node that owns the document \
                          gives it another owner, which runs the handler anew";
            Finding::stuck(WaitsFor::Handler, text, remedy)
        } else {
            Finding::passing(WaitsFor::Handler, text)
        };
        findings.push(finding.for_micros(Some(ran)));
    }
    if line.held_by.is_some() {
        let text = "a batch that changes this document runs the handlers of its documents";
        findings.push(Finding::passing(WaitsFor::Handler, text));
    }
    if let Some(first) = line.flights.front() {
        let text = format!("{} writes are on their way to a quorum's disks", line.flights.len());
        let lasted = now.saturating_sub(first.since_micros);
        let finding = match lasted > FLIES_MICROS_MAX {
            true => Finding::stuck(
                WaitsFor::Quorum,
                text,
                "see which nodes or disks do not take writes: amrita explain cluster",
            ),
            false => Finding::passing(WaitsFor::Quorum, text),
        };
        findings.push(finding.for_micros(Some(lasted)));
    }
    if !line.waiting.is_empty() {
        let text = format!("{} requests wait in the line at this document", line.waiting.len());
        findings.push(Finding::passing(WaitsFor::Turn, text));
    }
    findings
}
