//! Which membership quorum that a person has set counts for a write, on an owner that may not have
//! heard of a change yet.
//!
//! The quorum is in the directory, and an owner of a partition may be behind in that log. If the
//! owner went by what it has applied alone, it would acknowledge with the old number after a raise
//! was answered. So each node *claims* a number to the others: the highest that its own log of the
//! directory allows for, what is not committed there included. An owner goes by the highest of its
//! own claim and of the others' claims that reach further than what it has applied.
//!
//! Why that is enough: a raise that was answered is in the logs of a majority, and each of these
//! nodes claimed it, on every link, before it confirmed to have it. A write is acknowledged when a
//! majority holds it. So a write that began after the raise was confirmed, on the same link and
//! later, by a node that had claimed the raise.
//!
//! A claim falls when the owner has applied what the claim reached to, by itself or by entries of a
//! later term: whatever was committed there is then in the owner's own directory.

use protocol::{Position, Term};
use storage::{Entry, EntryKind};

use crate::claim::Claim;
use crate::links::Links;
use crate::topology::{DirectoryCommand, Topology};

/// What this node claims itself, and what the claim was made from.
#[derive(Default)]
pub struct Claims {
    own: Claim,
    applied: (Term, Position),
}

impl Claims {
    pub fn own(&self) -> Claim {
        self.own
    }

    /// Whether the directory's log has changed since the last claim.
    pub fn is_outdated(&self, reach: (Term, Position), applied: (Term, Position)) -> bool {
        (reach, applied) != (self.own.reach, self.applied)
    }

    /// True when the others must hear of it, before anything that follows from it.
    #[must_use]
    pub fn renew(&mut self, claim: Claim, applied: (Term, Position)) -> bool {
        self.applied = applied;
        std::mem::replace(&mut self.own, claim) != claim
    }

    /// How many replicas must hold a write before this node acknowledges it. `known`: how many
    /// nodes the directory has, as far as it is applied here.
    pub fn in_force(&self, links: &Links, known: usize) -> usize {
        let further = links.claims().filter(|claim| claim.reach > self.applied);
        let possible = further.map(|claim| self.possible(claim, known));
        possible.max().unwrap_or(0).max(self.own.number)
    }

    /// What of a claim can be true. No quorum is larger than its cluster, and each entry that
    /// is not applied here lets at most one node in. More is the word of a node that is wrong
    /// or lies, and no write would ever meet it. The entry that forms the cluster makes many
    /// nodes at once.
    fn possible(&self, claim: &Claim, known: usize) -> usize {
        let (_, Position(reach)) = claim.reach;
        let (_, Position(applied)) = self.applied;
        let more = usize::try_from(reach.saturating_sub(applied)).unwrap_or(usize::MAX);
        match known {
            0 => claim.number,
            known => claim.number.min(known.saturating_add(more)),
        }
    }
}

/// The highest quorum that a person has set, or that would be set after one of the entries that are
/// not applied yet, as far as is known; 0 if none is.
pub fn highest_quorum(applied: &Topology, pending: &[Entry]) -> usize {
    let mut highest = applied.quorum_set();
    let mut ahead: Option<Topology> = None;
    for entry in pending.iter().filter(|entry| entry.kind == EntryKind::Normal) {
        let Ok(command) = DirectoryCommand::decode(&entry.data) else { continue };
        // Without the instances it cannot be told whether a removal is refused. If it is left out,
        // the number can only be too high.
        if matches!(command, DirectoryCommand::Instance(_) | DirectoryCommand::Remove { .. }) {
            continue;
        }
        let ahead = ahead.get_or_insert_with(|| applied.without_groups());
        ahead.apply(command);
        highest = highest.max(ahead.quorum_set());
    }
    highest
}

#[cfg(test)]
mod tests {
    use protocol::ReplicaId;

    use super::*;
    use crate::{InitialConfig, Member};

    fn claims(number: usize, applied: (u64, u64)) -> Claims {
        let applied = (Term(applied.0), Position(applied.1));
        Claims { own: Claim { reach: applied, number }, applied }
    }

    fn claim(term: u64, position: u64, number: usize) -> Claim {
        Claim { reach: (Term(term), Position(position)), number }
    }

    fn links(claims: &[Claim]) -> Links {
        let mut links = Links::default();
        for (id, said) in (1..).zip(claims) {
            links.opened(id, None, 0);
            let link = links.get_mut(id).expect("it was opened");
            link.replica = Some(ReplicaId(2));
            link.claim = *said;
        }
        links
    }

    #[test]
    fn a_claim_that_reaches_further_counts_until_it_is_overtaken() {
        let links = links(&[claim(2, 8, 3)]);
        assert_eq!(claims(2, (2, 7)).in_force(&links, 3), 3);
        assert_eq!(claims(2, (2, 8)).in_force(&links, 3), 2, "it is applied here, and was lowered");
        assert_eq!(claims(2, (3, 5)).in_force(&links, 3), 2, "a later owner went on without it");
        assert_eq!(claims(3, (2, 9)).in_force(&links, 3), 3);
    }

    /// Here it cannot be told that an immortal keeps the removal from being carried out.
    #[test]
    fn a_removal_that_may_be_refused_makes_no_claim_too_low() {
        let member = |id: u64| Member {
            node_id: format!("n{id}"),
            uri: format!("http://n{id}"),
            sandbox_id: id,
        };
        let founders = (1..=3).map(|id| (ReplicaId(id), member(id))).collect();
        let initial = InitialConfig::new(1, founders);
        let mut applied = Topology::default();
        applied.apply(DirectoryCommand::Form { initial, quorum: None });
        let commands = [
            DirectoryCommand::Remove { replica: ReplicaId(3) },
            DirectoryCommand::SetQuorum { quorum: 3 },
        ];
        let entries = commands.map(|command| Entry {
            position: Position(9),
            term: Term(1),
            kind: EntryKind::Normal,
            data: command.encode(),
        });
        assert_eq!(highest_quorum(&applied, &entries), 3);
    }

    #[test]
    fn a_claim_outlives_its_link() {
        let mut links = links(&[claim(2, 8, 3), claim(1, 1, 2)]);
        links.closed(1);
        links.closed(2);
        assert_eq!(claims(2, (2, 7)).in_force(&links, 3), 3);
        links.forget_claims((Term(2), Position(8)));
        assert_eq!(claims(2, (2, 7)).in_force(&links, 3), 2);
    }

    #[test]
    fn a_claim_of_more_nodes_than_there_can_be_stops_no_writes() {
        let links = links(&[claim(2, 8, 99)]);
        assert_eq!(claims(2, (2, 7)).in_force(&links, 3), 4, "one more may have come");
        assert_eq!(claims(2, (2, 5)).in_force(&links, 3), 6);
        let lower = claims(2, (1, 9)).in_force(&links, 3);
        assert_eq!(lower, 3, "where nothing can have come since");
        assert_eq!(claims(0, (0, 0)).in_force(&links, 0), 99, "the cluster forms");
    }

    #[test]
    fn a_claim_of_a_stranger_does_not_count() {
        let mut links = links(&[claim(2, 8, 3)]);
        links.get_mut(1).expect("it is open").replica = None;
        assert_eq!(claims(2, (2, 7)).in_force(&links, 3), 2);
    }
}
