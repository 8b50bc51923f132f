//! Requests that wait for a document which is not there (Xenon's `Pragma: xn-queue`). One that is
//! made meanwhile is read or written; else the answer is the one that was due at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::{Request, Response};
use storage::StoreError;

use super::{Known, PartitionLeader, StepContext};

const QUEUE: &str = "xn-queue";

/// How many requests of one partition may wait so. One more is answered at once.
const AWAITED_MAX: usize = 1_000;

/// How long a request waits, in microseconds: less than the node that took it in waits for it.
const PATIENCE_MICROS: u64 = 8_000_000;

/// What waits, by link.
#[derive(Default)]
pub(super) struct Awaited {
    waiting: BTreeMap<String, Vec<Waiting>>,
    count: usize,
}

/// A request with its ticket, and how a write is known again.
pub(super) struct Waiter {
    pub(super) ticket: u64,
    pub(super) request: Arc<Request>,
    pub(super) known: Known,
}

struct Waiting {
    waiter: Waiter,
    /// What it is answered if the document does not come.
    answer: Response,
    until_micros: u64,
}

impl Awaited {
    /// Lets a request wait that was about to be answered so, if it wants to. Else it comes back.
    pub(super) fn add(
        &mut self,
        link: &str,
        waiter: Waiter,
        answer: Response,
        now_micros: u64,
    ) -> Option<(Waiter, Response)> {
        let waits = answer.status == 404 && waiter.request.has_pragma(QUEUE);
        if !waits || self.count >= AWAITED_MAX {
            return Some((waiter, answer));
        }
        let until_micros = now_micros + PATIENCE_MICROS;
        self.count += 1;
        let waiting = self.waiting.entry(link.to_owned()).or_default();
        waiting.push(Waiting { waiter, answer, until_micros });
        None
    }

    fn take(&mut self, link: &str) -> Vec<Waiting> {
        if self.count == 0 {
            return Vec::new();
        }
        let taken = self.waiting.remove(link).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    fn take_late(&mut self, now_micros: u64) -> Vec<(String, Waiting)> {
        let mut late = Vec::new();
        for (link, waiting) in &mut self.waiting {
            let over = waiting.extract_if(.., |it| it.until_micros <= now_micros);
            late.extend(over.map(|waiting| (link.clone(), waiting)));
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        self.count -= late.len();
        late
    }
}

impl PartitionLeader {
    /// The document is there now: whoever waits for it is asked again.
    pub(super) fn has_come(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        link: &str,
    ) -> Result<(), StoreError> {
        for Waiting { waiter: Waiter { ticket, request, known }, .. } in self.awaited.take(link) {
            if request.method.is_write() {
                self.enqueue(cx, ticket, request, known)?;
            } else {
                self.read(cx, ticket, request);
            }
        }
        Ok(())
    }

    pub(super) fn tick_awaited(&mut self, cx: &mut StepContext<'_, '_>) {
        if self.awaited.count == 0 {
            return;
        }
        for (link, waiting) in self.awaited.take_late(cx.now().steady_micros) {
            self.respond(cx, waiting.waiter.ticket, &link, waiting.answer, None);
        }
    }
}
