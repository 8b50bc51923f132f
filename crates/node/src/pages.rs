//! How the answer to a query looks: bare results or a query task, with links to further pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use protocol::node_group::SELECTOR_LINK;
use protocol::query::{INDEX_LINK, KIND, QueryOption, QueryResult, QuerySpecification};
use protocol::{Problem, Response};
use query::{
    AggregateValue, CompiledQuery, Cursor, GROUPS_BYTES_MAX, GroupRow, Hit, LINKS_OF_ONE_MAX, Page,
    Scalar,
};
use serde::{Deserialize, Serialize};

use crate::query_times::Told;
use serde_json::{Map, Value, json};

/// How many hits a query without a limit may give; more must be asked for in pages.
pub const HITS_MAX: usize = 100_000;

/// How many bytes an answer to a query may have; more must be asked for in pages.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;

/// The longest link to the next page of a query task. The link holds the whole query and where the
/// page begins, and must fit into the head of a request.
const PAGE_LINK_BYTES_MAX: usize = 32 << 10;

/// How many pages the link of a page leads back to (`prevPageLink`): it holds where each begins.
const PAGES_BEFORE_MAX: usize = 16;

/// The link under which the following pages of a query are found.
pub(crate) const PAGE_LINK: &str = "/core/query-page";

/// What was asked for, and how the answer is to look.
#[derive(Clone, Debug)]
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
    /// The same with pages of their own: whether there is any to begin with.
    FirstPage { task: Value, of: Box<QuerySpecification> },
    /// A further page of it, and the node that answers.
    TaskPage { link: String, owner: Arc<str>, trail: Trail },
    /// Bare results, for a factory or a page of one.
    Plain(List),
    /// The one document with this link, as it is or was before it was deleted.
    Document { link: String },
    /// Rows, as a statement has them.
    Sql(Box<sql::Statement>),
    /// Who is told of the changes of this link.
    Subscribers { link: String },
    /// A page for each group of what this query finds, from behind the group of that name on.
    Groups { of: Box<QuerySpecification>, after: Option<String>, form: Box<Self> },
    /// The answer to another query, with the documents that its hits have links to.
    Linked(Box<LinkedAim>),
}

/// A list of documents, or a page of one.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub(crate) link: String,
    pub(crate) skip: usize,
    pub(crate) total: Total,
    pub(crate) trail: Trail,
}

/// Whether a list says how many documents there are in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Total {
    Unasked,
    /// When all of them are shown, or counted.
    IfWhole,
    Of(u64),
}

/// Which pages have led to this one: behind what each began, the first one first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    before: Vec<Option<Cursor>>,
    /// Behind what this one begins.
    own: Option<Cursor>,
}

impl Trail {
    /// What the page after this one has before it.
    fn with_own(&self) -> Vec<Option<Cursor>> {
        let all = self.before.iter().chain([&self.own]);
        let left_out = (self.before.len() + 1).saturating_sub(PAGES_BEFORE_MAX);
        all.skip(left_out).cloned().collect()
    }
}

/// What a query with `EXPAND_LINKS` has found, while its links are followed.
#[derive(Clone, Debug)]
pub(crate) struct LinkedAim {
    pub(crate) aim: QueryAim,
    pub(crate) hits: Vec<Hit>,
    pub(crate) more: bool,
    pub(crate) explained: Option<Value>,
}

impl QueryAim {
    /// What is shown of the hits of all partitions, and whether there is more.
    pub(crate) fn shown(&self, pages: Vec<Page>) -> (Vec<Hit>, bool) {
        let (mut hits, more) = query::merge(pages, self.limit);
        hits.drain(..self.skip.min(hits.len()));
        (hits, more)
    }
}

impl Form {
    /// A list that begins with the first.
    pub(crate) fn list(link: impl Into<String>) -> Self {
        let (link, trail) = (link.into(), Trail::default());
        Self::Plain(List { link, skip: 0, total: Total::Unasked, trail })
    }

    /// Also says how many there are in all.
    pub(crate) fn with_total(self, count: u64) -> Self {
        match self {
            Self::Plain(list) => Self::Plain(List { total: Total::Of(count), ..list }),
            task => task,
        }
    }

    fn kind(&self) -> PageKind {
        match self {
            Self::Plain(List { total: Total::Of(_), .. }) => PageKind::PlainWithTotal,
            Self::Plain(_) => PageKind::Plain,
            _ => PageKind::Task,
        }
    }

    /// The links of the pages before and after this one, as fields of its results.
    fn put_links(
        &self,
        result: &mut QueryResult,
        specification: &QuerySpecification,
        next: Option<Cursor>,
    ) {
        let first = Trail::default();
        let trail = match self {
            Self::TaskPage { trail, .. } | Self::Plain(List { trail, .. }) => trail,
            _ => &first,
        };
        let kind = self.kind();
        // A link to the first page of a list does not say what is left out at its beginning.
        let before = match self {
            Self::Plain(list) if list.skip > 0 => Vec::new(),
            _ => trail.with_own(),
        };
        result.next_page_link =
            next.map(|after| page_link(kind, specification, Some(after), before));
        if let Some((after, before)) = trail.before.split_last() {
            let link = page_link(kind, specification, after.clone(), before.to_vec());
            result.other.insert("prevPageLink".into(), link.into());
        }
    }
}

/// What the link of a next page holds: everything needed to go on, so that no node has to remember
/// it and any node can answer.
#[derive(Serialize, Deserialize)]
struct PageToken {
    kind: PageKind,
    specification: String,
    after: Option<Cursor>,
    before: Vec<Option<Cursor>>,
}

/// What it was before pages had links to those before them.
#[derive(Deserialize)]
struct OldPageToken {
    kind: PageKind,
    specification: String,
    after: Option<Cursor>,
}

/// How a further page looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PageKind {
    /// As that of a factory.
    Plain,
    /// As that of a query task.
    Task,
    /// As that of a factory, with the number of all.
    PlainWithTotal,
}

pub(crate) fn query_answer(aim: &QueryAim, pages: Vec<Page>, told: Told) -> Response {
    let Told { took_micros, explained } = told;
    if !aim.specification.aggregates.is_empty() {
        return aggregates_answer(aim, pages, took_micros, explained);
    }
    let counted: u64 = pages.iter().map(|page| page.count).sum();
    let (hits, more) = aim.shown(pages);
    if let Form::Linked(first) = &aim.form {
        let LinkedAim { aim, hits: found, more, explained } = &**first;
        let linked = with_missing(documents_of(&hits, aim), &hits, found);
        let told = Told { took_micros, explained: explained.clone() };
        let fields = vec![("selectedDocuments", linked)];
        return hits_answer(aim, (found, *more, 0), told, fields);
    }
    hits_answer(aim, (&hits, more, counted), Told { took_micros, explained }, Vec::new())
}

/// Fields of an answer whose values are JSON already.
type RawFields = Vec<(&'static str, Vec<u8>)>;

fn hits_answer(
    aim: &QueryAim,
    (hits, more, counted): (&[Hit], bool, u64),
    told: Told,
    mut fields: RawFields,
) -> Response {
    let Told { took_micros, explained } = told;
    let counts = aim.specification.has(QueryOption::Count);
    let paged = aim.specification.result_limit.is_some();
    if more && !counts && !paged {
        return too_many().into();
    }
    let top = aim.specification.has(QueryOption::TopResults);
    let next = if more && paged && !top && !counts { hits.last().map(Hit::cursor) } else { None };
    if let Form::Sql(statement) = &aim.form {
        let documents: Vec<&[u8]> = hits.iter().filter_map(|hit| hit.document.as_deref()).collect();
        return match statement.rows_of_documents(&documents, ANSWER_BYTES_MAX, took_micros) {
            Ok(rows) => respond(with_explained(rows, explained)),
            Err(sql::TooLong) => too_large().into(),
        };
    }
    match &aim.form {
        Form::Subscribers { link } => return respond(subscribers(link, hits)),
        Form::Document { link } => return one_document(link, hits),
        Form::FirstPage { task, of } => {
            return first_page_link(task.clone(), of, !hits.is_empty(), took_micros);
        }
        _ => {}
    }
    let mut result = QueryResult {
        other: of_explained(explained),
        document_count: if counts { counted } else { hits.len() as u64 },
        query_time_micros: Some(took_micros),
        document_links: hits.iter().map(|hit| shown_link(hit, aim)).collect(),
        ..QueryResult::default()
    };
    let is_whole = counts || !more;
    aim.form.put_links(&mut result, &aim.specification, next);
    if aim.specification.has(QueryOption::SelectLinks) {
        match selected_links(hits, aim) {
            Ok(selected) => fields.extend(selected),
            Err(problem) => return problem.into(),
        }
    }
    if aim.specification.is_expanded() {
        fields.push(("documents", documents_of(hits, aim)));
    }
    match &aim.form {
        Form::Task(task) => task_answer(task.clone(), result, fields),
        Form::TaskPage { link, owner, .. } => {
            page_answer((link, owner, &aim.specification), result, fields)
        }
        Form::Sql(_)
        | Form::Groups { .. }
        | Form::Linked(_)
        | Form::Subscribers { .. }
        | Form::Document { .. }
        | Form::FirstPage { .. } => Problem::internal("these answers are made before").into(),
        Form::Plain(List { link, skip, total, trail }) => {
            let mut body = serde_json::to_value(&result).expect("results are JSON");
            let is_all = is_whole && *skip == 0 && trail.own.is_none();
            match total {
                Total::Of(total) => body["totalCount"] = (*total).into(),
                Total::IfWhole if is_all => body["totalCount"] = result.document_count.into(),
                Total::IfWhole | Total::Unasked => {}
            }
            body["documentSelfLink"] = link.clone().into();
            body["documentKind"] = "com:vmware:xenon:common:ServiceDocumentQueryResult".into();
            respond(with_fields(&body, &fields))
        }
    }
}

/// The links in fields of the hits, of all and of each.
fn selected_links(hits: &[Hit], aim: &QueryAim) -> Result<RawFields, Problem> {
    let mut all = BTreeSet::new();
    let mut each = b"{".to_vec();
    for hit in hits {
        if hit.selected.iter().any(|(_, link)| link.is_empty()) {
            return Err(Problem::bad_request(format!(
                "{} has over {LINKS_OF_ONE_MAX} links in one field of linkTerms: \
                 name another field",
                hit.link
            )));
        }
        all.extend(hit.selected.iter().map(|(_, link)| link.as_str()));
        let own: Map<String, Value> =
            hit.selected.iter().map(|(name, link)| (name.clone(), link.as_str().into())).collect();
        if each.len() > 1 {
            each.push(b',');
        }
        each.extend(
            format!("{}:{}", Value::from(shown_link(hit, aim)), Value::Object(own)).bytes(),
        );
    }
    each.push(b'}');
    let all = serde_json::to_vec(&all).expect("texts can be written");
    if each.len() + all.len() > ANSWER_BYTES_MAX {
        return Err(too_large());
    }
    Ok(vec![("selectedLinks", all), ("selectedLinksPerDocument", each)])
}

/// Of the links that were followed, those that led to nothing that is shown: as in Xenon each is an
/// error. Whoever asks is not told whether it is there.
fn with_missing(mut linked: Vec<u8>, shown: &[Hit], found: &[Hit]) -> Vec<u8> {
    let shown: BTreeSet<&str> = shown.iter().map(|hit| hit.link.as_str()).collect();
    let wanted: BTreeSet<&str> =
        found.iter().flat_map(|hit| &hit.selected).map(|(_, link)| link.as_str()).collect();
    let end = linked.pop();
    assert!(end == Some(b'}'), "documents are an object");
    for link in wanted.difference(&shown) {
        if linked.len() > 1 {
            linked.push(b',');
        }
        let error = Response::from(Problem::not_found(format!("there is no document {link}")));
        linked.extend(format!("{}:", Value::from(*link)).bytes());
        linked.extend_from_slice(&error.body);
    }
    linked.push(b'}');
    linked
}

/// A page of a query task, which says as in Xenon what was asked.
fn page_answer(
    (link, owner, specification): (&str, &str, &QuerySpecification),
    result: QueryResult,
    fields: RawFields,
) -> Response {
    let asked = serde_json::to_value(specification).expect("a specification is JSON");
    let task = json!({ "querySpec": asked, "documentOwner": owner });
    let (mut page, result) = finished_task(task, result);
    page["documentSelfLink"] = link.into();
    respond(with_fields(&page, &[("results", results_of(&result, &fields))]))
}

/// A document, though it is deleted.
fn one_document(link: &str, hits: &[Hit]) -> Response {
    match hits.first().and_then(|hit| hit.document.clone()) {
        Some(document) => Response::bytes(200, document),
        None => Problem::not_found(format!("there is no document {link}")).into(),
    }
}

/// Those who are told of a link, as Xenon lists them: by their references.
fn subscribers(link: &str, hits: &[Hit]) -> Vec<u8> {
    let documents = hits.iter().filter_map(|hit| hit.document.as_deref());
    let all = documents.filter_map(|text| serde_json::from_slice::<Value>(text).ok());
    let named = all.filter_map(|one| Some((one["reference"].as_str()?.to_owned(), one)));
    let subscribers: Map<String, Value> = named.collect();
    let body = json!({
        "subscribers": subscribers,
        "documentKind": protocol::subscription::LIST_KIND,
        "documentSelfLink": format!("{link}/subscriptions"),
    });
    body.to_string().into_bytes()
}

/// The groups of all partitions, with what is said of each.
fn aggregates_answer(
    aim: &QueryAim,
    pages: Vec<Page>,
    took_micros: u64,
    explained: Option<Value>,
) -> Response {
    let query = CompiledQuery::new(&aim.specification).expect("it was compiled before");
    let aggregation = query.aggregation().expect("there are aggregates");
    let document_count = pages.iter().map(|page| page.count).sum();
    let mut groups = aggregation.begin();
    pages.into_iter().filter_map(|page| page.groups).for_each(|more| groups.merge(more));
    if groups.is_over() {
        return too_many_values().into();
    }
    if let Form::Groups { of, after, form } = &aim.form {
        let told = Told { took_micros, explained };
        let rows = aggregation.rows(groups);
        return groups_answer(of, (after.as_deref(), form), rows, (document_count, told));
    }
    if let Form::Sql(statement) = &aim.form {
        let groups = aggregation.rows(groups);
        return match statement.rows_of_groups(groups, ANSWER_BYTES_MAX, took_micros) {
            Ok(rows) => respond(with_explained(rows, explained)),
            Err(sql::TooLong) => too_large().into(),
        };
    }
    let names: Vec<&str> = aggregation.names().collect();
    let rows: Vec<String> =
        aggregation.rows(groups).iter().map(|row| group_json(row, &names)).collect();
    let groups = format!("[{}]", rows.join(","));
    let result = QueryResult {
        other: of_explained(explained),
        document_count,
        query_time_micros: Some(took_micros),
        ..QueryResult::default()
    };
    let fields = vec![("groups", groups.into_bytes())];
    match &aim.form {
        Form::Task(task) => task_answer(task.clone(), result, fields),
        _ => respond(results_of(&result, &fields)),
    }
}

/// A page link for each group.
fn groups_answer(
    of: &QuerySpecification,
    (after, form): (Option<&str>, &Form),
    rows: Vec<GroupRow>,
    (document_count, told): (u64, Told),
) -> Response {
    let (groups, more) = match query::groups_shown(of, rows, after) {
        Ok(shown) => shown,
        Err(problem) => return problem.into(),
    };
    let mut links = b"{".to_vec();
    for group in &groups {
        let own = query::of_group(of, &group.values);
        let link = page_link(PageKind::Task, &own, None, Vec::new());
        if link.len() > PAGE_LINK_BYTES_MAX {
            return too_long_for_pages().into();
        }
        if links.len() > ANSWER_BYTES_MAX {
            return too_many_groups(groups.len()).into();
        }
        if links.len() > 1 {
            links.push(b',');
        }
        links.extend(format!("{}:\"{link}\"", Value::from(group.name.as_str())).bytes());
    }
    links.push(b'}');
    let last = groups.last().filter(|_| more).map(|group| Cursor {
        sort_key: Vec::new(),
        link: group.name.clone(),
        version: 0,
    });
    let mut result = QueryResult {
        other: of_explained(told.explained),
        document_count,
        query_time_micros: Some(told.took_micros),
        ..QueryResult::default()
    };
    form.put_links(&mut result, of, last);
    let fields = vec![("nextPageLinksPerGroup", links)];
    match form {
        Form::Task(task) => task_answer(task.clone(), result, fields),
        Form::TaskPage { link, owner, .. } => page_answer((link, owner, of), result, fields),
        _ => Problem::internal("only query tasks have groups with pages").into(),
    }
}

fn too_many_groups(count: usize) -> Problem {
    Problem::bad_request(format!(
        "the links of {count} groups take over {} MiB: set groupResultLimit, and follow \
         nextPageLink",
        ANSWER_BYTES_MAX >> 20
    ))
}

fn too_long_for_pages() -> Problem {
    let text = "the query is too long for pages, as each page's link holds it: leave out \
                resultLimit, add TOP_RESULTS, or ask in several queries";
    Problem::bad_request(text)
}

/// A group as JSON. Its numbers have all their digits, so none is parsed.
fn group_json(row: &GroupRow, names: &[&str]) -> String {
    let null = || "null".to_owned();
    let key = row.key.iter().map(|it| it.as_ref().map_or_else(null, Scalar::to_json));
    let key: Vec<String> = key.collect();
    let fields = |of: &dyn Fn(&AggregateValue) -> Option<String>| {
        let named = names
            .iter()
            .zip(&row.values)
            .filter_map(|(name, value)| Some(format!("{}:{}", Value::from(*name), of(value)?)));
        named.collect::<Vec<_>>().join(",")
    };
    let values = fields(&|value| Some(value.json.clone()));
    let left_out = fields(&|value| (value.left_out > 0).then(|| value.left_out.to_string()));
    let left_out =
        if left_out.is_empty() { String::new() } else { format!(",\"leftOut\":{{{left_out}}}") };
    format!("{{\"key\":[{}],\"values\":{{{values}}}{left_out}}}", key.join(","))
}

pub(crate) fn too_many_values() -> Problem {
    Problem::bad_request(format!(
        "the groups and values of these aggregates take over {} MiB: narrow the query, group by \
         fewer fields, or leave out DISTINCT, COUNT_DISTINCT and PERCENTILES of fields with many \
         values",
        GROUPS_BYTES_MAX >> 20
    ))
}

fn of_explained(explained: Option<Value>) -> Map<String, Value> {
    explained.into_iter().map(|explained| ("explained".to_owned(), explained)).collect()
}

/// The same for an answer that is text already.
fn with_explained(mut json: Vec<u8>, explained: Option<Value>) -> Vec<u8> {
    let Some(explained) = explained else { return json };
    let end = json.pop();
    assert!(end == Some(b'}'), "an answer is an object");
    json.extend_from_slice(format!(",\"explained\":{explained}}}").as_bytes());
    json
}

fn respond(body: Vec<u8>) -> Response {
    Response::bytes(200, Bytes::from(body))
}

/// The answer to a query task with a limit: where its first page is, if there is something on it.
fn first_page_link(
    task: Value,
    specification: &QuerySpecification,
    has_some: bool,
    took_micros: u64,
) -> Response {
    let link = page_link(PageKind::Task, specification, None, Vec::new());
    let result = QueryResult {
        next_page_link: Some(link).filter(|_| has_some),
        query_time_micros: Some(took_micros),
        ..QueryResult::default()
    };
    // Programs look into it without asking whether it is there.
    let documents = specification.is_expanded().then(|| ("documents", b"{}".to_vec()));
    task_answer(task, result, documents.into_iter().collect())
}

/// # Errors
/// When the link of a page cannot hold the query.
pub(crate) fn check_pages(specification: &QuerySpecification) -> Result<(), Problem> {
    let link = page_link(PageKind::Task, specification, None, Vec::new());
    if link.len() > PAGE_LINK_BYTES_MAX { Err(too_long_for_pages()) } else { Ok(()) }
}

pub(crate) fn too_many() -> Problem {
    refused(&format!("over {HITS_MAX} documents match"))
}

pub(crate) fn too_large() -> Problem {
    refused(&format!("the answer would have over {} MiB", ANSWER_BYTES_MAX >> 20))
}

fn refused(what: &str) -> Problem {
    Problem::bad_request(format!(
        "{what}: set resultLimit (or $limit) and follow nextPageLink, or ask for COUNT; in SQL, set \
         LIMIT, or ask for count(*)"
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

/// A JSON object with some fields more, whose values are JSON.
fn with_fields(object: &Value, fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let bytes: usize = fields.iter().map(|(_, value)| value.len()).sum();
    let mut json = Vec::with_capacity(bytes + 1024);
    json.extend_from_slice(object.to_string().as_bytes());
    let end = json.pop();
    assert!(end == Some(b'}'), "a field is added to an object");
    for (name, value) in fields {
        if json.len() > 1 {
            json.push(b',');
        }
        json.extend_from_slice(Value::from(*name).to_string().as_bytes());
        json.push(b':');
        json.extend_from_slice(value);
    }
    json.push(b'}');
    json
}

fn results_of(result: &QueryResult, fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    with_fields(&serde_json::to_value(result).expect("results are JSON"), fields)
}

/// The task as it was sent, finished, with its results.
fn task_answer(task: Value, result: QueryResult, fields: RawFields) -> Response {
    let (task, result) = finished_task(task, result);
    respond(with_fields(&task, &[("results", results_of(&result, &fields))]))
}

/// The task as it was sent, finished. It is no document, so it has no link of its own; the owner is
/// the node that answers.
fn finished_task(mut task: Value, mut result: QueryResult) -> (Value, QueryResult) {
    task["taskInfo"] = json!({
        "stage": "FINISHED",
        "isDirect": true,
        "durationMicros": result.query_time_micros.unwrap_or(0),
    });
    task["documentKind"] = KIND.into();
    for (name, usual) in [("indexLink", INDEX_LINK), ("nodeSelectorLink", SELECTOR_LINK)] {
        if task[name].is_null() {
            task[name] = usual.into();
        }
    }
    if let Value::Object(fields) = &mut task {
        const OURS: [&str; 3] = ["documentKind", "documentOwner", "documentExpirationTimeMicros"];
        let is_left_out =
            |name: &str| name == "results" || name.starts_with("document") && !OURS.contains(&name);
        fields.retain(|name, value| !is_left_out(name) && !value.is_null());
        if let Some(owner) = fields.get("documentOwner") {
            result.other.insert("documentOwner".into(), owner.clone());
        }
    }
    (task, result)
}

fn page_link(
    kind: PageKind,
    specification: &QuerySpecification,
    after: Option<Cursor>,
    before: Vec<Option<Cursor>>,
) -> String {
    let specification = serde_json::to_string(specification).expect("a specification is JSON");
    let token = PageToken { kind, specification, after, before };
    let bytes = postcard::to_stdvec(&token).expect("a token encodes");
    let link = format!("{PAGE_LINK}/{}", protocol::base64url::encode(&bytes));
    if link.len() <= PAGE_LINK_BYTES_MAX || token.before.is_empty() {
        return link;
    }
    // A way back is not worth a link that nobody can follow.
    let PageToken { kind, specification, after, .. } = token;
    let bytes = postcard::to_stdvec(&PageToken { kind, specification, after, before: Vec::new() })
        .expect("a token encodes");
    format!("{PAGE_LINK}/{}", protocol::base64url::encode(&bytes))
}

/// What the link of a page stands for.
pub(crate) struct PageAsked {
    pub(crate) kind: PageKind,
    pub(crate) specification: QuerySpecification,
    pub(crate) trail: Trail,
}

impl PageAsked {
    /// Behind what it begins.
    pub(crate) fn after(&self) -> Option<Cursor> {
        self.trail.own.clone()
    }
}

/// # Errors
/// `NOT_FOUND` when no node has made this link.
pub(crate) fn parse_token(token: &str) -> Result<PageAsked, Problem> {
    let wrong = || Problem::not_found("no such page: run the query again and follow nextPageLink");
    let bytes = protocol::base64url::decode(token).ok_or_else(wrong)?;
    let token = postcard::from_bytes::<PageToken>(&bytes).or_else(|_| {
        let old = postcard::from_bytes::<OldPageToken>(&bytes);
        old.map(|OldPageToken { kind, specification, after }| PageToken {
            kind,
            specification,
            after,
            before: Vec::new(),
        })
    });
    let PageToken { kind, specification, after, before } = token.map_err(|_| wrong())?;
    let specification: QuerySpecification =
        serde_json::from_str(&specification).map_err(|_| wrong())?;
    // Only query tasks have groups with pages.
    if kind != PageKind::Task && specification.has(QueryOption::GroupBy) {
        return Err(wrong());
    }
    Ok(PageAsked { kind, specification, trail: Trail { before, own: after } })
}
