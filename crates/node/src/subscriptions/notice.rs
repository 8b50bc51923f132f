//! A notification, as it is sent: the verb of the change with the state as its body, as in Xenon.

use bytes::Bytes;
use protocol::query::KIND as QUERY_KIND;
use protocol::subscription::{LIST_KIND, NOTIFICATION, SKIPPED};
use protocol::{Action, Document, GroupId, Method, Position, Principal, Request};
use serde_json::{Value, json};

use super::known::Known;
use super::scope::{News, Scope};
use super::telling::{Found, What};
use crate::io::Notification;
use crate::view::View;

/// What is to be sent, whoever gets it.
pub(super) struct Notice {
    method: Method,
    body: Bytes,
    /// The state without what the system keeps; `None` if there is none.
    state: Option<Bytes>,
    is_after_gap: bool,
    /// The same for a change whenever it is told, so that who was told twice can know.
    key: String,
}

impl Notice {
    /// `name` is the last part of the link of the subscription's document.
    pub(super) fn of(name: &str, found: &Found, known: &Known, view: &View<'_>) -> Self {
        let (group, link) = (found.group, &known.state.subscribed_link);
        let is_after_gap = found.is_after_gap;
        let (change, news) = match &found.what {
            What::Gap(position) => {
                let method =
                    if matches!(known.scope, Scope::One(_)) { Method::Delete } else { Method::Put };
                let body = json!({"documentSelfLink": link, "documentKind": LIST_KIND});
                let key = key(name, group, *position, "gap");
                let body = body.to_string().into();
                return Self { method, body, state: None, is_after_gap: true, key };
            }
            What::State(change) => (change, None),
            What::Change(change, news) => (change, Some(*news)),
        };
        let document = change.after.as_ref().or(change.before.as_ref()).expect("it is no gap");
        let way = match (news, &change.after) {
            (None, _) => "state".to_owned(),
            // One entry lets several documents expire.
            (_, None) => format!("{:x}", protocol::hash::hash(document.link.as_bytes())),
            _ => String::new(),
        };
        let key = key(name, group, change.place.position, &way);
        let who = known.principal();
        let shown = shown(document, &who, group, view);
        let state = Some(access::shown(&who, document).body.as_bytes().to_vec().into());
        let (method, body) = match (&known.scope, news) {
            (Scope::Query(_), news) => {
                let shown = known.scope.told_of(shown);
                (Method::Patch, task_body(link, known, (document, shown), news).into())
            }
            (_, None) if document.is_deleted() => (Method::Delete, shown.into()),
            (_, None) => (Method::Put, shown.into()),
            (_, Some(_)) => (verb_of(change.after.as_deref()), shown.into()),
        };
        Self { method, body, state, is_after_gap, key }
    }

    pub(super) fn bytes(&self) -> usize {
        self.body.len()
    }

    pub(super) fn to_outside(&self, number: u64, known: &Known, view: &View<'_>) -> Notification {
        let pragma = match self.is_after_gap {
            true => format!("{NOTIFICATION}, {SKIPPED}"),
            false => NOTIFICATION.to_owned(),
        };
        Notification {
            number,
            reference: known.state.reference.clone(),
            method: self.method,
            pragma,
            key: self.key.clone(),
            referer: format!("{}{}", view.config.public_uri, known.state.subscribed_link),
            body: self.body.clone(),
        }
    }

    /// The same to a document of this cluster. It says nothing of versions and links, which are
    /// those of another document. `None`: there is nothing that could be told to a document.
    pub(super) fn to_link(&self, link: &str, principal: Principal) -> Option<Request> {
        let state = self.state.clone()?;
        let (method, body) = match self.method {
            // The document is there already: it takes the whole state.
            Method::Post => (Method::Put, state),
            Method::Delete => (Method::Delete, Bytes::new()),
            other => (other, state),
        };
        let idempotency_key = Some(self.key.clone());
        let request = Request { body, idempotency_key, ..Request::new(method, link) };
        Some(request.on_behalf_of(principal))
    }
}

fn key(name: &str, group: GroupId, position: Position, way: &str) -> String {
    let dash = if way.is_empty() { "" } else { "-" };
    format!("{name}-{}-{}{dash}{way}", group.0, position.0)
}

fn verb_of(after: Option<&Document>) -> Method {
    match after.map(|after| after.action) {
        Some(Action::Post) => Method::Post,
        Some(Action::Put) => Method::Put,
        Some(Action::Patch) => Method::Patch,
        Some(Action::Delete) | None => Method::Delete,
    }
}

fn shown(document: &Document, who: &Principal, group: GroupId, view: &View<'_>) -> Vec<u8> {
    let owner = view.owner_of(group).and_then(|owner| view.node_id(owner));
    access::shown(who, document).to_json_bytes(owner.unwrap_or(&document.owner)).to_vec()
}

/// As Xenon's query task tells of one document.
fn task_body(
    link: &str,
    known: &Known,
    (document, shown): (&Document, Option<Vec<u8>>),
    news: Option<News>,
) -> Vec<u8> {
    let count = |of: News| u64::from(news == Some(of));
    let results = json!({
        "documentLinks": [document.link],
        "documentCount": 1,
        "continuousResults": {
            "documentCountAdded": count(News::Added),
            "documentCountUpdated": count(News::Updated),
            "documentCountDeleted": count(News::Deleted),
        },
    });
    let mut task = json!({
        "documentKind": QUERY_KIND,
        "documentSelfLink": link,
        "taskInfo": {"stage": "STARTED"},
        "querySpec": known.state.query_spec,
    })
    .to_string();
    // The document is text already, and keeps all digits of its numbers.
    let mut results = results.to_string();
    assert!(task.pop() == Some('}') && results.pop() == Some('}'), "both are objects");
    let mut bytes = format!("{task},\"results\":{results}").into_bytes();
    if let Some(shown) = shown {
        let name = Value::from(document.link.as_str());
        bytes.extend_from_slice(format!(",\"documents\":{{{name}:").as_bytes());
        bytes.extend_from_slice(&shown);
        bytes.push(b'}');
    }
    bytes.extend_from_slice(b"}}");
    bytes
}
