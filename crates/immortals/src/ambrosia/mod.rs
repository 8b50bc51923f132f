//! The adapter for AMBROSIA's programs: a program that expects to speak with its
//! ImmortalCoordinator becomes one of ours.
//!
//! [`AmbrosiaAdapter`] is a translator without a socket, a clock or a thread. What the program's
//! language binding (LB) writes goes in as bytes and comes out as frames of our own protocol.
//! Frames of the core go in and come out as bytes for the LB. `docs/ambrosia-door.md` is the page
//! for users.
//!
//! The published document of the wire protocol has gaps. Where the document and AMBROSIA's code
//! disagree, the adapter follows the code. What was found there, and is not in the document:
//!
//! - The first record of a connection must hold one message alone. The C# binding reads that
//!   message and drops the rest of the record.
//! - A batch with one message in it breaks the C# binding, and several messages in one record need
//!   no batch. So nothing is sent as a batch.
//! - Records are numbered without a gap: the JavaScript binding stops at a gap. Control records
//!   have the number -1 and a checkpoint has -2; they are not counted.
//! - No binding looks at the check bytes. They are zero.
//! - Becoming primary is told at most once: the JavaScript binding stops when it is told a second
//!   time, and when an upgrade comes after it.
//!
//! AMBROSIA's protocol cannot say everything, and nothing is made up for what it cannot say. An LB
//! never confirms what it has handled (see [`AmbrosiaAdapter::confirms`]), has no answer to a ping,
//! is never told the fate of an impulse, and cannot be told that it is not the primary any more
//! (see [`AmbrosiaAdapter::is_ousted`]).

pub(crate) mod adapter;
mod decoder;
pub(crate) mod options;
mod record;
mod rpc;
mod translator;

pub use adapter::AmbrosiaAdapter;
pub use decoder::{CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX};
pub use options::AmbrosiaOptions;
pub use record::RECORD_BYTES;
pub use rpc::{PING_METHOD, PING_RETURN_METHOD};
pub use translator::{CHECKPOINTS_AWAITED_MAX, IMPULSE_BYTES_HELD_MAX, SEND_BYTES};

/// The types of messages, as AMBROSIA numbers them.
mod kind {
    pub(super) const RPC: u8 = 0;
    pub(super) const ATTACH_TO: u8 = 1;
    pub(super) const TAKE_CHECKPOINT: u8 = 2;
    pub(super) const RPC_BATCH: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const PING_RETURN: u8 = 7;
    pub(super) const CHECKPOINT: u8 = 8;
    pub(super) const INITIAL_MESSAGE: u8 = 9;
    pub(super) const UPGRADE_TAKE_CHECKPOINT: u8 = 10;
    pub(super) const TAKE_BECOMING_PRIMARY_CHECKPOINT: u8 = 11;
    pub(super) const UPGRADE_SERVICE: u8 = 12;
    pub(super) const COUNT_REPLAYABLE_RPC_BATCH: u8 = 13;
    pub(super) const BECOMING_PRIMARY: u8 = 15;
    /// A type that AMBROSIA does not have.
    pub(super) const NONE: u8 = 255;
}
