//! The base that a replica has now, the first state on its way through the log, and states that are
//! being written or will not be completed.

use bytes::Bytes;
use protocol::{Position, Term};
use storage::{Reader, Space, StoreError};

use crate::base::record::{
    BaseRecord, BlobWriter, encode_output, read_record, sweep, write_record,
};
use crate::context::Context;
use crate::history::entry::GenesisEnd;
use crate::history::input_state::InputState;
use crate::output::output_state::OutputState;

pub(crate) struct Base {
    pub(crate) record: BaseRecord,
    /// The position of the record in the store. A base without a state moves in memory only.
    written: Position,
    /// The first state, as far as its pieces are applied.
    genesis: Option<BlobWriter>,
    /// States that will not be completed. Their pieces are removed at the next chance.
    discarded: Vec<BlobWriter>,
    /// The name that was last given to a state.
    names: u64,
    /// The store was swept: it holds no pieces that an earlier life of this replica has left.
    is_swept: bool,
}

impl Base {
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn open(store: &dyn Reader, space: &Space) -> Result<Self, StoreError> {
        let record = read_record(store, space)?;
        Ok(Self {
            written: record.position,
            genesis: None,
            discarded: Vec::new(),
            names: record.blob.map_or(0, |blob| blob.name),
            is_swept: false,
            record,
        })
    }

    /// Another replica's base is in the space now. What was being written is gone with the space
    /// that was replaced.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn reopen(&mut self, store: &dyn Reader, space: &Space) -> Result<(), StoreError> {
        let names = self.names;
        *self = Self::open(store, space)?;
        self.names = self.names.max(names);
        Ok(())
    }

    pub(crate) fn position(&self) -> Position {
        self.record.position
    }

    pub(crate) fn has_state(&self) -> bool {
        self.record.blob.is_some()
    }

    /// A state to be written piece by piece. What an earlier life of this replica has left is
    /// removed first, since later it could not be distinguished from the pieces of this state.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn new_state(&mut self, cx: &mut Context<'_>) -> Result<BlobWriter, StoreError> {
        self.sweep(cx)?;
        self.names += 1;
        Ok(BlobWriter::new(self.names))
    }

    /// That state will not be completed.
    pub(crate) fn discard(&mut self, state: Option<BlobWriter>) {
        self.discarded.extend(state);
    }

    /// # Errors
    /// When the store fails.
    pub(crate) fn remove_discarded(&mut self, cx: &mut Context<'_>) -> Result<(), StoreError> {
        for state in std::mem::take(&mut self.discarded) {
            state.drop_all(cx.store, &cx.space)?;
        }
        Ok(())
    }

    /// Removes, once, what an earlier life of this replica has left.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn sweep(&mut self, cx: &mut Context<'_>) -> Result<(), StoreError> {
        if !std::mem::replace(&mut self.is_swept, true) {
            sweep(cx.store, &cx.space, self.record.blob)?;
        }
        Ok(())
    }

    /// Before there is any state, the base moves on with the log.
    pub(crate) fn follow_log(&mut self, position: Position, term: Term, inputs: &InputState) {
        if inputs.genesis.is_none() && self.genesis.is_none() {
            (self.record.position, self.record.term) = (position, term);
        }
    }

    /// Brings a record into force.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn adopt(
        &mut self,
        cx: &mut Context<'_>,
        record: BaseRecord,
    ) -> Result<(), StoreError> {
        assert!(
            record.position >= self.record.position,
            "Invariant: the base never goes back, not from {} to {}",
            self.record.position,
            record.position
        );
        let members = cx.entries.members_at(record.position);
        write_record(cx.store, &cx.space, &record, members, &self.record)?;
        self.written = record.position;
        self.record = record;
        Ok(())
    }

    /// Writes the record if the store does not have it.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn write(&mut self, cx: &mut Context<'_>) -> Result<Position, StoreError> {
        if self.written != self.record.position {
            let record = self.record.clone();
            self.adopt(cx, record)?;
        }
        Ok(self.record.position)
    }

    /// A piece of the first state is applied. The result of the last one is the whole state.
    ///
    /// # Errors
    /// When the store fails, or the piece does not fit those before it.
    pub(crate) fn take_genesis(
        &mut self,
        cx: &mut Context<'_>,
        first: bool,
        chunk: &Bytes,
        last: Option<&GenesisEnd>,
    ) -> Result<Option<BlobWriter>, StoreError> {
        if first {
            let former = self.genesis.take();
            self.discard(former);
            self.genesis = Some(self.new_state(cx)?);
        }
        let Some(writer) = &mut self.genesis else {
            let text = "a piece of the first state stands in the log before its first piece";
            return Err(StoreError::failed(text));
        };
        if !chunk.is_empty() {
            writer.put(cx.store, &cx.space, chunk)?;
        }
        let Some(end) = last else { return Ok(None) };
        let writer = self.genesis.take().expect("it was just written to");
        let (found, expected) = (writer.crc(), end.crc);
        if found != expected {
            return Err(StoreError::failed(format!(
                "the first state has checksum {found:08x} in the log, and its end says {expected:08x}"
            )));
        }
        Ok(Some(writer))
    }

    /// Makes the first state the base.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn adopt_genesis(
        &mut self,
        cx: &mut Context<'_>,
        mut state: BlobWriter,
        position: Position,
        term: Term,
        input_state: InputState,
    ) -> Result<(), StoreError> {
        let blob = Some(state.blob());
        let encoded = encode_output(&OutputState::default());
        let output = state.put_output(cx.store, &cx.space, &encoded)?;
        let blocks = Vec::new();
        self.adopt(cx, BaseRecord { position, term, input_state, blob, output, blocks })
    }
}
