//! The base in the state store. It is a record, and in pieces the program's state and the output
//! state of that time.
//!
//! Applying an entry writes nothing. The state after the base is computed anew from the log. So the
//! state store holds of an instance only the base and the spilled blocks. A snapshot for a replica
//! that lags consists of these keys, and each of them fits into a frame.

use std::ops::ControlFlow;

use bytes::Bytes;
use protocol::{Position, Term};
use serde::{Deserialize, Serialize};
use storage::{Applied, Batch, Reader, Space, StateStore, StoreError};

use crate::history::input_state::InputState;
use crate::output::output_state::OutputState;
use crate::output::spill::{SpillBlockId, SpilledBlock};

/// The size of a piece. Programs cut their state themselves, about like this.
pub const CHUNK_BYTES: usize = 256 << 10;

const FAMILY_RECORD: u8 = 1;
const FAMILY_CHUNK: u8 = 3;

/// A program's state in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Names its pieces in this store. Names are counted up, so that no state is written over
    /// another.
    pub name: u64,
    pub chunks: u32,
    pub bytes: u64,
    /// CRC-32 of all pieces.
    pub crc: u32,
}

/// The encoded output state. Its pieces follow those of the program's state, under the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPieces {
    pub chunks: u32,
    pub bytes: u64,
    /// CRC-32 of all pieces.
    pub crc: u32,
}

/// Where a replica's program would begin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecord {
    pub position: Position,
    pub term: Term,
    pub input_state: InputState,
    /// None when no program has ever given a state.
    pub blob: Option<Blob>,
    pub output: OutputPieces,
    /// The spilled blocks that belong to the output state, in order.
    pub blocks: Vec<SpilledBlock>,
}

impl BaseRecord {
    /// How many pieces there are, of the program's state and of the output state.
    pub fn pieces(&self) -> u32 {
        self.blob.map_or(0, |blob| blob.chunks + self.output.chunks)
    }

    /// Whether the pieces that were written are those of the record.
    pub(crate) fn matches(&self, written: &BlobWriter) -> bool {
        let Some(blob) = &self.blob else { return false };
        let mut all = crc32fast::Hasher::new_with_initial_len(blob.crc, blob.bytes);
        all.combine(&crc32fast::Hasher::new_with_initial_len(self.output.crc, self.output.bytes));
        (written.chunks, written.bytes, written.crc())
            == (self.pieces(), blob.bytes + self.output.bytes, all.finalize())
    }

    pub(crate) fn refers_to(&self, id: &SpillBlockId) -> bool {
        names(&self.blocks, id)
    }
}

/// Whether a block is among these, which are in order.
pub(crate) fn names(blocks: &[SpilledBlock], id: &SpillBlockId) -> bool {
    blocks.binary_search_by(|block| block.id.cmp(id)).is_ok()
}

/// Writes a state piece by piece. Nothing refers to the state before it is adopted as the base.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    name: u64,
    chunks: u32,
    bytes: u64,
    hasher: crc32fast::Hasher,
}

impl BlobWriter {
    pub(crate) fn new(name: u64) -> Self {
        Self { name, chunks: 0, bytes: 0, hasher: crc32fast::Hasher::new() }
    }

    /// The number that the next piece will have.
    pub(crate) fn next(&self) -> u32 {
        self.chunks
    }

    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn put(
        &mut self,
        store: &mut dyn StateStore,
        space: &Space,
        piece: &Bytes,
    ) -> Result<(), StoreError> {
        self.hasher.update(piece);
        self.bytes += piece.len() as u64;
        let mut batch = Batch::default();
        batch.put(chunk_key(space, self.name, self.chunks), piece.to_vec());
        self.chunks += 1;
        store.write(batch)
    }

    /// CRC-32 of what there is so far.
    pub(crate) fn crc(&self) -> u32 {
        self.hasher.clone().finalize()
    }

    /// What there is so far.
    pub(crate) fn blob(&self) -> Blob {
        let Self { name, chunks, bytes, .. } = self;
        Blob { name: *name, chunks: *chunks, bytes: *bytes, crc: self.crc() }
    }

    /// Puts an encoded output state behind the program's state.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn put_output(
        &mut self,
        store: &mut dyn StateStore,
        space: &Space,
        encoded: &Bytes,
    ) -> Result<OutputPieces, StoreError> {
        let before = self.chunks;
        for start in (0..encoded.len()).step_by(CHUNK_BYTES) {
            let end = encoded.len().min(start + CHUNK_BYTES);
            self.put(store, space, &encoded.slice(start..end))?;
        }
        let (chunks, bytes) = (self.chunks - before, encoded.len() as u64);
        Ok(OutputPieces { chunks, bytes, crc: crc32fast::hash(encoded) })
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn drop_all(
        self,
        store: &mut dyn StateStore,
        space: &Space,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for number in 0..self.chunks {
            batch.delete(chunk_key(space, self.name, number));
        }
        if batch.is_empty() { Ok(()) } else { store.write(batch) }
    }
}

pub(crate) fn encode_output(output: &OutputState) -> Bytes {
    Bytes::from(postcard::to_stdvec(output).expect("an output state encodes"))
}

/// Removes the pieces of all states but that one. Some were being written when this replica, or the
/// one whose snapshot came, was stopped.
///
/// # Errors
/// When the store fails.
pub(crate) fn sweep(
    store: &mut dyn StateStore,
    space: &Space,
    kept: Option<Blob>,
) -> Result<(), StoreError> {
    let (from, to) = space.range(FAMILY_CHUNK);
    let kept = kept.map(|blob| blob.name.to_be_bytes());
    let mut batch = Batch::default();
    store.scan(&from, &to, false, &mut |key, _| {
        let name = space.rest(key).get(..8);
        if kept.is_none() || name != kept.as_ref().map(<[u8; 8]>::as_slice) {
            batch.delete(key);
        }
        ControlFlow::Continue(())
    })?;
    if batch.is_empty() { Ok(()) } else { store.write(batch) }
}

/// # Errors
/// When the store cannot be read.
pub fn read_record(store: &dyn Reader, space: &Space) -> Result<BaseRecord, StoreError> {
    let Some(bytes) = store.get(&space.key(FAMILY_RECORD, b""))? else {
        return Ok(BaseRecord::default());
    };
    postcard::from_bytes(&bytes).map_err(|error| {
        StoreError::failed(format!("the base of an instance cannot be read: {error}"))
    })
}

/// The output state at the base.
///
/// # Errors
/// When the store cannot be read, or has something else there.
pub(crate) fn read_output(
    store: &dyn Reader,
    space: &Space,
    record: &BaseRecord,
) -> Result<OutputState, StoreError> {
    let Some(blob) = &record.blob else { return Ok(OutputState::default()) };
    let mut bytes = Vec::new();
    for number in blob.chunks..record.pieces() {
        bytes.extend_from_slice(&read_chunk(store, space, blob, number)?.unwrap_or_default());
    }
    if crc32fast::hash(&bytes) != record.output.crc {
        return Err(StoreError::failed("the outputs of an instance are damaged in the store"));
    }
    postcard::from_bytes(&bytes).map_err(|error| {
        StoreError::failed(format!("the outputs of an instance cannot be read: {error}"))
    })
}

/// A piece. None when the store does not have it, or not any more.
///
/// # Errors
/// When the store cannot be read.
pub fn read_chunk(
    store: &dyn Reader,
    space: &Space,
    blob: &Blob,
    number: u32,
) -> Result<Option<Bytes>, StoreError> {
    Ok(store.get(&chunk_key(space, blob.name, number))?.map(Bytes::from))
}

/// Brings a record into force, with the position at which the log may be cut, and removes the
/// pieces of the former one.
///
/// # Errors
/// When the store cannot be written.
pub(crate) fn write_record(
    store: &mut dyn StateStore,
    space: &Space,
    record: &BaseRecord,
    members: Vec<u8>,
    former: &BaseRecord,
) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch
        .put(space.key(FAMILY_RECORD, b""), postcard::to_stdvec(record).expect("a record encodes"));
    let (position, term) = (record.position, record.term);
    space.put_applied(&mut batch, &Applied { position, term, members });
    if let Some(blob) = former.blob
        && record.blob.map(|blob| blob.name) != Some(blob.name)
    {
        for number in 0..former.pieces() {
            batch.delete(chunk_key(space, blob.name, number));
        }
    }
    store.write(batch)
}

fn chunk_key(space: &Space, name: u64, number: u32) -> Vec<u8> {
    let mut rest = name.to_be_bytes().to_vec();
    rest.extend_from_slice(&number.to_be_bytes());
    space.key(FAMILY_CHUNK, &rest)
}
