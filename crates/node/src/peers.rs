//! The links to other nodes, and who is behind each of them.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Position, ReplicaId, Term};

use crate::frame::Hello;
use crate::quorum::Claim;

/// A node that was not heard of for this long does not count as up, in microseconds.
pub(crate) const SILENCE_MICROS_MAX: u64 = 1_000_000;

/// How many links there may be: two for each node, and some that are about to end.
pub(crate) const LINKS_MAX: usize = 256;

pub(crate) struct Link {
    /// The address, when it was made from here.
    pub(crate) dialed: Option<String>,
    pub(crate) hello: Option<Hello>,
    /// Who it is, once that is sure.
    pub(crate) replica: Option<ReplicaId>,
    /// As its last ping said.
    pub(crate) takes_writes: bool,
    pub(crate) claim: Claim,
    opened: u64,
    heard: u64,
}

#[derive(Default)]
pub(crate) struct Peers {
    links: BTreeMap<u64, Link>,
    /// What was claimed on links that are closed.
    claimed: BTreeSet<Claim>,
}

impl Peers {
    pub(crate) fn opened(&mut self, link: u64, dialed: Option<String>, now: u64) {
        let fresh = Link {
            dialed,
            hello: None,
            replica: None,
            takes_writes: true,
            claim: Claim::default(),
            opened: now,
            heard: now,
        };
        self.links.insert(link, fresh);
    }

    pub(crate) fn closed(&mut self, link: u64) -> Option<Link> {
        let link = self.links.remove(&link)?;
        if link.replica.is_some() {
            self.claimed.insert(link.claim);
        }
        Some(link)
    }

    pub(crate) fn heard(&mut self, link: u64, now: u64) {
        if let Some(link) = self.links.get_mut(&link) {
            link.heard = now;
        }
    }

    pub(crate) fn get(&self, link: u64) -> Option<&Link> {
        self.links.get(&link)
    }

    pub(crate) fn get_mut(&mut self, link: u64) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.links.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// The link to send on: one made from here if there is, as it is the one that is watched.
    pub(crate) fn link_to(&self, replica: ReplicaId) -> Option<u64> {
        let to = |(_, link): &(&u64, &Link)| link.replica == Some(replica);
        let links = || self.links.iter().filter(to);
        links()
            .find(|(_, link)| link.dialed.is_some())
            .or_else(|| links().next())
            .map(|(id, _)| *id)
    }

    pub(crate) fn is_up(&self, replica: ReplicaId, now: u64) -> bool {
        self.links.values().any(|link| {
            link.replica == Some(replica) && now.saturating_sub(link.heard) < SILENCE_MICROS_MAX
        })
    }

    /// Since when it has been up; None while it is not.
    pub(crate) fn up_since(&self, replica: ReplicaId, now: u64) -> Option<u64> {
        let links = self.links.values().filter(|link| link.replica == Some(replica));
        links
            .filter(|link| now.saturating_sub(link.heard) < SILENCE_MICROS_MAX)
            .map(|link| link.opened)
            .min()
    }

    /// Whether its disk takes writes, as far as is known.
    pub(crate) fn takes_writes(&self, replica: ReplicaId) -> bool {
        let mut links = self.links.values().filter(|link| link.replica == Some(replica));
        links.all(|link| link.takes_writes)
    }

    /// What replicas said about the quorum: the last of each open link, and of each closed one.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &Claim> {
        let known = self.links.values().filter(|link| link.replica.is_some());
        known.map(|link| &link.claim).chain(&self.claimed)
    }

    /// Everything up to there is known by other means.
    pub(crate) fn forget_claims(&mut self, applied: (Term, Position)) {
        self.claimed.retain(|claim| claim.reach > applied);
    }

    /// What was said over each link by whom.
    pub(crate) fn hellos(&self) -> impl Iterator<Item = (u64, &Hello)> {
        self.links.iter().filter_map(|(id, link)| link.hello.as_ref().map(|hello| (*id, hello)))
    }

    /// Older links of the same sandbox: its process was started again since.
    pub(crate) fn outdated_by(&self, hello: &Hello) -> Vec<u64> {
        let same = |other: &Hello| other.sandbox_id == hello.sandbox_id && other.boot < hello.boot;
        self.hellos().filter(|(_, other)| same(other)).map(|(id, _)| id).collect()
    }
}
