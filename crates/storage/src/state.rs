//! The ordered key-value store that holds the state of all groups of a node.

use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;

/// What is written to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put(Vec<u8>),
    /// The same, and who writes it promises that the key is not there. When such a key is deleted
    /// while its value is still in memory, nothing of it ever gets to the disk.
    PutNew(Vec<u8>),
    Delete,
}

impl Write {
    /// The new value, if there is one.
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Put(value) | Self::PutNew(value) => Some(value),
            Self::Delete => None,
        }
    }
}

/// Writes that happen together or not at all. A later write to a key wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys and what is written to them.
    pub writes: Vec<(Vec<u8>, Write)>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), Write::Put(value.into())));
    }

    /// See [`Write::PutNew`].
    pub fn put_new(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), Write::PutNew(value.into())));
    }

    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.push((key.into(), Write::Delete));
    }

    /// How many writes it has.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// The store did not do as told; the node cannot go on with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    pub why: String,
    /// What was written is not there any more, or not as it was written. Anything else may be well
    /// again at the next start.
    pub is_damage: bool,
}

impl StoreError {
    pub fn failed(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_damage: false }
    }

    pub fn damaged(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_damage: true }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_damage { "is damaged" } else { "failed" };
        write!(f, "the state store {what}: {}", self.why)
    }
}

impl Error for StoreError {}

/// Is shown a key and its value, and says whether it wants more.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Reads keys in the order of their bytes.
pub trait Reader {
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Visits the pairs with keys in `[from, to)` in order (or from the last to the first when
    /// `reverse`) until told to stop.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError>;
}

/// Makes all that was written before each call durable, from any thread.
pub type Persister = Box<dyn FnMut() -> Result<(), StoreError> + Send>;

/// The store itself. After a crash it is as it was after some number of whole batches, at least
/// all those up to the last `persist`.
pub trait StateStore: Reader + Send {
    /// Visible at once, not durable.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn write(&mut self, batch: Batch) -> Result<(), StoreError>;

    /// The store as it is now; later writes do not change it.
    fn view(&self) -> Box<dyn Reader + Send>;

    /// Makes all that was written durable. Slow: the shell may do it on another thread, see
    /// [`StateStore::persister`].
    ///
    /// # Errors
    /// When that is not sure.
    fn persist(&mut self) -> Result<(), StoreError>;

    /// A way to make all that was written before each call durable, from another thread.
    fn persister(&self) -> Persister;
}
