//! The partition: what it is made of, how it is opened and read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::{Document, Epoch, GroupId, Moment, Position};
use storage::{Reader, Space, StoreError};

use crate::answers::Answers;
use crate::cache::{CACHE_BYTES, Cache, Head};
use crate::changes::Changes;
use crate::command::{Recorded, RequestKey};
use crate::family;
use crate::inbox::Inbox;
use crate::index::Index;
use crate::names::Names;
use crate::outbox::{KeptMessage, Outbox};
use crate::record::Record;
use crate::view::View;

/// The epoch of a fence, for who reads a partition without opening it. The key begins with its
/// family.
pub fn fence_at_rest(key: &[u8], value: &[u8]) -> Option<Epoch> {
    let epoch = value.try_into().ok().filter(|_| key.first() == Some(&family::FENCE))?;
    Some(protocol::Term(u64::from_be_bytes(epoch)))
}

/// The state machine of one partition.
#[derive(Debug)]
pub struct Partition {
    pub(crate) space: Space,
    /// Shared with the views of queries under way.
    pub(crate) names: Arc<Names>,
    pub(crate) fences: BTreeMap<GroupId, Epoch>,
    pub(crate) answers: Answers,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) cache: RefCell<Cache>,
    /// No document expires before that; it may be later.
    pub(crate) expires_from: Cell<Moment>,
    /// How many documents are not deleted.
    pub(crate) live: u64,
    pub(crate) index: Index,
    pub(crate) changes: Changes,
}

impl Partition {
    /// # Errors
    /// When the store cannot be read, or holds something that this version cannot read.
    pub fn open(store: &dyn Reader, space: Space) -> Result<Self, StoreError> {
        let broken =
            |what: &str| StoreError::failed(format!("group {} has broken {what}", space.group));
        let mut fences = Some(BTreeMap::new());
        let (from, to) = space.range(family::FENCE);
        store.scan(&from, &to, false, &mut |key, value| {
            let fence = space.rest(key).try_into().ok().zip(value.try_into().ok());
            fences = fences.take().zip(fence).map(|(mut fences, (partition, epoch))| {
                let partition = GroupId(u32::from_be_bytes(partition));
                fences.insert(partition, protocol::Term(u64::from_be_bytes(epoch)));
                fences
            });
            ControlFlow::Continue(())
        })?;
        let live = match store.get(&space.key(family::COUNT, b""))? {
            None => 0,
            Some(bytes) => {
                u64::from_be_bytes(bytes.try_into().map_err(|_| broken("count of documents"))?)
            }
        };
        Ok(Self {
            space,
            names: Arc::new(Names::open(store, space)?),
            fences: fences.ok_or_else(|| broken("fences"))?,
            answers: Answers::default(),
            outbox: Outbox::open(store, space)?,
            inbox: Inbox::open(store, space)?,
            cache: RefCell::new(Cache::new(CACHE_BYTES)),
            expires_from: Cell::new(Moment(0)),
            live,
            index: Index::open(store, space)?,
            changes: Changes::default(),
        })
    }

    /// How many bytes of latest documents are kept in memory (default 4 MiB).
    pub fn set_cache_bytes(&mut self, bytes: usize) {
        self.cache.get_mut().set_bytes_max(bytes);
    }

    /// How many bytes of the newest changes are kept for those who watch (default 4 MiB).
    pub fn set_changes_bytes(&mut self, bytes: usize) {
        self.changes.set_bytes_max(bytes);
    }

    /// An entry of the log was passed that means nothing here.
    pub fn passed(&mut self, position: Position) {
        self.changes.entry(position);
    }

    /// The newest changes.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The latest version, tombstones and expired ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn latest(
        &self,
        store: &dyn Reader,
        link: &str,
    ) -> Result<Option<Arc<Document>>, StoreError> {
        Ok(self.head(store, link)?.map(|head| head.document))
    }

    pub(crate) fn head(&self, store: &dyn Reader, link: &str) -> Result<Option<Head>, StoreError> {
        let mut cache = self.cache.borrow_mut();
        if let Some(head) = cache.get(link) {
            return Ok(head);
        }
        let head = match store.get(&self.space.key(family::HEAD, link.as_bytes()))? {
            None => None,
            Some(bytes) => {
                let record = Record::decode(&bytes, &self.names)?;
                let document = Arc::new(record.to_document(link));
                let (oldest, task, position) = (record.oldest, record.task, record.position);
                Some(Head { document, oldest, task, position })
            }
        };
        cache.put(link, head.clone());
        Ok(head)
    }

    /// A version that is still retained.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn version(
        &self,
        store: &dyn Reader,
        link: &str,
        version: u64,
    ) -> Result<Option<Document>, StoreError> {
        let Some(head) = self.head(store, link)? else { return Ok(None) };
        if head.document.version == version {
            return Ok(Some(Document::clone(&head.document)));
        }
        if !(head.oldest..head.document.version).contains(&version) {
            return Ok(None);
        }
        self.retained(store, link, version).map(Some)
    }

    /// A version before the latest that must be there.
    pub(crate) fn retained(
        &self,
        store: &dyn Reader,
        link: &str,
        version: u64,
    ) -> Result<Document, StoreError> {
        let key = self.space.key(family::VERSION, &family::version_rest(link, version));
        let bytes = store
            .get(&key)?
            .ok_or_else(|| StoreError::failed(format!("version {version} of {link} is missing")))?;
        Ok(Record::decode(&bytes, &self.names)?.to_document(link))
    }

    /// What was answered to the request with that key. The caller compares the digest.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recorded(
        &self,
        store: &dyn Reader,
        key: &RequestKey,
    ) -> Result<Option<Recorded>, StoreError> {
        self.answers.recorded(store, self.space, key)
    }

    /// The links of all tasks that have not reached a final stage.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tasks_in_progress(&self, store: &dyn Reader) -> Result<Vec<String>, StoreError> {
        let (from, to) = self.space.range(family::TASK);
        let mut links = Vec::new();
        store.scan(&from, &to, false, &mut |key, _| {
            links.push(String::from_utf8_lossy(self.space.rest(key)).into_owned());
            ControlFlow::Continue(())
        })?;
        Ok(links)
    }

    /// Whether a document's expiration is due: then the owner proposes `Command::Expire`, and
    /// again while this is true. Cheap when nothing is due.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn expiration_due(&self, store: &dyn Reader, at: Moment) -> Result<bool, StoreError> {
        if at < self.expires_from.get() {
            return Ok(false);
        }
        let mut first = Moment(u64::MAX);
        let from = self.space.key(family::EXPIRATION, &self.expires_from.get().0.to_be_bytes());
        let (_, to) = self.space.range(family::EXPIRATION);
        store.scan(&from, &to, false, &mut |key, _| {
            first = family::split_time(self.space.rest(key)).map_or(first, |(at, _)| Moment(at));
            ControlFlow::Break(())
        })?;
        self.expires_from.set(first);
        Ok(first <= at)
    }

    /// The links of up to `links_max` documents whose expiration is due at that time, with it.
    pub(crate) fn due(
        &self,
        store: &dyn Reader,
        at: Moment,
        links_max: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.view().due(store, at, links_max)
    }

    /// What a query needs to know of the partition as it is now, beside the store.
    pub fn view(&self) -> View {
        View {
            space: self.space,
            names: Arc::clone(&self.names),
            fields: Arc::clone(&self.index.fields),
            bounds: self.index.bounds,
            is_indexed: self.index.is_complete(),
            live: self.live,
            expires_from: self.expires_from.get(),
        }
    }

    /// The epoch that a source from that partition must have at least; 0 if none was ever seen.
    pub fn fence(&self, partition: GroupId) -> Epoch {
        self.fences.get(&partition).copied().unwrap_or_default()
    }

    /// What documents have sent to instances.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Which writes of instances were taken.
    pub fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The messages to an instance from that number on: see [`Outbox::read`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn messages(
        &self,
        store: &dyn Reader,
        to: (&str, u64),
        bytes_max: usize,
    ) -> Result<Vec<KeptMessage>, StoreError> {
        self.outbox.read(store, self.space, to, bytes_max)
    }

    /// How many documents there are that are not deleted (expired ones count until they go).
    pub fn document_count(&self) -> u64 {
        self.live
    }

    /// Of everything that is not derived: equal on replicas at equal positions. Reads it all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn digest(&self, store: &dyn Reader) -> Result<u64, StoreError> {
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |bytes: &[u8]| {
            for chunk in bytes.chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                digest = (digest ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                digest ^= digest >> 29;
            }
            // The length, so that what ends in zeros differs from what ends sooner.
            digest = digest.wrapping_add(u64::try_from(bytes.len()).expect("a length fits"));
        };
        for family in family::STATE {
            let (from, to) = self.space.range(family);
            store.scan(&from, &to, false, &mut |key, value| {
                mix(&[family]);
                mix(self.space.rest(key));
                mix(value);
                ControlFlow::Continue(())
            })?;
        }
        Ok(digest)
    }
}
