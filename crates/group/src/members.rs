//! The members of a group: those in force at present, and since when.

use protocol::Position;
use storage::StoreError;

/// Memberships by the position from which each is in force, from the snapshot point on.
///
/// **Invariant:** there is at least one.
pub struct Members {
    history: Vec<(Position, replication::Members)>,
    /// The last of them as it is kept in the state store. It goes there with every entry.
    encoded: Vec<u8>,
}

impl Members {
    pub fn new(from: Position, members: replication::Members) -> Self {
        let encoded = encode_members(&members);
        Self { history: vec![(from, members)], encoded }
    }

    pub(crate) fn change(&mut self, from: Position, members: replication::Members) {
        self.encoded = encode_members(&members);
        self.history.push((from, members));
    }

    /// The last of them as [`encode_members`] makes it.
    pub(crate) fn encoded(&self) -> Vec<u8> {
        self.encoded.clone()
    }

    /// The membership in force at a position. Before the history begins it is the first one.
    pub(crate) fn at(&self, position: Position) -> &replication::Members {
        let at = self.history.iter().rev().find(|(from, _)| *from <= position);
        let (_, members) = at.or(self.history.first()).expect("the history is never empty");
        members
    }

    /// What was in force before that position is not asked for any more.
    pub(crate) fn forget_before(&mut self, position: Position) {
        while self.history.get(1).is_some_and(|(from, _)| *from <= position) {
            self.history.remove(0);
        }
    }
}

/// As it is kept in the state store.
pub fn encode_members(members: &replication::Members) -> Vec<u8> {
    postcard::to_stdvec(members).expect("members are plain data, which can always be encoded")
}

/// # Errors
/// When the bytes are not what [`encode_members`] made.
pub fn decode_members(bytes: &[u8]) -> Result<replication::Members, StoreError> {
    if bytes.is_empty() {
        return Ok(replication::Members::default());
    }
    postcard::from_bytes(bytes).map_err(|error| StoreError::failed(format!("the members: {error}")))
}

#[cfg(test)]
mod tests {
    use protocol::ReplicaId;
    use replication::Members as Voters;

    use super::*;

    fn voters(count: u64) -> Voters {
        Voters::of_voters((1..=count).map(ReplicaId))
    }

    #[test]
    fn the_membership_at_a_position_is_the_last_one_before_it() {
        let mut members = Members::new(Position(3), voters(1));
        members.change(Position(7), voters(2));
        members.change(Position(9), voters(3));
        assert_eq!(members.at(Position(2)), &voters(1), "the first counts for what was before");
        assert_eq!(members.at(Position(7)), &voters(2));
        assert_eq!(members.at(Position(100)), &voters(3));
        members.forget_before(Position(8));
        assert_eq!(members.at(Position(7)), &voters(2));
        assert_eq!(members.at(Position(2)), &voters(2), "the one before is forgotten");
        assert_eq!(decode_members(&members.encoded()).unwrap(), voters(3));
    }
}
