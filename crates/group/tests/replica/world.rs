//! Replicas of one group in one thread, with a network, disks and a clock that do as they are told.

use std::collections::{BTreeMap, BTreeSet};

use group::{Caller, Chunk, Io, Outputs, PeerMessage, Question, Quorum, Replica, Reply};
use protocol::{Code, Moment, Now, Position, Problem, ReplicaId, RequestKey, Term};
use replication::{Members, MembershipChange, Message, MessageKind, SnapshotMeta};
use script::Player;
use storage::LogRecord;

use crate::counter::{Answer, Counter, Event, Kind, Question as Asked};
use crate::node::{Around, GROUP, Node, Room};

struct Packet {
    from: u64,
    to: u64,
    message: PeerMessage,
}

#[derive(Default)]
pub(crate) struct World {
    kind: Option<Kind>,
    room: Room,
    nodes: BTreeMap<u64, Node>,
    network: Vec<Packet>,
    now_micros: u64,
    quorum: Quorum,
    may_not_lead: BTreeSet<u64>,
    cut: BTreeSet<u64>,
    held: BTreeSet<String>,
    /// Who waits for an answer.
    open: BTreeSet<Caller>,
    shown: Vec<String>,
}

impl Player for World {
    fn play(&mut self, line: &str) -> Vec<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.line(line, &words);
        std::mem::take(&mut self.shown)
    }
}

impl World {
    fn line(&mut self, line: &str, words: &[&str]) {
        let number = |place: usize| words.get(place).map(|word| word.parse::<u64>().unwrap());
        let id = words.get(1).and_then(|word| word.parse().ok()).unwrap_or_default();
        match words[0] {
            "unapplied" => self.room.unapplied_max = number(1),
            "uncommitted" => {
                self.room.uncommitted_bytes_max = number(1).map(|it| usize::try_from(it).unwrap());
            }
            "partitions" => self.begin(Kind::Partition),
            "memories" => self.begin(Kind::Memory),
            "instances" => self.begin(Kind::Instance),
            "spare" => self.add(id, &[]),
            "ask" => self.ask(id, number(2).unwrap(), &words[3..]),
            "run" => self.run(),
            "deliver" => self.deliver(number(1), true),
            "lose" => self.deliver(number(1), false),
            "sync" => self.sync(id, number(2).unwrap_or(u64::MAX)),
            "persist" => self.persist(id),
            "hold" => assert!(self.held.insert(words[1..].join(" "))),
            "release" => assert!(self.held.remove(&words[1..].join(" "))),
            "cut" => assert!(self.cut.insert(id)),
            "heal" => assert!(self.cut.remove(&id)),
            "tick" => self.tick(id, number(2).unwrap_or(1)),
            "wait" => self.wait(number(1).unwrap()),
            "lost" => self.lost(id, number(2).unwrap(), number(3).unwrap_or_default()),
            "burst" => self.burst(id),
            "still" => self.hold(id),
            "go-on" => self.let_go(id),
            "hand-over" => self.hand_over(id, number(2).unwrap()),
            "change" => self.change(id, &words[2..]),
            "quorum" => self.set_quorum(number(1).unwrap(), number(2).unwrap()),
            "may-lead" => self.may_lead(id, words[2]),
            "checkpoint" => self.happened(id, Event::Checkpoint),
            "poke" => self.happened(id, Event::Poke),
            "compact" => self.compact(id),
            "forge" => self.forge(id, number(2).unwrap(), number(3).unwrap()),
            "forge-chunk" => {
                self.forge_chunk(
                    id,
                    number(2).unwrap(),
                    [3, 5].map(|place| number(place).unwrap()),
                );
            }
            "crash" => self.crash(id),
            "start" => self.start(id),
            "network" => self.show_network(),
            "records" => self.show_records(id),
            "waiting" => self.show_waiting(),
            "show" => self.show(id),
            _ => panic!("{line:?} means nothing"),
        }
    }

    // Replicas.

    /// Nothing is told of the beginning.
    fn begin(&mut self, kind: Kind) {
        let quorum = Quorum { needed: 2, set: 2, up: 3 };
        let room = self.room;
        *self = Self { kind: Some(kind), room, quorum, ..Self::default() };
        (1..=3).for_each(|id| self.add(id, &[1, 2, 3]));
        self.tick(1, 20);
        self.run();
        self.shown.clear();
    }

    fn add(&mut self, id: u64, voters: &[u64]) {
        let kind = self.kind.expect("a group was begun");
        self.nodes.insert(id, Node::new(id, kind, voters, self.room));
        self.settle(id);
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("there is such a replica")
    }

    fn replica(&mut self, id: u64) -> &mut Replica<Counter> {
        self.node(id).replica()
    }

    fn up(&self) -> Vec<u64> {
        let up = self.nodes.values().filter(|node| node.replica.is_some());
        up.map(|node| node.id).collect()
    }

    fn tell(&mut self, id: u64, what: &str) {
        self.shown.push(format!("{id} {what}"));
    }

    fn around(&self, id: u64) -> Around {
        let wall = Moment(1_000_000_000 + self.now_micros);
        Around {
            now: Now { steady_micros: self.now_micros, wall },
            quorum: self.quorum,
            may_lead: !self.may_not_lead.contains(&id),
        }
    }

    fn step(
        &mut self,
        id: u64,
        step: impl FnOnce(&mut Replica<Counter>, &mut Io<'_, ()>, &mut Outputs<Counter>),
    ) {
        let around = self.around(id);
        let out = self.node(id).step(around, step);
        self.carry_out(id, out);
    }

    fn settle(&mut self, id: u64) {
        self.step(id, |_, _, _| ());
    }

    fn carry_out(&mut self, id: u64, out: Outputs<Counter>) {
        let notes = out.details.iter().chain(&out.notes);
        notes.for_each(|note| self.tell(id, &format!("notes: {note}")));
        out.actions.iter().for_each(|action| self.tell(id, &format!("does: {action}")));
        for (caller, reply) in out.replies {
            assert!(self.open.remove(&caller), "caller {} is answered twice", caller.number);
            self.tell(id, &format!("tells {}: {}", caller.number, show_reply(&reply)));
        }
        self.send(id, out.messages);
    }

    fn send(&mut self, from: u64, messages: Vec<(ReplicaId, PeerMessage)>) {
        let packets = messages.into_iter();
        self.network.extend(packets.map(|(to, message)| Packet { from, to: to.0, message }));
    }

    fn crash(&mut self, id: u64) {
        self.node(id).crash();
        // Whoever has asked it notices that it is gone.
        self.open.retain(|caller| caller.boot != id);
    }

    fn start(&mut self, id: u64) {
        self.node(id).start();
        self.settle(id);
    }

    // What happens to them.

    /// `add 5 key=k/1 retry refuse`. A caller's number is one for all replicas; the boot says which
    /// it has asked, so that the same caller is another at another replica.
    fn ask(&mut self, id: u64, number: u64, words: &[&str]) {
        let count = |place: usize| words[place].parse::<i64>().unwrap();
        let (asked, options) = match words[0] {
            "add" => (Asked::Add(count(1)), &words[2..]),
            "add-much" => (Asked::AddMuch(count(1)), &words[2..]),
            "take" => (Asked::Take(count(1)), &words[2..]),
            "read" => (Asked::Read, &words[1..]),
            other => panic!("nobody asks to '{other}'"),
        };
        let caller = Caller { node: ReplicaId(9), boot: id, number };
        let mut question = Question {
            caller,
            key: None,
            is_retry: false,
            is_write: !matches!(asked, Asked::Read),
            quorum: 0,
            refusal: None,
            question: asked,
        };
        for option in options {
            match option.split_once('=') {
                Some(("key", key)) => question.key = Some(user_key(key)),
                Some(("quorum", quorum)) => question.quorum = quorum.parse().unwrap(),
                None if *option == "retry" => question.is_retry = true,
                None if *option == "refuse" => {
                    question.refusal = Some(Problem::new(Code::QuorumNotMet, "too few are up"));
                }
                _ => panic!("an option '{option}'"),
            }
        }
        self.open.insert(caller);
        self.step(id, |replica, io, out| replica.ask(io, question, out).unwrap());
    }

    fn tick(&mut self, id: u64, ticks: u64) {
        for _ in 0..ticks {
            self.step(id, |replica, io, out| {
                replica.tick(io.now.steady_micros);
                replica.tick_leader(io, out).unwrap();
            });
        }
    }

    fn wait(&mut self, micros: u64) {
        self.now_micros += micros;
        self.up().into_iter().for_each(|id| self.settle(id));
    }

    fn lost(&mut self, id: u64, peer: u64, delay_ticks: u64) {
        let (peer, delay_ticks) = (ReplicaId(peer), usize::try_from(delay_ticks).unwrap());
        self.step(id, |replica, _, _| {
            replica.end_transfer(peer, false);
            replica.consensus.peer_lost(peer, delay_ticks);
        });
    }

    fn hold(&mut self, id: u64) {
        let mut said = "";
        self.step(id, |replica, _, _| {
            said = match (replica.hold(), replica.stands_still()) {
                (false, _) => "owns nothing that could be held",
                (true, false) => "is held, and has not applied all",
                (true, true) => "stands still",
            };
        });
        self.tell(id, said);
    }

    fn let_go(&mut self, id: u64) {
        self.step(id, |replica, io, out| replica.let_go(io, out).unwrap());
    }

    fn hand_over(&mut self, id: u64, to: u64) {
        self.step(id, |replica, io, out| replica.hand_over(io, ReplicaId(to), out).unwrap());
    }

    fn change(&mut self, id: u64, words: &[&str]) {
        let list = |sign| {
            let ids = words.iter().filter_map(|word| word.strip_prefix(sign));
            ids.map(|id| ReplicaId(id.parse().unwrap())).collect()
        };
        let change =
            MembershipChange { add_learners: list('+'), promote: list('^'), remove: list('-') };
        self.step(id, |replica, _, out| {
            if let Err(error) = replica.consensus.change(&change) {
                out.notes.push(error.to_string());
            }
        });
    }

    fn set_quorum(&mut self, needed: u64, up: u64) {
        let count = |number: u64| usize::try_from(number).unwrap();
        self.quorum = Quorum { needed: count(needed), set: count(needed), up: count(up) };
        self.up().into_iter().for_each(|id| self.settle(id));
    }

    fn may_lead(&mut self, id: u64, word: &str) {
        match word {
            "no" => self.may_not_lead.insert(id),
            _ => self.may_not_lead.remove(&id),
        };
        self.settle(id);
    }

    fn happened(&mut self, id: u64, event: Event) {
        self.step(id, |replica, io, out| replica.happened(io, event, out).unwrap());
    }

    fn compact(&mut self, id: u64) {
        let around = self.around(id);
        let (out, up_to) = self.node(id).compact(around);
        self.carry_out(id, out);
        self.tell(id, &format!("forgets up to {up_to}"));
    }

    /// A snapshot message that came by itself.
    fn forge(&mut self, id: u64, from: u64, position: u64) {
        let term = self.replica(id).consensus.term();
        let message = snapshot_message(id, from, term, Position(position));
        self.step(id, |replica, _, _| replica.receive(message));
    }

    /// A chunk that is its state's first and last.
    fn forge_chunk(&mut self, id: u64, from: u64, [offered, position]: [u64; 2]) {
        let term = self.replica(id).consensus.term();
        let chunk = Chunk {
            group: GROUP,
            transfer: 1,
            number: 0,
            pairs: Vec::new(),
            last: Some(snapshot_message(id, from, term, Position(offered))),
            position: Position(position),
            term,
            members: Members::of_voters([1, 2, 3].map(ReplicaId)),
        };
        self.network.push(Packet { from, to: id, message: PeerMessage::Chunk(chunk) });
    }

    // Network and disks.

    fn run(&mut self) {
        for _ in 0..300 {
            self.deliver(None, true);
            let mut is_quiet = !self.network.iter().any(|packet| self.is_free(packet));
            for id in self.up() {
                if !self.held.contains(&format!("store {id}")) {
                    is_quiet &= self.node(id).persists.is_empty();
                    self.persist(id);
                }
                if !self.held.contains(&format!("log {id}")) {
                    is_quiet &= self.node(id).unsynced.is_empty();
                    self.sync(id, u64::MAX);
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("it is never quiet");
    }

    fn sync(&mut self, id: u64, count: u64) {
        let mut left = count;
        while left > 0 && !self.node(id).unsynced.is_empty() {
            let messages = self.node(id).sync();
            self.send(id, messages);
            self.settle(id);
            left -= 1;
        }
    }

    fn persist(&mut self, id: u64) {
        while !self.node(id).persists.is_empty() {
            let mut records = self.node(id).persist();
            self.step(id, |_, _, out| out.records.append(&mut records));
        }
    }

    fn is_free(&self, packet: &Packet) -> bool {
        !self.held.contains(&kind_of(&packet.message))
    }

    fn deliver(&mut self, to: Option<u64>, well: bool) {
        let network = std::mem::take(&mut self.network);
        for packet in network {
            if to.is_some_and(|to| packet.to != to) || !self.is_free(&packet) {
                self.network.push(packet);
                continue;
            }
            let is_cut = [packet.from, packet.to].iter().any(|end| self.cut.contains(end));
            let is_up = self.nodes.get(&packet.to).is_some_and(|node| node.replica.is_some());
            if well && is_up && !is_cut {
                self.receive(packet);
            }
        }
    }

    fn receive(&mut self, packet: Packet) {
        self.step(packet.to, |replica, io, out| take(replica, io, out, packet));
    }

    /// All that is on its way to a replica comes within one step of its node.
    fn burst(&mut self, id: u64) {
        let network = std::mem::take(&mut self.network);
        let (packets, rest) = network.into_iter().partition(|packet: &Packet| packet.to == id);
        self.network = rest;
        let packets: Vec<Packet> = packets;
        self.step(id, |replica, io, out| {
            packets.into_iter().for_each(|packet| take(replica, io, out, packet));
        });
    }

    // What can be seen.

    fn show_network(&mut self) {
        let network = std::mem::take(&mut self.network);
        for Packet { from, to, message } in &network {
            self.tell(*from, &format!("-> {to} {}", describe(message)));
        }
        self.network = network;
    }

    fn show_records(&mut self, id: u64) {
        let batches = self.node(id).unsynced.iter();
        let shown: Vec<String> = batches.map(|(_, records)| show_records(records)).collect();
        let waits = self.replica(id).waits_for_the_disk();
        self.tell(id, &format!("writes [{}], waits: {waits}", shown.join("] [")));
    }

    fn show_waiting(&mut self) {
        let open: Vec<String> = self.open.iter().map(|caller| caller.number.to_string()).collect();
        self.shown.push(format!("[{}] wait", open.join(" ")));
    }

    fn show(&mut self, id: u64) {
        let replica = self.replica(id);
        let role = match replica.serving() {
            Some((term, opening)) => format!("leads in term {term}, leader {opening}"),
            None if replica.is_handing_over() => "hands over".to_owned(),
            None if replica.consensus.is_owner() => "owns the group".to_owned(),
            None => "follows".to_owned(),
        };
        let (term, position) = replica.applied();
        let (value, last) = (replica.machine().value(), replica.consensus.last());
        let first = replica.consensus.first();
        let changes: Vec<String> = replica
            .machine()
            .changes()
            .iter()
            .map(|(position, change)| format!("{position}:{change:+}"))
            .collect();
        self.tell(
            id,
            &format!(
                "{role}; {value} of [{}] at {position}/t{term}, log {first} to {last}",
                changes.join(" ")
            ),
        );
    }
}

fn take(
    replica: &mut Replica<Counter>,
    io: &mut Io<'_, ()>,
    out: &mut Outputs<Counter>,
    packet: Packet,
) {
    let (from, now) = (ReplicaId(packet.from), io.now.steady_micros);
    match packet.message {
        PeerMessage::Consensus(message) => replica.receive(message),
        PeerMessage::Chunk(chunk) => {
            replica.chunk(io.store, from, chunk, &mut out.messages).unwrap();
        }
        PeerMessage::ChunkTaken { transfer, number } => {
            let taken = (transfer, number);
            replica.chunk_taken(from, taken, now, &mut out.messages).unwrap();
        }
    }
}

fn snapshot_message(to: u64, from: u64, term: Term, position: Position) -> Message {
    let members = Members::of_voters([1, 2, 3].map(ReplicaId));
    let snapshot = Some(SnapshotMeta { position, term, members });
    let message = Message::new(MessageKind::Snapshot, ReplicaId(from), ReplicaId(to), term);
    Message { snapshot, ..message }
}

fn user_key(text: &str) -> RequestKey {
    let (key, digest) = text.split_once('/').unwrap();
    RequestKey::User { key: key.to_owned(), digest: digest.parse().unwrap() }
}

fn show_reply(reply: &Reply<Answer>) -> String {
    match reply {
        Reply::NotOwner => "not the owner".into(),
        Reply::Answer(Answer(Ok(value))) => value.to_string(),
        Reply::Answer(Answer(Err(problem))) => {
            let outcome = problem.outcome.map_or("no write".to_owned(), |it| format!("{it:?}"));
            format!("{} [{outcome}] {}", problem.code.name(), problem.message)
        }
    }
}

fn show_records(records: &[LogRecord]) -> String {
    let shown = records.iter().map(|record| match record {
        LogRecord::Entry { entry, .. } => format!("{}/t{}", entry.position, entry.term),
        LogRecord::Vote { term, voted_for, commit, .. } => {
            format!("vote t{term} for {voted_for}, commit {commit}")
        }
        LogRecord::Base { position, term, .. } => format!("base {position}/t{term}"),
        LogRecord::Owner(_) | LogRecord::Witness { .. } => "a record of the node".into(),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn kind_of(message: &PeerMessage) -> String {
    match message {
        PeerMessage::Consensus(message) => format!("{:?}", message.kind),
        PeerMessage::Chunk(_) => "Chunk".into(),
        PeerMessage::ChunkTaken { .. } => "ChunkTaken".into(),
    }
}

/// One line about a message, in short.
fn describe(message: &PeerMessage) -> String {
    let message = match message {
        PeerMessage::Consensus(message) => message,
        PeerMessage::Chunk(chunk) => {
            let (number, pairs) = (chunk.number, chunk.pairs.len());
            let last = if chunk.last.is_some() { ", the last" } else { "" };
            return format!(
                "Chunk {number} of the state at {}: {pairs} pairs{last}",
                chunk.position
            );
        }
        PeerMessage::ChunkTaken { number, .. } => return format!("ChunkTaken {number}"),
    };
    let mut text = format!("{:?} t{}", message.kind, message.term);
    match message.kind {
        MessageKind::Append => {
            let places = message.entries.iter().map(|entry| entry.position.to_string());
            let places = places.collect::<Vec<_>>().join(" ");
            text += &format!(" after {} [{places}] commit {}", message.index, message.commit);
        }
        MessageKind::AppendAnswer if message.reject => text += &format!(" no at {}", message.index),
        MessageKind::AppendAnswer => text += &format!(" has {}", message.index),
        MessageKind::VoteAnswer | MessageKind::PreVoteAnswer => {
            text += if message.reject { " no" } else { " yes" };
        }
        _ => {}
    }
    text
}
