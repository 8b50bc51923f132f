//! Numbers that must not be mixed up, each in a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One life of a node's sandbox, and its name in every group. A node whose disk was lost or
    /// damaged comes back under a new replica id: what the old one promised, it cannot keep.
    /// Never 0.
    ReplicaId(u64)
}
number! {
    /// A replicated log. 0 is the directory, 1 and up are the partitions, and from
    /// [`GroupId::INSTANCES`] on each is an instance of an immortal.
    GroupId(u32)
}
number! {
    /// A term of office in a group (Raft's term): at most one owner in each.
    Term(u64)
}
number! {
    /// The place of an entry in a group's log (Raft's index). The first entry is 1.
    Position(u64)
}
number! {
    /// Wall-clock time in microseconds since 1970 (`documentUpdateTimeMicros`). Never used for
    /// safety, only shown, and compared with expirations.
    Moment(u64)
}

/// The term in which a version of a document was written (Xenon's `documentEpoch`).
pub type Epoch = Term;

impl GroupId {
    /// The cluster's own map: nodes, quorum, the number of partitions.
    pub const DIRECTORY: Self = Self(0);

    /// The first instance's group. There are always fewer partitions than that.
    pub const INSTANCES: Self = Self(1 << 20);

    pub fn is_instance(self) -> bool {
        self >= Self::INSTANCES && self.0 < u32::MAX
    }

    pub fn is_partition(self) -> bool {
        !self.is_directory() && self < Self::INSTANCES
    }

    pub fn is_directory(self) -> bool {
        self == Self::DIRECTORY
    }
}

impl Position {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What time it is, given to a core with every input: a core has no clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since the process began; never goes back.
    pub steady_micros: u64,
    /// The wall clock; may jump.
    pub wall: Moment,
}
