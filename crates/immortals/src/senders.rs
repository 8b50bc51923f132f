//! Who has ever sent something. Each must be remembered, so that nothing is taken twice; those that are
//! not registered any more send nothing more, and are forgotten when there are many.
//!
//! A group is never given to a second instance, so who has heard that a sender is gone takes nothing of
//! it any more. One who has not heard of it could take for new what comes late. Therefore the log tells
//! how far the directory had come when senders were forgotten, and an owner that has not come so far
//! waits with senders that the ledger does not know.

use protocol::GroupId;

use crate::entry::Entry;
use crate::instance::Instance;
use crate::io::{Entries, Ground, Lane, Output, Standing};
use crate::ledger::{SENDERS_MANY, SENDERS_MAX};

/// So many senders are forgotten at a time.
const FORGOTTEN_MAX: usize = 10_000;

impl Instance {
    /// Whether something of that sender may be taken.
    pub(crate) fn takes_from(&self, entries: &dyn Entries, from: GroupId) -> bool {
        let Some(office) = &self.office else { return false };
        if self.ledger.knows(from) || office.next.contains_key(&(from, Lane::Stream)) {
            return true;
        }
        entries.directory() >= self.ledger.directory
            && entries.standing(from) == Standing::Registered
            && self.ledger.senders_count() < SENDERS_MAX
    }

    /// Whether the name of a sender has gone to another instance since: what still comes of the former one
    /// must not stand among what the new one says.
    pub(crate) fn is_of_a_former_life(entries: &dyn Entries, from: GroupId, name: &str) -> bool {
        match entries.resolve(name) {
            // Groups are given out in order.
            Some(present) => present > from,
            None => entries.standing(from) == Standing::Gone,
        }
    }

    /// A sender has forgotten what was confirmed to it, and here it is not: it was lost with the memory of
    /// a majority. The stream goes on where the sender still has it.
    pub(crate) fn mind_what_was_lost(
        &mut self,
        from: GroupId,
        lane: Lane,
        (name, floor): (&str, u64),
        outputs: &mut Vec<Output>,
    ) {
        let logged = self.ledger.logged_of(from, lane);
        let Some(office) = &mut self.office else { return };
        let next = office.next.get(&(from, lane)).copied().unwrap_or(logged + 1);
        if !self.settings.memory || lane != Lane::Stream || logged == 0 || floor <= next {
            return;
        }
        outputs.push(Output::Note(format!(
            "messages {next} to {} of '{name}' were confirmed by '{}' and are lost",
            floor - 1,
            self.name
        )));
        office.next.insert((from, lane), floor);
        let (senders, directory) = (vec![from], self.ledger.directory);
        self.propose_bare(Entry::Forget { senders, directory }, outputs);
    }

    pub(crate) fn mind_senders(&mut self, ground: &Ground<'_>, outputs: &mut Vec<Output>) {
        let Some(office) = &mut self.office else { return };
        if self.ledger.senders_count() < SENDERS_MANY || !office.is_idle() {
            return;
        }
        let known = self.ledger.senders().into_iter();
        let gone = known.filter(|group| ground.entries.standing(*group) == Standing::Gone);
        let senders: Vec<GroupId> = gone.take(FORGOTTEN_MAX).collect();
        if senders.is_empty() {
            return;
        }
        office.next.retain(|(group, _), _| !senders.contains(group));
        let directory = ground.entries.directory();
        self.propose_bare(Entry::Forget { senders, directory }, outputs);
    }
}
