//! Writes the audit trail: one record after the other, each a document. What changes who may do
//! what is recorded before it is done, and what became of it afterwards.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use access::{AUDIT, AUDIT_ENDS, AuditEnd, AuditRecord, Event, Happening, JOIN, Refusals, Refusee};
use protocol::{Code, Method, Moment, Principal, Problem, Request};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::ask::{ask_as_system, user_of};
use crate::caller::{Caller, network_of};
use crate::inbox::Inbox;
use crate::own_tls::moment;
use crate::trail_places::{Line, Places, Whose, line};

/// How long an answer waits for its record.
const ANSWER_WAITS_MAX: Duration = Duration::from_secs(2);

/// How long it is tried to record what is not done without a record.
const DEED_WAITS_MAX: Duration = Duration::from_secs(5);

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
    drafts: Places<Draft>,
    refusals: Mutex<Refusals>,
    /// How many were not recorded because too many waited.
    lost: AtomicU64,
}

/// What of a request matters when it is recorded.
#[derive(Clone)]
pub(crate) struct Asked {
    verb: Method,
    path: String,
    pub(crate) principal: Principal,
    address: Option<IpAddr>,
    /// Its records have places that others do not take.
    is_kept: bool,
}

impl Asked {
    pub(crate) fn of(request: &Request, caller: &Caller) -> Self {
        Self::at(&request.principal, (request.method, &request.path), caller.address)
    }

    /// What answers by itself, asked for at a path.
    pub(crate) fn at(
        principal: &Principal,
        (verb, path): (Method, &str),
        address: Option<IpAddr>,
    ) -> Self {
        let (path, principal) = (path.to_owned(), principal.clone());
        let is_kept = principal == Principal::System;
        Self { verb, path, principal, address, is_kept }
    }

    /// The same, and whether an admin asks.
    pub(crate) fn of_an_admin(self, is_admin: bool) -> Self {
        Self { is_kept: self.is_kept || is_admin, ..self }
    }

    /// Whose the records are of what this user does.
    fn whose(&self, user: &str) -> Whose {
        match self.is_kept {
            true => Whose::Kept,
            false => Whose::One(Refusee::User(user.to_owned())),
        }
    }

    fn happening(&self, event: Event, who: &str, (status, note): (u16, &str)) -> Happening {
        Happening {
            at: moment(SystemTime::now()).0,
            event: event.name().to_owned(),
            who: who.to_owned(),
            address: self.address.map(|it| it.to_string()).unwrap_or_default(),
            verb: self.verb.name().to_owned(),
            link: self.path.clone(),
            status,
            note: note.to_owned(),
        }
    }

    /// Somebody who has proved nothing.
    fn stranger(&self) -> Refusee {
        let network = self.address.map(|it| network_of(it).to_string());
        Refusee::Stranger(network.unwrap_or_default())
    }
}

impl Trail {
    /// The trail, and what writes it for as long as it runs.
    pub(crate) fn begin(
        inbox: &Arc<Inbox>,
        node_id: &str,
        days: u32,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (drafts, waiting) = line();
        let life = u64::from(days) * DAY_MICROS;
        let writer = Writer {
            inbox: Arc::clone(inbox),
            node_id: node_id.to_owned(),
            life,
            last: None,
            is_known: false,
            end: AuditEnd::of(node_id, life),
            is_end_told: true,
        };
        let (refusals, lost) = (Mutex::default(), AtomicU64::new(0));
        let trail = Self { inbox: Arc::clone(inbox), drafts, refusals, lost };
        (trail, writer.run(waiting))
    }

    /// Records that a request was refused, if it was. What is done is recorded where it is done.
    pub(crate) async fn answered(&self, asked: &Asked, status: u16) {
        if Event::of(asked.verb, &asked.path, status) != Some(Event::Refused) {
            return;
        }
        // Only who has logged in is told 403, but for who wants to be let in as a node.
        let user = match status {
            403 if asked.path != JOIN => self.user(&asked.principal).await,
            _ => None,
        };
        match user {
            Some(user) => self.refused(Event::Refused, asked, (&user, true), (status, "")).await,
            None => {
                let who = stranger(&asked.principal);
                self.refused(Event::Refused, asked, (who, false), (status, "")).await;
            }
        }
    }

    /// Records that somebody tried to log in, and who that was or said to be.
    pub(crate) async fn logged_in(&self, asked: &Asked, who: &str, status: u16) {
        if status < 400 {
            return self.done(Event::Login, asked, who, (status, "login")).await;
        }
        self.refused(Event::Login, asked, (who, false), (status, "login")).await;
    }

    /// Records that a program of somebody who showed no token was refused.
    pub(crate) async fn program_refused(&self, asked: &Asked, who: &str, note: &str) {
        self.refused(Event::Refused, asked, (who, false), (403, note)).await;
    }

    /// Records what was not done, within the bounds of that. `is_user`: `who` is proved.
    async fn refused(
        &self,
        event: Event,
        asked: &Asked,
        (who, is_user): (&str, bool),
        outcome: (u16, &str),
    ) {
        let what = asked.happening(event, who, outcome);
        let refusee = if is_user { Refusee::User(who.to_owned()) } else { asked.stranger() };
        if self.lock().take(refusee.clone(), Moment(what.at)) {
            self.put(what, Whose::One(refusee), None).await;
        }
    }

    /// Records that something is about to be done, by whom. False: it is not recorded so far, and
    /// is not to be done if it [`Event::is_recorded_first`].
    pub(crate) async fn begins(&self, event: Event, asked: &Asked, who: &str) -> bool {
        let most = if event.is_recorded_first() { DEED_WAITS_MAX } else { ANSWER_WAITS_MAX };
        let what = asked.happening(event, who, (202, "asked"));
        self.put(what, asked.whose(who), Some(most)).await
    }

    /// Records what became of it. `body`: of the answer.
    pub(crate) async fn ended(
        &self,
        event: Event,
        asked: &Asked,
        who: &str,
        (status, body): (u16, &[u8]),
    ) {
        match status {
            200..300 => self.done(event, asked, who, (status, "")).await,
            401 | 403 | 429 => {
                self.refused(Event::Refused, asked, (who, true), (status, "")).await;
            }
            _ => {
                let what = asked.happening(event, who, (status, outcome_of(status, body)));
                self.put(what, asked.whose(who), None).await;
            }
        }
    }

    /// Records what was done.
    pub(crate) async fn done(&self, event: Event, asked: &Asked, who: &str, outcome: (u16, &str)) {
        let what = asked.happening(event, who, outcome);
        // Without an answer it waits no longer; the record is written all the same.
        self.put(what, asked.whose(who), Some(ANSWER_WAITS_MAX)).await;
    }

    /// Records that a node is let in. False: it is not recorded so far.
    pub(crate) async fn lets_in(&self, asked: &Asked, note: &str) -> bool {
        let who = "who has a token to join with";
        let what = asked.happening(Event::Members, who, (200, note));
        self.put(what, Whose::One(asked.stranger()), Some(DEED_WAITS_MAX)).await
    }

    /// Puts a record at the end of the chain, with how many are missing before it. True: it is
    /// there. Who does not wait does not hear it.
    async fn put(&self, mut what: Happening, whose: Whose, waits: Option<Duration>) -> bool {
        let untold = self.lock().untold() + self.lost.swap(0, Ordering::Relaxed);
        if untold > 0 {
            what.note = format!("{} ({untold} before it are not recorded)", what.note);
            what.note = what.note.trim().to_owned();
        }
        let (sender, written) = oneshot::channel();
        let draft = Draft { what, written: waits.is_some().then_some(sender) };
        if !self.drafts.put(draft, whose) {
            self.lost.fetch_add(untold + 1, Ordering::Relaxed);
            return false;
        }
        let Some(most) = waits else { return false };
        matches!(tokio::time::timeout(most, written).await, Ok(Ok(())))
    }

    /// The user that shows a token, if it counts.
    pub(crate) async fn user(&self, principal: &Principal) -> Option<String> {
        user_of(&self.inbox, principal).await.ok().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why something was not done that is never done without a record.
pub(crate) fn not_recorded() -> Problem {
    let text = "this is done only when it is in the audit trail, and that cannot be written at this \
                moment; nothing was done: try again";
    Problem::new(Code::Busy, text)
}

/// What became of a request that was not answered as done. The answer says so itself; where it does
/// not, an error of the node's leaves it open, and a mistake in the request does not.
fn outcome_of(status: u16, body: &[u8]) -> &'static str {
    let said = serde_json::from_slice::<Value>(body).unwrap_or_default();
    match said["outcome"].as_str() {
        Some("notApplied") => "not done",
        None if status < 500 => "not done",
        _ => "unknown",
    }
}

/// Whom nobody knows.
fn stranger(principal: &Principal) -> &str {
    match principal {
        Principal::Bearer(_) => "somebody with a token that does not count",
        other => other.shown(),
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
    /// Where the chain ends, and whether its document says so.
    end: AuditEnd,
    is_end_told: bool,
}

impl Writer {
    async fn run(mut self, mut waiting: Line<Draft>) {
        loop {
            let next = match self.is_end_told || !waiting.is_empty() {
                true => waiting.next().await,
                false => {
                    self.tell_the_end().await;
                    let next = tokio::time::timeout(TRY_AGAIN, waiting.next()).await;
                    let Ok(next) = next else { continue };
                    next
                }
            };
            let Some(mut next) = next else { return };
            while !self.write(&next.it.what).await {
                tokio::time::sleep(TRY_AGAIN).await;
            }
            if let Some(written) = next.it.written.take() {
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
            self.end.follow(&record);
            self.is_end_told = false;
            self.last = Some(record);
        }
        self.is_known
    }

    /// Behind the records, when no more of them wait. What it says is never ahead of the chain.
    async fn tell_the_end(&mut self) {
        let mut body = serde_json::to_value(&self.end).expect("an end is texts and numbers");
        body["documentSelfLink"] = self.node_id.as_str().into();
        let link = format!("{AUDIT_ENDS}/{}", self.node_id);
        let put = Request::new(Method::Put, link).with_json(&body);
        let mut answer = ask_as_system(&self.inbox, put).await;
        if answer.status == 404 {
            let make = Request::new(Method::Post, AUDIT_ENDS).with_json(&body);
            answer = ask_as_system(&self.inbox, make).await;
        }
        self.is_end_told = answer.is_success();
    }

    async fn find_the_end(&mut self) -> bool {
        let link = format!("{AUDIT_ENDS}/{}", self.node_id);
        let told = ask_as_system(&self.inbox, Request::get(&link)).await;
        if !told.is_success() && told.status != 404 {
            return false;
        }
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
        let found: Option<AuditRecord> =
            found.and_then(|it: Value| serde_json::from_value(it).ok());
        if told.is_success()
            && let Ok(end) = serde_json::from_value(told.to_json())
        {
            self.end = AuditEnd { kept_micros: self.life, ..end };
        }
        match found {
            Some(found) if found.sequence >= self.end.sequence => {
                self.end.follow(&found);
                self.last = Some(found);
            }
            // The newest records have expired, or were taken out: the chain goes on behind them.
            _ => self.last = self.end.last(),
        }
        self.is_known = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_not_done_only_of_what_is_surely_not_done() {
        let not_applied = br#"{"message":"busy","outcome":"notApplied"}"#.as_slice();
        let unknown = br#"{"message":"lost","outcome":"unknown"}"#.as_slice();
        for (status, body, expected) in [
            (503, not_applied, "not done"),
            (503, unknown, "unknown"),
            (503, b"".as_slice(), "unknown"),
            (500, b"not JSON".as_slice(), "unknown"),
            (504, br#"{"outcome":"something new"}"#.as_slice(), "unknown"),
            (400, b"".as_slice(), "not done"),
            (409, not_applied, "not done"),
            // An earlier try of it may have been done.
            (409, unknown, "unknown"),
            (302, b"".as_slice(), "not done"),
        ] {
            assert_eq!(outcome_of(status, body), expected, "{status} {body:?}");
        }
    }
}
