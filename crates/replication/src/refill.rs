//! A replica whose state differs from the others' has all entries: what it needs is the state that
//! follows from them.

use protocol::ReplicaId;

use crate::Group;

impl Group {
    /// Asks the owner for its state in place of the one here, which is not what follows from the
    /// log. May be called often. The owner must know that this replica means it
    /// ([`Group::expect_refill`]).
    ///
    /// **Invariant:** nothing that this replica has acknowledged is lost by it: what is asked for
    /// stands at or after its last entry, and until it is there no other entries are taken.
    pub fn ask_for_state(&mut self) {
        self.wake();
        if self.raw.raft.pending_request_snapshot == raft::INVALID_INDEX {
            // Without an owner, or with the last owner's entries alone, it is asked later.
            let _asked_or_asked_later = self.raw.raft.request_snapshot();
        }
    }

    /// That replica will ask for the state, though it has all entries.
    pub fn expect_refill(&mut self, of: ReplicaId) {
        if self.is_owner() {
            self.snapshots.refills.insert(of, self.raw.raft.term);
            // Its request goes with its answers to heartbeats.
            self.wake();
        }
    }
}
