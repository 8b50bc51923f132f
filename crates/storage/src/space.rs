//! Where the keys of one group lie in the state store, and how they are replaced as a whole when a
//! snapshot comes in.
//!
//! A key is the group (u32, big endian), the generation (u32, big endian), the family (u8) and the
//! rest. Generation 0 holds only the pointer to the generation in force. A snapshot is staged in
//! the next generation, where nobody sees it, and put in force by one small batch.

use std::ops::ControlFlow;

use protocol::{GroupId, Position, Term};
use serde::{Deserialize, Serialize};

use crate::state::{Batch, Reader, StoreError};

/// Families from this one on are derived from the others: they are not part of snapshots.
pub const DERIVED: u8 = 0x80;

/// The family that holds [`Applied`]; not for others.
const APPLIED: u8 = 0;

/// The generation that holds the pointer.
const POINTER: u32 = 0;

/// The generation of a group that never received a snapshot.
const FIRST: u32 = 1;

/// Group and generation, in bytes.
const PREFIX_BYTES: usize = 8;

/// How far a group's state has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub position: Position,
    pub term: Term,
    /// The membership of the group at that position; opaque here.
    pub members: Vec<u8>,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Family and rest of the key, and the value.
    pub pairs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Nothing comes after these.
    pub done: bool,
}

/// The keys of one group in one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub group: GroupId,
    pub generation: u32,
}

impl Space {
    /// The generation in force, and how far its state has come (nothing at all, at first).
    ///
    /// # Errors
    /// When the store cannot be read, or holds something else there.
    pub fn open(store: &dyn Reader, group: GroupId) -> Result<(Self, Applied), StoreError> {
        let generation = match store.get(&pointer(group))? {
            None => FIRST,
            Some(bytes) => {
                <[u8; 4]>::try_from(bytes.as_slice()).map(u32::from_be_bytes).map_err(|_| {
                    StoreError::failed(format!("group {group} has a broken generation pointer"))
                })?
            }
        };
        let space = Self { group, generation };
        let applied = match store.get(&space.key(APPLIED, b""))? {
            None => Applied::default(),
            Some(bytes) => postcard::from_bytes(&bytes).map_err(|error| {
                StoreError::failed(format!("group {group} has a broken applied position: {error}"))
            })?,
        };
        Ok((space, applied))
    }

    /// The key of `rest` in a family. Family 0 is taken.
    pub fn key(&self, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut key = self.prefix(1 + rest.len());
        key.push(family);
        key.extend_from_slice(rest);
        key
    }

    /// All keys of a family.
    pub fn range(&self, family: u8) -> (Vec<u8>, Vec<u8>) {
        self.range_of(family, b"")
    }

    /// The keys of a family whose rest begins with `prefix`.
    pub fn range_of(&self, family: u8, prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let from = self.key(family, prefix);
        let to = after_all_with(&from);
        (from, to)
    }

    /// The rest of a key made by [`Space::key`]: what comes after group, generation and family.
    pub fn rest<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.get(PREFIX_BYTES + 1..).unwrap_or_default()
    }

    /// To be in the same batch as the changes that the position stands for.
    pub fn put_applied(&self, batch: &mut Batch, applied: &Applied) {
        let bytes = postcard::to_stdvec(applied).expect("plain numbers and bytes can be encoded");
        batch.put(self.key(APPLIED, b""), bytes);
    }

    /// The pairs after `after` (the key of the last pair of the former chunk, or nothing), about
    /// `bytes` bytes of them and at least one. Derived families and [`Applied`] are left out.
    /// All chunks of a snapshot must come from one view.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn export(
        &self,
        view: &dyn Reader,
        after: &[u8],
        bytes: usize,
    ) -> Result<Chunk, StoreError> {
        let mut from = self.prefix(after.len() + 1);
        if after.is_empty() {
            from.push(APPLIED + 1);
        } else {
            from.extend_from_slice(after);
            // The least key that is greater than `after`.
            from.push(0);
        }
        let to = self.key(DERIVED, b"");
        let mut chunk = Chunk { pairs: Vec::new(), done: true };
        let mut taken = 0;
        view.scan(&from, &to, false, &mut |key, value| {
            if taken >= bytes && !chunk.pairs.is_empty() {
                chunk.done = false;
                return ControlFlow::Break(());
            }
            taken += key.len() - PREFIX_BYTES + value.len();
            chunk.pairs.push((key[PREFIX_BYTES..].to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(chunk)
    }

    /// Visits the pairs after `after` (as in [`Self::export`]), those of derived families too:
    /// about `bytes` bytes of them. Where it stopped, unless that was the end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn walk(
        &self,
        view: &dyn Reader,
        after: &[u8],
        bytes: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let mut from = self.prefix(after.len() + 1);
        from.extend_from_slice(after);
        if !after.is_empty() {
            from.push(0);
        }
        let to = after_all_with(&self.prefix(0));
        let (mut taken, mut stopped) = (0, None);
        view.scan(&from, &to, false, &mut |key, value| {
            taken += key.len() - PREFIX_BYTES + value.len();
            visit(&key[PREFIX_BYTES..], value);
            if taken < bytes {
                return ControlFlow::Continue(());
            }
            stopped = Some(key[PREFIX_BYTES..].to_vec());
            ControlFlow::Break(())
        })?;
        Ok(stopped)
    }

    /// The space for a snapshot that comes in. It may hold remains of an earlier one: run
    /// [`Space::clean`] of the present space to its end first.
    #[must_use]
    pub fn staging(&self) -> Self {
        let generation = self.generation.checked_add(1).expect("nobody takes 4 billion snapshots");
        Self { group: self.group, generation }
    }

    /// Puts a chunk's pairs into this (staged) space. Keys that no export has are left out.
    pub fn stage(&self, batch: &mut Batch, pairs: Vec<(Vec<u8>, Vec<u8>)>) {
        for (key, value) in pairs {
            if key.first().is_some_and(|family| (APPLIED + 1..DERIVED).contains(family)) {
                let mut full = self.prefix(key.len());
                full.extend_from_slice(&key);
                batch.put(full, value);
            }
        }
    }

    /// Makes this (staged) space the one in force when the batch is written.
    pub fn install(self, batch: &mut Batch, applied: &Applied) {
        self.put_applied(batch, applied);
        batch.put(pointer(self.group), self.generation.to_be_bytes());
    }

    /// Deletes up to `budget` keys of the group's other generations. True when there are no more
    /// of them (once the batch is written).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn clean(
        &self,
        store: &dyn Reader,
        batch: &mut Batch,
        budget: usize,
    ) -> Result<bool, StoreError> {
        let own = self.prefix(0);
        let first = Self { generation: FIRST, ..*self }.prefix(0);
        let group_end = after_all_with(&self.group.0.to_be_bytes());
        let mut left = budget;
        let mut done = true;
        for (from, to) in [(first, own.clone()), (after_all_with(&own), group_end)] {
            store.scan(&from, &to, false, &mut |key, _| {
                if left == 0 {
                    done = false;
                    return ControlFlow::Break(());
                }
                left -= 1;
                batch.delete(key);
                ControlFlow::Continue(())
            })?;
        }
        Ok(done)
    }

    /// Deletes everything of the group, of all generations, also of a snapshot that was coming in.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn remove(group: GroupId, store: &dyn Reader, batch: &mut Batch) -> Result<(), StoreError> {
        let all = group.0.to_be_bytes();
        store.scan(&all, &after_all_with(&all), false, &mut |key, _| {
            batch.delete(key);
            ControlFlow::Continue(())
        })
    }

    /// Group and generation, with room for `more` bytes.
    fn prefix(&self, more: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(PREFIX_BYTES + more);
        key.extend_from_slice(&self.group.0.to_be_bytes());
        key.extend_from_slice(&self.generation.to_be_bytes());
        key
    }
}

fn pointer(group: GroupId) -> Vec<u8> {
    Space { group, generation: POINTER }.key(0, b"generation")
}

/// The least key that is greater than all keys that begin with `prefix`.
fn after_all_with(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.pop() {
        if let Some(next) = last.checked_add(1) {
            key.push(next);
            return key;
        }
    }
    // Only for a prefix of 0xff bytes alone: longer than any such key that is used here.
    vec![0xff; prefix.len() + 64]
}
