//! The state of a partition of documents on one replica: what the entries of its log have made.

use std::sync::Arc;

use documents::{AppliedCommand, Partition};
use group::{Context, Entry};
use protocol::{Document, GroupId};
use storage::{Batch, StoreError};

use crate::invoker::Handlers;
use crate::kinds::is_kind;
use crate::limits::Limits;

/// How much of the latest documents each partition keeps in memory, in bytes.
const CACHE_BYTES: usize = 1 << 20;

/// The state of one partition.
pub struct PartitionMachine {
    pub(crate) partition: Partition,
    pub(crate) group: GroupId,
    pub(crate) limits: Limits,
    rules: RulesNews,
}

/// What has become of the documents that a node goes by since it looked: the rules ([`access`]),
/// and the definitions of kinds.
#[derive(Debug)]
pub enum RulesNews {
    /// All of them are to be read anew.
    Anew,
    /// These versions have been applied.
    Changed(Vec<Arc<Document>>),
}

impl PartitionMachine {
    pub fn new(mut partition: Partition, group: GroupId, limits: Limits) -> Self {
        partition.set_cache_bytes(CACHE_BYTES);
        partition.set_changes_bytes(limits.changes_bytes);
        Self { partition, group, limits, rules: RulesNews::Anew }
    }

    /// What has become of the rules. `None`: nothing.
    pub fn take_rules(&mut self) -> Option<RulesNews> {
        match &self.rules {
            RulesNews::Changed(changed) if changed.is_empty() => None,
            RulesNews::Changed(_) | RulesNews::Anew => {
                Some(std::mem::replace(&mut self.rules, RulesNews::Changed(Vec::new())))
            }
        }
    }

    fn note_rules(&mut self, applied: &AppliedCommand) {
        if let AppliedCommand::Written(document) = applied
            && (access::is_policy(&document.link) || is_kind(&document.link))
            && let RulesNews::Changed(changed) = &mut self.rules
        {
            changed.push(Arc::clone(document));
        }
    }

    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    pub fn partition_mut(&mut self) -> &mut Partition {
        &mut self.partition
    }

    pub(crate) fn take_entry(
        &mut self,
        at: &mut Context<'_, Handlers>,
        entry: Entry,
    ) -> Result<AppliedCommand, StoreError> {
        match &entry.data {
            Some(data) => {
                let applied = self.partition.apply(at.store, entry.applied, data)?;
                self.note_rules(&applied);
                Ok(applied)
            }
            None => {
                self.partition.passed(entry.position);
                let mut batch = Batch::default();
                at.space.put_applied(&mut batch, &entry.applied);
                at.store.write(batch)?;
                Ok(AppliedCommand::Other)
            }
        }
    }

    /// The state store has another replica's state now.
    pub(crate) fn reopen(&mut self, at: &mut Context<'_, Handlers>) -> Result<(), StoreError> {
        let partition = Partition::open(&*at.store, at.space)?;
        *self = Self::new(partition, self.group, self.limits);
        Ok(())
    }
}
