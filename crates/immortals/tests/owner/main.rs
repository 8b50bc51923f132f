//! One owner alone, whose log is a list: what it does with messages of others, with its clock, with
//! impulses that find no room, and with upgrades.

mod asked;
mod documents;
mod entries;
mod genesis;
mod handing_on;
mod last_copy;
mod lost;
mod quiet;
mod spill;
mod upgrades;
mod wakes;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use handing_on::handed_on;
use immortals::{
    Adapter, Between, Context, Entries, ImpulseKey, Input, Instance, KeptLimits, Lane, Lead,
    NativeAdapter, Options, Output, Peer, ReplicaStatus, Request, Response, Settings, Standing,
};
use protocol::immortal::{
    Fate, Hello, Message, ToNode, ToProgram, blocks, messages, put_message, split_frame,
};
use protocol::{GroupId, Moment, Now, Position, ReplicaId, Term};
use storage::{MemoryStore, Space};

const OURS: GroupId = GroupId(1 << 20);
const THEIRS: GroupId = GroupId((1 << 20) + 1);
const TERM: Term = Term(1);

/// Why nothing here fails.
const GOOD: &str = "what is made here is good";

/// The log, in which all that is committed is applied at once.
#[derive(Default)]
struct Log {
    entries: Vec<(Position, Term, Bytes)>,
    /// The groups that are not registered as usual.
    standings: BTreeMap<GroupId, Standing>,
    directory: Position,
    /// Nobody has said how long the log is.
    is_behind: bool,
    /// How many more entries are known to be committed.
    ahead: u64,
    /// The group that has the name of [`THEIRS`] now, if it is another one.
    theirs: Option<GroupId>,
    /// How often the log was read.
    reads: Cell<usize>,
}

impl Entries for Log {
    fn after(&self, position: Position, _bytes_max: usize) -> Vec<(Position, Term, Bytes)> {
        self.reads.set(self.reads.get() + 1);
        // The first one is at position 1.
        let skipped = usize::try_from(position.0).expect(GOOD);
        self.entries.iter().skip(skipped).cloned().collect()
    }

    fn known_committed(&self) -> Option<Position> {
        (!self.is_behind).then_some(Position(self.entries.len() as u64 + self.ahead))
    }

    fn members_at(&self, _position: Position) -> Vec<u8> {
        vec![1]
    }

    fn resolve(&self, name: &str) -> Option<GroupId> {
        (name == "theirs").then_some(self.theirs.unwrap_or(THEIRS))
    }

    fn standing(&self, group: GroupId) -> Standing {
        self.standings.get(&group).copied().unwrap_or(Standing::Registered)
    }

    fn directory(&self) -> Position {
        self.directory
    }
}

struct Owner {
    instance: Instance,
    lead: Option<Lead>,
    store: MemoryStore,
    space: Space,
    log: Log,
    now: Now,
    /// The term in which it is the owner.
    term: Term,
    program: u64,
    told: BytesMut,
    /// The inputs that the program was given.
    inputs: Vec<(Moment, Message)>,
    last: u64,
    /// The program fails at an upgrade.
    is_frail: bool,
    /// The program sends something at an upgrade, and does not say that it is done.
    is_slow_to_upgrade: bool,
    /// Entries that are proposed and not committed, when they are to wait.
    waiting: Option<VecDeque<Bytes>>,
    /// Entries that are proposed and committed at once.
    proposed: VecDeque<Bytes>,
    is_committing: bool,
    /// The program does not answer a request for a checkpoint.
    is_slow_to_give: bool,
    /// The state of the program.
    state: Vec<u8>,
    /// How the checksum that the program gives differs from the right one.
    lie: u32,
    /// What was sent to other replicas, beside statuses.
    handed: Vec<Peer>,
    /// The replicas to which the ownership was to go.
    heirs: Vec<ReplicaId>,
    /// The lowest number that the other instance still has.
    floor: u64,
    /// How many DELIVERs the program was given.
    portions: usize,
    /// The other frames that the program was given.
    heard: Vec<ToProgram>,
    /// The code of the last ERROR.
    told_last: String,
    answers: Vec<Response>,
}

impl Owner {
    /// An owner with a program that is the primary.
    fn new() -> Self {
        let mut owner = Self::replica(1, &[1]);
        owner.leads(TERM);
        owner.attach(0, 0);
        assert!(owner.instance.is_primary());
        owner
    }

    fn replica(me: u64, replicas: &[u64]) -> Self {
        let limits = KeptLimits { all_max: 256 << 20, ..KeptLimits::default() };
        Self::bounded(me, replicas, limits)
    }

    fn bounded(me: u64, replicas: &[u64], limits: KeptLimits) -> Self {
        let settings = Settings {
            replicas: replicas.iter().map(|id| ReplicaId(*id)).collect(),
            checkpoint_bytes: 0,
            recovery_micros: 0,
            program_timeout_micros: 60_000_000,
            divergence_alarm: true,
            upgrade_version: None,
            upgrade_wish: 0,
            first_version: 0,
            paused: false,
            partitions: 4,
            memory: false,
        };
        let store = MemoryStore::new();
        let (space, _) = Space::open(&store, OURS).expect(GOOD);
        let (name, node) = ("ours".to_owned(), "n1".to_owned());
        let me = ReplicaId(me);
        let options = Options { name, group: OURS, me, node, settings, limits };
        let instance = Instance::open(options, &store, &space).expect(GOOD);
        Self {
            instance,
            lead: None,
            store,
            space,
            log: Log::default(),
            now: Now { steady_micros: 100_000_000, wall: Moment(50_000_000) },
            term: TERM,
            program: 0,
            told: BytesMut::new(),
            inputs: Vec::new(),
            last: 0,
            is_frail: false,
            is_slow_to_upgrade: false,
            waiting: None,
            proposed: VecDeque::new(),
            is_committing: false,
            is_slow_to_give: false,
            state: Vec::new(),
            lie: 0,
            handed: Vec::new(),
            heirs: Vec::new(),
            floor: 1,
            portions: 0,
            heard: Vec::new(),
            told_last: String::new(),
            answers: Vec::new(),
        }
    }

    fn with(
        &mut self,
        doing: impl FnOnce(&mut Instance, &mut Context<'_>, &mut Option<Lead>, &mut Vec<Output>),
    ) -> Vec<Between> {
        let mut outputs = Vec::new();
        let log = std::mem::take(&mut self.log);
        let (now, space) = (self.now, self.space);
        let mut cx = Context { now, store: &mut self.store, space, entries: &log };
        doing(&mut self.instance, &mut cx, &mut self.lead, &mut outputs);
        self.log = log;
        self.act(outputs)
    }

    fn step(&mut self, input: Input) -> Vec<Between> {
        self.with(|instance, cx, lead, outputs| {
            instance.step(cx, lead.as_mut(), input, outputs).expect(GOOD);
        })
    }

    /// The replica becomes the owner.
    fn leads(&mut self, term: Term) -> Vec<Between> {
        self.with(|instance, cx, lead, outputs| {
            *lead = Some(instance.lead(cx, term, outputs));
            instance.settle(cx, lead.as_mut(), outputs).expect(GOOD);
        })
    }

    /// The replica is the owner no more.
    fn follows(&mut self) -> Vec<Between> {
        self.with(|instance, cx, lead, outputs| {
            let lead = lead.take().expect("it was the owner");
            instance.follow(cx, lead, outputs);
            instance.settle(cx, None, outputs).expect(GOOD);
        })
    }

    /// Attaches another program in the place of the one that was there.
    fn attach(&mut self, program_version: u64, upgrade_to: u64) {
        self.step(Input::Detached { program: self.program });
        self.program += 1;
        self.told.clear();
        let program = self.program;
        let (version_min, version_max) = (1, 1);
        let instance = "ours".into();
        let hello = Hello { version_min, version_max, instance, program_version, upgrade_to };
        let adapter = Adapter::Native(NativeAdapter::default());
        self.with(|instance, cx, lead, outputs| {
            instance.attach(cx, lead.as_mut(), program, adapter, hello, outputs).expect(GOOD);
        });
    }

    /// Commits what is proposed, and plays the program.
    fn act(&mut self, outputs: Vec<Output>) -> Vec<Between> {
        let mut said = Vec::new();
        // The program is told before anything that is proposed is committed.
        let (proposed, others): (Vec<_>, Vec<_>) =
            outputs.into_iter().partition(|output| matches!(output, Output::Propose(_)));
        for output in others.into_iter().chain(proposed) {
            match output {
                Output::Propose(entry) => match &mut self.waiting {
                    Some(waiting) => waiting.push_back(entry),
                    None => self.proposed.push_back(entry),
                },
                Output::Write { bytes, program } if program == self.program => {
                    bytes.iter().for_each(|piece| self.told.extend_from_slice(piece));
                }
                Output::Between { message, .. } => said.push(message),
                Output::Respond { response: told, .. } => self.answers.push(told),
                Output::HandOver { to } => self.heirs.push(to),
                Output::Peer { message, .. } if !matches!(message, Peer::Status(_)) => {
                    self.handed.push(message);
                }
                _ => {}
            }
        }
        // Entries are committed in the order in which they were proposed, also those that are
        // proposed meanwhile.
        if !std::mem::replace(&mut self.is_committing, true) {
            while let Some(entry) = self.proposed.pop_front() {
                said.extend(self.commit(entry));
            }
            self.is_committing = false;
        }
        while let Some(frame) = split_frame(&mut self.told, 32 << 20).expect(GOOD) {
            let answer = self.hear(ToProgram::read(frame).expect(GOOD));
            if !answer.is_empty() {
                let (program, bytes) = (self.program, answer.into());
                said.extend(self.step(Input::Read { program, bytes }));
            }
        }
        said
    }

    fn commit(&mut self, entry: Bytes) -> Vec<Between> {
        self.commit_in(self.term, entry)
    }

    /// Commits some of the entries that wait, and ends this ownership and begins the next.
    fn changes_owner(&mut self, committed: usize) {
        let waiting = self.waiting.take().expect("something waits").into_iter();
        waiting.take(committed).for_each(|entry| drop(self.commit(entry)));
        self.follows();
        self.term.0 += 1;
        self.leads(self.term);
        assert!(self.instance.is_primary());
    }

    /// Applies an entry that an owner of that term has proposed.
    fn commit_in(&mut self, term: Term, entry: Bytes) -> Vec<Between> {
        let position = Position(self.log.entries.len() as u64 + 1);
        self.log.entries.push((position, term, entry.clone()));
        self.with(|instance, cx, lead, outputs| {
            instance.apply(cx, lead.as_mut(), position, term, Some(entry), outputs).expect(GOOD);
            instance.settle(cx, lead.as_mut(), outputs).expect(GOOD);
        })
    }

    fn hear(&mut self, frame: ToProgram) -> Vec<u8> {
        let mut answer = Vec::new();
        match frame {
            ToProgram::Genesis => self.give_state(0, &mut answer),
            ToProgram::TakeCheckpoint { request } if !self.is_slow_to_give => {
                self.give_state(request, &mut answer);
            }
            ToProgram::Load { input, .. } => self.last = input,
            ToProgram::Deliver { time, blocks: bytes, .. } => {
                self.portions += 1;
                for block in blocks(bytes) {
                    for message in messages(block.expect(GOOD).messages) {
                        let message = message.expect(GOOD);
                        self.last += 1;
                        if self.is_frail && matches!(message, Message::Upgrade { .. }) {
                            let (input, text) = (self.last, "it cannot".into());
                            ToNode::Fault { input, text }.put(&mut answer);
                            return answer;
                        }
                        if self.is_slow_to_upgrade && matches!(message, Message::Upgrade { .. }) {
                            self.inputs.push((time, message));
                            put_words_of_the_new_version(&mut answer);
                            return answer;
                        }
                        self.inputs.push((time, message));
                    }
                }
                ToNode::Done { input: self.last }.put(&mut answer);
            }
            ToProgram::Ping { number } => ToNode::Pong { number }.put(&mut answer),
            ToProgram::Error { code, .. } => self.told_last = code,
            other => self.heard.push(other),
        }
        answer
    }

    fn give_state(&mut self, request: u64, answer: &mut Vec<u8>) {
        ToNode::Checkpoint { request }.put(answer);
        for chunk in self.state.chunks(256 << 10) {
            ToNode::Chunk(Bytes::copy_from_slice(chunk)).put(answer);
        }
        let crc = crc32fast::hash(&self.state) ^ self.lie;
        ToNode::CheckpointEnd { crc }.put(answer);
    }

    fn next_wake(&self) -> Option<u64> {
        self.instance.next_wake(self.lead.as_ref())
    }

    fn says(&mut self, frame: &ToNode) -> Vec<Between> {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        self.step(Input::Read { program: self.program, bytes: bytes.into() })
    }

    /// Messages of the other instance come. Each holds its number.
    fn comes(&mut self, first: u64, count: u64) -> Vec<Between> {
        self.comes_from(THEIRS, first, count)
    }

    fn comes_from(&mut self, from: GroupId, first: u64, count: u64) -> Vec<Between> {
        let mut bytes = Vec::new();
        for number in first..first + count {
            let payload = Bytes::from(number.to_string());
            put_message(&mut bytes, &Message::Fork { method: 1, payload });
        }
        let (lane, name, floor) = (Lane::Stream, "theirs".to_owned(), self.floor);
        let messages = bytes.into();
        let message = Between::Send { lane, name, floor, first, count, messages };
        self.step(Input::Between { from, message })
    }

    /// The numbers of the messages that the program was given.
    fn handled(&self) -> Vec<u64> {
        let payloads = self.inputs.iter().filter_map(|(_, message)| match message {
            Message::Fork { payload, .. } => Some(payload),
            _ => None,
        });
        payloads
            .map(|payload| std::str::from_utf8(payload).expect(GOOD).parse().expect(GOOD))
            .collect()
    }

    fn waits(&mut self, micros: u64) {
        for _ in 0..micros / 100_000 {
            self.now.steady_micros += 100_000;
            self.now.wall.0 += 100_000;
            self.step(Input::Tick);
        }
    }

    fn impulse(&mut self, number: u64, bytes: usize) -> Vec<Between> {
        let mut message = Vec::new();
        let payload = Bytes::from(vec![7; bytes]);
        put_message(&mut message, &Message::Impulse { method: 1, payload });
        let (destination, message) = ("theirs".into(), message.into());
        self.says(&ToNode::Impulse { number, destination, message })
    }

    /// The fates and credits that the program was told since the last time.
    fn take_heard(&mut self) -> Vec<ToProgram> {
        let quiet =
            |frame: &ToProgram| matches!(frame, ToProgram::Fate { .. } | ToProgram::Credit { .. });
        std::mem::take(&mut self.heard).into_iter().filter(quiet).collect()
    }

    /// The program sends so much (18 messages) to the other instance that it is given no more
    /// inputs before some of it is confirmed.
    fn says_too_much(&mut self) {
        let mut bytes = Vec::new();
        let payload = Bytes::from(vec![7; 15 << 20]);
        put_message(&mut bytes, &Message::Fork { method: 1, payload });
        let messages = Bytes::from(bytes);
        for _ in 0..18 {
            let (destination, messages) = ("theirs".to_owned(), messages.clone());
            self.says(&ToNode::Send { destination, count: 1, messages });
        }
    }

    fn set_upgrade(&mut self, version: u64, wish: u64) {
        let mut settings = self.instance.settings().clone();
        (settings.upgrade_version, settings.upgrade_wish) = (Some(version), wish);
        self.step(Input::Settings(settings));
    }
}

#[test]
fn of_a_piece_that_overlaps_only_what_is_new_is_taken() {
    let mut owner = Owner::new();
    owner.comes(1, 3);
    owner.comes(2, 4);
    owner.comes(1, 5);
    owner.comes(6, 1);
    assert_eq!(owner.handled(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_gap_is_not_taken_and_the_sender_is_told_where_to_begin() {
    let mut owner = Owner::new();
    owner.comes(1, 2);
    let said = owner.comes(4, 1);
    let again = Between::Ack { lane: Lane::Stream, logged: 2, resend_from: Some(3) };
    assert_eq!(said, [again]);
    assert_eq!(owner.handled(), [1, 2]);
}

#[test]
fn a_message_is_confirmed_when_it_is_logged() {
    let mut owner = Owner::new();
    let said = owner.comes(1, 2);
    let logged = Between::Ack { lane: Lane::Stream, logged: 2, resend_from: None };
    assert_eq!(said, [logged]);
}

#[test]
fn a_timer_fires_although_the_clock_was_set_back() {
    let mut owner = Owner::new();
    let due = Moment(owner.now.wall.0 + 2_000_000);
    owner.says(&ToNode::Await { id: 1, due: Some(due) });
    owner.now.wall = Moment(10_000_000);
    owner.now.steady_micros += 1_900_000;
    owner.step(Input::Tick);
    assert!(!owner.inputs.iter().any(|(_, message)| *message == Message::Timer { id: 1 }));
    owner.now.steady_micros += 200_000;
    owner.step(Input::Tick);
    owner.step(Input::Tick);
    let fired: Vec<&Moment> = owner
        .inputs
        .iter()
        .filter(|(_, message)| *message == Message::Timer { id: 1 })
        .map(|(time, _)| time)
        .collect();
    assert_eq!(fired.len(), 1, "once, and not when the clock has come to its time again");
    assert!(*fired[0] >= due, "it is given a time at which it is due");
}

#[test]
fn an_impulse_that_finds_no_room_is_refused_and_credit_tells_when_there_is_again() {
    let mut owner = Owner::new();
    let said = owner.impulse(1, 1 << 20);
    let Some(Between::Probe { lane }) = said.first().cloned() else { panic!("{said:?}") };
    for number in 2..=4 {
        owner.impulse(number, 1 << 20);
    }
    assert_eq!(owner.take_heard(), []);
    owner.impulse(5, 1 << 20);
    owner.impulse(6, 1 << 20);
    let credit = |bytes| ToProgram::Credit { destination: "theirs".into(), bytes };
    let lost = |number| ToProgram::Fate { number, fate: Fate::Lost, input: 0 };
    assert_eq!(owner.take_heard(), [credit(0), lost(5), lost(6)], "of no room it is told once");

    let confirm = |owner: &mut Owner, logged| {
        let message = Between::Ack { lane, logged, resend_from: None };
        owner.step(Input::Between { from: THEIRS, message });
        owner.take_heard()
    };
    let logged = |number| ToProgram::Fate { number, fate: Fate::Logged, input: 0 };
    assert_eq!(confirm(&mut owner, 1), [logged(1)], "that is not much room");
    let heard = confirm(&mut owner, 3);
    let Some(ToProgram::Credit { bytes, .. }) = heard.last() else { panic!("{heard:?}") };
    assert!((2 << 20..4 << 20).contains(bytes), "{bytes}");
    assert_eq!(heard.len(), 3, "two fates, and credit once: {heard:?}");
    owner.impulse(7, 1 << 20);
    assert_eq!(owner.take_heard(), [], "it is on its way");
}

#[test]
fn a_key_belongs_to_one_impulse_from_outside() {
    let mut owner = Owner::new();
    for digest in [7, 7, 8] {
        let key = Some(ImpulseKey { hash: 1, digest });
        let payload = Bytes::from_static(b"1");
        let request = Request::Impulse { from: "rest".into(), method: 1, payload, key };
        owner.step(Input::Request { ticket: digest, request });
    }
    let [Response::Done { input }, again, other] = &owner.answers[..] else {
        panic!("{:?}", owner.answers)
    };
    assert_eq!((again, other), (&Response::Done { input: *input }, &Response::KeyReused));
}

#[test]
fn when_too_much_is_kept_for_a_destination_no_more_is_delivered_and_both_ends_are_told() {
    let mut owner = Owner::new();
    owner.says_too_much();
    let credit = |bytes| ToProgram::Credit { destination: "theirs".into(), bytes };
    assert_eq!(owner.take_heard(), [credit(0)]);
    assert_eq!(owner.instance.waits_for(), ["theirs"]);
    owner.comes(1, 1);
    assert_eq!(owner.handled(), [0; 0], "it is logged, and waits");
    let message = Between::Ack { lane: Lane::Stream, logged: 18, resend_from: None };
    owner.step(Input::Between { from: THEIRS, message });
    assert_eq!(owner.handled(), [1]);
    assert!(matches!(owner.take_heard()[..], [ToProgram::Credit { bytes: 1.., .. }]));
    assert!(owner.instance.waits_for().is_empty());
}

#[test]
fn a_sender_that_is_not_known_waits_and_one_that_is_gone_is_not_heard() {
    let mut owner = Owner::new();
    let newcomer = GroupId(THEIRS.0 + 1);
    for standing in [Standing::Unknown, Standing::Gone] {
        owner.log.standings.insert(newcomer, standing);
        assert_eq!(owner.comes_from(newcomer, 1, 1), [], "{standing:?}");
    }
    owner.log.standings.clear();
    owner.comes_from(newcomer, 1, 1);
    assert_eq!(owner.handled(), [1]);
}

#[test]
fn what_comes_late_of_a_sender_whose_name_another_has_now_is_not_taken() {
    let mut owner = Owner::new();
    owner.comes_from(THEIRS, 1, 1);
    let anew = GroupId(THEIRS.0 + 1);
    owner.log.theirs = Some(anew);
    owner.comes_from(anew, 1, 3);
    assert_eq!(owner.handled(), [1, 1, 2, 3]);
    owner.comes_from(THEIRS, 2, 5);
    assert_eq!(owner.handled(), [1, 1, 2, 3], "that was said in the former life");
    owner.comes_from(anew, 4, 1);
    assert_eq!(owner.handled(), [1, 1, 2, 3, 4]);
}

#[test]
fn a_checkpoint_is_taken_when_a_recovery_would_take_too_long() {
    let mut owner = Owner::new();
    let mut settings = owner.instance.settings().clone();
    settings.recovery_micros = 1_000_000;
    owner.step(Input::Settings(settings));
    let base = |owner: &Owner| owner.instance.status().base_input;
    owner.waits(20_000_000);
    owner.comes(1, 1);
    assert_eq!(base(&owner), 0, "it had nothing to do");
    owner.is_slow(2, 900_000);
    owner.waits(100_000);
    assert_eq!(base(&owner), 0);
    owner.is_slow(3, 200_000);
    owner.waits(100_000);
    assert_eq!(base(&owner), 4);
}

#[test]
fn a_state_whose_checksum_is_wrong_is_not_taken_and_its_program_is_let_go() {
    let mut owner = Owner::replica(1, &[1]);
    owner.leads(TERM);
    owner.lie = 7;
    owner.attach(0, 0);
    assert_eq!(
        (owner.told_last.as_str(), owner.instance.program_version_at_base()),
        ("BAD_FRAME", None)
    );
    owner.lie = 0;
    owner.attach(0, 0);
    owner.comes(1, 1);
    owner.lie = 7;
    owner.told_last.clear();
    owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
    owner.waits(200_000);
    assert_eq!((owner.told_last.as_str(), owner.instance.status().base_input), ("BAD_FRAME", 0));
    owner.lie = 0;
    owner.attach(0, 0);
    assert_eq!(owner.handled(), [1, 1], "it began from the good one");
    owner.step(Input::Request { ticket: 2, request: Request::Checkpoint });
    owner.waits(200_000);
    assert_eq!(owner.instance.status().base_input, 2);
}

/// An owner, and a function that says that another replica's program is ready and lets a tick pass.
fn with_a_standby() -> (Owner, impl FnMut(&mut Owner)) {
    let (owner, other) = handed_on(|_| {});
    let ready = ReplicaStatus { attached: true, caught_up: true, ..other.instance.status() };
    let tick = move |owner: &mut Owner| {
        let message = Peer::Status(ready.clone());
        owner.step(Input::Peer { from: ReplicaId(2), message });
        owner.waits(100_000);
    };
    (owner, tick)
}

#[test]
fn a_replay_ends_when_all_is_told_that_is_known_to_be_logged() {
    let mut owner = Owner::new();
    owner.comes(1, 1);
    owner.comes(2, 1);
    let mut entries: VecDeque<_> = owner.log.entries.into_iter().map(|(.., entry)| entry).collect();
    let last = entries.pop_back().expect("it was given some");
    let mut other = Owner::replica(2, &[1, 2]);
    other.log.is_behind = true;
    entries.into_iter().for_each(|entry| drop(other.commit(entry)));
    other.attach(0, 0);
    let ended = |owner: &Owner| owner.heard.contains(&ToProgram::EndOfReplay { input: 3 });
    assert!(other.instance.status().caught_up, "as far as it knows");
    other.waits(1_000_000);
    other.commit(last);
    assert_eq!((other.handled(), ended(&other)), (vec![1, 2], false));
    other.log.is_behind = false;
    other.step(Input::Tick);
    assert!(ended(&other), "{:?}", other.heard);
}

#[test]
fn a_program_is_given_one_input_at_a_time_no_longer_than_it_has_to_be_careful() {
    let mut owner = Owner::new();
    let comes_in = |owner: &mut Owner, first| {
        let before = owner.portions;
        owner.comes(first, 3);
        owner.portions - before
    };
    assert_eq!(comes_in(&mut owner, 1), 1);
    let (input, text) = (owner.last + 1, "not that".into());
    owner.says(&ToNode::Fault { input, text });
    owner.attach(0, 0);
    assert_eq!(comes_in(&mut owner, 4), 3, "the one that it failed on is among them");
    assert_eq!(comes_in(&mut owner, 7), 1);
    let (input, text) = (owner.last + 2, "nor that".into());
    owner.says(&ToNode::Fault { input, text });
    owner.attach(0, 0);
    // Somebody has mended it before it comes to that input.
    owner.step(Input::Peer { from: ReplicaId(2), message: Peer::Release });
    comes_in(&mut owner, 10);
    assert_eq!(comes_in(&mut owner, 13), 1);
}

#[test]
fn a_replay_ends_although_there_is_always_more_on_its_way() {
    let mut owner = Owner::new();
    owner.comes(1, 1);
    let mut other = Owner::replica(2, &[1, 2]);
    other.log.ahead = 1;
    for (_, _, entry) in owner.log.entries.clone() {
        other.commit(entry);
    }
    other.attach(0, 0);
    let ended = |owner: &Owner| {
        owner.heard.iter().any(|frame| matches!(frame, ToProgram::EndOfReplay { .. }))
    };
    assert!(!ended(&other));
    let before = owner.log.entries.len();
    owner.comes(2, 1);
    for (_, _, entry) in owner.log.entries.split_off(before) {
        other.commit(entry);
    }
    assert!(ended(&other), "{:?}", other.heard);
}

#[test]
fn a_hand_over_that_is_not_begun_is_tried_again_at_the_next_tick() {
    let (mut owner, mut tick) = with_a_standby();
    tick(&mut owner);
    assert_eq!(owner.heirs, []);
    owner.step(Input::Detached { program: owner.program });
    tick(&mut owner);
    tick(&mut owner);
    assert_eq!(owner.heirs, [ReplicaId(2)], "one that was begun takes its time");
    owner.step(Input::HandOverFailed);
    tick(&mut owner);
    assert_eq!(owner.heirs, [ReplicaId(2); 2]);
}

#[test]
fn a_move_that_is_not_begun_is_tried_again_for_a_while() {
    let (mut owner, mut tick) = with_a_standby();
    tick(&mut owner);
    owner.step(Input::Request { ticket: 1, request: Request::Move { to: ReplicaId(2) } });
    for _ in 0..3 {
        owner.step(Input::HandOverFailed);
        tick(&mut owner);
    }
    assert_eq!(owner.heirs, [ReplicaId(2); 4]);
    owner.heirs.clear();
    owner.waits(6_000_000);
    owner.heirs.clear();
    owner.step(Input::HandOverFailed);
    tick(&mut owner);
    assert_eq!(owner.heirs, [], "it was wished for too long ago");
}

/// A program sends a message and awaits a side effect.
fn put_words_of_the_new_version(answer: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    put_message(&mut bytes, &Message::Fork { method: 1, payload: Bytes::new() });
    let (destination, messages) = ("theirs".into(), bytes.into());
    ToNode::Send { destination, count: 1, messages }.put(answer);
    ToNode::Await { id: 5, due: None }.put(answer);
}

impl Owner {
    /// A message comes, and the program takes that long to handle it.
    fn is_slow(&mut self, number: u64, micros: u64) {
        let program = self.program;
        // The program is given nothing before the time is over.
        self.program = 0;
        let mut bytes = Vec::new();
        put_message(&mut bytes, &Message::Fork { method: 1, payload: Bytes::new() });
        let (lane, name, floor) = (Lane::Stream, "theirs".to_owned(), 1);
        let (first, count, messages) = (number, 1, bytes.into());
        let message = Between::Send { lane, name, floor, first, count, messages };
        self.step(Input::Between { from: THEIRS, message });
        self.program = program;
        self.now.steady_micros += micros;
        self.last += 1;
        self.says(&ToNode::Done { input: self.last });
    }
}
