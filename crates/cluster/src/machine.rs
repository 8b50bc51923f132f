//! The directory as the machine of group 0.
//!
//! Each entry of the directory has a key of its own in the store, so that a change writes what it
//! changes and no more.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use group::{Context, Entry, Leader, LeaderInput, Machine, Output, Refusal};
use protocol::{Code, GroupId, Outcome, Position, Problem, Term};
use storage::{Batch, Reader, Space, StoreError};

use crate::departures::Departures;
use crate::identity::{Identity, Member};
use crate::topology::{Change, Core, DirectoryCommand, Topology};

/// The key families of the directory's state in its space.
const FAMILY_CORE: u8 = 1;
const FAMILY_GROUPS: u8 = 2;

/// The first byte of what is stored under each key: of an entry of a group, and of the rest.
const FORMAT: u8 = 1;
const CORE_FORMAT: u8 = 2;

/// The rest in this format says nothing of those who leave.
const CORE_FORMAT_OLDEST: u8 = 1;

/// A command for the directory, encoded. Without bytes: whether the answerer still owns it.
pub type Question = Bytes;

/// What a command did, as its caller is told.
#[derive(Clone, Debug)]
pub enum DirectoryAnswer {
    Done(Change),
    Problem(Problem),
}

/// For the node: the directory has changed.
#[derive(Clone, Debug)]
pub enum DirectoryChange {
    /// By this command, at this position of the directory's log.
    By { position: Position, command: Box<DirectoryCommand> },
    /// All of it may be different: a snapshot was installed.
    Everything,
    /// This node is the owner of the directory from now on.
    Leading,
}

pub struct DirectoryMachine {
    topology: Topology,
}

#[derive(Default)]
pub struct DirectoryLeader {
    /// The tickets of the commands on their way, and the numbers of their proposals.
    proposals: VecDeque<(u64, u64)>,
    last: u64,
    /// The proposal under way that removes a member. Whether those who stay are a majority that is
    /// up is judged before: of two removals, the second one is judged when the first is known.
    removal: Option<u64>,
}

impl From<Problem> for DirectoryAnswer {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Refusal for DirectoryAnswer {
    fn refused_bytes(&self) -> Option<usize> {
        match self {
            Self::Done(Change::Refused(why)) => Some(why.len()),
            Self::Done(_) => None,
            Self::Problem(problem) => Some(problem.message.len()),
        }
    }
}

impl DirectoryMachine {
    /// # Errors
    /// When the store cannot be read, or holds something else there.
    pub fn open(store: &dyn Reader, space: &Space) -> Result<Self, StoreError> {
        let core: Core = match store.get(&space.key(FAMILY_CORE, b""))? {
            Some(bytes) => decode_core(&bytes)?,
            None => Core::default(),
        };
        let (from, to) = space.range(FAMILY_GROUPS);
        let mut groups = BTreeMap::new();
        let mut failed = None;
        store.scan(&from, &to, false, &mut |key, value| {
            let read = group_of(space.rest(key)).and_then(|group| Ok((group, decode(value)?)));
            match read {
                Ok((group, entry)) => {
                    groups.insert(group, entry);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        match failed {
            Some(error) => Err(error),
            None => Ok(Self { topology: Topology::restore(core, groups) }),
        }
    }

    /// What a store has of another cluster becomes the directory of a new one, whose only node is
    /// that one. `entries`: what was logged after the state. Tells who the node is then.
    ///
    /// # Errors
    /// When the store fails, or has no directory of a cluster.
    pub fn found_anew(
        store: &mut dyn storage::StateStore,
        space: &Space,
        entries: &[Bytes],
        node: Member,
    ) -> Result<Identity, StoreError> {
        let mut machine = Self::open(&*store, space)?;
        for entry in entries.iter().filter(|entry| !entry.is_empty()) {
            let command = DirectoryCommand::decode(entry).map_err(StoreError::failed)?;
            machine.topology.apply(command);
        }
        let identity = machine.topology.found_anew(node).map_err(StoreError::failed)?;
        let mut batch = Batch::default();
        // What the entries have removed must not come back.
        let (from, to) = space.range(FAMILY_GROUPS);
        store.scan(&from, &to, false, &mut |key, _| {
            batch.delete(key);
            ControlFlow::Continue(())
        })?;
        machine.write_core(space, &mut batch);
        for (group, entry) in &machine.topology.groups {
            batch.put(key(space, *group), encode(FORMAT, entry));
        }
        store.write(batch)?;
        Ok(identity)
    }

    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// What of the state a change concerns.
    fn write(&self, change: &Change, space: &Space, batch: &mut Batch) {
        match change {
            Change::Nothing | Change::Same(_) | Change::Refused(_) => {}
            Change::Cluster => {
                self.write_core(space, batch);
                // A cluster that has just formed has its partitions with the same entry.
                let groups = self.topology.groups.iter();
                for (group, entry) in groups.take_while(|(group, _)| group.is_partition()) {
                    batch.put(key(space, *group), encode(FORMAT, entry));
                }
            }
            Change::Group(group, _) => {
                self.write_core(space, batch);
                match self.topology.groups.get(group) {
                    Some(entry) => batch.put(key(space, *group), encode(FORMAT, entry)),
                    None => batch.delete(key(space, *group)),
                }
            }
        }
    }

    fn write_core(&self, space: &Space, batch: &mut Batch) {
        batch.put(space.key(FAMILY_CORE, b""), encode(CORE_FORMAT, &self.topology.core));
    }
}

fn key(space: &Space, group: GroupId) -> Vec<u8> {
    space.key(FAMILY_GROUPS, &group.0.to_be_bytes())
}

fn group_of(rest: &[u8]) -> Result<GroupId, StoreError> {
    let bytes =
        rest.try_into().map_err(|_| StoreError::failed("a group's key in the directory"))?;
    Ok(GroupId(u32::from_be_bytes(bytes)))
}

fn encode(format: u8, value: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![format]).expect("the directory is plain data")
}

fn broken(why: &str) -> StoreError {
    StoreError::failed(format!("the directory cannot be read: {why}"))
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| broken(&error.to_string()))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => read(rest),
        Some((other, _)) => Err(broken(&format!("format {other}, known is {FORMAT}"))),
        None => Err(broken("an empty entry")),
    }
}

fn decode_core(bytes: &[u8]) -> Result<Core, StoreError> {
    match bytes.split_first() {
        Some((&CORE_FORMAT, rest)) => read(rest),
        // What was added since stands at the end.
        Some((&CORE_FORMAT_OLDEST, rest)) => {
            let none = encode(0, &Departures::default());
            read(&[rest, none.get(1..).unwrap_or_default()].concat())
        }
        Some((other, _)) => {
            Err(broken(&format!("format {other}, known are {CORE_FORMAT_OLDEST} to {CORE_FORMAT}")))
        }
        None => Err(broken("an empty entry")),
    }
}

impl Machine for DirectoryMachine {
    type Leader = DirectoryLeader;
    type Around = ();
    type Effect = Change;
    type Question = Question;
    type Answer = DirectoryAnswer;
    type Event = ();
    type Action = DirectoryChange;

    fn apply(
        &mut self,
        _leader: Option<&mut DirectoryLeader>,
        at: &mut Context<'_, ()>,
        entry: Entry,
        out: &mut Vec<Output<Self>>,
    ) -> Result<Change, StoreError> {
        let mut batch = Batch::default();
        let mut change = Change::Nothing;
        if let Some(data) = &entry.data {
            let command = DirectoryCommand::decode(data).map_err(StoreError::failed)?;
            change = self.topology.apply(command.clone());
            self.write(&change, &at.space, &mut batch);
            if matches!(change, Change::Cluster | Change::Group(..)) {
                let (position, command) = (entry.position, Box::new(command));
                out.push(Output::Do(DirectoryChange::By { position, command }));
            }
        }
        at.space.put_applied(&mut batch, &entry.applied);
        at.store.write(batch)?;
        Ok(change)
    }

    fn happened(
        &mut self,
        _leader: Option<&mut DirectoryLeader>,
        _at: &mut Context<'_, ()>,
        _event: (),
        _out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn lead(
        &mut self,
        _at: &mut Context<'_, ()>,
        _term: Term,
        _opening: u64,
        out: &mut Vec<Output<Self>>,
    ) -> Result<DirectoryLeader, StoreError> {
        out.push(Output::Do(DirectoryChange::Leading));
        Ok(DirectoryLeader::default())
    }

    fn installed(
        &mut self,
        at: &mut Context<'_, ()>,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        *self = Self::open(&*at.store, &at.space)?;
        out.push(Output::Do(DirectoryChange::Everything));
        Ok(())
    }
}

impl DirectoryLeader {
    /// Whether a command removes a member.
    ///
    /// # Errors
    /// Why it is not proposed.
    fn look_at(&self, question: &[u8]) -> Result<bool, Problem> {
        // What cannot be read must not get into the log: no replica could ever apply it.
        let command = DirectoryCommand::decode(question).map_err(Problem::bad_request)?;
        let removes = matches!(command, DirectoryCommand::Remove { .. });
        if removes && self.removal.is_some() {
            let text = "the removal of another node begins at this moment: ask again";
            return Err(Problem::new(Code::Busy, text).with_outcome(Outcome::NotApplied));
        }
        Ok(removes)
    }
}

impl Leader for DirectoryLeader {
    type Machine = DirectoryMachine;

    fn step(
        &mut self,
        _machine: &mut DirectoryMachine,
        _at: &mut Context<'_, ()>,
        input: LeaderInput<DirectoryMachine>,
        out: &mut Vec<Output<DirectoryMachine>>,
    ) -> Result<(), StoreError> {
        match input {
            LeaderInput::Ask { ticket, question, .. } if question.is_empty() => {
                out.push(Output::Confirm { ticket });
            }
            LeaderInput::Ask { ticket, question, .. } => {
                let removes = match self.look_at(&question) {
                    Ok(removes) => removes,
                    Err(problem) => {
                        out.push(Output::Refuse { ticket, problem });
                        return Ok(());
                    }
                };
                self.last += 1;
                if removes {
                    self.removal = Some(self.last);
                }
                self.proposals.push_back((self.last, ticket));
                out.push(Output::Propose { proposal: self.last, data: question });
            }
            LeaderInput::Applied { proposal, effect, .. } => {
                let (first, ticket) = self.proposals.pop_front().expect("it was proposed");
                assert!(first == proposal, "commands come back in order");
                self.removal = self.removal.filter(|removal| *removal != proposal);
                let answer = match effect {
                    Change::Refused(why) => {
                        let problem = Problem::new(Code::Refused, why);
                        DirectoryAnswer::Problem(problem.with_outcome(Outcome::NotApplied))
                    }
                    done => DirectoryAnswer::Done(done),
                };
                out.push(Output::Answer { ticket, answer, position: None });
            }
            LeaderInput::Refused { .. } => out.push(Output::Resign),
            LeaderInput::Confirmed { ticket } => {
                let answer = DirectoryAnswer::Done(Change::Nothing);
                out.push(Output::Answer { ticket, answer, position: None });
            }
            LeaderInput::Tick => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use protocol::ReplicaId;

    use super::*;
    use crate::{InitialConfig, Member};

    #[test]
    fn a_directory_of_the_release_before_is_read() {
        let member = Member { node_id: "n1".into(), uri: "http://n1".into(), sandbox_id: 7 };
        let initial = InitialConfig::new(4, BTreeMap::from([(ReplicaId(1), member)]));
        let mut topology = Topology::default();
        topology.apply(DirectoryCommand::Form { initial, quorum: None });
        let now = encode(CORE_FORMAT, &topology.core);
        assert_eq!(decode_core(&now).unwrap(), topology.core);
        let departures = encode(0, &Departures::default()).len() - 1;
        let mut before = now[..now.len() - departures].to_vec();
        before[0] = CORE_FORMAT_OLDEST;
        assert_eq!(decode_core(&before).unwrap(), topology.core);
        before[0] = 9;
        assert!(decode_core(&before).unwrap_err().to_string().contains("format 9"));
    }
}
