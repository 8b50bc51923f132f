//! The words that cross a border: ids, documents, requests, problems, queries and the bodies of the
//! REST surface. Nothing here does anything; every other crate speaks in these terms.
//!
//! The REST names are VMware Xenon's own (`documentSelfLink`, `occurance`), so that its tutorials
//! work as they stand. The internal names are the glossary's, see `ARCHITECTURE.md`.

mod address;
pub mod base64url;
mod batch;
mod conditions;
mod document;
pub mod explanation;
pub mod flow;
pub mod hash;
mod ids;
pub mod immortal;
mod instance_message;
pub mod instance_write;
pub mod json;
pub mod links;
pub mod node_group;
mod principal;
mod problem;
pub mod query;
mod request;
mod request_key;
pub mod service;
pub mod subscription;
pub mod time;
pub mod varint;

pub use address::Address;
pub use batch::{BATCH_LINK, BATCH_REQUESTS_MAX};
pub use conditions::{Conditions, EntityTag, EntityTags, WriteQuorum};
pub use document::{Action, BUILT_IN_FIELDS, Body, Document, TaskStage};
pub use ids::{Epoch, GroupId, Moment, Now, Position, ReplicaId, Term};
pub use instance_message::{INSTANCE_NAME_BYTES_MAX, InstanceMessage, is_instance_name};
pub use principal::{
    Bearer, Principal, TOKEN_NAME_BYTES, TOKEN_SECRET_BYTES, token_parts, token_text,
};
pub use problem::{Code, KIND_ERROR, Outcome, Problem};
pub use request::{Behind, BodyType, Maker, Method, Request, Response, Source};
pub use request_key::{KeyName, RequestKey};
