//! A client of a few lines: one request, one connection, no retries, so that a test sees exactly
//! what a node said. What could not be answered is an error with words.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// `Null` when there was none, or it is not JSON.
    pub(crate) body: Value,
    pub(crate) took: Duration,
}

/// One request on its way.
pub(crate) struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    headers: String,
    body: Vec<u8>,
    within: Duration,
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: &'a str, path: &'a str) -> Self {
        let within = Duration::from_secs(10);
        Self { method, path, headers: String::new(), body: Vec::new(), within }
    }

    pub(crate) fn get(path: &'a str) -> Self {
        Self::new("GET", path)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.raw(body.to_string().as_bytes())
    }

    pub(crate) fn merge_patch(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.header("Content-Type", "application/merge-patch+json")
    }

    pub(crate) fn raw(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self.header("Content-Type", "application/json")
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The same key on each try makes it one request.
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub(crate) fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// # Errors
    /// When there was no whole answer in time.
    pub(crate) fn send(&self, port: u16) -> Result<Reply, String> {
        let began = Instant::now();
        let failed = |error: std::io::Error| format!("{} {}: {error}", self.method, self.path);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, self.within).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut request = format!(
            "{} {} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{}\
             Content-Length: {}\r\n\r\n",
            self.method,
            self.path,
            self.headers,
            self.body.len()
        )
        .into_bytes();
        request.extend_from_slice(&self.body);
        // A node may refuse a large body before it has read all of it; its answer counts.
        let written = stream.write_all(&request);
        let mut answer = Vec::new();
        let mut part = [0; 16 * 1024];
        loop {
            let left = self.within.saturating_sub(began.elapsed());
            let left = left.max(Duration::from_millis(1));
            stream.set_read_timeout(Some(left)).map_err(failed)?;
            match stream.read(&mut part) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&part[..count]),
                Err(_) if self.is_whole(&answer) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        if answer.is_empty() {
            written.map_err(failed)?;
        }
        self.read(&answer, began.elapsed())
    }

    /// The answer to a HEAD announces a body that does not come.
    fn is_whole(&self, answer: &[u8]) -> bool {
        let is_head = answer.windows(4).any(|it| it == b"\r\n\r\n");
        is_whole(answer) || (self.method == "HEAD" && is_head)
    }

    fn read(&self, answer: &[u8], took: Duration) -> Result<Reply, String> {
        let text = String::from_utf8_lossy(answer);
        let broken = || format!("{} {}: a broken answer: '{text}'", self.method, self.path);
        if !self.is_whole(answer) {
            return Err(broken());
        }
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Reply {
            status: status.ok_or_else(broken)?,
            head: head.to_owned(),
            body: serde_json::from_str(body).unwrap_or_default(),
            took,
        })
    }
}

/// Whether the head and as many bytes as it announces are there.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let announced = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    announced.is_none_or(|bytes| answer.len() >= head.len() + 4 + bytes)
}

impl Reply {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn version(&self) -> u64 {
        self.body["documentVersion"].as_u64().expect("a document has a version")
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    }
}
