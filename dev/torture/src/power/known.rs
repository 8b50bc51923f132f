//! What a client knows that writes one version, or one number, after the other.

use std::time::Duration;

/// How long the nodes may take to serve again.
pub(super) const START_MAX: Duration = Duration::from_secs(120);

/// How long a client waits for one node.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What it has sent last, and the last that was acknowledged. The next one is sent when this one is
/// acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) is_made: bool,
}
