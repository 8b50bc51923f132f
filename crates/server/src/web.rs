//! The door for clients: HTTP/1.1 on the node's one port. A request becomes a
//! [`protocol::Request`] and goes to the node's thread; its answer comes back the same way.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{StatusCode, Uri};
use hyper_util::rt::TokioTimer;
use protocol::{
    Behind, BodyType, Code, Method, Outcome, Problem, Request, Response, links, node_group,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::courtesy::Courteous;
use crate::dial::{self, Ends};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::programs;

/// The largest body of a request.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// How much of a body over the limit is read and thrown away before the connection is cut.
const DISCARDED_BYTES_MAX: usize = 128 << 20;

/// The most open connections; more are answered with 503 and closed.
const CONNECTIONS_MAX: i64 = 10_000;

/// How long the body of a request may take to arrive.
const READ_MAX: Duration = Duration::from_secs(30);

/// How long a connection may be idle, or take to send the head of a request.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// How long an answer may take. The node answers long before; this is for its mistakes.
const ANSWER_MAX: Duration = Duration::from_secs(75);

/// The most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The longest `Idempotency-Key`: it is kept for a day, with every key of that day.
const KEY_BYTES_MAX: usize = 1_024;

/// How long to wait when no connection can be accepted (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait for answers to leave before the connections are cut at the end.
const CLOSING_MAX: Duration = Duration::from_millis(500);

type Answer = hyper::Response<Full<Bytes>>;

/// Everything that a connection needs.
pub(crate) struct Door {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ends: Ends,
    /// Changes when the node stops: connections then end after their present request.
    pub(crate) closing: watch::Receiver<()>,
}

impl Door {
    /// Accepts until the node stops, then waits a little for the answers to leave.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut closing = self.closing.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = closing.changed() => break,
            };
            match accepted {
                Ok((socket, _)) => {
                    let open = self.metrics.connections.fetch_add(1, Ordering::Relaxed);
                    let door = Arc::clone(&self);
                    if open < CONNECTIONS_MAX {
                        tokio::spawn(door.connection(socket));
                    } else {
                        door.turn_away(&socket);
                    }
                }
                Err(error) => {
                    tracing::warn!("no connection can be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let deadline = Instant::now() + CLOSING_MAX;
        while self.metrics.connections.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn connection(self: Arc<Self>, socket: TcpStream) {
        let metrics = Arc::clone(&self.metrics);
        if socket.set_nodelay(true).is_ok() {
            let mut closing = self.closing.clone();
            let service = service_fn(move |request| Arc::clone(&self).answer(request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE_MAX)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(Courteous::new(socket), service)
                .with_upgrades();
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                _ = closing.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::trace!("a connection ended: {error}");
            }
        }
        metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn turn_away(&self, socket: &TcpStream) {
        let text = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
                    Connection: close\r\n\r\n";
        if let Err(error) = socket.try_write(text.as_bytes()) {
            tracing::trace!("a connection too many could not be told so: {error}");
        }
        self.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }

    async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
    ) -> Result<Answer, Infallible> {
        let begun = Instant::now();
        let method = method_name(request.method());
        let answer = match request.uri().path() {
            "/livez" => plain("alive\n"),
            "/metrics" => plain(self.metrics.show()),
            "/readyz" => to_http(self.readiness().await),
            dial::LINK_PATH => self.link(request),
            path if is_attach(path) && method == "GET" => self.attach(request),
            _ => match to_request(request).await {
                Ok(request) => to_http(self.ask(request).await),
                Err(problem) => to_http(problem.into()),
            },
        };
        self.metrics.request(method, answer.status().as_u16(), begun.elapsed());
        Ok(answer)
    }

    /// Hands a request to the node and waits for its answer.
    async fn ask(&self, request: Request) -> Response {
        let unknown = request.method.is_write().then_some(Outcome::Unknown);
        let (sender, receiver) = oneshot::channel();
        if self.inbox.request(request, sender).is_err() {
            let message = "the node has more requests than it can take; try again";
            let problem = Problem::new(Code::Busy, message).with_outcome(Outcome::NotApplied);
            return problem.into();
        }
        let lost = |code, message: &str| {
            let mut problem = Problem::new(code, message);
            problem.outcome = unknown;
            Response::from(problem)
        };
        match tokio::time::timeout(ANSWER_MAX, receiver).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => lost(Code::Stopping, "the node stopped before it could answer"),
            Err(_) => lost(Code::Timeout, "the node did not answer in time"),
        }
    }

    /// Ready when every partition has an owner that this node knows.
    async fn readiness(&self) -> Response {
        let answer = self.ask(Request::new(Method::Get, node_group::LINK)).await;
        let state = match serde_json::from_slice::<node_group::NodeGroupState>(&answer.body) {
            Ok(state) if answer.is_success() => state,
            _ => return Response { status: 503, ..answer },
        };
        let ownerless = state.partition_owners.iter().filter(|owner| owner.is_none()).count();
        let partitions = state.partition_owners.len();
        let ready = partitions > 0 && ownerless == 0;
        let body = serde_json::json!({
            "ready": ready,
            "partitions": partitions,
            "partitionsWithoutOwner": ownerless,
        });
        Response {
            retry_after_seconds: (!ready).then_some(1),
            ..Response::json(if ready { 200 } else { 503 }, &body)
        }
    }

    /// Another node wants a link.
    fn link(&self, request: hyper::Request<Incoming>) -> Answer {
        let headers = request.headers();
        if text(headers, &header::UPGRADE) != Some(dial::LINK_PROTOCOL) {
            let message = "this is where nodes link up; use any other path under /core";
            return to_http(Problem::bad_request(message).into());
        }
        let version = text(headers, &dial::LINK_VERSION_HEADER).unwrap_or("none");
        if version != dial::LINK_VERSION {
            let message =
                format!("links have version {}, the other node's {version}", dial::LINK_VERSION);
            return to_http(Problem::bad_request(message).into());
        }
        self.upgrade(request, dial::LINK_PROTOCOL, Ends::adopt)
    }

    /// A program wants to attach to an instance: which one, its first frame says.
    fn attach(&self, request: hyper::Request<Incoming>) -> Answer {
        let protocol = text(request.headers(), &header::UPGRADE).unwrap_or_default();
        if !protocol.eq_ignore_ascii_case(programs::PROTOCOL) {
            let message = "programs attach here, in the immortal protocol: ask with the headers \
                           'Connection: Upgrade' and 'Upgrade: amrita-immortal'";
            let mut answer = to_http(Problem::new(Code::UpgradeRequired, message).into());
            let protocol = HeaderValue::from_static(programs::PROTOCOL);
            answer.headers_mut().insert(header::UPGRADE, protocol);
            return answer;
        }
        if !self.ends.has_room_for_a_program() {
            let message = "too many programs are attached to this node; end some first";
            return to_http(Problem::new(Code::Busy, message).into());
        }
        self.upgrade(request, programs::PROTOCOL, Ends::adopt_program)
    }

    /// Says yes, and hands the connection over once that is said.
    fn upgrade(
        &self,
        request: hyper::Request<Incoming>,
        protocol: &'static str,
        adopt: fn(&Ends, Upgraded, watch::Receiver<()>) -> std::io::Result<()>,
    ) -> Answer {
        let ends = self.ends.clone();
        let closing = self.closing.clone();
        tokio::spawn(async move {
            let adopted = match hyper::upgrade::on(request).await {
                Ok(upgraded) => adopt(&ends, upgraded, closing),
                Err(error) => Err(std::io::Error::other(error)),
            };
            if let Err(error) = adopted {
                tracing::debug!("a connection could not be taken over for {protocol}: {error}");
            }
        });
        let mut answer = Answer::new(Full::default());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
        answer
    }
}

/// Whether programs attach to an instance at this path: `/core/immortals/NAME/attach`.
fn is_attach(path: &str) -> bool {
    let rest = path.strip_prefix("/core/immortals/");
    let name = rest.and_then(|rest| rest.strip_suffix("/attach"));
    name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// For the metrics: the methods there are, and one name for all others.
fn method_name(method: &hyper::Method) -> &'static str {
    match to_method(method) {
        Some(Method::Get) if *method == hyper::Method::HEAD => "HEAD",
        Some(method) => method.name(),
        None => "OTHER",
    }
}

fn to_method(method: &hyper::Method) -> Option<Method> {
    Some(match *method {
        // A HEAD is a GET whose body is not sent: hyper leaves it out.
        hyper::Method::GET | hyper::Method::HEAD => Method::Get,
        hyper::Method::POST => Method::Post,
        hyper::Method::PUT => Method::Put,
        hyper::Method::PATCH => Method::Patch,
        hyper::Method::DELETE => Method::Delete,
        hyper::Method::OPTIONS => Method::Options,
        _ => return None,
    })
}

async fn to_request(request: hyper::Request<Incoming>) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let method = to_method(&parts.method).ok_or_else(|| {
        let message = format!("there is no verb {} here", parts.method);
        Problem::new(Code::MethodNotAllowed, message)
    })?;
    let refused = |mut problem: Problem| {
        problem.outcome = method.is_write().then_some(Outcome::NotApplied);
        problem
    };
    let mut request = head(method, &parts.uri, &parts.headers).map_err(refused)?;
    let waits = parts.headers.contains_key(header::EXPECT);
    request.body = read_body(body, waits).await.map_err(refused)?;
    Ok(request)
}

/// Everything but the body.
fn head(method: Method, uri: &Uri, headers: &HeaderMap) -> Result<Request, Problem> {
    let mut request = Request::new(method, path(uri.path()));
    request.query = uri.query().unwrap_or_default().to_owned();
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    if kind.trim_start().to_ascii_lowercase().starts_with("application/merge-patch+json") {
        request.body_type = BodyType::MergePatch;
    }
    request.if_match = owned(headers, &header::IF_MATCH)?;
    request.idempotency_key = key(headers)?;
    for value in headers.get_all(header::PRAGMA) {
        let directives = value.to_str().unwrap_or_default().split([';', ',']);
        let directives = directives.map(|text| text.trim().to_ascii_lowercase());
        request.pragmas.extend(directives.filter(|text| !text.is_empty()));
    }
    Ok(request)
}

const IDEMPOTENCY_KEY: header::HeaderName = header::HeaderName::from_static("idempotency-key");

/// Decoded, and without a slash at the end: `/core/examples/` is `/core/examples`.
fn path(raw: &str) -> String {
    let mut path = links::percent_decode(raw);
    if path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    path
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn owned(headers: &HeaderMap, name: &header::HeaderName) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let wrong = |_| Problem::bad_request(format!("the header {name} must be plain ASCII"));
    value.to_str().map(|text| Some(text.to_owned())).map_err(wrong)
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let key = owned(headers, &IDEMPOTENCY_KEY)?;
    match &key {
        Some(key) if key.is_empty() || key.len() > KEY_BYTES_MAX => {
            Err(Problem::bad_request(format!(
                "the header {IDEMPOTENCY_KEY} is {} bytes long; it must have from 1 to {KEY_BYTES_MAX}",
                key.len()
            )))
        }
        _ => Ok(key),
    }
}

/// `waits`: the client asked whether to send the body at all.
async fn read_body(body: Incoming, waits: bool) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = u64::try_from(BODY_BYTES_MAX).expect("a constant fits");
    if body.size_hint().lower() > limit && waits {
        return Err(too_large());
    }
    match tokio::time::timeout(READ_MAX, collect(body)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::new(Code::BadBody, "the body did not arrive in time")),
    }
}

async fn collect(mut body: Incoming) -> Result<Bytes, Problem> {
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(Code::BadBody, format!("the body did not arrive whole: {error}"))
        })?;
        let Ok(chunk) = frame.into_data() else { continue };
        bytes += chunk.len();
        if bytes <= BODY_BYTES_MAX {
            chunks.push(chunk);
        } else if bytes > DISCARDED_BYTES_MAX {
            return Err(too_large());
        } else {
            // Read on and throw away: a client that is cut off in the middle of its body does not
            // see the answer that tells it why.
            chunks.clear();
        }
    }
    match chunks.len() {
        _ if bytes > BODY_BYTES_MAX => Err(too_large()),
        1 => Ok(chunks.remove(0)),
        _ => Ok(chunks.concat().into()),
    }
}

fn too_large() -> Problem {
    let message = format!("the body is over the limit of {BODY_BYTES_MAX} bytes");
    Problem::new(Code::TooLarge, message)
}

fn to_http(response: Response) -> Answer {
    let mut answer = Answer::new(Full::new(response.body));
    *answer.status_mut() =
        StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let behind = response.behind.map(|behind| behind.to_string());
    let texts = [
        (header::ETAG, response.etag),
        (header::LOCATION, response.location),
        (header::HeaderName::from_static(Behind::HEADER), behind),
    ];
    for (name, value) in texts {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    if let Some(seconds) = response.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

fn plain(text: impl Into<Bytes>) -> Answer {
    let mut answer = Answer::new(Full::new(text.into()));
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (header::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_head_becomes_a_request() {
        let uri: Uri = "/core/examples/a%20b/?documentVersion=3&x=%41".parse().unwrap();
        let headers = headers(&[
            ("content-type", "Application/Merge-Patch+JSON; charset=utf-8"),
            ("if-match", "\"1.2\""),
            ("idempotency-key", "k"),
            ("pragma", "xn-Force-Index-Update; no-cache"),
        ]);
        let request = head(Method::Patch, &uri, &headers).unwrap();
        assert_eq!(request.path, "/core/examples/a b");
        assert_eq!(request.query, "documentVersion=3&x=%41");
        assert_eq!(request.body_type, BodyType::MergePatch);
        assert_eq!(request.if_match.as_deref(), Some("\"1.2\""));
        assert_eq!(request.idempotency_key.as_deref(), Some("k"));
        assert_eq!(request.pragmas, ["xn-force-index-update", "no-cache"]);
    }

    #[test]
    fn a_key_that_is_empty_or_too_long_is_refused() {
        let uri: Uri = "/core/examples".parse().unwrap();
        let with = |key: String| {
            let mut headers = HeaderMap::new();
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&key).unwrap());
            head(Method::Post, &uri, &headers)
        };
        assert!(with("k".repeat(KEY_BYTES_MAX)).is_ok());
        for wrong in [String::new(), "k".repeat(KEY_BYTES_MAX + 1)] {
            let problem = with(wrong).unwrap_err();
            assert_eq!(problem.status(), 400);
            assert!(problem.message.contains("from 1 to 1024"), "{problem}");
        }
    }

    #[test]
    fn programs_attach_at_the_path_of_an_instance_and_nowhere_else() {
        assert!(is_attach("/core/immortals/counter/attach"));
        for other in
            ["/core/immortals/attach", "/core/immortals//attach", "/core/immortals/a/b/attach"]
        {
            assert!(!is_attach(other), "{other}");
        }
    }

    #[test]
    fn a_response_keeps_its_headers() {
        let response = Response {
            etag: Some("\"1.2\"".into()),
            retry_after_seconds: Some(1),
            location: Some("/core/examples/one".into()),
            behind: Some(Behind { entries: 2, millis: Some(37) }),
            ..Response::bytes(503, Bytes::from_static(b"{}"))
        };
        let answer = to_http(response);
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["etag"], "\"1.2\"");
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(answer.headers()["location"], "/core/examples/one");
        assert_eq!(answer.headers()["amrita-behind"], "entries=2, ms=37");
        assert_eq!(answer.headers()["content-type"], "application/json");
    }
}
