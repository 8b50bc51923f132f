//! What goes into an instance's replica and what comes out of it.

use bytes::Bytes;
use protocol::{GroupId, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::history::keys::ImpulseKey;
use crate::wire::{Between, Peer};

/// What a person has set for an instance. All replicas have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The replicas, in the order of their numbers.
    pub replicas: Vec<ReplicaId>,
    /// This many bytes of log since the last checkpoint make the next one due (AMBROSIA's
    /// `logTriggerSize`). 0 means never.
    pub checkpoint_bytes: u64,
    /// A checkpoint is also due when the program was busy with inputs for this long since the last
    /// one, in microseconds, because a recovery takes about as long. 0 means never.
    pub recovery_micros: u64,
    /// A primary's program that gives no sign of life for this long is replaced when a standby is
    /// ready, in microseconds.
    pub program_timeout_micros: u64,
    /// A replica whose program sends something else than was recorded is fenced.
    pub divergence_alarm: bool,
    pub upgrade_version: Option<u64>,
    /// Counts the wishes for an upgrade. An upgrade that was given up is tried again with the next
    /// wish.
    pub upgrade_wish: u64,
    /// The version that the first program must have.
    pub first_version: u64,
    /// Programs may attach and are told nothing (AMBROSIA's `pauseAtStart`).
    pub paused: bool,
    /// How many partitions of documents there are. Fixed when the cluster forms.
    pub partitions: u32,
    /// The group confirms what a majority has in memory. What was confirmed may be lost when a
    /// majority dies at once.
    pub memory: bool,
}

impl Settings {
    pub(crate) fn others(&self, me: ReplicaId) -> impl Iterator<Item = ReplicaId> {
        self.replicas.iter().copied().filter(move |id| *id != me)
    }
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    Settings(Settings),
    /// Bytes came from the attached program.
    Read {
        program: u64,
        bytes: Bytes,
    },
    /// This many of the bytes for a program have left.
    Written {
        program: u64,
        bytes: u64,
    },
    /// The program, or its connection, is gone.
    Detached {
        program: u64,
    },
    /// A message of another replica of this instance.
    Peer {
        from: ReplicaId,
        message: Peer,
    },
    /// That replica's node is reached, for the first time or again. The other replica knows nothing
    /// of the program here.
    PeerReached {
        replica: ReplicaId,
    },
    /// That replica's node is gone. What it said of its program is no longer valid.
    PeerLost {
        replica: ReplicaId,
    },
    /// A message of another instance's owner. What an instance sends to itself does not come this
    /// way.
    Between {
        from: GroupId,
        message: Between,
    },
    /// The [`Output::HandOver`] was not begun: that replica's log is too far behind at present.
    HandOverFailed,
    /// Another instance has another owner, or its owner's node is reached again.
    OwnerChanged {
        group: GroupId,
    },
    /// A person wants something.
    Request {
        ticket: u64,
        request: Request,
    },
    Tick,
}

/// What a person wants of the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    Checkpoint,
    /// Move the ownership to that replica.
    Move {
        to: ReplicaId,
    },
    /// Take out an input at which programs fail.
    Skip {
        input: u64,
    },
    /// An impulse from outside.
    Impulse {
        from: String,
        method: i64,
        payload: Bytes,
        /// With a key the same impulse may be sent again, and is taken only once.
        key: Option<ImpulseKey>,
    },
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    Done {
        input: u64,
    },
    /// Surely nothing happened. The text says why.
    Refused(String),
    /// The same, and it passes by itself: the same request is right in a moment.
    NotNow(String),
    /// The ownership moved on, and surely nothing happened here.
    NotOwner,
    /// The ownership moved on while the request was on its way into the log.
    Unknown,
    /// Surely nothing happened: the impulse's key belongs to another one.
    KeyReused,
}

/// Something that must be done.
#[derive(Debug)]
pub enum Output {
    /// Append to the group's log. What is proposed is applied in this order, or the ownership is
    /// lost.
    Propose(Bytes),
    /// Write to a program's connection.
    Write {
        program: u64,
        bytes: Vec<Bytes>,
    },
    /// Close a program's connection, after what was written before.
    Close {
        program: u64,
    },
    Peer {
        to: ReplicaId,
        message: Peer,
    },
    Between {
        to: GroupId,
        message: Between,
    },
    /// Hand the ownership over to that replica.
    HandOver {
        to: ReplicaId,
    },
    Respond {
        ticket: u64,
        response: Response,
    },
    /// A line for the node's log.
    Note(String),
    /// This owner takes messages of other instances from now on: tell their owners.
    Accepting,
    /// A file for people that shows how to see a mistake of a program again.
    Repro {
        name: String,
        text: String,
    },
}
