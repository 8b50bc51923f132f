//! The partition: what it is made of, how it is opened and read.

use std::sync::Arc;

use protocol::{Document, Epoch, GroupId, Moment};
use storage::{Applied, Reader, Space, StateStore, StoreError};

use crate::command::{AppliedCommand, Recorded, RequestKey};
use crate::compiled::CompiledQuery;
use crate::page::{Cursor, Page};
use crate::search::Search;

/// The state machine of one partition.
#[derive(Debug)]
pub struct Partition {
    _space: Space,
}

impl Partition {
    /// # Errors
    /// When the store cannot be read, or holds something that this version cannot read.
    pub fn open(_store: &dyn Reader, _space: Space) -> Result<Self, StoreError> {
        unimplemented!("to come")
    }

    /// How many bytes of latest documents are kept in memory (default 4 MiB).
    pub fn set_cache_bytes(&mut self, _bytes: usize) {
        unimplemented!("to come")
    }

    /// Applies an entry. Deterministic: the same on every replica. Writes its one batch itself,
    /// together with `applied`, whatever the outcome is.
    ///
    /// # Errors
    /// When the store fails, or the command is of a later format: the node cannot go on.
    pub fn apply(
        &mut self,
        _store: &mut dyn StateStore,
        _applied: Applied,
        _command: &[u8],
    ) -> Result<AppliedCommand, StoreError> {
        unimplemented!("to come")
    }

    /// The latest version, tombstones and expired ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn latest(
        &self,
        _store: &dyn Reader,
        _link: &str,
    ) -> Result<Option<Arc<Document>>, StoreError> {
        unimplemented!("to come")
    }

    /// A version that is still retained.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn version(
        &self,
        _store: &dyn Reader,
        _link: &str,
        _version: u64,
    ) -> Result<Option<Document>, StoreError> {
        unimplemented!("to come")
    }

    /// What was answered to the request with that key. The caller compares the digest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recorded(
        &self,
        _store: &dyn Reader,
        _key: &RequestKey,
    ) -> Result<Option<Recorded>, StoreError> {
        unimplemented!("to come")
    }

    /// The links of all tasks that have not reached a final stage.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tasks_in_progress(&self, _store: &dyn Reader) -> Result<Vec<String>, StoreError> {
        unimplemented!("to come")
    }

    /// Whether a document's expiration is due: then the owner proposes `Command::Expire`, and
    /// again while this is true. Cheap when nothing is due.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn expiration_due(&self, _store: &dyn Reader, _at: Moment) -> Result<bool, StoreError> {
        unimplemented!("to come")
    }

    /// The epoch that a source from that partition must have at least; 0 if none was ever seen.
    pub fn fence(&self, _partition: GroupId) -> Epoch {
        unimplemented!("to come")
    }

    /// How many documents there are that are not deleted (expired ones count until they go).
    pub fn document_count(&self) -> u64 {
        unimplemented!("to come")
    }

    /// Brings the index further: about `budget` documents. True when nothing is left.
    ///
    /// # Errors
    /// When the store fails.
    pub fn index(
        &mut self,
        _store: &mut dyn StateStore,
        _budget: usize,
    ) -> Result<bool, StoreError> {
        unimplemented!("to come")
    }

    /// Whether the index reflects all that was applied.
    pub fn is_indexed(&self) -> bool {
        unimplemented!("to come")
    }

    /// Throws the index away; it is made again by the next calls of [`Partition::index`].
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget_index(&mut self, _store: &mut dyn StateStore) -> Result<(), StoreError> {
        unimplemented!("to come")
    }

    /// The hits after `after`, at most `limit`, as of the applied state. To be fast it wants
    /// [`Partition::index`] to have returned true; it is right all the same.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn query(
        &self,
        _store: &dyn Reader,
        _query: &CompiledQuery,
        _after: Option<&Cursor>,
        _limit: usize,
        _now: Moment,
    ) -> Result<Page, StoreError> {
        unimplemented!("to come")
    }

    /// Begins a query that is run in steps by [`Partition::step`].
    pub fn search(
        &self,
        _query: Arc<CompiledQuery>,
        _after: Option<&Cursor>,
        _limit: usize,
        _now: Moment,
    ) -> Search {
        unimplemented!("to come")
    }

    /// Looks at about `budget` documents more. The page, once it is complete.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn step(
        &self,
        _store: &dyn Reader,
        _search: &mut Search,
        _budget: usize,
    ) -> Result<Option<Page>, StoreError> {
        unimplemented!("to come")
    }

    /// Of everything that is not derived: equal on replicas at equal positions. Reads it all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn digest(&self, _store: &dyn Reader) -> Result<u64, StoreError> {
        unimplemented!("to come")
    }
}
