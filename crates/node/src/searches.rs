//! Queries that are too long for the node's own thread, until they are done.
//!
//! There are two lanes, so that a query of a tenth of a second does not wait for those that take
//! ten. Each query begins in the short one. What is not done there soon is begun anew in the long
//! one, in turns with the others there. Only a few are under way at a time, as each holds the store
//! as it was; the others wait without holding anything.

use std::collections::VecDeque;

use documents::Search;
use protocol::{Code, GroupId, Problem};
use query::Page;
use services::{PartitionEvent, PartitionMachine, WantedSearch};
use storage::StateStore;

use crate::jobs::{Asked, Job, Lane, SearchJob};
use crate::work::{Effects, Work};

/// How many queries of each lane are under way at a time.
const RUNNING_MAX: usize = 2;

/// How many queries may wait for their turn; more are told that the node is busy.
pub const WAITING_MAX: usize = 1_000;

/// How long all queries that wait may be as text, in bytes.
pub const WAITING_BYTES_MAX: usize = 16 << 20;

/// How long a query may take, in microseconds: it is given up before whoever asks has gone.
const SEARCH_MICROS_MAX: u64 = 8_000_000;

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
        let bytes = self.text_bytes + wanted.text_bytes;
        let asked = Asked { group, wanted, since: now };
        if count >= WAITING_MAX || bytes > WAITING_BYTES_MAX {
            return end(asked, Err(busy(count)), effects);
        }
        self.text_bytes = bytes;
        self.short.waiting.push_back(asked);
    }

    /// Begins what can be begun. `partition` gives a partition that is served here still, by the
    /// leader of that number.
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
                self.text_bytes -= asked.wanted.text_bytes;
                // Whoever asked a leader that is gone asks the next one.
                let Some(machine) = partition(asked.group, asked.wanted.opening) else {
                    continue;
                };
                if now.saturating_sub(asked.since) > SEARCH_MICROS_MAX {
                    let count = self.queue(lane).waiting.len();
                    end(asked, Err(busy(count)), effects);
                    continue;
                }
                self.queue(lane).running += 1;
                let WantedSearch { query, wanted, .. } = &asked.wanted;
                let view = machine.partition().view();
                let search = Search::new(view, query.clone(), wanted.clone());
                let job = SearchJob { lane, asked, search, store: store.view() };
                effects.job(Job::search(Box::new(job)));
            }
        }
    }

    /// A query has had its turn. `is_served`: by the leader that wanted it.
    pub(crate) fn came(
        &mut self,
        job: Box<SearchJob>,
        found: Option<Page>,
        is_served: bool,
        now: u64,
        effects: &mut Effects,
    ) {
        let is_late = now.saturating_sub(job.asked.since) > SEARCH_MICROS_MAX || !is_served;
        match found {
            Some(page) => {
                self.queue(job.lane).running -= 1;
                end(job.asked, Ok(page), effects);
            }
            None if is_late => {
                self.queue(job.lane).running -= 1;
                end(job.asked, Err(too_long(job.search.spent())), effects);
            }
            None if job.lane == Lane::Short => {
                self.short.running -= 1;
                self.text_bytes += job.asked.wanted.text_bytes;
                self.long.waiting.push_back(job.asked);
            }
            None => effects.job(Job::search(job)),
        }
    }
}

fn end(asked: Asked, found: Result<Page, Problem>, effects: &mut Effects) {
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
