//! What the leader works with in one step.

use std::sync::Arc;

use documents::Partition;
use group::{Context, Output};
use protocol::{Document, GroupId, Now, Position, Response};
use storage::{Reader, Space, StoreError};

use crate::invoker::Handlers;
use crate::io::PartitionAnswer;
use crate::machine::PartitionMachine;

pub(super) struct StepContext<'a, 'b> {
    pub(super) machine: &'a mut PartitionMachine,
    pub(super) at: &'a mut Context<'b, Handlers>,
    pub(super) out: &'a mut Vec<Output<PartitionMachine>>,
}

impl<'b> StepContext<'_, 'b> {
    pub(super) fn now(&self) -> Now {
        self.at.now
    }

    pub(super) fn put(&mut self, output: Output<PartitionMachine>) {
        self.out.push(output);
    }

    pub(super) fn answer(&mut self, ticket: u64, response: Response, position: Option<Position>) {
        let answer = PartitionAnswer::Response(response);
        self.put(Output::Answer { ticket, answer, position });
    }

    pub(super) fn reader(&self) -> &dyn Reader {
        &*self.at.store
    }

    pub(super) fn handlers(&self) -> &'b Handlers {
        self.at.around
    }

    pub(super) fn partition(&self) -> &Partition {
        &self.machine.partition
    }

    pub(super) fn latest(&self, link: &str) -> Result<Option<Arc<Document>>, StoreError> {
        self.machine.partition.latest(&*self.at.store, link)
    }

    /// Up to where the partition's log is applied.
    pub(super) fn position(&self, partition: GroupId) -> Result<Position, StoreError> {
        let (_, applied) = Space::open(self.reader(), partition)?;
        Ok(applied.position)
    }
}
