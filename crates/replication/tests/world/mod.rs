//! Replicas of one group in one thread, with a network, disks and states that do as they are told,
//! and with checks that hold at every step.
//!
//! Used by the scripts and by the random histories; each uses a part of it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "each test crate uses a part of it"
)]

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use replication::{
    Committed, CommittedData, Group, GroupOptions, Members, Message, MessageKind, Ready, Restored,
    TailLimits,
};
use storage::{LogRecord, MemoryLog};

pub const GROUP: GroupId = GroupId(7);

/// What the state machine holds: a digest of all it was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub position: Position,
    pub term: Term,
    pub members: Members,
    pub digest: u64,
}

/// A message on its way; a snapshot has its state along.
#[derive(Clone, Debug)]
pub struct Packet {
    pub message: Message,
    pub state: Option<State>,
}

/// What the state machine has to do, in order.
#[derive(Debug)]
enum Work {
    Apply(Committed),
    Install(State),
}

/// What waits for the disk.
#[derive(Debug)]
struct Unsynced {
    /// None for a record that belongs to no ready.
    number: Option<u64>,
    records: Vec<LogRecord>,
    messages: Vec<Message>,
    installs: bool,
}

/// A replica with its disk and its state, up or down.
pub struct Replica {
    pub id: ReplicaId,
    pub options: GroupOptions,
    /// Another number for each, see `Group::set_election_ticks`.
    pub patience_ticks: usize,
    pub group: Option<Group>,
    /// What a start would find in the log.
    pub log: MemoryLog,
    unsynced: VecDeque<Unsynced>,
    /// What a start might find of the state: the first is durable, the last is the present one.
    states: VecDeque<State>,
    work: VecDeque<Work>,
    staged: BTreeMap<Position, State>,
    shown: String,
}

impl Replica {
    pub fn state(&self) -> &State {
        self.states.back().expect("there is always a state")
    }

    pub fn group(&mut self) -> &mut Group {
        self.group.as_mut().expect("the replica is up")
    }

    pub fn is_idle(&self) -> bool {
        self.unsynced.is_empty() && self.work.is_empty()
    }

    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    pub fn work(&self) -> usize {
        self.work.len()
    }
}

/// All of it.
#[derive(Default)]
pub struct World {
    pub replicas: BTreeMap<u64, Replica>,
    pub network: Vec<Packet>,
    /// What happened since it was last taken.
    pub told: String,
    /// Applied by itself, or only when told.
    pub lazy: bool,
    /// Whether the sender of a snapshot hears what became of it only when told.
    pub late_reports: bool,
    /// What was committed at each position, by anybody.
    committed: BTreeMap<Position, (Term, u64)>,
    /// The one owner of each term.
    owners: BTreeMap<Term, u64>,
    /// What an owner took, and where.
    proposed: BTreeMap<(Position, Term), (u64, String)>,
    /// For the cutting of tails.
    micros: u64,
    /// Of each ticket who has it, and what was committed when it was asked for.
    tickets: BTreeMap<u64, (u64, Position)>,
}

impl World {
    /// A replica that has nothing yet; without voters it waits to be admitted.
    pub fn add(&mut self, id: u64, voters: &[u64], change: impl FnOnce(&mut GroupOptions)) {
        let mut options = GroupOptions::new(GROUP, ReplicaId(id));
        options.heartbeat_ticks = 2;
        options.election_ticks = 10;
        change(&mut options);
        let rank = usize::try_from(id).expect("few replicas") - 1;
        let patience_ticks = options.election_ticks + 2 * rank;
        let members = Members::of_voters(voters.iter().map(|id| ReplicaId(*id)));
        let replica = Replica {
            id: ReplicaId(id),
            options,
            patience_ticks,
            group: None,
            log: MemoryLog::default(),
            unsynced: VecDeque::new(),
            states: VecDeque::from([State { members, ..State::default() }]),
            work: VecDeque::new(),
            staged: BTreeMap::new(),
            shown: String::new(),
        };
        self.replicas.insert(id, replica);
        self.start(id);
    }

    pub fn replica(&mut self, id: u64) -> &mut Replica {
        self.replicas.get_mut(&id).expect("there is such a replica")
    }

    pub fn group(&mut self, id: u64) -> &mut Group {
        self.replica(id).group()
    }

    pub fn is_up(&self, id: u64) -> bool {
        self.replicas.get(&id).is_some_and(|replica| replica.group.is_some())
    }

    pub fn up(&self) -> Vec<u64> {
        self.replicas.keys().copied().filter(|id| self.is_up(*id)).collect()
    }

    /// Who owns the group, as far as anybody thinks so; the one with the highest term.
    pub fn owner(&self) -> Option<u64> {
        let owners = self.replicas.values().filter_map(|replica| {
            let group = replica.group.as_ref().filter(|group| group.is_owner())?;
            Some((group.term(), replica.id.0))
        });
        owners.max().map(|(_, id)| id)
    }

    /// The highest position that anybody knows to be committed.
    pub fn committed(&self) -> Position {
        self.committed.keys().next_back().copied().unwrap_or_default()
    }

    pub fn start(&mut self, id: u64) {
        let replica = self.replica(id);
        let state = replica.states.back().cloned().expect("there is always a state");
        let restored =
            Restored::new(replica.log.recovered(), state.position, state.term, state.members);
        let log = replica.log.reader();
        let group = Group::new(replica.options.clone(), restored, log);
        let mut group = group.expect("a crash leaves what can be restored");
        group.set_election_ticks(replica.patience_ticks);
        replica.group = Some(group);
        self.settle(id);
    }

    /// Only what is durable stays, and of the rest what the disk happened to keep: that many
    /// of the writes, and that many of the state's batches.
    pub fn crash(&mut self, id: u64, writes_kept: usize, states_kept: usize) {
        let replica = self.replica(id);
        replica.group = None;
        let unsynced = std::mem::take(&mut replica.unsynced);
        // The log may not know of a state that is not durable.
        let written = unsynced.into_iter().take(writes_kept).take_while(|one| !one.installs);
        for record in written.flat_map(|one| one.records) {
            replica.log.write(record);
        }
        replica.states.truncate(1 + states_kept);
        let kept = replica.states.pop_back().expect("there is always a state");
        replica.states = VecDeque::from([kept]);
        replica.work.clear();
        replica.staged.clear();
        replica.shown.clear();
        self.tickets.retain(|_, (asked, _)| *asked != id);
        // A lone voter may win the same term again, if nothing of it was durable.
        self.proposed.retain(|_, (owner, _)| *owner != id);
        self.tell(id, "falls");
    }

    /// All that has to be done now, until there is nothing.
    pub fn settle(&mut self, id: u64) {
        let mut rounds = 0;
        while let Some(ready) = self.replica(id).group.as_mut().and_then(Group::ready) {
            rounds += 1;
            assert!(rounds < 1000, "replica {id} is never done");
            self.carry_out(id, ready);
        }
        self.show(id);
    }

    fn carry_out(&mut self, id: u64, ready: Ready) {
        if let Some(damage) = &ready.damage {
            self.tell(id, &format!("cannot read its log: {damage}"));
        }
        for note in &ready.notes {
            self.tell(id, &format!("notes: {note}"));
        }
        for offer in ready.send_snapshot {
            // The state may have gone on since the offer was made.
            let state = self.replica(id).state().clone();
            let offer = offer.at(state.position, state.term, state.members.clone());
            self.send(offer.message, Some(state));
        }
        for message in ready.send_now {
            self.send(message, None);
        }
        if !ready.records.is_empty() || !ready.send_durable.is_empty() {
            self.replica(id).unsynced.push_back(Unsynced {
                number: Some(ready.number),
                records: ready.records,
                messages: ready.send_durable,
                installs: ready.install.is_some(),
            });
        }
        if let Some(install) = ready.install {
            let replica = self.replica(id);
            let state = replica.staged.remove(&install.position);
            let state = state.expect("only a staged state is installed");
            assert_eq!((state.term, &state.members), (install.term, &install.members));
            replica.work.push_back(Work::Install(state));
        }
        let work = ready.committed.into_iter().map(Work::Apply);
        self.replica(id).work.extend(work);
        for (ticket, position) in ready.confirmed {
            let (_, floor) = self.tickets.remove(&ticket).expect("a ticket is answered once");
            assert!(position >= floor, "ticket {ticket} would read at {position}, before {floor}");
            self.tell(id, &format!("confirms {ticket} at {position}"));
        }
        for ticket in ready.refused {
            self.tickets.remove(&ticket).expect("a ticket is answered once");
            self.tell(id, &format!("refuses {ticket}"));
        }
        if !self.lazy {
            self.work(id, usize::MAX);
        }
    }

    fn send(&mut self, message: Message, state: Option<State>) {
        let bytes: usize = message.entries.iter().map(|entry| entry.data.len()).sum();
        let max = self.replica(message.from.0).options.entry_bytes_per_message_max;
        assert!(message.entries.len() <= 1 || bytes <= max, "a message of {bytes} bytes");
        self.tell(message.from.0, &describe(&message));
        self.network.push(Packet { message, state });
    }

    /// So much of the state machine's work.
    pub fn work(&mut self, id: u64, count: usize) {
        let mut done = 0;
        while done < count
            && let Some(work) = self.replica(id).work.pop_front()
        {
            done += 1;
            match work {
                Work::Apply(committed) => self.apply(id, committed),
                Work::Install(state) => {
                    self.tell(id, &format!("installs {}", state.position));
                    self.replica(id).states.push_back(state);
                }
            }
        }
        if done > 0 {
            let replica = self.replica(id);
            let position = replica.state().position;
            replica.group().applied(position);
        }
    }

    fn apply(&mut self, id: u64, committed: Committed) {
        let Committed { position, term, data } = committed;
        let before = self.replica(id).state().clone();
        assert_eq!(position, before.position.next(), "replica {id} skips or repeats an entry");
        let (text, members) = match &data {
            CommittedData::Empty => ("nothing".to_owned(), before.members),
            CommittedData::Normal(data) => {
                (String::from_utf8_lossy(data).into_owned(), before.members)
            }
            CommittedData::Members(members) => (describe_members(members), members.clone()),
        };
        self.tell(id, &format!("applies {position}: {text}"));
        if let Some((_, proposed)) = self.proposed.get(&(position, term)) {
            assert_eq!(*proposed, text, "the owner said that {position} would be another entry");
        }
        let digest = random::digest(&[before.digest, position.0, term.0], text.as_bytes());
        let seen = *self.committed.entry(position).or_insert((term, digest));
        assert_eq!(seen, (term, digest), "replica {id} differs from the others at {position}");
        self.replica(id).states.push_back(State { position, term, members, digest });
    }

    /// The oldest of the unsynced readys become durable, `count` of them.
    pub fn sync(&mut self, id: u64, count: usize) {
        let mut highest = None;
        let mut messages = Vec::new();
        for _ in 0..count.min(self.replica(id).unsynced.len()) {
            if self.replica(id).unsynced.front().is_some_and(|one| one.installs) {
                // A state first, the log that begins after it then.
                self.work(id, usize::MAX);
                self.persist_state(id);
            }
            let replica = self.replica(id);
            let one = replica.unsynced.pop_front().expect("they were counted");
            for record in one.records {
                replica.log.write(record);
            }
            highest = one.number.or(highest);
            messages.extend(one.messages);
        }
        if let Some(number) = highest {
            self.group(id).persisted(number);
        }
        for message in messages {
            self.send(message, None);
        }
        self.settle(id);
    }

    pub fn persist_state(&mut self, id: u64) {
        let replica = self.replica(id);
        let last = replica.states.pop_back().expect("there is always a state");
        replica.states = VecDeque::from([last]);
    }

    /// Makes the state durable and forgets all entries up to that position.
    pub fn compact(&mut self, id: u64) {
        self.persist_state(id);
        let replica = self.replica(id);
        let position = replica.state().position;
        let record = replica.group().compact(position);
        self.forget(id, record);
    }

    /// Makes the state durable and forgets what others do not need, within these limits.
    pub fn cut_tail(&mut self, id: u64, limits: TailLimits) {
        self.persist_state(id);
        self.micros += 1;
        let micros = self.micros;
        let replica = self.replica(id);
        let position = replica.state().position;
        let record = replica.group().cut_tail(position, micros, micros.is_multiple_of(2), &limits);
        self.forget(id, record);
    }

    fn forget(&mut self, id: u64, record: Option<LogRecord>) {
        let Some(record) = record else { return };
        let LogRecord::Base { position, .. } = record else { panic!("{record:?} forgets nothing") };
        self.replica(id).unsynced.push_back(Unsynced {
            number: None,
            records: vec![record],
            messages: Vec::new(),
            installs: false,
        });
        self.tell(id, &format!("forgets up to {position}"));
    }

    /// Gives a packet to whom it is for, and a report to the sender of a snapshot.
    pub fn deliver(&mut self, packet: Packet) {
        let Packet { message, state } = packet;
        let (from, to) = (message.from, message.to);
        let snapshot = state.is_some();
        if self.is_up(to.0) {
            if let Some(state) = state {
                self.replica(to.0).staged.insert(state.position, state);
            }
            self.group(to.0).receive(message);
            self.settle(to.0);
        }
        if snapshot && self.is_up(from.0) && !self.late_reports {
            let ok = self.is_up(to.0);
            self.group(from.0).snapshot_sent(to, ok);
            self.settle(from.0);
        }
    }

    /// A packet is lost. The sender of a snapshot is told.
    pub fn lose(&mut self, packet: &Packet) {
        let from = packet.message.from.0;
        if packet.state.is_some() && self.is_up(from) && !self.late_reports {
            self.group(from).snapshot_sent(packet.message.to, false);
            self.settle(from);
        }
    }

    pub fn propose(&mut self, id: u64, data: &str) {
        let answer = match self.group(id).propose(Bytes::from(data.to_owned())) {
            Ok(position) => {
                let term = self.group(id).term();
                self.proposed.insert((position, term), (id, data.to_owned()));
                format!("takes {data:?} at {position}")
            }
            Err(error) => format!("does not take {data:?}: {error}"),
        };
        self.tell(id, &answer);
        self.settle(id);
    }

    pub fn confirm(&mut self, id: u64, ticket: u64) {
        let floor = self.committed();
        match self.group(id).confirm(ticket) {
            Ok(()) => assert!(self.tickets.insert(ticket, (id, floor)).is_none(), "a new ticket"),
            Err(error) => self.tell(id, &format!("does not take {ticket}: {error}")),
        }
        self.settle(id);
    }

    /// How many wait for their answer.
    pub fn open_tickets(&self) -> usize {
        self.tickets.len()
    }

    /// What the owner believes of the others must be on their disks. Only the owner of the highest
    /// term: what others believe may be over.
    pub fn check_beliefs(&self) {
        let up = self.replicas.values().filter_map(|replica| replica.group.as_ref());
        let Some(highest) = up.max_by_key(|group| (group.term(), group.is_owner())) else { return };
        for (peer, progress) in highest.progress() {
            let Some(term) = highest.term_at(progress.matched) else { continue };
            let log = &self.replicas[&peer.0].log;
            let holds = log.base() >= progress.matched || log.term_at(progress.matched) == term;
            assert!(holds, "{peer} does not hold {} durably", progress.matched);
        }
    }

    fn show(&mut self, id: u64) {
        let Some(group) = self.replica(id).group.as_ref() else { return };
        let (role, term) = (group.role(), group.term());
        if group.is_owner() {
            let owner = *self.owners.entry(term).or_insert(id);
            assert_eq!(owner, id, "two owners in term {term}");
        }
        let owner = self.group(id).owner().map_or("nobody".to_owned(), |owner| owner.to_string());
        let shown = format!("is {role:?} in term {term}, owner {owner}");
        if self.replica(id).shown != shown {
            self.tell(id, &shown);
            self.replica(id).shown = shown;
        }
    }

    pub fn tell(&mut self, id: u64, what: &str) {
        writeln!(self.told, "  {id} {what}").expect("a string takes everything");
    }
}

/// One line about a message, without its sender.
pub fn describe(message: &Message) -> String {
    let mut text = format!("-> {} {:?} t{}", message.to, message.kind, message.term);
    let mut add = |more: String| text.push_str(&more);
    match message.kind {
        MessageKind::Append => {
            add(format!(" after {}/t{}", message.index, message.log_term));
            let places = message.entries.iter().map(|entry| entry.position.to_string());
            let places: Vec<_> = places.collect();
            add(format!(" [{}] commit {}", places.join(" "), message.commit));
        }
        MessageKind::AppendAnswer if message.reject => {
            add(format!(" no at {}, try {}", message.index, message.reject_hint));
            if message.request_snapshot > Position(0) {
                add(", wants a snapshot".to_owned());
            }
        }
        MessageKind::AppendAnswer => add(format!(" has {}", message.index)),
        MessageKind::Vote | MessageKind::PreVote => {
            add(format!(" last {}/t{}", message.index, message.log_term));
        }
        MessageKind::VoteAnswer | MessageKind::PreVoteAnswer => {
            add(if message.reject { " no" } else { " yes" }.to_owned());
        }
        MessageKind::Heartbeat => {
            add(format!(" commit {}", message.commit));
            add(if message.context.is_empty() { "" } else { ", asks" }.to_owned());
        }
        MessageKind::HeartbeatAnswer => {
            add(if message.context.is_empty() { "" } else { " confirms" }.to_owned());
        }
        MessageKind::Snapshot => {
            let at = message.snapshot.as_ref().map(|meta| (meta.position, meta.term));
            let (position, term) = at.unwrap_or_default();
            add(format!(" at {position}/t{term}"));
        }
        MessageKind::Campaign | MessageKind::Rest => {}
    }
    text
}

pub fn describe_members(members: &Members) -> String {
    let list = |ids: &[ReplicaId]| {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        ids.join(" ")
    };
    let mut text = format!("voters {}", list(&members.voters));
    for (name, ids) in [
        ("outgoing", &members.outgoing),
        ("learners", &members.learners),
        ("learners next", &members.learners_next),
    ] {
        if !ids.is_empty() {
            write!(text, ", {name} {}", list(ids)).expect("a string takes everything");
        }
    }
    text
}
