//! Queries that are too long for the node's own thread, until they are done.
//!
//! There are two lanes, so that a query of a tenth of a second does not wait for those that take
//! ten seconds. A query that is not done after one turn in the short lane is answered with
//! `TooLong`, and may be asked again for the long lane, where queries take turns. Only a few
//! queries are under way at a time, since each holds a view of the store; the others wait without
//! holding anything.

use std::collections::VecDeque;

use protocol::{Code, GroupId, Problem};
use services::{Effort, PartitionAnswer, PartitionEvent, PartitionMachine, WantedSearch};
use storage::StateStore;

use crate::jobs::{Asked, Job, Lane, Outcome, SearchJob};
use crate::work::{Effects, Work};

/// How many queries of each lane are under way at a time.
const RUNNING_MAX: usize = 2;

/// How many queries may wait for their turn; more are told that the node is busy.
pub const WAITING_MAX: usize = 1_000;

/// How long all queries that wait may be as text, in bytes.
pub const WAITING_BYTES_MAX: usize = 16 << 20;

/// How long a query may take in all, in microseconds: it is given up before whoever asks has gone.
pub(crate) const SEARCH_MICROS_MAX: u64 = 8_000_000;

/// The queries of the partitions that are owned here.
#[derive(Default)]
pub(crate) struct Searches {
    short: Queue,
    long: Queue,
    text_bytes: usize,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Asked>,
    running: usize,
}

impl Searches {
    fn queue(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Short => &mut self.short,
            Lane::Long => &mut self.long,
        }
    }

    pub(crate) fn add(
        &mut self,
        group: GroupId,
        wanted: WantedSearch,
        now: u64,
        effects: &mut Effects,
    ) {
        let count = self.short.waiting.len() + self.long.waiting.len();
        let bytes = self.text_bytes + wanted.text.len();
        let lane = if wanted.effort == Effort::Long { Lane::Long } else { Lane::Short };
        let until = now.saturating_add(wanted.left_micros.min(SEARCH_MICROS_MAX));
        let asked = Asked { group, wanted, until };
        if count >= WAITING_MAX || bytes > WAITING_BYTES_MAX {
            return end(asked, busy(count).into(), effects);
        }
        self.text_bytes = bytes;
        self.queue(lane).waiting.push_back(asked);
    }

    /// Begins the queries that can be begun. `partition` gives a partition that the leader of that
    /// number still serves here.
    pub(crate) fn begin<'a>(
        &mut self,
        store: &dyn StateStore,
        partition: impl Fn(GroupId, u64) -> Option<&'a PartitionMachine>,
        now: u64,
        effects: &mut Effects,
    ) {
        for lane in [Lane::Short, Lane::Long] {
            while self.queue(lane).running < RUNNING_MAX {
                let Some(asked) = self.queue(lane).waiting.pop_front() else { break };
                self.text_bytes -= asked.wanted.text.len();
                // The leader is gone; the node that asked it asks the next one.
                let Some(machine) = partition(asked.group, asked.wanted.opening) else {
                    continue;
                };
                if now > asked.until {
                    let count = self.queue(lane).waiting.len();
                    end(asked, busy(count).into(), effects);
                    continue;
                }
                self.queue(lane).running += 1;
                let (view, store) = (machine.partition().view(), store.view());
                let job = SearchJob { lane, asked, view, search: None, store };
                effects.job(Job::search(Box::new(job)));
            }
        }
    }

    /// A query has had its turn. `is_served`: by the leader that wanted it.
    pub(crate) fn came(
        &mut self,
        job: Box<SearchJob>,
        outcome: Outcome,
        is_served: bool,
        now: u64,
        effects: &mut Effects,
    ) {
        let is_late = now > job.asked.until || !is_served;
        let answer = match outcome {
            Outcome::Found(page) => PartitionAnswer::Page(page),
            Outcome::Refused(problem) => problem.into(),
            Outcome::Goes if is_late => too_long(job.search.map_or(0, |it| it.spent())).into(),
            Outcome::Goes if job.lane == Lane::Short => PartitionAnswer::TooLong,
            Outcome::Goes => return effects.job(Job::search(job)),
        };
        self.queue(job.lane).running -= 1;
        end(job.asked, answer, effects);
    }
}

fn end(asked: Asked, found: PartitionAnswer, effects: &mut Effects) {
    let WantedSearch { opening, ticket, .. } = asked.wanted;
    let event = PartitionEvent::Searched { opening, ticket, found };
    effects.push(Work::Partition(asked.group, event));
}

fn busy(waiting: usize) -> Problem {
    let text = format!(
        "{waiting} queries wait for their turn at the owner of a partition: try again later, or ask \
         for less with a page ($limit) or a narrower query"
    );
    Problem::new(Code::Busy, text)
}

fn too_long(bytes: usize) -> Problem {
    let text = format!(
        "the query was given up after {} s, and {} MiB of documents of one partition that it \
         compared: name a field and a value that few documents have, ask for pages ($limit), or \
         for fewer clauses",
        SEARCH_MICROS_MAX / 1_000_000,
        bytes >> 20
    );
    Problem::new(Code::Timeout, text)
}
