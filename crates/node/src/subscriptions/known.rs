//! A subscription as a node knows it: whose changes, who is told, and with whose rights.

use protocol::subscription::Subscription;
use protocol::{Address, Document, GroupId, Principal, Problem};

use super::scope::Scope;
use super::telling::Telling;

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Outside,
    /// A document of this cluster.
    Link(String),
}

pub(crate) struct Known {
    pub(crate) group: GroupId,
    pub(crate) state: Subscription,
    /// Of the version that is known here.
    pub(crate) etag: String,
    pub(crate) scope: Scope,
    /// While this node owns it.
    pub(crate) telling: Option<Telling>,
}

impl Known {
    /// # Errors
    /// When the document is none that this version can read.
    pub(crate) fn of(document: &Document, group: GroupId) -> Result<Self, Problem> {
        let state: Subscription = serde_json::from_slice(document.body.as_bytes())
            .map_err(|error| Problem::bad_body(error.to_string()))?;
        let scope = Scope::of(&state)?;
        Ok(Self { group, state, etag: document.etag(), scope, telling: None })
    }

    pub(crate) fn principal(&self) -> Principal {
        match &self.state.principal_link {
            Some(user) => Principal::User(user.as_str().into()),
            None => Principal::Anonymous,
        }
    }
}

impl Target {
    /// A reference to a node of this cluster means what is there, wherever that node is.
    pub(crate) fn of(reference: &str, is_member: impl Fn(&Address) -> bool) -> Self {
        if reference.starts_with('/') {
            return Self::Link(reference.to_owned());
        }
        match protocol::subscription::split_reference(reference) {
            Ok((address, path)) if is_member(&address) => Self::Link(path),
            _ => Self::Outside,
        }
    }
}
