//! A request of a client, the ticket under which it is answered, and how it can be known again.

use std::sync::Arc;

use protocol::{Request, RequestKey, Response};

/// A request with its ticket.
pub(super) struct Asked {
    pub(super) ticket: u64,
    pub(super) request: Arc<Request>,
    pub(super) known: Known,
}

/// How a request can be known again.
#[derive(Default)]
pub(super) struct Known {
    pub(super) key: Option<RequestKey>,
    /// It may be a repeat.
    pub(super) is_retry: bool,
    /// Another owner may have begun it and been stopped by it.
    pub(super) is_resent: bool,
}

/// A write that changed nothing, with its answer.
pub(super) struct Unchanged {
    pub(super) asked: Asked,
    pub(super) response: Response,
}
