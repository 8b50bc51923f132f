//! What an instance needs of its node while it works: the time, the store, the applied log, and the
//! names of other instances.

use bytes::Bytes;
use protocol::instance_write::partition_of_stream;
use protocol::{GroupId, Now, Position, Term};
use storage::{Space, StateStore};

/// What an instance is given for one call.
pub struct Context<'a> {
    pub now: Now,
    pub store: &'a mut dyn StateStore,
    pub space: Space,
    pub entries: &'a dyn Entries,
}

/// The log of the instance's group as far as it is applied, and the directory of instances.
pub trait Entries {
    /// The entries that carry data after a position, in order: about `bytes_max` bytes of them, and
    /// at least one entry.
    fn after(&self, position: Position, bytes_max: usize) -> Vec<(Position, Term, Bytes)>;

    /// The highest position that is known to be committed: what this node had when it started, and
    /// what an owner has told since then. None while no owner has told anything, because until then
    /// this node does not know how long the log is.
    fn known_committed(&self) -> Option<Position>;

    /// The encoded membership in force at a position. The position is not before the base.
    fn members_at(&self, position: Position) -> Vec<u8>;

    /// The group of the instance with that name.
    fn resolve(&self, name: &str) -> Option<GroupId>;

    /// Whether an instance's group is registered, as far as the directory is applied here.
    fn standing(&self, group: GroupId) -> Standing;

    /// The position up to which the directory is applied here.
    fn directory(&self) -> Position;
}

impl dyn Entries + '_ {
    /// The group that a stream goes to: an instance, or a partition of documents.
    pub(crate) fn group_of_stream(&self, name: &str) -> Option<GroupId> {
        partition_of_stream(name).or_else(|| self.resolve(name))
    }
}

/// Whether an instance's group is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Registered,
    /// The group was registered and is not any more. A group never comes back.
    Gone,
    /// The directory, as far as it is applied here, has not named the group.
    Unknown,
}
