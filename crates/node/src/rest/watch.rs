//! A GET that asks for the next changes of documents, and waits for them.

use protocol::query::{Occurance, QueryOption, QuerySpecification};
use protocol::{Problem, Request, json};
use query::CompiledQuery;

use super::plan::Plan;
use crate::change_token;
use crate::view::View;
use crate::watches::Watch;

/// Where the changes of all documents are.
pub(crate) const LINK: &str = "/core/changes";

/// The parameters where documents of a factory, or all, are watched, beside `watch` itself.
pub(super) const PARAMETERS: [&str; 5] = ["watch", "after", "wait", "before", "filter"];

/// How long a request waits if it does not say, in seconds.
const WAIT_SECONDS: u64 = 20;

/// The longest that it may wait, in seconds.
const WAIT_SECONDS_MAX: u64 = 60;

/// The longest that it waits where logins are demanded, in seconds, whatever it asks for: who asks
/// is looked at when it asks, so a token that was revoked meanwhile counts for as long.
const WAIT_SECONDS_WITH_LOGIN: u64 = 10;

/// Each change shows its document anyway, whoever owns it.
const HARMLESS: [QueryOption; 4] = [
    QueryOption::ExpandContent,
    QueryOption::ReadAfterWriteConsistency,
    QueryOption::Broadcast,
    QueryOption::OwnerSelection,
];

/// Whether a GET is one for changes.
///
/// # Errors
/// When `watch` is another word than `true` or `false`.
pub(super) fn is_asked(request: &Request) -> Result<bool, Problem> {
    query::is_set(request, "watch")
}

/// # Errors
/// When a parameter of a watch is there without `watch=true`.
pub(super) fn check_is_asked(request: &Request) -> Result<(), Problem> {
    let of_watch = ["after", "wait", "before", "watch"];
    let name = of_watch.into_iter().find(|name| request.parameter(name).is_some());
    match name {
        None => Ok(()),
        Some("watch") => Err(Problem::bad_request("watch is true or not there; leave it out")),
        Some(name) => Err(Problem::bad_request(format!(
            "the parameter '{name}' is for watching changes: add watch=true, or leave it out"
        ))),
    }
}

/// Whether a request asks for changes of documents, as far as its path and its parameters tell.
pub fn is_watch(request: &Request) -> bool {
    let path = request.path.strip_suffix('/').unwrap_or(&request.path);
    path == LINK || is_asked(request).unwrap_or(false)
}

/// Watches what a specification says; the links of all these documents begin with `prefix`.
///
/// # Errors
/// Which parameter is wrong.
pub(super) fn plan(
    request: &Request,
    mut specification: QuerySpecification,
    prefix: String,
    view: &View<'_>,
) -> Result<Plan, Problem> {
    if let Some(filter) = request.parameter("filter") {
        query::add_filter(&mut specification, &filter)?;
    }
    let wait = match request.parameter("wait") {
        None => WAIT_SECONDS,
        Some(text) => {
            let seconds = text.parse().ok().filter(|seconds| *seconds <= WAIT_SECONDS_MAX);
            seconds.ok_or_else(|| {
                Problem::bad_request(format!(
                    "wait is '{text}'; it is a whole number of seconds, at most {WAIT_SECONDS_MAX}"
                ))
            })?
        }
    };
    // Whose token ends must not be told much longer what changes.
    let is_on = view.shard.handlers.guard.is_on;
    let wait = if is_on { wait.min(WAIT_SECONDS_WITH_LOGIN) } else { wait };
    let partitions = || view.shard.partitions.keys().copied();
    let after = request.parameter("after");
    let after = after.map(|token| change_token::decode(view.topology_name(), partitions(), &token));
    let query = CompiledQuery::new(&specification)?;
    query.check_standing()?;
    Ok(Plan::Watch(Box::new(Watch {
        query,
        prefix,
        with_before: query::is_set(request, "before")?,
        principal: request.principal.clone(),
        after: after.transpose()?,
        wait_micros: wait * 1_000_000,
    })))
}

/// `GET /core/changes`: of all documents, or of those whose links begin with `prefix`.
///
/// # Errors
/// Which parameter is wrong.
pub(super) fn all(request: &Request, view: &View<'_>) -> Result<Plan, Problem> {
    let prefix = request.parameter("prefix").unwrap_or_else(|| "/".to_owned());
    if !prefix.starts_with('/') {
        let text = format!("prefix is '{prefix}'; links begin with '/'");
        return Err(Problem::bad_request(text));
    }
    let mut specification = query::prefix_query(&prefix);
    if let Some(text) = request.parameter("querySpec") {
        let mut clause = standing(&text)?.query;
        if clause.occurance == Occurance::ShouldOccur {
            // As the outermost clause it had to hold.
            clause.occurance = Occurance::MustOccur;
        }
        specification.query.boolean_clauses.get_or_insert_default().push(clause);
    }
    plan(request, specification, prefix, view)
}

/// What a query asks of each document. All else that a query can say is of hits or of their order,
/// and there are none.
fn standing(text: &str) -> Result<QuerySpecification, Problem> {
    let wrong = |why: String| Err(Problem::bad_request(format!("querySpec {why}")));
    let asked = match json::parse(text.as_bytes()) {
        Ok(asked) if asked.is_object() => asked,
        _ => return wrong("must be a JSON object, percent-encoded".into()),
    };
    let mut specification = query::parse_specification(&asked)?;
    specification.options.retain(|option| !HARMLESS.contains(option));
    if let Some(option) = specification.options.first() {
        let name = serde_json::to_value(option).unwrap_or_default();
        return wrong(format!(
            "has the option {name}, which says nothing of changes; leave it out"
        ));
    }
    let of_documents =
        QuerySpecification { query: specification.query.clone(), ..QuerySpecification::default() };
    if specification != of_documents {
        return wrong("of a watch has a query and nothing else; leave out the rest".into());
    }
    Ok(of_documents)
}
