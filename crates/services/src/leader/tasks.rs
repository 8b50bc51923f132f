//! Tasks take their steps: plan, call, learn, persist; and again after the next owner took over.
//!
//! A *runner* stands beside each task in progress. Its steps stand in the task's line like writes.
//! While a step is under way, a client's PATCH waits beside the line (deferred): so the step's
//! answers are learnt by the very state that asked, and no step has to be run twice. This holds
//! across owners too, because the step that the last owner may have begun is finished first.
//! Cancelling and deleting do not wait: the task ends, and answers still to come are ignored.
//! Holding and skipping do not wait either, see [`super::controls`].

use std::sync::Arc;

use group::Output;
use protocol::{
    Code, Document, GroupId, Maker, Moment, Position, Principal, Problem, Response, TaskStage,
};
use storage::StoreError;

use super::context::StepContext;
use super::controls::resumed;
use super::line::{Item, Line};
use super::runners::{Call, Fencing, Phase, Runner, TRIES_TOLD, pause};
use super::state::PartitionLeader;
use crate::control::skipped;
use crate::handlers::{Calls, Step};
use crate::invocation::NewVersion;
use crate::io::PartitionAction;
use crate::task::TaskInfo;

/// By how much the clocks of two owners may differ: a step whose pause is longer than that was
/// surely not begun by the last owner.
const CLOCK_SKEW_MICROS: u64 = 2_000_000;

impl PartitionLeader {
    pub(super) fn opened(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        let links = cx.partition().tasks_in_progress(cx.reader())?;
        if links.is_empty() {
            return Ok(());
        }
        cx.put(Output::Note(format!(
            "partition {}: {} tasks are in progress and will be resumed",
            self.duty.partition,
            links.len()
        )));
        let now = cx.now().steady_micros;
        for link in links {
            let runner = resumed(cx.latest(&link)?.as_deref(), now);
            self.tasks.add(link, runner);
        }
        self.tasks.fencing = Some(Fencing { since_micros: now, lacking: None });
        let (opening, source) = (self.duty.opening, self.source());
        cx.put(Output::Do(PartitionAction::Fence { opening, source }));
        Ok(())
    }

    pub(super) fn fenced(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        self.tasks.fencing = None;
        for (link, runner) in &mut self.tasks.runners {
            if matches!(runner.phase, Phase::AwaitingFence) {
                runner.enter(Phase::AwaitingTurn, cx.now().steady_micros);
                self.tasks.turns.push_back(link.clone());
            }
        }
        self.give_turns(cx)
    }

    /// A partition has not taken the fence. It is tried again.
    pub(super) fn fence_is_late(&mut self, lacking: GroupId, why: String) {
        if let Some(fencing) = &mut self.tasks.fencing {
            fencing.lacking = Some((lacking, why));
        }
    }

    pub(super) fn give_turns(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        while self.tasks.active.len() < self.tasks.active_max {
            let Some(link) = self.tasks.turns.pop_front() else { break };
            let Some(runner) = self.tasks.runners.get_mut(&link) else { continue };
            if !matches!(runner.phase, Phase::AwaitingTurn) {
                continue;
            }
            self.tasks.active.insert(link.clone());
            self.push_step(cx, &link, Step::Plan)?;
        }
        Ok(())
    }

    /// Puts a step before whatever waits in the task's line.
    pub(super) fn push_step(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        step: Step,
    ) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        runner.enter(Phase::Queued, cx.now().steady_micros);
        let line = self.lines.entry(link.to_owned()).or_default();
        line.push_first(std::iter::once(Item::step(step)));
        self.pump(cx, link)
    }

    /// A plan's calls are to be made; the state that they come from is committed.
    pub(super) fn start_calls(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        version: u64,
        calls: Calls,
    ) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        let now = cx.now().steady_micros;
        runner.hindrance = None;
        let version = calls.planned_by.unwrap_or(version);
        if calls.is_skipped {
            let answers = calls.requests.iter().map(|_| skipped()).collect();
            return match calls.is_undo {
                true => self.push_step(cx, link, Step::Undone(answers)),
                false => self.push_learn(cx, link, answers),
            };
        }
        if calls.after_micros > 0 {
            let until_micros = now.saturating_add(calls.after_micros);
            let surely_not_begun = calls.after_micros > CLOCK_SKEW_MICROS;
            let goes_on = calls.requests.is_empty() || surely_not_begun;
            let pausing = Phase::Pausing { until_micros, version, calls, surely_not_begun };
            runner.enter(pausing, now);
            if runner.resumed && goes_on && !runner.deferred.is_empty() {
                // What clients have to say comes first, and the step is planned anew.
                let deferred = std::mem::take(&mut runner.deferred);
                runner.enter(Phase::Queued, now);
                runner.resumed = false;
                let line = self.lines.entry(link.to_owned()).or_default();
                line.push_first(deferred.into_iter());
                line.push(Item::step(Step::Plan));
                return self.pump(cx, link);
            }
            return Ok(());
        }
        self.make_calls(cx, link, version, calls)
    }

    /// The pause is over.
    fn end_pause(&mut self, cx: &mut StepContext<'_, '_>, link: &str) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        match std::mem::replace(&mut runner.phase, Phase::Queued) {
            Phase::Pausing { version, calls, .. } => self.make_calls(cx, link, version, calls),
            other => {
                runner.phase = other;
                Ok(())
            }
        }
    }

    fn make_calls(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        version: u64,
        calls: Calls,
    ) -> Result<(), StoreError> {
        if calls.requests.is_empty() {
            return self.push_learn(cx, link, Vec::new());
        }
        let source = self.source();
        let (life, is_undo) = (calls.life, calls.is_undo);
        // With the rights of its maker and no others, whoever owns it.
        let task = cx.latest(link)?;
        let principal = task.map_or(Principal::Anonymous, |task| cx.actor(&task));
        let made = calls.requests.into_iter().enumerate().map(|(place, mut request)| {
            // The same for whoever takes this step, and for no other step ever.
            let key = || format!("task {link} {life} {version} {place}");
            request.idempotency_key.get_or_insert_with(key);
            request.maker = Maker::Task(source);
            request.principal = principal.clone();
            Call { request, number: None, tries: 0, again_at_micros: None, answer: None }
        });
        let made: Vec<Call> = made.collect();
        let count = made.len();
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        runner.enter(Phase::Calling(made), cx.now().steady_micros);
        runner.begun.get_or_insert(cx.now().wall);
        runner.undoes = is_undo;
        for place in 0..count {
            self.make_call(cx, link, place);
        }
        Ok(())
    }

    pub(super) fn make_call(&mut self, cx: &mut StepContext<'_, '_>, link: &str, place: usize) {
        let number = self.next_number();
        let Some(call) = self.tasks.call_mut(link, place) else { return };
        call.number = Some(number);
        call.tries += 1;
        call.again_at_micros = None;
        let request = call.request.clone();
        self.tasks.calls.insert(number, (link.to_owned(), place));
        let opening = self.duty.opening;
        cx.put(Output::Do(PartitionAction::Call {
            opening,
            call: number,
            request: Box::new(request),
        }));
    }

    pub(super) fn called(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        number: u64,
        response: Response,
    ) -> Result<(), StoreError> {
        let Some((link, place)) = self.tasks.calls.remove(&number) else { return Ok(()) };
        let Some(call) = self.tasks.call_mut(&link, place) else { return Ok(()) };
        if call.number != Some(number) {
            return Ok(());
        }
        call.number = None;
        if !may_be_tried_again(&response) {
            call.answer = Some(response);
            self.learn(cx, &link)?;
            return self.stop_calls(cx, &link);
        }
        call.again_at_micros = Some(cx.now().steady_micros + pause(call.tries));
        if call.tries.is_multiple_of(TRIES_TOLD) {
            let Call { request, tries, .. } = call;
            let words = response.to_json()["message"].as_str().unwrap_or_default().to_owned();
            cx.put(Output::Note(format!(
                "the task {link} waits: {} {} was answered with {} {tries} times: {words}",
                request.method.name(),
                request.path,
                response.status
            )));
        }
        self.stop_calls(cx, &link)
    }

    /// When all calls are answered, the answers go to the task.
    pub(super) fn learn(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
    ) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        let Phase::Calling(calls) = &mut runner.phase else { return Ok(()) };
        if calls.iter().any(|call| call.answer.is_none()) {
            return Ok(());
        }
        let answers = calls.iter_mut().filter_map(|call| call.answer.take()).collect();
        if runner.undoes {
            return self.push_step(cx, link, Step::Undone(answers));
        }
        self.push_learn(cx, link, answers)
    }

    /// What clients wait to say comes before the next plan, which may be to finish.
    fn push_learn(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        answers: Vec<Response>,
    ) -> Result<(), StoreError> {
        let and_plan = self.tasks.deferred(link) == 0;
        self.push_step(cx, link, Step::Learn { answers, and_plan })
    }

    /// A version of a document was applied: does it begin a task, take it further or end it?
    pub(super) fn task_written(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        version: NewVersion,
        made: (Arc<Document>, Position),
    ) -> Result<(), StoreError> {
        let (document, position) = made;
        match version.task {
            None => Ok(()),
            Some(false) => {
                tell_failure(cx, &document);
                self.answer_waiting(cx, link, &document, position);
                self.end_runner(cx, link)
            }
            Some(true) => {
                let Some(runner) = self.tasks.runners.get_mut(link) else {
                    let now = cx.now().steady_micros;
                    let runner = Runner::new(Phase::AwaitingTurn, document.expires, now);
                    self.tasks.add(link.to_owned(), runner);
                    self.tasks.turns.push_back(link.to_owned());
                    return self.give_turns(cx);
                };
                runner.expires = document.expires;
                if let Some(waiting) = self.tasks.waiting.get_mut(link) {
                    waiting.expires = document.expires;
                }
                runner.held = version.control.held;
                if version.is_step {
                    return self.step_written(cx, link, document.version, version.calls);
                }
                self.controlled(cx, link, &version.control, version.is_undoing)
            }
        }
    }

    /// A step is persisted: on to the next one, unless clients have something to say first.
    fn step_written(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        version: u64,
        calls: Option<Calls>,
    ) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        (runner.resumed, runner.begun) = (false, None);
        runner.hindrance = None;
        let deferred = std::mem::take(&mut runner.deferred);
        let is_busy = self.lines.get(link).is_some_and(|line| !line.is_idle());
        if let Some(calls) = calls
            && deferred.is_empty()
            && !is_busy
        {
            return self.start_calls(cx, link, version, calls);
        }
        runner.enter(Phase::Queued, cx.now().steady_micros);
        let line = self.lines.entry(link.to_owned()).or_default();
        line.push_first(deferred.into_iter());
        line.push(Item::step(Step::Plan));
        self.pump(cx, link)
    }

    /// The task has ended, or is gone: no more steps.
    pub(super) fn end_runner(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
    ) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.remove(link) else { return Ok(()) };
        self.tasks.active.remove(link);
        if !runner.deferred.is_empty() {
            let line: &mut Line = self.lines.entry(link.to_owned()).or_default();
            line.push_first(runner.deferred.into_iter());
            self.pump(cx, link)?;
        }
        self.give_turns(cx)
    }

    fn answer_waiting(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        document: &Document,
        position: Position,
    ) {
        let Some(waiting) = self.tasks.waiting.remove(link) else { return };
        let response = if document.is_deleted() {
            Problem::not_found(format!("{link} was deleted before it ended")).into()
        } else {
            // Whoever waits is its maker.
            let shown = cx.answer_to(&cx.actor(document), 200, document);
            Response { location: Some(link.to_owned()), ..shown }
        };
        for ticket in waiting.tickets {
            self.respond(cx, ticket, link, response.clone(), Some(position));
        }
    }

    pub(super) fn tick_tasks(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        let now_micros = cx.now().steady_micros;
        let due: Vec<String> = self
            .tasks
            .active
            .iter()
            .filter(|link| self.tasks.runners.get(*link).is_some_and(|it| it.is_due(now_micros)))
            .cloned()
            .collect();
        for link in due {
            self.go_on(cx, &link)?;
        }
        Ok(())
    }

    /// A pause is over.
    fn go_on(&mut self, cx: &mut StepContext<'_, '_>, link: &str) -> Result<(), StoreError> {
        let now_micros = cx.now().steady_micros;
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        match &mut runner.phase {
            Phase::Pausing { .. } => self.end_pause(cx, link),
            Phase::Again { step, .. } => {
                let step = step.clone();
                self.push_step(cx, link, step)
            }
            Phase::Calling(calls) => {
                let due = calls.iter().enumerate().filter(|(_, call)| call.is_due(now_micros));
                for place in due.map(|(place, _)| place).collect::<Vec<_>>() {
                    self.make_call(cx, link, place);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Tasks that have expired are gone, with whoever waits for their end.
    pub(super) fn tasks_expired(&mut self, cx: &mut StepContext<'_, '_>) -> Result<(), StoreError> {
        let is_over = |expires: Moment| expires.0 != 0 && expires <= cx.now().wall;
        let gone: Vec<String> = self
            .tasks
            .runners
            .iter()
            .filter(|(_, runner)| is_over(runner.expires))
            .map(|(link, _)| link.clone())
            .collect();
        let late: Vec<String> = self
            .tasks
            .waiting
            .iter()
            .filter(|(_, waiting)| is_over(waiting.expires))
            .map(|(link, _)| link.clone())
            .collect();
        for link in late {
            let tickets = self.tasks.waiting.remove(&link).map_or(Vec::new(), |it| it.tickets);
            for ticket in tickets {
                let message = format!("the task {link} did not end before it expired");
                let response = Problem::new(Code::Timeout, message).into();
                self.respond(cx, ticket, &link, response, None);
            }
        }
        for link in gone {
            cx.put(Output::Note(format!(
                "the task {link} has expired before it ended, and is gone: what it has done is not \
                 undone"
            )));
            self.end_runner(cx, &link)?;
        }
        Ok(())
    }
}

/// A task that failed by itself is told to the log: perhaps nobody looks at it.
fn tell_failure(cx: &mut StepContext<'_, '_>, task: &Document) {
    let info = TaskInfo::of(&task.body);
    if info.stage == TaskStage::Failed
        && let Some(failure) = &info.failure
    {
        let why = failure["message"].as_str().unwrap_or("it gives no reason");
        cx.put(Output::Note(format!("the task {} has failed: {why}", task.link)));
    }
}

/// Of a batch under a key: what was done is not done again, and the rest may still be.
fn is_done_in_part(batch: &serde_json::Value) -> bool {
    let requests = batch["requests"].as_array().into_iter().flatten();
    requests.into_iter().any(|one| one["status"] == 503 || one["status"] == 504)
}

/// Nothing is known of the effect, or there was none: the same call with the same key is safe.
fn may_be_tried_again(response: &Response) -> bool {
    matches!(response.status, 503 | 504)
        || (response.status == 207 && is_done_in_part(&response.to_json()))
        || (response.status == Code::Fenced.status()
            && response.to_json()["code"] == Code::Fenced.name())
}
