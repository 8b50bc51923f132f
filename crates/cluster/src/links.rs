//! The links to other nodes, and who is behind each.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Moment, Position, ReplicaId, Term};

use crate::claim::Claim;
use crate::greeting::{Health, Hello, Ping};
use crate::pulse::{Echo, Pulse};

/// A node that was not heard of for this long does not count as up, in microseconds; where owners
/// are granted much silence, for twice as long as they are.
pub const SILENCE_MICROS_MAX: u64 = 1_000_000;

/// A link is not sent on when another one to the same node was heard later by this much, in
/// microseconds.
const STALE_MICROS: u64 = 200_000;

/// A link counts as steady after this long without a pause, in microseconds. A detour lives on for
/// longer beside it, so that nothing is on its way over a detour that ends.
const STEADY_MICROS: u64 = 1_500_000;

/// How many links there may be: two for each node, and some that are about to end.
pub const LINKS_MAX: usize = 256;

pub struct Link {
    /// The address, when it was made from here.
    pub dialed: Option<String>,
    pub hello: Option<Hello>,
    /// Who it is, once that is sure.
    pub replica: Option<ReplicaId>,
    /// The address of the node there, if it is of another cluster, and may know this one.
    pub foreign: Option<String>,
    /// It leads over other nodes, or by datagrams, while no connection can be made.
    pub is_detour: bool,
    /// As its last ping said.
    pub health: Health,
    pub claim: Claim,
    /// What its clock showed, and when that was heard, in steady microseconds.
    wall: Option<(Moment, u64)>,
    /// When something came over it last, in steady microseconds.
    heard: u64,
    /// When it was last silent for longer than a link should be, or was made.
    unsteady: u64,
    /// When the last ping was sent at the other end, by its clock, and when it came.
    pinged: Option<(u64, u64)>,
}

/// How long silence is borne.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// A round trip to the farthest node that is up, in microseconds.
    pub round_trip_micros: u64,
    /// How long a node may be silent, in microseconds: half as long again as the longest pause
    /// between two signs of life, or two round trips.
    pub silence_micros: u64,
}

/// What is granted beyond the pauses and round trips that were measured, in microseconds.
const GRACE_MICROS: u64 = 50_000;

/// A step comes after this long at the latest while the process is not held up, in microseconds.
const STEP_MICROS_MAX: u64 = 20_000;

#[derive(Default)]
pub struct Links {
    links: BTreeMap<u64, Link>,
    pulses: BTreeMap<ReplicaId, Pulse>,
    patience: Patience,
    /// When the last step was.
    stepped: u64,
    /// How long this process has stood still in all, in microseconds.
    standstill: u64,
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

    /// Makes it one that is only used where the others are not well.
    pub fn is_a_detour(&mut self, link: u64) {
        if let Some(link) = self.links.get_mut(&link) {
            link.is_detour = true;
        }
    }

    pub(crate) fn opened(&mut self, link: u64, dialed: Option<String>, now: u64) {
        let fresh = Link {
            dialed,
            hello: None,
            replica: None,
            foreign: None,
            is_detour: false,
            health: Health::default(),
            claim: Claim::default(),
            wall: None,
            heard: now,
            unsteady: now,
            pinged: None,
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
        let stale_micros = self.stale_micros();
        let Some(link) = self.links.get_mut(&link) else { return };
        if now.saturating_sub(link.heard) > stale_micros {
            link.unsteady = now;
        }
        link.heard = now;
        if let Some(replica) = link.replica {
            self.pulses.entry(replica).or_default().heard(now, self.standstill);
        }
    }

    /// A step begins. If it is late, this process was held up, and what it has not heard meanwhile
    /// says nothing about others.
    pub fn stepped(&mut self, now: u64) {
        let passed = now.saturating_sub(self.stepped);
        self.standstill += passed.saturating_sub(STEP_MICROS_MAX);
        self.stepped = now;
    }

    /// A ping has come.
    pub fn pinged(&mut self, link: u64, ping: &Ping, now: u64) {
        let Some(link) = self.links.get_mut(&link) else { return };
        link.health = ping.health;
        link.claim = ping.claim;
        link.wall = Some((ping.wall, now));
        link.pinged = Some((ping.sent, now));
        if let (Some(replica), Some(echo)) = (link.replica, ping.echo) {
            self.pulses.entry(replica).or_default().echoed(echo, now);
        }
    }

    /// What a ping on that link says of the last one that came over it. Each is echoed once.
    pub fn echo(&mut self, link: u64, now: u64) -> Option<Echo> {
        let (sent, came) = self.links.get_mut(&link)?.pinged.take()?;
        Some(Echo { sent, held: now.saturating_sub(came) })
    }

    /// Looks how long silence is to be borne from now on.
    pub fn measure(&mut self, now: u64) -> Patience {
        let up = self.pulses.iter().filter(|(replica, _)| self.is_up(**replica, now));
        let mut patience = Patience::default();
        for (_, pulse) in up {
            let round_trip = pulse.round_trip();
            let silence = (pulse.pause() * 3 / 2).max(2 * round_trip) + GRACE_MICROS;
            patience.round_trip_micros = patience.round_trip_micros.max(round_trip);
            patience.silence_micros = patience.silence_micros.max(silence);
        }
        self.patience = patience;
        patience
    }

    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Where packets take long, they come irregularly: links that took turns would mix up the order
    /// of what is sent.
    fn stale_micros(&self) -> u64 {
        STALE_MICROS + self.patience.round_trip_micros
    }

    fn silence_max(&self) -> u64 {
        SILENCE_MICROS_MAX.max(2 * self.patience.silence_micros)
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

    /// The nodes that have links here.
    pub fn replicas(&self) -> BTreeSet<ReplicaId> {
        self.links.values().filter_map(|link| link.replica).collect()
    }

    pub fn len(&self) -> usize {
        self.links.len()
    }

    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// The link to send on: one made from here if there is, as it is the one that is watched; but a
    /// detour if there is one and the others are not steady, and none that has fallen silent while
    /// another has not.
    pub fn link_to(&self, replica: ReplicaId) -> Option<u64> {
        let to = |(_, link): &(&u64, &Link)| link.replica == Some(replica);
        let links = || self.links.iter().filter(to);
        let newest = links().map(|(_, link)| link.heard).max()?;
        let speaks = |(_, link): &(&u64, &Link)| link.heard + self.stale_micros() > newest;
        let is_steady = |link: &Link| link.unsteady + STEADY_MICROS < self.stepped;
        let rank = |link: &Link| match link.is_detour {
            true => (1, true),
            false if is_steady(link) => (0, link.dialed.is_none()),
            false => (2, link.dialed.is_none()),
        };
        let first = links().filter(speaks).min_by_key(|(id, link)| (rank(link), **id));
        first.map(|(id, _)| *id)
    }

    pub fn is_up(&self, replica: ReplicaId, now: u64) -> bool {
        let silence_max = self.silence_max();
        self.links.values().any(|link| {
            link.replica == Some(replica) && now.saturating_sub(link.heard) < silence_max
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

    /// The factories of the services that the members' programs have, as they said when they
    /// greeted.
    pub fn services(&self) -> impl Iterator<Item = (ReplicaId, &[String])> {
        let links = self.links.values();
        links.filter_map(|link| Some((link.replica?, link.hello.as_ref()?.services.as_slice())))
    }

    /// When it was last heard, over whatever link, in steady microseconds.
    pub fn heard_at(&self, replica: ReplicaId) -> Option<u64> {
        self.pulses.get(&replica)?.heard_at()
    }

    /// Since when it has been up and well reached; None while it is not. Who is reached by a detour
    /// only, or over a link that falters, is not well reached.
    pub fn steady_since(&self, replica: ReplicaId, now: u64) -> Option<u64> {
        let links = self.links.values().filter(|link| link.replica == Some(replica));
        links
            .filter(|link| !link.is_detour)
            .filter(|link| now.saturating_sub(link.heard) < self.silence_max())
            .map(|link| link.unsteady)
            .min()
    }

    /// Whether its disk takes writes, as far as is known.
    pub fn takes_writes(&self, replica: ReplicaId) -> bool {
        let mut links = self.links.values().filter(|link| link.replica == Some(replica));
        links.all(|link| link.health.takes_writes)
    }

    /// Whether the state of some group there was wrong and is being filled anew.
    pub fn is_filled(&self, replica: ReplicaId) -> bool {
        let mut links = self.links.values().filter(|link| link.replica == Some(replica));
        links.any(|link| link.health.is_filled)
    }

    /// Whether some group there has members that it should not have any more.
    pub fn is_shedding(&self, replica: ReplicaId) -> bool {
        let mut links = self.links.values().filter(|link| link.replica == Some(replica));
        links.any(|link| link.health.shedding > 0)
    }

    /// Whether it should own something, as far as its disk, its clock and its states are concerned.
    pub fn is_well(&self, replica: ReplicaId) -> bool {
        let mut links = self.links.values().filter(|link| link.replica == Some(replica));
        links
            .all(|link| link.health.takes_writes && !link.health.is_unfit && !link.health.is_filled)
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

    /// What the clocks showed of those who said who they are, the sandbox of each first, and when
    /// that was heard, in steady microseconds.
    pub fn walls(&self) -> impl Iterator<Item = (u64, Moment, u64)> {
        let said = |link: &Link| {
            let (wall, at) = link.wall?;
            Some((link.hello.as_ref()?.sandbox_id, wall, at))
        };
        self.links.values().filter_map(said)
    }

    /// Older links of the same sandbox: its process was started again since.
    pub fn outdated_by(&self, hello: &Hello) -> Vec<u64> {
        let same = |other: &Hello| {
            other.sandbox_id == hello.sandbox_id && other.start.boot < hello.start.boot
        };
        self.hellos().filter(|(_, other)| same(other)).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: ReplicaId = ReplicaId(2);

    /// A link made from here, one made there, and a detour.
    fn three() -> Links {
        let mut links = Links::default();
        for (id, dialed) in [(1, Some("http://b:1".to_owned())), (2, None), (3, None)] {
            assert!(links.admit(id, dialed, 0));
            links.get_mut(id).expect("it was admitted").replica = Some(OTHER);
        }
        links.is_a_detour(3);
        links
    }

    fn hear(links: &mut Links, ids: &[u64], until: u64) {
        while links.stepped < until {
            let now = links.stepped + 10_000;
            links.stepped(now);
            ids.iter().for_each(|id| links.heard(*id, now));
        }
    }

    #[test]
    fn a_detour_is_taken_while_the_link_is_not_steady() {
        let mut links = three();
        hear(&mut links, &[1, 2, 3], 1_000_000);
        assert_eq!(links.link_to(OTHER), Some(3), "the links are young");
        hear(&mut links, &[1, 2, 3], 2_000_000);
        assert_eq!(links.link_to(OTHER), Some(1));
        hear(&mut links, &[3], 2_500_000);
        assert_eq!(links.link_to(OTHER), Some(3), "the links are silent");
        hear(&mut links, &[1, 2, 3], 3_000_000);
        assert_eq!(links.link_to(OTHER), Some(3), "the links have just been silent");
    }

    #[test]
    fn a_silent_link_gives_way_to_one_that_speaks() {
        let mut links = three();
        links.closed(3);
        hear(&mut links, &[1, 2], 2_000_000);
        assert_eq!(links.link_to(OTHER), Some(1));
        hear(&mut links, &[2], 2_300_000);
        assert_eq!(links.link_to(OTHER), Some(2));
    }

    #[test]
    fn who_is_reached_by_a_detour_only_is_up_but_not_steady() {
        let mut links = three();
        links.closed(1);
        links.closed(2);
        hear(&mut links, &[3], 5_000_000);
        assert!(links.is_up(OTHER, 5_000_000));
        assert_eq!(links.steady_since(OTHER, 5_000_000), None);
    }

    fn ping(sent: u64, echo: Option<Echo>) -> Ping {
        Ping {
            health: Health::default(),
            wall: Moment(0),
            claim: Claim::default(),
            frames: 0,
            committed: Vec::new(),
            sent,
            echo,
        }
    }

    #[test]
    fn silence_is_borne_by_what_was_measured() {
        let mut links = three();
        hear(&mut links, &[1], 300_000);
        assert_eq!(links.measure(300_000).silence_micros, 15_000 + GRACE_MICROS);
        let echo = Some(Echo { sent: 100_000, held: 50_000 });
        links.pinged(1, &ping(77, echo), 300_000);
        assert_eq!(links.measure(300_000).round_trip_micros, 150_000);
        assert_eq!(links.echo(1, 310_000), Some(Echo { sent: 77, held: 10_000 }));
        assert_eq!(links.echo(1, 310_000), None, "once");
        // This process stood still: nobody else did.
        links.stepped(900_000);
        links.heard(1, 900_000);
        assert_eq!(links.measure(900_000).silence_micros, 2 * 150_000 + GRACE_MICROS);
    }
}
