//! `/core/batch`: many writes of documents in one request. Each is looked at here as if it came by
//! itself; then those of one partition go to its owner together.
//!
//! What is wrong with the form of any of them is told before anything is done.

use std::collections::{BTreeMap, BTreeSet};

use ::documents::{Atom, AtomRequest};
use access::Event;
use protocol::hash::hash_parts;
use protocol::service::Handler;
use protocol::{
    BATCH_REQUESTS_MAX, BodyType, Code, Conditions, EntityTags, GroupId, Method, Problem, Request,
    RequestKey, links,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::batch_parts::{Batch, Part};
use super::documents;
use super::plan::{Plan, canonical, parse_body};
use super::surface::{QUEUE, Resource};
use crate::frame::Question;
use crate::router::digest_of;
use crate::view::View;

/// The longest key of a request, in bytes, as in the header.
const KEY_BYTES_MAX: usize = 1_024;

/// The names of documents without one are made of a number of the node's start and the place in the
/// batch. A start has fewer requests than this.
const PLACES_FROM: u64 = 1 << 40;

/// A batch, as its body says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    requests: Vec<&'a RawValue>,
    atomic: Option<String>,
}

/// One of its requests.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Item<'a> {
    method: String,
    path: String,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    idempotency_key: Option<String>,
    content_type: Option<String>,
    pragma: Option<String>,
}

/// # Errors
/// What is wrong with it. Nothing was done then.
pub(super) fn plan(request: Request, fresh: u64, view: &View<'_>) -> Result<Plan, Problem> {
    let body: Body<'_> = serde_json::from_slice(&request.body).map_err(|error| {
        let text =
            format!("a batch is {{\"requests\": [...], \"atomic\": \"partition\"}}: {error}");
        Problem::bad_body(text)
    })?;
    let count = body.requests.len();
    if count == 0 || count > BATCH_REQUESTS_MAX {
        let text = format!(
            "the batch has {count} requests, and takes from 1 to {BATCH_REQUESTS_MAX}: send them \
             in several batches"
        );
        let code = if count == 0 { Code::BadBody } else { Code::TooLarge };
        return Err(Problem::new(code, text));
    }
    let is_whole = match body.atomic.as_deref() {
        None | Some("partition") => false,
        Some("all") => true,
        Some(other) => {
            let text = format!("'atomic' is partition or all, not '{other}'");
            return Err(Problem::bad_body(text));
        }
    };
    let mut taken = Taken::of(&request);
    for (place, item) in body.requests.iter().enumerate() {
        let of_place = |problem| at_place(place, problem);
        let one = parse(item.get(), &request).map_err(of_place)?;
        let planned = Planned::of(one, (place, fresh), (&request, view)).map_err(of_place)?;
        match planned {
            Planned::Seek(factories) => return Ok(Plan::Seek(Box::new(request), factories)),
            Planned::Write(group, one) => taken.take(group, *one, place).map_err(of_place)?,
        }
    }
    let digest = hash_parts([request.body.as_ref()]);
    if is_whole && taken.atoms.len() > 1 {
        return Err(in_several(&taken));
    }
    let atoms = taken.atoms.into_iter().map(|(group, (requests, places))| {
        let body = Atom { digest, requests }.encode();
        Part { group, request: Request { body, ..request.clone() }, places }
    });
    Ok(Plan::Batch(Box::new(Batch { atoms: atoms.collect(), count })))
}

fn at_place(place: usize, problem: Problem) -> Problem {
    let message = format!("request {place} of the batch: {}", problem.message);
    Problem { outcome: problem.outcome, ..Problem::new(problem.code, message) }
}

/// "all" is asked for, and is not to be had.
fn in_several(taken: &Taken) -> Problem {
    let shown = taken.atoms.iter().take(2).filter_map(|(group, (requests, _))| {
        let link = &requests.first()?.request.path;
        Some(format!("{link} in partition {}", group.0))
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    Problem::new(
        Code::Refused,
        format!(
            "'atomic' is all, and the documents lie in {} partitions ({shown}), which cannot be \
             written all or nothing: give their links one key, as in /app/orders/{{42}}/a, or say \
             \"atomic\": \"partition\"",
            taken.atoms.len()
        ),
    )
}

/// The requests that have been looked at.
#[derive(Default)]
struct Taken {
    atoms: BTreeMap<GroupId, (Vec<AtomRequest>, Vec<usize>)>,
    links: BTreeSet<String>,
    keys: BTreeSet<String>,
}

impl Taken {
    /// The key of the batch is none for one of its requests: an entry records each key once.
    fn of(batch: &Request) -> Self {
        let is_task = batch.source().is_some();
        let own = |key: &String| RequestKey::owned_by(key, &batch.principal, is_task);
        Self { keys: batch.idempotency_key.iter().map(own).collect(), ..Self::default() }
    }

    fn take(&mut self, group: GroupId, one: AtomRequest, place: usize) -> Result<(), Problem> {
        let link = &one.request.path;
        if !self.links.insert(link.clone()) {
            let text = format!(
                "another one of the batch is for {link}, and a batch writes a document once: make \
                 one of the two, or send two batches"
            );
            return Err(Problem::bad_request(text));
        }
        if let Some(RequestKey::User { key, .. }) = &one.key
            && !self.keys.insert(key.clone())
        {
            let text = "another one of the batch has the same idempotencyKey, or the whole batch has \
                        it in its header: a key is for one";
            return Err(Problem::bad_request(text));
        }
        let (requests, places) = self.atoms.entry(group).or_default();
        requests.push(one);
        places.push(place);
        Ok(())
    }
}

/// One request, as it would come in by itself.
fn parse(text: &str, batch: &Request) -> Result<Request, Problem> {
    let item: Item<'_> = serde_json::from_str(text).map_err(|error| {
        Problem::bad_body(format!(
            "{error}; it is {{\"method\": \"PATCH\", \"path\": \"/...\", \"body\": {{...}}}}"
        ))
    })?;
    let method = Method::parse(&item.method).filter(|method| method.is_write());
    let method = method.ok_or_else(|| {
        let text = format!("the method is POST, PUT, PATCH or DELETE, not '{}'", item.method);
        Problem::bad_request(text)
    })?;
    let tags = |name: &str, text: Option<String>| -> Result<Option<EntityTags>, Problem> {
        let parsed = text.map(|text| text.parse()).transpose();
        parsed.map_err(|why: String| Problem::bad_request(format!("{name}: {why}")))
    };
    if item.path.contains('?') {
        let text = format!("{}: a request in a batch takes no parameters", item.path);
        return Err(Problem::bad_request(text));
    }
    let mut one = Request::new(method, links::percent_decode(&item.path)?);
    canonical(&mut one);
    one.body = item.body.map_or_else(Default::default, |body| body.get().to_owned().into());
    one.conditions = Conditions {
        if_match: tags("ifMatch", item.if_match)?,
        if_none_match: tags("ifNoneMatch", item.if_none_match)?,
    };
    one.body_type = match item.content_type.as_deref() {
        None | Some("application/json") => BodyType::Json,
        Some("application/merge-patch+json") => BodyType::MergePatch,
        Some(other) => {
            let text = format!(
                "contentType is application/json or application/merge-patch+json, not '{other}'"
            );
            return Err(Problem::new(Code::UnsupportedMediaType, text));
        }
    };
    if let Some(key) = &item.idempotency_key
        && (key.is_empty() || key.len() > KEY_BYTES_MAX || !key.bytes().all(is_of_a_header))
    {
        let text = format!("idempotencyKey has from 1 to {KEY_BYTES_MAX} plain ASCII characters");
        return Err(Problem::bad_request(text));
    }
    one.idempotency_key = item.idempotency_key;
    let directives = item.pragma.as_deref().unwrap_or_default().split([';', ',']);
    let directives = directives.map(|text| text.trim().to_ascii_lowercase());
    one.pragmas.extend(directives.filter(|text| !text.is_empty()));
    (one.principal, one.maker) = (batch.principal.clone(), batch.maker.clone());
    Ok(one)
}

fn is_of_a_header(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

/// What becomes of one request.
enum Planned {
    Write(GroupId, Box<AtomRequest>),
    /// Its factory is not known here.
    Seek(Vec<String>),
}

impl Planned {
    fn of(
        mut one: Request,
        (place, fresh): (usize, u64),
        (batch, view): (&Request, &View<'_>),
    ) -> Result<Self, Problem> {
        check_kind(&one, view)?;
        let own_key = one.idempotency_key.take();
        let principal = one.principal.clone();
        // With a key of the batch a repeat of it means the same documents.
        let of_batch = || batch.idempotency_key.as_ref().map(|key| format!("{key}\n{place}"));
        one.idempotency_key = own_key.clone().or_else(of_batch);
        let place = u64::try_from(place).unwrap_or(u64::MAX);
        let planned = documents::plan(one, fresh + (place + 1) * PLACES_FROM, view)?;
        let (group, mut one) = match planned {
            Plan::Ask(group, Question::Rest(one)) if group.is_partition() => (group, one),
            Plan::Seek(_, factories) => return Ok(Self::Seek(factories)),
            _ => return Err(not_in_a_batch("what is asked")),
        };
        one.idempotency_key.clone_from(&own_key);
        let is_of_a_task = one.source().is_some();
        let key = own_key.map(|key| RequestKey::User {
            key: RequestKey::owned_by(&key, &principal, is_of_a_task),
            digest: digest_of(&one),
        });
        // Who asks is said once, for all.
        (one.principal, one.maker) = Default::default();
        one.idempotency_key = None;
        Ok(Self::Write(group, Box::new(AtomRequest { request: one, key })))
    }
}

/// What is not in a batch is refused by name.
fn check_kind(one: &Request, view: &View<'_>) -> Result<(), Problem> {
    const DONE: u16 = 200;
    let catalogue = view.catalogue();
    let named = || not_in_a_batch(&format!("{} {}", one.method.name(), one.path));
    // It is recorded, and some of it made ready, before a node has it, by its path.
    if Event::of(one.method, &one.path, DONE).is_some() {
        return Err(named());
    }
    let Some(resource) = Resource::at(&one.path, catalogue) else {
        // Its factory may be defined elsewhere.
        return Ok(());
    };
    if !resource.is_of_documents() {
        return Err(named());
    }
    resource.check(one, catalogue)?;
    if one.has_pragma(QUEUE) {
        return Err(Problem::bad_request(format!(
            "a batch does not wait for a document that is not there: leave out '{QUEUE}'"
        )));
    }
    let spec = catalogue.spec(&one.path).or_else(|| catalogue.spec_of(&one.path));
    let Some(spec) = spec else { return Ok(()) };
    if spec.is_task && one.method != Method::Post {
        let text = format!("{} is a task: a batch makes tasks, and does not change them", one.path);
        return Err(Problem::bad_request(text));
    }
    if spec.is_task && parse_body(&one.body).is_ok_and(|it| it["taskInfo"]["isDirect"] == true) {
        return Err(Problem::bad_request(format!(
            "{} is a direct task, which is answered when it has ended: leave out taskInfo.isDirect, \
             or send it by itself",
            one.path
        )));
    }
    let handler = match one.method {
        Method::Post => Handler::Create,
        Method::Put => Handler::Put,
        Method::Patch => Handler::Patch,
        _ => Handler::Delete,
    };
    if catalogue.outside(&spec.factory).is_some_and(|outside| outside.has(handler)) {
        return Err(Problem::bad_request(format!(
            "the handler of {} at {} is in a program outside, and a batch does not wait for one: \
             send it by itself",
            one.method.name(),
            spec.factory
        )));
    }
    Ok(())
}

fn not_in_a_batch(what: &str) -> Problem {
    Problem::bad_request(format!(
        "{what} is not done in a batch, which writes documents: send it by itself"
    ))
}
