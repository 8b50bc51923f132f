//! Services and tasks: how they are written, and the desk that serves one partition's documents.
//!
//! A writer of a service sees [`Service`], [`Task`], [`Spec`] and [`Context`]. The node sees
//! [`Catalogue`], which runs handlers ([`Invocation`] in, [`Invoked`] out), and [`Desk`], which
//! says what has to be done for each request. Nothing here does I/O or knows the time.

mod catalogue;
mod desk;
mod merge;
mod service;
mod spec;

pub use catalogue::{Catalogue, Invocation, Invoked};
pub use desk::{
    Answer, Desk, DeskInput, DeskOptions, DeskOutput, DeskRequest, Ground, OpenRequest,
};
pub use service::{Context, Patch, Plan, Service, Task, succeeded};
pub use spec::{Field, FieldType, ServiceOption, Spec};
