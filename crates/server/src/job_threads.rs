//! The threads for jobs: queries over many documents, and large answers. They have a slightly lower
//! priority than the node's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use node::{Job, Lane, QUERIES_MAX};
use storage::StoreError;

use crate::disk_files::files_of;
use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;

/// More jobs than a node ever has under way: its answers are bounded by its queries, and of its
/// searches only a few are under way at a time.
const JOBS_MAX: usize = 2 * QUERIES_MAX;

/// How much the kernel puts the threads behind others, in steps of `nice`. Only a little: the store
/// has locks, and one that is held by a thread without a processor holds up the node.
const NICE_SHORT: i32 = 1;
const NICE_LONG: i32 = 2;

/// A machine with more processors has two threads for each lane.
const PROCESSORS_FEW: usize = 3;

/// The node's end of the threads. Dropping it ends them after their present jobs.
pub(crate) struct JobThreads {
    /// Tells these threads from those of an earlier life of the node.
    life: u64,
    short: SyncSender<Job>,
    long: SyncSender<Job>,
}

static LIVES: AtomicU64 = AtomicU64::new(0);

impl JobThreads {
    /// `sandbox`: the folder whose files are counted when somebody asks what is on the disk.
    pub(crate) fn start(
        inbox: &Arc<Inbox>,
        metrics: &Arc<Metrics>,
        sandbox: &Path,
    ) -> std::io::Result<Self> {
        let life = LIVES.fetch_add(1, Ordering::Relaxed);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let count = if processors > PROCESSORS_FEW { 2 } else { 1 };
        let lane = |name: &str, nice: i32| -> std::io::Result<SyncSender<Job>> {
            let (sender, jobs) = sync_channel(JOBS_MAX);
            let jobs = Arc::new(Mutex::new(jobs));
            for _ in 0..count {
                let (jobs, inbox) = (Arc::clone(&jobs), Arc::clone(inbox));
                let (metrics, sandbox) = (Arc::clone(metrics), sandbox.to_owned());
                let thread = std::thread::Builder::new().name(name.into());
                thread.spawn(move || {
                    let shell = (&*inbox, &*metrics, &*sandbox);
                    run_all(life, nice, &jobs, shell);
                })?;
            }
            Ok(sender)
        };
        let short = lane("amrita-query", NICE_SHORT)?;
        let long = lane("amrita-query-2", NICE_LONG)?;
        Ok(Self { life, short, long })
    }

    /// Whether these threads did a job, and not those of an earlier life.
    pub(crate) fn did(&self, life: u64) -> bool {
        self.life == life
    }

    /// Comes back as [`Event::Ran`].
    pub(crate) fn put(&self, job: Job) {
        let lane = match job.lane() {
            Lane::Short => &self.short,
            Lane::Long => &self.long,
        };
        lane.send(job).expect("the threads end when this does");
    }
}

fn run_all(
    life: u64,
    nice: i32,
    jobs: &Mutex<Receiver<Job>>,
    (inbox, metrics, sandbox): (&Inbox, &Metrics, &Path),
) {
    // Of this thread alone, as Linux has it. Elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!("queries run with the priority of all else: {error}");
    }
    let _ = nice;
    loop {
        let next = jobs.lock().expect("no one panics while taking a job").recv();
        let Ok(job) = next else { return };
        let begun = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| job.run(&|| files_of(sandbox)))) {
            Ok(done) => inbox.put(Event::Ran { life, done: Box::new(done) }),
            Err(_) => {
                let why = "a query failed by a mistake of this program; the lines above say where";
                inbox.put(Event::StateFailed(StoreError::failed(why)));
            }
        }
        metrics.work.job_seconds.add(begun.elapsed());
    }
}
