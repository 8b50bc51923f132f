//! Random histories: clients and tasks add to one counter while handlers, log, refusals and owners
//! come and go in any order. Whatever happens, each addition counts once.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use documents::{AppliedCommand, Partition, RequestKey};
use protocol::{
    Code, GroupId, Method, Moment, Now, Position, Problem, Request, Response, Source, Term,
};
use serde_json::json;
use services::{
    Answer, Catalogue, Desk, DeskInput, DeskOptions, DeskOutput, DeskRequest, Ground, Invocation,
};
use storage::{Applied, MemoryStore, Space};

const PARTITION: GroupId = GroupId(1);
const COUNTER: &str = "/core/things/one";

/// Xorshift: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(count).unwrap()).unwrap()
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

/// Who waits for an answer.
#[derive(Clone)]
enum Asker {
    Client {
        request: Request,
        key: RequestKey,
    },
    /// A call of the desk that was there at the time.
    Call {
        epoch: Term,
        call: u64,
        request: Request,
    },
    Fence {
        epoch: Term,
        source: Source,
    },
}

struct Cluster {
    dice: Dice,
    store: MemoryStore,
    partition: Partition,
    catalogue: Catalogue,
    desk: Desk,
    epoch: Term,
    now: Now,
    position: Position,
    handlers: Vec<Invocation>,
    log: VecDeque<(u64, Bytes)>,
    quorum: VecDeque<u64>,
    refused: VecDeque<u64>,
    ticket: u64,
    asked: BTreeMap<u64, Asker>,
    /// On their way to whoever is the owner when they arrive; those of old owners too.
    on_the_way: Vec<Asker>,
    succeeded: usize,
    takeovers: usize,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let store = MemoryStore::new();
        let (space, _) = Space::open(&store, PARTITION).unwrap();
        let partition = Partition::open(&store, space).unwrap();
        Self {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            store,
            partition,
            catalogue: crate::services::catalogue(),
            desk: Desk::new(DeskOptions::new(PARTITION, Term(1), "n1")),
            epoch: Term(1),
            now: Now { steady_micros: 0, wall: Moment(1_000_000_000) },
            position: Position(0),
            handlers: Vec::new(),
            log: VecDeque::new(),
            quorum: VecDeque::new(),
            refused: VecDeque::new(),
            ticket: 0,
            asked: BTreeMap::new(),
            on_the_way: Vec::new(),
            succeeded: 0,
            takeovers: 0,
        }
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
            DeskOutput::Invoke(invocation) => self.handlers.push(*invocation),
            DeskOutput::Propose { proposal, .. } if self.dice.percent(5) => {
                self.refused.push_back(proposal);
            }
            DeskOutput::Propose { proposal, command } => self.log.push_back((proposal, command)),
            DeskOutput::Confirm { ticket } => self.quorum.push_back(ticket),
            DeskOutput::Answer { ticket, answer, .. } => self.answered(ticket, answer),
            DeskOutput::Call { call, request } => {
                self.on_the_way.push(Asker::Call { epoch: self.epoch, call, request });
            }
            DeskOutput::Fence(source) => {
                self.on_the_way.push(Asker::Fence { epoch: self.epoch, source });
            }
            DeskOutput::Note(_) => {}
        }
    }

    fn answered(&mut self, ticket: u64, answer: Answer) {
        let asker = self.asked.remove(&ticket).expect("a ticket is answered once");
        let Answer::Response(response) = answer else { panic!("no query was asked") };
        match asker {
            Asker::Client { .. } if response.is_success() => self.succeeded += 1,
            Asker::Client { .. } => {
                let body = response.to_json();
                assert_eq!(body["outcome"], "notApplied", "{body}");
                assert!(matches!(response.status, 404 | 503), "{body}");
                self.on_the_way.push(asker);
            }
            // The answer finds the desk that asked, or nobody.
            Asker::Call { epoch, call, .. } if epoch == self.epoch => {
                self.step(DeskInput::Called { call, response });
            }
            Asker::Fence { epoch, .. } if epoch == self.epoch && response.is_success() => {
                self.step(DeskInput::Fenced);
            }
            Asker::Fence { epoch, .. } if epoch == self.epoch => self.on_the_way.push(asker),
            Asker::Call { .. } | Asker::Fence { .. } => {}
        }
    }

    fn deliver(&mut self) {
        if self.on_the_way.is_empty() {
            return;
        }
        let which = self.dice.below(self.on_the_way.len());
        let asker = self.on_the_way.swap_remove(which);
        self.ticket += 1;
        let ticket = self.ticket;
        let (request, key) = match &asker {
            Asker::Client { request, key } => {
                (DeskRequest::Rest(request.clone()), Some(key.clone()))
            }
            Asker::Call { request, .. } => {
                let key = request.idempotency_key.clone().unwrap();
                let key = RequestKey::User { key, digest: 1 };
                (DeskRequest::Rest(request.clone()), Some(key))
            }
            Asker::Fence { source, .. } => (DeskRequest::Fence(*source), None),
        };
        self.asked.insert(ticket, asker);
        let again = self.dice.percent(50);
        self.step(DeskInput::Request { ticket, request, key, again });
    }

    fn run_handler(&mut self) {
        if self.handlers.is_empty() {
            return;
        }
        let which = self.dice.below(self.handlers.len());
        let invocation = self.handlers.swap_remove(which);
        let invoked = self.catalogue.invoke(invocation);
        self.step(DeskInput::Invoked(invoked));
    }

    fn apply(&mut self, command: &[u8]) -> AppliedCommand {
        self.position = self.position.next();
        let applied = Applied { position: self.position, term: self.epoch, ..Applied::default() };
        self.partition.apply(&mut self.store, applied, command).unwrap()
    }

    fn apply_next(&mut self) {
        let Some((proposal, command)) = self.log.pop_front() else { return };
        let outcome = self.apply(&command);
        self.step(DeskInput::Applied { proposal, position: self.position, outcome });
    }

    /// Another owner: some of what is in the log was committed, the rest is lost. Handlers of the
    /// last one still come back. Clients ask again.
    fn take_over(&mut self) {
        let committed = self.dice.below(self.log.len() + 1);
        let log = std::mem::take(&mut self.log);
        for (_, command) in log.into_iter().take(committed) {
            self.apply(&command);
        }
        self.takeovers += 1;
        self.epoch = Term(self.epoch.0 + 1);
        self.refused.clear();
        self.quorum.clear();
        let next = Desk::new(DeskOptions::new(PARTITION, self.epoch, "n2"));
        for open in std::mem::replace(&mut self.desk, next).close() {
            let asker = self.asked.remove(&open.ticket).expect("an open ticket has an asker");
            self.on_the_way.push(asker);
        }
        assert!(self.asked.is_empty(), "a desk answers or names all that it was asked");
        self.step(DeskInput::Opened);
    }

    fn anything(&mut self) {
        match self.dice.below(100) {
            0..30 => self.deliver(),
            30..60 => self.run_handler(),
            60..85 => self.apply_next(),
            85..90 => {
                if let Some(ticket) = self.quorum.pop_front() {
                    self.step(DeskInput::Confirmed { ticket });
                }
            }
            90..98 => {
                self.now.steady_micros += 20_000;
                self.now.wall.0 += 20_000;
                self.step(DeskInput::Tick);
            }
            _ if self.dice.percent(30) => self.take_over(),
            _ => {}
        }
        while let Some(proposal) = self.refused.pop_front() {
            let problem = Problem::new(Code::QuorumNotMet, "too few");
            self.step(DeskInput::Refused { proposal, problem });
        }
    }

    fn client(&mut self, name: &str, request: Request) {
        let key = RequestKey::User { key: name.to_owned(), digest: 7 };
        self.on_the_way.push(Asker::Client { request, key });
    }

    fn response(&self, link: &str) -> Response {
        let document = self.partition.latest(&self.store, link).unwrap();
        document.map_or(Response::bytes(404, Bytes::new()), |it| Response::document(200, &it))
    }
}

/// Plays one history and gives back how many takeovers there were.
fn history(seed: u64) -> usize {
    const ADDITIONS: usize = 20;
    const TASKS: usize = 4;
    const STEPS: usize = 5;
    let mut cluster = Cluster::new(seed);
    cluster.step(DeskInput::Opened);
    let make = Request::new(Method::Post, COUNTER).with_json(&json!({"name": "counter"}));
    cluster.client("make", make);
    while cluster.succeeded == 0 {
        cluster.anything();
    }
    for number in 0..ADDITIONS {
        let body = json!({"kind": "test:Things:AddRequest", "add": 1});
        let add = Request::new(Method::Patch, COUNTER).with_json(&body);
        cluster.client(&format!("add {number}"), add);
    }
    for number in 0..TASKS {
        let pause = if number % 2 == 0 { 0 } else { 30_000 };
        let body = json!({"steps": STEPS, "pauseMicros": pause});
        let post = Request::new(Method::Post, format!("/core/walks/w{number}")).with_json(&body);
        cluster.client(&format!("task {number}"), post);
    }
    let wanted = 1 + ADDITIONS + TASKS;
    let walk = |cluster: &Cluster, number: usize| {
        cluster.response(&format!("/core/walks/w{number}")).to_json()
    };
    let is_over = |body: serde_json::Value| {
        matches!(body["taskInfo"]["stage"].as_str(), Some("FINISHED" | "FAILED"))
    };
    let mut turns = 0;
    while cluster.succeeded < wanted || !(0..TASKS).all(|it| is_over(walk(&cluster, it))) {
        cluster.anything();
        turns += 1;
        assert!(turns < 100_000, "seed {seed}: nothing gets on any more");
    }
    let counter = cluster.response(COUNTER).to_json()["counter"].as_u64().unwrap();
    let mut expected = u64::try_from(ADDITIONS).unwrap();
    for number in 0..TASKS {
        let body = walk(&cluster, number);
        assert_eq!(body["taskInfo"]["stage"], "FINISHED", "seed {seed}: {body}");
        expected += body["done"].as_u64().unwrap();
        assert_eq!(body["done"], STEPS, "seed {seed}");
    }
    assert_eq!(counter, expected, "seed {seed}: each addition counts once");
    cluster.takeovers
}

#[test]
fn whatever_happens_each_addition_counts_once() {
    let takeovers: usize = (0..100).map(history).sum();
    assert!(takeovers > 100, "owners were replaced often: {takeovers}");
}
