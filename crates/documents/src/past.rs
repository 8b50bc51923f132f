//! Documents as they were at a time, as far as their versions are kept.
//!
//! The version of a time is the last one that was written up to then. A document that was removed
//! for good, or has expired, is in no past; whether versions were removed by retention is known,
//! and then nothing is guessed.

use protocol::{Document, Moment};
use query::Forgotten;
use storage::{Reader, Space, StoreError};

use crate::family;
use crate::names::Names;
use crate::partition::Partition;
use crate::record::Record;

/// What a document was at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionAt {
    /// It was not there.
    Nothing,
    /// The version of that time is not kept any more.
    Forgotten(Forgotten),
    /// Tombstones too.
    Version(Box<Document>),
}

/// The same, as it lies in the store.
pub(crate) enum RecordAt {
    Nothing,
    Forgotten(Forgotten),
    /// The latest version is of that time.
    Head,
    Older(Vec<u8>),
}

/// Where versions lie, and how their names are read.
pub(crate) struct Place<'a> {
    pub(crate) store: &'a dyn Reader,
    pub(crate) space: Space,
    pub(crate) names: &'a Names,
}

impl Place<'_> {
    /// The version of a time. `read` is told how long each version is that is looked at.
    pub(crate) fn record_at(
        &self,
        link: &str,
        head: &Record<'_>,
        at: Moment,
        read: &mut dyn FnMut(usize),
    ) -> Result<RecordAt, StoreError> {
        if head.updated <= at {
            return Ok(RecordAt::Head);
        }
        // The times of a document's versions never fall: all before `low` are of that time or
        // earlier ones, and all from `high` on are later.
        let (mut low, mut high) = (head.oldest, head.version);
        let (mut found, mut since) = (None, head.updated);
        while low < high {
            let middle = low + (high - low) / 2;
            let key = self.space.key(family::VERSION, &family::version_rest(link, middle));
            let Some(value) = self.store.get(&key)? else {
                return Err(StoreError::failed(format!("version {middle} of {link} is missing")));
            };
            read(value.len());
            let updated = Record::decode(&value, self.names)?.updated;
            if updated <= at {
                (low, found) = (middle + 1, Some(value));
            } else {
                (high, since) = (middle, updated);
            }
        }
        Ok(match found {
            Some(record) => RecordAt::Older(record),
            None if head.oldest == 0 => RecordAt::Nothing,
            None => {
                let link = link.to_owned();
                RecordAt::Forgotten(Forgotten { link, version: head.oldest, since })
            }
        })
    }
}

impl Partition {
    /// What the document was at that time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn version_at(
        &self,
        store: &dyn Reader,
        link: &str,
        at: Moment,
    ) -> Result<VersionAt, StoreError> {
        let head = store.get(&self.space.key(family::HEAD, link.as_bytes()))?;
        let Some(head) = head else { return Ok(VersionAt::Nothing) };
        let head = Record::decode(&head, &self.names)?;
        let place = Place { store, space: self.space, names: &self.names };
        let version = |record: Record<'_>| VersionAt::Version(Box::new(record.to_document(link)));
        Ok(match place.record_at(link, &head, at, &mut |_| ())? {
            RecordAt::Nothing => VersionAt::Nothing,
            RecordAt::Forgotten(forgotten) => VersionAt::Forgotten(forgotten),
            RecordAt::Head => version(head),
            RecordAt::Older(bytes) => version(Record::decode(&bytes, &self.names)?),
        })
    }

    /// The oldest version of a document that is kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn oldest_version(
        &self,
        store: &dyn Reader,
        link: &str,
    ) -> Result<Option<Forgotten>, StoreError> {
        let Some(head) = self.head(store, link)? else { return Ok(None) };
        let version = head.oldest;
        let oldest = self.version(store, link, version)?;
        let forgotten =
            |oldest: Document| Forgotten { link: link.to_owned(), version, since: oldest.updated };
        Ok(oldest.map(forgotten))
    }
}
