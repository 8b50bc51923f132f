//! What tells a repeated request from a new one.

use serde::{Deserialize, Serialize};

use crate::ReplicaId;

/// Tells a repeated request from a new one. What was answered under a key is recorded with the
/// document, so that every later owner knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RequestKey {
    /// Given by the node that took the request; kept for minutes.
    Auto {
        edge: ReplicaId,
        boot: u64,
        number: u64,
        /// Minutes since 1970 by that node's clock, when it took the request.
        minute: u32,
    },
    /// Given by the user or a task; kept for hours.
    User {
        key: String,
        /// Of method, path and body: the key with another digest is a mistake of the user.
        digest: u64,
    },
}

/// A key without what differs between two requests that carry the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyName {
    Auto(ReplicaId, u64, u64),
    User(String),
}

impl RequestKey {
    pub fn name(&self) -> KeyName {
        match self {
            Self::Auto { edge, boot, number, .. } => KeyName::Auto(*edge, *boot, *number),
            Self::User { key, .. } => KeyName::User(key.clone()),
        }
    }

    /// Of the request; 0 for a key that a node gave, as it gives each only once.
    pub fn digest(&self) -> u64 {
        match self {
            Self::Auto { .. } => 0,
            Self::User { digest, .. } => *digest,
        }
    }

    /// As it is shown to people.
    pub fn shown(&self) -> &str {
        match self {
            Self::User { key, .. } => key,
            Self::Auto { .. } => "of the node that took the request",
        }
    }
}
