//! What each replica was heard to have, so that one whose sandbox was set back is known.
//!
//! The frames of a node's log are numbered for as long as its sandbox lives. A node that has lost
//! or was given back an older log has fewer frames than it once told the others, or shows a start
//! that is not the one they know by that number.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ReplicaId;
use storage::{LogRecord, Witness};

/// The newest that was heard of each replica, kept in this node's own log.
#[derive(Default)]
pub struct Witnesses {
    heard: BTreeMap<ReplicaId, Witness>,
    /// These were heard of since the last records.
    unwritten: BTreeSet<ReplicaId>,
}

impl Witnesses {
    pub fn new(heard: BTreeMap<ReplicaId, Witness>) -> Self {
        Self { heard, unwritten: BTreeSet::new() }
    }

    /// What is remembered of that replica.
    pub fn of(&self, replica: ReplicaId) -> Witness {
        self.heard.get(&replica).copied().unwrap_or_default()
    }

    /// It has said hello. What it shows goes on from what is remembered, or a person says that it
    /// does.
    pub fn greeted(&mut self, replica: ReplicaId, shown: Witness) {
        let known = self.of(replica);
        if (known.boot, known.start) != (shown.boot, shown.start) {
            self.heard.insert(replica, shown);
            self.unwritten.insert(replica);
        }
    }

    /// How many frames of its log are durable.
    pub fn heard(&mut self, replica: ReplicaId, frames: u64) {
        if let Some(known) = self.heard.get_mut(&replica).filter(|known| known.frames < frames) {
            known.frames = frames;
            self.unwritten.insert(replica);
        }
    }

    /// What this node's own log is to remember.
    pub fn take_records(&mut self) -> Vec<LogRecord> {
        let unwritten = std::mem::take(&mut self.unwritten);
        unwritten.into_iter().map(|of| LogRecord::Witness { of, said: self.of(of) }).collect()
    }
}

/// Whether a replica that shows itself like that cannot have all that it once told: its sandbox was
/// set back, or its process has ended long ago. What is remembered from before the start that a
/// person trusted, `trusted_boot`, proves nothing, at later starts either: some were away when it
/// was.
pub fn has_gone_back(remembered: &Witness, shown: &Witness, trusted_boot: u64) -> bool {
    if remembered.boot < trusted_boot {
        return false;
    }
    match shown.boot.cmp(&remembered.boot) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => shown.start != remembered.start,
        std::cmp::Ordering::Greater => shown.frames < remembered.frames,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: ReplicaId = ReplicaId(2);

    fn witness(boot: u64, start: u64, frames: u64) -> Witness {
        Witness { boot, start, frames }
    }

    #[test]
    fn a_log_that_is_shorter_than_it_was_has_gone_back() {
        let has_gone_back = |known: &_, shown: &_| has_gone_back(known, shown, 0);
        let known = witness(3, 33, 100);
        assert!(!has_gone_back(&known, &witness(3, 33, 60)), "the same start, when it began");
        assert!(!has_gone_back(&known, &witness(4, 44, 100)));
        assert!(has_gone_back(&known, &witness(4, 44, 99)), "set back to the start before");
        assert!(has_gone_back(&known, &witness(3, 34, 200)), "another start with that number");
        assert!(has_gone_back(&known, &witness(2, 22, 200)));
        assert!(!has_gone_back(&Witness::default(), &witness(1, 11, 0)));
    }

    #[test]
    fn what_was_heard_before_a_person_trusted_the_sandbox_proves_nothing() {
        let known = witness(3, 33, 100);
        for boot in [103, 104] {
            assert!(has_gone_back(&known, &witness(boot, 44, 60), 0));
            assert!(!has_gone_back(&known, &witness(boot, 44, 60), 103));
        }
        let later = witness(103, 55, 100);
        assert!(has_gone_back(&later, &witness(104, 44, 60), 103), "it was set back after that");
    }

    #[test]
    fn what_is_news_is_written_once() {
        let mut witnesses = Witnesses::default();
        witnesses.heard(R, 5);
        assert!(witnesses.take_records().is_empty(), "it has not said who it is");
        witnesses.greeted(R, witness(1, 11, 4));
        witnesses.heard(R, 9);
        witnesses.heard(R, 7);
        let record = LogRecord::Witness { of: R, said: witness(1, 11, 9) };
        assert_eq!(witnesses.take_records(), [record]);
        witnesses.greeted(R, witness(1, 11, 4));
        assert!(witnesses.take_records().is_empty());
        witnesses.greeted(R, witness(2, 22, 9));
        assert_eq!(witnesses.of(R), witness(2, 22, 9));
    }
}
