//! The REST surface, one file for each resource: a request and a view of the cluster go in, a
//! [`Plan`] comes out. Nothing is done here, so that each resource is tested by a table.

pub(crate) mod ambrosia;
mod documents;
mod forwarding;
mod instance_state;
pub(crate) mod instances;
mod management;
mod node_group;
mod options;
mod plan;
pub(crate) mod recordings;
mod surface;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod tables_forwarding;
pub(crate) mod watch;
mod who;
#[cfg(test)]
mod world;

use protocol::node_group as paths;
use protocol::{Code, Method, Outcome, Problem, Request};

use crate::pages::PAGE_LINK;
use crate::view::View;
use plan::below;

pub(crate) use node_group::changed as quorum_changed;
pub(crate) use plan::{Plan, canonical};
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
        paths::FACTORY_LINK => return node_group::factory(&request, view),
        paths::LINK => return node_group::plan(&request, view),
        paths::SELECTOR_LINK => return management::selector(&request, view),
        paths::MANAGEMENT_LINK => return Ok(management::management(&request, view)),
        paths::FORWARDING_LINK => {
            return Ok(Plan::Enter(Box::new(forwarding::unwrap(request, view)?)));
        }
        _ => {}
    }
    if view.partitions() == 0 {
        let text = format!("this node is not part of a cluster yet: {}", view.why_not_serving());
        return Err(Problem::new(Code::NoOwner, text));
    }
    if let Some(response) = who::plan(&request, view)? {
        return Ok(Plan::Respond(response));
    }
    if let Some(token) = below(&request.path, PAGE_LINK).filter(|token| !token.is_empty()) {
        let expand = query::is_set(&request, "expand")?;
        return Ok(Plan::Page { token: token.to_owned(), expand });
    }
    if request.path == watch::LINK {
        return watch::all(&request, view);
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
        paths::LINK if request.method == Method::Get => {
            Ok(Plan::Respond(node_group::of_newcomer()))
        }
        paths::LINK if request.method == Method::Post => {
            let join = node_group::parse_join(&request.body)?;
            node_group::check_contact(&join, &config.public_uri).map(Plan::Join)
        }
        paths::MANAGEMENT_LINK => Ok(management::of_newcomer(request, config)),
        _ => {
            let text = format!("this node is not part of a cluster yet: {why}");
            let outcome = request.method.is_write().then_some(Outcome::NotApplied);
            Err(Problem { outcome, ..Problem::new(Code::NoOwner, text) })
        }
    }
}
