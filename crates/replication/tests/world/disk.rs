//! What the log on disk makes of its records: the rules of `storage`, in the plainest form.

use std::sync::{Arc, Mutex, MutexGuard};

use protocol::{GroupId, Position, ReplicaId, Term};
use storage::{
    DiskError, Entry, EntryKind, LogError, LogReader, LogRecord, ReadEntries, ReadLimits,
    RecoveredGroup,
};

/// The log of one replica. Its group reads it while it is written.
#[derive(Clone, Debug, Default)]
pub struct DiskLog(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
pub struct Content {
    pub term: Term,
    pub voted_for: ReplicaId,
    pub commit: Position,
    pub base: Position,
    pub base_term: Term,
    pub entries: Vec<Entry>,
    /// Nothing can be read any more.
    pub is_damaged: bool,
    /// How often somebody read.
    pub reads: u64,
}

impl Content {
    fn last(&self) -> Position {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }
}

impl DiskLog {
    pub fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().expect("one thread")
    }

    pub fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.clone())
    }

    pub fn write(&self, record: LogRecord) {
        let mut log = self.content();
        match record {
            LogRecord::Entry { entry, .. } => {
                assert!(entry.position > log.base, "the state has this already");
                log.entries.retain(|old| old.position < entry.position);
                assert_eq!(entry.position, log.last().next(), "a gap in the log");
                log.entries.push(entry);
            }
            LogRecord::Vote { term, voted_for, commit, .. } => {
                assert!(term >= log.term, "a term does not go back");
                assert!(
                    term > log.term || log.voted_for.0 == 0 || voted_for == log.voted_for,
                    "two votes in term {term}"
                );
                (log.term, log.voted_for, log.commit) = (term, voted_for, commit);
            }
            LogRecord::Base { position, term, .. } if position > log.base => {
                let known = log.entries.iter().find(|entry| entry.position == position);
                if known.is_some_and(|entry| entry.term == term) {
                    log.entries.retain(|entry| entry.position > position);
                } else {
                    log.entries.clear();
                }
                (log.base, log.base_term) = (position, term);
            }
            LogRecord::Base { .. } => {}
        }
    }

    /// What a start finds.
    pub fn recovered(&self) -> RecoveredGroup {
        let log = self.content();
        let runs = log.entries.chunk_by(|one, other| one.term == other.term);
        let changes = log.entries.iter().filter(|entry| entry.kind == EntryKind::Membership);
        RecoveredGroup {
            term: log.term,
            voted_for: log.voted_for,
            commit: log.commit,
            base: log.base,
            base_term: log.base_term,
            last: log.last(),
            terms: runs.map(|run| (run[0].position, run[0].term)).collect(),
            memberships: changes.map(|entry| entry.position).collect(),
            bytes: log.entries.iter().map(|entry| entry.data.len() as u64).sum(),
        }
    }

    /// The term of an entry after the base, 0 if it is not there.
    pub fn term_at(&self, position: Position) -> Term {
        let log = self.content();
        let found = log.entries.iter().find(|entry| entry.position == position);
        found.map_or(Term(0), |entry| entry.term)
    }

    pub fn base(&self) -> Position {
        self.content().base
    }
}

impl LogReader for DiskLog {
    fn entries(
        &self,
        _group: GroupId,
        from: Position,
        end: Position,
        limits: ReadLimits,
    ) -> Result<ReadEntries, LogError> {
        let mut log = self.content();
        log.reads += 1;
        let wanted = log.entries.iter().filter(|e| e.position >= from && e.position < end);
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let is_first = bytes == 0;
            bytes += entry.data.len();
            is_first || bytes <= limits.data_bytes
        };
        let entries: Vec<Entry> = wanted.take_while(fits).cloned().collect();
        let there = entries.first().is_some_and(|first| first.position == from);
        if log.is_damaged || !there {
            return Err(DiskError::Failed(format!("entry {from} cannot be read")).into());
        }
        // Two of them exhaust what may be read in a tick.
        Ok(ReadEntries { entries, file_bytes: 1 << 20 })
    }

    fn term(&self, _group: GroupId, position: Position) -> Option<Term> {
        Some(self.term_at(position)).filter(|term| *term > Term(0))
    }
}
