//! What is on its way to the disk, and what is done when it is there: messages that waited for it
//! leave, and the log is cut behind what the state store holds.

use std::collections::BTreeSet;

use protocol::{GroupId, ReplicaId};
use storage::LogRecord;

use crate::io::{Level, Output};
use crate::node::{Node, Stage};
use crate::replicas::Touch;

/// What is on its way to the disk.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) records: Vec<LogRecord>,
    pub(crate) next_batch: u64,
    pub(crate) next_mark: u64,
    pub(crate) want_persist: bool,
    /// The routine persist that is under way, and what it makes durable.
    routine: Option<u64>,
    /// Where the logs of groups end that are no more. Written when the state store has durably forgotten
    /// them: before that a start would find a state without the log that it needs.
    pub(crate) ended: Vec<LogRecord>,
    /// Those that the routine persist under way is for.
    ending: Vec<LogRecord>,
    pub(crate) bytes_since: usize,
    persisted_at: u64,
    /// Why it takes no writes at the moment.
    pub(crate) full: Option<String>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self { next_batch: 1, next_mark: 1, ..Self::default() }
    }
}

impl Node {
    pub(crate) fn log_durable(&mut self, batch: u64) {
        self.replicas.release(&mut self.outbox, batch);
    }

    pub(crate) fn state_persisted(&mut self, mark: u64) {
        let groups: Vec<GroupId> = self.replicas.keys().copied().collect();
        for group in groups {
            let (replica, mut around) = self.around(group);
            if let Some(replica) = replica {
                replica.unblock(&mut around, mark);
            }
        }
        if let Stage::Settling { mark: wanted } = self.stage
            && mark >= wanted
        {
            self.settled();
        }
        if let Stage::Stopping { mark: Some(wanted), .. } = self.stage
            && mark >= wanted
        {
            self.stage = Stage::Ended;
            self.outputs.push(Output::Stopped);
        }
        if self.disk.routine.is_some_and(|routine| mark >= routine) {
            self.disk.routine = None;
            self.disk.records.append(&mut self.disk.ending);
            self.cut_logs();
        }
    }

    /// Starts a routine persist when there is enough to make it worth while.
    pub(crate) fn mind_persist(&mut self) {
        let waited = self.now.steady_micros.saturating_sub(self.disk.persisted_at);
        let due = self.disk.bytes_since >= self.config.upkeep.persist_log_bytes
            || (self.disk.bytes_since > 0 && waited > self.config.upkeep.persist_micros);
        if !due || self.disk.routine.is_some() || self.disk.full.is_some() {
            return;
        }
        self.disk.bytes_since = 0;
        self.disk.persisted_at = self.now.steady_micros;
        self.disk.routine = Some(self.disk.next_mark);
        self.disk.want_persist = true;
        let mut ended = std::mem::take(&mut self.disk.ended);
        self.disk.ending.append(&mut ended);
        let (mut failed, store) = (None, &mut *self.store);
        self.replicas.each(|replica| {
            if failed.is_none() {
                failed = replica.prepare_persist(store).err();
            }
            Touch::Still
        });
        if let Some(error) = failed {
            self.halt(error.to_string());
        }
    }

    /// The log before the state that is durable is not needed, but for a tail that saves followers
    /// which are behind from a snapshot.
    pub(crate) fn cut_logs(&mut self) {
        let (limits, micros) = (self.config.upkeep.tail, self.now.steady_micros);
        let up: BTreeSet<ReplicaId> =
            self.map.members.keys().copied().filter(|id| self.is_up(*id)).collect();
        let records = &mut self.disk.records;
        self.replicas.each(|replica| {
            let up_to = replica.persisted_up_to;
            let members = replica.group.members();
            let lists =
                [&members.voters, &members.outgoing, &members.learners, &members.learners_next];
            let away = lists.into_iter().flatten().any(|id| !up.contains(id));
            records.extend(replica.group.cut_tail(up_to, micros, away, &limits));
            Touch::Still
        });
    }

    pub(crate) fn disk_is_full(&mut self, why: String) {
        if self.disk.full.is_none() {
            let text = format!("the disk takes no writes ({why}): refusing writes until it does");
            self.note(Level::Error, text);
        }
        self.disk.full = Some(why);
        self.ping_all();
        self.hand_over_all();
    }
}

pub(crate) fn record_bytes(record: &LogRecord) -> usize {
    match record {
        LogRecord::Entry { entry, .. } => entry.data.len() + 32,
        _ => 32,
    }
}
