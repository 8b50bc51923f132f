//! The thread that writes the log. While one sync is under way, whatever the node wants written
//! gathers here; then all of it goes out in one write and one sync.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage::{Disk, Log, LogError, LogRecord};

use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;

/// The most records that may wait. The node bounds what is under way in each group far below; so
/// many can only mean that the disk hangs.
const RECORDS_WAITING_MAX: usize = 1 << 20;

/// When the disk is full: how long until the next attempt.
const FULL_PAUSE: Duration = Duration::from_millis(500);

/// When nothing was written for so long, there is time to get the next segment ready.
const IDLE: Duration = Duration::from_millis(20);

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
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
}

impl LogWriter {
    pub(crate) fn start<D: Disk + 'static>(
        log: Log<D>,
        inbox: Arc<Inbox>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Writer { shared: Arc::clone(&shared), log, inbox, metrics };
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

impl<D: Disk> Writer<D> {
    fn run(mut self) -> Result<(), LogError> {
        let mut records = Vec::new();
        while let Some(batch) = self.take(&mut records)? {
            let begun = Instant::now();
            let count = u64::try_from(records.len()).expect("a length fits");
            if !self.until_there_is_room(|log| log.append(&records))? {
                return Ok(());
            }
            if !self.until_there_is_room(Log::sync)? {
                return Ok(());
            }
            self.inbox.put(Event::LogDurable { batch });
            self.metrics.log_sync_seconds.add(begun.elapsed());
            self.metrics.log_records.fetch_add(count, Ordering::Relaxed);
            records.clear();
        }
        Ok(())
    }

    /// Waits for something to write; `None` when the node has gone and all is written.
    fn take(&mut self, records: &mut Vec<LogRecord>) -> Result<Option<u64>, LogError> {
        let shared = Arc::clone(&self.shared);
        let mut waiting = shared.lock();
        let mut prepared = false;
        loop {
            if let Some(batch) = waiting.batch.take() {
                std::mem::swap(&mut waiting.records, records);
                return Ok(Some(batch));
            }
            if waiting.closed {
                return Ok(None);
            }
            waiting.asleep = true;
            let patience = if prepared { Duration::MAX } else { IDLE };
            let (woken, timeout) = shared
                .bell
                .wait_timeout(waiting, patience)
                .expect("no one panics while holding the log's queue");
            waiting = woken;
            waiting.asleep = false;
            if timeout.timed_out() && waiting.batch.is_none() && !prepared {
                drop(waiting);
                self.prepare()?;
                prepared = true;
                waiting = shared.lock();
            }
        }
    }

    /// Makes the next segment while there is nothing else to do.
    fn prepare(&mut self) -> Result<(), LogError> {
        match self.log.prepare() {
            // It is not needed yet; when it is, the attempt is repeated and the node is told.
            Err(error) if error.is_full() => Ok(()),
            done => done,
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
