//! A request and its answer, free of HTTP's clothes: what a client sent, what a node passes to the
//! owner, and what a task asks of other services are all this one type.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Code, Document, Epoch, GroupId, Problem};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::Options)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// How the body is to be understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodyType {
    #[default]
    Json,
    /// `application/merge-patch+json` (RFC 7396).
    MergePatch,
}

/// The owner on whose behalf a task makes a request. A partition refuses a source whose epoch is
/// older than one it has seen from the same partition: late effects of a replaced owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    pub partition: GroupId,
    pub epoch: Epoch,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub method: Method,
    /// Percent-decoded path without the query: `/core/examples/one`, `/core/examples/one/stats`.
    pub path: String,
    /// The raw query, without `?`; empty if none.
    pub query: String,
    pub body: Bytes,
    pub body_type: BodyType,
    /// `If-Match`, as sent.
    pub if_match: Option<String>,
    /// `Idempotency-Key`, or the key a task's call gets from its place in the task.
    pub idempotency_key: Option<String>,
    /// `Pragma` directives, lower case (`xn-force-index-update`).
    pub pragmas: Vec<String>,
    /// Set for requests that a task makes.
    pub source: Option<Source>,
}

impl Request {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: String::new(),
            body: Bytes::new(),
            body_type: BodyType::Json,
            if_match: None,
            idempotency_key: None,
            pragmas: Vec::new(),
            source: None,
        }
    }

    /// A GET of a link, which may have a query behind it.
    pub fn get(link: &str) -> Self {
        let (path, query) = link.split_once('?').unwrap_or((link, ""));
        Self { query: query.to_owned(), ..Self::new(Method::Get, path) }
    }

    #[must_use]
    pub fn with_json(mut self, body: &Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self
    }

    /// The value of a query parameter, percent-decoded; `Some("")` for a bare name. A leading `$`
    /// of the name is optional (`expand` and `$expand` are the same).
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let key = crate::links::percent_decode(key);
            let key = key.strip_prefix('$').unwrap_or(&key);
            (key == name).then(|| crate::links::percent_decode(&value.replace('+', " ")))
        })
    }

    pub fn has_pragma(&self, name: &str) -> bool {
        self.pragmas.iter().any(|pragma| pragma == name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    pub status: u16,
    /// JSON, or empty.
    pub body: Bytes,
    pub etag: Option<String>,
    /// `Retry-After`, in seconds.
    pub retry_after_seconds: Option<u32>,
    /// `Location`, for what was created.
    pub location: Option<String>,
    /// `Amrita-Behind`, for a read with `?consistency=local`.
    pub behind: Option<Behind>,
}

/// How far a replica may be behind its owner, as far as the owner was heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// So many entries of its partition are committed and were not applied here...
    pub entries: u64,
    /// ... and what was committed in so many milliseconds may be missing as well. None: the owner
    /// was not heard of yet.
    pub millis: Option<u64>,
}

impl Behind {
    /// In HTTP.
    pub const HEADER: &'static str = "amrita-behind";
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.millis {
            Some(millis) => write!(f, "entries={}, ms={millis}", self.entries),
            None => write!(f, "entries={}, ms=unknown", self.entries),
        }
    }
}

impl FromStr for Behind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (entries, millis) = text.split_once(", ").ok_or(())?;
        let entries = entries.strip_prefix("entries=").ok_or(())?.parse().map_err(|_| ())?;
        Ok(Self { entries, millis: millis.strip_prefix("ms=").ok_or(())?.parse().ok() })
    }
}

impl Response {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, Bytes::from(body.to_string()))
    }

    pub fn bytes(status: u16, body: Bytes) -> Self {
        Self { status, body, etag: None, retry_after_seconds: None, location: None, behind: None }
    }

    pub fn document(status: u16, document: &Document) -> Self {
        Self { etag: Some(document.etag()), ..Self::bytes(status, document.to_json_bytes()) }
    }

    pub fn is_success(&self) -> bool {
        self.status < 400
    }

    /// The body as JSON; `Null` when empty or not JSON.
    pub fn to_json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        Self {
            retry_after_seconds: problem.retry_after_seconds,
            ..Self::json(problem.status(), &problem.to_json())
        }
    }
}

impl From<Code> for Response {
    fn from(code: Code) -> Self {
        Problem::new(code, code.name()).into()
    }
}
