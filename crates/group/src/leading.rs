//! What an owner has beside its machine: the leader, its proposals, and the requests under way.

use std::collections::VecDeque;

use protocol::{Position, Term};

use crate::held::Held;
use crate::machine::Machine;
use crate::requests::Requests;

/// How many requests an owner takes on for one group before it says that it is busy.
pub const REQUESTS_PER_GROUP_MAX: usize = 20_000;

/// This replica owns its group.
pub(crate) struct Leading<M: Machine> {
    pub(crate) leader: M::Leader,
    pub(crate) term: Term,
    /// Tells this leader from others of the same group, even of the same term.
    pub(crate) opening: u64,
    pub(crate) requests: Requests<M::Answer>,
    /// The leader's proposals and the positions that they will have, in order.
    pub(crate) proposals: VecDeque<(Position, u64)>,
    /// What the leader has proposed while its log is held.
    pub(crate) held: Option<Held>,
}

impl<M: Machine> Leading<M> {
    /// The proposal that has this position, if the leader made one. The second value is false when
    /// an entry of another owner stands in its place.
    pub(crate) fn take_proposal(&mut self, position: Position, term: Term) -> Option<(u64, bool)> {
        let (first, _) = self.proposals.front()?;
        assert!(*first >= position, "the entry at {first} was passed over");
        if *first > position {
            return None;
        }
        let (_, proposal) = self.proposals.pop_front().expect("it was just looked at");
        Some((proposal, term == self.term))
    }
}
