//! Which membership quorum counts for a write, on an owner that may not have heard of a change yet.
//!
//! The quorum is in the directory, and an owner of a partition may be behind in the directory's log.
//! If it went by what it has applied alone, it would acknowledge with the old number after a raise
//! was answered. So each node *claims* a number to the others, the highest that its own log of the
//! directory allows for, what is not committed there included; and an owner goes by the highest of
//! its own and of the claims that reach further than what it has applied.
//!
//! Why that is enough: a raise that was answered is in the logs of a majority, and each of them
//! claimed it, on every link, before it confirmed to have it. A write is acknowledged when a
//! majority holds it, so one that began after the raise was confirmed, on the same link and later,
//! by somebody who had claimed the raise.
//!
//! A claim falls when the owner has applied what the claim reached to, by itself or by entries of a
//! later term: whatever was committed there is then in the owner's own directory.

use protocol::{GroupId, Position, Term};
use serde::{Deserialize, Serialize};

use crate::node::Node;
use crate::peers::Peers;

/// What a node says about the quorum. Compared by how far its log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The term and the position of the last entry in its log of the directory.
    pub(crate) reach: (Term, Position),
    /// No more than this may be in force by an entry up to there.
    pub(crate) number: usize,
}

/// What this node claims itself, and what it was made from.
#[derive(Default)]
pub(crate) struct Own {
    claim: Claim,
    applied: (Term, Position),
}

impl Own {
    pub(crate) fn claim(&self) -> Claim {
        self.claim
    }

    /// The number that counts here.
    pub(crate) fn in_force(&self, peers: &Peers) -> usize {
        let further = peers.claims().filter(|claim| claim.reach > self.applied);
        further.map(|claim| claim.number).max().unwrap_or(0).max(self.claim.number)
    }
}

impl Node {
    /// Looks whether the directory's log has changed, and tells the others before anything else that
    /// follows from it.
    pub(crate) fn mind_quorum(&mut self) {
        let Some(directory) = self.replicas.get(&GroupId::DIRECTORY) else { return };
        let (reach, applied) = (directory.reach(), directory.applied());
        if (reach, applied) == (self.quorum.claim.reach, self.quorum.applied) {
            return;
        }
        let claim = Claim { reach, number: directory.highest_quorum() };
        self.quorum.applied = applied;
        self.peers.forget_claims(applied);
        if std::mem::replace(&mut self.quorum.claim, claim) != claim {
            self.ping_all();
        }
    }

    /// How many replicas must hold a write before this node acknowledges it.
    pub(crate) fn quorum_in_force(&self) -> usize {
        self.quorum.in_force(&self.peers)
    }
}

#[cfg(test)]
mod tests {
    use protocol::ReplicaId;

    use super::*;

    fn own(number: usize, applied: (u64, u64)) -> Own {
        let applied = (Term(applied.0), Position(applied.1));
        Own { claim: Claim { reach: applied, number }, applied }
    }

    fn claim(term: u64, position: u64, number: usize) -> Claim {
        Claim { reach: (Term(term), Position(position)), number }
    }

    fn peers(claims: &[Claim]) -> Peers {
        let mut peers = Peers::default();
        for (link, said) in (1..).zip(claims) {
            peers.opened(link, None, 0);
            let link = peers.get_mut(link).expect("it was opened");
            link.replica = Some(ReplicaId(2));
            link.claim = *said;
        }
        peers
    }

    #[test]
    fn a_claim_that_reaches_further_counts_until_it_is_overtaken() {
        let peers = peers(&[claim(2, 8, 3)]);
        assert_eq!(own(2, (2, 7)).in_force(&peers), 3);
        assert_eq!(own(2, (2, 8)).in_force(&peers), 2, "it is applied here, and was lowered since");
        assert_eq!(own(2, (3, 5)).in_force(&peers), 2, "a later owner went on without that entry");
        assert_eq!(own(3, (2, 9)).in_force(&peers), 3);
    }

    #[test]
    fn a_claim_outlives_its_link() {
        let mut peers = peers(&[claim(2, 8, 3), claim(1, 1, 2)]);
        peers.closed(1);
        peers.closed(2);
        assert_eq!(own(2, (2, 7)).in_force(&peers), 3);
        peers.forget_claims((Term(2), Position(8)));
        assert_eq!(own(2, (2, 7)).in_force(&peers), 2);
    }

    #[test]
    fn who_is_behind_a_link_must_be_known() {
        let mut peers = peers(&[claim(2, 8, 3)]);
        peers.get_mut(1).expect("it is open").replica = None;
        assert_eq!(own(2, (2, 7)).in_force(&peers), 2);
    }
}
