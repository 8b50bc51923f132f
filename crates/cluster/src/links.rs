//! The links to other nodes, and who is behind each.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Position, ReplicaId, Term};

use crate::claim::Claim;
use crate::greeting::Hello;

/// A node that was not heard of for this long does not count as up, in microseconds.
pub const SILENCE_MICROS_MAX: u64 = 1_000_000;

/// How many links there may be: two for each node, and some that are about to end.
pub const LINKS_MAX: usize = 256;

pub struct Link {
    /// The address, when it was made from here.
    pub dialed: Option<String>,
    pub hello: Option<Hello>,
    /// Who it is, once that is sure.
    pub replica: Option<ReplicaId>,
    /// As its last ping said.
    pub takes_writes: bool,
    pub claim: Claim,
    /// When it was made, and when something came over it last, in steady microseconds.
    opened: u64,
    heard: u64,
}

#[derive(Default)]
pub struct Links {
    links: BTreeMap<u64, Link>,
    /// What was claimed on links that are closed.
    claimed: BTreeSet<Claim>,
}

impl Links {
    /// A link was made. False: there are too many, and it is to be closed.
    #[must_use]
    pub fn admit(&mut self, link: u64, dialed: Option<String>, now: u64) -> bool {
        let has_room = self.links.len() < LINKS_MAX;
        if has_room {
            self.opened(link, dialed, now);
        }
        has_room
    }

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

    pub fn closed(&mut self, link: u64) -> Option<Link> {
        let link = self.links.remove(&link)?;
        if link.replica.is_some() {
            self.claimed.insert(link.claim);
        }
        Some(link)
    }

    pub fn heard(&mut self, link: u64, now: u64) {
        if let Some(link) = self.links.get_mut(&link) {
            link.heard = now;
        }
    }

    pub fn get(&self, link: u64) -> Option<&Link> {
        self.links.get(&link)
    }

    pub fn get_mut(&mut self, link: u64) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }

    pub fn ids(&self) -> Vec<u64> {
        self.links.keys().copied().collect()
    }

    pub fn len(&self) -> usize {
        self.links.len()
    }

    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// The link to send on: one made from here if there is, as it is the one that is watched.
    pub fn link_to(&self, replica: ReplicaId) -> Option<u64> {
        let to = |(_, link): &(&u64, &Link)| link.replica == Some(replica);
        let links = || self.links.iter().filter(to);
        links()
            .find(|(_, link)| link.dialed.is_some())
            .or_else(|| links().next())
            .map(|(id, _)| *id)
    }

    pub fn is_up(&self, replica: ReplicaId, now: u64) -> bool {
        self.links.values().any(|link| {
            link.replica == Some(replica) && now.saturating_sub(link.heard) < SILENCE_MICROS_MAX
        })
    }

    /// The nodes that have links here and were silent for so long at least, each with how long it
    /// has been silent, in microseconds. A node that lives says something ten times a second.
    pub fn silent(&self, at_least: u64, now: u64) -> Vec<(ReplicaId, u64)> {
        let mut silences = BTreeMap::new();
        for link in self.links.values() {
            let Some(replica) = link.replica else { continue };
            let silence = now.saturating_sub(link.heard);
            let least = silences.entry(replica).or_insert(silence);
            *least = silence.min(*least);
        }
        silences.into_iter().filter(|(_, silence)| *silence >= at_least).collect()
    }

    /// Since when it has been up; None while it is not.
    pub fn up_since(&self, replica: ReplicaId, now: u64) -> Option<u64> {
        let links = self.links.values().filter(|link| link.replica == Some(replica));
        links
            .filter(|link| now.saturating_sub(link.heard) < SILENCE_MICROS_MAX)
            .map(|link| link.opened)
            .min()
    }

    /// Whether its disk takes writes, as far as is known.
    pub fn takes_writes(&self, replica: ReplicaId) -> bool {
        let mut links = self.links.values().filter(|link| link.replica == Some(replica));
        links.all(|link| link.takes_writes)
    }

    /// What replicas said about the quorum: the last claim of each open link, and of each closed
    /// one.
    pub fn claims(&self) -> impl Iterator<Item = &Claim> {
        let known = self.links.values().filter(|link| link.replica.is_some());
        known.map(|link| &link.claim).chain(&self.claimed)
    }

    /// Everything up to there is known by other means.
    pub fn forget_claims(&mut self, applied: (Term, Position)) {
        self.claimed.retain(|claim| claim.reach > applied);
    }

    /// What was said over each link by whom.
    pub fn hellos(&self) -> impl Iterator<Item = (u64, &Hello)> {
        self.links.iter().filter_map(|(id, link)| link.hello.as_ref().map(|hello| (*id, hello)))
    }

    /// Older links of the same sandbox: its process was started again since.
    pub fn outdated_by(&self, hello: &Hello) -> Vec<u64> {
        let same = |other: &Hello| other.sandbox_id == hello.sandbox_id && other.boot < hello.boot;
        self.hellos().filter(|(_, other)| same(other)).map(|(id, _)| id).collect()
    }
}
