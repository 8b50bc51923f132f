//! Logging in: what of the rules needs chance, time or a password, and so cannot be in the node.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use access::{CAN_I, CREDENTIALS, LOGIN, TOKENS, USERS, WHO_AM_I};
use hyper::header::{self, HeaderMap, HeaderValue};
use node::Resource;
use protocol::query::{LINK as QUERY_TASKS, Query};
use protocol::{Code, Method, Outcome, Principal, Problem, Request, Response};
use serde_json::{Map, Value, json};
use services::Catalogue;

use crate::ask::{ask, ask_as_system};
use crate::base64::decode_base64;
use crate::browsers::only;
use crate::http_answer::{Answer, to_http};
use crate::inbox::Inbox;
use crate::passwords::{PASSWORD_BYTES_MAX, Passwords};
use crate::principal::{NewToken, XENON_COOKIE, XENON_TOKEN, new_token};
use crate::throttle::Throttle;

/// How long a session lasts when nothing is said (Xenon's hour)...
const SESSION_SECONDS: u64 = 3_600;

/// ... and at most.
const SESSION_SECONDS_MAX: u64 = 30 * 86_400;

/// How long a token that was asked for lasts when nothing is said...
const TOKEN_SECONDS: u64 = 90 * 86_400;

/// ... and at most.
const TOKEN_SECONDS_MAX: u64 = 10 * 366 * 86_400;

/// Who lets people in.
pub(crate) struct Doorkeeper {
    /// Nobody does anything without a right to it.
    pub(crate) is_on: bool,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) passwords: Passwords,
    throttle: Throttle,
    /// What of a cookie says that it is never sent without TLS.
    secure: &'static str,
}

/// What of a request's head matters here.
pub(crate) struct Caller {
    pub(crate) address: Option<IpAddr>,
    /// `Authorization`, if it is of the kind `Basic`.
    basic: Option<String>,
}

impl Caller {
    pub(crate) fn of(headers: &HeaderMap, address: Option<IpAddr>) -> Self {
        let text = only(headers, &header::AUTHORIZATION).ok().flatten().unwrap_or_default();
        let basic = text.split_once(' ').filter(|(kind, _)| kind.eq_ignore_ascii_case("basic"));
        Self { address, basic: basic.map(|(_, rest)| rest.trim().to_owned()) }
    }
}

impl Doorkeeper {
    pub(crate) fn new(is_on: bool, is_tls: bool, inbox: Arc<Inbox>) -> Self {
        let (passwords, throttle) = (Passwords::default(), Throttle::default());
        let secure = if is_tls { "; Secure" } else { "" };
        Self { is_on, inbox, passwords, throttle, secure }
    }

    /// Answers what is answered here, and makes others ready for the node.
    pub(crate) async fn take(&self, mut request: Request, caller: &Caller) -> Answer {
        let is_write = request.method.is_write();
        let done = if request.method == Method::Post && request.path == LOGIN {
            self.login(&request, caller).await
        } else if is_write && is_at(&request.path, CREDENTIALS) {
            match self.hash_password(&mut request).await {
                Ok(()) => Ok(to_http(ask(&self.inbox, request).await)),
                Err(problem) => Err(problem),
            }
        } else if request.method == Method::Post && request.path == TOKENS {
            self.make_token(request).await
        } else {
            Ok(to_http(ask(&self.inbox, request).await))
        };
        done.unwrap_or_else(|mut problem| {
            problem.outcome = problem.outcome.or(is_write.then_some(Outcome::NotApplied));
            to_http(problem.into())
        })
    }

    /// Whether a principal may do what has no document and is not the node's.
    pub(crate) async fn permit(
        &self,
        principal: Principal,
        verb: Method,
        path: &str,
    ) -> Result<(), Problem> {
        if !self.is_on {
            return Ok(());
        }
        let body = json!({"verb": verb.name(), "link": path});
        let request = Request::new(Method::Post, CAN_I).with_json(&body).on_behalf_of(principal);
        let answer = ask(&self.inbox, request).await;
        let body = answer.to_json();
        if answer.is_success() && body["isAllowed"] == json!(true) {
            return Ok(());
        }
        if answer.is_success() {
            let text = format!(
                "{} may not {} {path}: no role allows it, or one denies it",
                body["as"].as_str().unwrap_or("anonymous"),
                verb.name()
            );
            return Err(Problem::new(Code::AccessDenied, text));
        }
        Err(problem_of(&answer))
    }

    async fn login(&self, request: &Request, caller: &Caller) -> Result<Answer, Problem> {
        let catalogue = Catalogue::new();
        if let Some(resource) = Resource::at(LOGIN, &catalogue) {
            resource.check(request, &catalogue)?;
        }
        let body = body_of(request)?;
        check_fields(&body, "a login", &["kind", "requestType", "sessionExpirationSeconds"])?;
        match text_of(&body, "requestType")?.unwrap_or("LOGIN") {
            "LOGIN" => self.log_in(&body, caller).await,
            "LOGOUT" => self.log_out(request).await,
            "VERIFY" => {
                let who = Request::new(Method::Get, WHO_AM_I);
                let answer = ask(&self.inbox, who.on_behalf_of(request.principal.clone())).await;
                if answer.is_success() && answer.to_json()["isLoggedIn"] != json!(true) {
                    let text = "no valid token was sent";
                    return Err(Problem::new(Code::Unauthorized, text));
                }
                Ok(to_http(answer))
            }
            other => Err(Problem::bad_request(format!(
                "requestType is '{other}'; it must be LOGIN, LOGOUT or VERIFY"
            ))),
        }
    }

    async fn log_in(&self, body: &Map<String, Value>, caller: &Caller) -> Result<Answer, Problem> {
        let Some((name, password)) = caller.basic.as_deref().and_then(name_and_password) else {
            let text = "send name and password as 'Authorization: Basic ...'";
            return Err(Problem::new(Code::Unauthorized, text));
        };
        let seconds = seconds_of(body, "sessionExpirationSeconds")?;
        let seconds = seconds.unwrap_or(SESSION_SECONDS).clamp(1, SESSION_SECONDS_MAX);
        if let Err(wait) = self.throttle.begin(&name, caller.address, Instant::now()) {
            return Err(slow_down(wait));
        }
        let (user, hash) = self.find(&name).await?;
        let is_right = self.passwords.is_right(password, hash).await?;
        let Some(user) = user.filter(|_| is_right) else {
            tracing::warn!(target: "amrita", "a login failed: {}", shown(&name, caller));
            let text = "there is no such user, or the password is another one";
            return Err(Problem::new(Code::Unauthorized, text));
        };
        self.throttle.succeeded(&name, caller.address);
        let token = new_token();
        let answer = self.write_token(&token, &user, "a login", seconds, Principal::System).await?;
        if !answer.is_success() {
            return Err(problem_of(&answer));
        }
        tracing::info!(target: "amrita", "{user} has logged in");
        let expires = answer.to_json()["documentExpirationTimeMicros"].take();
        let body = json!({ "userLink": user, "token": token.text,
            "documentExpirationTimeMicros": expires });
        Ok(with_token(Response::json(200, &body), (&token.text, seconds), self.secure))
    }

    /// The user of that name or e-mail address, and the hash of its password. As many questions are
    /// asked for one who is not there.
    async fn find(&self, name: &str) -> Result<(Option<String>, Option<String>), Problem> {
        let by_name = self.read(&format!("{USERS}/{name}")).await?;
        let query = json!({"taskInfo": {"isDirect": true}, "querySpec": {
            "options": ["EXPAND_CONTENT"], "query": Query::equal("email", name)}});
        let task = Request::new(Method::Post, QUERY_TASKS).with_json(&query);
        let answer = ask_as_system(&self.inbox, task).await;
        if !answer.is_success() {
            return Err(problem_of(&answer));
        }
        let mut found = answer.to_json()["results"]["documents"].take();
        let by_mail = found.as_object_mut().and_then(|documents| {
            let is_user = |link: &&String| link.starts_with(&format!("{USERS}/"));
            let link = documents.keys().find(is_user).cloned()?;
            documents.remove(&link)
        });
        let user = by_name.or(by_mail);
        let text = |field: &str| {
            let user = user.as_ref()?;
            user[field].as_str().map(str::to_owned)
        };
        let link = text("documentSelfLink");
        let own = link.as_deref().and_then(|link| access::name_in(link, USERS)).unwrap_or(name);
        let mail = text("email").unwrap_or_else(|| name.to_owned());
        let first = self.read(&format!("{CREDENTIALS}/{own}")).await?;
        let second = self.read(&format!("{CREDENTIALS}/{mail}")).await?;
        let credentials = first.or(second).unwrap_or_default();
        Ok((link, credentials["privateKey"].as_str().map(str::to_owned)))
    }

    /// A document that may be there.
    async fn read(&self, link: &str) -> Result<Option<Value>, Problem> {
        if protocol::links::check(link).is_err() {
            return Ok(None);
        }
        let answer = ask_as_system(&self.inbox, Request::get(link)).await;
        match answer.status {
            200 => Ok(Some(answer.to_json())),
            404 => Ok(None),
            _ => Err(problem_of(&answer)),
        }
    }

    async fn log_out(&self, request: &Request) -> Result<Answer, Problem> {
        if let Principal::Bearer(bearer) = &request.principal
            && !bearer.name.is_empty()
        {
            let delete = Request::new(Method::Delete, format!("{TOKENS}/{}", bearer.name));
            let delete = delete.on_behalf_of(request.principal.clone());
            let answer = ask(&self.inbox, delete).await;
            if answer.status >= 500 {
                return Err(problem_of(&answer));
            }
        }
        Ok(with_token(Response::json(200, &json!({})), ("", 0), self.secure))
    }

    /// A token for oneself, or by an admin for others: its owner decides that.
    async fn make_token(&self, request: Request) -> Result<Answer, Problem> {
        let body = body_of(&request)?;
        check_fields(&body, "a token", &["userLink", "expirationSeconds", "about"])?;
        let user = match text_of(&body, "userLink")? {
            Some(link) => link.to_owned(),
            None => {
                let who = Request::new(Method::Get, WHO_AM_I);
                let answer = ask(&self.inbox, who.on_behalf_of(request.principal.clone())).await;
                let link = answer.to_json()["userLink"].as_str().map(str::to_owned);
                link.ok_or_else(|| {
                    let text = "whose token? Log in first, or say so with userLink";
                    Problem::new(Code::Unauthorized, text)
                })?
            }
        };
        let seconds = seconds_of(&body, "expirationSeconds")?;
        let seconds = seconds.unwrap_or(TOKEN_SECONDS).clamp(1, TOKEN_SECONDS_MAX);
        let about = text_of(&body, "about")?.unwrap_or_default();
        let token = new_token();
        let answer = self.write_token(&token, &user, about, seconds, request.principal).await?;
        let mut shown = answer.to_json();
        if answer.is_success() {
            shown["token"] = token.text.into();
        }
        Ok(to_http(Response { body: shown.to_string().into(), ..answer }))
    }

    async fn write_token(
        &self,
        token: &NewToken,
        user: &str,
        about: &str,
        seconds: u64,
        principal: Principal,
    ) -> Result<Response, Problem> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = (now + Duration::from_secs(seconds)).as_micros();
        let expires = u64::try_from(expires).map_err(|_| Problem::bad_request("too long"))?;
        let body = json!({ "documentSelfLink": token.name, "userLink": user, "about": about,
            "digest": token.digest, "documentExpirationTimeMicros": expires });
        let request = Request::new(Method::Post, TOKENS).with_json(&body).on_behalf_of(principal);
        Ok(ask(&self.inbox, request).await)
    }

    /// The node never sees a password: what comes in here goes on as its hash.
    async fn hash_password(&self, request: &mut Request) -> Result<(), Problem> {
        // Who may not do it costs no hash. The node tells that one why.
        let (who, verb) = (request.principal.clone(), request.method);
        if self.permit(who, verb, &request.path).await.is_err() {
            request.body = bytes::Bytes::from_static(b"{}");
            return Ok(());
        }
        if request.body.is_empty() {
            return Ok(());
        }
        let mut body = body_of(request)?;
        if let Some(mail) = body.get("userEmail").cloned()
            && request.path == CREDENTIALS
        {
            // So they are found again by that name.
            body.entry("documentSelfLink").or_insert(mail);
        }
        if let Some(password) = body.get("privateKey").filter(|password| !password.is_null()) {
            let Some(password) = password.as_str() else {
                return Err(Problem::bad_request("privateKey must be a text: the password"));
            };
            let hash = self.passwords.hash(password.to_owned()).await?;
            body.insert("privateKey".into(), hash.into());
        }
        request.body = Value::Object(body).to_string().into();
        Ok(())
    }
}

/// Whether a path is a factory's or one of its documents'.
fn is_at(path: &str, factory: &str) -> bool {
    path == factory || access::name_in(path, factory).is_some()
}

fn body_of(request: &Request) -> Result<Map<String, Value>, Problem> {
    if request.body.is_empty() {
        return Ok(Map::new());
    }
    // The text is not shown: there may be a password in it.
    serde_json::from_slice(&request.body)
        .map_err(|_| Problem::new(Code::BadBody, "the body must be a JSON object"))
}

/// What would be passed over is refused.
fn check_fields(body: &Map<String, Value>, of: &str, known: &[&str]) -> Result<(), Problem> {
    match body.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let text = format!("{of} has no field '{unknown}'; it has {}", known.join(", "));
            Err(Problem::new(Code::BadBody, text))
        }
    }
}

fn text_of<'a>(body: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Problem> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Problem::new(Code::BadBody, format!("{name} is a text, not {other}"))),
    }
}

fn seconds_of(body: &Map<String, Value>, name: &str) -> Result<Option<u64>, Problem> {
    let wrong = |other: &Value| {
        Problem::new(Code::BadBody, format!("{name} is a number of seconds, not {other}"))
    };
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| wrong(value)),
    }
}

fn name_and_password(basic: &str) -> Option<(String, String)> {
    let text = String::from_utf8(decode_base64(basic)?).ok()?;
    let (name, password) = text.split_once(':')?;
    let fits = !name.is_empty() && name.len() <= 256 && password.len() <= PASSWORD_BYTES_MAX;
    fits.then(|| (name.to_owned(), password.to_owned()))
}

/// For the log. A name that is none may be a password that was typed in the wrong place.
fn shown(name: &str, caller: &Caller) -> String {
    let from = caller.address.map_or_else(String::new, |address| format!(" from {address}"));
    let is_plain =
        name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "@._-".contains(c));
    if is_plain { format!("user '{name}'{from}") } else { format!("a name that is none{from}") }
}

fn slow_down(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
    let text = format!("too many wrong passwords; try again in {seconds} s");
    Problem { retry_after_seconds: Some(seconds), ..Problem::new(Code::SlowDown, text) }
}

/// The problem that the node's own answer tells of.
fn problem_of(answer: &Response) -> Problem {
    let body = answer.to_json();
    let text = body["message"].as_str().unwrap_or("the node gave no reason").to_owned();
    let code = match answer.status {
        401 => Code::Unauthorized,
        403 => Code::AccessDenied,
        429 => Code::SlowDown,
        500 => Code::Internal,
        504 => Code::Timeout,
        status if status >= 500 => Code::Busy,
        _ => Code::BadRequest,
    };
    Problem { retry_after_seconds: answer.retry_after_seconds, ..Problem::new(code, text) }
}

/// The token in Xenon's header and cookie. No script of a page can read the cookie, and no page of
/// another site can have it sent.
fn with_token(response: Response, (token, seconds): (&str, u64), secure: &str) -> Answer {
    let mut answer = to_http(response);
    let headers = answer.headers_mut();
    let cookie = format!(
        "{XENON_COOKIE}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    if let Ok(mut cookie) = HeaderValue::from_str(&cookie) {
        cookie.set_sensitive(true);
        headers.insert(header::SET_COOKIE, cookie);
    }
    if let Ok(mut token) = HeaderValue::from_str(token)
        && !token.is_empty()
    {
        token.set_sensitive(true);
        headers.insert(XENON_TOKEN, token);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
