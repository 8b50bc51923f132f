//! What tells a repeated request from a new one.

use serde::{Deserialize, Serialize};

use crate::{Principal, ReplicaId};

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
        /// As it was given, and whose it is: see [`Self::owned_by`].
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

/// Between the key that was given and whose it is. No header can have it.
const OWNED_BY: char = '\n';

impl RequestKey {
    /// The key that somebody has given. Everybody has keys of their own, and so have the tasks that
    /// act for them: nobody takes a key away from somebody else, or finds out that it was used.
    #[must_use]
    pub fn owned_by(key: &str, who: &Principal, is_of_a_task: bool) -> String {
        let task = if is_of_a_task { "\ntask" } else { "" };
        match who.user() {
            Some(user) => format!("{key}{task}{OWNED_BY}{user}"),
            None => format!("{key}{task}"),
        }
    }

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
            Self::User { key, .. } => key.split(OWNED_BY).next().unwrap_or_default(),
            Self::Auto { .. } => "of the node that took the request",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_whoever_gave_it() {
        let of = |user: &str| Principal::User(user.into());
        let mut all = std::collections::BTreeSet::new();
        for who in [Principal::Anonymous, of("/users/jane"), of("/users/joe")] {
            for is_of_a_task in [false, true] {
                let key = RequestKey::owned_by("k1", &who, is_of_a_task);
                let shown = RequestKey::User { key: key.clone(), digest: 0 };
                assert_eq!(shown.shown(), "k1");
                assert!(all.insert(key.clone()), "{key:?} is of two");
            }
        }
    }
}
