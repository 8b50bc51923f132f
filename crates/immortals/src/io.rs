//! What goes into an instance's replica and what comes out of it.

use bytes::Bytes;
use protocol::immortal::Message;
use protocol::{GroupId, Now, Position, ReplicaId, Term};
use serde::{Deserialize, Serialize};
use storage::{Space, StateStore};

use crate::base::BaseRecord;
use crate::shelf::SpillBlockId;
use crate::stream::Run;

/// What a person has set for an instance; the same on all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The nodes that hold replicas, in the order of the replicas' numbers.
    pub replicas: Vec<ReplicaId>,
    /// So many bytes of log since the last checkpoint make the next one due (AMBROSIA's
    /// `logTriggerSize`); 0: only when asked for.
    pub checkpoint_bytes: u64,
    /// So does so much time in which the program was busy with inputs since then, as a recovery would
    /// take about as long again; in microseconds. 0: it does not.
    pub recovery_micros: u64,
    /// A primary's program that gives no sign of life for so long is replaced, if a standby is
    /// ready; in microseconds.
    pub program_timeout_micros: u64,
    /// A replica whose program says something else than was recorded is fenced.
    pub divergence_alarm: bool,
    pub upgrade_version: Option<u64>,
    /// How often an upgrade was wished for: one that came to nothing is tried again with the next wish.
    pub upgrade_wish: u64,
    /// The version of the first program.
    pub first_version: u64,
    /// Programs may attach, but nothing is told to them (AMBROSIA's `pauseAtStart`).
    pub paused: bool,
    /// What is confirmed may be lost when a majority dies at once.
    pub memory: bool,
}

/// The log of the group, as far as it is applied.
pub trait Entries {
    /// The entries for the state machine after a position, in order, up to `bytes_max` and at least
    /// one.
    fn after(&self, position: Position, bytes_max: usize) -> Vec<(Position, Term, Bytes)>;

    /// How far it is known to be committed: what was here when this node began, and what an owner has said
    /// since. None before one has said anything; nobody here knows then how much there is.
    fn known_committed(&self) -> Option<Position>;

    /// The encoded membership in force at a position that is at or after the base.
    fn members_at(&self, position: Position) -> Vec<u8>;

    /// The group of the instance with that name.
    fn resolve(&self, name: &str) -> Option<GroupId>;

    /// What has become of an instance's group, as far as the directory is known here.
    fn standing(&self, group: GroupId) -> Standing;

    /// How far that is.
    fn directory(&self) -> Position;
}

/// Of an instance's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Registered,
    /// It was registered and is not any more. It never comes back.
    Gone,
    /// It was not heard of yet.
    Unknown,
}

/// What an instance needs of its node while it works.
pub struct Context<'a> {
    pub now: Now,
    pub store: &'a mut dyn StateStore,
    pub space: Space,
    pub entries: &'a dyn Entries,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    Settings(Settings),
    /// Bytes of the attached program.
    Read {
        program: u64,
        bytes: Bytes,
    },
    /// So many of the bytes that a program was told have left.
    Written {
        program: u64,
        bytes: u64,
    },
    Detached {
        program: u64,
    },
    Peer {
        from: ReplicaId,
        message: Peer,
    },
    /// That replica's node is there (again), and knows nothing of this one's program.
    PeerReached {
        replica: ReplicaId,
    },
    /// That replica's node is gone: what it said of its program counts no more.
    PeerLost {
        replica: ReplicaId,
    },
    /// From the owner of another instance (or of this one: a self-call does not come this way).
    Between {
        from: GroupId,
        message: Between,
    },
    /// The [`Output::HandOver`] was not even begun: the log of that replica is too far behind at present.
    HandOverFailed,
    /// Another instance has another owner, or its node is reached again.
    OwnerChanged {
        group: GroupId,
    },
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
    /// To the replica on that node.
    Move {
        to: ReplicaId,
    },
    /// Takes an input out, at which programs fail.
    Skip {
        input: u64,
    },
    /// An impulse from outside.
    Impulse {
        from: String,
        method: i64,
        payload: Bytes,
    },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    Done {
        input: u64,
    },
    /// Surely nothing happened; the text says why.
    Refused(String),
    /// The ownership moved on, and it surely did not happen here.
    NotOwner,
    /// The ownership moved on while it was on its way into the log.
    Unknown,
}

/// Something that must be done.
#[derive(Debug)]
pub enum Output {
    /// To the group's log. They are applied in this order, or the ownership is lost.
    Propose(Bytes),
    Write {
        program: u64,
        bytes: Vec<Bytes>,
    },
    /// After what was told before.
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
    HandOver {
        to: ReplicaId,
    },
    Respond {
        ticket: u64,
        response: Response,
    },
    /// For the log of the node.
    Note(String),
    /// From now on this owner takes messages of other instances: tell their owners.
    Accepting,
    /// A run of inputs that shows a mistake of a program, to be written down for people.
    Repro {
        name: String,
        text: String,
    },
}

/// Between the replicas of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    Status(ReplicaStatus),
    /// Take a checkpoint now, and give it to the others.
    TakeCheckpoint,
    /// A piece of a checkpoint: of the state, and then of what the program had said. The last one carries
    /// the record.
    Chunk {
        position: Position,
        number: u32,
        bytes: Bytes,
        last: Option<Box<BaseRecord>>,
    },
    ChunkStored {
        position: Position,
        number: u32,
    },
    /// A cell of that checkpoint is not on the shelf.
    WantBlock {
        position: Position,
        id: SpillBlockId,
    },
    SpillBlock {
        position: Position,
        id: SpillBlockId,
        run: Run,
    },
    /// The sender's program has diverged, and said this last.
    Differs {
        said: Vec<RecentOutput>,
    },
    /// The first difference.
    Difference {
        expected: String,
        found: String,
    },
    /// A person lets programs that were held, or have diverged, try again.
    Release,
}

/// Some outputs of a program.
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
    /// Has been given all that was logged here when it came, and is not far behind.
    pub caught_up: bool,
    /// The last input that is handled (for programs that do not confirm: told).
    pub done: u64,
    pub inputs: u64,
    pub program_version: u64,
    pub upgrade_to: u64,
    /// Where its last checkpoint stands.
    pub base: Position,
    pub base_input: u64,
    pub checkpoint_bytes: u64,
    pub log_bytes: u64,
    pub held: Option<Held>,
    pub diverged: Option<Diverged>,
}

/// A program failed again and again on one input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub input: u64,
    pub tries: u32,
    /// What it said last, or that it went without a word.
    pub text: String,
    pub message: String,
}

/// A program said something else than was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverged {
    /// It said so in handling an input after `after`, up to this one.
    pub input: u64,
    pub after: u64,
    pub expected: String,
    pub found: String,
}

/// Between instances: from the owner of one to the owner of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Between {
    /// How far are you with me?
    Probe { lane: Lane },
    Send {
        lane: Lane,
        /// The sender's name.
        name: String,
        /// The lowest number the sender still has; all before were confirmed.
        floor: u64,
        first: u64,
        count: u64,
        messages: Bytes,
    },
    /// Durable up to `logged`. `again`: send from this number on, whatever was sent before.
    Ack { lane: Lane, logged: u64, resend_from: Option<u64> },
}

/// Which of a sender's streams to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    Stream,
    Impulses { session: u64 },
}

/// A message in a few words, for people.
pub(crate) fn describe(message: &Message) -> String {
    let text = |payload: &Bytes| {
        let shown = &payload[..payload.len().min(100)];
        format!("{:?} ({} bytes)", String::from_utf8_lossy(shown), payload.len())
    };
    match message {
        Message::Fork { method, payload } => format!("fork of method {method}: {}", text(payload)),
        Message::Call { id, method, payload } => {
            format!("call {id} of method {method}: {}", text(payload))
        }
        Message::Answer { id, payload, .. } => format!("answer to call {id}: {}", text(payload)),
        Message::Impulse { method, payload } => {
            format!("impulse of method {method}: {}", text(payload))
        }
        Message::Start { payload } => format!("start: {}", text(payload)),
        Message::Timer { id } => format!("timer {id}"),
        Message::Result { id, payload, .. } => {
            format!("result of side effect {id}: {}", text(payload))
        }
        Message::Upgrade { version } => format!("upgrade to version {version}"),
        Message::Skipped => "an input that was taken out".into(),
    }
}
