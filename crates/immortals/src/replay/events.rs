//! What a replay is asked for, and what it has to tell people.

use std::collections::BTreeMap;

use protocol::Position;
use protocol::immortal::Hello;

/// How far to go, and how to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Not further than this input.
    pub until: Option<u64>,
    /// The program is a newer one than the one that was recorded.
    pub test_upgrade: bool,
}

/// What the driver of a replay has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Give the piece of the checkpoint with this number.
    Chunk(u32),
    /// Give what was logged after this position. An empty page ends the replay.
    Entries(Position),
    /// Bring what the program says.
    Hear,
    /// The program has handled all.
    Over,
}

/// Something to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Attached(Hello),
    Loaded {
        input: u64,
        bytes: u64,
    },
    Upgraded {
        version: u64,
    },
    Differs(Difference),
    /// The program was told that the replay has ended.
    EndOfReplay {
        input: u64,
    },
}

/// The program has sent something else than is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Up to this input all was equal, as far as it was compared.
    pub after: u64,
    /// The difference is in what was sent up to the end of this input.
    pub input: u64,
    /// What the program has sent in that time, in short.
    pub said: Vec<String>,
    /// What another program has sent in that time, where that is known.
    pub expected: Vec<String>,
}

/// What was sent at each input, by the first of two programs that are compared.
pub type Reference = BTreeMap<u64, Vec<String>>;
