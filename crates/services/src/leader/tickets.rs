//! Requests that are not answered yet, and how repeats of them are known.
//!
//! A repeat of a request in flight gets the same answer. A repeat of one that was answered is
//! found in the partition's records, which are written together with the document.

use std::collections::BTreeMap;
use std::sync::Arc;

use documents::{Recorded, RequestKey};
use protocol::{Code, Method, Problem, ReplicaId, Request, Response};
use serde_json::json;
use storage::StoreError;

use super::{Answer, PartitionLeader, OpenRequest, StepContext};
use crate::task::TaskInfo;

/// How many repeats may wait for the answer of one request. More are BUSY.
const REPEATS_MAX: usize = 16;

/// How a request can be known again.
pub(super) struct Known {
    pub(super) key: Option<RequestKey>,
    /// It may be a repeat.
    pub(super) again: bool,
}

/// What a key is without the digest and the minute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum KeyName {
    Auto(ReplicaId, u64, u64),
    User(String),
}

#[derive(Default)]
struct Ticket {
    request: Option<Arc<Request>>,
    key: Option<KeyName>,
    proposed: bool,
    /// Tickets of repeats that get the same answer.
    repeats: Vec<u64>,
}

/// What is left of a ticket that is answered.
#[derive(Default)]
pub(super) struct Done {
    pub(super) request: Option<Arc<Request>>,
    pub(super) repeats: Vec<u64>,
}

/// Whether a request with a key is the first one with it.
pub(super) enum Joined {
    First,
    /// It waits for the answer of the first.
    Repeat,
    Refused(Problem),
}

#[derive(Default)]
pub(super) struct Tickets {
    open: BTreeMap<u64, Ticket>,
    /// The first ticket with each key in flight, and the digest of its request.
    keys: BTreeMap<KeyName, (u64, u64)>,
}

impl Tickets {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn open(&mut self, ticket: u64) {
        let before = self.open.insert(ticket, Ticket::default());
        assert!(before.is_none(), "the ticket {ticket} was given out twice");
    }

    pub(super) fn set_request(&mut self, ticket: u64, request: Arc<Request>) {
        if let Some(open) = self.open.get_mut(&ticket) {
            open.request = Some(request);
        }
    }

    pub(super) fn request(&self, ticket: u64) -> Option<&Request> {
        self.open.get(&ticket)?.request.as_deref()
    }

    pub(super) fn set_proposed(&mut self, ticket: u64) {
        if let Some(open) = self.open.get_mut(&ticket) {
            open.proposed = true;
        }
    }

    pub(super) fn join(&mut self, ticket: u64, known: &Known) -> Joined {
        let Some(key) = &known.key else { return Joined::First };
        let (name, digest) = name(key);
        let Some(&(first, first_digest)) = self.keys.get(&name) else {
            self.keys.insert(name.clone(), (ticket, digest));
            self.open.entry(ticket).or_default().key = Some(name);
            return Joined::First;
        };
        if first_digest != digest {
            return Joined::Refused(key_reused(key));
        }
        let first = self.open.get_mut(&first).expect("a key in flight has an open ticket");
        if first.repeats.len() >= REPEATS_MAX {
            let message = "too many repeats of this request wait for its answer; wait with them";
            return Joined::Refused(Problem::new(Code::Busy, message));
        }
        first.repeats.push(ticket);
        self.open.remove(&ticket);
        Joined::Repeat
    }

    pub(super) fn done(&mut self, ticket: u64) -> Done {
        let Some(done) = self.open.remove(&ticket) else { return Done::default() };
        if let Some(key) = done.key {
            self.keys.remove(&key);
        }
        Done { request: done.request, repeats: done.repeats }
    }

    pub(super) fn close(self) -> Vec<OpenRequest> {
        let open = self.open.into_iter().flat_map(|(ticket, open)| {
            let all = std::iter::once(ticket).chain(open.repeats);
            all.map(move |ticket| OpenRequest { ticket, proposed: open.proposed })
        });
        open.collect()
    }
}

impl PartitionLeader {
    /// Answers a repeat of a request that was answered. False when it is none.
    pub(super) fn repeat(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        request: &Request,
        known: &Known,
    ) -> Result<bool, StoreError> {
        let Some(key) = &known.key else { return Ok(false) };
        if !known.again && matches!(key, RequestKey::Auto { .. }) {
            return Ok(false);
        }
        let Some(recorded) = cx.partition().recorded(cx.reader(), key)? else {
            return Ok(false);
        };
        if matches!(key, RequestKey::User { digest, .. } if *digest != recorded.digest) {
            self.refuse(cx, ticket, key_reused(key));
            return Ok(true);
        }
        if request.method == Method::Post && self.repeat_of_direct(cx, ticket, &recorded)? {
            return Ok(true);
        }
        let response = recorded_response(cx, &recorded)?;
        let response = with_location(response, request, &recorded.link);
        let position = cx.position(self.options.partition)?;
        self.answer(cx, ticket, Answer::Response(response), Some(position));
        Ok(true)
    }

    /// The POST of a direct task is repeated (its owner died): the task's end is the answer.
    fn repeat_of_direct(
        &mut self,
        cx: &mut StepContext<'_, '_>,
        ticket: u64,
        recorded: &Recorded,
    ) -> Result<bool, StoreError> {
        let link = &recorded.link;
        if !cx.catalogue().spec_of(link).is_some_and(|spec| spec.is_task) {
            return Ok(false);
        }
        let Some(task) = cx.latest(link)? else { return Ok(false) };
        let info = TaskInfo::of(&task.body);
        if !info.is_direct || task.is_deleted() {
            return Ok(false);
        }
        if info.stage.is_final() {
            let position = cx.position(self.options.partition)?;
            let response = Response::document(200, &task);
            self.answer(cx, ticket, Answer::Response(response), Some(position));
        } else {
            self.tasks.wait_for_end(link, ticket, task.expires);
        }
        Ok(true)
    }
}

/// The answer that was given, as far as it is still known.
fn recorded_response(cx: &StepContext<'_, '_>, recorded: &Recorded) -> Result<Response, StoreError> {
    let Recorded { link, version, status, response, .. } = recorded;
    if let Some(body) = response {
        return Ok(Response::bytes(*status, body.clone()));
    }
    let document = cx.partition().version(cx.reader(), link, *version)?;
    Ok(match document {
        Some(document) => Response::document(*status, &document),
        // The version has gone since; that the write was made is what counts.
        None => {
            Response::json(*status, &json!({"documentSelfLink": link, "documentVersion": version}))
        }
    })
}

pub(super) fn with_location(response: Response, request: &Request, link: &str) -> Response {
    let made = request.method == Method::Post && response.is_success();
    Response { location: made.then(|| link.to_owned()), ..response }
}

fn key_reused(key: &RequestKey) -> Problem {
    let shown = match key {
        RequestKey::User { key, .. } => key.as_str(),
        RequestKey::Auto { .. } => "of the edge",
    };
    let message = format!(
        "the Idempotency-Key '{shown}' was used for another request; a key is for one request and \
         its repeats"
    );
    Problem::new(Code::KeyReused, message)
}

fn name(key: &RequestKey) -> (KeyName, u64) {
    match key {
        RequestKey::Auto { edge, boot, number, .. } => (KeyName::Auto(*edge, *boot, *number), 0),
        RequestKey::User { key, digest } => (KeyName::User(key.clone()), *digest),
    }
}
