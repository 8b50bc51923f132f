//! What must not leave before it is on the disk.

use std::collections::VecDeque;

use protocol::{ReplicaId, Term};
use replication::{Message, Ready};
use storage::LogRecord;

/// What a replica has handed to the disk and what waits for it.
#[derive(Default)]
pub(crate) struct Durable {
    /// Readys that wait for the disk, oldest first.
    waiting: VecDeque<Waiting>,
    /// A commit position that need not be synced on its own.
    lazy: Option<LogRecord>,
    /// The term and the vote last written.
    hard_state: (Term, ReplicaId),
}

struct Waiting {
    number: u64,
    stage: Stage,
    messages: Vec<Message>,
}

/// How far the records of a ready have come.
enum Stage {
    /// They must not be written before the state store is durable up to this mark: a log that
    /// begins after a snapshot would be of no use without it.
    Blocked { mark: u64, records: Vec<LogRecord> },
    /// They are in this batch, or in one before it.
    Written { batch: u64 },
}

/// How a ready is to be kept back.
pub(crate) struct Hold {
    /// The number that this step's batch will have.
    pub(crate) batch: u64,
    /// The state store must be durable up to this mark first; 0: it need not be.
    pub(crate) mark: u64,
    /// The group acknowledges what is in memory.
    pub(crate) in_memory: bool,
}

impl Durable {
    /// Keeps back what may leave only when the records are durable. Gives the records that may be
    /// written at once.
    pub(crate) fn hold(&mut self, ready: &mut Ready, hold: &Hold) -> Vec<LogRecord> {
        let mut records = std::mem::take(&mut ready.records);
        let messages = std::mem::take(&mut ready.send_durable);
        if !ready.must_sync && hold.mark == 0 {
            // At most the commit position: it goes with the next records that need a sync.
            self.lazy = records.pop().or_else(|| self.lazy.take());
        } else {
            self.lazy = None;
        }
        let changes_vote = self.note_vote(&records);
        let is_blocked = hold.mark > 0
            || self.waiting.iter().any(|waiting| matches!(waiting.stage, Stage::Blocked { .. }));
        let (stage, written) = if is_blocked {
            (Stage::Blocked { mark: hold.mark, records }, Vec::new())
        } else if records.is_empty() || (hold.in_memory && !changes_vote) {
            // A group with durability in memory waits for its own earlier votes only.
            (Stage::Written { batch: self.last_batch() }, records)
        } else {
            (Stage::Written { batch: hold.batch }, records)
        };
        self.waiting.push_back(Waiting { number: ready.number, stage, messages });
        written
    }

    /// The batch of the latest ready that waits; 0 when none does.
    fn last_batch(&self) -> u64 {
        match self.waiting.back().map(|waiting| &waiting.stage) {
            Some(Stage::Written { batch }) => *batch,
            Some(Stage::Blocked { .. }) | None => 0,
        }
    }

    /// Whether there is another term or vote among the records, which must never be forgotten.
    fn note_vote(&mut self, records: &[LogRecord]) -> bool {
        let before = self.hard_state;
        for record in records {
            if let LogRecord::Vote { term, voted_for, .. } = record {
                self.hard_state = (*term, *voted_for);
            }
        }
        self.hard_state != before
    }

    /// The state store is durable up to that mark: the records that waited for it, to be written
    /// in this batch.
    pub(crate) fn unblock(&mut self, mark: u64, batch: u64) -> Vec<LogRecord> {
        let mut written = Vec::new();
        for waiting in &mut self.waiting {
            let Stage::Blocked { mark: wanted, records } = &mut waiting.stage else { continue };
            if *wanted > mark {
                break;
            }
            written.append(records);
            waiting.stage = Stage::Written { batch };
        }
        written
    }

    /// All batches up to this one are durable: the messages that waited for that, and the number of
    /// the last ready that is durable now.
    pub(crate) fn release(&mut self, durable: u64) -> Option<(u64, Vec<Message>)> {
        let (mut number, mut messages) = (None, Vec::new());
        while let Some(Waiting { stage: Stage::Written { batch }, .. }) = self.waiting.front()
            && *batch <= durable
        {
            let mut waiting = self.waiting.pop_front().expect("it was just looked at");
            messages.append(&mut waiting.messages);
            number = Some(waiting.number);
        }
        Some((number?, messages))
    }

    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(crate) fn has_lazy(&self) -> bool {
        self.lazy.is_some()
    }

    pub(crate) fn take_lazy(&mut self) -> Option<LogRecord> {
        self.lazy.take()
    }
}

#[cfg(test)]
mod tests {
    use protocol::{GroupId, Position};

    use super::*;

    fn vote(term: u64) -> LogRecord {
        let (term, voted_for) = (Term(term), ReplicaId(1));
        LogRecord::Vote { group: GroupId(1), term, voted_for, commit: Position(0) }
    }

    fn base() -> LogRecord {
        LogRecord::Base { group: GroupId(1), position: Position(4), term: Term(1) }
    }

    fn ready(number: u64, records: Vec<LogRecord>) -> Ready {
        let must_sync = !records.is_empty();
        Ready { number, records, must_sync, ..Ready::default() }
    }

    fn on_disk(batch: u64) -> Hold {
        Hold { batch, mark: 0, in_memory: false }
    }

    #[test]
    fn a_ready_is_released_by_its_batch_and_not_before() {
        let mut durable = Durable::default();
        assert_eq!(durable.hold(&mut ready(1, vec![vote(1)]), &on_disk(7)), [vote(1)]);
        assert_eq!(
            durable.hold(&mut ready(2, Vec::new()), &on_disk(8)),
            [0; 0].map(|_: u8| base())
        );
        assert!(durable.release(6).is_none());
        assert_eq!(durable.release(7).expect("its batch is durable").0, 2, "and what hangs on it");
        assert!(!durable.waits());
    }

    #[test]
    fn the_log_after_a_snapshot_waits_for_the_state_store() {
        let mut durable = Durable::default();
        let install = Hold { mark: 3, ..on_disk(1) };
        assert!(durable.hold(&mut ready(1, vec![base()]), &install).is_empty());
        assert!(durable.hold(&mut ready(2, vec![vote(2)]), &on_disk(1)).is_empty(), "in order");
        assert!(durable.unblock(2, 4).is_empty());
        assert!(durable.release(9).is_none(), "nothing of it is written");
        assert_eq!(durable.unblock(3, 4), [base(), vote(2)]);
        assert!(durable.release(3).is_none());
        assert_eq!(durable.release(4).expect("the batch is durable").0, 2);
    }

    #[test]
    fn a_group_in_memory_waits_for_its_votes_only() {
        let in_memory = |batch| Hold { in_memory: true, ..on_disk(batch) };
        let mut durable = Durable::default();
        durable.hold(&mut ready(1, vec![vote(1)]), &in_memory(5));
        durable.hold(&mut ready(2, vec![base()]), &in_memory(6));
        assert!(durable.release(4).is_none(), "a vote is given when it is on the disk");
        assert_eq!(durable.release(5).expect("the vote is durable").0, 2);
        durable.hold(&mut ready(3, vec![base()]), &in_memory(7));
        assert_eq!(durable.release(0).expect("it waits for nothing").0, 3);
    }
}
