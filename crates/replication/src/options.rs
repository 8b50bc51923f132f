//! What a group is made from: its settings and what is left of its past.

use std::fmt;

use protocol::{GroupId, Position, ReplicaId, Term};
use storage::RecoveredGroup;

use crate::Members;

/// The settings of one replica of one group. Times are in ticks.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    pub group: GroupId,
    /// Never 0.
    pub me: ReplicaId,
    /// How long an owner may be silent. Give each replica of a group another number: there is no
    /// randomness on top. More than `heartbeat_ticks`.
    pub election_ticks: usize,
    /// How often an owner shows that it lives.
    pub heartbeat_ticks: usize,
    /// After how long a group in which nothing happens goes to rest. Less than a second costs a
    /// busy group a wake for each pause.
    pub rest_ticks: usize,
    /// How many appends may be on their way to one follower.
    pub inflight_max: usize,
    /// An append carries at least one entry, and more up to this many bytes.
    pub entry_bytes_per_message_max: usize,
    /// How many entries an owner may have taken and not yet applied.
    pub unapplied_max: u64,
    /// How many bytes of data an owner may have taken and not yet committed; a single entry may be
    /// larger. At least `entry_bytes_per_message_max`.
    pub uncommitted_bytes_max: usize,
    /// When [`crate::Group::persisted`] is called.
    pub durability: Durability,
    /// Voters that are being removed: they vote, and what they hold is not counted by
    /// [`crate::Group::held_by`].
    pub leaving: Vec<ReplicaId>,
}

/// What a replica means when it acknowledges an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The entry is durable there.
    Disk,
    /// The entry is there, but a crash may take it back.
    Memory,
}

impl GroupOptions {
    /// The usual settings: 10 ms ticks, a heartbeat each 50 ms, an owner silent for 500 ms is given
    /// up, a group that was quiet for a second rests.
    pub fn new(group: GroupId, me: ReplicaId) -> Self {
        Self {
            group,
            me,
            election_ticks: 50,
            heartbeat_ticks: 5,
            rest_ticks: 100,
            inflight_max: 256,
            entry_bytes_per_message_max: 1 << 20,
            unapplied_max: 1 << 16,
            uncommitted_bytes_max: 128 << 20,
            durability: Durability::Disk,
            leaving: Vec::new(),
        }
    }
}

/// What a replica knows when it starts: its log, and how far its state had come. The entries stay
/// where they are.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub term: Term,
    /// 0: nobody.
    pub voted_for: ReplicaId,
    pub commit: Position,
    pub base: Position,
    pub base_term: Term,
    /// The entries are those from `base` + 1 to here, without gaps.
    pub last: Position,
    /// From which position on which term is in force; the first is that of `base` + 1.
    pub terms: Vec<(Position, Term)>,
    /// Which of the entries change the membership.
    pub memberships: Vec<Position>,
    /// What the entries take on the disk, roughly.
    pub bytes: u64,
    /// How far the state has come; entries after it are reported as committed again.
    pub applied: Position,
    /// The term of the entry there.
    pub applied_term: Term,
    /// In force at `applied`.
    pub members: Members,
}

impl Restored {
    /// What the log and the state store say about a group.
    pub fn new(
        log: RecoveredGroup,
        applied: Position,
        applied_term: Term,
        members: Members,
    ) -> Self {
        let RecoveredGroup { term, voted_for, commit, base, base_term, .. } = log;
        let RecoveredGroup { last, terms, memberships, bytes, .. } = log;
        Self {
            term,
            voted_for,
            commit,
            base,
            base_term,
            last,
            terms,
            memberships,
            bytes,
            applied,
            applied_term,
            members,
        }
    }

    /// The term of the entry there; 0 if there is none.
    fn term_at(&self, position: Position) -> Term {
        let run = self.terms.iter().rev().find(|(from, _)| *from <= position);
        let there = position > self.base && position <= self.last;
        run.filter(|_| there).map_or(Term(0), |(_, term)| *term)
    }

    /// Brings log and state together. True when the log has to begin anew after the state: that is
    /// so when the node fell after a snapshot came into force and before the log knew of it.
    pub(crate) fn settle(&mut self) -> Result<bool, RestoreError> {
        self.check_log()?;
        self.members.check().map_err(|why| RestoreError(format!("its members: {why}")))?;
        let (applied, base) = (self.applied, self.base);
        if applied < base {
            return Err(RestoreError(format!(
                "the log begins after {base}, but the state has come to {applied} only"
            )));
        }
        if self.members.is_empty() && applied > Position(0) {
            return Err(RestoreError(format!("nobody is a member at {applied}")));
        }
        if applied == base && self.applied_term != self.base_term {
            return Err(RestoreError(format!(
                "{base} is of term {} in the log and of term {} in the state",
                self.base_term, self.applied_term
            )));
        }
        let anew = applied > base && self.term_at(applied) != self.applied_term;
        if anew {
            (self.base, self.base_term) = (applied, self.applied_term);
            self.last = applied;
            self.terms.clear();
            self.memberships.clear();
            self.bytes = 0;
        }
        let last = self.last;
        let last_term = self.terms.last().map_or(self.base_term, |(_, term)| *term);
        // The commit position is only a hint, and may be behind or ahead of what survived.
        self.commit = self.commit.max(applied).min(last);
        // A state from a later term than any vote: nobody was voted for in that term here.
        if last_term > self.term {
            (self.term, self.voted_for) = (last_term, ReplicaId(0));
        }
        Ok(anew)
    }

    fn check_log(&self) -> Result<(), RestoreError> {
        if (self.last > self.base) == self.terms.is_empty() || self.last < self.base {
            return Err(RestoreError(format!(
                "the log goes from {} to {}, and has {} terms",
                self.base,
                self.last,
                self.terms.len()
            )));
        }
        let (mut due, mut last_term) = (self.base.next(), self.base_term);
        for (index, (from, term)) in self.terms.iter().enumerate() {
            let fits = if index == 0 { *from == due } else { *from >= due };
            if !fits || *from > self.last || *term < last_term {
                return Err(RestoreError(format!(
                    "entry {from} of term {term} follows an entry of term {last_term}"
                )));
            }
            (due, last_term) = (from.next(), *term);
        }
        Ok(())
    }
}

/// The log and the state of a replica contradict each other: it must not take part any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreError(pub String);

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log and state contradict each other: {}", self.0)
    }
}

impl std::error::Error for RestoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn restored(base: u64, terms: &[u64], applied: u64, applied_term: u64) -> Restored {
        let runs = (base + 1..).map(Position).zip(terms.iter().map(|term| Term(*term)));
        Restored {
            term: Term(5),
            voted_for: ReplicaId(2),
            commit: Position(99),
            base: Position(base),
            base_term: Term(u64::from(base > 0)),
            last: Position(base + u64::try_from(terms.len()).unwrap()),
            terms: runs.collect(),
            memberships: Vec::new(),
            bytes: 0,
            applied: Position(applied),
            applied_term: Term(applied_term),
            members: Members::of_voters([ReplicaId(1)]),
        }
    }

    #[test]
    fn a_state_inside_the_log_leaves_the_log() {
        let mut restored = restored(3, &[1, 2, 2], 5, 2);
        assert_eq!(restored.settle(), Ok(false));
        assert_eq!(restored.last, Position(6));
        assert_eq!(restored.commit, Position(6), "no more than there is");
    }

    #[test]
    fn a_state_beyond_the_log_begins_it_anew() {
        // Beyond the last entry, and where the log has an entry of another term.
        for mut restored in [restored(3, &[1, 2, 2], 9, 7), restored(3, &[1, 2, 2], 5, 7)] {
            let applied = restored.applied;
            assert_eq!(restored.settle(), Ok(true));
            assert_eq!((restored.base, restored.base_term), (applied, Term(7)));
            assert!(restored.last == applied && restored.terms.is_empty());
            // The vote was for term 5, and this is a later one.
            assert_eq!((restored.term, restored.voted_for), (Term(7), ReplicaId(0)));
            assert_eq!(restored.commit, applied);
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let mut gap = restored(3, &[1, 2, 2], 5, 2);
        gap.terms.remove(0);
        let nobody = Restored { members: Members::default(), ..restored(0, &[1], 1, 1) };
        let twice = Members::of_voters([ReplicaId(1)]);
        let twice = Members { learners: vec![ReplicaId(1)], ..twice };
        let odd = Restored { members: twice, ..restored(0, &[1], 1, 1) };
        for mut bad in [
            gap,
            nobody,
            odd,
            restored(3, &[2, 1], 4, 2),
            restored(3, &[], 2, 1),
            restored(3, &[], 3, 2),
        ] {
            assert!(bad.settle().is_err(), "{bad:?}");
        }
        assert_eq!(Restored::default().settle(), Ok(false));
    }
}
