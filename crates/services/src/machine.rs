//! The state of a partition of documents on one replica: what the entries of its log have made.

use std::sync::Arc;

use documents::{AppliedCommand, Partition};
use group::{Context, Entry};
use protocol::{Action, Document, GroupId};
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
        let is_rule = |link: &str| access::is_policy(link) || is_kind(link);
        let RulesNews::Changed(changed) = &mut self.rules else { return };
        match applied {
            AppliedCommand::Written(document) if is_rule(&document.link) => {
                changed.push(Arc::clone(document));
            }
            AppliedCommand::AllWritten(documents) => {
                let rules = documents.iter().filter(|document| is_rule(&document.link));
                changed.extend(rules.map(Arc::clone));
            }
            // It leaves no version, and counts as if it had been deleted.
            AppliedCommand::Expired(gone) => {
                let gone = gone.iter().filter(|document| is_rule(&document.link));
                changed.extend(gone.map(|document| {
                    Arc::new(Document { action: Action::Delete, ..Document::clone(document) })
                }));
            }
            _ => {}
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

#[cfg(test)]
mod tests {
    use protocol::links::KINDS;
    use protocol::{Body, Moment};
    use storage::{MemoryStore, Space};

    use super::*;

    #[test]
    fn a_rule_that_has_expired_counts_no_more() {
        let store = MemoryStore::new();
        let (space, _) = Space::open(&store, GroupId(1)).unwrap();
        let partition = Partition::open(&store, space).unwrap();
        let mut machine = PartitionMachine::new(partition, GroupId(1), Limits::default());
        assert!(matches!(machine.take_rules(), Some(RulesNews::Anew)), "it has just begun");
        let document = |link: &str| {
            Arc::new(Document {
                link: link.into(),
                version: 3,
                epoch: Default::default(),
                kind: String::new(),
                action: Action::Post,
                updated: Moment(1),
                expires: Moment(2),
                owner: "n1".into(),
                author: None,
                body: Body::from_text("{}"),
            })
        };
        let expired = |link: &str| AppliedCommand::Expired(vec![document("/a/b"), document(link)]);
        machine.note_rules(&expired("/core/examples/one"));
        assert!(machine.take_rules().is_none(), "nothing that anybody goes by");
        for link in [format!("{}/jane", access::USERS), format!("{KINDS}/app.seats")] {
            machine.note_rules(&expired(&link));
            let Some(RulesNews::Changed(changed)) = machine.take_rules() else { panic!("{link}") };
            assert_eq!(changed.len(), 1, "{changed:?}");
            assert!(changed[0].link == link && changed[0].is_deleted());
        }
    }
}
