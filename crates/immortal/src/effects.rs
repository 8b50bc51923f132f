//! Does side effects, beside the handlers, while this copy is the primary.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use protocol::immortal::ToNode;

use crate::incoming::Performed;
use crate::link::Link;

/// At most this many effects are done at once; the others wait their turn, in the order in which
/// they were asked for.
const EFFECTS_AT_ONCE_MAX: usize = 16;

/// An effect that is to be done.
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) perform: Box<dyn FnOnce() -> Performed + Send>,
}

/// The effects of one term as primary. Dropped when it ends: what is being done then gives no
/// result, and the next primary does it again.
pub(crate) struct Effects {
    link: Link,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Not longer than what the program itself waits for.
    jobs: VecDeque<Job>,
    threads: usize,
    over: bool,
}

impl Effects {
    pub(crate) fn new(link: Link) -> Self {
        Self { link, shared: Arc::default() }
    }

    pub(crate) fn begin(&self, job: Job) {
        let mut shared = lock(&self.shared);
        shared.jobs.push_back(job);
        if shared.threads < EFFECTS_AT_ONCE_MAX {
            shared.threads += 1;
            let (link, shared) = (self.link.clone(), Arc::clone(&self.shared));
            thread::spawn(move || work(&link, &shared));
        }
    }
}

impl Drop for Effects {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.over = true;
        shared.jobs.clear();
    }
}

fn work(link: &Link, shared: &Mutex<Shared>) {
    while let Some(job) = next(shared) {
        let performed = catch_unwind(AssertUnwindSafe(job.perform))
            .unwrap_or_else(|panic| Performed::refused(&text_of(&*panic)));
        if lock(shared).over {
            break;
        }
        let Performed { status, payload } = performed;
        let frame = ToNode::Result { id: job.id, status, payload: payload.into() };
        if link.write_frame(&frame).is_err() {
            break;
        }
    }
}

/// The next job, or the end of this thread.
fn next(shared: &Mutex<Shared>) -> Option<Job> {
    let mut shared = lock(shared);
    let job = shared.jobs.pop_front();
    if job.is_none() {
        shared.threads -= 1;
    }
    job
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("no one panics while holding it")
}

/// What a panic said.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a text".into())
}
