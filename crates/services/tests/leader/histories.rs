//! Random histories: clients and tasks add to one counter while handlers, log, refusals and owners
//! come and go in any order. Whatever happens, each addition counts once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use group::{Caller, LeaderInput, Opened, Output};
use protocol::{Method, Outcome, Problem, ReplicaId, Request, RequestKey, Response, Source, Term};
use random::Random;
use serde_json::json;
use services::{
    Invocation, PartitionAction, PartitionAnswer, PartitionEvent, PartitionMachine,
    PartitionQuestion, QuickInvoker,
};

use crate::owner::{Elsewhere, Owner, Said};

const COUNTER: &str = "/core/things/one";

/// Who waits for an answer.
#[derive(Clone)]
enum Asker {
    Client {
        request: Request,
        key: RequestKey,
    },
    /// A call of the leader that was there at the time.
    Call {
        opening: u64,
        call: u64,
        request: Request,
    },
    Fence {
        opening: u64,
        source: Source,
    },
    /// Somebody holds a task, releases it and the like, or changes it. Whatever comes of it.
    Control {
        request: Request,
        key: RequestKey,
    },
}

struct Cluster {
    random: Random,
    owner: Owner,
    handlers: Vec<Invocation>,
    log: VecDeque<(u64, Bytes)>,
    quorum: VecDeque<u64>,
    /// Counts what was asked; the number of the caller.
    number: u64,
    asked: BTreeMap<u64, Asker>,
    /// On their way to whoever is the owner when they arrive; those of old owners too.
    on_the_way: Vec<Asker>,
    succeeded: usize,
    takeovers: usize,
    /// How many holds and the like were answered that found a step begun.
    held_in_mid_step: usize,
    controls: usize,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::of_seed(seed),
            owner: Owner::new("n1"),
            handlers: Vec::new(),
            log: VecDeque::new(),
            quorum: VecDeque::new(),
            number: 0,
            asked: BTreeMap::new(),
            on_the_way: Vec::new(),
            succeeded: 0,
            takeovers: 0,
            held_in_mid_step: 0,
            controls: 0,
        }
    }

    fn open(&mut self) {
        let said = self.owner.open();
        self.took(said);
    }

    fn step(&mut self, input: LeaderInput<PartitionMachine>) {
        let said = self.owner.step(input);
        self.took(said);
        self.look_at_tasks();
    }

    fn happened(&mut self, event: PartitionEvent) {
        let said = self.owner.happened(event);
        self.took(said);
        self.look_at_tasks();
    }

    /// The invariant of every task.
    fn look_at_tasks(&self) {
        let without = self.owner.without_next_event();
        assert!(without.is_empty(), "{without:?}");
    }

    /// As a `group::Replica` does: what comes of a refused proposal is carried out last, and what
    /// the node does after all that.
    fn took(&mut self, said: Said) {
        let mut waiting: VecDeque<_> = said.into();
        let mut answers = Vec::new();
        while let Some(output) = waiting.pop_front() {
            match output {
                Output::Propose { proposal, .. } if self.random.chance(50) => {
                    waiting.extend(self.owner.step(LeaderInput::Refused { proposal }));
                }
                Output::Propose { proposal, data } => self.log.push_back((proposal, data)),
                Output::Confirm { ticket } => self.quorum.push_back(ticket),
                Output::Answer { ticket, answer, .. } => answers.push((ticket, answer)),
                Output::Refuse { ticket, problem } => {
                    let outcome = problem.outcome.or(Some(Outcome::NotApplied));
                    answers.push((ticket, Problem { outcome, ..problem }.into()));
                }
                Output::Do(action) => self.act(action),
                Output::NotOwner { .. } | Output::Resign => panic!("it is the owner"),
                Output::Note(_) => {}
            }
        }
        for (ticket, answer) in answers {
            let finished = self.owner.requests.finish(ticket);
            for caller in finished.expect("a ticket is answered once").callers {
                self.answered(caller.number, &answer);
            }
        }
    }

    fn act(&mut self, action: PartitionAction) {
        match action {
            PartitionAction::Invoke(invocation) => self.handlers.push(*invocation),
            PartitionAction::Call { opening, call, request } => {
                self.on_the_way.push(Asker::Call { opening, call, request: *request });
            }
            PartitionAction::Fence { opening, source } => {
                self.on_the_way.push(Asker::Fence { opening, source });
            }
            PartitionAction::Search(_) | PartitionAction::GoOn { .. } => {
                panic!("no query was asked")
            }
            PartitionAction::Ask { .. }
            | PartitionAction::Send { .. }
            | PartitionAction::Ack { .. } => {
                panic!("no kind has its handlers outside, and nothing is said to instances")
            }
            PartitionAction::WithoutNextEvent { count } => {
                panic!("{count} tasks have not ended, and have no next event")
            }
        }
    }

    fn answered(&mut self, number: u64, answer: &PartitionAnswer) {
        let asker = self.asked.remove(&number).expect("a caller is answered once");
        if matches!(asker, Asker::Control { .. }) {
            return self.noted(answer);
        }
        let PartitionAnswer::Response(response) = answer else { panic!("no query was asked") };
        match asker {
            Asker::Control { .. } => unreachable!("it was looked at before"),
            Asker::Client { .. } if response.is_success() => self.succeeded += 1,
            Asker::Client { .. } => {
                let body = response.to_json();
                assert_eq!(body["outcome"], "notApplied", "{body}");
                assert!(matches!(response.status, 404 | 503), "{body}");
                self.on_the_way.push(asker);
            }
            // The answer finds the leader that asked, or nobody.
            Asker::Call { opening, call, .. } => {
                let response = response.clone();
                self.happened(PartitionEvent::Called { opening, call, response });
            }
            Asker::Fence { opening, .. } if response.is_success() => {
                self.happened(PartitionEvent::Fenced { opening });
            }
            Asker::Fence { opening, .. } if opening == self.owner.opening => {
                self.on_the_way.push(asker);
            }
            Asker::Fence { .. } => {}
        }
    }

    fn noted(&mut self, answer: &PartitionAnswer) {
        let (PartitionAnswer::Response(response) | PartitionAnswer::Unchanged(response)) = answer
        else {
            panic!("no query was asked")
        };
        let info = &response.to_json()["taskInfo"];
        let is_in_mid_step = response.is_success() && info["stepVersion"].is_u64();
        self.held_in_mid_step += usize::from(is_in_mid_step && info["held"] == true);
    }

    fn deliver(&mut self) {
        if self.on_the_way.is_empty() {
            return;
        }
        let which = self.random.index(self.on_the_way.len());
        let asker = self.on_the_way.swap_remove(which);
        self.number += 1;
        let (question, key) = match &asker {
            Asker::Client { request, key } | Asker::Control { request, key } => {
                (PartitionQuestion::Rest(request.clone()), Some(key.clone()))
            }
            Asker::Call { request, .. } => {
                let key = request.idempotency_key.clone().unwrap();
                let key = RequestKey::User { key, digest: 1 };
                (PartitionQuestion::Rest(request.clone()), Some(key))
            }
            Asker::Fence { source, .. } => (PartitionQuestion::Fence(*source), None),
        };
        self.asked.insert(self.number, asker);
        let is_retry = self.random.chance(500);
        let caller = Caller { node: ReplicaId(1), boot: 1, number: self.number };
        match self.owner.requests.open(caller, key.as_ref(), true) {
            Opened::New(ticket) => {
                self.step(LeaderInput::Ask { ticket, question, key, is_retry });
            }
            Opened::Repeat => {}
            Opened::Refused(problem) => {
                // Too many repeats: it is asked again as if there had been no answer.
                assert_eq!(problem.code, protocol::Code::Busy);
                let asker = self.asked.remove(&self.number).expect("it was just put there");
                self.on_the_way.push(asker);
            }
        }
    }

    fn run_handler(&mut self) {
        if self.handlers.is_empty() {
            return;
        }
        let which = self.random.index(self.handlers.len());
        let invocation = self.handlers.swap_remove(which);
        let invoked = self.owner.invoke(invocation);
        self.happened(PartitionEvent::Invoked(invoked));
    }

    fn apply_next(&mut self) {
        let Some((proposal, command)) = self.log.pop_front() else { return };
        let effect = self.owner.apply(command);
        let position = self.owner.position;
        self.step(LeaderInput::Applied { proposal, position, effect });
    }

    /// Another owner: some of what is in the log was committed, the rest is lost. Handlers of the
    /// last one still come back. Clients ask again.
    fn take_over(&mut self) {
        let committed = self.random.index(self.log.len() + 1);
        let log = std::mem::take(&mut self.log);
        for (_, command) in log.into_iter().take(committed) {
            self.owner.apply(command);
        }
        self.takeovers += 1;
        self.quorum.clear();
        for caller in self.owner.close() {
            let asker = self.asked.remove(&caller.number).expect("who waits has asked");
            self.on_the_way.push(asker);
        }
        assert!(self.asked.is_empty(), "an owner answers or names all that it was asked");
        self.owner.epoch = Term(self.owner.epoch.0 + 1);
        self.owner.handlers.node_id = "n2".into();
        self.owner.handlers.invoker =
            if self.random.chance(500) { Arc::new(QuickInvoker) } else { Arc::new(Elsewhere) };
        self.open();
    }

    fn anything(&mut self) {
        match self.random.index(100) {
            0..30 => self.deliver(),
            30..60 => self.run_handler(),
            60..85 => self.apply_next(),
            85..90 => {
                if let Some(ticket) = self.quorum.pop_front() {
                    self.step(LeaderInput::Confirmed { ticket });
                }
            }
            90..98 => {
                self.owner.now.steady_micros += 20_000;
                self.owner.now.wall.0 += 20_000;
                self.step(LeaderInput::Tick);
            }
            _ if self.random.chance(300) => self.take_over(),
            _ => {}
        }
    }

    /// Somebody does something with a task. In the end it is only released.
    fn control(&mut self, link: &str, is_end: bool, same: serde_json::Value) {
        let body = match self.random.index(10) {
            _ if is_end => json!({"taskInfo": {"held": false}}),
            0..4 => json!({"taskInfo": {"held": true}}),
            4..7 => json!({"taskInfo": {"held": false}}),
            7 => json!({"taskInfo": {"retry": true}}),
            // A change, though of nothing.
            _ => same,
        };
        self.controls += 1;
        let key = RequestKey::User { key: format!("control {}", self.controls), digest: 7 };
        let request = Request::new(Method::Patch, link).with_json(&body);
        self.on_the_way.push(Asker::Control { request, key });
    }

    fn client(&mut self, name: &str, request: Request) {
        let key = RequestKey::User { key: name.to_owned(), digest: 7 };
        self.on_the_way.push(Asker::Client { request, key });
    }

    fn response(&self, link: &str) -> Response {
        let document = self.owner.latest(link);
        document.map_or(Response::bytes(404, Bytes::new()), |it| Response::document(200, &it, "n1"))
    }
}

/// Plays one history and gives back how many takeovers there were, and how many holds in the middle
/// of a step.
fn history(seed: u64) -> (usize, usize) {
    const ADDITIONS: usize = 20;
    const TASKS: usize = 4;
    const STEPS: usize = 5;
    const HOLDS_UNTIL: usize = 3_000;
    let mut cluster = Cluster::new(seed);
    cluster.open();
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
        if cluster.random.chance(50) {
            let link = format!("/core/walks/w{}", cluster.random.index(TASKS));
            cluster.control(&link, turns > HOLDS_UNTIL, json!({"steps": STEPS}));
        }
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
    (cluster.takeovers, cluster.held_in_mid_step)
}

#[test]
fn whatever_happens_each_addition_counts_once() {
    let of_all = (0..100).map(history);
    let (takeovers, held) = of_all.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    assert!(takeovers > 100, "owners were replaced often: {takeovers}");
    assert!(held > 100, "tasks were held in the middle of a step: {held}");
}
