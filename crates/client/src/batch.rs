//! Many writes of documents in one request.

use std::time::Duration;

use protocol::{BATCH_LINK, Method, Request, Response};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::client::{Client, ClientError};

/// Between two tries of a batch of which some is not done.
const PAUSE: Duration = Duration::from_millis(200);

/// The writes of one batch. Those of one partition are done together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    requests: Vec<One>,
    is_whole: bool,
}

/// One of its writes. The body is no `Value`, which cannot hold every number.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct One {
    method: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_match: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    requests: &'a [One],
    atomic: &'static str,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct BatchAnswer {
    pub status: u16,
    /// `applied`, `notApplied`, `unknown` or `mixed`.
    pub outcome: String,
    /// Of each write, in their order; empty when the batch was refused as it stands.
    pub outcomes: Vec<WriteOutcome>,
    /// The answer as it came.
    pub response: Response,
}

/// What became of one write of a batch.
#[derive(Clone, Debug)]
pub struct WriteOutcome {
    pub status: u16,
    /// `applied`, `notApplied` or `unknown`.
    pub outcome: String,
    /// The document; or the error, with its `code`.
    pub body: Value,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// All of it is done or none: its links have the same partition key, as in
    /// `/app/orders/{42}/a`, or it is refused.
    #[must_use]
    pub fn all_or_none(self) -> Self {
        Self { is_whole: true, ..self }
    }

    /// # Errors
    /// When the body cannot be written as JSON.
    pub fn post(self, factory: &str, body: &impl Serialize) -> Result<Self, ClientError> {
        Ok(self.with(Method::Post, factory, Some(raw(body)?)))
    }

    /// # Errors
    /// As [`Self::post`].
    pub fn put(self, link: &str, body: &impl Serialize) -> Result<Self, ClientError> {
        Ok(self.with(Method::Put, link, Some(raw(body)?)))
    }

    /// # Errors
    /// As [`Self::post`].
    pub fn patch(self, link: &str, body: &impl Serialize) -> Result<Self, ClientError> {
        Ok(self.with(Method::Patch, link, Some(raw(body)?)))
    }

    #[must_use]
    pub fn delete(self, link: &str) -> Self {
        self.with(Method::Delete, link, None)
    }

    /// The last write is done if the document has this entity tag.
    #[must_use]
    pub fn if_match(mut self, etag: &str) -> Self {
        if let Some(last) = self.requests.last_mut() {
            last.if_match = Some(etag.to_owned());
        }
        self
    }

    pub fn len(&self) -> usize {
        self.requests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn with(mut self, method: Method, path: &str, body: Option<Box<RawValue>>) -> Self {
        let (method, path, if_match) = (method.name(), path.to_owned(), None);
        self.requests.push(One { method, path, body, if_match });
        self
    }
}

fn raw(body: &impl Serialize) -> Result<Box<RawValue>, ClientError> {
    to_raw_value(body)
        .map_err(|error| ClientError::Malformed(format!("the body is not JSON: {error}")))
}

impl BatchAnswer {
    /// The outcomes as an answer tells them.
    pub fn of(response: Response) -> Self {
        let body = response.to_json();
        let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
        let outcomes = body["requests"].as_array().into_iter().flatten().map(|one| WriteOutcome {
            status: one["status"].as_u64().and_then(|it| it.try_into().ok()).unwrap_or(500),
            outcome: text(&one["outcome"]),
            body: one.get("body").or(one.get("error")).cloned().unwrap_or_default(),
        });
        let outcomes = outcomes.collect();
        let status = response.status;
        Self { status, outcome: text(&body["outcome"]), outcomes, response }
    }

    pub fn is_applied(&self) -> bool {
        self.outcome == "applied"
    }

    /// Whether the same batch under the same key may come further: of some it is not known what
    /// became of them, or they were refused for what passes.
    fn may_come_further(&self) -> bool {
        let passes = |one: &WriteOutcome| one.outcome == "unknown" || one.status == 503;
        self.status == 207 && self.outcomes.iter().any(passes)
    }
}

impl Client {
    /// Sends a batch, and sends it again under its key while some of it is in doubt. What was done
    /// is not done twice.
    ///
    /// # Errors
    /// As [`Client::get`]. That some of it was refused is an answer.
    pub async fn batch(&self, batch: &Batch) -> Result<BatchAnswer, ClientError> {
        let atomic = if batch.is_whole { "all" } else { "partition" };
        let body = raw(&Body { requests: &batch.requests, atomic })?;
        let request = Request {
            body: body.get().to_owned().into(),
            idempotency_key: self.next_key(),
            ..Request::new(Method::Post, BATCH_LINK)
        };
        let begun = tokio::time::Instant::now();
        loop {
            let answer = BatchAnswer::of(self.send(request.clone()).await?);
            let is_over = begun.elapsed() + PAUSE >= self.patience_of_batches();
            if is_over || request.idempotency_key.is_none() || !answer.may_come_further() {
                return Ok(answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_outcomes_are_read_in_their_order() {
        let body = json!({"outcome": "mixed", "requests": [
            {"status": 200, "outcome": "applied", "body": {"n": 1}},
            {"status": 504, "outcome": "unknown", "error": {"code": "TIMEOUT"}},
        ]});
        let answer = BatchAnswer::of(Response::json(207, &body));
        assert!(!answer.is_applied() && answer.may_come_further());
        assert_eq!((answer.outcomes[0].status, &answer.outcomes[0].body["n"]), (200, &json!(1)));
        assert_eq!(answer.outcomes[1].body["code"], "TIMEOUT");
        let refused = BatchAnswer::of(Response::json(409, &json!({"outcome": "notApplied"})));
        assert!(refused.outcomes.is_empty() && !refused.may_come_further());
    }

    #[test]
    fn a_batch_says_what_it_is_made_of() {
        let batch = Batch::new().post("/a", &json!({"n": 1})).unwrap();
        let batch = batch.delete("/a/b").if_match("\"1\"").all_or_none();
        assert!(batch.is_whole && batch.len() == 2);
        let said = serde_json::to_value(&batch.requests).unwrap();
        let expected = json!([
            {"method": "POST", "path": "/a", "body": {"n": 1}},
            {"method": "DELETE", "path": "/a/b", "ifMatch": "\"1\""},
        ]);
        assert_eq!(said, expected);
    }
}
