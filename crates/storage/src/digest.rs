//! The digest of a group's state: of all pairs that a snapshot carries, in order. Made piece by
//! piece, as a state may be large.

use protocol::hash::Hash;

use crate::space::Space;
use crate::state::{Reader, StoreError};

/// A digest that is being made.
#[derive(Clone, Debug)]
pub struct Digest {
    space: Space,
    after: Vec<u8>,
    hash: Hash,
}

impl Digest {
    pub fn of(space: Space) -> Self {
        Self { space, after: Vec::new(), hash: Hash::default() }
    }

    pub fn space(&self) -> Space {
        self.space
    }

    /// Reads about `bytes` more of the state, always from the same view. The digest, once all
    /// of it was read.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn step(&mut self, view: &dyn Reader, bytes: usize) -> Result<Option<u64>, StoreError> {
        let chunk = self.space.export(view, &self.after, bytes)?;
        for (key, value) in &chunk.pairs {
            for part in [key, value] {
                self.hash.add(part);
                // What moves a byte from one part to the next gives another digest.
                self.hash.add(&u64::try_from(part.len()).expect("a length fits").to_le_bytes());
            }
        }
        if let Some((last, _)) = chunk.pairs.last() {
            self.after.clone_from(last);
        }
        Ok(chunk.done.then(|| self.hash.sum()))
    }
}

#[cfg(test)]
mod tests {
    use protocol::GroupId;

    use super::*;
    use crate::{Batch, MemoryStore, StateStore};

    fn digest(store: &MemoryStore, space: Space, bytes: usize) -> u64 {
        let mut digest = Digest::of(space);
        loop {
            if let Some(sum) = digest.step(store, bytes).unwrap() {
                return sum;
            }
        }
    }

    #[test]
    fn the_digest_is_of_all_that_a_snapshot_carries_and_of_nothing_else() {
        let mut store = MemoryStore::default();
        let space = Space { group: GroupId(3), generation: 1 };
        let mut put = |space: Space, family, rest: &[u8], value: &[u8]| {
            let mut batch = Batch::default();
            batch.put(space.key(family, rest), value);
            store.write(batch).unwrap();
            let small = digest(&store, space, 1);
            assert_eq!(digest(&store, space, 1 << 20), small, "however it is made");
            small
        };
        let one = put(space, 1, b"ab", b"c");
        let two = put(space, 2, b"ab", b"c");
        assert_ne!(one, two);
        assert_eq!(put(space, 0x80, b"x", b"index"), two, "the index is each replica's own");
        assert_ne!(put(space, 2, b"ab", b"d"), two);
        let other = Space { generation: 2, ..space };
        put(other, 1, b"ab", b"c");
        assert_eq!(digest(&store, other, 1), one, "the generation does not matter");
    }
}
