//! A partition as what lives in a group: joins the machine with its leader.

use documents::AppliedCommand;
use group::{Context, Entry, Leader, LeaderInput, Machine, Output};
use protocol::Term;
use storage::StoreError;

use crate::invoker::Handlers;
use crate::io::{PartitionAction, PartitionAnswer, PartitionEvent, PartitionQuestion};
use crate::leader::PartitionLeader;
use crate::machine::PartitionMachine;

impl Machine for PartitionMachine {
    type Leader = PartitionLeader;
    type Around = Handlers;
    type Effect = AppliedCommand;
    type Question = PartitionQuestion;
    type Answer = PartitionAnswer;
    type Event = PartitionEvent;
    type Action = PartitionAction;

    fn apply(
        &mut self,
        _leader: Option<&mut PartitionLeader>,
        at: &mut Context<'_, Handlers>,
        entry: Entry,
        _out: &mut Vec<Output<Self>>,
    ) -> Result<AppliedCommand, StoreError> {
        self.take_entry(at, entry)
    }

    fn happened(
        &mut self,
        leader: Option<&mut PartitionLeader>,
        at: &mut Context<'_, Handlers>,
        event: PartitionEvent,
        out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        match leader {
            Some(leader) => leader.happened(self, at, event, out),
            // It was begun by a leader that is gone.
            None => Ok(()),
        }
    }

    fn lead(
        &mut self,
        at: &mut Context<'_, Handlers>,
        term: Term,
        opening: u64,
        out: &mut Vec<Output<Self>>,
    ) -> Result<PartitionLeader, StoreError> {
        let mut leader = PartitionLeader::new(self.group, term, opening, self.limits);
        leader.resume_tasks(self, at, out)?;
        Ok(leader)
    }

    fn installed(
        &mut self,
        at: &mut Context<'_, Handlers>,
        _out: &mut Vec<Output<Self>>,
    ) -> Result<(), StoreError> {
        self.reopen(at)
    }
}

impl Leader for PartitionLeader {
    type Machine = PartitionMachine;

    fn step(
        &mut self,
        machine: &mut PartitionMachine,
        at: &mut Context<'_, Handlers>,
        input: LeaderInput<PartitionMachine>,
        out: &mut Vec<Output<PartitionMachine>>,
    ) -> Result<(), StoreError> {
        self.take(machine, at, input, out)
    }
}
