//! What is to be done for a request, and small helpers that every resource uses.

use bytes::Bytes;
use cluster::DirectoryCommand;
use protocol::query::{LINK as QUERY_TASKS, LOCAL_LINK as LOCAL_QUERY_TASKS, QuerySpecification};
use protocol::{BUILT_IN_FIELDS, Code, GroupId, Problem, Request, Response};
use serde_json::Value;

use super::recordings::Page;
use crate::frame::Question;
use crate::pages::Form;
use crate::watches::Watch;

/// What is to be done for a request.
pub(crate) enum Plan {
    Respond(Response),
    /// Another request, which comes in as any other: who asks must have what it needs.
    Enter(Box<Request>),
    /// Ask the owner of a group.
    Ask(GroupId, Question),
    /// Change the directory.
    Change(DirectoryCommand),
    /// The directory as this node knows it does not have what is asked for. When this node has come
    /// as far as the directory's owner and still does not have it, the problem is the answer.
    Level(Box<Request>, Problem),
    /// Run a query over all partitions.
    Query(Box<QuerySpecification>, Form),
    /// The same, and say how many documents there are in all.
    Counted(Box<QuerySpecification>, Form),
    /// A further page of a query, with the documents even if the query did not ask for them.
    Page {
        token: String,
        expand: bool,
    },
    /// Ask all partitions for the statistics of a factory, and add them up.
    Stats(Request),
    /// Ask all partitions whether their owners are at work.
    Available,
    /// Wait for changes of documents.
    Watch(Box<Watch>),
    /// The factory is not known here: it may be one of these, defined just now.
    Seek(Box<Request>, Vec<String>),
    /// A page of a recording of an instance that has a replica here.
    Record(GroupId, Page),
    /// Let all replicas of an instance try their programs again.
    Release(GroupId),
    /// Leave this cluster of one and join that of the node with this address.
    Join(String),
    /// Stop in good order, and say so.
    Stop,
}

/// Gives a path the one spelling by which it is looked up in tables.
pub(crate) fn canonical(request: &mut Request) {
    if request.path.len() > 1 && request.path.ends_with('/') {
        request.path.pop();
    }
    // Every node sees all documents, so a local query task is the same as any other.
    if let Some(rest) = below(&request.path, LOCAL_QUERY_TASKS) {
        let slash = if rest.is_empty() { "" } else { "/" };
        request.path = format!("{QUERY_TASKS}{slash}{rest}");
    }
}

/// What comes below a path, without the slash; empty for the path itself.
pub(super) fn below<'a>(path: &'a str, of: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(of)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// Refuses fields of a body that are none of these. What a GET has shown may be sent back, so that
/// built-in fields are let through.
///
/// # Errors
/// `BAD_BODY` that names the field and what is known.
pub(crate) fn check_fields(body: &Value, of: &str, known: &[&str]) -> Result<(), Problem> {
    let fields = body.as_object().into_iter().flat_map(serde_json::Map::keys);
    let is_known = |field: &str| known.contains(&field) || BUILT_IN_FIELDS.contains(&field);
    let Some(unknown) = fields.into_iter().find(|field| !is_known(field)) else { return Ok(()) };
    let text = match known {
        [] => format!("{of} has no fields, and so no '{unknown}'"),
        _ => format!("{of} has no field '{unknown}'; it has {}", known.join(", ")),
    };
    Err(Problem::new(Code::BadBody, text))
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
