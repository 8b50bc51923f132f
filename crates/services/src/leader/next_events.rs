//! **Invariant:** every task that has not ended has a next event: something that is under way, or a
//! time at which it goes on. A task without one would stay as it is for ever, and nobody would hear
//! of it. So the leader looks once in a while, the simulator after each step, and `/explain` when
//! it is asked.

use std::collections::BTreeSet;

use group::Output;
use protocol::Moment;
use storage::{Reader, StoreError};

use super::context::StepContext;
use super::line::{Line, Who};
use super::runners::{Call, Phase, Runner, Tasks};
use super::state::PartitionLeader;
use crate::Catalogue;
use crate::io::PartitionAction;
use crate::machine::PartitionMachine;
use crate::task::TaskInfo;

/// How often the leader looks.
const LOOK_EVERY_MICROS: u64 = 60_000_000;

/// What became of a look at all tasks of a partition that have not ended.
#[derive(Debug, Default)]
pub struct NextEvents {
    /// How many there are.
    pub tasks: usize,
    /// Those that break the rule, each with what is missing.
    pub without: Vec<String>,
}

impl PartitionLeader {
    pub(super) fn tick_next_events(
        &mut self,
        cx: &mut StepContext<'_, '_>,
    ) -> Result<(), StoreError> {
        if cx.now().steady_micros < self.tasks.look_at_micros {
            return Ok(());
        }
        self.tasks.look_at_micros = cx.now().steady_micros + LOOK_EVERY_MICROS;
        let catalogue = &cx.handlers().catalogue;
        let found = self.next_events(cx.machine, cx.reader(), catalogue, cx.now().wall)?;
        let Some(first) = found.without.first() else { return Ok(()) };
        let (count, partition) = (found.without.len(), self.duty.partition);
        cx.put(Output::Note(format!(
            "partition {partition}: {count} tasks have not ended and will take no further step. This \
             is a mistake of Amrita: please report it. The next owner takes the step: stop and \
             start this node. The first of them: {first}"
        )));
        cx.put(Output::Do(PartitionAction::WithoutNextEvent { count }));
        Ok(())
    }

    /// Looks at all tasks that have not ended.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next_events(
        &self,
        machine: &PartitionMachine,
        store: &dyn Reader,
        catalogue: &Catalogue,
        wall: Moment,
    ) -> Result<NextEvents, StoreError> {
        let turns: BTreeSet<&str> = self.tasks.turns.iter().map(String::as_str).collect();
        let told = |(link, runner): (&String, &Runner)| {
            let has_turn = turns.contains(link.as_str());
            let what = lack(link, runner, has_turn, &self.tasks, self.lines.get(link))?;
            Some(format!("{link}: {what}"))
        };
        let mut without: Vec<String> = self.tasks.runners.iter().filter_map(told).collect();
        let under_way = machine.partition.tasks_in_progress(store)?;
        let tasks = under_way.len();
        for link in under_way {
            if self.tasks.runners.contains_key(&link)
                || !catalogue.spec_of(&link).is_some_and(|spec| spec.is_task)
            {
                continue;
            }
            let task = machine.partition.latest(store, &link)?;
            let task = task.filter(|it| !it.is_deleted() && !it.is_expired(wall));
            if task.is_some_and(|it| TaskInfo::of(&it.body).is_in_progress()) {
                without.push(format!("{link}: nobody minds it"));
            }
        }
        Ok(NextEvents { tasks, without })
    }

    /// What is missing for the next step of a task.
    pub(super) fn lack(&self, link: &str, runner: &Runner) -> Option<&'static str> {
        let has_turn = self.tasks.turns.iter().any(|it| it == link);
        lack(link, runner, has_turn, &self.tasks, self.lines.get(link))
    }
}

fn lack(
    link: &str,
    runner: &Runner,
    has_turn: bool,
    tasks: &Tasks,
    line: Option<&Line>,
) -> Option<&'static str> {
    let is_active = tasks.active.contains(link);
    match &runner.phase {
        Phase::AwaitingFence if tasks.fencing.is_none() => {
            Some("it waits for a fence that nobody has asked for")
        }
        Phase::AwaitingTurn if !has_turn => Some("it waits for its turn, and is not in that line"),
        Phase::AwaitingTurn if tasks.active.len() < tasks.active_max => {
            Some("it waits for its turn, and there is one to be had")
        }
        Phase::Queued if !line.is_some_and(has_step) => Some("its step is not in the line"),
        Phase::Ending if line.is_none_or(Line::is_idle) => Some("the write that ends it is gone"),
        Phase::Pausing { .. } | Phase::Again { .. } | Phase::Calling(_) if !is_active => {
            Some("it has a time to go on, and nobody looks at the clock for it")
        }
        Phase::Calling(calls) => {
            let is_out =
                |number: Option<u64>| number.is_some_and(|it| tasks.calls.contains_key(&it));
            let open: Vec<_> = calls.iter().filter(|call| call.answer.is_none()).collect();
            let is_lost = |call: &&Call| call.again_at_micros.is_none() && !is_out(call.number);
            if open.is_empty() {
                Some("all it has asked is answered, and it has not learnt so")
            } else if runner.held && !open.iter().any(|call| is_out(call.number)) {
                Some("it is held, and waits for answers to what is not asked")
            } else {
                open.iter().any(is_lost).then_some("it waits for an answer to what is not asked")
            }
        }
        // A person is its next event.
        Phase::Held if !runner.held => Some("it rests, and nobody holds it"),
        _ => None,
    }
}

/// Whether a step of the task waits, runs or is on its way to the log.
fn has_step(line: &Line) -> bool {
    let is_step = |who: &Who| matches!(who, Who::Step(_));
    line.waiting.iter().any(|item| is_step(&item.who))
        || line.running.as_ref().is_some_and(|running| is_step(&running.item.who))
        || line.flights.iter().any(|flight| is_step(&flight.item.who))
}

#[cfg(test)]
mod tests {
    use protocol::{Method, Moment, Request};

    use super::super::line::Item;
    use super::super::runners::Fencing;
    use super::*;
    use crate::handlers::{Calls, Step};

    const LINK: &str = "/core/walks/a";

    fn lacks(phase: Phase, set_up: impl FnOnce(&mut Tasks, &mut Line)) -> Option<&'static str> {
        let (mut tasks, mut line) = (Tasks::new(1), Line::default());
        set_up(&mut tasks, &mut line);
        let has_turn = tasks.turns.iter().any(|it| it == LINK);
        lack(LINK, &Runner::new(phase, Moment(0), 0), has_turn, &tasks, Some(&line))
    }

    fn call(number: Option<u64>, again_at_micros: Option<u64>) -> Phase {
        let request = Request::new(Method::Get, "/core/things/one");
        Phase::Calling(vec![Call { request, number, tries: 1, again_at_micros, answer: None }])
    }

    fn pausing() -> Phase {
        let calls = Calls { life: 1, after_micros: 5, ..Calls::default() };
        Phase::Pausing { until_micros: 5, version: 1, calls, surely_not_begun: false }
    }

    #[test]
    fn each_phase_has_a_next_event_or_says_what_is_missing() {
        let nothing = |_: &mut Tasks, _: &mut Line| {};
        let active = |tasks: &mut Tasks, _: &mut Line| {
            tasks.active.insert(LINK.into());
            tasks.calls.insert(7, (LINK.into(), 0));
        };
        let again = || Phase::Again { at_micros: 5, step: Step::Plan };
        for (phase, word) in [
            (Phase::AwaitingFence, "fence"),
            (Phase::AwaitingTurn, "not in that line"),
            (Phase::Queued, "not in the line"),
            (Phase::Ending, "is gone"),
            (pausing(), "the clock"),
            (again(), "the clock"),
            (call(Some(7), None), "the clock"),
        ] {
            let lack = lacks(phase, nothing).unwrap();
            assert!(lack.contains(word), "{word}: {lack}");
        }
        for phase in [pausing(), again(), call(Some(7), None), call(None, Some(9))] {
            assert_eq!(lacks(phase, active), None);
        }
        let held = |phase: Phase| {
            let (mut tasks, mut line) = (Tasks::new(1), Line::default());
            active(&mut tasks, &mut line);
            let runner = Runner { held: true, ..Runner::new(phase, Moment(0), 0) };
            lack(LINK, &runner, false, &tasks, Some(&line))
        };
        assert_eq!((held(Phase::Held), held(call(Some(7), None))), (None, None));
        assert!(held(call(None, Some(9))).unwrap().contains("is held"));
        assert!(lacks(Phase::Held, active).unwrap().contains("nobody holds it"));
        assert!(lacks(call(Some(8), None), active).unwrap().contains("not asked"));
        assert!(lacks(call(None, None), active).unwrap().contains("not asked"));
        assert!(lacks(Phase::Calling(Vec::new()), active).unwrap().contains("learnt"));
        let has_turn = |tasks: &mut Tasks, _: &mut Line| tasks.turns.push_back(LINK.into());
        assert!(lacks(Phase::AwaitingTurn, has_turn).unwrap().contains("one to be had"));
        let full = |tasks: &mut Tasks, line: &mut Line| {
            has_turn(tasks, line);
            tasks.active.insert("/core/walks/b".into());
        };
        assert_eq!(lacks(Phase::AwaitingTurn, full), None);
        let fenced = |tasks: &mut Tasks, _: &mut Line| {
            tasks.fencing = Some(Fencing { since_micros: 0, lacking: None });
        };
        assert_eq!(lacks(Phase::AwaitingFence, fenced), None);
        let queued = |_: &mut Tasks, line: &mut Line| line.push(Item::step(Step::Plan));
        assert_eq!(lacks(Phase::Queued, queued), None);
        assert_eq!(lacks(Phase::Ending, queued), None);
    }
}
