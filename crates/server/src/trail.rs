//! Writes the audit trail: one record after the other, each a document. Who changes something waits
//! until that is recorded, as long as the cluster can be expected to do it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use access::{AUDIT, AuditRecord, Event, Happening, JOIN, Refusals, WHO_AM_I};
use protocol::{Method, Principal, Request};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use crate::ask::{ask, ask_as_system};
use crate::caller::Caller;
use crate::inbox::Inbox;
use crate::own_tls::moment;

/// The most records that wait to be written. What is more is not recorded one by one: how many
/// there were is.
const TRAIL_WAITING_MAX: usize = 1_024;

/// How long an answer waits for its record.
const ANSWER_WAITS_MAX: Duration = Duration::from_secs(2);

/// Between two tries to write a record.
const TRY_AGAIN: Duration = Duration::from_millis(200);

const DAY_MICROS: u64 = 86_400_000_000;

struct Draft {
    what: Happening,
    /// Told when the record is durable.
    written: Option<oneshot::Sender<()>>,
}

pub(crate) struct Trail {
    inbox: Arc<Inbox>,
    drafts: mpsc::Sender<Draft>,
    refusals: Mutex<Refusals>,
    /// How many were not recorded because too many waited.
    lost: AtomicU64,
}

/// What of a request matters when it is recorded.
pub(crate) struct Asked {
    verb: Method,
    path: String,
    principal: Principal,
    address: String,
}

impl Asked {
    pub(crate) fn of(request: &Request, caller: &Caller) -> Self {
        Self {
            verb: request.method,
            path: request.path.clone(),
            principal: request.principal.clone(),
            address: caller.address.map(|it| it.to_string()).unwrap_or_default(),
        }
    }

    /// What answers by itself, asked for at a path.
    pub(crate) fn at(principal: &Principal, verb: Method, path: &str) -> Self {
        let (path, principal) = (path.to_owned(), principal.clone());
        Self { verb, path, principal, address: String::new() }
    }
}

impl Trail {
    /// The trail, and what writes it for as long as it runs.
    pub(crate) fn begin(
        inbox: &Arc<Inbox>,
        node_id: &str,
        days: u32,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (drafts, waiting) = mpsc::channel(TRAIL_WAITING_MAX);
        let writer = Writer {
            inbox: Arc::clone(inbox),
            node_id: node_id.to_owned(),
            life: u64::from(days) * DAY_MICROS,
            last: None,
            is_known: false,
        };
        let (refusals, lost) = (Mutex::default(), AtomicU64::new(0));
        let trail = Self { inbox: Arc::clone(inbox), drafts, refusals, lost };
        (trail, writer.run(waiting))
    }

    /// Records what became of a request, if that is something to be recorded.
    pub(crate) async fn answered(&self, asked: Asked, status: u16) {
        let Some(event) = Event::of(asked.verb, &asked.path, status) else { return };
        let is_joining = event == Event::Members && asked.path == JOIN;
        if is_joining || event == Event::Login || event == Event::Stop {
            // Recorded where it is known what was asked, or before it was done.
            return;
        }
        self.record(event, asked, status, "").await;
    }

    /// Records something.
    pub(crate) async fn record(&self, event: Event, asked: Asked, status: u16, note: &str) {
        let who = match &asked.principal {
            Principal::Bearer(_) => self.name(&asked.principal).await,
            other => other.shown().to_string(),
        };
        self.tell(event, (who, asked.address), (asked.verb, asked.path), (status, note)).await;
    }

    pub(crate) async fn tell(
        &self,
        event: Event,
        (who, address): (String, String),
        (verb, link): (Method, String),
        (status, note): (u16, &str),
    ) {
        let now = moment(SystemTime::now());
        let is_done = status < 400;
        let mut note = note.to_owned();
        if !is_done {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            match refusals.take(now) {
                None => return,
                Some(0) => {}
                Some(untold) => note = format!("{note} ({untold} more before it)"),
            }
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            note = format!("{note} ({lost} before it are not recorded)");
        }
        let (event, verb) = (event.name().to_owned(), verb.name().to_owned());
        let what = Happening {
            at: now.0,
            event,
            who,
            address,
            verb,
            link,
            status,
            note: note.trim().to_owned(),
        };
        let (sender, written) = oneshot::channel();
        let draft = Draft { what, written: is_done.then_some(sender) };
        if self.drafts.try_send(draft).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
            return;
        }
        if is_done {
            // Without an answer it waits no longer; the record is written all the same.
            drop(tokio::time::timeout(ANSWER_WAITS_MAX, written).await);
        }
    }

    /// Who has shown a token.
    async fn name(&self, principal: &Principal) -> String {
        let who = Request::new(Method::Get, WHO_AM_I).on_behalf_of(principal.clone());
        let answer = ask(&self.inbox, who).await;
        let user = answer.to_json()["userLink"].as_str().map(str::to_owned);
        user.unwrap_or_else(|| "somebody with a token that does not count".into())
    }
}

struct Writer {
    inbox: Arc<Inbox>,
    node_id: String,
    /// How long a record is kept, in microseconds.
    life: u64,
    last: Option<AuditRecord>,
    /// Whether `last` is the end of this node's chain.
    is_known: bool,
}

impl Writer {
    async fn run(mut self, mut waiting: mpsc::Receiver<Draft>) {
        while let Some(draft) = waiting.recv().await {
            while !self.write(&draft.what).await {
                tokio::time::sleep(TRY_AGAIN).await;
            }
            if let Some(written) = draft.written {
                // Who waited may have gone.
                let _is_heard = written.send(());
            }
        }
    }

    /// False: it is to be tried again.
    async fn write(&mut self, what: &Happening) -> bool {
        if !self.is_known && !self.find_the_end().await {
            return false;
        }
        let record = AuditRecord::after(self.last.as_ref(), &self.node_id, what.clone());
        if self.last.as_ref().is_some_and(|last| last.what == record.what) {
            // It was written, and the answer was lost.
            return true;
        }
        let mut body = serde_json::to_value(&record).expect("a record is texts and numbers");
        body["documentSelfLink"] = record.name().into();
        body["documentExpirationTimeMicros"] = (what.at.saturating_add(self.life)).into();
        let make = Request::new(Method::Post, AUDIT).with_json(&body);
        let answer = ask_as_system(&self.inbox, make).await;
        // What is not known is looked up.
        self.is_known = answer.is_success();
        if self.is_known {
            self.last = Some(record);
        }
        self.is_known
    }

    async fn find_the_end(&mut self) -> bool {
        let path = format!(
            "{AUDIT}?expand&$top=1&$orderby=sequence%20desc&$orderbytype=LONG&\
             $filter=node%20eq%20'{}'",
            self.node_id
        );
        let answer = ask_as_system(&self.inbox, Request::get(&path)).await;
        if !answer.is_success() {
            return false;
        }
        let body = answer.to_json();
        let found = body["documents"].as_object().and_then(|all| all.values().next()).cloned();
        self.last = found.and_then(|it: Value| serde_json::from_value(it).ok());
        self.is_known = true;
        true
    }
}
