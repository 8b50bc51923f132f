//! The front for clients: HTTP/1.1 and HTTP/2 on the node's one port. A request becomes a
//! [`protocol::Request`] and goes to the node's thread; its answer comes back the same way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use access::Needs;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper::{Method as Verb, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use node::Resource;
use protocol::{Code, Method, Outcome, Principal, Problem, Request};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::allow::Allowed;
use crate::attach_paths::{attached_at, instance_at, kind_at};
use crate::browsers::{self, AllowedOrigin, Browsers};
use crate::budget::{Budget, Purpose};
use crate::caller::Caller;
use crate::client_socket::ClientSocket;
use crate::connections::{Connections, HEAD_BYTES_MAX, Meter, Overdue, Place};
use crate::console;
use crate::dial::{self, Ends};
use crate::events::{self, Body};
use crate::framing::Framing;
use crate::h2c;
use crate::http_answer::{self, Answer, plain, to_http};
use crate::http_request::{self, no_such_verb, to_method, to_request};
use crate::in_flight::{OneMore, Refusal};
use crate::link_secret::{self, Said};
use crate::login::Doorkeeper;
use crate::metrics::Metrics;
use crate::principal;
use crate::programs;
use crate::readiness::Readiness;
use crate::served::Served;
use crate::standing_right::StandingRight;
use crate::taking::Owed;
use crate::tls::Within;

/// How long to wait when no connection can be accepted (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait for answers to leave before the connections are cut at the end.
const CLOSING_MAX: Duration = Duration::from_millis(500);

/// How long a connection that is told to end may take for it.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// The most requests that are under way on one connection of HTTP/2. More wait for their turn.
const STREAMS_MAX: u32 = 128;

/// How many bytes of bodies one connection of HTTP/2 may send ahead, and one request of it.
const WINDOW_BYTES: u32 = 256 << 10;

/// How often a connection of HTTP/2 is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Everything that a connection needs.
pub(crate) struct Front {
    pub(crate) keeper: Arc<Doorkeeper>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) ends: Ends,
    pub(crate) browsers: Browsers,
    pub(crate) served: Arc<Served>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) readiness: Readiness,
    /// Changes when the node stops: connections then end after their present request.
    pub(crate) closing: watch::Receiver<()>,
}

/// A connection of which the first bytes are there.
struct Begun {
    within: Within,
    /// It begins with HTTP/2.
    is_two: bool,
}

/// What the shell answers by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Live,
    Ready,
    Metrics,
    Link,
    Attach,
    /// The file of the console that has this path.
    Console(&'static str),
}

impl Own {
    /// It gets through where others have to wait.
    fn is_vital(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Link)
    }
}

/// What is known of a request before it is looked at.
#[derive(Clone, Copy)]
struct Asking<'a> {
    own: Option<Own>,
    place: &'a Place,
    /// Whom it counts for, if anybody has to log in.
    client: Option<&'a Arc<OneMore>>,
}

impl Front {
    /// Accepts until the node stops, then waits a little for the answers to leave.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut closing = self.closing.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = closing.changed() => break,
            };
            match accepted {
                Ok((socket, peer)) => match self.connections.enter(Some(peer.ip())) {
                    Some(place) => drop(tokio::spawn(Arc::clone(&self).connection(socket, place))),
                    None => turn_away(&socket),
                },
                Err(error) => {
                    tracing::warn!("no connection can be accepted: {error}");
                    self.connections.make_room();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let deadline = Instant::now() + CLOSING_MAX;
        while self.connections.count() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn connection(self: Arc<Self>, socket: TcpStream, mut place: Place) {
        let begun = tokio::select! {
            begun = self.begin(socket) => begun,
            _ = place.meter.overdue() => return,
        };
        let served = match begun {
            Ok(Begun { within: Within { socket, is_node }, is_two }) => {
                place.is_node = is_node;
                if is_two {
                    self.serve_two(socket, Bytes::new(), place).await
                } else {
                    self.serve_one(socket, place).await
                }
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(why) = served {
            tracing::trace!("a connection ended: {why}");
        }
    }

    /// Finds out who that is and what is spoken.
    async fn begin(&self, socket: TcpStream) -> std::io::Result<Begun> {
        socket.set_nodelay(true)?;
        let within = match &self.ends.tls {
            None => Within { socket, is_node: false },
            Some(tls) => tls.accept(socket).await?,
        };
        let is_two = h2c::begins(&within.socket).await?;
        Ok(Begun { within, is_two })
    }

    /// HTTP/1.1.
    async fn serve_one(self: Arc<Self>, socket: TcpStream, place: Place) -> Result<(), String> {
        let meter = Arc::clone(&place.meter);
        let mut closing = self.closing.clone();
        let place = Arc::new(place);
        let framing = Arc::new(Framing::default());
        let socket = ClientSocket::new(socket, Bytes::new(), Arc::clone(&meter));
        let socket = socket.watched_by(Arc::clone(&framing));
        let service = service_fn(move |request| {
            Arc::clone(&self).answer(request, framing.complaint(), Arc::clone(&place))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // The meter has the deadlines.
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(socket, service)
            .with_upgrades();
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            why = end_of(&meter, &mut closing) => {
                connection.as_mut().graceful_shutdown();
                farewell(connection, why).await
            }
        };
        ended.unwrap_or(Ok(())).map_err(|error| error.to_string())
    }

    /// HTTP/2, with what was read of it already.
    async fn serve_two(
        self: Arc<Self>,
        socket: TcpStream,
        start: Bytes,
        place: Place,
    ) -> Result<(), String> {
        let meter = Arc::clone(&place.meter);
        meter.speaks_in_frames();
        let mut closing = self.closing.clone();
        let place = Arc::new(place);
        let service =
            service_fn(move |request| Arc::clone(&self).answer(request, None, Arc::clone(&place)));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("a constant fits"))
            .keep_alive_interval(PING_EVERY)
            .serve_connection(ClientSocket::new(socket, start, Arc::clone(&meter)), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            why = end_of(&meter, &mut closing) => {
                connection.as_mut().graceful_shutdown();
                farewell(connection, why).await
            }
        };
        ended.unwrap_or(Ok(())).map_err(|error| error.to_string())
    }

    /// Answers a request, whatever it is. `complaint`: what is wrong with the head itself.
    async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        complaint: Option<&'static str>,
        place: Arc<Place>,
    ) -> Result<hyper::Response<Body>, &'static str> {
        let under_way = place.meter.begin();
        let begun = Instant::now();
        let verb = request.method().clone();
        let is_write = to_method(&verb).is_some_and(Method::is_write);
        let takes_gzip = http_answer::takes_gzip(request.headers());
        let known = http_answer::known_versions(request.headers());
        let complaint = complaint.or_else(|| http_request::unclear_length(request.headers()));
        let own = own(&verb, request.uri().path(), request.headers());
        let (client, refusal) = match self.count(request.headers(), own, &place) {
            Ok(client) => (client, None),
            Err(Refusal { problem, counted: Some(client) }) => {
                (Some(Arc::new(client)), Some(problem))
            }
            Err(Refusal { counted: None, .. }) => return Err(gives_up(&place)),
        };
        let mut answer = match (complaint, refusal) {
            (Some(why), _) => closing(refuse(request, Problem::bad_request(why)).await),
            (None, Some(problem)) => self.refuse_client(request, problem, &place).await,
            (None, None) => {
                let asked = Asking { own, place: &place, client: client.as_ref() };
                self.decide(request, asked).await
            }
        };
        if !is_write {
            http_answer::not_modified(&mut answer, &known);
        }
        if takes_gzip {
            answer = http_answer::pack(answer).await;
        }
        if verb == Verb::HEAD {
            answer = http_answer::without_body(answer);
        }
        self.metrics.request(method_name(&verb), answer.status().as_u16(), begun.elapsed());
        let share = client.as_ref().map(|client| Arc::clone(&client.share));
        let mut held = self.budget.open(Purpose::Answer).of(share);
        let Some(answer) = http_answer::account(answer, is_write, &mut held) else {
            return Err(gives_up(&place));
        };
        if answer.headers().get(header::CONNECTION).is_some_and(|it| it == "close") {
            place.meter.closes();
        }
        let owed = Owed { _held: held, _client: client, offer: place.meter.offers() };
        Ok(events::with_body(answer, under_way, owed))
    }

    /// Counts a request for its client until the answer is taken, whatever it asks for.
    fn count(
        &self,
        headers: &HeaderMap,
        own: Option<Own>,
        place: &Place,
    ) -> Result<Option<Arc<OneMore>>, Refusal> {
        let caller = Caller::of(headers, place.address);
        // Who is asked for is said to nobody in particular; and a token that is unclear is refused
        // where it is looked at.
        let principal = match own.is_some_and(Own::is_vital) {
            true => Principal::Anonymous,
            false => principal::of(headers).unwrap_or(Principal::Anonymous),
        };
        self.keeper.begin(principal, &caller, own.is_some_and(Own::is_vital))
    }

    /// This client has too much under way.
    async fn refuse_client(
        &self,
        request: hyper::Request<Incoming>,
        problem: Problem,
        place: &Place,
    ) -> Answer {
        self.record_refusal(&request, place, problem.status()).await;
        let takes_nothing = problem.code == Code::Busy;
        let answer = refuse(request, problem).await;
        if takes_nothing { closing(answer) } else { answer }
    }

    /// Refuses what comes from where it should not, then answers.
    async fn decide(
        self: &Arc<Self>,
        request: hyper::Request<Incoming>,
        asked: Asking<'_>,
    ) -> Answer {
        let Asking { own, place, .. } = asked;
        if !own.is_some_and(Own::is_vital) && !place.serves_all() {
            return crowded(request).await;
        }
        if let Err(problem) = http_request::check_host_is_there(&request) {
            return refuse(request, problem).await;
        }
        // Nodes call one another by whatever name they were given; no browser can ask for a link.
        let origin = match own {
            Some(Own::Link) => Ok(None),
            _ => self.browsers.check(request.method(), request.uri(), request.headers()),
        };
        let origin = match origin {
            Ok(origin) => origin,
            Err(problem) => {
                self.record_refusal(&request, place, problem.status()).await;
                return refuse(request, problem).await;
            }
        };
        match origin {
            Some(origin) => self.for_a_page(request, origin, asked).await,
            None => self.dispatch(request, asked).await,
        }
    }

    async fn for_a_page(
        self: &Arc<Self>,
        request: hyper::Request<Incoming>,
        origin: AllowedOrigin,
        asked: Asking<'_>,
    ) -> Answer {
        if browsers::is_preflight(request.method(), request.headers()) {
            // Where there is nothing, the page is told so by the answer to what it asks then.
            let allowed =
                self.told(asked.own, request.uri().path()).unwrap_or_else(|_| Allowed::all());
            let mut answer = http_answer::verbs(&allowed);
            origin.put_preflight(&allowed, answer.headers_mut());
            return answer;
        }
        let mut answer = self.dispatch(request, asked).await;
        origin.put(answer.headers_mut());
        answer
    }

    async fn dispatch(
        self: &Arc<Self>,
        request: hyper::Request<Incoming>,
        Asking { own, place, client }: Asking<'_>,
    ) -> Answer {
        let (verb, uri) = (request.method().clone(), request.uri().clone());
        let mut answer = match own {
            _ if verb == Verb::OPTIONS => match self.told(own, uri.path()) {
                Ok(allowed) => return http_answer::verbs(&allowed),
                Err(problem) => return refuse(request, problem).await,
            },
            Some(_) if verb != Verb::GET && verb != Verb::HEAD => {
                refuse(request, no_such_verb(&verb)).await
            }
            Some(own) => self.answer_here(own, request, place).await,
            None => match h2c::asked(&request) {
                Some(frame) => self.upgrade_to_two(request, frame, place),
                None => self.ask_for(request, place, client).await,
            },
        };
        if answer.status() == StatusCode::METHOD_NOT_ALLOWED {
            let allowed = self.allowed(own, uri.path()).unwrap_or_else(|_| Allowed::all());
            http_answer::allow(&mut answer, allowed.header(Some(&verb)));
        }
        answer
    }

    /// What the shell answers stands in the node's table as well, with what it needs.
    async fn answer_here(
        &self,
        own: Own,
        request: hyper::Request<Incoming>,
        place: &Place,
    ) -> Answer {
        let asked = match self.looked_at(own, &request) {
            Ok(asked) => asked,
            Err(problem) => return refuse(request, problem).await,
        };
        match (own, Resource::needs(&asked, &self.served.get())) {
            (Own::Live, Some(Needs::Nothing)) => plain("alive\n"),
            (Own::Ready, Some(Needs::Nothing)) => to_http(self.readiness.answer().await),
            (Own::Console(path), Some(Needs::Nothing)) => {
                console::answer(path).expect("a path of the console has a file")
            }
            (Own::Link, Some(Needs::Link)) => {
                let path = asked.path;
                let answer = self.link(request, place);
                // Who is asked for a proof, with 401, has not been refused so far.
                if answer.status() == StatusCode::FORBIDDEN {
                    self.keeper.turned_away((Method::Get, &path), place.address, 403).await;
                }
                answer
            }
            (Own::Metrics, Some(Needs::Right)) => {
                let show = |_| plain(self.metrics.show(self.budget.used()));
                self.permitted(request, place, (Method::Get, "/metrics"), show).await
            }
            (Own::Attach, Some(Needs::Right)) => {
                let path = asked.path.clone();
                let post = (Method::Post, path.as_str());
                let attach = |request| self.attach(request, &path, place);
                self.permitted(request, place, post, attach).await
            }
            _ => {
                let text = "nothing says who may do this here, so nobody may";
                refuse(request, Problem::new(Code::AccessDenied, text)).await
            }
        }
    }

    /// A look at one of the shell's own paths, if it asks for nothing that is not known there.
    fn looked_at(&self, own: Own, request: &hyper::Request<Incoming>) -> Result<Request, Problem> {
        let mut asked = http_request::look(request.uri(), request.headers())?;
        // A browser gets the page at `/`, too, where programs get something else.
        if let Own::Console(path) = own {
            path.clone_into(&mut asked.path);
        }
        if *request.method() == Verb::GET && !hyper::body::Body::is_end_stream(request.body()) {
            let text = format!("GET {} takes no body; leave it out", request.uri().path());
            return Err(Problem::bad_request(text));
        }
        let served = self.served.get();
        match Resource::at(&asked.path, &served) {
            Some(resource) => resource.check(&asked, &served).map(|()| asked),
            None => Ok(asked),
        }
    }

    fn allowed(&self, own: Option<Own>, path: &str) -> Result<Allowed, Problem> {
        if own.is_some() {
            return Ok(Allowed::look());
        }
        let path = http_request::path(path)?;
        let nothing = || Problem::not_found(format!("there is nothing at {path}"));
        Allowed::at(&path, &self.served.get()).ok_or_else(nothing)
    }

    /// What is told to whoever asks for the verbs. Where logins are demanded, nobody is told
    /// without one which kinds of documents there are.
    fn told(&self, own: Option<Own>, path: &str) -> Result<Allowed, Problem> {
        // `OPTIONS *` asks about the server as a whole.
        let is_told_all = self.keeper.is_on || path == "*";
        if is_told_all { Ok(Allowed::all()) } else { self.allowed(own, path) }
    }

    /// Puts into the audit trail that somebody was refused who has not shown a token.
    async fn record_refusal(&self, request: &hyper::Request<Incoming>, place: &Place, status: u16) {
        let verb = to_method(request.method()).unwrap_or(Method::Get);
        self.keeper.turned_away((verb, request.uri().path()), place.address, status).await;
    }

    async fn ask_for(
        &self,
        request: hyper::Request<Incoming>,
        place: &Place,
        client: Option<&Arc<OneMore>>,
    ) -> Answer {
        let caller = Caller::of(request.headers(), place.address);
        let (verb, headers) = (request.method().clone(), request.headers().clone());
        if let Err(problem) = principal::of(&headers) {
            self.record_refusal(&request, place, problem.status()).await;
            return refuse(request, problem).await;
        }
        // Held until the answer is there: until then the node holds on to the body.
        let share = client.map(|client| Arc::clone(&client.share));
        let mut held = self.budget.open(Purpose::Request).of(share);
        match to_request(request, &mut held).await {
            Ok(request) if verb == Verb::GET && events::are_asked(&headers, &request) => {
                let source = events::Source {
                    keeper: Arc::clone(&self.keeper),
                    budget: Arc::clone(&self.budget),
                    client: client.cloned(),
                    meter: Arc::clone(&place.meter),
                    caller,
                    closing: self.closing.clone(),
                };
                self.events_of(request, &headers, source).await
            }
            Ok(request) => self.keeper.take(request, &caller).await,
            Err(problem) => http_answer::problem(problem),
        }
    }

    /// The changes that a request asks for, one after the other.
    async fn events_of(
        &self,
        mut request: Request,
        headers: &HeaderMap,
        source: events::Source,
    ) -> Answer {
        events::put_last_id(headers, &mut request);
        let first = self.keeper.take(request.clone(), &source.caller).await;
        events::stream(first, request, source)
    }

    /// Answers what the shell answers itself to whoever may ask for it.
    async fn permitted(
        &self,
        request: hyper::Request<Incoming>,
        place: &Place,
        asked: (Method, &str),
        answer: impl FnOnce(hyper::Request<Incoming>) -> Answer,
    ) -> Answer {
        let caller = Caller::of(request.headers(), place.address);
        let permitted = match principal::of(request.headers()) {
            Ok(who) => self.keeper.permit(who, asked, &caller).await,
            Err(problem) => Err(problem),
        };
        match permitted {
            Ok(()) => answer(request),
            Err(problem) => refuse(request, problem).await,
        }
    }

    /// Another node wants a link.
    fn link(&self, request: hyper::Request<Incoming>, place: &Place) -> Answer {
        let by_certificate = self.ends.tls.as_ref().is_some_and(|tls| tls.knows_nodes());
        if by_certificate && !place.is_node {
            let message = "only nodes of this cluster link up here, and no certificate of one was \
                           shown";
            return http_answer::problem(Problem::new(Code::AccessDenied, message));
        }
        let headers = request.headers();
        if text(headers, &header::UPGRADE) != Some(dial::LINK_PROTOCOL) {
            let message = "this is where nodes link up; use any other path under /core";
            return http_answer::problem(Problem::bad_request(message));
        }
        let version = text(headers, &dial::LINK_VERSION_HEADER).unwrap_or("none");
        if version != dial::LINK_VERSION {
            let message =
                format!("links have version {}, the other node's {version}", dial::LINK_VERSION);
            return http_answer::problem(Problem::bad_request(message));
        }
        let Some(secret) = &self.ends.secret else {
            if self.keeper.is_on && !by_certificate {
                let message = "this node links up with no other: it has no --link-secret-file and \
                               no --tls-client-ca";
                return http_answer::problem(Problem::new(Code::AccessDenied, message));
            }
            return self.upgrade(request, dial::LINK_PROTOCOL, Ends::adopt);
        };
        match secret.judge(headers, Instant::now()) {
            Said::Welcome(proof) => {
                let mut answer = self.upgrade(request, dial::LINK_PROTOCOL, Ends::adopt);
                link_secret::put_proof(answer.headers_mut(), proof);
                answer
            }
            Said::Ask(nonce) => {
                let message = "only nodes of this cluster link up here";
                let problem = Problem::new(Code::Unauthorized, message);
                let mut answer = http_answer::problem(problem);
                answer.headers_mut().insert(link_secret::NONCE, nonce);
                answer
            }
            Said::Stranger => {
                let message = "the proof is none: the other node has another --link-secret-file";
                http_answer::problem(Problem::new(Code::AccessDenied, message))
            }
        }
    }

    /// A program wants to attach to an instance or to serve a kind: which one, its first frame
    /// says.
    fn attach(&self, request: hyper::Request<Incoming>, path: &str, place: &Place) -> Answer {
        let asked = text(request.headers(), &header::UPGRADE).unwrap_or_default();
        let protocol = match instance_at(path) {
            Some(_) => programs::PROTOCOL,
            None => programs::SERVICE_PROTOCOL,
        };
        if !asked.eq_ignore_ascii_case(protocol) {
            let message = format!(
                "programs attach here over an upgraded connection: ask with the headers \
                 'Connection: Upgrade' and 'Upgrade: {protocol}'"
            );
            let mut answer = http_answer::problem(Problem::new(Code::UpgradeRequired, message));
            let protocol = HeaderValue::from_static(protocol);
            answer.headers_mut().insert(header::UPGRADE, protocol);
            return answer;
        }
        if !self.ends.has_room_for_a_program() {
            let message = "too many programs are attached to this node; end some first";
            return http_answer::problem(Problem::new(Code::Busy, message));
        }
        // The right is to this one, so the program must be this one.
        let named = attached_at(path).unwrap_or_default();
        let only = match principal::of(request.headers()) {
            Ok(principal) if self.keeper.is_on => {
                let keeper = Arc::clone(&self.keeper);
                let caller = Caller::of(request.headers(), place.address);
                let (verb, path) = (Method::Post, path.to_owned());
                Some((named.to_owned(), StandingRight { keeper, principal, verb, path, caller }))
            }
            Ok(_) => None,
            Err(problem) => return http_answer::problem(problem),
        };
        self.upgrade(request, protocol, move |ends, upgraded, closing| {
            ends.adopt_program(upgraded, closing, only)
        })
    }

    /// Says yes, and hands the connection over once that is said.
    fn upgrade<A>(
        &self,
        request: hyper::Request<Incoming>,
        protocol: &'static str,
        adopt: A,
    ) -> Answer
    where
        A: FnOnce(&Ends, Upgraded, watch::Receiver<()>) -> std::io::Result<()> + Send + 'static,
    {
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
        switching(protocol)
    }

    /// Says yes, and goes on in HTTP/2 with the answer to this very request.
    fn upgrade_to_two(
        self: &Arc<Self>,
        request: hyper::Request<Incoming>,
        frame: Bytes,
        before: &Place,
    ) -> Answer {
        let Some(place) = self.connections.enter(before.address) else {
            return http_answer::problem(Problem::new(
                Code::Busy,
                "there are too many connections",
            ));
        };
        let front = Arc::clone(self);
        tokio::spawn(async move {
            let upgraded = async {
                let upgraded = hyper::upgrade::on(request).await.map_err(std::io::Error::other)?;
                let (socket, already_read) = dial::socket_of_client(upgraded)?;
                let mut socket = TcpStream::from_std(socket)?;
                let start = h2c::begin(&mut socket, already_read, &frame).await?;
                Ok::<_, std::io::Error>((socket, start))
            };
            let upgraded = tokio::select! {
                upgraded = upgraded => upgraded.map_err(|error| error.to_string()),
                _ = place.meter.overdue() => Err("it does not go on in HTTP/2".into()),
            };
            let served = match upgraded {
                Ok((socket, start)) => front.serve_two(socket, start, place).await,
                Err(why) => Err(why),
            };
            if let Err(why) = served {
                tracing::trace!("a connection that went on in HTTP/2 ended: {why}");
            }
        });
        switching(h2c::PROTOCOL)
    }
}

/// Why a connection is to end: a deadline of its own, or the end of the node.
async fn end_of(meter: &Meter, closing: &mut watch::Receiver<()>) -> Option<Overdue> {
    tokio::select! {
        overdue = meter.overdue() => Some(overdue),
        _ = closing.changed() => None,
    }
}

/// Lets a connection end by itself, if it is in a state for that. None: it is cut.
async fn farewell<C: Future>(connection: C, why: Option<Overdue>) -> Option<C::Output> {
    match why {
        Some(Overdue::Stuck) => None,
        Some(Overdue::Idle | Overdue::Untaken) => {
            tokio::time::timeout(FAREWELL_MAX, connection).await.ok()
        }
        None => Some(connection.await),
    }
}

fn switching(protocol: &'static str) -> Answer {
    let mut answer = Answer::new(Bytes::new());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    answer
}

/// Without a place there is not even a task for it.
fn turn_away(socket: &TcpStream) {
    let text = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\
                Connection: close\r\n\r\n";
    if let Err(error) = socket.try_write(text.as_bytes()) {
        tracing::trace!("a connection too many could not be told so: {error}");
    }
}

/// No answer at all: the client has as many as it may have and takes none.
fn gives_up(place: &Place) -> &'static str {
    place.meter.evict();
    "its client takes no answers"
}

async fn crowded(request: hyper::Request<Incoming>) -> Answer {
    let message = "the node has as many connections as it can serve; close some, or try again";
    closing(refuse(request, Problem::new(Code::Busy, message)).await)
}

/// The connection ends with this answer.
fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Says no without a look at the body.
async fn refuse(request: hyper::Request<Incoming>, mut problem: Problem) -> Answer {
    let is_write = to_method(request.method()).is_some_and(Method::is_write);
    problem.outcome = is_write.then_some(Outcome::NotApplied);
    let waits = request.headers().contains_key(header::EXPECT);
    http_request::discard(request.into_body(), waits).await;
    http_answer::problem(problem)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// What the shell answers itself.
fn own(verb: &Verb, path: &str, headers: &HeaderMap) -> Option<Own> {
    if let Some(path) = console::path(verb, path, headers) {
        return Some(Own::Console(path));
    }
    match path {
        "/livez" => Some(Own::Live),
        "/readyz" => Some(Own::Ready),
        "/metrics" => Some(Own::Metrics),
        dial::LINK_PATH => Some(Own::Link),
        path if instance_at(path).or_else(|| kind_at(path)).is_some() => Some(Own::Attach),
        _ => None,
    }
}

/// For the metrics: the methods there are, and one name for all others.
fn method_name(method: &hyper::Method) -> &'static str {
    match to_method(method) {
        Some(Method::Get) if *method == hyper::Method::HEAD => "HEAD",
        Some(method) => method.name(),
        None => "OTHER",
    }
}
