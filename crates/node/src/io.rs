//! What goes into a node and what comes out of it.

use std::sync::Arc;

use bytes::Bytes;
use protocol::subscription::Callbacks;
use protocol::{GroupId, Method, Request, Response};
use replication::TailLimits;
use services::{Catalogue, Invocation, Invoked};
use storage::{LogRecord, StoreError};

use crate::frame::LinkFrame;
use crate::jobs::{Job, JobDone};

/// How a node begins. Everything in it is fixed while the node lives.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The name people know it by (`--id`).
    pub node_id: String,
    /// Where it can be reached: `http://127.0.0.1:8001`, without a slash at the end.
    pub public_uri: String,
    /// All nodes of a new cluster, this one included; empty when it begins alone.
    pub peers: Vec<String>,
    /// Any node of a cluster that this one, with an empty sandbox, is to join.
    pub join: Option<String>,
    pub sandbox: SandboxState,
    /// A seed for what must differ between nodes and between starts; not for secrets.
    pub seed: u64,
    /// `--membership-quorum`; has an effect only when the cluster forms.
    pub membership_quorum: Option<usize>,
    /// `--partitions`; has an effect only when the cluster forms.
    pub partitions: u32,
    pub timing: Timing,
    pub upkeep: Upkeep,
    /// How much instances keep for destinations that are away.
    pub kept: ::immortals::KeptLimits,
    pub permits: Permits,
}

/// What a person has allowed for once and all.
#[derive(Clone, Debug, Default)]
pub struct Permits {
    /// Who asks to join the cluster is let in, and waits for no person: whoever could ask has
    /// shown that it may.
    pub admits_who_asks: bool,
    /// Which addresses outside may be told of changes.
    pub callbacks: Callbacks,
}

/// The folder of a node's data, as its start found it.
#[derive(Clone, Debug, Default)]
pub struct SandboxState {
    /// Made at random with the sandbox. Another sandbox is another replica.
    pub id: u64,
    /// Counts the starts of this sandbox.
    pub boot: u64,
    /// An earlier start has durably written that the log is this sandbox's.
    pub has_begun: bool,
    /// Its files are not those that the node wrote, but a copy of them.
    pub is_copy: bool,
    /// A person said for this start that it has all that the node promised.
    pub is_trusted: bool,
    /// The last start for which that was said, 0 if none: it must be numbered above all starts that
    /// may have been forgotten.
    pub trusted_boot: u64,
    /// What the one before it could not prove to have, if this one was begun for that reason.
    pub forgot: Option<String>,
    /// At some time [`Output::Others`] has named another member.
    pub has_had_others: bool,
    /// What [`Output::Others`] has said last; `None` if it has said nothing so far.
    pub others: Option<Vec<String>>,
}

/// How long things may take, in ticks (a tick is [`Timing::tick_micros`]).
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub tick_micros: u64,
    pub heartbeat_ticks: usize,
    /// How long an owner is silent before the first in line stands for election: at least this...
    pub election_ticks: usize,
    /// ... and at most this. In between, the node decides by how regularly it hears the others, and
    /// by how long a round trip to them takes.
    pub election_ticks_max: usize,
    /// How much longer each next in line waits.
    pub stagger_ticks: usize,
    /// How long a group must be quiet before nobody's clock ticks in it.
    pub rest_ticks: usize,
    /// How long it must be quiet before the states of its replicas are compared.
    pub audit_ticks: u64,
    /// When they are compared again if nothing has happened since: disks rot at rest, too.
    pub audit_again_ticks: u64,
    /// How long a member must have been away before a node with its name, its address and an empty
    /// sandbox takes its place without a person: it could be alive, and be cut off.
    pub away_ticks: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            tick_micros: 10_000,
            heartbeat_ticks: 5,
            election_ticks: 25,
            election_ticks_max: 300,
            stagger_ticks: 8,
            rest_ticks: 100,
            audit_ticks: 1_000,
            audit_again_ticks: 360_000,
            away_ticks: 12_000,
        }
    }
}

impl Timing {
    /// Sets one number for the silence of owners, whatever the network is like.
    #[must_use]
    pub fn with_election_ticks(self, ticks: usize) -> Self {
        let ticks = ticks.max(2 * self.heartbeat_ticks);
        Self { election_ticks: ticks, election_ticks_max: ticks, ..self }
    }
}

/// When the state is made durable and the log cut behind it, and how snapshots travel.
#[derive(Clone, Copy, Debug)]
pub struct Upkeep {
    /// How much log makes the node persist its state and cut the log, in bytes...
    pub persist_log_bytes: usize,
    /// ... and how much time, if anything was logged since, in microseconds.
    pub persist_micros: u64,
    /// What all groups together keep of their logs for followers that are behind.
    pub tail: TailLimits,
    /// How much memory the logs of all groups may take, in bytes, not counting what is not durable
    /// or not applied. The rest is read from the disk when it is needed.
    pub log_memory_bytes: usize,
    /// How much of the logs of all groups may wait for the disk, in bytes. Above it no new write is
    /// taken here, and nothing from owners: they send it again.
    pub log_waiting_bytes: usize,
    /// How much memory the newest changes of all partitions may take, in bytes, for those who watch
    /// documents.
    pub changes_bytes: usize,
    /// How much of a snapshot is sent at a time, in bytes. One chunk is under way at a time.
    pub chunk_bytes: usize,
}

/// See [`Upkeep::persist_log_bytes`].
const PERSIST_LOG_BYTES: usize = 8 << 20;

/// See [`Upkeep::log_memory_bytes`].
const LOG_MEMORY_BYTES: usize = 64 << 20;

/// See [`Upkeep::log_waiting_bytes`].
const LOG_WAITING_BYTES: usize = 128 << 20;

/// See [`Upkeep::changes_bytes`].
const CHANGES_BYTES: usize = 32 << 20;

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            persist_log_bytes: PERSIST_LOG_BYTES,
            persist_micros: 30_000_000,
            tail: TailLimits::default(),
            log_memory_bytes: LOG_MEMORY_BYTES,
            log_waiting_bytes: LOG_WAITING_BYTES,
            changes_bytes: CHANGES_BYTES,
            chunk_bytes: 256 << 10,
        }
    }
}

/// How a program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramDoor {
    /// `api/immortal-protocol.md`; its HELLO says which instance it is.
    Native,
    /// AMBROSIA's published protocol, on the two ports of a replica of this instance.
    Ambrosia { group: GroupId },
}

/// The two ports for a program written for AMBROSIA. It connects to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramPorts {
    pub group: GroupId,
    /// What the program says comes in here (AMBROSIA's `receivePort`).
    pub receive: u16,
    /// What it is told goes out here (AMBROSIA's `sendPort`).
    pub send: u16,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// About [`Timing::tick_micros`] went by. Missed ticks are not made up.
    Tick,
    /// A client of this node sends a request. [`Output::Answer`] with the same ticket answers it.
    Request {
        ticket: u64,
        request: Request,
    },
    /// A connection to another node was made; `dialed` is the address if it was made from here. A
    /// detour stands in for a connection that cannot be made.
    LinkOpened {
        link: u64,
        dialed: Option<String>,
        is_detour: bool,
    },
    LinkClosed {
        link: u64,
    },
    /// An attempt to reach one of [`Output::Dial`]'s addresses came to nothing: nobody is there, or
    /// does not answer. Others follow.
    DialFailed {
        address: String,
    },
    /// A frame, as another node's [`Output::Send`] gave it.
    Received {
        link: u64,
        frame: Bytes,
    },
    /// All records of [`Output::Append`] up to this batch are on the disk.
    LogDurable {
        batch: u64,
        /// How many frames are durable, of all that the log ever had.
        frames: u64,
    },
    /// All that was written to the state store before [`Output::Persist`] is on the disk.
    StatePersisted {
        mark: u64,
    },
    /// A handler is done.
    Invoked(Invoked),
    /// What became of [`Output::Notify`] of that number: the words say why it was not taken.
    Notified {
        number: u64,
        outcome: Result<(), String>,
    },
    /// A job has had its turn.
    Ran(JobDone),
    /// See [`Output::GoOn`].
    GoOn {
        group: GroupId,
        opening: u64,
    },
    /// See [`Output::Measure`].
    Measured,
    /// A program has connected, to be a copy of an instance.
    ProgramOpened {
        program: u64,
        door: ProgramDoor,
    },
    /// Bytes of a program, in order.
    ProgramSaid {
        program: u64,
        bytes: Bytes,
    },
    /// The program's socket has taken this many more bytes of [`Output::ProgramTell`].
    ProgramDrained {
        program: u64,
        bytes: u64,
    },
    ProgramClosed {
        program: u64,
    },
    /// The disk does not take writes. The batches that were not confirmed will be tried again by
    /// the shell when `full` (and [`Input::StorageRecovered`] follows); otherwise the node halts.
    StorageFailed {
        why: String,
        full: bool,
    },
    StorageRecovered,
    /// There is little room on the disk, or enough again. Nothing fails so far.
    Room {
        is_low: bool,
    },
    /// The state store cannot be made durable.
    StateFailed(StoreError),
    /// Stop in good order: hand over what is owned, then [`Output::Stopped`].
    Stop,
}

/// A request that tells somebody outside of a change. It is taken when the answer says so (2xx).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub number: u64,
    /// `http://host:port/path`.
    pub reference: String,
    pub method: Method,
    /// The header `Pragma`.
    pub pragma: String,
    /// The header `Idempotency-Key`: the same when a change is told once more.
    pub key: String,
    /// The header `Referer`: of whose change it tells.
    pub referer: String,
    /// JSON.
    pub body: Bytes,
}

/// Something that must be done. The order is that of the list.
#[derive(Debug)]
pub enum Output {
    /// Write at the end of the log and sync. Several may be joined in one write; they are confirmed
    /// in order, the highest durable batch standing for all before it.
    Append {
        batch: u64,
        records: Vec<LogRecord>,
    },
    /// Make the state store durable, on another thread.
    Persist {
        mark: u64,
    },
    /// Keep a link to each of these addresses, and to no other.
    Dial {
        addresses: Vec<String>,
    },
    /// A frame for another node.
    Send {
        link: u64,
        frame: LinkFrame,
    },
    /// Close after what was sent before.
    Close {
        link: u64,
    },
    /// The state of that group differs from those of a majority of its replicas, and is not used
    /// any more.
    StateAside {
        group: GroupId,
    },
    /// Such a state was filled anew.
    StateFilled {
        group: GroupId,
    },
    /// This number of tasks have not ended and will take no further step. To be counted.
    WithoutNextEvent {
        count: usize,
    },
    Answer {
        ticket: u64,
        response: Response,
    },
    /// The services there are from now on, for what is invoked outside of the step.
    Catalogue(Arc<Catalogue>),
    /// Run `Catalogue::invoke` and give the result back as [`Input::Invoked`].
    Invoke(Invocation),
    /// Run it on a thread for jobs of its lane, and give the result back as [`Input::Ran`].
    Run(Job),
    /// Send it, and say what became of it by [`Input::Notified`].
    Notify(Notification),
    /// Give [`Input::GoOn`], after all inputs that have come meanwhile.
    GoOn {
        group: GroupId,
        opening: u64,
    },
    /// Give [`Input::Measured`] with the next step, with the time it is by then: what was done
    /// within one step is told how long it took.
    Measure,
    /// To a program.
    ProgramTell {
        program: u64,
        bytes: Vec<Bytes>,
    },
    /// Close after what it was told before; there may be no [`Input::ProgramClosed`] then.
    ProgramClose {
        program: u64,
    },
    /// Listen at these ports of the loopback interface for programs written for AMBROSIA, and at no
    /// others. A port that cannot be had is named in the node's log and tried again.
    ProgramPorts {
        ports: Vec<ProgramPorts>,
    },
    /// Keep this for people, in the sandbox under `repros`.
    Repro {
        name: String,
        text: String,
    },
    Note {
        level: Level,
        text: String,
    },
    /// Put this sandbox aside, make a new one, and start again with [`NodeConfig::join`] set.
    Rejoin {
        contact: String,
    },
    /// The other members are at these addresses now. That is to be durable in the sandbox beside
    /// log and state, and comes back as [`SandboxState::others`]: when one of those is set back or
    /// lost, it is the only sign that others were promised something, and of where they are.
    Others {
        addresses: Vec<String>,
    },
    /// The node cannot prove that it has what it promised. Put this sandbox aside, make a new one,
    /// and start again with [`NodeConfig::join`] set to a node of the cluster and
    /// [`SandboxState::forgot`] to the reason; where there is no other node, end and say so.
    Renew {
        why: String,
        /// The node that remembers more, if one said so.
        contact: Option<String>,
    },
    /// Everything is handed over and durable: the process may end.
    Stopped,
    /// The node cannot go on; the text says why and what to do.
    Halt {
        why: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}
