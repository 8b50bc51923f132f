//! The log of one group in memory, for tests of whoever writes and reads one: the rules of
//! [`Log`](crate::Log) in the plainest form.
#![expect(clippy::disallowed_types, reason = "it is read while it is written, as the real log is")]

use std::sync::{Arc, Mutex, MutexGuard};

use protocol::{GroupId, Position, ReplicaId, Term};

use crate::disk::DiskError;
use crate::error::LogError;
use crate::reader::{LogReader, ReadEntries, ReadLimits};
use crate::record::{Entry, EntryKind, LogRecord, RecoveredGroup};

/// What one read costs, in bytes of files: two of them exhaust what a group reads for its followers
/// in a tick.
const READ_FILE_BYTES: usize = 1 << 20;

/// The durable log of one replica of one group. A clone is another handle to the same log.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    term: Term,
    voted_for: ReplicaId,
    commit: Position,
    base: Position,
    base_term: Term,
    entries: Vec<Entry>,
    is_damaged: bool,
    reads: u64,
}

impl Content {
    fn last(&self) -> Position {
        self.entries.last().map_or(self.base, |entry| entry.position)
    }
}

impl MemoryLog {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().expect("nobody panics while holding it")
    }

    pub fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.clone())
    }

    /// From now on nothing can be read.
    pub fn damage(&self) {
        self.content().is_damaged = true;
    }

    /// How often somebody read.
    pub fn reads(&self) -> u64 {
        self.content().reads
    }

    /// The record is durable, of whatever group it is.
    ///
    /// # Panics
    /// When it breaks a rule of [`LogRecord`] or of Raft.
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
            LogRecord::Base { .. } | LogRecord::Owner(_) | LogRecord::Witness { .. } => {}
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
            bytes: bytes_of(&log.entries),
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

fn bytes_of(entries: &[Entry]) -> u64 {
    let bytes = entries.iter().map(|entry| entry.data.len()).sum::<usize>();
    u64::try_from(bytes).expect("a length fits")
}

impl LogReader for MemoryLog {
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
        Ok(ReadEntries { entries, file_bytes: READ_FILE_BYTES })
    }

    fn term(&self, _group: GroupId, position: Position) -> Option<Term> {
        Some(self.term_at(position)).filter(|term| *term > Term(0))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Log, LogOptions, MemoryDisk};

    const GROUP: GroupId = GroupId(7);

    fn entry(position: u64, term: u64) -> LogRecord {
        let (position, term) = (Position(position), Term(term));
        let kind = if position.0 == 2 { EntryKind::Membership } else { EntryKind::Normal };
        let data = Bytes::from(vec![7; 10]);
        LogRecord::Entry { group: GROUP, entry: Entry { position, term, kind, data } }
    }

    fn base(position: u64, term: u64) -> LogRecord {
        LogRecord::Base { group: GROUP, position: Position(position), term: Term(term) }
    }

    #[test]
    fn it_says_what_the_real_log_says() {
        let (group, voted_for, commit) = (GROUP, ReplicaId(3), Position(1));
        let vote = LogRecord::Vote { group, term: Term(4), voted_for, commit };
        let all: [&[LogRecord]; 4] = [
            &[vote, entry(1, 1), entry(2, 1), entry(3, 2)],
            &[entry(3, 3), entry(4, 3), base(1, 1)],
            &[base(1, 1), entry(4, 4), base(2, 1)],
            &[base(3, 9), entry(4, 9)],
        ];
        for count in 1..=all.len() {
            let memory = MemoryLog::default();
            let options = LogOptions { segment_bytes: 1 << 20 };
            let (mut log, _) = Log::open(MemoryDisk::new(), options).unwrap();
            for records in &all[..count] {
                log.append(records).unwrap();
                log.sync().unwrap();
                records.iter().cloned().for_each(|record| memory.write(record));
            }
            let disk = log.disk_mut().clone();
            let (real, recovered) = Log::open(disk.clone(), options).unwrap();
            let found = memory.recovered();
            let due = RecoveredGroup { bytes: found.bytes, ..recovered.groups[&GROUP].clone() };
            assert_eq!(found, due);
            let (from, end) = (found.base.next(), found.last.next());
            let read = |reader: &dyn LogReader| {
                reader.entries(GROUP, from, end, ReadLimits::NONE).unwrap().entries
            };
            assert_eq!(read(&*memory.reader()), read(&*real.reader(disk)));
            assert_eq!(
                memory.term(GROUP, found.last),
                real.reader(MemoryDisk::new()).term(GROUP, found.last)
            );
        }
    }
}
