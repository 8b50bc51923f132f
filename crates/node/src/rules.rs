//! The documents that this node goes by, kept level with its replicas: the rules of who may do
//! what, and the kinds of documents that are defined while the cluster runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use access::Policy;
use protocol::links::KINDS;
use protocol::{Document, GroupId};
use services::{RulesNews, is_kind};
use storage::StoreError;

use crate::io::Output;
use crate::shard::Shard;

impl Shard {
    /// Takes over what has become of these documents in these groups.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn follow_rules(
        &mut self,
        touched: &BTreeSet<GroupId>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let (mut is_anew, mut changed) = (false, Vec::new());
        for group in touched {
            let Some(replica) = self.partitions.get_mut(group) else { continue };
            match replica.machine_mut().take_rules() {
                None => {}
                Some(RulesNews::Anew) => is_anew = true,
                Some(RulesNews::Changed(mut documents)) => changed.append(&mut documents),
            }
        }
        if is_anew {
            return self.read_rules(outputs);
        }
        let (kinds, rules): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|document| is_kind(&document.link));
        if !rules.is_empty() {
            let policy = Arc::make_mut(&mut self.handlers.guard.policy);
            rules.iter().for_each(|document| policy.put(document));
        }
        self.define(kinds.iter().map(AsRef::as_ref), false, outputs);
        Ok(())
    }

    fn read_rules(&mut self, outputs: &mut Vec<Output>) -> Result<(), StoreError> {
        let (mut rules, mut kinds) = (Vec::new(), Vec::new());
        for replica in self.partitions.values() {
            let partition = replica.machine().partition();
            for factory in access::FACTORIES {
                rules.append(&mut partition.below(&*self.store, factory)?);
            }
            kinds.append(&mut partition.below(&*self.store, KINDS)?);
        }
        self.handlers.guard.policy = Arc::new(Policy::of(rules));
        let had_some = self.handlers.catalogue.has_definitions();
        if had_some {
            self.handlers.catalogue = Arc::new(self.handlers.catalogue.without_definitions());
        }
        self.define(kinds.iter(), had_some, outputs);
        Ok(())
    }

    fn define<'a>(
        &mut self,
        definitions: impl Iterator<Item = &'a Document>,
        mut has_changed: bool,
        outputs: &mut Vec<Output>,
    ) {
        for definition in definitions {
            has_changed |= Arc::make_mut(&mut self.handlers.catalogue).define(definition);
        }
        if has_changed {
            outputs.push(Output::Catalogue(Arc::clone(&self.handlers.catalogue)));
        }
    }
}
