//! One replica of one replicated log: consensus as a value with inputs and outputs.

mod change;
mod convert;
mod election;
mod group;
mod guard;
mod members;
mod memory;
mod message;
mod options;
mod reads;
mod ready;
mod status;
mod view;
mod work;

pub use group::Group;
pub use members::{Members, MembershipChange};
pub use message::{Message, MessageKind, SnapshotMeta};
pub use options::{GroupOptions, RestoreError, Restored};
pub use ready::{Committed, CommittedData, Install, Ready, SnapshotOffer};
pub use status::{ConfirmError, Progress, ProposeError, Role, Status};
