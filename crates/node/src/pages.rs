//! How the answer to a query looks: bare results or a query task, with links to further pages.

use bytes::Bytes;
use protocol::query::{KIND, QueryOption, QueryResult, QuerySpecification};
use protocol::{Problem, Response};
use query::{Cursor, Hit, Page};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How many hits a query without a limit may give; more must be asked for in pages.
pub const HITS_MAX: usize = 100_000;

/// How many bytes an answer to a query may have; more must be asked for in pages.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;

/// The longest link to the next page of a query task. The link holds the whole query and where the
/// page begins, and must fit into the head of a request.
const PAGE_LINK_BYTES_MAX: usize = 32 << 10;

/// The link under which the following pages of a query are found.
pub(crate) const PAGE_LINK: &str = "/core/query-page";

/// What was asked for, and how the answer is to look.
pub(crate) struct QueryAim {
    pub(crate) specification: QuerySpecification,
    /// The most hits that may be shown, those that are skipped included.
    pub(crate) limit: usize,
    pub(crate) skip: usize,
    pub(crate) form: Form,
}

/// How the answer is to look.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// A query task that is finished: the task as it was sent, with results.
    Task(Value),
    /// A further page of it.
    TaskPage { link: String },
    /// Bare results, for a factory or a page of one.
    Plain { link: String, skip: usize, total: Option<u64> },
}

impl Form {
    /// Also says how many there are in all.
    pub(crate) fn with_total(self, count: u64) -> Self {
        match self {
            Self::Plain { link, skip, .. } => Self::Plain { link, skip, total: Some(count) },
            task => task,
        }
    }
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

pub(crate) fn query_answer(aim: &QueryAim, pages: Vec<Page>, took_micros: u64) -> Response {
    let counted: u64 = pages.iter().map(|page| page.count).sum();
    let (mut hits, more) = query::merge(pages, aim.limit);
    hits.drain(..aim.skip.min(hits.len()));
    let counts = aim.specification.has(QueryOption::Count);
    let paged = aim.specification.result_limit.is_some();
    if more && !counts && !paged {
        return too_many().into();
    }
    let top = aim.specification.has(QueryOption::TopResults);
    let next = if more && paged && !top && !counts { hits.last().map(Hit::cursor) } else { None };
    let is_task = !matches!(aim.form, Form::Plain { .. });
    let result = QueryResult {
        document_count: if counts { counted } else { hits.len() as u64 },
        next_page_link: next.map(|after| page_link(is_task, &aim.specification, Some(after))),
        query_time_micros: Some(took_micros),
        document_links: hits.iter().map(|hit| shown_link(hit, aim)).collect(),
        ..QueryResult::default()
    };
    let is_expanded = aim.specification.has(QueryOption::ExpandContent);
    let documents = is_expanded.then(|| documents_of(&hits, aim));
    match &aim.form {
        Form::Task(task) => task_answer(task.clone(), &result, documents),
        Form::TaskPage { link } => {
            let mut page = finished_task(json!({}), &result);
            page["documentSelfLink"] = link.clone().into();
            respond(with_field(&page, "results", &results_of(&result, documents)))
        }
        Form::Plain { link, total, .. } => {
            let mut body = serde_json::to_value(&result).expect("results are JSON");
            if let Some(total) = total {
                body["totalCount"] = (*total).into();
            }
            body["documentSelfLink"] = link.clone().into();
            body["documentKind"] = "com:vmware:xenon:common:ServiceDocumentQueryResult".into();
            respond(match documents {
                Some(documents) => with_field(&body, "documents", &documents),
                None => body.to_string().into_bytes(),
            })
        }
    }
}

fn respond(body: Vec<u8>) -> Response {
    Response::bytes(200, Bytes::from(body))
}

/// The answer to a query task with a limit: where its first page is.
pub(crate) fn first_page_link(task: &Value, specification: &QuerySpecification) -> Response {
    let link = page_link(true, specification, None);
    if link.len() > PAGE_LINK_BYTES_MAX {
        let text = "the query is too long for pages, as each page's link holds it: leave out \
                    resultLimit, add TOP_RESULTS, or ask in several queries";
        return Problem::bad_request(text).into();
    }
    let result = QueryResult { next_page_link: Some(link), ..QueryResult::default() };
    task_answer(task.clone(), &result, None)
}

pub(crate) fn too_many() -> Problem {
    refused(&format!("over {HITS_MAX} documents match"))
}

pub(crate) fn too_large() -> Problem {
    refused(&format!("the answer would have over {} MiB", ANSWER_BYTES_MAX >> 20))
}

fn refused(what: &str) -> Problem {
    Problem::bad_request(format!(
        "{what}: set resultLimit (or $limit) and follow nextPageLink, or ask for COUNT"
    ))
}

fn shown_link(hit: &Hit, aim: &QueryAim) -> String {
    if aim.specification.has(QueryOption::IncludeAllVersions) {
        format!("{}?documentVersion={}", hit.link, hit.version)
    } else {
        hit.link.clone()
    }
}

/// The documents by their links, as JSON. Each document is JSON already, and all of them may be
/// many megabytes, so none is parsed.
fn documents_of(hits: &[Hit], aim: &QueryAim) -> Vec<u8> {
    let bytes: usize = hits.iter().map(Hit::bytes).sum();
    let mut json = Vec::with_capacity(bytes + 2);
    json.push(b'{');
    for hit in hits {
        let Some(document) = &hit.document else { continue };
        if json.len() > 1 {
            json.push(b',');
        }
        let link = Value::from(shown_link(hit, aim));
        json.extend_from_slice(link.to_string().as_bytes());
        json.push(b':');
        json.extend_from_slice(document);
    }
    json.push(b'}');
    json
}

/// A JSON object with one field more, whose value is JSON.
fn with_field(object: &Value, name: &str, value: &[u8]) -> Vec<u8> {
    let mut json = Vec::with_capacity(value.len() + 1024);
    json.extend_from_slice(object.to_string().as_bytes());
    let end = json.pop();
    assert!(end == Some(b'}'), "a field is added to an object");
    if json.len() > 1 {
        json.push(b',');
    }
    json.extend_from_slice(Value::from(name).to_string().as_bytes());
    json.push(b':');
    json.extend_from_slice(value);
    json.push(b'}');
    json
}

fn results_of(result: &QueryResult, documents: Option<Vec<u8>>) -> Vec<u8> {
    let results = serde_json::to_value(result).expect("results are JSON");
    match documents {
        Some(documents) => with_field(&results, "documents", &documents),
        None => results.to_string().into_bytes(),
    }
}

/// The task as it was sent, finished, with its results.
fn task_answer(task: Value, result: &QueryResult, documents: Option<Vec<u8>>) -> Response {
    let task = finished_task(task, result);
    respond(with_field(&task, "results", &results_of(result, documents)))
}

/// The task as it was sent, finished.
fn finished_task(mut task: Value, result: &QueryResult) -> Value {
    task["taskInfo"] = json!({
        "stage": "FINISHED",
        "isDirect": true,
        "durationMicros": result.query_time_micros.unwrap_or(0),
    });
    task["documentKind"] = KIND.into();
    if let Value::Object(fields) = &mut task {
        let is_ours = |name: &str| name == "results" || name.starts_with("document");
        fields.retain(|name, _| !is_ours(name) || name == "documentKind");
    }
    task
}

fn page_link(task: bool, specification: &QuerySpecification, after: Option<Cursor>) -> String {
    let specification = serde_json::to_string(specification).expect("a specification is JSON");
    let token = PageToken { task, specification, after };
    let bytes = postcard::to_stdvec(&token).expect("a token encodes");
    format!("{PAGE_LINK}/{}", protocol::base64url::encode(&bytes))
}

pub(crate) fn parse_token(
    token: &str,
) -> Result<(bool, QuerySpecification, Option<Cursor>), Problem> {
    let wrong = || Problem::not_found("no such page: run the query again and follow nextPageLink");
    let bytes = protocol::base64url::decode(token).ok_or_else(wrong)?;
    let token: PageToken = postcard::from_bytes(&bytes).map_err(|_| wrong())?;
    let specification = serde_json::from_str(&token.specification).map_err(|_| wrong())?;
    Ok((token.task, specification, token.after))
}
