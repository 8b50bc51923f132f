//! What replicas of one instance say to one another, and what the owners of different instances
//! say.

use bytes::Bytes;
use protocol::Position;
use serde::{Deserialize, Serialize};

use crate::base::record::BaseRecord;
use crate::history::entry::Lane;
use crate::output::spill::SpillBlockId;
use crate::output::stream::Run;

/// Between the replicas of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    Status(ReplicaStatus),
    /// Take a checkpoint now, and give it to the others.
    TakeCheckpoint,
    /// A piece of a checkpoint: first those of the program's state, then those of the output state.
    /// The last one carries the record.
    Chunk {
        position: Position,
        number: u32,
        bytes: Bytes,
        last: Option<Box<BaseRecord>>,
    },
    /// The piece is stored. The next one may be sent.
    ChunkStored {
        position: Position,
        number: u32,
    },
    /// A spilled block of that checkpoint is not in the store here.
    WantBlock {
        position: Position,
        id: SpillBlockId,
    },
    SpillBlock {
        position: Position,
        id: SpillBlockId,
        run: Run,
    },
    /// The sender's program has diverged, and sent these messages last.
    Differs {
        outputs: Vec<RecentOutput>,
    },
    /// The first difference between two programs.
    Difference {
        expected: String,
        found: String,
    },
    /// A person lets programs that were held, or have diverged, try again.
    Release,
}

/// Messages that a program sent lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentOutput {
    pub destination: String,
    pub first: u64,
    pub messages: Bytes,
}

/// How a replica and its program are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    pub attached: bool,
    /// The program was given all that was logged here at the time when it came, and is not far
    /// behind.
    pub caught_up: bool,
    /// The last input that the program has handled. For programs that do not confirm inputs, the
    /// last one that it was given.
    pub done: u64,
    pub inputs: u64,
    pub program_version: u64,
    pub upgrade_to: u64,
    /// The position of its last checkpoint.
    pub base: Position,
    pub base_input: u64,
    pub checkpoint_bytes: u64,
    pub log_bytes: u64,
    pub trouble: Trouble,
}

/// What is not well with a replica's program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub held: Option<Held>,
    pub diverged: Option<Diverged>,
    /// It had diverged, and was let in again: there was no other copy.
    pub overlooked: Option<Diverged>,
    /// Why the last program was let go or turned away. Not every program can be told.
    pub let_go: Option<String>,
}

impl Trouble {
    /// Whether nothing keeps a program from running.
    pub(crate) fn is_good(&self) -> bool {
        self.held.is_none() && self.diverged.is_none()
    }
}

impl ReplicaStatus {
    /// Whether its program could become the primary now.
    pub(crate) fn is_ready(&self) -> bool {
        self.attached && self.caught_up && self.is_good()
    }

    /// Whether nothing keeps its program from running.
    pub(crate) fn is_good(&self) -> bool {
        self.trouble.is_good()
    }

    /// Whether the status is final: others miss nothing if they are never told again.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.attached && self.is_good()
    }
}

/// Programs failed at one input several times in a row, so no program is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub input: u64,
    pub tries: u32,
    /// The error that the program gave last, or a text that it went without one.
    pub text: String,
    /// The message, in a few words.
    pub message: String,
}

/// A program sent something else than was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverged {
    /// The difference is in what followed from the inputs after `after`, up to this one.
    pub input: u64,
    pub after: u64,
    pub expected: String,
    pub found: String,
}

/// From the owner of one instance to the owner of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Between {
    /// Which of my messages do you have?
    Probe { lane: Lane },
    Send {
        lane: Lane,
        /// The sender's name.
        name: String,
        /// The lowest number that the sender still has. All before it were confirmed.
        floor: u64,
        first: u64,
        count: u64,
        messages: Bytes,
    },
    /// Messages up to `logged` are durable. With `resend_from` the sender goes on from that number,
    /// whatever it has sent before.
    Ack { lane: Lane, logged: u64, resend_from: Option<u64> },
}
