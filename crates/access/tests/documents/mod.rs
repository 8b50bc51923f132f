//! A document of a policy, as the tests make one.

use protocol::{Action, Body, Document, Moment, Term};
use serde_json::Value;

pub(crate) fn document(link: impl Into<String>, body: &Value) -> Document {
    Document {
        link: link.into(),
        version: 0,
        epoch: Term(1),
        kind: "k".into(),
        action: Action::Post,
        updated: Moment(20),
        expires: Moment(0),
        owner: "n1".into(),
        author: None,
        body: Body::from_map(body.as_object().cloned().unwrap_or_default()),
    }
}
