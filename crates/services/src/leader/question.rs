//! What a quorum is to confirm the ownership for.

use super::asked::{Asked, Unchanged};
use super::query::Compiled;

/// What is answered once a quorum has confirmed the ownership.
pub(super) enum Question {
    Read(Asked),
    /// A write that changes nothing as the state is.
    Held(Unchanged),
    Query(Compiled),
    Available,
}
