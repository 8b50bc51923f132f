//! What the leader has put into the log and has not seen applied.

use std::collections::VecDeque;

use protocol::GroupId;

use super::asked::Unchanged;

/// What a proposal was made for.
pub(super) enum Proposed {
    /// A new version of the document with that link.
    Write(String),
    /// New versions of the documents of a batch.
    Batch(u64),
    Fence {
        ticket: u64,
    },
    /// What is answered to a write that changed nothing.
    Remember(Box<Unchanged>),
    /// What has expired goes.
    Expire,
    /// Messages to instances go that are confirmed.
    Confirm,
    /// A write of an instance was refused or has changed nothing, and the instance with that name
    /// is told.
    Note(GroupId, Option<String>),
    /// One before it came back without effect, so it will have none either.
    GivenUp,
}

/// In the order of their numbers, which is that of the log.
#[derive(Default)]
pub(super) struct Proposals(VecDeque<(u64, Proposed)>);

impl Proposals {
    pub(super) fn push(&mut self, number: u64, proposed: Proposed) {
        self.0.push_back((number, proposed));
    }

    /// The oldest one is applied.
    pub(super) fn came_back(&mut self, number: u64) -> Proposed {
        let (first, proposed) = self.0.pop_front().expect("what comes back was proposed");
        assert!(first == number, "proposals come back in order: {number}, awaited {first}");
        proposed
    }

    /// One was surely not put into the log.
    pub(super) fn take(&mut self, number: u64) -> Option<Proposed> {
        let at = self.place(number)?;
        self.0.remove(at).map(|(_, proposed)| proposed)
    }

    /// Whatever comes of a proposal has no effect here any more.
    pub(super) fn give_up(&mut self, number: u64) {
        if let Some(at) = self.place(number) {
            self.0[at].1 = Proposed::GivenUp;
        }
    }

    /// Whether what has expired is about to go.
    pub(super) fn is_expiring(&self) -> bool {
        self.0.iter().any(|(_, proposed)| matches!(proposed, Proposed::Expire))
    }

    fn place(&self, number: u64) -> Option<usize> {
        self.0.binary_search_by_key(&number, |(at, _)| *at).ok()
    }
}
