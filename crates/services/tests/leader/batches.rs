//! Batches in scripts.

use bytes::Bytes;
use documents::{Atom, AtomRequest};
use protocol::{BATCH_LINK, Method, Principal, Request};
use serde_json::Value;
use services::PartitionQuestion;

use crate::world::{World, auto_key, method, show_json, split_body, user_key};

impl World {
    /// `batch 1 key=k/7 | POST /core/things/a {"name":"a"} | PATCH /core/things/b key=l/1 {}`
    pub(crate) fn batch(&mut self, rest: &str) {
        let mut parts = rest.split(" | ");
        let mut words = parts.next().unwrap().split_whitespace();
        let ticket = words.next().unwrap().parse().unwrap();
        let mut request = Request::new(Method::Post, BATCH_LINK);
        let (mut key, mut is_retry) = (None, false);
        for option in words {
            match option.split_once('=').unwrap_or((option, "")) {
                ("again", _) => is_retry = true,
                ("key", value) => key = Some(user_key(value)),
                ("auto", value) => key = Some(auto_key(value)),
                ("user", value) => request.principal = Principal::User(value.into()),
                other => panic!("an option {other:?}"),
            }
        }
        request.body = Atom { digest: 0, requests: parts.map(part).collect() }.encode();
        self.request(ticket, PartitionQuestion::Rest(request), key, is_retry);
    }
}

/// The outcomes of a batch in a line each, if it is the answer to one.
pub(crate) fn outcomes(body: &Value) -> Option<String> {
    let all = body.as_array().filter(|all| all.iter().all(|it| it["outcome"].is_string()))?;
    let shown = all.iter().map(|it| {
        let (status, outcome) = (&it["status"], it["outcome"].as_str().unwrap());
        format!("\n  {status} {outcome} {}", show_json(it["body"].to_string().as_bytes()))
    });
    Some(shown.collect())
}

fn part(text: &str) -> AtomRequest {
    let mut words = text.splitn(3, ' ');
    let mut request = Request::new(method(words.next().unwrap()), words.next().unwrap());
    let (options, body) = split_body(words.next().unwrap_or_default());
    request.body = Bytes::from(body.to_owned());
    let mut key = None;
    for option in options.split_whitespace() {
        match option.split_once('=').unwrap_or((option, "")) {
            ("key", value) => key = Some(user_key(value)),
            ("if-match", value) => request.conditions.if_match = Some(value.parse().unwrap()),
            ("pragma", value) => request.pragmas.push(value.to_owned()),
            other => panic!("an option {other:?}"),
        }
    }
    AtomRequest { request, key }
}
