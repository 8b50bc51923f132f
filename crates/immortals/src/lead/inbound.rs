//! How far the messages of other instances have come, those on their way into the log included.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use protocol::GroupId;

use crate::history::entry::Lane;

/// How often senders that are gone are looked for when there are many, in microseconds.
const LOOK_MICROS: u64 = 1_000_000;

/// Messages of another instance.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) from: GroupId,
    pub(crate) lane: Lane,
    /// The sender's name.
    pub(crate) name: String,
    /// The lowest number that the sender still has.
    pub(crate) floor: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) messages: Bytes,
}

#[derive(Debug, Default)]
pub(crate) struct Inbound {
    /// There is a program that will handle messages of others.
    pub(crate) is_accepting: bool,
    /// When that was otherwise last, or when the ownership began.
    pub(crate) changed_at: u64,
    /// The next number of each sender.
    next: BTreeMap<(GroupId, Lane), u64>,
    /// Senders that are gone and are being forgotten: the entry is on its way into the log.
    forgetting: BTreeSet<GroupId>,
    looked_at: u64,
    /// How many messages came once more in this ownership, and were dropped.
    pub(crate) repeats: u64,
}

impl Inbound {
    pub(crate) fn new(now: u64) -> Self {
        Self { changed_at: now, ..Self::default() }
    }

    /// Says whether there is a program now. True if there was none before.
    pub(crate) fn set_accepting(&mut self, is_accepting: bool, now: u64) -> bool {
        if self.is_accepting == is_accepting {
            return false;
        }
        (self.is_accepting, self.changed_at) = (is_accepting, now);
        is_accepting
    }

    /// The next number of a sender, if something of it was taken in this ownership.
    pub(crate) fn next_of(&self, from: GroupId, lane: Lane) -> Option<u64> {
        self.next.get(&(from, lane)).copied()
    }

    pub(crate) fn set_next(&mut self, from: GroupId, lane: Lane, next: u64) {
        let former = self.next.insert((from, lane), next);
        assert!(
            former.is_none_or(|former| former <= next),
            "Invariant: the next number of a sender goes up, not from {former:?} to {next}"
        );
    }

    /// Whether these impulses are of an earlier session of the sender, and so would not fit into
    /// the log.
    pub(crate) fn has_later_session(&self, from: GroupId, session: u64) -> bool {
        let later = (from, Lane::Impulses { session: session.saturating_add(1) });
        let last = (from, Lane::Impulses { session: u64::MAX });
        session < u64::MAX && self.next.range(later..=last).next().is_some()
    }

    /// Only the last session of each sender counts.
    pub(crate) fn forget_sessions_before(&mut self, from: GroupId, session: u64) {
        let first = (from, Lane::Impulses { session: 0 });
        let former = self.next.range(first..(from, Lane::Impulses { session }));
        for key in former.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.next.remove(&key);
        }
    }

    pub(crate) fn is_forgetting(&self, from: GroupId) -> bool {
        self.forgetting.contains(&from)
    }

    pub(crate) fn forget(&mut self, senders: &[GroupId]) {
        self.forgetting = senders.iter().copied().collect();
        let forgetting = &self.forgetting;
        self.next.retain(|(group, _), _| !forgetting.contains(group));
    }

    /// The log has forgotten them.
    pub(crate) fn has_forgotten(&mut self) {
        self.forgetting.clear();
    }

    /// When senders that are gone are to be looked for next.
    pub(crate) fn look_at(&self) -> u64 {
        self.looked_at.saturating_add(LOOK_MICROS)
    }

    pub(crate) fn looked(&mut self, now: u64) {
        self.looked_at = now;
    }
}
