//! Services and tasks: how they are written, and the leader that serves one partition's documents.
//!
//! A writer of a service sees [`Service`], [`Task`], [`Spec`] and [`Context`]. The node sees
//! [`PartitionMachine`] and [`PartitionLeader`], which a `group::Replica` holds, and [`Catalogue`],
//! which runs handlers ([`Invocation`] in, [`Invoked`] out). Nothing here does I/O or knows the time.

mod body;
mod catalogue;
mod digits;
mod found;
mod handlers;
mod kinds;
mod leader;
mod lenient;
mod machine;
mod merge;
mod query_task;
mod rules;
mod service;
mod spec;
mod task;
mod unknown;
mod utilities;
mod verbs;

pub use catalogue::{Catalogue, Invocation, Invoked};
pub use found::{find, found};
pub use handlers::CALLS_PER_STEP_MAX;
pub use kinds::{KINDS, is_kind, kind_name, may_be_defined};
pub use leader::{DOCUMENT_QUEUE_MAX, PartitionLeader, TASKS_RUNNING_MAX, compile};
pub use machine::{
    Effort, Handlers, Invoker, Limits, PartitionAction, PartitionAnswer, PartitionEvent,
    PartitionMachine, PartitionQuestion, QuickInvoker, Ran, RulesNews, WantedSearch,
};
pub use service::{Context, Patch, Plan, Service, Task, succeeded};
pub use spec::{
    Field, FieldType, RETENTION_FLOOR_DEFAULT, RETENTION_LIMIT_DEFAULT, STATE_BYTES_MAX_DEFAULT,
    ServiceOption, Spec, TASK_EXPIRATION_MICROS_DEFAULT,
};
pub use utilities::{config, merge_stats, template};
pub use verbs::check_task;
