//! Documents: the state machine of one partition.
//!
//! A [`Partition`] applies the commands of its log to a storage space: versions of documents,
//! request records, fences, tasks in progress, expirations, messages to instances and how far the
//! writes of instances have come. The same
//! commands give the same bytes on every replica. Beside these it keeps a derived index of the
//! latest versions, which follows in steps, is part of no snapshot, and may be thrown away and made
//! again at any time.
//!
//! A query, compiled by the crate `query`, is run here: a way to its hits is chosen from what the
//! index has (`plan`), and the documents on that way are looked at in steps (`search`).

mod answers;
mod apply;
mod atom;
mod below;
mod bounds;
mod cache;
mod changes;
mod command;
mod family;
mod fields;
mod hits;
mod inbox;
mod index;
mod indexing;
mod inspection;
mod names;
mod outbox;
mod partition;
mod past;
mod plan;
mod record;
mod search;
mod since;
#[cfg(test)]
mod tests;
mod usage;
mod view;

pub use atom::{Atom, AtomRequest, KeptOutcome};
pub use changes::{Change, Changes, Place};
pub use command::{
    AUTO_KEY_MINUTES, AppliedCommand, Batch, BatchHead, Command, InstanceAnswer, Noted, Recorded,
    Remember, RequestKey, Retention, USER_KEY_HOURS, Write,
};
pub use inbox::Inbox;
pub use inspection::Inspection;
pub use outbox::{Destination, KeptMessage, Outbox, message_bytes};
pub use partition::{Partition, fence_at_rest};
pub use past::VersionAt;
pub use search::{Search, Wanted};
pub use since::{Caught, Cursor, Missed, Since};
pub use usage::{Amount, KindUsage, Usage};
pub use view::View;
