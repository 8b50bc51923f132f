//! The thread that writes the log. While one sync is under way, whatever the node wants written
//! gathers here; then all of it goes out in one write and one sync. Another thread fills the next
//! segment with zeros ahead of need, or only keeps room for it where much is written.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage::{Disk, DiskError, Log, LogError, LogRecord, NextSegment};

use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;

/// The most records that may wait. The node takes nothing in long before (see
/// `node::Upkeep::log_waiting_bytes`, which counts at least 128 bytes for a record), so this many
/// can only be a fault of the program.
const RECORDS_WAITING_MAX: usize = 1 << 20;

/// How much is written at a time, in bytes; a single record may be longer. The log itself takes
/// twice as much, for what it moves along.
const APPEND_BYTES_MAX: usize = 128 << 20;

/// About how long a record is beside its data.
const RECORD_BYTES: usize = 32;

/// When the disk is full: how long until the next attempt.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// When nothing was written for so long, there is time to get the next segment ready.
const IDLE: Duration = Duration::from_millis(100);

/// After this many syncs without such a pause it is begun all the same.
const SYNCS_WITHOUT_SPARE_MAX: u32 = 64;

/// The node's end of the thread. Dropping it lets the thread write what is left and ends it.
pub(crate) struct LogWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Default)]
struct Waiting {
    records: Vec<LogRecord>,
    /// The highest batch that the records belong to.
    batch: Option<u64>,
    asleep: bool,
    closed: bool,
}

struct Writer<D: Disk> {
    shared: Arc<Shared>,
    log: Log<D>,
    maker: SegmentMaker,
    syncs_without_spare: u32,
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
}

/// The log thread's end of the thread that makes segments, one at a time.
struct SegmentMaker {
    /// None is being made.
    idle: bool,
    /// With whether to make it without zeros.
    wanted: mpsc::SyncSender<(NextSegment, bool)>,
    made: mpsc::Receiver<(NextSegment, Result<(), DiskError>)>,
}

impl LogWriter {
    /// `spare` is another view of the log's disk, to make segments with.
    pub(crate) fn start<D: Disk + 'static>(
        log: Log<D>,
        spare: D,
        inbox: Arc<Inbox>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let maker = SegmentMaker::start(spare)?;
        let ours = Arc::clone(&shared);
        let writer = Writer { shared: ours, log, maker, syncs_without_spare: 0, inbox, metrics };
        let thread = std::thread::Builder::new().name("amrita-log".into());
        let thread = thread.spawn(move || {
            let inbox = Arc::clone(&writer.inbox);
            let failed = writer.run();
            if let Err(error) = failed {
                inbox.put(Event::LogFailed { why: error.to_string(), full: false });
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Wants these written; answered by `LogDurable` with this or a higher batch.
    pub(crate) fn put(&self, records: &mut Vec<LogRecord>, batch: u64) {
        let mut waiting = self.shared.lock();
        assert!(
            waiting.records.len() < RECORDS_WAITING_MAX,
            "the log's disk takes nothing any more, and memory would run out"
        );
        if waiting.records.is_empty() {
            std::mem::swap(&mut waiting.records, records);
        } else {
            waiting.records.append(records);
        }
        waiting.batch = Some(batch);
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if asleep {
            self.shared.bell.notify_one();
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.bell.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the log has failed");
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no one panics while holding the log's queue")
    }
}

impl SegmentMaker {
    /// The thread ends when its owner drops this.
    fn start<D: Disk + 'static>(mut disk: D) -> std::io::Result<Self> {
        let (wanted, wishes) = mpsc::sync_channel::<(NextSegment, bool)>(1);
        let (sender, made) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("amrita-segment".into());
        thread.spawn(move || {
            for (segment, quickly) in wishes {
                let outcome = segment.make(&mut disk, quickly);
                if sender.send((segment, outcome)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { idle: true, wanted, made })
    }
}

/// What is written at a time. The order of records is such that any first part of them makes sense
/// to whoever finds no more than that.
fn pieces(records: &[LogRecord]) -> impl Iterator<Item = &[LogRecord]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let count = rest.iter().take_while(|record| {
            let is_first = bytes == 0;
            bytes += match record {
                LogRecord::Entry { entry, .. } => entry.data.len() + RECORD_BYTES,
                _ => RECORD_BYTES,
            };
            is_first || bytes <= APPEND_BYTES_MAX
        });
        let (piece, others) = rest.split_at(count.count());
        rest = others;
        (!piece.is_empty()).then_some(piece)
    })
}

fn gauge(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

impl<D: Disk> Writer<D> {
    fn run(mut self) -> Result<(), LogError> {
        let mut records = Vec::new();
        while let Some(batch) = self.take(&mut records)? {
            let begun = Instant::now();
            let count = u64::try_from(records.len()).expect("a length fits");
            for piece in pieces(&records) {
                if !self.until_there_is_room(|log| log.append(piece))? {
                    return Ok(());
                }
            }
            if !self.until_there_is_room(Log::sync)? {
                return Ok(());
            }
            self.inbox.put(Event::LogDurable { batch, frames: self.log.frames() });
            self.metrics.log.sync_seconds.add(begun.elapsed());
            self.metrics.log.records.fetch_add(count, Ordering::Relaxed);
            records.clear();
            self.syncs_without_spare += 1;
            if self.syncs_without_spare >= SYNCS_WITHOUT_SPARE_MAX {
                self.look_after_spare()?;
            }
        }
        Ok(())
    }

    /// Waits for something to write; `None` when the node has gone and all is written.
    fn take(&mut self, records: &mut Vec<LogRecord>) -> Result<Option<u64>, LogError> {
        let shared = Arc::clone(&self.shared);
        let mut waiting = shared.lock();
        loop {
            if let Some(batch) = waiting.batch.take() {
                std::mem::swap(&mut waiting.records, records);
                return Ok(Some(batch));
            }
            if waiting.closed {
                return Ok(None);
            }
            waiting.asleep = true;
            let patience = if self.is_at_rest() { Duration::MAX } else { IDLE };
            let (woken, timeout) = shared
                .bell
                .wait_timeout(waiting, patience)
                .expect("no one panics while holding the log's queue");
            waiting = woken;
            waiting.asleep = false;
            if timeout.timed_out() && waiting.batch.is_none() {
                drop(waiting);
                self.look_after_spare()?;
                self.tidy()?;
                waiting = shared.lock();
            }
        }
    }

    /// There is nothing to do but to write what comes.
    fn is_at_rest(&self) -> bool {
        self.maker.idle && self.log.wanted().is_none() && !self.log.is_untidy()
    }

    /// Lets old segments go, a piece at a time.
    fn tidy(&mut self) -> Result<(), LogError> {
        match self.log.tidy() {
            // Whoever writes next finds that out, and tells the node.
            Err(error) if error.is_full() => Ok(()),
            tidied => tidied.map(drop),
        }
    }

    /// Takes over the segment that was made, or asks for one.
    fn look_after_spare(&mut self) -> Result<(), LogError> {
        self.syncs_without_spare = 0;
        let (segments, bytes) = self.log.size();
        self.metrics.log.segments.store(gauge(segments), Ordering::Relaxed);
        self.metrics.log.bytes.store(gauge(bytes), Ordering::Relaxed);
        if let Some(wanted) = self.log.wanted().filter(|_| self.maker.idle) {
            let wish = (wanted, self.log.appends_are_long());
            self.maker.idle = self.maker.wanted.try_send(wish).is_err();
            return Ok(());
        }
        match self.maker.made.try_recv() {
            Ok((made, Ok(()))) => {
                self.maker.idle = true;
                match self.log.adopt(made) {
                    // Some file systems need room for a name. It is made once more.
                    Err(error) if error.is_full() => Ok(()),
                    adopted => adopted,
                }
            }
            Ok((_, Err(error))) => {
                self.maker.idle = true;
                // It is not needed yet; when it is, the log tries itself, and the node is told.
                tracing::debug!("the next segment of the log could not be made ahead: {error}");
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// Repeats `work` while the disk is full, and tells the node. False when the node has gone.
    fn until_there_is_room(
        &mut self,
        mut work: impl FnMut(&mut Log<D>) -> Result<(), LogError>,
    ) -> Result<bool, LogError> {
        let mut told = false;
        loop {
            match work(&mut self.log) {
                Ok(()) => {
                    if told {
                        self.inbox.put(Event::LogRecovered);
                    }
                    return Ok(true);
                }
                Err(error) if error.is_full() => {
                    if !told {
                        self.inbox.put(Event::LogFailed { why: error.to_string(), full: true });
                        told = true;
                    }
                }
                Err(error) => return Err(error),
            }
            let waiting = self.shared.lock();
            if waiting.closed {
                return Ok(false);
            }
            // New records only gather meanwhile; the pause is cut short by the end alone.
            let waited =
                self.shared.bell.wait_timeout_while(waiting, FULL_PAUSE, |waiting| !waiting.closed);
            drop(waited.expect("no one panics while holding the log's queue"));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::{GroupId, Position, Term};
    use storage::{Entry, EntryKind};

    use super::*;

    #[test]
    fn much_is_written_in_pieces_that_the_log_takes() {
        let data = Bytes::from(vec![7; 60 << 20]);
        let record = |position, data: &Bytes| LogRecord::Entry {
            group: GroupId(1),
            entry: Entry {
                position: Position(position),
                term: Term(1),
                kind: EntryKind::Normal,
                data: data.clone(),
            },
        };
        let records: Vec<_> = (1..=5).map(|position| record(position, &data)).collect();
        let lengths: Vec<_> = pieces(&records).map(<[_]>::len).collect();
        assert_eq!(lengths, [2, 2, 1]);
        assert_eq!(pieces(&records).flatten().count(), 5);
        let long = Bytes::from(vec![7; APPEND_BYTES_MAX + 1]);
        let records = [record(1, &long), record(2, &data)];
        assert_eq!(pieces(&records).map(<[_]>::len).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(pieces(&[]).count(), 0);
    }
}
