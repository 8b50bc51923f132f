//! The data of an ownership.

use std::collections::BTreeSet;

use protocol::Term;

use crate::base::record::BlobWriter;
use crate::history::entry::GenesisEnd;
use crate::lead::clock::Clock;
use crate::lead::inbound::Inbound;
use crate::lead::log_queue::LogQueue;
use crate::lead::outbound::Outbound;
use crate::lead::own_inputs::OwnInputs;
use crate::lead::schedule::{CheckpointSchedule, Succession};
use crate::lead::upgrade::UpgradeCourse;

/// What only the owner of an instance has, from [`crate::Instance::lead`] to
/// [`crate::Instance::follow`].
///
/// **Invariant:** an instance's seat is primary only while there is a `Lead` for it.
pub struct Lead {
    pub(crate) term: Term,
    /// The last input that was logged when the ownership began. The program becomes the primary
    /// when it has handled that input.
    pub(crate) began_after: u64,
    pub(crate) clock: Clock,
    pub(crate) queue: LogQueue,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    pub(crate) own: OwnInputs,
    pub(crate) upgrade: UpgradeCourse,
    pub(crate) genesis: Option<GenesisUpload>,
    /// Destinations for which the program was told that there is no room.
    pub(crate) short: BTreeSet<String>,
    pub(crate) checkpoints: CheckpointSchedule,
    pub(crate) succession: Succession,
}

/// The first state on its way into the log. The program gives it as fast as it likes, so it is
/// written to the store first, and proposed from there piece by piece.
#[derive(Debug)]
pub(crate) struct GenesisUpload {
    pub(crate) state: BlobWriter,
    /// The number of the next piece to be proposed.
    pub(crate) next: u32,
    /// The bytes on their way into the log.
    pub(crate) in_flight: usize,
    /// Present when the program has given the whole state.
    pub(crate) end: Option<GenesisEnd>,
}

impl Lead {
    /// The names of the instances to which something was sent in this ownership.
    pub fn destinations(&self) -> impl Iterator<Item = &str> {
        self.outbound.destinations()
    }

    /// Rises whenever [`Self::destinations`] has a new name.
    pub fn destinations_begun(&self) -> u64 {
        self.outbound.flows_begun()
    }

    /// How many messages of others came once more in this ownership, and were dropped.
    pub fn repeats(&self) -> u64 {
        self.inbound.repeats
    }

    /// Since when a destination has taken none of the messages to it, although there were some.
    pub fn stands_since(&self, destination: &str) -> Option<u64> {
        self.outbound.stands_since(destination)
    }

    /// Nothing is on its way into the log.
    pub fn is_idle(&self) -> bool {
        self.queue.is_idle() && self.genesis.is_none()
    }
}
