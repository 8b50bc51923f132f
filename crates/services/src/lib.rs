//! Services and tasks: how they are written, and the leader that serves one partition's documents.
//!
//! A writer of a service sees [`Service`], [`Task`], [`Spec`] and [`Context`]. The node sees
//! [`PartitionMachine`] and [`PartitionLeader`], which a `group::Replica` holds, and [`Catalogue`],
//! which runs handlers ([`Invocation`] in, [`Invoked`] out). Nothing here does I/O or knows the
//! time.

mod asking;
mod body;
mod catalogue;
mod caught;
mod control;
mod controlled;
mod definitions;
mod difference;
mod digits;
mod found;
mod graph_task;
mod handlers;
mod in_group;
mod instance_write;
mod invocation;
mod invoker;
mod io;
mod kinds;
mod leader;
mod lenient;
mod limits;
mod machine;
mod merge;
mod numbers;
mod outside;
mod query_task;
mod rules;
mod sending;
mod served;
mod service;
mod spec;
mod state;
mod subscriptions;
mod task;
mod unknown;
mod utilities;
mod verbs;

pub use catalogue::Catalogue;
pub use found::{find, found};
pub use handlers::CALLS_PER_STEP_MAX;
pub use invocation::{Invocation, Invoked};
pub use invoker::{Handlers, Invoker, QuickInvoker, Ran};
pub use io::{
    Effort, FromInstance, PartitionAction, PartitionAnswer, PartitionEvent, PartitionQuestion,
    ToInstance, WantedSearch,
};
pub use kinds::{is_kind, may_be_defined};
pub use leader::{NextEvents, PartitionLeader, WritesOfInstances, compile};
pub use limits::{DOCUMENT_QUEUE_MAX, Limits, TASKS_RUNNING_MAX};
pub use machine::{PartitionMachine, RulesNews};
pub use merge::Patch;
pub use numbers::Numbers;
pub use outside::{Outside, Said, no_program_attached};
pub use sending::{MESSAGES_BYTES_MAX, MESSAGES_MAX, Sending, message};
pub use service::{Context, Plan, Service, Task, succeeded};
pub use spec::{
    Field, FieldType, RETENTION_FLOOR_DEFAULT, RETENTION_LIMIT_DEFAULT, STATE_BYTES_MAX_DEFAULT,
    ServiceOption, Spec, TASK_EXPIRATION_MICROS_DEFAULT,
};
pub use utilities::{check_config, config, merge_stats, template};
pub use verbs::{check_task, no_action};
