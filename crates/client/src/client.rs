//! A client of a cluster: asks one node, goes to the next when that one does not answer, and
//! repeats a write under one `Idempotency-Key`, so that a repetition is not a second write.

use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use protocol::{Address, Method, Request, Response, base64url};
use serde::Serialize;
use tokio::time::Instant;

use crate::keys;
use crate::socket::Trust;
use crate::wire::{Wire, WireError};

/// How long a request is tried unless the client is told otherwise.
const PATIENCE_DEFAULT: Duration = Duration::from_secs(15);

/// How long it may take to connect to a node before the next one is tried.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// The pause after all nodes were tried once in vain; doubled with each further time.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// How long one node may think about what may be repeated before the next one is asked: longer than
/// a node takes until it gives up a request, which is ten seconds. Who asks a node to wait asks for
/// less.
pub const ATTEMPT_MAX: Duration = Duration::from_secs(12);

/// Of what is left of the patience one attempt takes this part at most, so that a node that accepts
/// a request and says nothing leaves time for the next one.
const ATTEMPT_PART: f64 = 0.8;

/// The most idle connections that are kept for each node.
const IDLE_MAX: usize = 1_024;

/// Codes of answers that say "try again": the request was surely not carried out, or its key makes
/// it safe to repeat.
const TRY_AGAIN: [&str; 5] = ["NO_OWNER", "NO_PROGRAM", "BUSY", "STOPPING", "TIMEOUT"];

/// A client with its connections. To be shared: all methods take `&self`.
pub struct Client {
    nodes: Vec<Node>,
    /// The node that answered last.
    preferred: AtomicUsize,
    patience: Duration,
    /// How much of it is spent while no node can be reached at all.
    reach_within: Duration,
    /// With a number behind it, the key of a write. `None` sends no keys and repeats no writes.
    key_prefix: Option<String>,
    key_number: AtomicU64,
    /// The header `Authorization`: who asks.
    authorization: Option<String>,
    /// Whose certificates are believed; without it no node is asked by TLS.
    trust: Option<Trust>,
}

struct Node {
    address: Address,
    idle: Mutex<Vec<Wire>>,
}

/// No answer was to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// An address that is none.
    Address(String),
    /// No node could be reached, or each broke the connection.
    Unreachable { tried: Vec<String>, why: String, outcome_unknown: bool },
    /// The patience was over while a node was thinking.
    OutOfTime { tried: Vec<String>, outcome_unknown: bool },
    /// The request cannot be written as HTTP.
    Malformed(String),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = |f: &mut fmt::Formatter<'_>, is_unknown: bool| {
            if is_unknown { f.write_str("; the write may have happened") } else { Ok(()) }
        };
        match self {
            Self::Address(why) | Self::Malformed(why) => f.write_str(why),
            Self::Unreachable { tried, why, outcome_unknown } => {
                write!(f, "no node answers at {}: {why}", tried.join(", "))?;
                unknown(f, *outcome_unknown)
            }
            Self::OutOfTime { tried, outcome_unknown } => {
                write!(f, "no answer in time from {}", tried.join(", "))?;
                unknown(f, *outcome_unknown)
            }
        }
    }
}

impl std::error::Error for ClientError {}

impl Client {
    /// A client of the nodes at these addresses (`http://host:port`); the first is asked first.
    ///
    /// # Errors
    /// When there is none, or one is no address.
    pub fn new<A: AsRef<str>>(addresses: &[A]) -> Result<Self, ClientError> {
        let parse = |address: &A| Address::parse(address.as_ref()).map_err(ClientError::Address);
        let nodes = addresses
            .iter()
            .map(|address| Ok(Node { address: parse(address)?, idle: Mutex::default() }))
            .collect::<Result<Vec<_>, ClientError>>()?;
        if nodes.is_empty() {
            return Err(ClientError::Address("the address of at least one node is needed".into()));
        }
        Ok(Self {
            nodes,
            preferred: AtomicUsize::new(0),
            patience: PATIENCE_DEFAULT,
            reach_within: PATIENCE_DEFAULT,
            key_prefix: Some(random_prefix()),
            key_number: AtomicU64::new(0),
            authorization: None,
            trust: None,
        })
    }

    /// How long a request is tried, all repetitions together.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How long to look for a node when none can be reached; by default as long as for anything
    /// else. With zero each node is tried once.
    #[must_use]
    pub fn reach_within(self, reach_within: Duration) -> Self {
        Self { reach_within, ..self }
    }

    /// Sends no keys with writes, and so repeats a write only if it was surely not carried out.
    #[must_use]
    pub fn without_keys(self) -> Self {
        Self { key_prefix: None, ..self }
    }

    /// Believes the certificates that an authority in this file (PEM) has signed. Needed for
    /// addresses with `https://`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn with_ca_file(self, file: &Path) -> Result<Self, ClientError> {
        let trust = Trust::read(file).map_err(ClientError::Address)?;
        Ok(Self { trust: Some(trust), ..self })
    }

    /// The same with the text of such a file.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn with_ca(self, pem: &str) -> Result<Self, ClientError> {
        let trust = Trust::of(pem.as_bytes());
        let wrong = |why| ClientError::Address(format!("the authority to believe: {why}"));
        Ok(Self { trust: Some(trust.map_err(wrong)?), ..self })
    }

    /// Shows this token with each request.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self { authorization: Some(format!("Bearer {token}")), ..self }
    }

    /// Shows name and password with each request: for logging in.
    #[must_use]
    pub fn with_password(self, name: &str, password: &str) -> Self {
        let text = base64url::encode(format!("{name}:{password}").as_bytes());
        let padding = "=".repeat((4 - text.len() % 4) % 4);
        let text = text.replace('-', "+").replace('_', "/");
        Self { authorization: Some(format!("Basic {text}{padding}")), ..self }
    }

    /// The addresses in the order given.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.nodes.iter().map(|node| &node.address)
    }

    /// # Errors
    /// When no node answers. An answer that tells of an error is an answer.
    pub async fn get(&self, path: &str) -> Result<Response, ClientError> {
        self.send(request(Method::Get, path)).await
    }

    /// # Errors
    /// As [`Self::get`], or when the body cannot be written as JSON.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<Response, ClientError> {
        self.send(with_body(Method::Post, path, body)?).await
    }

    /// # Errors
    /// As [`Self::post`].
    pub async fn put(&self, path: &str, body: &impl Serialize) -> Result<Response, ClientError> {
        self.send(with_body(Method::Put, path, body)?).await
    }

    /// # Errors
    /// As [`Self::post`].
    pub async fn patch(&self, path: &str, body: &impl Serialize) -> Result<Response, ClientError> {
        self.send(with_body(Method::Patch, path, body)?).await
    }

    /// # Errors
    /// As [`Self::get`].
    pub async fn delete(&self, path: &str) -> Result<Response, ClientError> {
        self.send(request(Method::Delete, path)).await
    }

    /// Sends any request. A write without a key of its own gets one.
    ///
    /// An answer that tells of an error says in `outcome` what is known of the write as a whole:
    /// `unknown` when an attempt before it broke off, unless the answer speaks for the key.
    ///
    /// # Errors
    /// As [`Self::get`], or when the path does not begin with `/`.
    pub async fn send(&self, mut request: Request) -> Result<Response, ClientError> {
        if !request.path.starts_with('/') {
            let why = format!("a path begins with '/', and '{}' does not", request.path);
            return Err(ClientError::Malformed(why));
        }
        let takes_key = request.method.is_write() && keys::are_taken_by(&request);
        if takes_key && request.idempotency_key.is_none() {
            request.idempotency_key = self.next_key();
        }
        let mut attempts = Attempts::new(self.patience, self.repeat(&request, takes_key));
        loop {
            let start = self.preferred.load(Ordering::Relaxed);
            for n in 0..self.nodes.len() {
                let which = (start + n) % self.nodes.len();
                match self.attempt(which, &request, &mut attempts).await? {
                    Next::Answer(response) => {
                        self.preferred.store(which, Ordering::Relaxed);
                        return Ok(attempts.judged(response));
                    }
                    Next::Another => {}
                    Next::Nobody => return attempts.in_vain(self),
                }
            }
            let lost = !attempts.reached && attempts.begun.elapsed() >= self.reach_within;
            if lost || !attempts.pause().await {
                return attempts.in_vain(self);
            }
        }
    }

    /// Why, if at all, a request may be sent once more after an attempt that may have been done.
    fn repeat(&self, request: &Request, takes_key: bool) -> Repeat {
        let has_keys = self.key_prefix.is_some();
        if !request.method.is_write() {
            Repeat::Read
        } else if request.idempotency_key.is_some() {
            Repeat::ByKey
        } else if has_keys && !takes_key && !keys::is_done_each_time(request) {
            Repeat::SameTwice
        } else {
            Repeat::Never
        }
    }

    /// Asks one node, and notes what that tells of the request.
    async fn attempt(
        &self,
        which: usize,
        request: &Request,
        attempts: &mut Attempts,
    ) -> Result<Next, ClientError> {
        let repeat = attempts.repeat;
        let until = attempts.until();
        let mut sent = false;
        let asked = self.ask(&self.nodes[which], request, &mut sent);
        match tokio::time::timeout_at(until, asked).await {
            Ok(Ok(response)) if !is_try_again(&response, repeat.is_safe()) => {
                return Ok(Next::Answer(response));
            }
            Ok(Ok(response)) => {
                attempts.reached = true;
                attempts.in_doubt |= repeat.is_write() && is_unknown(&response);
                attempts.answer = Some(response);
            }
            Ok(Err(WireError::Malformed(why))) => return Err(ClientError::Malformed(why)),
            Ok(Err(WireError::NotSent(why))) => attempts.why = why,
            Ok(Err(WireError::Broken(why))) => {
                attempts.broke_off(why);
                if !repeat.is_safe() {
                    return Ok(Next::Nobody);
                }
            }
            Err(_) => {
                let why = format!("{} gave no answer in time", self.nodes[which].address);
                if sent {
                    attempts.broke_off(why);
                } else {
                    attempts.why = why;
                }
                if until >= attempts.deadline {
                    attempts.is_late = true;
                    return Ok(Next::Nobody);
                }
            }
        }
        Ok(Next::Another)
    }

    /// How long a batch is sent again while some of it is in doubt.
    pub(crate) fn patience_of_batches(&self) -> Duration {
        self.patience
    }

    /// A key that no other write has, unless the client sends none.
    pub fn next_key(&self) -> Option<String> {
        let prefix = self.key_prefix.as_ref()?;
        Some(format!("{prefix}-{}", self.key_number.fetch_add(1, Ordering::Relaxed)))
    }

    /// One attempt at one node. A connection that was idle may have been closed by the node in the
    /// meantime: that is no failure, another one is made.
    /// `sent` says afterwards whether the node may have got the request.
    async fn ask(
        &self,
        node: &Node,
        request: &Request,
        sent: &mut bool,
    ) -> Result<Response, WireError> {
        let authorization = self.authorization.as_deref();
        if authorization.is_some() && !node.address.is_tls() && !node.address.is_loopback() {
            return Err(WireError::Malformed(format!(
                "a token or a password is not sent to {} in the clear: write https:// or show none",
                node.address
            )));
        }
        while let Some(mut wire) = node.take() {
            *sent = true;
            match wire.ask(&node.address, request, authorization).await {
                Ok(response) => {
                    node.keep(wire);
                    return Ok(response);
                }
                Err(WireError::NotSent(_)) => *sent = false,
                Err(other) => return Err(other),
            }
        }
        let connecting =
            tokio::time::timeout(CONNECT_MAX, Wire::connect(&node.address, self.trust.as_ref()));
        let late = |_| WireError::NotSent(format!("no connection within {CONNECT_MAX:?}"));
        let mut wire = connecting.await.map_err(late)??;
        *sent = true;
        let response = wire.ask(&node.address, request, authorization).await?;
        node.keep(wire);
        Ok(response)
    }

    fn tried(&self) -> Vec<String> {
        self.addresses().map(Address::to_string).collect()
    }
}

impl Node {
    fn take(&self) -> Option<Wire> {
        self.idle.lock().expect("no one panics while holding it").pop()
    }

    fn keep(&self, wire: Wire) {
        let mut idle = self.idle.lock().expect("no one panics while holding it");
        if wire.is_reusable() && idle.len() < IDLE_MAX {
            idle.push(wire);
        }
    }
}

/// Why a request may be sent once more after an attempt that may have been done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It changes nothing.
    Read,
    /// Under its key it is one write, however often it is sent.
    ByKey,
    /// To ask for the same twice there is to have it once. A later answer does not tell what became
    /// of an earlier attempt.
    SameTwice,
    Never,
}

impl Repeat {
    fn is_write(self) -> bool {
        self != Self::Read
    }

    fn is_safe(self) -> bool {
        self != Self::Never
    }
}

/// What follows from an attempt.
enum Next {
    Answer(Response),
    /// The next node is asked.
    Another,
    /// There is no time, or the request must not be sent once more.
    Nobody,
}

/// How the attempts at one request went so far.
struct Attempts {
    repeat: Repeat,
    begun: Instant,
    deadline: Instant,
    /// Some node was there, whatever it said.
    reached: bool,
    pause: Duration,
    /// The last answer that said "try again".
    answer: Option<Response>,
    why: String,
    /// An attempt broke off, and the write may have been done.
    in_doubt: bool,
    /// The patience was over while a node was thinking.
    is_late: bool,
}

impl Attempts {
    fn new(patience: Duration, repeat: Repeat) -> Self {
        let begun = Instant::now();
        Self {
            repeat,
            begun,
            deadline: begun + patience,
            reached: false,
            pause: PAUSE_MIN,
            answer: None,
            why: String::new(),
            in_doubt: false,
            is_late: false,
        }
    }

    /// When the next attempt is given up.
    fn until(&self) -> Instant {
        if !self.repeat.is_safe() {
            return self.deadline;
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        let part = left.mul_f64(ATTEMPT_PART).min(ATTEMPT_MAX);
        // With so little left there is no other attempt.
        if left - part < PAUSE_MIN { self.deadline } else { Instant::now() + part }
    }

    fn broke_off(&mut self, why: String) {
        self.why = why;
        self.reached = true;
        self.in_doubt = self.repeat.is_write();
    }

    /// Waits a little; false when there is no time for another attempt.
    async fn pause(&mut self) -> bool {
        if Instant::now() + self.pause >= self.deadline {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }

    /// A node's own words are better than ours.
    fn in_vain(mut self, client: &Client) -> Result<Response, ClientError> {
        if let Some(answer) = self.answer.take() {
            return Ok(self.judged(answer));
        }
        let (tried, outcome_unknown) = (client.tried(), self.in_doubt);
        Err(if self.is_late {
            ClientError::OutOfTime { tried, outcome_unknown }
        } else {
            ClientError::Unreachable { tried, why: self.why, outcome_unknown }
        })
    }

    /// The answer, and what it tells of the write as a whole: one node's "surely not" is not the
    /// whole truth while another attempt may have been done.
    fn judged(&self, answer: Response) -> Response {
        let is_settled = self.repeat == Repeat::ByKey && BY_KEY.contains(&answer.status);
        if self.in_doubt && answer.status >= 300 && !is_settled {
            return in_doubt(answer);
        }
        answer
    }
}

const UNKNOWN: &str = "unknown";

/// Errors of these kinds are told by the owner, which has looked for the key before. All other
/// errors may come from a node that knows nothing of what became of the key; a 404 may also mean
/// that the service was taken away meanwhile, and a 422 (the key is that of another request) that
/// an earlier attempt was done: a node salts a password anew for each.
const BY_KEY: [u16; 3] = [400, 409, 412];

fn is_unknown(response: &Response) -> bool {
    response.to_json()["outcome"] == UNKNOWN
}

/// The same answer, which does not claim to know what became of the write.
fn in_doubt(answer: Response) -> Response {
    let mut body = answer.to_json();
    let Some(fields) = body.as_object_mut() else { return answer };
    fields.insert("outcome".into(), UNKNOWN.into());
    if let Some(serde_json::Value::String(message)) = fields.get_mut("message") {
        message.push_str("; an attempt before broke off, and the write may have happened");
    }
    Response { body: body.to_string().into(), ..answer }
}

/// Whether the node asks for the same request again. `safe`: a repetition does no harm.
fn is_try_again(response: &Response, safe: bool) -> bool {
    if response.status != 503 && response.status != 504 {
        return false;
    }
    let body = response.to_json();
    let known = |code: &str| TRY_AGAIN.contains(&code);
    body["code"].as_str().is_some_and(known) && (safe || body["outcome"] == "notApplied")
}

/// No two clients may have the same, or the one's write would be taken for a repetition of the
/// other's and never be done: so it comes from the system's random source, which promises that.
fn random_prefix() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has a source of random numbers");
    format!("{:032x}", u128::from_le_bytes(bytes))
}

/// A request for a path that may have a query behind it.
pub fn request(method: Method, path: &str) -> Request {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    Request { query: query.to_owned(), ..Request::new(method, path) }
}

fn with_body(method: Method, path: &str, body: &impl Serialize) -> Result<Request, ClientError> {
    // Not by way of a `Value`, which cannot hold every number.
    let body = serde_json::to_vec(body)
        .map_err(|error| ClientError::Malformed(format!("the body is not JSON: {error}")))?;
    Ok(Request { body: body.into(), ..request(method, path) })
}
