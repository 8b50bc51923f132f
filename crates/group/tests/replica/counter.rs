//! A small machine: a counter, with a record of each change. It comes in two kinds, which behave
//! as a partition of documents does and as an instance of an immortal does.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use group::{Context, Entry, Leader, LeaderInput, Machine, Output, Refusal};
use protocol::{Code, Outcome, Position, Problem, Term};
use storage::{Applied, Batch, Reader, Space, StoreError};

/// The family of keys that holds a record of each change, by position.
const CHANGES: u8 = 1;

const CHANGE_BYTES: usize = 8;
const MUCH_BYTES: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Writes its state with each entry.
    Partition,
    /// The same; what is acknowledged may be in memory only.
    Memory,
    /// Keeps its state in memory and writes it at a checkpoint. Its leader cannot go on when a
    /// proposal is refused.
    Instance,
}

pub(crate) struct Counter {
    kind: Kind,
    changes: BTreeMap<Position, i64>,
    applied: (Position, Term),
    /// Where the state in the store stands.
    checkpoint: (Position, Term),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    Add(i64),
    /// The same, in an entry of [`MUCH_BYTES`].
    AddMuch(i64),
    /// Refused unless the counter has as much.
    Take(i64),
    Read,
}

/// The counter, or an error.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(crate) Result<i64, Problem>);

/// Something that happens to the machine from outside.
pub(crate) enum Event {
    /// An instance writes its state.
    Checkpoint,
    /// The leader, if there is one, says so.
    Poke,
}

pub(crate) struct CounterLeader {
    term: Term,
    opening: u64,
    number: u64,
    /// The tickets of what is in the log and not applied.
    proposals: VecDeque<(u64, u64)>,
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        Self(Err(problem))
    }
}

impl Refusal for Answer {
    fn refused_bytes(&self) -> Option<usize> {
        self.0.as_ref().err().map(|problem| problem.message.len())
    }
}

impl Counter {
    pub(crate) fn open(
        kind: Kind,
        store: &dyn Reader,
        space: Space,
        applied: &Applied,
    ) -> Result<Self, StoreError> {
        let (from, to) = space.range(CHANGES);
        let mut changes = BTreeMap::new();
        store.scan(&from, &to, false, &mut |key, value| {
            let position = space.rest(key).try_into().expect("a position");
            let change = value.try_into().expect("a number");
            changes.insert(Position(u64::from_be_bytes(position)), i64::from_be_bytes(change));
            std::ops::ControlFlow::Continue(())
        })?;
        let applied = (applied.position, applied.term);
        Ok(Self { kind, changes, applied, checkpoint: applied })
    }

    pub(crate) fn value(&self) -> i64 {
        self.changes.values().sum()
    }

    pub(crate) fn changes(&self) -> &BTreeMap<Position, i64> {
        &self.changes
    }

    fn put(space: Space, batch: &mut Batch, position: Position, change: i64) {
        batch.put(space.key(CHANGES, &position.0.to_be_bytes()), change.to_be_bytes());
    }

    fn write_checkpoint(&mut self, at: &mut Context<'_, ()>) -> Result<(), StoreError> {
        let (position, term) = self.applied;
        let mut batch = Batch::default();
        for (from, change) in &self.changes {
            Self::put(at.space, &mut batch, *from, *change);
        }
        let members = at.log.members_at(position);
        at.space.put_applied(&mut batch, &Applied { position, term, members });
        self.checkpoint = self.applied;
        at.store.write(batch)
    }
}

impl Machine for Counter {
    type Leader = CounterLeader;
    type Around = ();
    type Effect = i64;
    type Question = Question;
    type Answer = Answer;
    type Event = Event;
    type Action = String;

    fn apply(
        &mut self,
        _leader: Option<&mut CounterLeader>,
        at: &mut Context<'_, ()>,
        entry: Entry,
        _out: &mut Vec<Output<Self>>,
    ) -> Result<i64, StoreError> {
        let Entry { position, term, data, applied } = entry;
        self.applied = (position, term);
        let change = data.map(|data| {
            let change = data[..CHANGE_BYTES].try_into().expect("eight bytes");
            i64::from_be_bytes(change)
        });
        if let Some(change) = change {
            self.changes.insert(position, change);
        }
        if self.kind != Kind::Instance {
            let mut batch = Batch::default();
            if let Some(change) = change {
                Self::put(at.space, &mut batch, position, change);
            }
            at.space.put_applied(&mut batch, &applied);
            at.store.write(batch)?;
        }
        Ok(self.value())
    }

    fn happened(
        &mut self,
        leader: Option<&mut CounterLeader>,
        at: &mut Context<'_, ()>,
        event: Event,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        match event {
            Event::Checkpoint => self.write_checkpoint(at)?,
            Event::Poke => {
                let who = leader.map_or("nobody".to_owned(), |it| format!("leader {}", it.opening));
                out.push(Output::Do(format!("{who} was poked")));
            }
        }
        Ok(())
    }

    fn lead(
        &mut self,
        at: &mut Context<'_, ()>,
        term: Term,
        opening: u64,
        out: &mut Vec<Output<Self>>,
    ) -> Result<CounterLeader, StoreError> {
        let (value, applied) = (self.value(), at.log.applied());
        let text = format!("leader {opening} begins with {value} at {applied}");
        out.push(Output::Note(text));
        Ok(CounterLeader { term, opening, number: 0, proposals: VecDeque::new() })
    }

    fn follow(
        &mut self,
        leader: CounterLeader,
        _at: &mut Context<'_, ()>,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        let CounterLeader { term, opening, .. } = leader;
        out.push(Output::Note(format!("leader {opening} of term {term} goes")));
        Ok(())
    }

    fn snapshot_point(&self) -> Option<(Position, Term)> {
        (self.kind == Kind::Instance).then_some(self.checkpoint)
    }

    fn is_in_memory(&self) -> bool {
        self.kind == Kind::Memory
    }

    fn installed(
        &mut self,
        at: &mut Context<'_, ()>,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        let (_, applied) = Space::open(&*at.store, at.space.group)?;
        *self = Self::open(self.kind, &*at.store, at.space, &applied)?;
        let (value, position) = (self.value(), applied.position);
        out.push(Output::Note(format!("the state at {position} is installed: {value}")));
        Ok(())
    }
}

impl CounterLeader {
    fn propose(&mut self, ticket: u64, change: i64, out: &mut Vec<Output<Counter>>) {
        self.propose_long(ticket, change, CHANGE_BYTES, out);
    }

    fn propose_long(
        &mut self,
        ticket: u64,
        change: i64,
        length: usize,
        out: &mut Vec<Output<Counter>>,
    ) {
        self.number += 1;
        self.proposals.push_back((self.number, ticket));
        let mut data = change.to_be_bytes().to_vec();
        data.resize(length, 0);
        let data = Bytes::from(data);
        out.push(Output::Propose { proposal: self.number, data });
    }
}

impl Leader for CounterLeader {
    type Machine = Counter;

    fn step(
        &mut self,
        machine: &mut Counter,
        _at: &mut Context<'_, ()>,
        input: LeaderInput<Counter>,
        out: &mut Vec<Output<Counter>>,
    ) -> Result<(), StoreError> {
        match input {
            LeaderInput::Ask { ticket, question: Question::Add(change), .. } => {
                self.propose(ticket, change, out);
            }
            LeaderInput::Ask { ticket, question: Question::AddMuch(change), .. } => {
                self.propose_long(ticket, change, MUCH_BYTES, out);
            }
            LeaderInput::Ask { ticket, question: Question::Take(count), .. } => {
                let value = machine.value();
                if value >= count {
                    self.propose(ticket, -count, out);
                } else {
                    let problem = Problem::bad_request(format!("there are {value} only"));
                    out.push(Output::Refuse { ticket, problem });
                }
            }
            LeaderInput::Ask { ticket, question: Question::Read, .. } => {
                out.push(Output::Confirm { ticket });
            }
            LeaderInput::Applied { proposal, position, effect } => {
                let (first, ticket) = self.proposals.pop_front().expect("it was proposed");
                assert_eq!(first, proposal, "proposals come back in order");
                let answer = Answer(Ok(effect));
                out.push(Output::Answer { ticket, answer, position: Some(position) });
            }
            LeaderInput::Refused { .. } if machine.kind == Kind::Instance => {
                out.push(Output::Resign);
            }
            LeaderInput::Refused { proposal } => {
                let at = self.proposals.iter().position(|(it, _)| *it == proposal);
                let (_, ticket) = self.proposals.remove(at.expect("it was proposed")).unwrap();
                let problem = Problem::new(Code::Busy, "too many changes are under way");
                let problem = problem.with_outcome(Outcome::NotApplied);
                out.push(Output::Refuse { ticket, problem });
            }
            LeaderInput::Confirmed { ticket } => {
                let answer = Answer(Ok(machine.value()));
                out.push(Output::Answer { ticket, answer, position: None });
            }
            LeaderInput::Tick => {}
        }
        Ok(())
    }
}
