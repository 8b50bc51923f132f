//! One request to one node and what came back, over a connection of its own, as `curl` would.

use std::time::{Duration, Instant};

use client::{Client, Method};
use serde_json::Value;

use super::story::Story;

/// Longer than any answer of a node may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Between two looks at something that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(crate) struct Reply {
    pub(crate) status: u16,
    /// `Null` when there was none.
    pub(crate) body: Value,
    pub(crate) retry_after_seconds: Option<u32>,
    pub(crate) took: Duration,
}

pub(crate) async fn get(uri: &str) -> Result<Reply, String> {
    ask(Method::Get, uri, None).await
}

pub(crate) async fn post(uri: &str, body: &Value) -> Result<Reply, String> {
    ask(Method::Post, uri, Some(body)).await
}

/// # Errors
/// When there was no answer. An answer that tells of an error is an answer.
pub(crate) async fn ask(method: Method, uri: &str, body: Option<&Value>) -> Result<Reply, String> {
    let began = Instant::now();
    let (address, path) = uri.split_at(uri.find("/core").unwrap_or(uri.len()));
    let failed = |error: client::ClientError| format!("{} {uri}: {error}", method.name());
    let client = Client::new(&[address]).map_err(failed)?;
    let mut request = client::request(method, path);
    if let Some(body) = body {
        request = request.with_json(body);
    }
    let client = client.without_keys().patience(ANSWER_WITHIN);
    let response = client.send(request).await.map_err(failed)?;
    Ok(Reply {
        status: response.status,
        body: response.to_json(),
        retry_after_seconds: response.retry_after_seconds,
        took: began.elapsed(),
    })
}

impl Story {
    /// Shows the `curl` line, does the same, and shows the answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        uri: &str,
        body: Option<&Value>,
    ) -> Result<Reply, String> {
        self.curl(method, uri, body);
        let reply = ask(method, uri, body).await?;
        self.answer(reply.status, &reply.body, reply.took);
        Ok(reply)
    }
}

impl Reply {
    /// # Errors
    /// When the status is another: what it was, and the answer's words.
    pub(crate) fn expect(self, status: u16) -> Result<Self, String> {
        if self.status == status {
            return Ok(self);
        }
        Err(format!("expected status {status}, got {}: {}", self.status, self.body))
    }
}

/// Looks again until `look` succeeds; after `limit` the last failure counts.
pub(crate) async fn until<T>(
    limit: Duration,
    look: impl AsyncFn() -> Result<T, String>,
) -> Result<T, String> {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(why) if began.elapsed() > limit => {
                return Err(format!("after {} s still: {why}", limit.as_secs()));
            }
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
