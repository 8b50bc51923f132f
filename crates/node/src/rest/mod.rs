//! The REST surface, one file for each resource: a request and a view of the cluster go in, a
//! [`Plan`] comes out. Nothing is done here, so that each resource is tested by a table.

pub(crate) mod ambrosia;
pub(crate) mod backups;
mod batch;
pub(crate) mod batch_parts;
pub(crate) mod broadcast;
mod built_in;
pub(crate) mod copies;
mod documents;
pub(crate) mod explain;
mod explain_instances;
pub(crate) mod explained;
mod forwarding;
mod index;
mod instance_state;
pub(crate) mod instances;
mod management;
pub(crate) mod members;
mod node_group;
mod openapi;
mod options;
mod past;
mod plan;
pub(crate) mod recordings;
pub(crate) mod sql;
pub(crate) mod subscriptions;
mod surface;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod tables_batch;
#[cfg(test)]
mod tables_explain;
#[cfg(test)]
mod tables_forwarding;
#[cfg(test)]
mod tables_members;
#[cfg(test)]
mod tables_queries;
#[cfg(test)]
mod tables_strict;
#[cfg(test)]
mod tables_subscriptions;
pub(crate) mod undefine;
pub(crate) mod watch;
mod who;
#[cfg(test)]
pub(crate) mod world;

use protocol::node_group as paths;
use protocol::{BATCH_LINK, Code, Method, Outcome, Problem, Request};

use crate::pages::{PAGE_LINK, parse_token};
use crate::view::View;
use plan::below;

pub(crate) use node_group::changed as quorum_changed;
pub(crate) use plan::{Plan, canonical};
pub(crate) use surface::QUEUE;
pub use surface::{Header, Resource, SURFACE, Verb};

/// Decides what is to be done. `fresh` is a number that this start of the node uses once.
///
/// # Errors
/// What is wrong with the request. In that case nothing was done.
pub(crate) fn plan(mut request: Request, fresh: u64, view: &View<'_>) -> Result<Plan, Problem> {
    let is_write = request.method.is_write();
    canonical(&mut request);
    let planned = dispatch(request, fresh, view);
    planned.map_err(|mut problem| {
        problem.outcome = problem.outcome.or(is_write.then_some(Outcome::NotApplied));
        problem
    })
}

fn dispatch(request: Request, fresh: u64, view: &View<'_>) -> Result<Plan, Problem> {
    if view.is_stopping {
        return Err(Problem::new(Code::Stopping, "this node is stopping: ask another one"));
    }
    if let Some(resource) = Resource::at(&request.path, view.catalogue()) {
        resource.check(&request, view.catalogue())?;
    }
    match request.path.as_str() {
        "/" => return Ok(Plan::Respond(management::root(view.catalogue()))),
        surface::OPENAPI_LINK => return Ok(Plan::Respond(openapi::answer(view.catalogue()))),
        paths::FACTORY_LINK => return node_group::factory(&request, view),
        paths::LINK => return node_group::plan(&request, view),
        paths::SELECTOR_LINK => return management::selector(&request, view),
        paths::MANAGEMENT_LINK => return Ok(management::management(&request, view)),
        surface::EXPLAIN_NODE => return Ok(Plan::Respond(explain::of_this_node(view))),
        crate::survey::DISK_LINK => return Ok(Plan::Survey),
        surface::EXPLAIN_CLUSTER => return Ok(explain::of_cluster(&request, view)),
        paths::FORWARDING_LINK => return forwarding::plan(&request, view),
        _ => {}
    }
    if view.partitions() == 0 {
        let text = format!("this node is not part of a cluster yet: {}", view.why_not_serving());
        return Err(Problem::new(Code::NoOwner, text));
    }
    if let Some(rest) = below(&request.path, paths::LINK).filter(|rest| !rest.is_empty()) {
        return members::plan(&request, rest, view);
    }
    if let Some(response) = who::plan(&request, view)? {
        return Ok(Plan::Respond(response));
    }
    if let Some(token) = below(&request.path, PAGE_LINK).filter(|token| !token.is_empty()) {
        let asked = parse_token(token);
        if request.method == Method::Delete {
            return asked.map(|_| Plan::Nothing);
        }
        if let Ok(page) = asked {
            past::check_query(&page.specification, view)?;
        }
        let wish = query::PageWish::of(&request)?;
        return Ok(Plan::Page { token: token.to_owned(), wish });
    }
    if request.path == sql::LINK {
        return sql::plan(&request, view);
    }
    if request.path == BATCH_LINK {
        return batch::plan(request, fresh, view);
    }
    if request.path == watch::LINK {
        return watch::all(&request, view);
    }
    if request.path == protocol::query::ODATA_LINK {
        return index::odata(&request, view);
    }
    if request.path == protocol::query::INDEX_LINK {
        return index::document_index(request, fresh, view);
    }
    if let Some(rest) = below(&request.path, backups::LINK) {
        return backups::plan(&request, rest);
    }
    if let Some(rest) = below(&request.path, instance_state::LINK) {
        return instances::plan(&request, rest, view);
    }
    if let Some(rest) = below(&request.path, ambrosia::LINK).filter(|rest| !rest.is_empty()) {
        return ambrosia::plan(&request, rest, view);
    }
    documents::plan(request, fresh, view)
}

/// What a node that belongs to no cluster so far answers.
///
/// # Errors
/// That it does not serve.
pub(crate) fn plan_of_newcomer(
    request: &Request,
    catalogue: &services::Catalogue,
    config: &crate::io::NodeConfig,
    why: &str,
) -> Result<Plan, Problem> {
    if let Some(resource) = Resource::at(&request.path, catalogue) {
        resource.check(request, catalogue)?;
    }
    match request.path.as_str() {
        "/" => Ok(Plan::Respond(management::root(catalogue))),
        surface::OPENAPI_LINK => Ok(Plan::Respond(openapi::answer(catalogue))),
        paths::LINK if request.method == Method::Get => {
            Ok(Plan::Respond(node_group::of_newcomer()))
        }
        paths::LINK if request.method == Method::Post => {
            let join = node_group::parse_join(&request.body)?;
            node_group::check_contact(&join, &config.public_uri).map(Plan::Join)
        }
        paths::MANAGEMENT_LINK => Ok(management::of_newcomer(request, config)),
        link @ (surface::EXPLAIN_NODE | surface::EXPLAIN_CLUSTER) => {
            let (of, _) = protocol::links::split_utility(link);
            Ok(Plan::Respond(explain::of_newcomer(of, &config.node_id, why)))
        }
        _ => {
            let text = format!("this node is not part of a cluster yet: {why}");
            let outcome = request.method.is_write().then_some(Outcome::NotApplied);
            Err(Problem { outcome, ..Problem::new(Code::NoOwner, text) })
        }
    }
}
