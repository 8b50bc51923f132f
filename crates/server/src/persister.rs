//! The thread that makes the state store durable, so that the node need not wait for it.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use storage::StoreError;

use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;

/// The node's end of the thread. Dropping it ends the thread after its present work.
pub(crate) struct Persister {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    bell: Condvar,
}

/// One place is enough: a later mark stands for all before it.
#[derive(Default)]
struct Wanted {
    mark: Option<u64>,
    closed: bool,
}

type Persist = Box<dyn FnMut() -> Result<(), StoreError> + Send>;

impl Persister {
    pub(crate) fn start(
        mut persist: Persist,
        inbox: Arc<Inbox>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("amrita-persist".into());
        let thread = thread.spawn(move || {
            while let Some(mark) = ours.next() {
                let begun = Instant::now();
                match persist() {
                    Ok(()) => inbox.put(Event::StatePersisted { mark }),
                    Err(error) => inbox.put(Event::StateFailed(error)),
                }
                metrics.persist_seconds.add(begun.elapsed());
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Answered by `StatePersisted` with this mark or a later one.
    pub(crate) fn put(&self, mark: u64) {
        self.shared.lock().mark = Some(mark);
        self.shared.bell.notify_one();
    }
}

impl Drop for Persister {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.bell.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that makes the state durable has failed");
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.wanted.lock().expect("no one panics while holding the mark")
    }

    fn next(&self) -> Option<u64> {
        let idle = |wanted: &mut Wanted| wanted.mark.is_none() && !wanted.closed;
        let waited = self.bell.wait_while(self.lock(), idle);
        let mut wanted = waited.expect("no one panics while holding the mark");
        wanted.mark.take()
    }
}
