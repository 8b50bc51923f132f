//! How the answer to a query looks: bare results or a query task, with links to further pages.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::query::{KIND, QueryOption, QueryResult, QuerySpecification};
use protocol::{Problem, Response};
use query::{Cursor, Hit, Page};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How many hits a query without a limit may give; more must be asked for in pages.
pub const HITS_MAX: usize = 100_000;

/// How many bytes an answer with documents may have before it must be asked for in pages.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;

/// The longest link to the next page of a query task. It holds the whole query, and must fit into the
/// head of a request with room to spare for where the page begins.
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

pub(crate) fn query_answer(aim: &QueryAim, pages: Vec<Page>, took_micros: u64) -> Response {
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
pub(crate) fn first_page_link(task: &Value, specification: &QuerySpecification) -> Response {
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
    task["documentKind"] = KIND.into();
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

pub(crate) fn parse_token(
    token: &str,
) -> Result<(bool, QuerySpecification, Option<Cursor>), Problem> {
    let wrong = || Problem::not_found("no such page: run the query again and follow nextPageLink");
    let bytes = protocol::base64url::decode(token).ok_or_else(wrong)?;
    let token: PageToken = postcard::from_bytes(&bytes).map_err(|_| wrong())?;
    let specification = serde_json::from_str(&token.specification).map_err(|_| wrong())?;
    Ok((token.task, specification, token.after))
}
