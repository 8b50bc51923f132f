//! What is to be done for a request, and the small questions that every resource has about one.

use bytes::Bytes;
use cluster::DirectoryCommand;
use protocol::query::QuerySpecification;
use protocol::{Code, GroupId, Method, Problem, Request, Response};
use serde_json::Value;

use super::recordings::Page;
use crate::frame::Question;
use crate::pages::Form;

/// What is to be done for a request.
pub(crate) enum Plan {
    Respond(Response),
    /// Ask the owner of a group.
    Ask(GroupId, Question),
    /// Change the directory.
    Change(DirectoryCommand),
    /// Run a query over all partitions.
    Query(Box<QuerySpecification>, Form),
    /// A further page of a query.
    Page(String),
    /// Ask all partitions for the statistics of a factory, and add them up.
    Stats(Request),
    /// Ask all partitions whether their owners are at work.
    Available,
    /// A page of a recording of an instance that has a replica here.
    Record(GroupId, Page),
    /// Let all replicas of an instance try their programs again.
    Release(GroupId),
    /// Leave this cluster of one and join that of the node with this address.
    Join(String),
    /// Stop in good order, and say so.
    Stop,
}

/// What comes below a path, without the slash; empty for the path itself.
pub(super) fn below<'a>(path: &'a str, of: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(of)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// # Errors
/// 405 for any other verb.
pub(crate) fn only(request: &Request, methods: &[Method]) -> Result<(), Problem> {
    if methods.contains(&request.method) {
        return Ok(());
    }
    let names: Vec<&str> = methods.iter().map(|method| method.name()).collect();
    Err(Problem::new(
        Code::MethodNotAllowed,
        format!(
            "{} does not take {}; it takes {}",
            request.path,
            request.method.name(),
            names.join(", ")
        ),
    ))
}

/// # Errors
/// When the body is not a JSON object.
pub(crate) fn parse_body(body: &Bytes) -> Result<Value, Problem> {
    if body.is_empty() {
        return Err(Problem::new(Code::BadBody, "a body is needed: a JSON object"));
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Problem::new(Code::BadBody, format!("the body is not JSON: {error}")))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Problem::new(Code::BadBody, "the body must be a JSON object"))
}
