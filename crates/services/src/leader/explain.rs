//! What a document waits for: its line, its handler, and the steps of a task. As the owner knows it
//! at that moment; no quorum is asked, so that the answer comes when nothing else does.

use std::sync::Arc;

use protocol::explanation::{Finding, WaitsFor, explanation};
use protocol::{Document, Response, links};
use storage::StoreError;

use super::asked::Asked;
use super::context::StepContext;
use super::line::Line;
use super::runners::{Call, Phase, Runner};
use super::state::PartitionLeader;
use crate::task::TaskInfo;

/// A handler that has run for longer, in microseconds, does not end by itself, as far as can be
/// told.
const RUNS_MICROS_MAX: u64 = 30_000_000;

/// After how many answers that were no success a call counts as stuck.
const TRIES_STUCK: u32 = 8;

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
        findings.extend(quorum(cx));
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
        match self.tasks.runners.get(link) {
            Some(runner) => findings.extend(self.of_runner(link, runner, now)),
            None if info.is_in_progress() => {
                let text = "the task is in progress, and nothing here will take its next step";
                let remedy = "this is a mistake of Amrita: please report it. The next owner takes \
                              the step: stop and start the node that owns it";
                findings.push(Finding::stuck(WaitsFor::Person, text, remedy));
            }
            None => {}
        }
        findings
    }

    fn is_task(&self, cx: &StepContext<'_, '_>, document: &Document) -> bool {
        cx.handlers().catalogue.spec_of(&document.link).is_some_and(|spec| spec.is_task)
    }

    fn of_runner(&self, link: &str, runner: &Runner, now: u64) -> Vec<Finding> {
        let mut findings = match &runner.phase {
            Phase::AwaitingFence => {
                let text = "the owner before this one may have calls under way: the task goes on \
                            when the owner of every partition has shut them out";
                vec![Finding::passing(WaitsFor::Fence, text)]
            }
            Phase::AwaitingTurn => {
                let before = self.tasks.turns.iter().take_while(|it| *it != link).count();
                let text = format!(
                    "{} tasks of this partition take steps at a time; {before} more are before \
                     this one",
                    self.tasks.active_max
                );
                vec![Finding::passing(WaitsFor::Turn, text)]
            }
            Phase::Queued => Vec::new(),
            Phase::Pausing { until_micros, .. } => {
                let left = until_micros.saturating_sub(now) / 1_000;
                let text = format!("the task pauses: its next step comes in {left} ms");
                vec![Finding::passing(WaitsFor::Timer, text)]
            }
            Phase::Calling(calls) => {
                let open = calls.iter().filter(|call| call.answer.is_none());
                open.map(|call| of_call(call, runner.undoes, now)).collect()
            }
            Phase::Again { at_micros, .. } => {
                let left = at_micros.saturating_sub(now) / 1_000;
                let text = format!("the step could not be written; once more in {left} ms");
                vec![Finding::passing(WaitsFor::Timer, text)]
            }
            Phase::Ending => Vec::new(),
        };
        if !runner.deferred.is_empty() {
            let text =
                format!("{} changes by clients wait until the step is done", runner.deferred.len());
            findings.push(Finding::passing(WaitsFor::Turn, text));
        }
        findings
    }
}

/// Whether writes are refused at present.
fn quorum(cx: &StepContext<'_, '_>) -> Option<Finding> {
    let group::Quorum { needed, up } = cx.at.quorum;
    let text =
        format!("writes are refused: the membership quorum is {needed}, and {up} nodes are up");
    (up < needed)
        .then(|| Finding::stuck(WaitsFor::Quorum, text, "amrita explain cluster tells which"))
}

fn of_call(call: &Call, undoes: bool, now: u64) -> Finding {
    let (method, path) = (call.request.method.name(), &call.request.path);
    let what = if undoes { "to undo what it did, the task asks for" } else { "the task asks for" };
    // The one that is under way is not answered so far.
    let failed = call.tries.saturating_sub(u32::from(call.number.is_some()));
    let failed_so_often = match failed {
        0 => String::new(),
        1 => ", which was not possible once".to_owned(),
        times => format!(", which was not possible {times} times"),
    };
    let goes_on = match call.again_at_micros {
        Some(at) => format!("once more in {} ms", at.saturating_sub(now) / 1_000),
        None => "no answer so far".to_owned(),
    };
    let text = format!("{what} {method} {path}{failed_so_often}; {goes_on}");
    if failed < TRIES_STUCK {
        return Finding::passing(WaitsFor::Call, text);
    }
    Finding::stuck(
        WaitsFor::Call,
        text,
        format!("see what {path} waits for: amrita explain {path}"),
    )
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
    if !line.flights.is_empty() {
        let text = format!("{} writes are on their way to a quorum's disks", line.flights.len());
        findings.push(Finding::passing(WaitsFor::Quorum, text));
    }
    if !line.waiting.is_empty() {
        let text = format!("{} requests wait in the line at this document", line.waiting.len());
        findings.push(Finding::passing(WaitsFor::Turn, text));
    }
    findings
}
