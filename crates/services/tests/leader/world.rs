//! A leader with its partition, its log and its handlers, played by lines of text.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use access::{Guard, Policy};
use bytes::Bytes;
use documents::{AppliedCommand, Command, Retention, Write};
use group::{Caller, LeaderInput, Opened, Output};
use protocol::immortal::Message;
use protocol::service::Answer;
use protocol::{
    Action, Body, BodyType, Code, Document, GroupId, InstanceMessage, Maker, Method, Moment,
    Outcome, Position, Principal, Problem, ReplicaId, Request, RequestKey, Response, Source, Term,
};
use query::Cursor;
use script::Player;
use serde_json::Value;
use serde_json::value::RawValue;
use services::{
    Effort, Invocation, Limits, PartitionAction, PartitionAnswer, PartitionEvent, PartitionMachine,
    PartitionQuestion, QuickInvoker, Said as Heard, ToInstance, WantedSearch,
};

use crate::batches::outcomes;
use crate::inbox::Write as InstanceWrite;
use crate::owner::{Owner, Said};

pub(crate) struct World {
    owner: Owner,
    /// What waits to be run, applied and confirmed.
    handlers: VecDeque<Box<Invocation>>,
    log: VecDeque<(u64, Bytes)>,
    quorum: VecDeque<u64>,
    /// The opening and the leader's number of the calls, in order; scripts count them from 1.
    calls: Vec<(u64, u64)>,
    /// The opening, the leader's number and the document of what programs outside are asked, in
    /// order; scripts count from 1.
    asks: Vec<(u64, u64, String)>,
    /// Which of these three wait until they are told to go on.
    held: Vec<String>,
    /// This many of the next proposals go into the log; the one after these does not.
    room: Option<usize>,
    /// Handlers run within the leader's step.
    is_quick: bool,
    /// There is a task that the leader knows nothing of.
    is_broken: bool,
    limits: Limits,
    /// What has come of writes of instances, in order; scripts count them from 1.
    pub(crate) writes: Vec<InstanceWrite>,
    shown: Vec<String>,
}

impl Player for World {
    fn play(&mut self, line: &str) -> Vec<String> {
        self.line(line);
        std::mem::take(&mut self.shown)
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            owner: Owner::new("n1"),
            handlers: VecDeque::new(),
            log: VecDeque::new(),
            quorum: VecDeque::new(),
            calls: Vec::new(),
            asks: Vec::new(),
            held: Vec::new(),
            room: None,
            is_quick: false,
            is_broken: false,
            limits: Limits::default(),
            writes: Vec::new(),
            shown: Vec::new(),
        };
        world.open();
        world
    }

    /// These rules count.
    pub(crate) fn guard(&mut self, policy: Policy) {
        self.owner.handlers.guard = Guard { is_on: true, policy: Arc::new(policy) };
    }

    fn line(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "ask" => self.ask(rest),
            "batch" => self.batch(rest),
            "flood" => self.flood(rest),
            "query" => self.query(rest, Effort::Step),
            "search" => self.query(rest, Effort::Long),
            "define" => self.owner.define(rest),
            "fence" => self.fence(rest),
            "available" => self.available(rest),
            "quick" => self.run_handlers_at_once(),
            "hold" => self.held.push(rest.to_owned()),
            "release" => self.release(rest),
            "run" => self.run_one(),
            "apply" => self.apply_one(),
            "refuse" => self.refuse_one(),
            "room" => self.room = Some(rest.parse().unwrap()),
            "meddle" => self.meddle(rest),
            "foundling" => self.foundling(rest),
            "call" => self.call(rest),
            "program" => self.program(rest),
            "fenced" => self.fenced(rest),
            "fence-late" => self.fence_late(rest),
            "wait" => self.wait(rest),
            "quorum" => self.quorum(rest),
            "tick" => self.step(LeaderInput::Tick),
            "takeover" => self.takeover(rest),
            "acked" => self.acked(rest),
            "moved" => self.happened(PartitionEvent::InstanceMoved { instance: rest.to_owned() }),
            "no-instance" => {
                self.happened(PartitionEvent::NoInstance { instance: rest.to_owned() });
            }
            "outbox" => self.outbox(),
            "writes" => self.instance_writes(rest),
            "asks" => self.instance_asks(rest),
            "enter" => self.enter_write(rest),
            "write-answer" => self.write_answer(rest),
            "inbox" => self.inbox(),
            "reopen" => self.reopen(),
            "limit" => self.limit(rest),
            "show" => self.show(rest),
            "attached" => self.attached(rest),
            other => panic!("a script says '{other}': {line}"),
        }
        self.settle();
        // The invariant of every task, after each line of every script.
        let without = self.owner.without_next_event();
        assert!(self.is_broken || without.is_empty(), "after '{line}': {without:?}");
    }

    fn open(&mut self) {
        self.owner.handlers.node_id = format!("n{}", self.owner.epoch).into();
        let said = self.owner.open();
        self.took(said);
    }

    /// `quick`: from now on handlers run within the leader's step, but for slow ones.
    fn run_handlers_at_once(&mut self) {
        self.is_quick = true;
        self.owner.handlers.invoker = Arc::new(QuickInvoker);
    }

    fn step(&mut self, input: LeaderInput<PartitionMachine>) {
        let said = self.owner.step(input);
        self.took(said);
    }

    pub(crate) fn happened(&mut self, event: PartitionEvent) {
        let said = self.owner.happened(event);
        self.took(said);
    }

    /// As a `group::Replica` does: what comes of a refused proposal is carried out last.
    fn took(&mut self, said: Said) {
        let mut waiting: VecDeque<_> = said.into();
        while let Some(output) = waiting.pop_front() {
            match output {
                Output::Propose { proposal, data } => {
                    if self.has_room() {
                        self.log.push_back((proposal, data));
                    } else {
                        waiting.extend(self.owner.step(LeaderInput::Refused { proposal }));
                    }
                }
                Output::Confirm { ticket } => self.quorum.push_back(ticket),
                Output::Answer { ticket, answer, position } => {
                    self.answer(ticket, &answer, position);
                }
                Output::Refuse { ticket, problem } => self.refuse(ticket, problem),
                Output::NotOwner { ticket } => {
                    let callers = self.finish(ticket);
                    self.tell(&callers, "not the owner");
                }
                Output::Do(action) => self.act(action),
                Output::Resign => self.shown.push("resigns".into()),
                Output::Note(text) => self.shown.push(format!("note: {text}")),
            }
        }
    }

    fn has_room(&mut self) -> bool {
        match &mut self.room {
            None => true,
            Some(0) => {
                self.room = None;
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    fn act(&mut self, action: PartitionAction) {
        match action {
            PartitionAction::Invoke(invocation) => {
                if self.is_quick {
                    self.shown.push("(a handler runs elsewhere)".into());
                }
                self.handlers.push_back(invocation);
            }
            PartitionAction::Call { opening, call, request } if request.numbered().is_some() => {
                self.write_comes(opening, call, *request);
            }
            PartitionAction::Call { opening, call, request } => {
                self.calls.push((opening, call));
                let number = self.calls.len();
                let Source { partition, epoch } = request.source().expect("a task has a source");
                let key = request.idempotency_key.unwrap_or_default();
                let method = request.method.name();
                let body = String::from_utf8_lossy(&request.body).into_owned();
                let path = request.path;
                let who = request.principal.user().map(|user| format!(" as={user}"));
                let who = who.unwrap_or_default();
                self.shown.push(format!(
                    "call {number}: {method} {path} {body} key=[{key}] \
                     source={partition}/{epoch}{who}"
                ));
            }
            PartitionAction::Ask { opening, number, call } => {
                self.asks.push((opening, number, call.link.clone()));
                let number = self.asks.len();
                let text = |json: &Bytes| String::from_utf8_lossy(json).into_owned();
                let handler = call.handler.name();
                self.shown.push(format!(
                    "program {number}: {handler} [{}] {} v{} user=[{}] before={} after={} body={}",
                    call.action,
                    call.link,
                    call.version,
                    call.user,
                    text(&call.before),
                    text(&call.after),
                    text(&call.body)
                ));
            }
            PartitionAction::Fence { source: Source { partition, epoch }, .. } => {
                self.shown.push(format!("fence {partition}/{epoch}"));
            }
            PartitionAction::Search(search) => {
                self.shown.push("(a query runs elsewhere)".into());
                self.search(*search);
            }
            PartitionAction::Send { instance, message } => self.sent(&instance, message),
            PartitionAction::WithoutNextEvent { count } => {
                self.shown.push(format!("{count} tasks without a next event"));
            }
            PartitionAction::Ack { instance, logged, resend_from } => {
                self.acks(instance, logged, resend_from);
            }
            PartitionAction::GoOn { opening } => self.happened(PartitionEvent::GoOn { opening }),
        }
    }

    fn sent(&mut self, instance: &str, message: ToInstance) {
        self.shown.push(match message {
            ToInstance::Probe => format!("to {instance}: which do you have?"),
            ToInstance::Send { from, floor, first, count, messages } => {
                let messages = protocol::immortal::messages(messages);
                let payload = |message| match message {
                    Ok(Message::Fork { method, payload }) => {
                        format!("{method}{}", String::from_utf8_lossy(&payload))
                    }
                    Ok(Message::Answer { id, payload, .. }) => {
                        format!("answer {id}: {}", show_outcome(&payload))
                    }
                    other => panic!("{other:?}"),
                };
                let shown: Vec<String> = messages.map(payload).collect();
                let last = first + count - 1;
                format!("to {instance}: {first} to {last} of {from}, from {floor} on: {shown:?}")
            }
        });
    }

    /// `attached /app/seats`: a program for that kind is there. `attached`: none is.
    fn attached(&mut self, factory: &str) {
        let attached = &mut self.owner.handlers.attached;
        attached.clear();
        attached.extend((!factory.is_empty()).then(|| factory.to_owned()));
    }

    /// `fence-late 3 no owner`: that partition has not taken the fence, and why.
    fn fence_late(&mut self, rest: &str) {
        let (lacking, why) = rest.split_once(' ').unwrap();
        let (lacking, why) = (GroupId(lacking.parse().unwrap()), why.to_owned());
        let opening = self.owner.opening;
        self.happened(PartitionEvent::FenceLate { opening, lacking, why });
    }

    /// `acked ledger 3`: it has all up to 3. `acked ledger 3 5`: and wants those from 5 on.
    fn acked(&mut self, rest: &str) {
        let mut words = rest.split(' ');
        let instance = words.next().unwrap().to_owned();
        let logged = words.next().unwrap().parse().unwrap();
        let resend_from = words.next().map(|word| word.parse().unwrap());
        self.happened(PartitionEvent::Acked { instance, logged, resend_from });
    }

    /// `outbox`: how far the messages to each instance are.
    fn outbox(&mut self) {
        for (name, it) in self.owner.partition().outbox().destinations() {
            let (last, confirmed, bytes) = (it.last, it.confirmed, it.bytes);
            self.shown.push(format!("{name}: {last} sent, {confirmed} confirmed, {bytes} bytes"));
        }
    }

    fn search(&mut self, wanted: WantedSearch) {
        let WantedSearch { opening, ticket, text, wanted, .. } = wanted;
        let query = Arc::new(services::compile(&text, None).unwrap());
        let found = PartitionAnswer::Page(self.owner.search(query, wanted));
        self.happened(PartitionEvent::Searched { opening, ticket, found });
    }

    fn answer(&mut self, ticket: u64, answer: &PartitionAnswer, position: Option<Position>) {
        let callers = self.finish(ticket);
        let at = position.map_or(String::new(), |position| format!(" at {position}"));
        for caller in callers {
            self.shown.push(format!("answer {}{at}: {}", caller.number, show_answer(answer)));
            self.write_is_answered(&caller, answer);
        }
    }

    pub(crate) fn say(&mut self, text: String) {
        self.shown.push(text);
    }

    pub(crate) fn last_write_of(&self, instance: GroupId) -> u64 {
        self.owner.partition().inbox().last(instance)
    }

    fn refuse(&mut self, ticket: u64, problem: Problem) {
        let is_write = self.owner.requests.is_write(ticket);
        let outcome = problem.outcome.or(is_write.then_some(Outcome::NotApplied));
        let answer = PartitionAnswer::from(Problem { outcome, ..problem });
        self.answer(ticket, &answer, None);
    }

    fn finish(&mut self, ticket: u64) -> Vec<Caller> {
        let finished = self.owner.requests.finish(ticket);
        finished.expect("a ticket is answered once").callers
    }

    fn tell(&mut self, callers: &[Caller], what: &str) {
        for Caller { number, .. } in callers {
            self.shown.push(format!("answer {number}: {what}"));
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
                self.step(LeaderInput::Confirmed { ticket });
            } else {
                return;
            }
        }
    }

    pub(crate) fn is_held(&self, what: &str) -> bool {
        self.held.iter().any(|held| held == what)
    }

    fn release(&mut self, what: &str) {
        assert!(self.is_held(what), "{what} is not held");
        self.held.retain(|held| held != what);
    }

    fn run_one(&mut self) {
        let invocation = self.handlers.pop_front().expect("a handler waits");
        let invoked = self.owner.invoke(*invocation);
        self.happened(PartitionEvent::Invoked(invoked));
    }

    fn apply_one(&mut self) {
        let (proposal, command) = self.log.pop_front().expect("a proposal waits");
        let effect = self.owner.apply(command);
        if effect == AppliedCommand::Fenced {
            self.shown.push("(fenced)".into());
        }
        let position = self.owner.position;
        self.step(LeaderInput::Applied { proposal, position, effect });
    }

    fn refuse_one(&mut self) {
        let (proposal, _) = self.log.pop_front().expect("a proposal waits");
        self.step(LeaderInput::Refused { proposal });
    }

    /// `meddle /core/things/one`: the next version comes from elsewhere.
    fn meddle(&mut self, link: &str) {
        let mut document = self.owner.latest(link).unwrap();
        let document = Arc::make_mut(&mut document);
        document.version += 1;
        document.epoch = self.owner.epoch;
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
            messages: Vec::new(),
            noted: None,
        });
        self.owner.apply(command.encode());
    }

    /// `foundling /core/walks/x {"steps":1}`: a task is under way, and the leader does not mind it.
    fn foundling(&mut self, rest: &str) {
        let (link, body) = rest.split_once(' ').unwrap();
        let mut body: serde_json::Map<String, Value> = serde_json::from_str(body).unwrap();
        body.insert("taskInfo".into(), serde_json::json!({ "stage": "STARTED" }));
        let document = Document {
            link: link.to_owned(),
            version: 0,
            epoch: self.owner.epoch,
            kind: "test:Walk".into(),
            action: Action::Post,
            updated: self.owner.now.wall,
            expires: Moment(0),
            owner: "n1".into(),
            author: None,
            body: Body::from_map(body),
        };
        let write = Write {
            document,
            key: None,
            status: 200,
            retention: Retention { limit: 10, floor: 5 },
            source: None,
            task: Some(true),
            purge: false,
            response: None,
            messages: Vec::new(),
            noted: None,
        };
        self.owner.apply(Command::Write(write).encode());
        self.is_broken = true;
    }

    /// `wait 1500000`: that many microseconds, then a tick.
    fn wait(&mut self, micros: &str) {
        let micros: u64 = micros.parse().unwrap();
        self.owner.now.steady_micros += micros;
        self.owner.now.wall.0 += micros;
        self.step(LeaderInput::Tick);
    }

    /// The same owner in the same term drops its leader and gets another. Handlers that were begun
    /// for the old one are still running.
    fn reopen(&mut self) {
        assert!(self.log.is_empty(), "a leader begins when all of the log is applied");
        self.close();
        self.open();
    }

    fn close(&mut self) {
        let callers = self.owner.close();
        self.tell(&callers, "not the owner");
    }

    /// Another owner; `takeover lost` loses what is in the log and not applied.
    fn takeover(&mut self, what: &str) {
        for (_, command) in std::mem::take(&mut self.log) {
            if what != "lost" {
                self.owner.apply(command);
            }
        }
        self.handlers.clear();
        self.quorum.clear();
        self.close();
        self.owner.epoch = Term(self.owner.epoch.0 + 1);
        self.open();
    }

    /// `limit queue 3`: how many may wait for one document, from the next owner on. `limit tasks
    /// 1`: how many tasks take steps at a time. `limit outbox 300`: how many bytes of messages may
    /// wait for an immortal, `limit all 300` for all of them.
    fn limit(&mut self, rest: &str) {
        let (what, count) = rest.split_once(' ').unwrap();
        let count = count.parse().unwrap();
        match what {
            "outbox" => self.limits.outbox_bytes_max = count as u64,
            "all" => self.limits.outbox_of_all_bytes_max = count as u64,
            "queue" => self.limits.document_queue_max = count,
            "tasks" => self.limits.tasks_running_max = count,
            other => panic!("a limit of {other}"),
        }
        self.owner.limit(self.limits);
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
        let (mut key, mut is_retry) = (None, false);
        for option in options.split_whitespace() {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "again" => is_retry = true,
                "key" => key = Some(user_key(value)),
                "auto" => key = Some(auto_key(value)),
                "if-match" => request.conditions.if_match = Some(value.parse().unwrap()),
                "if-none-match" => request.conditions.if_none_match = Some(value.parse().unwrap()),
                "pragma" => request.pragmas.push(value.to_owned()),
                "merge-patch" => request.body_type = BodyType::MergePatch,
                "source" => request.maker = Maker::Task(source(value)),
                "action" => request.action = Some(value.to_owned()),
                "system" => request.principal = Principal::System,
                "user" => request.principal = Principal::User(value.into()),
                other => panic!("an option '{other}'"),
            }
        }
        self.request(ticket, PartitionQuestion::Rest(request), key, is_retry);
    }

    /// `quorum 3 2`: three are needed, two nodes are up.
    fn quorum(&mut self, rest: &str) {
        let (needed, up) = rest.split_once(' ').unwrap();
        let (needed, up) = (needed.parse().unwrap(), up.parse().unwrap());
        self.owner.quorum = group::Quorum { needed, set: needed, up };
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

    /// `query 1 10 {...}`: the specification, at most ten hits. `search` makes more effort.
    fn query(&mut self, rest: &str, effort: Effort) {
        let mut words = rest.splitn(3, ' ');
        let ticket = words.next().unwrap().parse().unwrap();
        let limit = words.next().unwrap().parse().unwrap();
        let spec_json = Bytes::from(words.next().unwrap().to_owned());
        let (cursor, bytes, left_micros) = (None::<Cursor>, 1 << 20, 1_000_000);
        let principal = Principal::System;
        let question = PartitionQuestion::Query {
            spec_json,
            cursor,
            limit,
            bytes,
            effort,
            left_micros,
            principal,
        };
        self.request(ticket, question, None, false);
    }

    /// `fence 1 2/5`: ticket 1; the owner of partition 2 in term 5.
    fn fence(&mut self, rest: &str) {
        let (ticket, from) = rest.split_once(' ').unwrap();
        let question = PartitionQuestion::Fence(source(from));
        self.request(ticket.parse().unwrap(), question, None, false);
    }

    fn available(&mut self, ticket: &str) {
        self.request(ticket.parse().unwrap(), PartitionQuestion::Available, None, false);
    }

    /// As `group::Replica::ask` takes a question on. The number that a script gives to a request is
    /// its caller's.
    pub(crate) fn request(
        &mut self,
        number: u64,
        question: PartitionQuestion,
        key: Option<RequestKey>,
        is_retry: bool,
    ) {
        let is_write = match &question {
            PartitionQuestion::Rest(request) | PartitionQuestion::Resent(request) => {
                request.method.is_write()
            }
            PartitionQuestion::Fence(_) => true,
            PartitionQuestion::Query { .. } | PartitionQuestion::Available => false,
        };
        let caller = Caller { node: ReplicaId(1), boot: 1, number };
        match self.owner.requests.open(caller, key.as_ref(), is_write) {
            Opened::New(ticket) => {
                self.step(LeaderInput::Ask { ticket, question, key, is_retry });
            }
            Opened::Repeat => {}
            Opened::Refused(problem) => {
                let outcome = problem.outcome.or(is_write.then_some(Outcome::NotApplied));
                let answer = PartitionAnswer::from(Problem { outcome, ..problem });
                self.shown.push(format!("answer {number}: {}", show_answer(&answer)));
            }
        }
    }

    /// `call 2 503 {"message":"busy"}`
    fn call(&mut self, rest: &str) {
        let mut words = rest.splitn(3, ' ');
        let number: usize = words.next().unwrap().parse().unwrap();
        let (opening, call) =
            *self.calls.get(number - 1).unwrap_or_else(|| panic!("{rest}: {:?}", self.shown));
        let status = words.next().unwrap().parse().unwrap();
        let body = Bytes::from(words.next().unwrap_or("{}").to_owned());
        let response = Response::bytes(status, body);
        self.happened(PartitionEvent::Called { opening, call, response });
    }

    /// `program 2 state {"a":1}`, or in its place `as-it-is`, `sends ledger {"a":1}`, `refuses 409
    /// no`, `fails KeyError`, `nobody there is none`: what came of the second that was asked.
    fn program(&mut self, rest: &str) {
        let mut words = rest.splitn(3, ' ');
        let number: usize = words.next().unwrap().parse().unwrap();
        let (opening, number, link) =
            self.asks.get(number - 1).cloned().unwrap_or_else(|| panic!("{rest}"));
        let (word, rest) = (words.next().unwrap(), words.next().unwrap_or_default());
        let message = rest.to_owned();
        let said = match word {
            "state" => Heard::Answer(Answer::State(Bytes::from(message))),
            "as-it-is" => Heard::Answer(Answer::AsItIs),
            "sends" => {
                let (to, state) = rest.split_once(' ').unwrap();
                let state = Bytes::from(state.to_owned());
                let answer = if state.is_empty() { Answer::AsItIs } else { Answer::State(state) };
                let payload = Bytes::from_static(b"[1]");
                let message = InstanceMessage { to: to.to_owned(), method: 7, payload };
                let (messages, answer) = (vec![message], Box::new(answer));
                Heard::Answer(Answer::Sending { messages, answer })
            }
            "refuses" => {
                let (status, message) = rest.split_once(' ').unwrap();
                let (status, message) = (status.parse().unwrap(), message.to_owned());
                Heard::Answer(Answer::Refused { status, message })
            }
            "fails" => Heard::Answer(Answer::Failed { message }),
            "nobody" => Heard::Nothing(Problem::new(Code::NoProgram, message)),
            other => panic!("a program says '{other}'"),
        };
        self.happened(PartitionEvent::Said { opening, number, link, said });
    }

    /// `fenced`: all partitions have the fence. `fenced old`: that of the leader before.
    fn fenced(&mut self, which: &str) {
        let opening = self.owner.opening - u64::from(which == "old");
        self.happened(PartitionEvent::Fenced { opening });
    }

    fn show(&mut self, link: &str) {
        let document = self.owner.latest(link);
        let shown = match document {
            Some(document) => show_json(&document.to_json_bytes(&self.owner.handlers.node_id)),
            None => "nothing".into(),
        };
        self.shown.push(shown);
    }
}

/// Options stand before the body, which begins with a brace or a bracket.
pub(crate) fn split_body(text: &str) -> (&str, &str) {
    if text.starts_with(['{', '[']) {
        return ("", text);
    }
    match text.find(" {").or_else(|| text.find(" [")) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, ""),
    }
}

pub(crate) fn method(word: &str) -> Method {
    let all =
        [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Options];
    all.into_iter().find(|method| method.name() == word).expect(word)
}

/// `k/7`: the key and the digest.
pub(crate) fn user_key(text: &str) -> RequestKey {
    let (key, digest) = text.split_once('/').unwrap();
    RequestKey::User { key: key.to_owned(), digest: digest.parse().unwrap() }
}

pub(crate) fn auto_key(text: &str) -> RequestKey {
    let number = text.parse().unwrap();
    RequestKey::Auto { edge: ReplicaId(9), boot: 1, number, minute: 16 }
}

fn source(text: &str) -> Source {
    let (partition, epoch) = text.split_once('/').unwrap();
    Source { partition: GroupId(partition.parse().unwrap()), epoch: Term(epoch.parse().unwrap()) }
}

fn show_answer(answer: &PartitionAnswer) -> String {
    match answer {
        PartitionAnswer::TooLong => "too long".into(),
        PartitionAnswer::Response(response) => show_response(response),
        PartitionAnswer::Unchanged(response) => format!("unchanged {}", show_response(response)),
        PartitionAnswer::Page(page) => format!("page {}", show_page(page)),
    }
}

fn show_response(response: &Response) -> String {
    let mut shown = format!("{} ", response.status);
    shown.push_str(&show_json(&response.body));
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

/// What an instance is told of a write.
fn show_outcome(payload: &[u8]) -> String {
    let outcome: Value = serde_json::from_slice(payload).expect("an outcome is JSON");
    let body = outcome["body"].to_string();
    format!("{} {}", outcome["status"], show_json(body.as_bytes()))
}

fn show_page(page: &query::Page) -> String {
    if let Some(forgotten) = &page.forgotten {
        return format!("forgotten: {}", forgotten.to_problem().message);
    }
    let links: Vec<&str> = page.hits.iter().map(|hit| hit.link.as_str()).collect();
    format!("{links:?} count={} more={}", page.count, page.more)
}

/// Documents and errors in short, anything else as it is. Numbers are shown as they are written.
pub(crate) fn show_json(text: &[u8]) -> String {
    let body: Value = serde_json::from_slice(text).unwrap_or_default();
    if body.is_null() {
        return "(empty)".into();
    }
    if let Some(outcomes) = outcomes(&body) {
        return outcomes;
    }
    if let Some(code) = body["code"].as_str() {
        let request = body["request"].as_u64().map(|it| format!("request {it}: "));
        let outcome = body["outcome"].as_str().unwrap_or("no write");
        let message = body["message"].as_str().unwrap_or_default();
        return format!("{code} [{outcome}] {}{message}", request.unwrap_or_default());
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
    let mut rest: BTreeMap<String, &RawValue> = serde_json::from_slice(text).expect("an object");
    rest.retain(|name, _| !name.starts_with("document"));
    format!("{shown} {}", serde_json::to_string(&rest).expect("it is JSON"))
}
