//! Replicas that have applied the same entries have the same state.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use documents::Partition;
use protocol::hash::Hash;
use protocol::{GroupId, Position};
use storage::{DERIVED, Reader, Space, StoreError};

use super::Broken;

/// Digests are compared at positions that are multiples of this: reading all of a state is slow.
const EVERY: u64 = 5;

/// Digests of states, by the entries that led to them.
#[derive(Debug, Default)]
pub struct Digests {
    seen: BTreeMap<(GroupId, Position), (u64, String)>,
}

impl Digests {
    /// A machine has that state.
    ///
    /// # Errors
    /// When another machine had another state at that position.
    pub fn saw(
        &mut self,
        group: GroupId,
        position: Position,
        digest: u64,
        machine: &str,
    ) -> Result<(), Broken> {
        let entry = self.seen.entry((group, position));
        let (known, first) = entry.or_insert_with(|| (digest, machine.to_owned()));
        if *known == digest {
            return Ok(());
        }
        let what = format!(
            "group {group} at position {position}: {first} has {known:016x}, {machine} has \
             {digest:016x}"
        );
        Err(Broken::new("replicas at the same position are equal", what))
    }

    /// Reads the state of a group as a machine has it and compares, now and then or `always`.
    ///
    /// # Errors
    /// When it differs from another's, or cannot be read.
    pub fn look(
        &mut self,
        store: &dyn Reader,
        group: GroupId,
        machine: &str,
        always: bool,
    ) -> Result<Position, Broken> {
        let unreadable =
            |error: StoreError| Broken::new("a state can be read", format!("{machine}: {error}"));
        let (space, applied) = Space::open(store, group).map_err(unreadable)?;
        let position = applied.position;
        if position.0 == 0 || (!always && position.0 % EVERY != 0) {
            return Ok(position);
        }
        let digest = if group.is_directory() {
            bare_digest(store, &space)
        } else {
            Partition::open(store, space).and_then(|partition| partition.digest(store))
        };
        self.saw(group, position, digest.map_err(unreadable)?, machine)?;
        Ok(position)
    }
}

/// Of all pairs that are not derived.
fn bare_digest(store: &dyn Reader, space: &Space) -> Result<u64, StoreError> {
    let mut hash = Hash::default();
    for family in 0..DERIVED {
        let (from, to) = space.range(family);
        store.scan(&from, &to, false, &mut |key, value| {
            hash.add(space.rest(key));
            hash.add(value);
            ControlFlow::Continue(())
        })?;
    }
    Ok(hash.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_differs_is_found() {
        let mut digests = Digests::default();
        let at = |position| (GroupId(1), Position(position));
        let (group, five) = at(5);
        digests.saw(group, five, 7, "n1").unwrap();
        digests.saw(group, five, 7, "n2").unwrap();
        digests.saw(group, at(6).1, 8, "n1").unwrap();
        assert!(digests.saw(group, five, 8, "n3").is_err());
    }
}
