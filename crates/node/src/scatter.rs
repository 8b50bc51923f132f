//! Requests that concern every partition: queries, the listing of a factory, `/available`, fences.
//! Each partition's owner answers for its part, and the parts are put together here.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::query::{QueryOption, QueryResult, QuerySpecification};
use protocol::{Document, GroupId, Problem, Request, Response, Source};
use query::{Cursor, Hit, Page};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use services::DeskInput;

use crate::edge::{Purpose, response_of};
use crate::frame::{Question, Told};
use crate::node::{Agenda, Node};

pub(crate) type ScatterId = u64;

/// How many hits a query without a limit may give; more must be asked for in pages.
pub const HITS_MAX: usize = 100_000;

/// How many bytes an answer with documents may have before it must be asked for in pages.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;

/// The longest link to the next page of a query task. It holds the whole query, and must fit into the
/// head of a request with room to spare for where the page begins.
const PAGE_LINK_BYTES_MAX: usize = 32 << 10;

/// The link under which the following pages of a query are found.
pub(crate) const PAGE_LINK: &str = "/core/query-page";

/// A question to all partitions, until the last has answered.
pub(crate) struct Scatter {
    aim: Aim,
    missing: usize,
    pages: Vec<Page>,
    /// Answers that are no pages.
    parts: Vec<Response>,
    /// The first error; it becomes the answer.
    failed: Option<Response>,
    since: u64,
}

/// What the parts are for.
enum Aim {
    Query(Box<QueryAim>),
    Available { purpose: Purpose },
    Stats { purpose: Purpose },
    Fence { group: GroupId, opening: u64, source: Source },
}

struct QueryAim {
    purpose: Purpose,
    specification: QuerySpecification,
    /// The most hits that may be shown, those that are skipped included.
    limit: usize,
    skip: usize,
    form: Form,
}

/// How the answer is to look.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// A query task that is finished: the task as it was sent, with results.
    Task(Value),
    /// A further page of it.
    TaskPage { link: String },
    /// Bare results, for a factory or a page of one.
    Plain { link: String, skip: usize },
}

/// What the link of a next page holds: everything needed to go on, so that no node has to remember
/// it and any node can answer.
#[derive(Serialize, Deserialize)]
struct PageToken {
    /// The pages of a query task look like query tasks, those of a factory do not.
    task: bool,
    specification: String,
    after: Option<Cursor>,
}

#[derive(Default)]
pub(crate) struct Scatters {
    open: BTreeMap<ScatterId, Scatter>,
    next: ScatterId,
    /// Fences that did not get through everywhere; tried again at a later tick.
    fence_again: Vec<(GroupId, Source)>,
}

impl Scatters {
    fn add(&mut self, aim: Aim, missing: usize, since: u64) -> ScatterId {
        self.next += 1;
        let scatter =
            Scatter { aim, missing, pages: Vec::new(), parts: Vec::new(), failed: None, since };
        self.open.insert(self.next, scatter);
        self.next
    }
}

impl Node {
    pub(crate) fn scatter_fence(
        &mut self,
        group: GroupId,
        source: Source,
        partitions: u32,
    ) -> ScatterId {
        let missing = usize::try_from(partitions).expect("a number of partitions fits");
        let aim = Aim::Fence { group, opening: self.opening_of(group), source };
        self.scatters.add(aim, missing, self.now.steady_micros)
    }

    /// The statistics of a factory are those of all its partitions, added up.
    pub(crate) fn ask_stats(&mut self, purpose: Purpose, request: &Request) {
        let partitions = self.partitions();
        let missing = usize::try_from(partitions).expect("a number of partitions fits");
        let scatter = self.scatters.add(Aim::Stats { purpose }, missing, self.now.steady_micros);
        for group in (1..=partitions).map(GroupId) {
            self.submit(Purpose::Part { scatter }, group, Question::Rest(request.clone()));
        }
    }

    pub(crate) fn mind_fences(&mut self) {
        for (group, source) in std::mem::take(&mut self.scatters.fence_again) {
            if self.offices.get(&group).is_some_and(|office| office.term == source.epoch) {
                self.spread_fence(group, source);
            }
        }
    }

    /// Asks every partition whether its owner is at work.
    pub(crate) fn ask_available(&mut self, purpose: Purpose) {
        let partitions = self.partitions();
        let missing = usize::try_from(partitions).expect("a number of partitions fits");
        let scatter =
            self.scatters.add(Aim::Available { purpose }, missing, self.now.steady_micros);
        for group in (1..=partitions).map(GroupId) {
            self.submit(Purpose::Part { scatter }, group, Question::Available);
        }
    }

    /// Runs a query over all partitions. Its first page is not computed when it is to be fetched by
    /// a link of its own, as Xenon's query tasks with a limit have it.
    pub(crate) fn run_query(
        &mut self,
        purpose: Purpose,
        specification: QuerySpecification,
        after: Option<Cursor>,
        form: Form,
    ) {
        if let Err(problem) = query::CompiledQuery::new(&specification) {
            return self.finish(&purpose, Told::Response(problem.into()));
        }
        let paged = specification.result_limit.is_some();
        let counts = specification.has(QueryOption::Count);
        let top = specification.has(QueryOption::TopResults);
        if let Form::Task(task) = &form
            && paged
            && !counts
            && !top
        {
            let response = first_page_link(task, &specification);
            return self.finish(&purpose, Told::Response(response));
        }
        let skip = match &form {
            Form::Plain { skip, .. } => *skip,
            Form::Task(_) | Form::TaskPage { .. } => 0,
        };
        let shown = specification.result_limit.unwrap_or(HITS_MAX);
        let limit = if counts { 0 } else { shown.saturating_add(skip) };
        let text = serde_json::to_string(&specification).expect("a specification is JSON");
        let partitions = self.partitions();
        let missing = usize::try_from(partitions).expect("a number of partitions fits");
        let aim = QueryAim { purpose, specification, limit, skip, form };
        let now = self.now.steady_micros;
        let scatter = self.scatters.add(Aim::Query(Box::new(aim)), missing, now);
        // One more than is shown tells whether there is another page.
        let each = u64::try_from(limit.saturating_add(1)).unwrap_or(u64::MAX);
        for group in (1..=partitions).map(GroupId) {
            let specification = Bytes::from(text.clone());
            let question = Question::Query { specification, after: after.clone(), limit: each };
            self.submit(Purpose::Part { scatter }, group, question);
        }
    }

    /// `GET /core/query-page/<token>`.
    pub(crate) fn run_page(&mut self, purpose: Purpose, token: &str) {
        match parse_token(token) {
            Ok((task, specification, after)) => {
                let link = format!("{PAGE_LINK}/{token}");
                let form =
                    if task { Form::TaskPage { link } } else { Form::Plain { link, skip: 0 } };
                self.run_query(purpose, specification, after, form);
            }
            Err(problem) => self.finish(&purpose, Told::Response(problem.into())),
        }
    }

    /// A partition's part has come.
    pub(crate) fn gathered(&mut self, id: ScatterId, answer: Told) {
        let Some(scatter) = self.scatters.open.get_mut(&id) else { return };
        scatter.missing -= 1;
        match answer {
            Told::Page(page) => scatter.pages.push(page),
            other => {
                let response = response_of(other);
                if response.is_success() {
                    scatter.parts.push(response);
                } else if scatter.failed.is_none() {
                    scatter.failed = Some(response);
                }
            }
        }
        if scatter.missing == 0 {
            let scatter = self.scatters.open.remove(&id).expect("it was there");
            self.gathered_all(scatter);
        }
    }

    fn gathered_all(&mut self, scatter: Scatter) {
        let took = self.now.steady_micros.saturating_sub(scatter.since);
        match (scatter.aim, scatter.failed) {
            (Aim::Query(aim), Some(failed)) => self.finish(&aim.purpose, Told::Response(failed)),
            (Aim::Query(aim), None) => {
                let response = query_answer(&aim, scatter.pages, took);
                self.finish(&aim.purpose, Told::Response(response));
            }
            (Aim::Available { purpose }, failed) => {
                let response = failed.unwrap_or_else(|| Response::bytes(200, Bytes::new()));
                self.finish(&purpose, Told::Response(response));
            }
            (Aim::Stats { purpose }, failed) => {
                let parts: Vec<Value> = scatter.parts.iter().map(Response::to_json).collect();
                let merged = || Response::json(200, &services::merge_stats(&parts));
                self.finish(&purpose, Told::Response(failed.unwrap_or_else(merged)));
            }
            (Aim::Fence { group, opening, .. }, _) if opening != self.opening_of(group) => {}
            (Aim::Fence { group, .. }, None) => {
                self.agenda.push_back(Agenda::Desk(group, DeskInput::Fenced));
            }
            // A partition without an owner just now; the tasks of this one wait for it.
            (Aim::Fence { group, source, .. }, Some(_)) => {
                self.scatters.fence_again.push((group, source));
            }
        }
    }
}

fn query_answer(aim: &QueryAim, pages: Vec<Page>, took_micros: u64) -> Response {
    let counted: u64 = pages.iter().map(|page| page.count).sum();
    let (mut hits, more) = query::merge(pages, aim.limit);
    hits.drain(..aim.skip.min(hits.len()));
    let counts = aim.specification.has(QueryOption::Count);
    let paged = aim.specification.result_limit.is_some();
    if more && !counts && !paged {
        return too_many(format!("over {HITS_MAX} documents match")).into();
    }
    let size: usize = hits.iter().map(hit_bytes).sum();
    if size > ANSWER_BYTES_MAX {
        return too_many(format!("the answer would have {size} bytes")).into();
    }
    let top = aim.specification.has(QueryOption::TopResults);
    let next = if more && paged && !top && !counts { hits.last().map(Hit::cursor) } else { None };
    let is_task = !matches!(aim.form, Form::Plain { .. });
    let result = QueryResult {
        document_count: if counts { counted } else { hits.len() as u64 },
        next_page_link: next.map(|after| page_link(is_task, &aim.specification, Some(after))),
        query_time_micros: Some(took_micros),
        document_links: hits.iter().map(|hit| shown_link(hit, aim)).collect(),
        documents: documents_of(&hits, aim),
        ..QueryResult::default()
    };
    match &aim.form {
        Form::Task(task) => task_answer(task.clone(), &result),
        Form::TaskPage { link } => {
            let mut response = task_answer(json!({}), &result).to_json();
            response["documentSelfLink"] = link.clone().into();
            Response::json(200, &response)
        }
        Form::Plain { link, .. } => {
            let mut body = serde_json::to_value(&result).expect("results are JSON");
            body["documentSelfLink"] = link.clone().into();
            body["documentKind"] = "com:vmware:xenon:common:ServiceDocumentQueryResult".into();
            Response::json(200, &body)
        }
    }
}

/// The answer to a query task with a limit: where its first page is.
fn first_page_link(task: &Value, specification: &QuerySpecification) -> Response {
    let link = page_link(true, specification, None);
    if link.len() > PAGE_LINK_BYTES_MAX {
        let text = "the query is too long for pages, as each page's link holds it: leave out \
                    resultLimit, add TOP_RESULTS, or ask in several queries";
        return Problem::bad_request(text).into();
    }
    let result = QueryResult { next_page_link: Some(link), ..QueryResult::default() };
    task_answer(task.clone(), &result)
}

fn too_many(what: String) -> Problem {
    Problem::bad_request(format!(
        "{what}: set resultLimit (or $limit) and follow nextPageLink, or ask for COUNT"
    ))
}

fn hit_bytes(hit: &Hit) -> usize {
    hit.link.len() + hit.document.as_ref().map_or(0, Bytes::len)
}

fn shown_link(hit: &Hit, aim: &QueryAim) -> String {
    if aim.specification.has(QueryOption::IncludeAllVersions) {
        format!("{}?documentVersion={}", hit.link, hit.version)
    } else {
        hit.link.clone()
    }
}

fn documents_of(hits: &[Hit], aim: &QueryAim) -> Option<BTreeMap<String, Value>> {
    aim.specification.has(QueryOption::ExpandContent).then(|| {
        let parse = |hit: &Hit| {
            let document = hit.document.as_ref()?;
            Some((shown_link(hit, aim), serde_json::from_slice(document).ok()?))
        };
        hits.iter().filter_map(parse).collect()
    })
}

/// The task as it was sent, finished, with its results.
fn task_answer(mut task: Value, result: &QueryResult) -> Response {
    task["results"] = serde_json::to_value(result).expect("results are JSON");
    task["taskInfo"] = json!({
        "stage": "FINISHED",
        "isDirect": true,
        "durationMicros": result.query_time_micros.unwrap_or(0),
    });
    task["documentKind"] = protocol::query::KIND.into();
    if let Value::Object(fields) = &mut task {
        let forged = |name: &String| name.starts_with("document") && name != "documentKind";
        fields.retain(|name, _| !forged(name));
    }
    Response::json(200, &task)
}

fn page_link(task: bool, specification: &QuerySpecification, after: Option<Cursor>) -> String {
    let specification = serde_json::to_string(specification).expect("a specification is JSON");
    let token = PageToken { task, specification, after };
    let bytes = postcard::to_stdvec(&token).expect("a token encodes");
    format!("{PAGE_LINK}/{}", protocol::base64url::encode(&bytes))
}

fn parse_token(token: &str) -> Result<(bool, QuerySpecification, Option<Cursor>), Problem> {
    let wrong = || Problem::not_found("no such page: run the query again and follow nextPageLink");
    let bytes = protocol::base64url::decode(token).ok_or_else(wrong)?;
    let token: PageToken = postcard::from_bytes(&bytes).map_err(|_| wrong())?;
    let specification = serde_json::from_str(&token.specification).map_err(|_| wrong())?;
    Ok((token.task, specification, token.after))
}

/// What a read of an expired or missing document on this very replica gives.
pub(crate) fn local_answer(document: Option<&Document>, link: &str) -> Response {
    match document {
        Some(document) if !document.is_deleted() => Response::document(200, document),
        _ => Problem::not_found(format!("{link} is not known to this replica")).into(),
    }
}
