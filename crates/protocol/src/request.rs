//! A request and its answer, free of HTTP's clothes: what a client sent, what a node passes to the
//! owner, and what a task asks of other services are all this one type.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Code, Conditions, Document, Epoch, GroupId, Principal, Problem, WriteQuorum, links};

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

    pub const ALL: [Self; 6] =
        [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// The verb of this name, in capital letters or not.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name().eq_ignore_ascii_case(name))
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
    /// The action that is asked of the document at the path, if this is no plain change of it.
    pub action: Option<String>,
    /// The raw query, without `?`; empty if none.
    pub query: String,
    pub body: Bytes,
    pub body_type: BodyType,
    /// `If-Match` and `If-None-Match`.
    pub conditions: Conditions,
    /// `x-xenon-rpl-quorum`.
    pub quorum: Option<WriteQuorum>,
    /// `Idempotency-Key`, or the key a task's call gets from its place in the task.
    pub idempotency_key: Option<String>,
    /// `Pragma` directives, lower case (`xn-force-index-update`).
    pub pragmas: Vec<String>,
    /// Set for requests that a task makes.
    pub source: Option<Source>,
    /// On whose behalf.
    pub principal: Principal,
}

impl Request {
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            action: None,
            query: String::new(),
            body: Bytes::new(),
            body_type: BodyType::Json,
            conditions: Conditions::default(),
            quorum: None,
            idempotency_key: None,
            pragmas: Vec::new(),
            source: None,
            principal: Principal::default(),
        }
    }

    /// A GET of a link, which may have a query behind it.
    pub fn get(link: &str) -> Self {
        let (path, query) = link.split_once('?').unwrap_or((link, ""));
        Self { query: query.to_owned(), ..Self::new(Method::Get, path) }
    }

    #[must_use]
    pub fn on_behalf_of(self, principal: Principal) -> Self {
        Self { principal, ..self }
    }

    #[must_use]
    pub fn with_json(mut self, body: &Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self
    }

    /// All query parameters in their order, percent-decoded, with those that stand there twice; the
    /// value of a bare name is empty. A leading `$` of a name is taken off: `expand` and `$expand`
    /// are the same.
    pub fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        self.query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name);
            let name = name.strip_prefix('$').unwrap_or(&name).to_owned();
            (name, decoded(&value.replace('+', " ")))
        })
    }

    /// The value of a query parameter: of the first one, if it is there more than once.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// # Errors
    /// 400 when a parameter is not among `known`, or is there more than once: it would be ignored.
    pub fn check_parameters(&self, known: &[&str]) -> Result<(), Problem> {
        if self.query.is_empty() {
            return Ok(());
        }
        links::percent_decode(&self.query)?;
        let mut seen: Vec<String> = Vec::new();
        for (name, _) in self.parameters() {
            if seen.contains(&name) {
                let message =
                    format!("the parameter '{name}' is there more than once; send it once");
                return Err(Problem::bad_request(message));
            }
            if !known.contains(&name.as_str()) {
                let message = match known {
                    [] => format!("{} takes no parameters, and so no '{name}'", self.path),
                    _ => format!(
                        "{} has no parameter '{name}'; it takes {}",
                        self.path,
                        known.join(", ")
                    ),
                };
                return Err(Problem::bad_request(message));
            }
            seen.push(name);
        }
        Ok(())
    }

    /// # Errors
    /// 400 when a pragma is not among `known`: it would be ignored. HTTP's own `no-cache` asks for
    /// what every read does.
    pub fn check_pragmas(&self, known: &[&str]) -> Result<(), Problem> {
        let is_known = |pragma: &str| pragma == "no-cache" || known.contains(&pragma);
        let Some(unknown) = self.pragmas.iter().find(|pragma| !is_known(pragma)) else {
            return Ok(());
        };
        let (method, path) = (self.method.name(), &self.path);
        let taken = match known {
            [] => "none".to_owned(),
            _ => known.join(", "),
        };
        Err(Problem::bad_request(format!(
            "{method} {path} does not know the pragma '{unknown}'; it takes {taken}. Leave it out"
        )))
    }

    pub fn has_pragma(&self, name: &str) -> bool {
        self.pragmas.iter().any(|pragma| pragma == name)
    }
}

/// What cannot be decoded stays as it is: `check_parameters` refuses it.
fn decoded(text: &str) -> String {
    links::percent_decode(text).unwrap_or_else(|_| text.to_owned())
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
    /// This many entries of its partition are committed and were not applied here...
    pub entries: u64,
    /// ... and what was committed in this many milliseconds may be missing as well. None: the owner
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

    /// The document as the node `owner`, which owns it at present, shows it.
    pub fn document(status: u16, document: &Document, owner: &str) -> Self {
        Self { etag: Some(document.etag()), ..Self::bytes(status, document.to_json_bytes(owner)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_order_and_those_that_are_there_twice() {
        let request = Request::get("/x?$filter=a+b&expand&filter=%41&");
        let all: Vec<_> = request.parameters().collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(all, [pair("filter", "a b"), pair("expand", ""), pair("filter", "A")]);
        assert_eq!(request.parameter("filter").as_deref(), Some("a b"));
        let twice = request.check_parameters(&["filter", "expand"]).unwrap_err();
        assert!(twice.message.contains("'filter' is there more than once"), "{twice}");
        let unknown = request.check_parameters(&["filter"]).unwrap_err();
        assert!(unknown.message.contains("no parameter 'expand'; it takes filter"), "{unknown}");
        assert!(Request::get("/x?expand").check_parameters(&["expand"]).is_ok());
        assert!(Request::get("/x?expand=%ff").check_parameters(&["expand"]).is_err());
    }

    #[test]
    fn a_pragma_that_is_not_known_is_named() {
        let mut request = Request::get("/x");
        request.pragmas = vec!["no-cache".into(), "xn-other".into()];
        let problem = request.check_pragmas(&["xn-queue"]).unwrap_err();
        assert!(problem.message.contains("'xn-other'; it takes xn-queue"), "{problem}");
        assert!(request.check_pragmas(&["xn-other"]).is_ok());
    }
}
