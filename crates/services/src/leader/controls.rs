//! What people do to tasks: hold, release, try again, skip. The words and the rules are in
//! [`crate::control`], the reasons in docs/design/0028.
//!
//! A task that is held rests when none of its calls is out. It gives its turn to others, and waits
//! for a person. Released, it waits for a turn, and the step is planned anew from the state as it
//! was: so the calls have the same keys, whoever owns the task by then.

use protocol::{Method, Request};
use storage::StoreError;

use super::context::StepContext;
use super::runners::{Phase, Runner};
use super::state::PartitionLeader;
use crate::control::{Control, Controlled, skipped};
use crate::handlers::Step;
use crate::task::TaskInfo;

impl PartitionLeader {
    /// A version of a task was applied that is no step of its own.
    pub(super) fn controlled(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        control: &Controlled,
        is_undoing: bool,
    ) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.get(link) else { return Ok(()) };
        let Controlled { held, skipping, step_version, .. } = control;
        let rests = *held && !skipping;
        match &runner.phase {
            Phase::Calling(_) if *skipping => self.skip_calls(cx, link),
            Phase::Calling(_) => self.stop_calls(cx, link),
            Phase::Held if !rests => self.wake(cx, link),
            Phase::AwaitingFence | Phase::AwaitingTurn if rests => {
                self.enter_held(cx, link, step_version.is_some())
            }
            Phase::Pausing { .. } if *held || *skipping || is_undoing => {
                self.push_step(cx, link, Step::Plan)
            }
            // A step in the line sees that it is held.
            _ => Ok(()),
        }
    }

    /// The task is held, and none of its calls is out. Clients who wait for its step do not wait
    /// any more.
    pub(super) fn enter_held(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        in_mid_step: bool,
    ) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        let was_in_line = matches!(runner.phase, Phase::AwaitingTurn);
        runner.enter(Phase::Held, cx.now().steady_micros);
        (runner.held, runner.resumed) = (true, in_mid_step);
        (runner.begun, runner.hindrance, runner.undoes) = (None, None, false);
        let deferred = std::mem::take(&mut runner.deferred);
        self.tasks.active.remove(link);
        if was_in_line {
            self.tasks.turns.retain(|it| it != link);
        }
        if !deferred.is_empty() {
            let line = self.lines.entry(link.to_owned()).or_default();
            line.push_first(deferred.into_iter());
            self.pump(cx, link)?;
        }
        self.give_turns(cx)
    }

    /// It goes on: a step is planned when it has a turn.
    fn wake(&mut self, cx: &mut StepContext<'_, '_>, link: &str) -> Result<(), StoreError> {
        let now = cx.now().steady_micros;
        let is_fencing = self.tasks.fencing.is_some();
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        if is_fencing {
            runner.enter(Phase::AwaitingFence, now);
            return Ok(());
        }
        runner.enter(Phase::AwaitingTurn, now);
        self.tasks.turns.push_back(link.to_owned());
        self.give_turns(cx)
    }

    /// No call of a task that is held is made once more; when none is out, it rests. The answers
    /// that came are dropped: the same calls find them again.
    pub(super) fn stop_calls(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
    ) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.get(link) else { return Ok(()) };
        let is_out = match &runner.phase {
            Phase::Calling(calls) => calls.iter().any(|call| call.number.is_some()),
            _ => return Ok(()),
        };
        if is_out || !runner.held {
            return Ok(());
        }
        self.enter_held(cx, link, true)
    }

    /// What is not answered is given up, and the task learns that.
    fn skip_calls(&mut self, cx: &mut StepContext<'_, '_>, link: &str) -> Result<(), StoreError> {
        let Some(runner) = self.tasks.runners.get_mut(link) else { return Ok(()) };
        let Phase::Calling(calls) = &mut runner.phase else { return Ok(()) };
        for call in calls.iter_mut().filter(|call| call.answer.is_none()) {
            (call.number, call.again_at_micros) = (None, None);
            call.answer = Some(skipped());
        }
        self.learn(cx, link)
    }

    /// What needs no version is done when the request is answered without one.
    pub(super) fn try_now_or_skip(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
        request: &Request,
    ) -> Result<(), StoreError> {
        if request.method != Method::Patch || !self.tasks.runners.contains_key(link) {
            return Ok(());
        }
        match Control::of(&request.body) {
            Some(Control::Retry) => {
                self.try_now(cx, link);
                Ok(())
            }
            Some(Control::Skip) => self.skip_calls(cx, link),
            _ => Ok(()),
        }
    }

    fn try_now(&mut self, cx: &mut StepContext<'_, '_>, link: &str) {
        let now = cx.now().steady_micros;
        let Some(runner) = self.tasks.runners.get_mut(link) else { return };
        match &mut runner.phase {
            Phase::Again { at_micros, .. } => *at_micros = now,
            Phase::Calling(calls) => {
                let waits = calls.iter().enumerate().filter(|(_, it)| it.again_at_micros.is_some());
                for place in waits.map(|(place, _)| place).collect::<Vec<_>>() {
                    self.make_call(cx, link, place);
                }
            }
            _ => {}
        }
    }
}

/// The runner of a task that another owner has left, or this one before it was opened anew.
pub(super) fn resumed(task: Option<&protocol::Document>, now: u64) -> Runner {
    let expires = task.map_or(protocol::Moment(0), |task| task.expires);
    let control = task.map(|task| TaskInfo::of(&task.body).control).unwrap_or_default();
    let rests = control.held && !control.skipping;
    let phase = if rests { Phase::Held } else { Phase::AwaitingFence };
    let resumed = !rests || control.step_version.is_some();
    Runner { resumed, held: control.held, ..Runner::new(phase, expires, now) }
}
