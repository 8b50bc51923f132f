//! An instance of an immortal as the machine of its group: `immortals::Instance` and its lead,
//! joined to what `group` gives and wants.

use bytes::Bytes;
use cluster::{InstanceEntry, Topology};
use group::{Context, Entry, Leader, LeaderInput, LogView, Machine, Output, Refusal};
use immortals::{Instance, Lead, Settings};
use protocol::{GroupId, Position, Problem, ReplicaId, Term};
use storage::{Reader, Space, StoreError};

use crate::work::InstanceAnswer;

/// The cluster's map as this node knows it, and up to where in the directory's log.
#[derive(Default)]
pub(crate) struct Map {
    pub(crate) topology: Topology,
    /// Up to where the directory's log is applied here.
    pub(crate) applied: Position,
}

pub(crate) struct InstanceMachine {
    instance: Instance,
    is_in_memory: bool,
}

/// What only the owner of an instance has.
pub(crate) struct InstanceLeader {
    lead: Lead,
    /// The last number given to a proposal.
    proposals: u64,
}

/// What can happen to an instance from outside of its group.
pub(crate) enum InstanceEvent {
    Input(immortals::Input),
    Attach { program: u64, adapter: immortals::Adapter, hello: protocol::immortal::Hello },
}

/// What an instance wants done outside of its group.
pub(crate) enum InstanceAction {
    Write { program: u64, bytes: Vec<Bytes> },
    Close { program: u64 },
    Peer { to: ReplicaId, message: immortals::Peer },
    Between { to: GroupId, message: immortals::Between },
    HandOver { to: ReplicaId },
    Accepting,
    Repro { name: String, text: String },
}

impl From<Problem> for InstanceAnswer {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl Refusal for InstanceAnswer {
    fn refused_bytes(&self) -> Option<usize> {
        match self {
            Self::Told(immortals::Response::Refused(why) | immortals::Response::NotNow(why)) => {
                Some(why.len())
            }
            Self::Told(_) => None,
            Self::Problem(problem) => Some(problem.message.len()),
        }
    }
}

/// The applied log of the group and the map of the cluster, as an instance reads them.
struct Entries<'a> {
    log: LogView<'a>,
    map: &'a Map,
}

impl immortals::Entries for Entries<'_> {
    fn after(&self, position: Position, bytes_max: usize) -> Vec<(Position, Term, Bytes)> {
        self.log.after(position, bytes_max)
    }

    fn known_committed(&self) -> Option<Position> {
        self.log.known_committed()
    }

    fn members_at(&self, position: Position) -> Vec<u8> {
        self.log.members_at(position)
    }

    fn resolve(&self, name: &str) -> Option<GroupId> {
        self.map.topology.instance(name).map(|entry| entry.group)
    }

    fn standing(&self, group: GroupId) -> immortals::Standing {
        match self.map.topology.standing(group) {
            cluster::Standing::Registered => immortals::Standing::Registered,
            cluster::Standing::Gone => immortals::Standing::Gone,
            cluster::Standing::Unknown => immortals::Standing::Unknown,
        }
    }

    fn directory(&self) -> Position {
        self.map.applied
    }
}

/// Runs something with the instance's own kind of context and its lead, if there is one, and passes
/// on the outputs of the instance.
fn with<R, W>(
    leader: Option<&mut InstanceLeader>,
    at: &mut Context<'_, Map>,
    out: &mut Vec<Output<InstanceMachine>>,
    work: W,
) -> R
where
    W: FnOnce(&mut immortals::Context<'_>, Option<&mut Lead>, &mut Vec<immortals::Output>) -> R,
{
    // Without a leader nothing is proposed.
    let mut none = 0;
    let (lead, proposals) = match leader {
        Some(InstanceLeader { lead, proposals }) => (Some(lead), proposals),
        None => (None, &mut none),
    };
    let entries = Entries { log: at.log, map: at.around };
    let mut cx = immortals::Context {
        now: at.now,
        store: &mut *at.store,
        space: at.space,
        entries: &entries,
    };
    let mut outputs = Vec::new();
    let result = work(&mut cx, lead, &mut outputs);
    out.extend(outputs.into_iter().map(|output| translate(output, proposals)));
    result
}

fn translate(output: immortals::Output, proposals: &mut u64) -> Output<InstanceMachine> {
    use immortals::Output as Said;
    let action = match output {
        Said::Propose(data) => {
            *proposals += 1;
            return Output::Propose { proposal: *proposals, data };
        }
        Said::Respond { ticket, response: immortals::Response::NotOwner } => {
            return Output::NotOwner { ticket };
        }
        Said::Respond { ticket, response } => {
            let answer = InstanceAnswer::Told(response);
            return Output::Answer { ticket, answer, position: None };
        }
        Said::Note(text) => return Output::Note(text),
        Said::Write { program, bytes } => InstanceAction::Write { program, bytes },
        Said::Close { program } => InstanceAction::Close { program },
        Said::Peer { to, message } => InstanceAction::Peer { to, message },
        Said::Between { to, message } => InstanceAction::Between { to, message },
        Said::HandOver { to } => InstanceAction::HandOver { to },
        Said::Accepting => InstanceAction::Accepting,
        Said::Repro { name, text } => InstanceAction::Repro { name, text },
    };
    Output::Do(action)
}

impl InstanceMachine {
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn open(
        options: immortals::Options,
        store: &dyn Reader,
        space: &Space,
    ) -> Result<Self, StoreError> {
        let is_in_memory = options.settings.memory;
        Ok(Self { instance: Instance::open(options, store, space)?, is_in_memory })
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }
}

impl InstanceLeader {
    pub(crate) fn lead(&self) -> &Lead {
        &self.lead
    }
}

impl Machine for InstanceMachine {
    type Leader = InstanceLeader;
    type Around = Map;
    type Effect = ();
    type Question = immortals::Request;
    type Answer = InstanceAnswer;
    type Event = InstanceEvent;
    type Action = InstanceAction;

    fn apply(
        &mut self,
        leader: Option<&mut InstanceLeader>,
        at: &mut Context<'_, Map>,
        entry: Entry,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        let Entry { position, term, data, .. } = entry;
        with(leader, at, out, |cx, lead, outputs| {
            self.instance.apply(cx, lead, position, term, data, outputs)
        })
    }

    fn settle(
        &mut self,
        leader: Option<&mut InstanceLeader>,
        at: &mut Context<'_, Map>,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        with(leader, at, out, |cx, lead, outputs| self.instance.settle(cx, lead, outputs))
    }

    fn happened(
        &mut self,
        leader: Option<&mut InstanceLeader>,
        at: &mut Context<'_, Map>,
        event: InstanceEvent,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        with(leader, at, out, |cx, lead, outputs| match event {
            InstanceEvent::Input(input) => self.instance.step(cx, lead, input, outputs),
            InstanceEvent::Attach { program, adapter, hello } => {
                self.instance.attach(cx, lead, program, adapter, hello, outputs)
            }
        })
    }

    fn lead(
        &mut self,
        at: &mut Context<'_, Map>,
        term: Term,
        _opening: u64,
        out: &mut Vec<Output<Self>>,
    ) -> Result<InstanceLeader, StoreError> {
        let instance = &mut self.instance;
        let lead = with(None, at, out, |cx, _, outputs| instance.lead(cx, term, outputs));
        let mut leader = InstanceLeader { lead, proposals: 0 };
        self.settle(Some(&mut leader), at, out)?;
        Ok(leader)
    }

    fn follow(
        &mut self,
        leader: InstanceLeader,
        at: &mut Context<'_, Map>,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        with(None, at, out, |cx, _, outputs| {
            self.instance.follow(cx, leader.lead, outputs);
            self.instance.settle(cx, None, outputs)
        })
    }

    fn write_snapshot(&mut self, at: &mut Context<'_, Map>) -> Result<(), StoreError> {
        let mut out = Vec::new();
        with(None, at, &mut out, |cx, _, _| self.instance.write_base(cx)).map(|_| ())
    }

    fn snapshot_point(&self) -> Option<(Position, Term)> {
        Some(self.instance.base())
    }

    fn installed(
        &mut self,
        at: &mut Context<'_, Map>,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        with(None, at, out, |cx, _, outputs| {
            self.instance.installed(&*cx.store, &cx.space, outputs)?;
            self.instance.settle(cx, None, outputs)
        })
    }

    fn is_in_memory(&self) -> bool {
        self.is_in_memory
    }
}

impl Leader for InstanceLeader {
    type Machine = InstanceMachine;

    fn step(
        &mut self,
        machine: &mut InstanceMachine,
        at: &mut Context<'_, Map>,
        input: LeaderInput<InstanceMachine>,
        out: &mut Vec<Output<InstanceMachine>>,
    ) -> Result<(), StoreError> {
        match input {
            LeaderInput::Ask { ticket, question, .. } => {
                let input = immortals::Input::Request { ticket, request: question };
                machine.happened(Some(self), at, InstanceEvent::Input(input), out)
            }
            // An entry that was refused would be missing before the entries after it.
            LeaderInput::Refused { .. } => {
                out.push(Output::Resign);
                Ok(())
            }
            // The instance sees its own entries when they are applied, and has a clock of its own.
            LeaderInput::Applied { .. } | LeaderInput::Confirmed { .. } | LeaderInput::Tick => {
                Ok(())
            }
        }
    }
}

/// What the directory says about an instance, as the instance takes it.
pub(crate) fn settings(topology: &Topology, entry: &InstanceEntry) -> Settings {
    let options = &entry.options;
    Settings {
        replicas: topology.replicas_of(entry.group),
        checkpoint_bytes: options.checkpoint_bytes,
        recovery_micros: options.recovery_micros,
        program_timeout_micros: options.program_timeout_micros,
        divergence_alarm: options.divergence_alarm,
        upgrade_version: options.upgrade_version,
        upgrade_wish: options.upgrade_wish,
        first_version: options.current_version,
        paused: options.paused,
        partitions: topology.partitions(),
        memory: options.memory,
    }
}
