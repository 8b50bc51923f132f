//! Logging in: what of the rules needs chance, time or a password, and so cannot be in the node.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use access::{
    CREDENTIALS, Event, INSTANCE_OWNERS, INSTANCES, JOIN, JOIN_TOKENS, LOGIN, MADE, PASSWORD_LINK,
    PASSWORD_MARK, ROLES, TOKENS, USER_MADE, USERS, WHO_AM_I, password_mark,
};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use node::Resource;
use protocol::{Code, Method, Outcome, Principal, Problem, Request, Response, node_group};
use serde_json::{Map, Value, json};
use services::Catalogue;

use crate::ask::{ask, may, problem_of, user_of};
use crate::base64::decode_base64;
use crate::caller::Caller;
use crate::fields::{body_of, check_fields, seconds_of, text_of};
use crate::gate::Gate;
use crate::http_answer::{Answer, to_http};
use crate::in_flight::{InFlight, OneMore, Refusal};
use crate::inbox::Inbox;
use crate::lives;
use crate::outside::{Outside, Records};
use crate::owners;
use crate::pace::Pace;
use crate::passwords::{Client, PASSWORD_BYTES_MAX, Passwords};
use crate::principal::{NewToken, XENON_COOKIE, XENON_TOKEN, new_token};
use crate::throttle::Throttle;
use crate::trail::{Asked, Trail, not_recorded};

/// How long a session lasts when nothing is said (Xenon's hour)...
const SESSION_SECONDS: u64 = 3_600;

/// ... and at most.
const SESSION_SECONDS_MAX: u64 = 30 * 86_400;

/// How long a token that was asked for lasts when nothing is said...
const TOKEN_SECONDS: u64 = 90 * 86_400;

/// ... and at most.
const TOKEN_SECONDS_MAX: u64 = 10 * 366 * 86_400;

/// What a node says that asks to be let in.
const JOINING_FIELDS: [&str; 5] = ["name", "secret", "publicKey", "nodeId", "uri"];

/// Who lets people in.
pub(crate) struct Doorkeeper {
    /// Nobody does anything without a right to it.
    pub(crate) is_on: bool,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) passwords: Passwords,
    throttle: Throttle,
    in_flight: InFlight,
    pace: Pace,
    /// Where nodes come in, if the cluster makes their certificates.
    gate: Option<Gate>,
    /// Where it is recorded who came in and who did not, if anybody has to log in.
    trail: Option<Trail>,
    /// The outside issuer whose tokens are taken, if there is one.
    outside: Option<Outside>,
    /// What of a cookie says that it is never sent without TLS.
    secure: &'static str,
}

impl Doorkeeper {
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        is_tls: bool,
        gate: Option<Gate>,
        trail: Option<Trail>,
    ) -> Self {
        let (passwords, throttle) = (Passwords::default(), Throttle::default());
        let secure = if is_tls { "; Secure" } else { "" };
        let (is_on, in_flight) = (trail.is_some(), InFlight::default());
        let (pace, outside) = (Pace::default(), None);
        Self { is_on, inbox, passwords, throttle, in_flight, pace, gate, trail, outside, secure }
    }

    /// The same; tokens of that outside issuer are taken as well.
    pub(crate) fn taking(self, outside: Outside) -> Self {
        Self { outside: Some(outside), ..self }
    }

    /// Who shows a token of an outside issuer that was found to be right before.
    fn known(&self, principal: Principal, caller: &Caller) -> Principal {
        let known = self.outside.as_ref().zip(caller.foreign.as_deref());
        let user = known.and_then(|(outside, token)| outside.knows(token));
        user.map_or(principal, Principal::User)
    }

    /// Finds out who shows a token of an outside issuer. It is asked again each time, also for one
    /// stream of events: a token that has expired counts no more.
    async fn identified(
        &self,
        principal: Principal,
        caller: &Caller,
    ) -> Result<Principal, Problem> {
        match (&self.outside, &self.trail, caller.foreign.as_deref()) {
            (Some(outside), Some(trail), Some(token)) => {
                let records = Records { trail, address: caller.address };
                outside.user(&self.inbox, records, token).await.map(Principal::User)
            }
            _ => Ok(principal),
        }
    }

    /// Records that somebody was refused before anybody looked at who it is.
    pub(crate) async fn turned_away(
        &self,
        asked: (Method, &str),
        address: Option<IpAddr>,
        status: u16,
    ) {
        if let Some(trail) = &self.trail {
            trail.answered(&Asked::at(&Principal::Anonymous, asked, address), status).await;
        }
    }

    /// Records that a program was refused at a port of AMBROSIA's, for whose it is.
    pub(crate) async fn program_refused(&self, who: &str, port: u16) {
        if let Some(trail) = &self.trail {
            let own = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let asked = Asked::at(&Principal::Anonymous, (Method::Get, INSTANCES), own);
            trail.program_refused(&asked, who, &format!("AMBROSIA's port {port}")).await;
        }
    }

    /// A request of this client is under way, until the drop. `is_vital`: it is to get through.
    ///
    /// # Errors
    /// When too many of its requests are.
    pub(crate) fn begin(
        &self,
        principal: Principal,
        caller: &Caller,
        is_vital: bool,
    ) -> Result<Option<Arc<OneMore>>, Refusal> {
        if !self.is_on {
            return Ok(None);
        }
        let principal = self.known(principal, caller);
        let one_more = self.in_flight.begin(&principal, caller.address, is_vital)?;
        Ok(Some(Arc::new(one_more)))
    }

    /// Answers a request that is under way, and records what is to be recorded of it.
    pub(crate) async fn take(&self, mut request: Request, caller: &Caller) -> Answer {
        let Some(trail) = &self.trail else { return self.answer(request, caller).await };
        match self.identified(request.principal.clone(), caller).await {
            Ok(principal) => request.principal = principal,
            // There nobody looks at the token.
            Err(_) if is_open(&request.path) => {}
            Err(mut problem) => {
                problem.outcome = request.method.is_write().then_some(Outcome::NotApplied);
                trail.answered(&Asked::of(&request, caller), problem.status()).await;
                return to_http(problem.into());
            }
        }
        let asked = Asked::of(&request, caller);
        let proof = self.proof_of(&request);
        let answer = match Event::of(request.method, &request.path, 200) {
            Some(event) if event != Event::Login && request.path != JOIN => {
                self.deed(trail, event, request, caller).await
            }
            _ => {
                let answer = self.answer(request, caller).await;
                trail.answered(&asked, answer.status().as_u16()).await;
                answer
            }
        };
        match proof {
            Some(principal) if answer.status().is_success() => self.prove(trail, &principal).await,
            _ if answer.status() == StatusCode::UNAUTHORIZED => {
                self.in_flight.disprove(&asked.principal);
            }
            _ => {}
        }
        answer
    }

    /// Records a document of the rules that nobody has asked for.
    pub(crate) async fn was_made_by_the_cluster(&self, link: &str) {
        if let Some(trail) = &self.trail {
            let asked = Asked::at(&Principal::System, (Method::Post, link), None);
            trail.done(Event::Rights, &asked, Principal::System.shown(), (200, "")).await;
        }
    }

    /// Records who belongs to the cluster.
    pub(crate) async fn members_changed(&self, note: &str) {
        if let Some(trail) = &self.trail {
            let asked = Asked::at(&Principal::System, (Method::Post, node_group::LINK), None);
            trail.done(Event::Members, &asked, Principal::System.shown(), (200, note)).await;
        }
    }

    /// The token whose user is not known so far, if the answer to this request tells that it
    /// counts.
    fn proof_of(&self, request: &Request) -> Option<Principal> {
        let is_shown = matches!(&request.principal, Principal::Bearer(it) if !it.name.is_empty());
        let is_asked =
            is_shown && !is_open(&request.path) && !self.in_flight.knows(&request.principal);
        is_asked.then(|| request.principal.clone())
    }

    async fn prove(&self, trail: &Trail, principal: &Principal) {
        if let Principal::Bearer(bearer) = principal
            && let Some(user) = trail.user(principal).await
        {
            self.in_flight.prove(bearer, &user);
        }
    }

    /// Does what changes who may do what, who belongs to the cluster or whether it runs: who does
    /// it is recorded before, and what became of it afterwards.
    async fn deed(&self, trail: &Trail, event: Event, request: Request, caller: &Caller) -> Answer {
        let asked = Asked::of(&request, caller);
        let is_write = request.method.is_write();
        let refuse = |mut problem: Problem| {
            problem.outcome = is_write.then_some(Outcome::NotApplied);
            to_http(problem.into())
        };
        let who = match self.who_may(&request).await {
            Ok(who) => who,
            Err(problem) => {
                let answer = refuse(problem);
                trail.answered(&asked, answer.status().as_u16()).await;
                return answer;
            }
        };
        // One without a right to rights changes only what is its own.
        let may_all = self.may(request.principal.clone(), Method::Post, ROLES).await;
        let asked = asked.of_an_admin(may_all.is_ok());
        if event == Event::Rights
            && may_all.is_err()
            && let Err(problem) = self.pace.take(&who, Instant::now())
        {
            trail.ended(event, &asked, &who, (problem.status(), &[])).await;
            return refuse(problem);
        }
        if !trail.begins(event, &asked, &who).await && event.is_recorded_first() {
            return refuse(not_recorded());
        }
        let answer = self.answer(request, caller).await;
        // Who reads has read; and a node that stops records nothing any more.
        if !matches!(event, Event::Recording | Event::Stop) {
            let came_to = (answer.status().as_u16(), answer.body().as_ref());
            trail.ended(event, &asked, &who, came_to).await;
        }
        answer
    }

    /// Who it is that may do what is recorded first, as far as it is decided here.
    async fn who_may(&self, request: &Request) -> Result<String, Problem> {
        let may = self.may(request.principal.clone(), request.method, &request.path).await;
        if may.is_err()
            && is_at(&request.path, TOKENS)
            && let Some(trail) = &self.trail
            && let Some(user) = trail.user(&request.principal).await
        {
            // Whose a token is or will be, the owner of its document knows.
            return Ok(user);
        }
        may
    }

    /// Answers what is answered here, and makes others ready for the node.
    async fn answer(&self, mut request: Request, caller: &Caller) -> Answer {
        let is_write = request.method.is_write();
        let done = if request.method == Method::Post && request.path == LOGIN {
            self.login(&request, caller).await
        } else if is_write && is_at(&request.path, CREDENTIALS) {
            match self.hash_password(&mut request).await {
                Ok(()) => Ok(to_http(ask(&self.inbox, request).await)),
                Err(problem) => Err(problem),
            }
        } else if request.method == Method::Post && is_at(&request.path, USERS) {
            let answer = ask(&self.inbox, request).await;
            if answer.is_success() {
                lives::bind_passwords(&self.inbox, &answer.to_json()).await;
            }
            Ok(to_http(answer))
        } else if is_write && is_at(&request.path, INSTANCE_OWNERS) {
            match lives::mark_owners(&self.inbox, &mut request).await {
                Ok(()) => Ok(to_http(ask(&self.inbox, request).await)),
                Err(problem) => Err(problem),
            }
        } else if request.method == Method::Post && request.path == TOKENS {
            self.make_token(request).await
        } else if self.is_on && owners::concerns(&request) {
            Ok(to_http(owners::answer(&self.inbox, request).await))
        } else if request.method == Method::Post && request.path == JOIN {
            self.let_a_node_in(&request, caller).await
        } else if request.method == Method::Post && request.path == JOIN_TOKENS {
            self.make_join_token(request).await
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
        (verb, path): (Method, &str),
        caller: &Caller,
    ) -> Result<(), Problem> {
        let Some(trail) = &self.trail else { return Ok(()) };
        let (asked, permitted) = match self.identified(principal.clone(), caller).await {
            Ok(principal) => {
                let asked = Asked::at(&principal, (verb, path), caller.address);
                (asked, self.may(principal, verb, path).await)
            }
            Err(problem) => (Asked::at(&principal, (verb, path), caller.address), Err(problem)),
        };
        if let Err(problem) = &permitted {
            trail.answered(&asked, problem.status()).await;
        }
        permitted.map(drop)
    }

    /// Who it is that may do it.
    async fn may(&self, principal: Principal, verb: Method, path: &str) -> Result<String, Problem> {
        if !self.is_on {
            return Ok(principal.shown().to_owned());
        }
        let (is_allowed, who) = may(&self.inbox, principal, (verb, path)).await?;
        if is_allowed {
            return Ok(who);
        }
        let verb = verb.name();
        let text = format!("{who} may not {verb} {path}: no role allows it, or one denies it");
        Err(Problem::new(Code::AccessDenied, text))
    }

    async fn login(&self, request: &Request, caller: &Caller) -> Result<Answer, Problem> {
        let catalogue = Catalogue::new();
        if let Some(resource) = Resource::at(LOGIN, &catalogue) {
            resource.check(request, &catalogue)?;
        }
        let body = body_of(request)?;
        check_fields(&body, "a login", &["kind", "requestType", "sessionExpirationSeconds"])?;
        match text_of(&body, "requestType")?.unwrap_or("LOGIN") {
            "LOGIN" => self.try_to_log_in(request, &body, caller).await,
            "LOGOUT" => self.log_out(request, caller).await,
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

    /// Logs somebody in, and records that it was tried.
    async fn try_to_log_in(
        &self,
        request: &Request,
        body: &Map<String, Value>,
        caller: &Caller,
    ) -> Result<Answer, Problem> {
        let done = self.log_in(body, caller).await;
        let Some(trail) = &self.trail else {
            return done.map(|(_, answer)| answer).map_err(|not_in| not_in.problem);
        };
        let (who, status) = match &done {
            Ok((user, answer)) => (user.clone(), answer.status().as_u16()),
            Err(NotIn { who, problem }) => (who.clone(), problem.status()),
        };
        trail.logged_in(&Asked::of(request, caller), &who, status).await;
        done.map(|(_, answer)| answer).map_err(|not_in| not_in.problem)
    }

    /// A token for a user that is known by now, for as long as the password is this one.
    async fn session(
        &self,
        user: &str,
        password: &Password,
        seconds: u64,
    ) -> Result<Answer, Problem> {
        let token = new_token();
        let made = Made { about: "a login", by: Some(password) };
        let answer = self.write_token(&token, user, made, seconds, Principal::System).await?;
        if !answer.is_success() {
            return Err(problem_of(&answer));
        }
        tracing::info!(target: "amrita", "{user} has logged in");
        let expires = answer.to_json()["documentExpirationTimeMicros"].take();
        let body = json!({ "userLink": user, "token": token.text,
            "documentExpirationTimeMicros": expires });
        Ok(with_token(Response::json(200, &body), (&token.text, seconds), self.secure))
    }

    /// The link of the user, and the answer to that one.
    async fn log_in(
        &self,
        body: &Map<String, Value>,
        caller: &Caller,
    ) -> Result<(String, Answer), NotIn> {
        let Some((name, password)) = caller.basic.as_deref().and_then(name_and_password) else {
            let text = "send name and password as 'Authorization: Basic ...'";
            let problem = Problem::new(Code::Unauthorized, text);
            return Err(NotIn { who: "nobody".into(), problem });
        };
        let seconds = seconds_of(body, "sessionExpirationSeconds")?;
        let seconds = seconds.unwrap_or(SESSION_SECONDS).clamp(1, SESSION_SECONDS_MAX);
        let now = Instant::now();
        let wait = |wait: Duration| {
            let who = "a name with too many wrong passwords".into();
            NotIn { who, problem: slow_down(wait) }
        };
        // By the name first, whether somebody has it or not: the time tells no difference.
        self.throttle.check(&name, caller.address, now).map_err(wait)?;
        let (user, own) = self.find(&name).await?;
        // Whoever has a name and an address has one number of attempts, and not two. What is not
        // tried is not counted: else the others behind that address would pay for it.
        let link = user.as_ref().and_then(|user| user["documentSelfLink"].as_str());
        let other = link.filter(|link| *link != name);
        if let Some(link) = other {
            self.throttle.check(link, None, now).map_err(wait)?;
        }
        self.throttle.begin(&name, caller.address, now).map_err(wait)?;
        if let Some(link) = other {
            self.throttle.begin(link, None, now).map_err(wait)?;
        }
        let hash = own.as_ref().map(|own| own.hash.clone());
        let from = Client::at(caller.address);
        let is_right = self.passwords.is_right(from, password, hash).await?;
        let Some((link, own)) = link.zip(own.as_ref()).filter(|_| is_right) else {
            let who = link.unwrap_or(NO_NAME).to_owned();
            let from = caller.address.map(|it| format!(" from {it}")).unwrap_or_default();
            tracing::warn!(target: "amrita", "a login failed: {who}{from}");
            let text = "there is no such user, or the password is another one";
            return Err(NotIn { who, problem: Problem::new(Code::Unauthorized, text) });
        };
        self.throttle.succeeded(&name, caller.address);
        self.throttle.succeeded(link, None);
        if self.trail.is_some() {
            let is_slow = self.pace.take(link, now);
            is_slow.map_err(|problem| NotIn { who: link.to_owned(), problem })?;
        }
        if let Some(made) = user.as_ref().and_then(lives::made_of).filter(|_| own.is_unbound) {
            lives::bind(&self.inbox, &own.link, made).await;
        }
        let answer = self.session(link, own, seconds).await?;
        Ok((link.to_owned(), answer))
    }

    /// The user of that name or e-mail address, and its password. As many questions are asked for
    /// one who is not there.
    async fn find(&self, name: &str) -> Result<(Option<Value>, Option<Password>), Problem> {
        let user = lives::user_called(&self.inbox, name).await?;
        let text = |field: &str| user.as_ref()?[field].as_str();
        let own = text("documentSelfLink").and_then(|link| access::name_in(link, USERS));
        let first = self.read(&format!("{CREDENTIALS}/{}", own.unwrap_or(name))).await?;
        let mail = text("email").unwrap_or(name);
        let second = self.read(&format!("{CREDENTIALS}/{mail}")).await?;
        let is_own = |it: &Value| user.as_ref().is_some_and(|user| lives::is_of(it, user));
        let mut both = first.into_iter().chain(second);
        let found = both.find(is_own).unwrap_or_default();
        let text = |field: &str| found[field].as_str().map(str::to_owned);
        let password = text("documentSelfLink").zip(text("privateKey"));
        let is_unbound = lives::is_unbound(&found);
        Ok((user, password.map(|(link, hash)| Password { link, hash, is_unbound })))
    }

    async fn read(&self, link: &str) -> Result<Option<Value>, Problem> {
        lives::read(&self.inbox, link).await
    }

    /// Whose the token was is recorded, as nobody knows that afterwards. A token that does not
    /// count has nothing to end, and leaves nothing in the trail: anybody can make one up.
    async fn log_out(&self, request: &Request, caller: &Caller) -> Result<Answer, Problem> {
        if let Principal::Bearer(bearer) = &request.principal
            && let Some(user) = user_of(&self.inbox, &request.principal).await?
        {
            if let Some(trail) = &self.trail {
                let asked = Asked::of(request, caller);
                trail.done(Event::Login, &asked, &user, (200, "logout")).await;
            }
            let delete = Request::new(Method::Delete, format!("{TOKENS}/{}", bearer.name));
            let delete = delete.on_behalf_of(request.principal.clone());
            let answer = ask(&self.inbox, delete).await;
            if answer.status >= 500 {
                return Err(problem_of(&answer));
            }
            self.in_flight.disprove(&request.principal);
        }
        if matches!(request.principal, Principal::User(_)) {
            let text = "a token of an outside issuer is ended there, or by its time; an admin ends \
                        it here by deleting its user";
            return Err(Problem::bad_request(text));
        }
        Ok(with_token(Response::json(200, &json!({})), ("", 0), self.secure))
    }

    /// A token for oneself, or by an admin for others: its owner decides that.
    async fn make_token(&self, request: Request) -> Result<Answer, Problem> {
        check_secret(&request)?;
        let body = body_of(&request)?;
        check_fields(&body, "a token", &["userLink", "expirationSeconds", "about"])?;
        let user = match text_of(&body, "userLink")? {
            Some(link) => link.to_owned(),
            None => {
                let link = user_of(&self.inbox, &request.principal).await?;
                link.ok_or_else(|| {
                    let text = "whose token? Log in first, or say so with userLink";
                    Problem::new(Code::Unauthorized, text)
                })?
            }
        };
        if request.principal.user().is_some_and(|own| **own == *user) {
            let text = "a user of an outside issuer makes itself no token here: that would count \
                        longer than the issuer says. An admin may make one for it";
            return Err(Problem::new(Code::AccessDenied, text));
        }
        let seconds = seconds_of(&body, "expirationSeconds")?;
        let seconds = seconds.unwrap_or(TOKEN_SECONDS).clamp(1, TOKEN_SECONDS_MAX);
        let made = Made { about: text_of(&body, "about")?.unwrap_or_default(), by: None };
        let token = new_token();
        let answer = self.write_token(&token, &user, made, seconds, request.principal).await?;
        let mut shown = answer.to_json();
        if answer.is_success() {
            shown["token"] = token.text.into();
        }
        Ok(to_http(Response { body: shown.to_string().into(), ..answer }))
    }

    async fn let_a_node_in(&self, request: &Request, caller: &Caller) -> Result<Answer, Problem> {
        let catalogue = Catalogue::new();
        if let Some(resource) = Resource::at(JOIN, &catalogue) {
            resource.check(request, &catalogue)?;
        }
        let body = body_of(request)?;
        check_fields(&body, "a node that joins", &JOINING_FIELDS)?;
        let gate = self.gate.as_ref().ok_or_else(no_gate)?;
        let (answer, subject) = gate.let_in(&self.inbox, &body, caller.address).await?;
        if let Some(trail) = &self.trail {
            let note = format!("node {} at {}", subject.node_id, subject.host);
            // It asks again with the same key, and gets a certificate when that can be recorded.
            if !trail.lets_in(&Asked::of(request, caller), &note).await {
                return Err(not_recorded());
            }
        }
        Ok(to_http(answer))
    }

    async fn make_join_token(&self, request: Request) -> Result<Answer, Problem> {
        // Who may not make one is told nothing of how the cluster makes certificates.
        self.may(request.principal.clone(), Method::Post, JOIN_TOKENS).await?;
        check_secret(&request)?;
        let gate = self.gate.as_ref().ok_or_else(no_gate)?;
        let made = gate.make_token(&self.inbox, &body_of(&request)?, request.principal).await?;
        Ok(to_http(made))
    }

    async fn write_token(
        &self,
        token: &NewToken,
        user: &str,
        made: Made<'_>,
        seconds: u64,
        principal: Principal,
    ) -> Result<Response, Problem> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = (now + Duration::from_secs(seconds)).as_micros();
        let expires = u64::try_from(expires).map_err(|_| Problem::bad_request("too long"))?;
        let mut body = json!({ "documentSelfLink": token.name, "userLink": user,
            "about": made.about, "digest": token.digest, "documentExpirationTimeMicros": expires });
        if let Some(made) = self.read(user).await?.and_then(|user| user.get(MADE).cloned()) {
            body[USER_MADE] = made;
        }
        if let Some(password) = made.by {
            body[PASSWORD_LINK] = password.link.as_str().into();
            body[PASSWORD_MARK] = password_mark(&password.hash).into();
        }
        let request = Request::new(Method::Post, TOKENS).with_json(&body).on_behalf_of(principal);
        Ok(ask(&self.inbox, request).await)
    }

    /// The node never sees a password: what comes in here goes on as its hash.
    async fn hash_password(&self, request: &mut Request) -> Result<(), Problem> {
        // Who may not do it costs no hash. The node tells that one why.
        let (who, verb) = (request.principal.clone(), request.method);
        let Ok(user) = self.may(who, verb, &request.path).await else {
            request.body = bytes::Bytes::from_static(b"{}");
            return Ok(());
        };
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
        lives::mark_password(&self.inbox, request, &mut body).await?;
        if let Some(password) = body.get("privateKey").filter(|password| !password.is_null()) {
            let Some(password) = password.as_str() else {
                return Err(Problem::bad_request("privateKey must be a text: the password"));
            };
            let of = if self.is_on { Client::User(user) } else { Client::Own };
            let hash = self.passwords.hash(of, password.to_owned()).await?;
            body.insert("privateKey".into(), hash.into());
        }
        request.body = Value::Object(body).to_string().into();
        Ok(())
    }
}

/// The password of somebody, as the cluster has it.
struct Password {
    /// Of its document.
    link: String,
    hash: String,
    /// It was set when there was no such user.
    is_unbound: bool,
}

/// What a token is for, and by which password it was made.
struct Made<'a> {
    about: &'a str,
    by: Option<&'a Password>,
}

/// Where nobody looks at the token.
fn is_open(path: &str) -> bool {
    path == LOGIN || path == JOIN
}

fn no_gate() -> Problem {
    let text = "this cluster does not make the certificates of its nodes: give the new node one, \
                with --tls-cert";
    Problem::new(Code::Refused, text)
}

/// Whether a path is a factory's or one of its documents'.
fn is_at(path: &str, factory: &str) -> bool {
    path == factory || access::name_in(path, factory).is_some()
}

/// A POST that makes a secret is done each time: the secret is shown once and kept by nobody, so no
/// key could have the same answer come again. What else would be passed over is refused as well.
fn check_secret(request: &Request) -> Result<(), Problem> {
    let path = &request.path;
    let ignored = if request.idempotency_key.is_some() {
        Some("Idempotency-Key: each POST makes another secret".to_owned())
    } else if request.conditions.if_match.is_some() {
        Some("If-Match".to_owned())
    } else if request.conditions.if_none_match.is_some() {
        Some("If-None-Match".to_owned())
    } else if request.quorum.is_some() {
        Some("x-xenon-rpl-quorum".to_owned())
    } else {
        let pragma = request.pragmas.first().map(|pragma| format!("Pragma: {pragma}"));
        let parameter =
            || request.parameters().next().map(|(name, _)| format!("parameter '{name}'"));
        pragma.or_else(parameter)
    };
    match ignored {
        None => Ok(()),
        Some(what) => Err(Problem::bad_request(format!("a POST of {path} takes no {what}"))),
    }
}

fn name_and_password(basic: &str) -> Option<(String, String)> {
    let text = String::from_utf8(decode_base64(basic)?).ok()?;
    let (name, password) = text.split_once(':')?;
    let fits = !name.is_empty() && name.len() <= 256 && password.len() <= PASSWORD_BYTES_MAX;
    fits.then(|| (name.to_owned(), password.to_owned()))
}

/// Who is shown in the place of a name that no user has: it may be a password that was typed in the
/// wrong place.
const NO_NAME: &str = "a name that no user has";

/// Somebody was not logged in.
struct NotIn {
    /// As the audit trail shows it.
    who: String,
    problem: Problem,
}

impl From<Problem> for NotIn {
    fn from(problem: Problem) -> Self {
        Self { who: "somebody".into(), problem }
    }
}

fn slow_down(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
    let text = format!("too many wrong passwords; try again in {seconds} s");
    Problem { retry_after_seconds: Some(seconds), ..Problem::new(Code::SlowDown, text) }
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
