//! What this node knows of the rules, kept level with its replicas.

use std::collections::BTreeSet;
use std::sync::Arc;

use access::Policy;
use protocol::GroupId;
use services::RulesNews;
use storage::StoreError;

use crate::shard::Shard;

impl Shard {
    /// Takes over what has become of the rules in these groups.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn follow_rules(&mut self, touched: &BTreeSet<GroupId>) -> Result<(), StoreError> {
        let mut is_anew = false;
        for group in touched {
            let Some(replica) = self.partitions.get_mut(group) else { continue };
            match replica.machine_mut().take_rules() {
                None => {}
                Some(RulesNews::Anew) => is_anew = true,
                Some(RulesNews::Changed(changed)) => {
                    let policy = Arc::make_mut(&mut self.handlers.guard.policy);
                    changed.iter().for_each(|document| policy.put(document));
                }
            }
        }
        if is_anew { self.read_rules() } else { Ok(()) }
    }

    fn read_rules(&mut self) -> Result<(), StoreError> {
        let mut all = Vec::new();
        for replica in self.partitions.values() {
            for factory in access::FACTORIES {
                all.append(&mut replica.machine().partition().below(&*self.store, factory)?);
            }
        }
        self.handlers.guard.policy = Arc::new(Policy::of(all));
        Ok(())
    }
}
