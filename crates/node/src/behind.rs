//! Reads of this node's own replica, and how far behind it may be.
//!
//! Owners say in their pings up to where their groups are committed. What this replica has not
//! applied of that, it lacks for sure; and what was committed since that was said, it may lack.

use std::collections::BTreeMap;

use protocol::{Behind, Code, GroupId, Position, Problem, Request, Term};
use serde::{Deserialize, Serialize};

use crate::edge::Purpose;
use crate::frame::Told;
use crate::node::Node;
use crate::scatter::local_answer;

/// News of the directory's owner that are older count for nothing, in milliseconds.
const DIRECTORY_MILLIS_MAX: u64 = 1_000;

/// What an owner says about one of its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    group: GroupId,
    term: Term,
    position: Position,
}

/// What was heard last of the owner of each group.
#[derive(Default)]
pub(crate) struct News(BTreeMap<GroupId, Heard>);

struct Heard {
    term: Term,
    position: Position,
    /// In steady microseconds.
    at: u64,
}

impl News {
    pub(crate) fn heard(&mut self, said: &[Committed], now: u64) {
        for Committed { group, term, position } in said {
            let known = self.0.get(group).map_or(Term(0), |heard| heard.term);
            if *term >= known {
                self.0.insert(*group, Heard { term: *term, position: *position, at: now });
            }
        }
    }
}

impl Node {
    /// For the other nodes: up to where the groups that are owned here are committed.
    pub(crate) fn committed_here(&self) -> Vec<Committed> {
        let owned = self.offices.keys().filter_map(|group| self.replicas.get(group));
        owned
            .map(|replica| Committed {
                group: replica.id,
                term: replica.group.term(),
                position: replica.group.committed_position(),
            })
            .collect()
    }

    /// A read of this node's own replica, however old it is.
    pub(crate) fn local_read(
        &mut self,
        purpose: &Purpose,
        group: GroupId,
        request: &Request,
    ) -> Result<(), Problem> {
        let broken = |error: storage::StoreError| Problem::new(Code::Storage, error.to_string());
        let behind = self.behind(group);
        let replica = self.replicas.get_mut(&group);
        let Some(partition) = replica.and_then(|replica| replica.partition()) else {
            return Err(Problem::new(Code::NoOwner, "this node has no replica of it yet"));
        };
        let found = partition.latest(&*self.store, &request.path).map_err(broken)?;
        let found = found.filter(|document| !document.is_expired(self.now.wall));
        let mut response = local_answer(found.as_deref(), &request.path);
        response.behind = Some(behind);
        self.finish(purpose, Told::Response(response));
        Ok(())
    }

    /// Whether what is not in this node's directory surely is not registered: it has all that the owner
    /// of the directory had committed a moment ago.
    pub(crate) fn knows_the_directory(&self) -> bool {
        let Behind { entries, millis, .. } = self.behind(GroupId::DIRECTORY);
        entries == 0 && millis.is_some_and(|millis| millis < DIRECTORY_MILLIS_MAX)
    }

    fn behind(&self, group: GroupId) -> Behind {
        let Some(replica) = self.replicas.get(&group) else { return Behind::default() };
        let (committed, millis) = match self.news.0.get(&group) {
            _ if self.offices.contains_key(&group) => (Position(0), Some(0)),
            Some(Heard { position, at, .. }) => {
                (*position, Some(self.now.steady_micros.saturating_sub(*at).div_ceil(1_000)))
            }
            None => (Position(0), None),
        };
        let committed = committed.max(replica.group.committed_position());
        let entries = committed.0.saturating_sub(replica.group.applied_position().0);
        Behind { entries, millis }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_former_owner_says_does_not_count() {
        let said = |term, position| {
            [Committed { group: GroupId(1), term: Term(term), position: Position(position) }]
        };
        let mut news = News::default();
        news.heard(&said(3, 10), 100);
        news.heard(&said(2, 12), 200);
        assert_eq!((news.0[&GroupId(1)].position, news.0[&GroupId(1)].at), (Position(10), 100));
        news.heard(&said(4, 9), 300);
        assert_eq!((news.0[&GroupId(1)].position, news.0[&GroupId(1)].at), (Position(9), 300));
    }
}
