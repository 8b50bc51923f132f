//! Two of Xenon's paths by which documents are found without a body: `/core/odata-queries`, a query
//! task as parameters, and `/core/document-index`, a document or a prefix of links.

use protocol::query::{INDEX_LINK, ODATA_LINK, QueryOption, QuerySpecification};
use protocol::{Method, Problem, Request, links};
use query::{all_specification, is_set, prefix_query};
use serde_json::json;

use super::documents;
use super::past;
use super::plan::{Plan, action_in};
use crate::pages::Form;
use crate::view::View;

/// Which documents are meant, in Xenon's words: all of them are in one index here. `NONE` is what
/// its clients send when nothing is asked.
const CAPABILITIES: [&str; 3] = ["PERSISTENCE", "IMMUTABLE", "NONE"];

/// A query task that is direct, over all documents.
///
/// # Errors
/// Which parameter is wrong.
pub(super) fn odata(request: &Request, view: &View<'_>) -> Result<Plan, Problem> {
    if request.parameter("filter").is_none() {
        let text = format!(
            "{ODATA_LINK} needs a $filter, such as $filter=name eq 'a*' and counter ge 5; GET / lists \
             the factories, and each of them lists its documents"
        );
        return Err(Problem::bad_request(text));
    }
    let listing = all_specification(request)?;
    if listing.total {
        let text = "$count with $limit or $top: here the answer is a page or a number; drop one, or ask \
                    a factory's list, which gives both";
        return Err(Problem::bad_request(text));
    }
    let mut specification = listing.specification;
    specification.extent.offset = Some(listing.skip).filter(|skip| *skip > 0);
    let counts = specification.has(QueryOption::Count);
    if !specification.is_expanded() && !counts {
        specification.options.push(QueryOption::ExpandContent);
    }
    past::check_query(&specification, view)?;
    let shown = serde_json::to_value(&specification).expect("a specification is JSON");
    let task = json!({ "querySpec": shown, "documentOwner": view.config.node_id });
    Ok(Plan::Query(Box::new(specification), Form::Task(task)))
}

/// A document by its link, at a version if that is said; or all whose links begin like this.
///
/// # Errors
/// Which parameter is wrong, or is not served here.
pub(super) fn document_index(
    request: Request,
    fresh: u64,
    view: &View<'_>,
) -> Result<Plan, Problem> {
    let refused = |text: String| Err(Problem::bad_request(text));
    let Some(link) = request.parameter("documentSelfLink") else {
        return refused(format!(
            "{INDEX_LINK} needs documentSelfLink=LINK, or LINK* for all links that begin like this"
        ));
    };
    let capability = request.parameter("capability");
    if let Some(other) = capability.filter(|it| !CAPABILITIES.contains(&it.as_str())) {
        return refused(format!(
            "capability is '{other}': there is one index, of documents that persist; leave it out"
        ));
    }
    let version = request.parameter("documentVersion");
    let with_deleted = is_set(&request, "includeDeleted")?;
    let is_expanded = is_set(&request, "expand")?;
    if let Some(prefix) = link.strip_suffix('*') {
        if version.is_some() {
            return refused(
                "documentVersion is of one document, and documentSelfLink of many".into(),
            );
        }
        let mut specification: QuerySpecification = prefix_query(prefix);
        if is_expanded {
            specification.options.push(QueryOption::ExpandContent);
        }
        if with_deleted {
            specification.options.push(QueryOption::IncludeDeleted);
        }
        let link = format!("{INDEX_LINK}?{}", request.query);
        let form = Form::list(link);
        return Ok(Plan::Query(Box::new(specification), form));
    }
    links::check(&link)?;
    if view.catalogue().spec(&link).is_some() {
        return refused(format!(
            "{link} is a factory: GET it, or write {link}/* for its documents"
        ));
    }
    if action_in(&link).is_some() || links::split_utility(&link).1.is_some() {
        return refused(format!(
            "{link} is no document: it is an action or a utility. Ask it by its own path"
        ));
    }
    if with_deleted && version.is_none() {
        let mut specification = query::document_query(&link);
        specification.options = vec![QueryOption::ExpandContent, QueryOption::IncludeDeleted];
        return Ok(Plan::Query(Box::new(specification), Form::Document { link }));
    }
    let query = version.map_or(String::new(), |version| format!("documentVersion={version}"));
    let principal = request.principal.clone();
    let asked = Request { query, ..Request::new(Method::Get, link) };
    documents::plan(asked.on_behalf_of(principal), fresh, view)
}
