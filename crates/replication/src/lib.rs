//! One replica of one replicated log: consensus as a value with inputs and outputs.

mod group;
mod members;
mod message;
mod options;
mod ready;
mod status;

pub use group::Group;
pub use members::{Members, MembershipChange};
pub use message::{Message, MessageKind, SnapshotMeta};
pub use options::{GroupOptions, RestoreError, Restored};
pub use ready::{Committed, CommittedData, Install, Ready, SnapshotOffer};
pub use status::{ConfirmError, Progress, ProposeError, Role, Status};
