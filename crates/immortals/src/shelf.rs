//! The shelf: what is kept for destinations and is too much for memory, in the state store.
//!
//! A cell is written once and read when it is sent. It is removed when nobody refers to it any more:
//! neither the program's voice, nor the base, nor a checkpoint that is being taken or comes in. So a
//! checkpoint does not copy what waits, however much that is: its record names the cells. A replica to
//! which the checkpoint goes asks for those that it lacks; most often it has them, since its own program
//! has said the same.
//!
//! Nothing of it need survive a crash but what the base refers to, and that was written before the base.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use protocol::immortal::{Garbled, skip_messages};
use serde::{Deserialize, Serialize};
use storage::{Batch, Reader, Space, StateStore, StoreError};

use crate::base::{FAMILY_CELL, FAMILY_CELL_HEAD};
use crate::instance::Instance;
use crate::io::Context;
use crate::stream::{BlockKey, Found, Run, Stream};
use crate::voice::OutputState;

/// Names a cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpillBlockId {
    pub destination: String,
    pub cell: BlockKey,
}

/// The part of a cell that is needed of the shelf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpilledBlock {
    pub id: SpillBlockId,
    pub first: u64,
    pub count: u64,
}

/// What a shelf has of a cell: all up to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    first: u64,
    count: u64,
    /// CRC-32 of the messages.
    crc: u32,
}

/// What is on the shelf.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    cells: BTreeMap<SpillBlockId, Head>,
    /// There may be some to which nobody refers.
    is_doubtful: bool,
}

impl Shelf {
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn open(store: &dyn Reader, space: &Space) -> Result<Self, StoreError> {
        let (from, to) = space.range(FAMILY_CELL_HEAD);
        let mut cells = BTreeMap::new();
        let mut broken = false;
        store.scan(&from, &to, false, &mut |key, value| {
            match (id_of(space.rest(key)), postcard::from_bytes(value)) {
                (Some(id), Ok(head)) => drop(cells.insert(id, head)),
                _ => broken = true,
            }
            ControlFlow::Continue(())
        })?;
        if broken {
            return Err(StoreError("the shelf of an instance cannot be read".into()));
        }
        Ok(Self { cells, is_doubtful: true })
    }

    /// Somebody who referred to cells is gone.
    pub(crate) fn doubt(&mut self) {
        self.is_doubtful = true;
    }

    pub(crate) fn has(&self, wanted: &SpilledBlock) -> bool {
        self.cells.get(&wanted.id).is_some_and(|head| head.first <= wanted.first)
    }

    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn put(
        &mut self,
        store: &mut dyn StateStore,
        space: &Space,
        cells: Vec<(SpillBlockId, Run)>,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for (id, Run { first, count, messages }) in cells {
            // Somebody else may refer to more of it.
            if self.has(&SpilledBlock { id: id.clone(), first, count }) {
                continue;
            }
            let head = Head { first, count, crc: crc32fast::hash(&messages) };
            let rest = rest_of(&id);
            let encoded = postcard::to_stdvec(&head).expect("a head encodes");
            batch.put(space.key(FAMILY_CELL_HEAD, &rest), encoded);
            batch.put(space.key(FAMILY_CELL, &rest), messages);
            self.cells.insert(id, head);
        }
        if batch.is_empty() { Ok(()) } else { store.write(batch) }
    }

    /// Those of these cells that the program here has said, too, and that are in memory yet.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn put_those_of(
        &mut self,
        store: &mut dyn StateStore,
        space: &Space,
        wanted: &[SpilledBlock],
        voice: Option<&mut OutputState>,
    ) -> Result<(), StoreError> {
        let Some(voice) = voice else { return Ok(()) };
        for cell in wanted {
            if let Some(piece) = voice.shelve_cell(&cell.id) {
                self.put(store, space, vec![(cell.id.clone(), piece)])?;
            }
        }
        Ok(())
    }

    /// All messages that there are of a cell, with the number of the first.
    ///
    /// # Errors
    /// When the store cannot be read, or has something else there.
    pub(crate) fn read(
        &self,
        store: &dyn Reader,
        space: &Space,
        id: &SpillBlockId,
    ) -> Result<Option<Run>, StoreError> {
        let Some(Head { first, count, crc }) = self.cells.get(id).copied() else { return Ok(None) };
        let bytes = store.get(&space.key(FAMILY_CELL, &rest_of(id)))?;
        let messages = Bytes::from(bytes.unwrap_or_default());
        if crc32fast::hash(&messages) != crc {
            return Err(StoreError(format!(
                "messages {first} and following to '{}' are damaged in the store",
                id.destination
            )));
        }
        Ok(Some(Run { first, count, messages }))
    }

    /// Some messages of a stream, wherever they are.
    ///
    /// # Errors
    /// When the store cannot be read, or has something else there.
    pub(crate) fn piece(
        &self,
        store: &dyn Reader,
        space: &Space,
        (destination, stream): (&str, &Stream),
        next: u64,
    ) -> Result<Option<Run>, StoreError> {
        let astray = |why: Garbled| StoreError(format!("what is kept for '{destination}': {why}"));
        let (cell, first, count) = match stream.find(next).map_err(astray)? {
            None => return Ok(None),
            Some(Found::Here(piece)) => return Ok(Some(piece)),
            Some(Found::Shelved { cell, first, count }) => (cell, first, count),
        };
        let id = SpillBlockId { destination: destination.to_owned(), cell };
        let has_all =
            |whole: &Run| whole.first <= first && first + count <= whole.first + whole.count;
        let whole = self.read(store, space, &id)?.filter(has_all);
        let Some(whole) = whole else {
            return Err(StoreError(format!(
                "message {first} to '{destination}' is not on the shelf"
            )));
        };
        let messages = skip_messages(&whole.messages, first - whole.first).map_err(astray)?;
        Ok(Some(Run { first, count, messages }))
    }
}

impl Instance {
    /// Puts on the shelf what is too much for memory, and removes from it what nobody needs.
    pub(crate) fn mind_shelf(&mut self, ground: &mut Context<'_>) -> Result<(), StoreError> {
        let mut gone = Vec::new();
        if let Some(session) = &mut self.session {
            gone = std::mem::take(&mut session.voice.gone);
            let cells = session.voice.shelve();
            self.shelf.put(ground.store, &ground.space, cells)?;
        }
        // What was got for a checkpoint that never came as a whole may be wanted for the next one.
        if self.incoming.is_none() && std::mem::take(&mut self.shelf.is_doubtful) {
            gone = self.shelf.cells.keys().cloned().collect();
        }
        gone.retain(|id| self.shelf.cells.contains_key(id) && !self.refers_to(id));
        if gone.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for id in gone {
            let rest = rest_of(&id);
            batch.delete(ground.space.key(FAMILY_CELL_HEAD, &rest));
            batch.delete(ground.space.key(FAMILY_CELL, &rest));
            self.shelf.cells.remove(&id);
        }
        ground.store.write(batch)
    }

    fn refers_to(&self, id: &SpillBlockId) -> bool {
        let among = |cells: &[SpilledBlock]| cells.binary_search_by(|cell| cell.id.cmp(id)).is_ok();
        let session = self.session.as_ref();
        let taking = session.and_then(|session| session.taking.as_ref()?.spoken.as_ref());
        let coming = self.incoming.as_ref().and_then(|incoming| incoming.whole.as_ref());
        among(&self.base.cells)
            || taking.is_some_and(|spoken| among(&spoken.cells))
            || coming.is_some_and(|record| among(&record.cells))
            || session.is_some_and(|session| {
                let stream = session.voice.streams.get(&id.destination);
                stream.is_some_and(|stream| stream.has_shelved(id.cell))
            })
    }
}

/// The rest of a cell's key.
fn rest_of(id: &SpillBlockId) -> Vec<u8> {
    let mut rest = id.cell.at.to_be_bytes().to_vec();
    rest.extend_from_slice(&id.cell.crc.to_be_bytes());
    rest.extend_from_slice(id.destination.as_bytes());
    rest
}

fn id_of(rest: &[u8]) -> Option<SpillBlockId> {
    let (at, rest) = rest.split_first_chunk()?;
    let (crc, destination) = rest.split_first_chunk()?;
    let cell = BlockKey { at: u64::from_be_bytes(*at), crc: u32::from_be_bytes(*crc) };
    Some(SpillBlockId { destination: String::from_utf8(destination.to_vec()).ok()?, cell })
}

#[cfg(test)]
mod tests {
    use protocol::GroupId;
    use storage::MemoryStore;

    use super::*;

    #[test]
    fn nothing_is_taken_from_a_cell_that_is_put_there_again() {
        let mut store = MemoryStore::new();
        let space = Space { group: GroupId(7), generation: 1 };
        let mut shelf = Shelf::open(&store, &space).unwrap();
        let id = SpillBlockId { destination: "b".into(), cell: BlockKey { at: 100, crc: 7 } };
        let piece = |first, messages| Run { first, count: 9 - first, messages };
        let (whole, rest) = (Bytes::from_static(b"all of it"), Bytes::from_static(b"the rest"));
        shelf.put(&mut store, &space, vec![(id.clone(), piece(5, rest.clone()))]).unwrap();
        shelf.put(&mut store, &space, vec![(id.clone(), piece(2, whole.clone()))]).unwrap();
        shelf.put(&mut store, &space, vec![(id.clone(), piece(5, rest))]).unwrap();
        assert_eq!(shelf.read(&store, &space, &id), Ok(Some(piece(2, whole.clone()))));
        let again = Shelf::open(&store, &space).unwrap();
        assert_eq!(again.read(&store, &space, &id), Ok(Some(piece(2, whole))));
        let mut batch = Batch::new();
        batch.put(space.key(FAMILY_CELL, &rest_of(&id)), *b"all of ix");
        store.write(batch).unwrap();
        assert!(again.read(&store, &space, &id).is_err_and(|error| error.0.contains("damaged")));
    }
}
