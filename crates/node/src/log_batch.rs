//! What is on its way to the disk, for all groups together: the records of the next batch of the
//! log, and the persists of the state store.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::GroupId;
use replication::WindowBudget;
use storage::{LogReader, LogRecord, RecoveredGroup};

use crate::disk_pace::DiskPace;
use crate::frame::Frame;
use crate::io::Level;
use crate::work::Effects;

/// The logs of all groups as they lie on the disk.
pub(crate) struct Logs {
    /// Logs of groups that were not begun so far.
    pub(crate) recovered: BTreeMap<GroupId, RecoveredGroup>,
    /// Reads what the groups do not hold in memory.
    pub(crate) reader: Arc<dyn LogReader>,
    /// What the groups may hold in memory, all together.
    pub(crate) window: WindowBudget,
}

impl Logs {
    pub(crate) fn new(
        recovered: BTreeMap<GroupId, RecoveredGroup>,
        reader: Arc<dyn LogReader>,
        memory_bytes: usize,
    ) -> Self {
        Self { recovered, reader, window: WindowBudget::new(memory_bytes) }
    }
}

/// The room on the disk.
#[derive(Default)]
struct Room {
    /// Why it takes no writes at the moment.
    full: Option<String>,
    /// There is little left.
    is_low: bool,
}

#[derive(Default)]
pub(crate) struct LogBatch {
    /// Records of this step; they become one batch.
    pub(crate) records: Vec<LogRecord>,
    /// A persist of the state store is needed at the end of this step.
    pub(crate) want_persist: bool,
    /// The last batch and the last mark that were given out.
    last_batch: u64,
    last_mark: u64,
    /// The routine persist that is under way.
    routine: Option<u64>,
    /// The records that end the logs of removed groups. They are written when the state store has
    /// durably forgotten the groups. Written earlier, they could leave a state without its log.
    ended: Vec<LogRecord>,
    /// The records of that kind which wait for the routine persist under way.
    ending: Vec<LogRecord>,
    /// How many bytes were logged since the last routine persist began, and when that was.
    bytes_since: usize,
    persisted_at: u64,
    room: Room,
    /// How many frames of the log are durable, at least.
    pub(crate) frames: u64,
    pub(crate) pace: DiskPace,
}

impl LogBatch {
    /// After a start that found `frames` frames in the log and is about to write one more.
    /// `waiting_bytes_max`: see [`crate::Upkeep::log_waiting_bytes`].
    pub(crate) fn after_start(frames: u64, waiting_bytes_max: usize) -> Self {
        let pace = DiskPace::new(waiting_bytes_max);
        Self { frames: frames + 1, pace, ..Self::default() }
    }

    /// The number that this step's batch will have.
    pub(crate) fn next_batch(&self) -> u64 {
        self.last_batch + 1
    }

    /// The mark that the next persist will have.
    pub(crate) fn next_mark(&self) -> u64 {
        self.last_mark + 1
    }

    /// The records of this step, if there are any, with the number of their batch.
    pub(crate) fn take_batch(
        &mut self,
        lazy: impl FnOnce() -> Vec<LogRecord>,
    ) -> Option<(u64, Vec<LogRecord>)> {
        if self.records.is_empty() {
            return None;
        }
        let mut records = lazy();
        records.append(&mut self.records);
        let bytes = records.iter().map(record_bytes).sum::<usize>();
        self.bytes_since += bytes;
        self.last_batch += 1;
        self.pace.given_out(self.last_batch, records.len(), bytes);
        Some((self.last_batch, records))
    }

    /// The mark of the persist that this step asks for, if it does.
    pub(crate) fn take_persist(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.want_persist) {
            return None;
        }
        self.last_mark += 1;
        Some(self.last_mark)
    }

    /// Whether a routine persist is worth while.
    pub(crate) fn is_persist_due(&self, now: u64, bytes: usize, micros: u64) -> bool {
        let waited = now.saturating_sub(self.persisted_at);
        let is_due = self.bytes_since >= bytes || (self.bytes_since > 0 && waited > micros);
        is_due && self.routine.is_none() && self.room.full.is_none()
    }

    pub(crate) fn begin_routine(&mut self, now: u64) {
        self.bytes_since = 0;
        self.persisted_at = now;
        self.routine = Some(self.next_mark());
        self.want_persist = true;
        self.ending.append(&mut self.ended);
    }

    /// True when the routine persist under way is done.
    pub(crate) fn end_routine(&mut self, mark: u64) -> bool {
        self.routine.take_if(|routine| mark >= *routine).is_some()
    }

    /// A group is no more; this is where its log ends.
    pub(crate) fn end_group(&mut self, record: LogRecord) {
        self.ended.push(record);
    }

    /// The ends of logs that may be written now.
    pub(crate) fn take_ended(&mut self) -> Vec<LogRecord> {
        std::mem::take(&mut self.ending)
    }

    /// Time goes on.
    pub(crate) fn tick(&mut self, now: u64) {
        self.pace.tick(self.last_batch, now);
    }

    /// All up to this batch is durable, and `frames` frames of the log.
    pub(crate) fn durable(&mut self, batch: u64, frames: u64, now: u64) {
        self.frames = frames;
        self.pace.durable(batch, self.last_batch, now);
    }

    /// Whether a frame of another replica is left out, as if the network had lost it: it has
    /// entries of the log, and too much waits for the disk already. The owner does not wait for
    /// that: it hears heartbeats answered, which need no disk, and goes on sending. Or it is a part
    /// of a state, and the disk is full: the state store would hold all of it in memory.
    pub(crate) fn leaves_out(&mut self, frame: &Frame, effects: &mut Effects) -> bool {
        match frame {
            Frame::Chunk(_) => return self.room.full.is_some(),
            Frame::Consensus { message, .. } if !message.entries.is_empty() => {}
            _ => return false,
        }
        let Some(bytes) = self.pace.is_behind() else { return false };
        if self.pace.leave_out() {
            let text = format!(
                "the disk has {bytes} bytes of the log still to write: until it has, no entries \
                 are taken from other nodes"
            );
            effects.note(Level::Warn, text);
        }
        true
    }

    pub(crate) fn full(&self) -> Option<&str> {
        self.room.full.as_deref()
    }

    /// True when that is news.
    pub(crate) fn set_full(&mut self, why: String) -> bool {
        self.room.full.replace(why).is_none()
    }

    /// Whether nothing is to be kept that is not needed here.
    pub(crate) fn is_room_low(&self) -> bool {
        self.room.is_low || self.room.full.is_some()
    }

    /// True when it is news that there is little room.
    pub(crate) fn set_room_low(&mut self, is_low: bool) -> bool {
        !std::mem::replace(&mut self.room.is_low, is_low) && is_low
    }

    pub(crate) fn set_writable(&mut self) {
        self.room.full = None;
    }
}

fn record_bytes(record: &LogRecord) -> usize {
    match record {
        LogRecord::Entry { entry, .. } => entry.data.len() + 32,
        _ => 32,
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Position, ReplicaId, Term};
    use replication::{Members, Message, MessageKind};
    use storage::{Entry, EntryKind};

    use super::*;
    use crate::io::Output;

    fn consensus(kind: MessageKind, entries: Vec<Entry>) -> Frame {
        let message = Message::new(kind, ReplicaId(2), ReplicaId(1), Term(1));
        Frame::Consensus { group: GroupId(1), message: Message { entries, ..message } }
    }

    fn chunk() -> Frame {
        Frame::Chunk(group::Chunk {
            group: GroupId(1),
            transfer: 1,
            number: 0,
            pairs: Vec::new(),
            last: None,
            position: Position(1),
            term: Term(1),
            members: Members::default(),
        })
    }

    #[test]
    fn what_brings_more_than_the_disk_takes_is_left_out_and_nothing_else() {
        let entry = Entry {
            position: Position(1),
            term: Term(1),
            kind: EntryKind::Normal,
            data: bytes::Bytes::from_static(b"x"),
        };
        let append = || consensus(MessageKind::Append, vec![entry.clone()]);
        let mut log = LogBatch::after_start(0, 100);
        let mut effects = Effects::default();
        assert!(!log.leaves_out(&append(), &mut effects), "nothing waits");
        log.pace.given_out(1, 2, 0);
        for _ in 0..2 {
            assert!(log.leaves_out(&append(), &mut effects));
        }
        let [Output::Note { text, .. }] = &effects.outputs[..] else { panic!("it is said once") };
        assert!(text.contains("no entries are taken"), "{text}");
        for harmless in [
            consensus(MessageKind::Append, Vec::new()),
            consensus(MessageKind::Heartbeat, Vec::new()),
            chunk(),
        ] {
            assert!(!log.leaves_out(&harmless, &mut effects));
        }
        log.pace.durable(1, 1, 5);
        assert!(!log.leaves_out(&append(), &mut effects));
        assert!(!log.leaves_out(&chunk(), &mut effects));
        log.set_full("no room".to_owned());
        assert!(log.leaves_out(&chunk(), &mut effects), "the state store would hold all of it");
        assert!(!log.leaves_out(&append(), &mut effects), "these are bounded by bytes");
    }
}
