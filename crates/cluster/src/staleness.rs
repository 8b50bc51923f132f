//! How far this node's own replicas may be behind.
//!
//! Owners say in their pings up to where their groups are committed. What a replica here has not
//! applied of that, it lacks for sure; what was committed since the ping, it may lack.

use std::collections::BTreeMap;

use protocol::{GroupId, Position, Term};
use serde::{Deserialize, Serialize};

/// What an owner says about one of its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedAt {
    pub group: GroupId,
    pub term: Term,
    pub position: Position,
}

/// What was heard last of the owner of each group.
#[derive(Default)]
pub struct Staleness(BTreeMap<GroupId, Heard>);

struct Heard {
    term: Term,
    position: Position,
    /// In steady microseconds.
    at: u64,
}

impl Staleness {
    /// An owner has said how far its groups are committed.
    pub fn heard(&mut self, said: &[CommittedAt], now: u64) {
        for CommittedAt { group, term, position } in said {
            let known = self.0.get(group).map_or(Term(0), |heard| heard.term);
            if *term >= known {
                self.0.insert(*group, Heard { term: *term, position: *position, at: now });
            }
        }
    }

    /// Up to where the group was committed as its owner last said, and how long ago that was, in
    /// microseconds.
    pub fn of(&self, group: GroupId, now: u64) -> Option<(Position, u64)> {
        let Heard { position, at, .. } = self.0.get(&group)?;
        Some((*position, now.saturating_sub(*at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_former_owner_says_does_not_count() {
        let group = GroupId(1);
        let said = |term, position| {
            [CommittedAt { group, term: Term(term), position: Position(position) }]
        };
        let mut staleness = Staleness::default();
        staleness.heard(&said(3, 10), 100);
        staleness.heard(&said(2, 12), 200);
        assert_eq!(staleness.of(group, 250), Some((Position(10), 150)));
        staleness.heard(&said(4, 9), 300);
        assert_eq!(staleness.of(group, 300), Some((Position(9), 0)));
    }
}
