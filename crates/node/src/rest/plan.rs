//! What is to be done for a request, and small helpers that every resource uses.

use bytes::Bytes;
use cluster::DirectoryCommand;
use protocol::query::{LINK as QUERY_TASKS, LOCAL_LINK as LOCAL_QUERY_TASKS, QuerySpecification};
use protocol::{Code, GroupId, Problem, Request, Response, json, links};
use serde_json::Value;
use services::Catalogue;

use super::batch_parts::Batch;
use super::broadcast::Receivers;
use super::explained::OfCluster;
use super::recordings::Page;
use crate::backup::words::BackupWish;
use crate::frame::Question;
use crate::pages::Form;
use crate::watches::Watch;

/// What is to be done for a request.
pub(crate) enum Plan {
    Respond(Response),
    /// Nothing is to be done, and that is well.
    Nothing,
    /// Another request, which comes in as any other: who asks must have what it needs.
    Enter(Box<Request>),
    /// The same, and its answer is to be that of all nodes.
    Broadcast(Box<Request>, Receivers),
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
        wish: query::PageWish,
    },
    /// Write several documents, those of a partition together.
    Batch(Box<Batch>),
    /// Ask all partitions for the statistics of a factory, and add them up.
    Stats(Request),
    /// Ask the owners of instances what those wait for, and say why the cluster does not go on.
    Explain(Box<OfCluster>),
    /// Ask all partitions whether their owners are at work.
    Available,
    /// Wait for changes of documents.
    Watch(Box<Watch>),
    /// Make a subscription, once who asks for it has seen what it is about.
    Subscribe {
        look: Option<Box<Request>>,
        make: Box<Request>,
    },
    /// Make a query task that asks what another one does, once that one was looked at.
    Copy {
        look: Box<Request>,
        make: Box<Request>,
    },
    /// Count the documents of a kind; if it has none, delete its definition.
    Undefine {
        count: Box<Request>,
        delete: Box<Request>,
    },
    /// The factory is not known here: it may be one of these, defined just now.
    Seek(Box<Request>, Vec<String>),
    /// A page of a recording of an instance that has a replica here.
    Record(GroupId, Page),
    /// Something about a backup.
    Backup(BackupWish),
    /// Count what is on the disk of this node.
    Survey,
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

/// The document and the action of a path such as `/app/seats/A1/actions/hold`.
pub(super) fn action_in(path: &str) -> Option<(&str, &str)> {
    let (of, action) = links::split(path)?;
    let document = of.strip_suffix("/actions")?;
    links::split(document).map(|_| (document, action))
}

/// The same, if the document's kind is known and nothing else is at the path.
pub(super) fn action_at<'a>(path: &'a str, catalogue: &Catalogue) -> Option<(&'a str, &'a str)> {
    let (document, action) = action_in(path)?;
    let is_action = catalogue.spec_of(path).is_none() && catalogue.spec_of(document).is_some();
    is_action.then_some((document, action))
}

/// What comes below a path, without the slash; empty for the path itself.
pub(super) fn below<'a>(path: &'a str, of: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(of)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// Refuses fields of a body that are none of these. A built-in field is one like any other here:
/// what takes back what a GET has shown looks at them first, see [`super::built_in`].
///
/// # Errors
/// `BAD_BODY` that names the field and what is known.
pub(crate) fn check_fields(body: &Value, of: &str, known: &[&str]) -> Result<(), Problem> {
    let fields = body.as_object().into_iter().flat_map(serde_json::Map::keys);
    let is_known = |field: &str| known.contains(&field);
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
    let value = json::parse(body)
        .map_err(|error| Problem::new(Code::BadBody, format!("the body is not JSON: {error}")))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(Problem::new(Code::BadBody, "the body must be a JSON object"))
}
