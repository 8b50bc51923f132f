//! One request to one node and what came back: no retries, no hiding, so that a tutorial sees what
//! `curl` would see.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::story::Story;

/// Longer than any answer of a node may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Between two looks at something that is awaited.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(crate) struct Reply {
    pub(crate) status: u16,
    /// `Null` when there was none.
    pub(crate) body: Value,
    pub(crate) retry_after: Option<String>,
    pub(crate) took: Duration,
}

pub(crate) async fn get(uri: &str) -> Result<Reply, String> {
    ask("GET", uri, None).await
}

/// # Errors
/// When there was no answer. An answer that tells of an error is an answer.
pub(crate) async fn ask(method: &str, uri: &str, body: Option<&Value>) -> Result<Reply, String> {
    let began = Instant::now();
    let failed = |why: String| format!("{method} {uri}: {why}");
    let answer = tokio::time::timeout(ANSWER_WITHIN, exchange(method, uri, body)).await;
    let text = answer
        .map_err(|_| failed(format!("no answer in {ANSWER_WITHIN:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let retry_after = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after").then(|| value.trim().to_owned())
    });
    Ok(Reply {
        status: status.ok_or_else(|| failed(format!("not an HTTP answer: {head}")))?,
        body: serde_json::from_str(body).unwrap_or_default(),
        retry_after,
        took: began.elapsed(),
    })
}

async fn exchange(method: &str, uri: &str, body: Option<&Value>) -> std::io::Result<String> {
    let rest = uri.strip_prefix("http://").unwrap_or(uri);
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(host).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

impl Story {
    /// Shows the `curl` line, does the same, and shows the answer.
    pub(crate) async fn ask(
        &self,
        method: &str,
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
