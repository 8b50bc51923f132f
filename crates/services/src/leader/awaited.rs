//! Requests that wait for a document which is not there (Xenon's `Pragma: xn-queue`). One that is
//! made meanwhile is read or written; else the answer is the one that was due at once.

use std::collections::BTreeMap;

use protocol::Response;

use super::asked::Asked;

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

pub(super) struct Waiting {
    pub(super) asked: Asked,
    /// What it is answered if the document does not come.
    pub(super) answer: Response,
    until_micros: u64,
}

impl Awaited {
    /// Lets a request wait that was about to be answered so, if it wants to. Else it comes back.
    pub(super) fn add(
        &mut self,
        link: &str,
        asked: Asked,
        answer: Response,
        now_micros: u64,
    ) -> Option<(Asked, Response)> {
        let waits = answer.status == 404 && asked.request.has_pragma(QUEUE);
        if !waits || self.count >= AWAITED_MAX {
            return Some((asked, answer));
        }
        let until_micros = now_micros + PATIENCE_MICROS;
        self.count += 1;
        let waiting = self.waiting.entry(link.to_owned()).or_default();
        waiting.push(Waiting { asked, answer, until_micros });
        None
    }

    /// The document is there now.
    pub(super) fn take(&mut self, link: &str) -> Vec<Waiting> {
        if self.count == 0 {
            return Vec::new();
        }
        let taken = self.waiting.remove(link).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    /// Those that have waited long enough.
    pub(super) fn take_late(&mut self, now_micros: u64) -> Vec<(String, Waiting)> {
        if self.count == 0 {
            return Vec::new();
        }
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
