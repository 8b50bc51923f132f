//! What clients want of backups, and what nodes say to one another about them.

use bytes::Bytes;
use protocol::{GroupId, Position, ReplicaId, Term};
use serde::{Deserialize, Serialize};

/// What a client wants of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BackupWish {
    Begin,
    /// A page of a group: the first one, or the one behind what the former page said.
    Page(u64, GroupId, Bytes),
    End(u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum BackupFrame {
    /// Let the logs stand still that you own.
    Hold {
        backup: u64,
    },
    /// They do, at these positions.
    Held {
        backup: u64,
        groups: Vec<Stand>,
    },
    /// All logs of the cluster stand still, at these positions. Keep what you have there.
    Keep {
        backup: u64,
        cut: Vec<(GroupId, Position)>,
    },
    Kept {
        backup: u64,
        groups: Vec<Kept>,
    },
    /// You cannot take part in one more backup at present.
    Busy {
        backup: u64,
    },
    /// Let the logs go on.
    Release {
        backup: u64,
    },
    /// Somebody still reads the backup.
    Alive {
        backup: u64,
    },
    /// Nobody reads it any more.
    End {
        backup: u64,
    },
    /// A page of what you keep.
    Ask {
        backup: u64,
        number: u64,
        group: GroupId,
        after: Bytes,
    },
    /// The page; none when it is not kept.
    Page {
        number: u64,
        page: Option<Bytes>,
    },
}

impl BackupFrame {
    /// Whether it is said to a node that takes part, and not to the one that runs the backup.
    pub(crate) fn is_for_the_keeper(&self) -> bool {
        match self {
            Self::Hold { .. } | Self::Keep { .. } | Self::Release { .. } => true,
            Self::Alive { .. } | Self::End { .. } | Self::Ask { .. } => true,
            Self::Held { .. } | Self::Kept { .. } | Self::Busy { .. } | Self::Page { .. } => false,
        }
    }
}

/// Where the log of a group stands still, as its owner knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stand {
    pub(crate) group: GroupId,
    pub(crate) term: Term,
    pub(crate) position: Position,
    /// Of each of these sets a majority decides who may own the group.
    pub(crate) voters: Vec<Vec<ReplicaId>>,
}

/// What a replica says when it was told the positions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) group: GroupId,
    /// The newest term that it knows of.
    pub(crate) term: Term,
    /// It owns the group, and the log has stood still ever since it said so.
    pub(crate) is_held: bool,
    /// It keeps the state at that position.
    pub(crate) has_state: bool,
}
