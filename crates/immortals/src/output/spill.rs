//! Messages that are kept for destinations and are too much for memory go into blocks in the state
//! store.
//!
//! A block is written once and read when it is sent. It is removed when nobody refers to it any
//! more: neither the output state of the program, nor the base, nor a checkpoint that is being
//! taken or comes in. So a checkpoint does not copy the messages that wait, however many they are:
//! its record names the blocks. A replica that is given the checkpoint asks for the blocks that it
//! lacks. Usually it has all blocks, since its own program has sent the same.
//!
//! After a crash only the blocks of the base are needed, and those were written before the base.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use protocol::immortal::{Garbled, skip_messages};
use serde::{Deserialize, Serialize};
use storage::{Batch, Reader, Space, StateStore, StoreError};

use crate::output::stream::{BlockKey, Found, Run, Stream};

const FAMILY_HEAD: u8 = 4;
const FAMILY_MESSAGES: u8 = 5;

/// Names a block.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpillBlockId {
    pub destination: String,
    pub block: BlockKey,
}

/// The part of a block that something refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpilledBlock {
    pub id: SpillBlockId,
    pub first: u64,
    pub count: u64,
}

/// What the store has of a block: all messages from `first` to the end of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    first: u64,
    count: u64,
    /// CRC-32 of the messages.
    crc: u32,
}

/// The blocks in the store.
#[derive(Debug, Default)]
pub(crate) struct Spill {
    blocks: BTreeMap<SpillBlockId, Head>,
    /// Something that referred to blocks is gone, so some blocks may be garbage.
    may_have_garbage: bool,
}

impl Spill {
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn open(store: &dyn Reader, space: &Space) -> Result<Self, StoreError> {
        let (from, to) = space.range(FAMILY_HEAD);
        let mut blocks = BTreeMap::new();
        let mut broken = false;
        store.scan(&from, &to, false, &mut |key, value| {
            match (id_of(space.rest(key)), postcard::from_bytes(value)) {
                (Some(id), Ok(head)) => drop(blocks.insert(id, head)),
                _ => broken = true,
            }
            ControlFlow::Continue(())
        })?;
        if broken {
            return Err(StoreError::failed("a spilled block of an instance cannot be read"));
        }
        Ok(Self { blocks, may_have_garbage: true })
    }

    /// Something that referred to blocks is gone.
    pub(crate) fn look_for_garbage(&mut self) {
        self.may_have_garbage = true;
    }

    pub(crate) fn has(&self, wanted: &SpilledBlock) -> bool {
        self.blocks.get(&wanted.id).is_some_and(|head| head.first <= wanted.first)
    }

    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn put(
        &mut self,
        store: &mut dyn StateStore,
        space: &Space,
        blocks: Vec<(SpillBlockId, Run)>,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for (id, Run { first, count, messages }) in blocks {
            // Something else may refer to more of the block.
            if self.has(&SpilledBlock { id: id.clone(), first, count }) {
                continue;
            }
            let head = Head { first, count, crc: crc32fast::hash(&messages) };
            let rest = rest_of(&id);
            let encoded = postcard::to_stdvec(&head).expect("a head encodes");
            batch.put(space.key(FAMILY_HEAD, &rest), encoded);
            batch.put(space.key(FAMILY_MESSAGES, &rest), messages);
            self.blocks.insert(id, head);
        }
        if batch.is_empty() { Ok(()) } else { store.write(batch) }
    }

    /// All messages that the store has of a block.
    ///
    /// # Errors
    /// When the store cannot be read, or has something else there.
    pub(crate) fn read(
        &self,
        store: &dyn Reader,
        space: &Space,
        id: &SpillBlockId,
    ) -> Result<Option<Run>, StoreError> {
        let Some(Head { first, count, crc }) = self.blocks.get(id).copied() else {
            return Ok(None);
        };
        let bytes = store.get(&space.key(FAMILY_MESSAGES, &rest_of(id)))?;
        let messages = Bytes::from(bytes.unwrap_or_default());
        if crc32fast::hash(&messages) != crc {
            return Err(StoreError::failed(format!(
                "messages {first} and following to '{}' are damaged in the store",
                id.destination
            )));
        }
        Ok(Some(Run { first, count, messages }))
    }

    /// The next messages of a stream from `next` on, in memory or in the store.
    ///
    /// # Errors
    /// When the store cannot be read, or has something else there.
    pub(crate) fn next_run(
        &self,
        store: &dyn Reader,
        space: &Space,
        destination: &str,
        stream: &Stream,
        next: u64,
    ) -> Result<Option<Run>, StoreError> {
        let astray =
            |why: Garbled| StoreError::failed(format!("what is kept for '{destination}': {why}"));
        let (block, first, count) = match stream.find(next).map_err(astray)? {
            None => return Ok(None),
            Some(Found::InMemory(run)) => return Ok(Some(run)),
            Some(Found::Spilled { block, first, count }) => (block, first, count),
        };
        let id = SpillBlockId { destination: destination.to_owned(), block };
        let has_all =
            |whole: &Run| whole.first <= first && first + count <= whole.first + whole.count;
        let whole = self.read(store, space, &id)?.filter(has_all);
        let Some(whole) = whole else {
            return Err(StoreError::failed(format!(
                "message {first} to '{destination}' is not in the store"
            )));
        };
        let messages = skip_messages(&whole.messages, first - whole.first).map_err(astray)?;
        Ok(Some(Run { first, count, messages }))
    }

    /// All blocks, if something that referred to blocks is gone.
    pub(crate) fn take_suspects(&mut self) -> Vec<SpillBlockId> {
        match std::mem::take(&mut self.may_have_garbage) {
            true => self.blocks.keys().cloned().collect(),
            false => Vec::new(),
        }
    }

    /// Removes those of the blocks to which nobody refers.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn remove_garbage(
        &mut self,
        store: &mut dyn StateStore,
        space: &Space,
        suspects: Vec<SpillBlockId>,
        is_needed: impl Fn(&SpillBlockId) -> bool,
    ) -> Result<(), StoreError> {
        let mut gone = suspects;
        gone.retain(|id| self.blocks.contains_key(id) && !is_needed(id));
        if gone.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for id in gone {
            if self.blocks.remove(&id).is_none() {
                continue;
            }
            let rest = rest_of(&id);
            batch.delete(space.key(FAMILY_HEAD, &rest));
            batch.delete(space.key(FAMILY_MESSAGES, &rest));
        }
        store.write(batch)
    }
}

/// The rest of a block's key.
fn rest_of(id: &SpillBlockId) -> Vec<u8> {
    let mut rest = id.block.at.to_be_bytes().to_vec();
    rest.extend_from_slice(&id.block.crc.to_be_bytes());
    rest.extend_from_slice(id.destination.as_bytes());
    rest
}

fn id_of(rest: &[u8]) -> Option<SpillBlockId> {
    let (at, rest) = rest.split_first_chunk()?;
    let (crc, destination) = rest.split_first_chunk()?;
    let block = BlockKey { at: u64::from_be_bytes(*at), crc: u32::from_be_bytes(*crc) };
    Some(SpillBlockId { destination: String::from_utf8(destination.to_vec()).ok()?, block })
}

#[cfg(test)]
mod tests {
    use protocol::GroupId;
    use storage::MemoryStore;

    use super::*;

    #[test]
    fn nothing_is_taken_from_a_block_that_is_put_there_again() {
        let mut store = MemoryStore::new();
        let space = Space { group: GroupId(7), generation: 1 };
        let mut spill = Spill::open(&store, &space).unwrap();
        let id = SpillBlockId { destination: "b".into(), block: BlockKey { at: 100, crc: 7 } };
        let run = |first, messages| Run { first, count: 9 - first, messages };
        let (whole, rest) = (Bytes::from_static(b"all of it"), Bytes::from_static(b"the rest"));
        spill.put(&mut store, &space, vec![(id.clone(), run(5, rest.clone()))]).unwrap();
        spill.put(&mut store, &space, vec![(id.clone(), run(2, whole.clone()))]).unwrap();
        spill.put(&mut store, &space, vec![(id.clone(), run(5, rest))]).unwrap();
        assert_eq!(spill.read(&store, &space, &id), Ok(Some(run(2, whole.clone()))));
        let again = Spill::open(&store, &space).unwrap();
        assert_eq!(again.read(&store, &space, &id), Ok(Some(run(2, whole))));
        let mut batch = Batch::new();
        batch.put(space.key(FAMILY_MESSAGES, &rest_of(&id)), *b"all of ix");
        store.write(batch).unwrap();
        assert!(again.read(&store, &space, &id).is_err_and(|error| error.why.contains("damaged")));
    }
}
