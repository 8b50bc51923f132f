//! Calls and copies by tables: who is asked, and what becomes of it.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use protocol::immortal::split_frame;
use protocol::service::{Answer, Call, FromNode, FromProgram, Handler, Has, Serve};
use protocol::{Action, Body, Code, Document, GroupId, Moment, ReplicaId, Term, links};
use services::{Catalogue, PartitionEvent, Said};

use super::calls::{CALLS_BYTES_MAX, CALLS_PER_NODE_MAX, Serving};
use super::copies::{FRAME_BYTES_MAX, HALF_BYTES_MAX};
use super::words::{CallOutcome, ServiceWork};
use crate::io::Output;
use crate::work::{Effects, Work};

const SEATS: &str = "/app/seats";
const N2: ReplicaId = ReplicaId(2);
const SECOND: u64 = 1_000_000;

/// One node's part, and what it has said.
struct World {
    serving: Serving,
    catalogue: Catalogue,
    now: u64,
    invocations: u64,
    effects: Effects,
    /// What the others were told last, and how often they were told it again.
    told: BTreeMap<String, Has>,
    told_again: usize,
}

/// What was said, in words.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Welcome(u64),
    /// The copy, the number and the document of a call.
    Call(u64, u64, String),
    LetGo(u64, String),
    PassedOn(ReplicaId, u64),
    /// The invocation, and `ok` or the code.
    Answered(u64, String),
    Told(Vec<String>),
}

fn definition(factory: &str, more: &str) -> Document {
    Document {
        link: links::definition_of(factory),
        version: 0,
        epoch: Term(1),
        kind: "amrita:KindState".into(),
        action: Action::Post,
        updated: Moment(1),
        expires: Moment(0),
        owner: "n1".into(),
        author: None,
        body: Body::from_text(format!(r#"{{"link":"{factory}"{more}}}"#)),
    }
}

fn call(name: &str, bytes: usize) -> Call {
    Call {
        handler: Handler::Patch,
        action: String::new(),
        link: format!("{SEATS}/{name}"),
        version: 1,
        time: Moment(1),
        user: String::new(),
        before: Bytes::from(vec![b' '; bytes]),
        after: Bytes::new(),
        body: Bytes::new(),
    }
}

fn call_of(handler: Handler, action: &str, name: &str) -> Call {
    Call { handler, action: action.into(), ..call(name, 0) }
}

fn has(handlers: &[Handler], actions: &[&str]) -> Has {
    Has {
        handlers: handlers.iter().copied().collect(),
        actions: actions.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn patch() -> Has {
    has(&[Handler::Patch], &[])
}

fn state() -> Answer {
    Answer::State(Bytes::from_static(b"{\"a\":1}"))
}

impl World {
    fn new() -> Self {
        let mut catalogue = Catalogue::new();
        catalogue.define(&definition(SEATS, r#","handlers":["patch"]"#));
        catalogue.define(&definition("/app/plain", ""));
        let (serving, effects) = (Serving::default(), Effects::default());
        let (now, told) = (SECOND, BTreeMap::new());
        Self { serving, catalogue, now, invocations: 0, effects, told, told_again: 0 }
    }

    fn serve(&mut self, program: u64, factory: &str, calls_max: u64) -> Result<(), &'static str> {
        self.serve_with(program, factory, calls_max, has(&[Handler::Patch], &[]))
    }

    fn serve_with(
        &mut self,
        program: u64,
        factory: &str,
        calls_max: u64,
        has: Has,
    ) -> Result<(), &'static str> {
        let serve = Serve {
            version_min: 1,
            version_max: 2,
            factory: factory.into(),
            program_version: "1".into(),
            calls_max,
            has,
        };
        let known = ("n1", &self.catalogue, self.now);
        self.serving.attach(program, serve, known, &mut self.effects).map_err(|why| why.0)
    }

    /// A copy that takes at most `calls_max` calls at a time, with all that came of it.
    fn copy(&mut self, program: u64, calls_max: u64) -> Vec<Seen> {
        self.serve(program, SEATS, calls_max).expect("the kind is there");
        self.seen()
    }

    fn copy_with(&mut self, program: u64, calls_max: u64, has: Has) -> Vec<Seen> {
        self.serve_with(program, SEATS, calls_max, has).expect("the kind is there");
        self.seen()
    }

    fn ask(&mut self, name: &str) -> Vec<Seen> {
        self.ask_with(name, 0)
    }

    fn ask_with(&mut self, name: &str, bytes: usize) -> Vec<Seen> {
        self.ask_call(call(name, bytes))
    }

    fn ask_call(&mut self, call: Call) -> Vec<Seen> {
        self.invocations += 1;
        let from = (GroupId(1), 1, self.invocations);
        self.serving.ask(from, call, self.now, &mut self.effects);
        self.seen()
    }

    /// Another node says that it has copies.
    fn node_serves(&mut self, replica: ReplicaId, has: Has) -> Vec<Seen> {
        let kinds = [(SEATS.to_owned(), has)].into();
        self.serving.serves(replica, kinds, self.now, &mut self.effects);
        self.seen()
    }

    fn says(&mut self, program: u64, frame: &FromProgram) -> Vec<Seen> {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        self.says_bytes(program, bytes)
    }

    fn says_bytes(&mut self, program: u64, bytes: Vec<u8>) -> Vec<Seen> {
        self.serving.said(program, &bytes.into(), self.now, &mut self.effects);
        self.seen()
    }

    fn answers(&mut self, program: u64, call: u64, answer: Answer) -> Vec<Seen> {
        self.says(program, &FromProgram::Answer { call, answer })
    }

    fn closes(&mut self, program: u64) -> Vec<Seen> {
        self.serving.closed(program, self.now, &mut self.effects);
        self.seen()
    }

    fn waits(&mut self, micros: u64) -> Vec<Seen> {
        self.now += micros;
        self.serving.tick(&self.catalogue, self.now, &mut self.effects);
        self.seen()
    }

    /// What came of a call at another node.
    fn called(&mut self, from: ReplicaId, number: u64, outcome: CallOutcome) -> Vec<Seen> {
        self.serving.called(from, number, outcome, self.now, &mut self.effects);
        self.seen()
    }

    /// All that was said since the last time, but for PINGs, notes, and what was told before.
    fn seen(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        for output in std::mem::take(&mut self.effects.outputs) {
            let Output::ProgramTell { program, bytes } = output else { continue };
            let mut bytes = BytesMut::from(&bytes.concat()[..]);
            let frame = split_frame(&mut bytes, 4 * FRAME_BYTES_MAX).unwrap().unwrap();
            match FromNode::read(frame).unwrap() {
                FromNode::Welcome { .. } => seen.push(Seen::Welcome(program)),
                FromNode::Call { number, call } => {
                    let (_, name) = links::split(&call.link).unwrap();
                    seen.push(Seen::Call(program, number, name.to_owned()));
                }
                FromNode::Error { code, .. } => seen.push(Seen::LetGo(program, code)),
                FromNode::Ping { .. } => {}
            }
        }
        for work in std::mem::take(&mut self.effects.work) {
            match work {
                Work::Partition(_, PartitionEvent::Said { number, said, .. }) => {
                    let what = match said {
                        Said::Answer(_) => "ok".to_owned(),
                        Said::Nothing(problem) => problem.code.name().to_owned(),
                    };
                    seen.push(Seen::Answered(number, what));
                }
                Work::Service(work) => match *work {
                    ServiceWork::PassOn { replica, number, .. } => {
                        seen.push(Seen::PassedOn(replica, number));
                    }
                    ServiceWork::Tell(kinds) if kinds == self.told => self.told_again += 1,
                    ServiceWork::Tell(kinds) => {
                        self.told.clone_from(&kinds);
                        seen.push(Seen::Told(kinds.into_keys().collect()));
                    }
                    other => panic!("{other:?}"),
                },
                _ => {}
            }
        }
        seen
    }
}

fn answered(invocation: u64, what: &str) -> Seen {
    Seen::Answered(invocation, what.into())
}

fn told(kinds: &[&str]) -> Seen {
    Seen::Told(kinds.iter().map(|kind| (*kind).to_owned()).collect())
}

fn calls(program: u64, number: u64, name: &str) -> Seen {
    Seen::Call(program, number, name.into())
}

fn let_go(program: u64, code: &str) -> Seen {
    Seen::LetGo(program, code.into())
}

#[test]
fn only_a_kind_that_names_handlers_is_served() {
    let mut world = World::new();
    assert_eq!(world.serve(1, "/app/nothing", 1), Err("UNKNOWN_KIND"));
    assert_eq!(world.serve(1, "/app/plain", 1), Err("NO_HANDLERS"));
    assert_eq!(world.serve(1, "/core/query-tasks", 1), Err("NO_HANDLERS"));
    assert_eq!(world.copy(1, 1), [Seen::Welcome(1), told(&[SEATS])]);
    world.catalogue.define(&definition(SEATS, ""));
    assert_eq!(world.waits(SECOND), [let_go(1, "UNKNOWN_KIND"), told(&[])]);
}

#[test]
fn copies_share_the_load_up_to_what_each_takes() {
    let mut world = World::new();
    world.copy(1, 1);
    world.copy(2, 2);
    assert_eq!(world.ask("a"), [calls(1, 1, "a")]);
    assert_eq!(world.ask("b"), [calls(2, 2, "b")]);
    assert_eq!(world.ask("c"), [calls(2, 3, "c")]);
    assert_eq!(world.ask("d"), [], "it waits");
    assert_eq!(world.answers(2, 3, state()), [calls(2, 4, "d"), answered(3, "ok")]);
    assert_eq!(world.says(1, &FromProgram::Leave), []);
    assert_eq!(world.answers(1, 1, Answer::AsItIs), [answered(1, "ok")]);
    assert_eq!(world.ask("e"), [], "the first wants no more");
    assert_eq!(world.closes(1), []);
}

/// As while one version of a program is replaced by another.
#[test]
fn copies_that_have_nothing_to_do_take_turns() {
    let mut world = World::new();
    world.copy(1, 4);
    world.copy(2, 4);
    for number in 1..=6 {
        let program = 2 - number % 2;
        assert_eq!(world.ask("a"), [calls(program, number, "a")]);
        assert_eq!(world.answers(program, number, state()), [answered(number, "ok")]);
    }
}

/// Any of them may have been too much for it.
#[test]
fn the_calls_of_a_copy_that_dies_go_to_others_one_by_one_in_their_order() {
    let mut world = World::new();
    world.copy(1, 2);
    world.ask("a");
    world.ask("b");
    world.ask("c");
    assert_eq!(world.closes(1), [told(&[])]);
    let seen = world.copy(2, 9);
    assert_eq!(seen, [Seen::Welcome(2), calls(2, 5, "a"), told(&[SEATS])]);
    assert_eq!(world.ask("d"), [], "the copy is for 'a' alone");
    let seen = world.copy(3, 9);
    assert_eq!(seen, [Seen::Welcome(3), calls(3, 4, "b")]);
    assert_eq!(world.copy(4, 9), [Seen::Welcome(4), calls(4, 3, "c"), calls(4, 6, "d")]);
    assert_eq!(world.answers(2, 5, state()), [answered(1, "ok")]);
    assert_eq!(world.ask("e"), [calls(2, 7, "e")], "it takes others again");
}

/// One copy that is started anew each time, and one call that no copy survives.
#[test]
fn the_innocent_calls_of_a_copy_that_dies_are_all_answered() {
    let mut world = World::new();
    let names = ["a", "b", "c", "deadly", "e", "f", "g", "h"];
    world.copy(1, 8);
    for (name, number) in names.into_iter().zip(1..) {
        assert_eq!(world.ask(name), [calls(1, number, name)]);
    }
    let mut program = 1;
    let mut seen = world.closes(program);
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < names.len() {
        let mut given = Vec::new();
        for one in std::mem::take(&mut seen) {
            match one {
                Seen::Call(_, number, name) => given.push((number, name)),
                Seen::Answered(invocation, what) => drop(outcomes.insert(invocation, what)),
                _ => {}
            }
        }
        match &given[..] {
            [] if outcomes.len() < names.len() => {
                program += 1;
                seen = world.copy(program, 8);
            }
            [] => {}
            [(_, name)] if name == "deadly" => seen = world.closes(program),
            [(number, _)] => seen = world.answers(program, *number, state()),
            _ => panic!("{given:?} went together"),
        }
    }
    assert_eq!(program, 3, "it has died in company, and twice alone");
    for (name, invocation) in names.into_iter().zip(1..) {
        let expected = if name == "deadly" { "PROGRAM_FAILED" } else { "ok" };
        assert_eq!(outcomes[&invocation], expected, "{name}");
    }
}

#[test]
fn only_the_call_that_was_answered_with_nonsense_is_blamed() {
    let mut world = World::new();
    world.copy(1, 2);
    world.ask("a");
    world.ask("b");
    let nonsense = Answer::State(Bytes::from_static(b"{\"a\":"));
    assert_eq!(world.answers(1, 2, nonsense), [let_go(1, "BAD_ANSWER"), told(&[])]);
    let seen = world.copy(2, 2);
    assert_eq!(seen, [Seen::Welcome(2), calls(2, 3, "b"), told(&[SEATS])], "alone");
    assert_eq!(world.answers(2, 3, state()), [calls(2, 4, "a"), answered(2, "ok")]);
    assert_eq!(world.ask("c"), [calls(2, 5, "c")], "'a' is an ordinary call");
}

#[test]
fn the_calls_beside_one_that_is_late_are_not_blamed() {
    let mut world = World::new();
    world.copy(1, 3);
    world.ask("a");
    for _ in 0..4 {
        world.waits(SECOND);
        world.says(1, &FromProgram::Pong { number: 1 });
    }
    world.ask("b");
    world.ask("c");
    for _ in 0..3 {
        world.waits(SECOND);
        world.says(1, &FromProgram::Pong { number: 1 });
    }
    assert_eq!(world.waits(SECOND), [let_go(1, "LATE"), answered(1, "TIMEOUT"), told(&[])]);
    let seen = world.copy(2, 3);
    let together = [calls(2, 5, "b"), calls(2, 4, "c")];
    assert!(together.iter().all(|call| seen.contains(call)), "{seen:?}");
}

/// Otherwise it would wait for as long as there are others.
#[test]
fn a_copy_is_kept_free_for_a_call_that_goes_alone() {
    let mut world = World::new();
    world.copy(1, 2);
    world.copy(2, 2);
    assert_eq!(world.ask("a"), [calls(1, 1, "a")]);
    assert_eq!(world.ask("b"), [calls(2, 2, "b")]);
    assert_eq!(world.closes(1), [], "the other copy has a call");
    assert_eq!(world.ask("c"), []);
    assert_eq!(world.answers(2, 2, state()), [calls(2, 3, "a"), answered(2, "ok")]);
    assert_eq!(world.copy(3, 2), [Seen::Welcome(3), calls(3, 4, "c")]);
    assert_eq!(world.answers(2, 3, state()), [answered(1, "ok")]);
}

#[test]
fn a_copy_is_asked_only_for_what_it_has() {
    let mut world = World::new();
    let delete = |name: &str| call_of(Handler::Delete, "", name);
    let hold = |name: &str| call_of(Handler::Action, "hold", name);
    world.copy_with(1, 9, patch());
    let seen = world.copy_with(2, 1, has(&[Handler::Patch, Handler::Delete], &["hold"]));
    assert_eq!(seen, [Seen::Welcome(2), told(&[SEATS])], "the other nodes hear of it");
    assert_eq!(world.ask_call(delete("a")), [calls(2, 1, "a")]);
    assert_eq!(world.ask_call(delete("b")), [], "it has no room");
    assert_eq!(world.ask_call(hold("c")), []);
    assert_eq!(world.ask("d"), [calls(1, 4, "d")], "which holds up nobody else");
    assert_eq!(world.answers(2, 1, state()), [calls(2, 2, "b"), answered(1, "ok")]);
    assert_eq!(world.answers(2, 2, state()), [calls(2, 3, "c"), answered(2, "ok")]);
    assert_eq!(world.ask_call(call_of(Handler::Action, "fly", "e")), [], "it may come");
    world.says(2, &FromProgram::Leave);
    assert_eq!(world.ask_call(hold("f")), []);
    for _ in 0..2 {
        world.says(1, &FromProgram::Pong { number: 1 });
        world.says(2, &FromProgram::Pong { number: 1 });
        assert_eq!(world.waits(SECOND), []);
    }
    world.says(1, &FromProgram::Pong { number: 1 });
    world.says(2, &FromProgram::Pong { number: 1 });
    let seen = world.waits(SECOND);
    assert_eq!(seen, [answered(5, "NO_PROGRAM"), answered(6, "NO_PROGRAM")]);
}

#[test]
fn another_node_is_asked_only_for_what_its_copies_have() {
    let mut world = World::new();
    let n3 = ReplicaId(3);
    world.node_serves(N2, patch());
    world.node_serves(n3, has(&[Handler::Delete], &[]));
    assert_eq!(world.ask_call(call_of(Handler::Delete, "", "a")), [Seen::PassedOn(n3, 1)]);
    assert_eq!(world.ask_call(call_of(Handler::Delete, "", "b")), [Seen::PassedOn(n3, 2)]);
    assert_eq!(world.ask("c"), [Seen::PassedOn(N2, 3)]);
    assert_eq!(world.ask_call(call_of(Handler::Put, "", "d")), []);
    assert_eq!(world.node_serves(N2, has(&[Handler::Put], &[])), [Seen::PassedOn(N2, 4)]);
}

#[test]
fn a_call_that_copies_die_of_ends() {
    let mut world = World::new();
    for program in 1..=3 {
        world.copy(program, 1);
    }
    world.ask("a");
    assert_eq!(world.closes(1), [calls(2, 2, "a")]);
    assert_eq!(world.closes(2), [calls(3, 3, "a")]);
    assert_eq!(world.closes(3), [told(&[]), answered(1, "PROGRAM_FAILED")]);
}

#[test]
fn who_does_not_keep_to_the_protocol_is_let_go() {
    let twice = |world: &mut World| {
        assert_eq!(world.answers(1, 1, state()), [answered(1, "ok")]);
        world.answers(1, 1, state())
    };
    let mut world = World::new();
    world.copy(1, 1);
    world.ask("a");
    assert_eq!(twice(&mut world), [let_go(1, "BAD_ANSWER"), told(&[])]);
    let nonsense = Answer::State(Bytes::from_static(b"{\"a\":"));
    let long = (u32::try_from(FRAME_BYTES_MAX).unwrap() + 1).to_le_bytes().to_vec();
    let frame = |frame: &FromProgram| {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        bytes
    };
    for (bytes, code) in [
        (frame(&FromProgram::Answer { call: 7, answer: state() }), "BAD_ANSWER"),
        (frame(&FromProgram::Answer { call: 1, answer: nonsense }), "BAD_ANSWER"),
        (vec![2, 0, 0, 0, 0x99, 1], "BAD_FRAME"),
        (vec![0, 0, 0, 0], "BAD_FRAME"),
        (long, "BAD_FRAME"),
    ] {
        let mut world = World::new();
        world.copy(1, 1);
        world.ask("a");
        // It had the call, which is not lost.
        assert_eq!(world.says_bytes(1, bytes), [let_go(1, code), told(&[])], "{code}");
        assert!(world.copy(2, 1).contains(&calls(2, 2, "a")));
        assert_eq!(world.answers(2, 2, state()), [answered(1, "ok")]);
        assert_eq!(world.answers(1, 1, state()), [], "nobody listens to it");
    }
}

#[test]
fn what_is_begun_and_not_sent_to_its_end_is_bounded() {
    let mut world = World::new();
    let begun = |bytes: usize| {
        let mut frame = u32::try_from(FRAME_BYTES_MAX).unwrap().to_le_bytes().to_vec();
        frame.resize(bytes, 0);
        frame
    };
    let each = FRAME_BYTES_MAX - 100;
    let fit = u64::try_from(HALF_BYTES_MAX / each).unwrap();
    for program in 0..=fit {
        world.copy(program, 1);
        let seen = world.says_bytes(program, begun(each));
        let is_over = program == fit;
        assert_eq!(seen.contains(&let_go(program, "BUSY")), is_over, "{program}");
    }
    // What the others hold is free when they go.
    world.closes(0);
    world.copy(99, 1);
    assert_eq!(world.says_bytes(99, begun(each)), []);
}

#[test]
fn who_is_late_or_silent_is_let_go() {
    let mut world = World::new();
    world.copy(1, 2);
    world.ask("a");
    // It gives signs of life, and no answer.
    for _ in 0..7 {
        assert_eq!(world.waits(SECOND), []);
        world.says(1, &FromProgram::Pong { number: 1 });
    }
    assert_eq!(world.waits(SECOND), [let_go(1, "LATE"), answered(1, "TIMEOUT"), told(&[])]);
    world.copy(2, 2);
    world.ask("b");
    assert_eq!(world.waits(SECOND), []);
    assert_eq!(world.waits(4 * SECOND), [let_go(2, "SILENT"), told(&[])]);
    assert!(world.copy(3, 1).contains(&calls(3, 3, "b")), "it was asked for a sign of life");
}

/// One copy that takes one call at a time, and is busy.
#[test]
fn what_has_waited_too_long_for_room_is_given_up_and_no_copy_is_blamed() {
    let mut world = World::new();
    world.copy(1, 1);
    assert_eq!(world.ask("a"), [calls(1, 1, "a")]);
    for second in 1..=5 {
        assert_eq!(world.ask(&format!("b{second}")), []);
        assert_eq!(world.waits(SECOND), []);
        world.says(1, &FromProgram::Pong { number: 1 });
    }
    // The first of those that wait has two seconds left by now: a copy that answers it late must
    // not be asked at all.
    assert_eq!(world.waits(SECOND), [answered(2, "TIMEOUT")]);
    world.says(1, &FromProgram::Pong { number: 1 });
    assert_eq!(world.answers(1, 1, state()), [calls(1, 3, "b2"), answered(1, "ok")]);
    world.says(1, &FromProgram::Pong { number: 1 });
    assert_eq!(world.waits(SECOND), []);
    assert_eq!(world.waits(SECOND), [answered(4, "TIMEOUT")], "the copy stays");
}

#[test]
fn without_a_copy_a_call_waits_only_if_there_was_one_just_now() {
    let mut world = World::new();
    assert_eq!(world.ask("a"), [answered(1, "NO_PROGRAM")]);
    world.copy(1, 1);
    world.closes(1);
    assert_eq!(world.ask("b"), []);
    assert_eq!(world.waits(2 * SECOND), []);
    assert_eq!(world.waits(SECOND), [answered(2, "NO_PROGRAM")]);
    assert_eq!(world.ask("c"), [answered(3, "NO_PROGRAM")]);
}

#[test]
fn another_node_is_asked_when_there_is_no_room_here() {
    let mut world = World::new();
    world.node_serves(N2, patch());
    assert_eq!(world.ask("a"), [Seen::PassedOn(N2, 1)]);
    world.copy(1, 1);
    assert_eq!(world.ask("b"), [calls(1, 2, "b")], "its own first");
    assert_eq!(world.ask("c"), [Seen::PassedOn(N2, 3)]);
    let outcome = |answer| CallOutcome::Answer(answer);
    assert_eq!(world.called(ReplicaId(3), 1, outcome(state())), [], "that one was not asked");
    assert_eq!(world.called(N2, 1, outcome(state())), [answered(1, "ok")]);
    assert_eq!(world.called(N2, 1, outcome(state())), []);
    let seen = world.called(N2, 3, CallOutcome::NoCopy { tries: 0 });
    assert_eq!(seen, [], "it waits for the copy here");
    assert_eq!(world.answers(1, 2, state()), [calls(1, 4, "c"), answered(2, "ok")]);
}

/// Otherwise a call that kills each program that it meets would kill three at each node.
#[test]
fn the_copies_that_fail_at_a_call_are_counted_at_all_nodes_together() {
    let mut world = World::new();
    world.node_serves(N2, patch());
    assert_eq!(world.ask("a"), [Seen::PassedOn(N2, 1)]);
    world.copy(1, 1);
    let seen = world.called(N2, 1, CallOutcome::NoCopy { tries: 2 });
    assert_eq!(seen, [calls(1, 2, "a")]);
    assert_eq!(world.closes(1), [told(&[]), answered(1, "PROGRAM_FAILED")]);
    // The other way about.
    world.copy(2, 1);
    let from = (ReplicaId(3), 1, 7);
    let passed_on = (5 * SECOND, 2, world.now);
    world.serving.ask_for(from, call("b", 0), passed_on, &mut world.effects);
    world.copy(3, 1);
    world.closes(2);
    world.effects.outbox.flush(|_| Some(1), &mut world.effects.outputs);
    let said = format!("{:?}", world.effects.outputs);
    assert!(said.contains("3 programs of /app/seats have died of this"), "{said}");
}

#[test]
fn a_call_waits_a_moment_when_the_only_other_node_has_lost_its_copy() {
    let mut world = World::new();
    world.node_serves(N2, patch());
    assert_eq!(world.ask("a"), [Seen::PassedOn(N2, 1)]);
    assert_eq!(world.called(N2, 1, CallOutcome::NoCopy { tries: 0 }), []);
    assert_eq!(world.waits(2 * SECOND), []);
    assert_eq!(world.ask("b"), []);
    // It had overtaken, over another link, that a copy has come.
    let seen = world.node_serves(N2, patch());
    assert_eq!(seen, [Seen::PassedOn(N2, 2), Seen::PassedOn(N2, 3)]);
}

#[test]
fn nodes_that_have_nothing_to_do_take_turns() {
    let mut world = World::new();
    for replica in [2, 3] {
        world.node_serves(ReplicaId(replica), patch());
    }
    for number in 1..=6 {
        let replica = ReplicaId(3 - number % 2);
        assert_eq!(world.ask("a"), [Seen::PassedOn(replica, number)]);
        let seen = world.called(replica, number, CallOutcome::Answer(state()));
        assert_eq!(seen, [answered(number, "ok")]);
    }
}

#[test]
fn the_other_nodes_are_told_again_each_second_what_is_served_here() {
    let mut world = World::new();
    world.waits(SECOND);
    assert_eq!(world.told_again, 0, "nothing is");
    world.copy(1, 1);
    for _ in 0..10 {
        world.waits(SECOND / 5);
        world.says(1, &FromProgram::Pong { number: 1 });
    }
    assert_eq!(world.told_again, 2);
}

#[test]
fn what_a_lost_node_had_is_asked_again() {
    let mut world = World::new();
    world.node_serves(N2, patch());
    world.ask("a");
    world.serving.lost(N2, world.now, &mut world.effects);
    assert_eq!(world.seen(), [], "somebody may come");
    assert!(world.copy(1, 1).contains(&calls(1, 2, "a")));
    // The answer of the lost node comes all the same, from another link.
    assert_eq!(world.called(N2, 1, CallOutcome::Answer(state())), []);
    assert_eq!(world.answers(1, 2, state()), [answered(1, "ok")]);
}

#[test]
fn what_another_node_asks_is_passed_on_no_further() {
    let mut world = World::new();
    world.node_serves(N2, patch());
    let from = (ReplicaId(3), 1, 7);
    let time = (5 * SECOND, 0, world.now);
    world.serving.ask_for(from, call("a", 0), time, &mut world.effects);
    assert_eq!(world.seen(), [], "it is told that there is no copy here");
    world.copy(1, 1);
    world.serving.ask_for(from, call("b", 0), time, &mut world.effects);
    assert_eq!(world.seen(), [calls(1, 1, "b")]);
    world.serving.ask_for(from, call("c", 0), time, &mut world.effects);
    assert_eq!(world.seen(), []);
    assert_eq!(world.ask("d"), [Seen::PassedOn(N2, 3)], "its own goes past those");
    assert_eq!(world.waits(5 * SECOND), [let_go(1, "LATE"), told(&[])]);
}

#[test]
fn calls_are_bounded_by_bytes_and_for_each_node_by_their_number() {
    let mut world = World::new();
    world.copy(1, 1);
    let half = CALLS_BYTES_MAX / 2;
    assert_eq!(world.ask_with("a", half), [calls(1, 1, "a")]);
    assert_eq!(world.ask_with("b", half), []);
    assert_eq!(world.ask("c"), []);
    assert_eq!(world.ask_with("d", 1), [answered(4, Code::Busy.name())]);
    world.answers(1, 1, state());
    assert_eq!(world.ask_with("e", 1), []);
    let mut world = World::new();
    world.node_serves(N2, patch());
    let passed_on = (0..2 * CALLS_PER_NODE_MAX).filter(|_| !world.ask("a").is_empty()).count();
    assert_eq!(passed_on, CALLS_PER_NODE_MAX);
}
