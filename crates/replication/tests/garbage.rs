//! Messages that no honest peer would send: fields of real ones are changed at random. The replicas
//! may lose all sense by that, but none of them may panic.

mod world;

use std::sync::Arc;

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use random::Random;
use replication::{Group, GroupOptions, Members, MembershipChange, Message, Restored};
use storage::{EntryKind, LogReader};

const SEEDS: u64 = 600;
const STEPS: usize = 600;
const REPLICAS: u64 = 4;

/// More on its way than this and some is lost.
const MESSAGES_MAX: usize = 40;

/// Nothing leaves memory here.
fn reader() -> Arc<dyn LogReader> {
    storage::MemoryLog::default().reader()
}

struct Chaos {
    random: Random,
    groups: Vec<Group>,
    messages: Vec<Message>,
    /// Readys that are not durable yet, by replica: number and messages.
    held: Vec<Vec<(u64, Vec<Message>)>>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let members = Members::of_voters([1, 2, 3].map(ReplicaId));
        let start = |id| {
            let mut options = GroupOptions::new(GroupId(1), ReplicaId(id));
            options.heartbeat_ticks = 1;
            options.election_ticks = 4;
            let members = if id == REPLICAS { Members::default() } else { members.clone() };
            let restored = Restored { members, ..Restored::default() };
            let mut group = Group::new(options, restored, reader()).expect("a fresh start");
            group.set_election_ticks(3 + usize::try_from(id).expect("small"));
            group
        };
        let groups = (1..=REPLICAS).map(start).collect();
        let held = (1..=REPLICAS).map(|_| Vec::new()).collect();
        Self { random: Random::of_seed(seed), groups, messages: Vec::new(), held }
    }

    fn step(&mut self) {
        let place = self.random.index(self.groups.len());
        let group = &mut self.groups[place];
        match self.random.index(24) {
            0..=2 => group.tick(),
            3 => drop(group.propose(Bytes::from_static(b"word"))),
            4 => group.confirm(self.random.draw()).unwrap_or(()),
            5 => {
                let other = ReplicaId(1 + self.random.draw() % REPLICAS);
                let change = match self.random.index(3) {
                    0 => MembershipChange { add_learners: vec![other], ..Default::default() },
                    1 => MembershipChange { promote: vec![other], ..Default::default() },
                    _ => MembershipChange { remove: vec![other], ..Default::default() },
                };
                drop(group.change(&change));
            }
            6 => drop(group.compact(group.applied_position())),
            7 => group.peer_lost(ReplicaId(1 + self.random.draw() % REPLICAS), 0),
            8 => group.snapshot_sent(ReplicaId(1 + self.random.draw() % REPLICAS), true),
            9 => group.hand_over(ReplicaId(1 + self.random.draw() % REPLICAS)),
            10..=12 => self.sync(place),
            _ => self.deliver(),
        }
        for place in 0..self.groups.len() {
            self.settle(place);
        }
        let surplus = self.messages.len().saturating_sub(MESSAGES_MAX);
        self.messages.drain(..surplus);
    }

    fn settle(&mut self, place: usize) {
        while let Some(ready) = self.groups[place].ready() {
            self.messages.extend(ready.send_now);
            self.messages.extend(ready.send_snapshot.into_iter().map(|offer| offer.message));
            self.held[place].push((ready.number, ready.send_durable));
            let last = ready.committed.last().map(|committed| committed.position);
            let installed = ready.install.map(|install| install.position);
            if let Some(position) = last.or(installed) {
                self.groups[place].applied(position);
            }
        }
    }

    fn sync(&mut self, place: usize) {
        let durable = std::mem::take(&mut self.held[place]);
        if let Some((number, _)) = durable.last() {
            self.groups[place].persisted(*number);
        }
        self.messages.extend(durable.into_iter().flat_map(|(_, messages)| messages));
    }

    fn deliver(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let place = self.random.index(self.messages.len());
        let mut message = self.messages.remove(place);
        while self.random.one_in(3) {
            self.spoil(&mut message);
        }
        let to = message.to.0.clamp(1, REPLICAS) - 1;
        let group = &mut self.groups[usize::try_from(to).expect("small")];
        group.receive(message);
    }

    fn number(&mut self, near: u64) -> u64 {
        match self.random.index(8) {
            0 => self.random.draw(),
            1 => 0,
            2 => u64::MAX,
            3 => u64::MAX >> 1,
            _ => near.saturating_add(self.random.draw() % 5).saturating_sub(2),
        }
    }

    fn spoil(&mut self, message: &mut Message) {
        let term = Term(self.number(message.term.0));
        let position = Position(self.number(message.index.0));
        match self.random.index(14) {
            0 => message.term = term,
            1 => message.log_term = term,
            2 => message.index = position,
            3 => message.commit = position,
            4 => message.commit_term = term,
            5 => message.reject = !message.reject,
            6 => message.reject_hint = position,
            7 => message.request_snapshot = position,
            8 => message.from = ReplicaId(self.number(message.from.0)),
            9 => message.context = Bytes::from(vec![0; self.random.index(12)]),
            10 => {
                if let Some(other) = self.random.any(&self.messages) {
                    message.kind = other.kind;
                    message.snapshot = other.snapshot.clone();
                    message.entries = other.entries.clone();
                }
            }
            11 => drop(message.entries.pop()),
            12 => {
                let place = self.random.index(message.entries.len());
                if let Some(entry) = message.entries.get_mut(place) {
                    entry.term = term;
                    entry.position = position;
                    if self.random.one_in(2) {
                        entry.kind = EntryKind::Membership;
                    }
                }
            }
            _ => {
                let id = ReplicaId(self.random.draw() % 6);
                if let Some(meta) = &mut message.snapshot {
                    (meta.position, meta.term) = (position, term);
                    meta.members.learners.push(id);
                    meta.members.outgoing.push(id);
                }
            }
        }
    }
}

#[test]
fn no_message_makes_a_replica_panic() {
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| {
            let mut chaos = Chaos::new(seed);
            (0..STEPS).for_each(|_| chaos.step());
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}
