//! What a leader has proposed while its log is held, see [`Replica::hold`](crate::Replica::hold).

use std::collections::VecDeque;

use bytes::Bytes;

/// More bytes of proposals wait at a held log: they are refused, as when too much is under way.
const HELD_BYTES_MAX: usize = 64 << 20;

/// What waits for the end of a hold.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) proposals: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

impl Held {
    /// False when there is no room.
    pub(crate) fn put(&mut self, proposal: u64, data: Bytes) -> bool {
        if self.bytes + data.len() > HELD_BYTES_MAX {
            return false;
        }
        self.bytes += data.len();
        self.proposals.push_back((proposal, data));
        true
    }
}
