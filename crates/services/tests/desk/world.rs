//! A desk with its partition, its log and its handlers, played by lines of text.

use std::collections::VecDeque;

use bytes::Bytes;
use documents::{AppliedCommand, Command, Partition, RequestKey, Retention, Write};
use protocol::{
    BodyType, Code, Epoch, GroupId, Method, Moment, Now, Position, Problem, ReplicaId, Request,
    Response, Source, Term,
};
use query::Cursor;
use serde_json::Value;
use services::{
    Answer, Catalogue, Desk, DeskInput, DeskOptions, DeskOutput, DeskRequest, Ground, Invocation,
};
use storage::{Applied, MemoryStore, Space};

const PARTITION: GroupId = GroupId(1);

pub(crate) struct World {
    store: MemoryStore,
    partition: Partition,
    catalogue: Catalogue,
    desk: Desk,
    epoch: Epoch,
    opening: u64,
    now: Now,
    position: Position,
    /// What waits to be run, applied and confirmed.
    handlers: VecDeque<Box<Invocation>>,
    log: VecDeque<(u64, Bytes)>,
    quorum: VecDeque<u64>,
    /// The desk's numbers of the calls, in order; scripts count them from 1.
    calls: Vec<u64>,
    /// Which of these three wait until they are told to go on.
    held: Vec<String>,
    document_queue_max: usize,
    tasks_running_max: usize,
    pub(crate) shown: Vec<String>,
}

impl World {
    pub(crate) fn new() -> Self {
        let store = MemoryStore::new();
        let (space, _) = Space::open(&store, PARTITION).unwrap();
        let partition = Partition::open(&store, space).unwrap();
        let now = Now { steady_micros: 0, wall: Moment(1_000_000_000) };
        let mut world = Self {
            store,
            partition,
            catalogue: crate::services::catalogue(),
            desk: Desk::new(DeskOptions::new(PARTITION, Term(1), "n1")),
            epoch: Term(1),
            opening: 0,
            now,
            position: Position(0),
            handlers: VecDeque::new(),
            log: VecDeque::new(),
            quorum: VecDeque::new(),
            calls: Vec::new(),
            held: Vec::new(),
            document_queue_max: services::DOCUMENT_QUEUE_MAX,
            tasks_running_max: services::TASKS_RUNNING_MAX,
            shown: Vec::new(),
        };
        world.open();
        world
    }

    /// One line of a script.
    pub(crate) fn play(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ask" => self.ask(rest),
            "flood" => self.flood(rest),
            "query" => self.query(rest),
            "fence" => self.fence(rest),
            "available" => self.request(rest.parse().unwrap(), DeskRequest::Available, None, false),
            "hold" => self.held.push(rest.to_owned()),
            "release" => self.release(rest),
            "run" => self.run_one(),
            "apply" => self.apply_one(),
            "refuse" => self.refuse_one(),
            "meddle" => self.meddle(rest),
            "call" => self.call(rest),
            "fenced" => self.step(DeskInput::Fenced),
            "wait" => self.wait(rest),
            "tick" => self.step(DeskInput::Tick),
            "takeover" => self.takeover(rest),
            "reopen" => self.reopen(),
            "limit" => self.limit(rest),
            "show" => self.show(rest),
            other => panic!("a script says '{other}': {line}"),
        }
        self.settle();
    }

    fn open(&mut self) {
        let mut options = DeskOptions::new(PARTITION, self.epoch, format!("n{}", self.epoch));
        options.opening = self.opening;
        options.document_queue_max = self.document_queue_max;
        options.tasks_running_max = self.tasks_running_max;
        self.desk = Desk::new(options);
        self.step(DeskInput::Opened);
    }

    fn step(&mut self, input: DeskInput) {
        let mut outputs = Vec::new();
        let ground = &mut Ground {
            partition: &mut self.partition,
            store: &mut self.store,
            catalogue: &self.catalogue,
        };
        self.desk.step(self.now, input, ground, &mut outputs).unwrap();
        for output in outputs {
            self.took(output);
        }
    }

    fn took(&mut self, output: DeskOutput) {
        match output {
            DeskOutput::Invoke(invocation) => self.handlers.push_back(invocation),
            DeskOutput::Propose { proposal, command } => self.log.push_back((proposal, command)),
            DeskOutput::Confirm { ticket } => self.quorum.push_back(ticket),
            DeskOutput::Answer { ticket, answer, position } => {
                let at = position.map_or(String::new(), |position| format!(" at {position}"));
                let shown = match answer {
                    Answer::Response(response) => show_response(&response),
                    Answer::Page(page) => format!("page {}", show_page(&page)),
                };
                self.shown.push(format!("answer {ticket}{at}: {shown}"));
            }
            DeskOutput::Call { call, request } => {
                self.calls.push(call);
                let number = self.calls.len();
                let key = request.idempotency_key.unwrap_or_default();
                let Source { partition, epoch } = request.source.expect("a task has a source");
                let method = request.method.name();
                let body = String::from_utf8_lossy(&request.body).into_owned();
                let path = request.path;
                self.shown.push(format!(
                    "call {number}: {method} {path} {body} key=[{key}] source={partition}/{epoch}"
                ));
            }
            DeskOutput::Fence(Source { partition, epoch }) => {
                self.shown.push(format!("fence {partition}/{epoch}"));
            }
            DeskOutput::Note(text) => self.shown.push(format!("note: {text}")),
        }
    }

    /// Does all that is not held.
    fn settle(&mut self) {
        loop {
            if !self.is_held("handlers") && !self.handlers.is_empty() {
                self.run_one();
            } else if !self.is_held("log") && !self.log.is_empty() {
                self.apply_one();
            } else if !self.is_held("quorum") && !self.quorum.is_empty() {
                let ticket = self.quorum.pop_front().unwrap();
                self.step(DeskInput::Confirmed { ticket });
            } else {
                return;
            }
        }
    }

    fn is_held(&self, what: &str) -> bool {
        self.held.iter().any(|held| held == what)
    }

    fn release(&mut self, what: &str) {
        assert!(self.is_held(what), "{what} is not held");
        self.held.retain(|held| held != what);
    }

    fn run_one(&mut self) {
        let invocation = self.handlers.pop_front().expect("a handler waits");
        let invoked = self.catalogue.invoke(*invocation);
        self.step(DeskInput::Invoked(invoked));
    }

    fn apply_one(&mut self) {
        let (proposal, command) = self.log.pop_front().expect("a proposal waits");
        let outcome = self.apply(&command);
        if outcome == AppliedCommand::Fenced {
            self.shown.push("(fenced)".into());
        }
        self.step(DeskInput::Applied { proposal, position: self.position, outcome });
    }

    fn apply(&mut self, command: &[u8]) -> AppliedCommand {
        self.position = self.position.next();
        let applied = Applied { position: self.position, term: self.epoch, ..Applied::default() };
        self.partition.apply(&mut self.store, applied, command).unwrap()
    }

    fn refuse_one(&mut self) {
        let (proposal, _) = self.log.pop_front().expect("a proposal waits");
        let problem = Problem::new(Code::QuorumNotMet, "too few");
        self.step(DeskInput::Refused { proposal, problem });
    }

    /// `meddle /core/things/one`: the next version comes from elsewhere.
    fn meddle(&mut self, link: &str) {
        let mut document = self.partition.latest(&self.store, link).unwrap().unwrap();
        let document = std::sync::Arc::make_mut(&mut document);
        document.version += 1;
        document.epoch = self.epoch;
        document.owner = "meddler".into();
        let command = Command::Write(Write {
            document: document.clone(),
            key: None,
            status: 200,
            retention: Retention { limit: 10, floor: 5 },
            source: None,
            task: None,
            purge: false,
            response: None,
        });
        self.apply(&command.encode());
    }

    /// `wait 1500000`: that many microseconds, then a tick.
    fn wait(&mut self, micros: &str) {
        let micros: u64 = micros.parse().unwrap();
        self.now.steady_micros += micros;
        self.now.wall.0 += micros;
        self.step(DeskInput::Tick);
    }

    /// The same owner in the same term closed its desk and opens another. Handlers that were begun
    /// for the old one are still running.
    fn reopen(&mut self) {
        assert!(self.log.is_empty(), "a desk is opened when all of the log is applied");
        self.opening += 1;
        self.open();
    }

    /// Another owner; `takeover lost` loses what is in the log and not applied.
    fn takeover(&mut self, what: &str) {
        for (_, command) in std::mem::take(&mut self.log) {
            if what != "lost" {
                self.apply(&command);
            }
        }
        self.handlers.clear();
        self.quorum.clear();
        let desk =
            std::mem::replace(&mut self.desk, Desk::new(DeskOptions::new(PARTITION, Term(0), "")));
        for open in desk.close() {
            let outcome = if open.proposed { "unknown" } else { "not applied" };
            self.shown.push(format!("open {}: {outcome}", open.ticket));
        }
        self.epoch = Term(self.epoch.0 + 1);
        self.open();
    }

    /// `limit queue 3`: how many may wait for one document, from the next owner on. `limit tasks 1`:
    /// how many tasks take steps at a time.
    fn limit(&mut self, rest: &str) {
        let (what, count) = rest.split_once(' ').unwrap();
        let count = count.parse().unwrap();
        match what {
            "queue" => self.document_queue_max = count,
            "tasks" => self.tasks_running_max = count,
            other => panic!("a limit of {other}"),
        }
        self.takeover("");
    }

    /// `ask 1 POST /core/things/one {"name":"a"} key=k/7 again`
    fn ask(&mut self, rest: &str) {
        let mut words = rest.splitn(4, ' ');
        let ticket = words.next().unwrap().parse().unwrap();
        let method = method(words.next().unwrap());
        let target = words.next().unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Request::new(method, path);
        request.query = query.to_owned();
        let (options, body) = split_body(words.next().unwrap_or_default());
        request.body = Bytes::from(body.to_owned());
        let (mut key, mut again) = (None, false);
        for option in options.split_whitespace() {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "again" => again = true,
                "key" => key = Some(user_key(value)),
                "auto" => key = Some(auto_key(value)),
                "if-match" => request.if_match = Some(value.to_owned()),
                "pragma" => request.pragmas.push(value.to_owned()),
                "merge-patch" => request.body_type = BodyType::MergePatch,
                "source" => request.source = Some(source(value)),
                other => panic!("an option '{other}'"),
            }
        }
        self.request(ticket, DeskRequest::Rest(request), key, again);
    }

    /// `flood 100 5 GET /core/things/one`: tickets from 100 on, five requests.
    fn flood(&mut self, rest: &str) {
        let mut words = rest.splitn(3, ' ');
        let first: u64 = words.next().unwrap().parse().unwrap();
        let count: u64 = words.next().unwrap().parse().unwrap();
        let request = words.next().unwrap();
        for ticket in first..first + count {
            self.ask(&format!("{ticket} {request}"));
        }
    }

    /// `query 1 10 {...}`: the specification, at most ten hits.
    fn query(&mut self, rest: &str) {
        let mut words = rest.splitn(3, ' ');
        let ticket = words.next().unwrap().parse().unwrap();
        let limit = words.next().unwrap().parse().unwrap();
        let spec_json = Bytes::from(words.next().unwrap().to_owned());
        let cursor: Option<Cursor> = None;
        self.request(ticket, DeskRequest::Query { spec_json, cursor, limit }, None, false);
    }

    /// `fence 1 2/5`: ticket 1; the owner of partition 2 in term 5.
    fn fence(&mut self, rest: &str) {
        let (ticket, from) = rest.split_once(' ').unwrap();
        let request = DeskRequest::Fence(source(from));
        self.request(ticket.parse().unwrap(), request, None, false);
    }

    fn request(&mut self, ticket: u64, request: DeskRequest, key: Option<RequestKey>, again: bool) {
        self.step(DeskInput::Request { ticket, request, key, again });
    }

    /// `call 2 503 {"message":"busy"}`
    fn call(&mut self, rest: &str) {
        let mut words = rest.splitn(3, ' ');
        let number: usize = words.next().unwrap().parse().unwrap();
        let call =
            *self.calls.get(number - 1).unwrap_or_else(|| panic!("{rest}: {:?}", self.shown));
        let status = words.next().unwrap().parse().unwrap();
        let body = Bytes::from(words.next().unwrap_or("{}").to_owned());
        self.step(DeskInput::Called { call, response: Response::bytes(status, body) });
    }

    fn show(&mut self, link: &str) {
        let document = self.partition.latest(&self.store, link).unwrap();
        let shown = match document {
            Some(document) => show_json(&document.to_json()),
            None => "nothing".into(),
        };
        self.shown.push(shown);
    }
}

/// Options stand before the body, which begins with a brace or a bracket.
fn split_body(text: &str) -> (&str, &str) {
    if text.starts_with(['{', '[']) {
        return ("", text);
    }
    match text.find(" {").or_else(|| text.find(" [")) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    }
}

fn method(word: &str) -> Method {
    let all =
        [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Options];
    all.into_iter().find(|method| method.name() == word).expect(word)
}

/// `k/7`: the key and the digest.
fn user_key(text: &str) -> RequestKey {
    let (key, digest) = text.split_once('/').unwrap();
    RequestKey::User { key: key.to_owned(), digest: digest.parse().unwrap() }
}

fn auto_key(text: &str) -> RequestKey {
    let number = text.parse().unwrap();
    RequestKey::Auto { edge: ReplicaId(9), boot: 1, number, minute: 16 }
}

fn source(text: &str) -> Source {
    let (partition, epoch) = text.split_once('/').unwrap();
    Source { partition: GroupId(partition.parse().unwrap()), epoch: Term(epoch.parse().unwrap()) }
}

fn show_response(response: &Response) -> String {
    let mut shown = format!("{} ", response.status);
    shown.push_str(&show_json(&response.to_json()));
    if let Some(location) = &response.location {
        shown.push_str(&format!(" location={location}"));
    }
    if let Some(etag) = &response.etag {
        shown.push_str(&format!(" etag={etag}"));
    }
    if let Some(seconds) = response.retry_after_seconds {
        shown.push_str(&format!(" retry-after={seconds}"));
    }
    shown
}

fn show_page(page: &query::Page) -> String {
    let links: Vec<&str> = page.hits.iter().map(|hit| hit.link.as_str()).collect();
    format!("{links:?} count={} more={}", page.count, page.more)
}

/// Documents and errors in short, anything else as it is.
fn show_json(body: &Value) -> String {
    if body.is_null() {
        return "(empty)".into();
    }
    if let Some(code) = body["code"].as_str() {
        let outcome = body["outcome"].as_str().unwrap_or("no write");
        return format!("{code} [{outcome}] {}", body["message"].as_str().unwrap_or_default());
    }
    let Some(fields) = body.as_object().filter(|it| it.contains_key("documentUpdateAction")) else {
        return body.to_string();
    };
    let word = |name: &str| match &fields[name] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut shown = format!(
        "{} v{} e{} {}",
        word("documentSelfLink"),
        word("documentVersion"),
        word("documentEpoch"),
        word("documentUpdateAction")
    );
    if fields["documentExpirationTimeMicros"] != 0 {
        shown.push_str(&format!(" expires={}", word("documentExpirationTimeMicros")));
    }
    let mut rest = fields.clone();
    rest.retain(|name, _| !name.starts_with("document"));
    format!("{shown} {}", Value::Object(rest))
}
