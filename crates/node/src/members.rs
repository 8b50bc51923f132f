//! How nodes come into the cluster and leave it for good.
//!
//! A node that is new to the cluster waits for a person, whom `amrita nodes` shows it. A node that
//! has the name and the address of a member which has been down for a while is that member with an
//! empty sandbox, and comes back by itself; one that was down for a moment only could be alive. A
//! member that a person removes leaves one group after the other; when it is in none any more, the
//! directory forgets it, and from then on it is told so by whomever it speaks to.

use cluster::{Candidate, DirectoryCommand, Place};
use protocol::{GroupId, ReplicaId};

use crate::frame::Frame;
use crate::hosted::AnyReplica;
use crate::io::{Level, Output};
use crate::membership::{Fate, Host, Membership};
use crate::work::Purpose;

/// How long a member that lives stays at least after its removal has begun, in microseconds: other
/// nodes have heard of it by then, and have said which of their groups still need it.
const LEAVING_MICROS_MIN: u64 = 2_000_000;

/// What a node is told that was removed.
pub(crate) fn was_removed(node_id: &str) -> String {
    format!(
        "node '{node_id}' was removed from the cluster for good, and nothing that is in its sandbox \
         counts there any more. To bring the machine back as a new node, start it with an empty \
         --sandbox; a person lets it in with `amrita admit {node_id}`"
    )
}

/// Whether a node believes the sender that it was removed, as far as it knows the sender: as a
/// member, or as one that came after all that it knows.
fn believes(
    is_of_ours: bool,
    sender: Option<ReplicaId>,
    owner: Option<ReplicaId>,
    is_leaving: bool,
) -> bool {
    // Who has an owner of the directory beside the sender belongs to a cluster that works. One that
    // was removed loses its owner soon, and is told again.
    let is_at_home = owner.is_some() && owner != sender && !is_leaving;
    is_of_ours && sender.is_some() && !is_at_home
}

/// See [`crate::Timing::away_ticks`].
fn away_micros_min(host: &Host<'_>) -> u64 {
    let timing = host.config.timing;
    timing.away_ticks.saturating_mul(timing.tick_micros)
}

impl Membership {
    /// A newcomer asks to be admitted. The replica that it was before, if there was one, must be
    /// gone.
    pub(crate) fn admit(&mut self, link: u64, candidate: Candidate, host: &mut Host<'_>) {
        let topology = &self.control.map.topology;
        if topology.replica_of(candidate.sandbox_id).is_some() || !topology.is_formed() {
            return;
        }
        if let Some(why) = self.why_never(&candidate) {
            return host.effects.refuse(link, why);
        }
        // The newcomer asks again by itself. If its request waited here for an owner, it could be
        // carried out after a person has put the former sandbox back.
        if self.shard.directory.consensus.owner().is_none() {
            return;
        }
        if self.wants_a_living_nodes_place(link, &candidate, host) {
            return;
        }
        match self.control.map.topology.place_of(&candidate) {
            // The removal comes to its end first.
            Place::Own(former) | Place::Another(former)
                if self.control.map.topology.is_leaving(former) => {}
            Place::Own(former) if self.is_away(former, link, host) => self.let_in(candidate, host),
            // Who would take the place of another member is for a person to decide in any case.
            Place::New if host.config.permits.admits_who_asks => self.let_in(candidate, host),
            _ => self.list(link, candidate, host),
        }
    }

    fn why_never(&self, candidate: &Candidate) -> Option<String> {
        if !candidate.is_plain() {
            return Some("a node that asks to join needs a name and an address".into());
        }
        let is_refused = self.control.map.topology.is_refused(candidate.sandbox_id);
        is_refused.then(|| {
            format!(
                "node '{}' at {} asked to join the cluster, and a person has refused it. To ask \
                 again, start it with an empty --sandbox",
                candidate.node_id, candidate.uri
            )
        })
    }

    /// Nobody takes the place of a node that lives.
    fn wants_a_living_nodes_place(
        &mut self,
        link: u64,
        candidate: &Candidate,
        host: &mut Host<'_>,
    ) -> bool {
        let is_up = |id| self.control.is_up(id, host.links, host.now);
        let topology = &self.control.map.topology;
        let mut living = topology.members().iter().filter(|(id, _)| is_up(**id));
        let twin = living.find(|(_, member)| candidate.is_like(member));
        let Some((_, twin)) = twin else { return false };
        if twin.uri != candidate.uri {
            let why = format!(
                "another node is called '{}', at {}; give each its own --id",
                twin.node_id, twin.uri
            );
            host.effects.refuse(link, why);
            return true;
        }
        // Its process may have ended just now. The newcomer asks again until that is known.
        if self.living.told.replace(candidate.sandbox_id) != Some(candidate.sandbox_id) {
            let text = format!(
                "a node '{}' with an empty sandbox asks to be admitted at {}, where node '{}' is \
                 alive: it has to wait until that one has ended",
                candidate.node_id, twin.uri, twin.node_id
            );
            host.effects.note(Level::Warn, text);
        }
        true
    }

    /// Looks which members are alive.
    pub(crate) fn see_who_lives(&mut self, host: &Host<'_>) {
        let members = self.control.map.topology.members().keys();
        let is_up = |id: &ReplicaId| (*id, self.control.is_up(*id, host.links, host.now));
        self.living.see(members.map(is_up), host.now.steady_micros);
    }

    /// Whether a newcomer with the name and the address of a member may be taken for it. One that
    /// has put its sandbox aside itself, as it could not prove what that had promised, is the one
    /// that was there.
    fn is_away(&self, former: ReplicaId, link: u64, host: &Host<'_>) -> bool {
        let hello = host.links.get(link).and_then(|link| link.hello.as_ref());
        let forgot = hello.is_some_and(|hello| hello.forgot.is_some());
        forgot || self.living.away_micros(former, host.now.steady_micros) >= away_micros_min(host)
    }

    fn let_in(&mut self, candidate: Candidate, host: &mut Host<'_>) {
        self.change(Purpose::Own, &DirectoryCommand::Admit(candidate), host);
    }

    /// A person is to say whether it may come in.
    fn list(&mut self, link: u64, candidate: Candidate, host: &mut Host<'_>) {
        let (name, uri) = (candidate.node_id.clone(), candidate.uri.clone());
        let sandbox = candidate.sandbox_id;
        let place = self.control.map.topology.place_of(&candidate);
        if self.asking.asked(candidate, host.now.steady_micros) {
            let by_itself = match place {
                Place::Own(former) => format!(
                    ". The node of that name and address was alive {} s ago; when it has been away \
                     for {} s, this one takes its place",
                    self.living.away_micros(former, host.now.steady_micros) / 1_000_000,
                    away_micros_min(host) / 1_000_000
                ),
                _ => String::new(),
            };
            let text = format!(
                "node '{name}' at {uri} asks to join the cluster: `amrita admit {name}` lets it in, \
                 and `amrita admit --refuse {name}` does not{by_itself}"
            );
            host.effects.note(Level::Warn, text);
            self.tell_who_asks(host);
        }
        if self.asking.all().any(|asker| asker.sandbox_id == sandbox) {
            host.effects.outbox.send_on(link, Frame::Listed);
        }
    }

    /// Tells the other members who asks here, so that all of them show the same.
    pub(crate) fn tell_who_asks(&mut self, host: &mut Host<'_>) {
        let topology = &self.control.map.topology;
        let is_settled =
            |sandbox| topology.replica_of(sandbox).is_some() || topology.is_refused(sandbox);
        self.asking.forget(host.now.steady_micros, is_settled);
        let here = self.asking.here();
        if here.is_empty() {
            return;
        }
        for replica in topology.members().keys().filter(|id| **id != self.control.me) {
            host.effects.outbox.send(*replica, Frame::Asking(here.clone()));
        }
    }

    /// The directory's owner ends the removals of members that no group has any more.
    pub(crate) fn end_removals(&mut self, host: &mut Host<'_>) {
        let now = host.now.steady_micros;
        let leaving: Vec<ReplicaId> = self.control.map.topology.leaving().collect();
        self.leaving_since.retain(|replica, _| leaving.contains(replica));
        for replica in leaving {
            let since = *self.leaving_since.entry(replica).or_insert(now);
            let waited = now.saturating_sub(since);
            if self.shard.is_serving(GroupId::DIRECTORY) && self.has_left(replica, waited, host) {
                self.change(Purpose::Own, &DirectoryCommand::Removed { replica }, host);
            }
        }
    }

    /// The directory's owner notes where members are that have come back at another address.
    pub(crate) fn note_moves(&mut self, host: &mut Host<'_>) {
        if !self.shard.is_serving(GroupId::DIRECTORY) {
            self.moves_told.clear();
            return;
        }
        let members = self.control.map.topology.members();
        let mut moves = Vec::new();
        for (replica, member) in members {
            // A link of the process before may still be open.
            let said = host.links.hellos().filter(|(link, hello)| {
                let is_known = host.links.get(*link).is_some_and(|link| link.replica.is_some());
                is_known && hello.sandbox_id == member.sandbox_id
            });
            let newest = said.max_by_key(|(_, hello)| hello.start.boot);
            let uri = match newest {
                _ if *replica == self.control.me => &host.profile.uri,
                Some((_, hello)) => &hello.uri,
                None => continue,
            };
            if *uri != member.uri {
                let other = members.values().find(|other| other.uri == *uri);
                let other = other.map(|other| other.node_id.clone());
                moves.push((*replica, member.node_id.clone(), uri.clone(), other));
            }
        }
        self.moves_told.retain(|replica, _| moves.iter().any(|(id, ..)| id == replica));
        for (replica, name, uri, other) in moves {
            // What is under way, or cannot be, is said once.
            if self.moves_told.insert(replica, uri.clone()).as_ref() == Some(&uri) {
                continue;
            }
            if let Some(other) = other {
                let text = format!(
                    "node {name} says that it is at {uri}, where node {other} is listed: give one of \
                     them another --port or --public-uri"
                );
                host.effects.note(Level::Warn, text);
                continue;
            }
            host.effects.note(Level::Info, format!("node {name} is at {uri} now, as it says"));
            self.change(Purpose::Own, &DirectoryCommand::Moved { replica, uri }, host);
        }
    }

    /// Whether no group needs that member, as far as this node knows: if its own replica of a group
    /// is behind, it is one that needs it. Instances may be on other nodes only, which say so;
    /// where there are instances, a member that stays and is away may have one that needs it.
    fn has_left(&self, replica: ReplicaId, waited: u64, host: &Host<'_>) -> bool {
        let has_it = |group: GroupId| {
            let here = self.shard.get(group).map(AnyReplica::consensus);
            here.is_none_or(|consensus| {
                let members = consensus.members();
                members.voters.is_empty() || members.contains(replica)
            })
        };
        if self.shard.document_groups().any(has_it) {
            return false;
        }
        let topology = &self.control.map.topology;
        let is_up = |id| self.control.is_up(id, host.links, host.now);
        if topology.instance_count() == 0 && !is_up(replica) {
            return true;
        }
        let needs_it = |other: ReplicaId| match is_up(other) {
            true => host.links.is_shedding(other),
            false => topology.instance_count() > 0 && !topology.is_leaving(other),
        };
        let mut others = topology.members().keys().filter(|id| **id != self.control.me);
        waited >= LEAVING_MICROS_MIN
            && self.control.shedding(&self.shard) == 0
            && !others.any(|other| needs_it(*other))
    }

    /// Another member says that this node was removed from the cluster.
    pub(crate) fn was_removed(&mut self, link: u64, host: &mut Host<'_>) -> Fate {
        let Some(hello) = host.links.get(link).and_then(|link| link.hello.as_ref()) else {
            return Fate::GoesOn;
        };
        let topology = &self.control.map.topology;
        let is_newer = |id: ReplicaId| id.0 > topology.last_replica();
        let sender =
            self.control.known(hello.sandbox_id).or(hello.replica.filter(|id| is_newer(*id)));
        let is_of_ours = hello.cluster == Some(self.control.initial.cluster);
        let owner = self.shard.directory.consensus.owner();
        if !believes(is_of_ours, sender, owner, self.is_leaving()) {
            return Fate::GoesOn;
        }
        self.ends_as_removed(host)
    }

    /// It ends in good order if it knew that it was to leave.
    fn ends_as_removed(&mut self, host: &mut Host<'_>) -> Fate {
        let why = was_removed(&host.config.node_id);
        if !self.is_leaving() {
            host.effects.halt(why);
            return Fate::GoesOn;
        }
        host.effects.note(Level::Warn, why);
        host.effects.outputs.push(Output::Stopped);
        Fate::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_believes_that_it_was_removed_when_it_could_be_so() {
        let (one, other) = (Some(ReplicaId(1)), Some(ReplicaId(2)));
        for (what, is_of_ours, sender, owner, is_leaving, believes_it) in [
            ("another cluster says so", false, one, None, true, false),
            ("nobody knows who says so", true, None, None, true, false),
            ("it has another owner and no cause to go", true, one, other, false, false),
            ("it was to go", true, one, other, true, true),
            ("its owner says so", true, one, one, false, true),
            ("it has no owner", true, one, None, false, true),
        ] {
            assert_eq!(believes(is_of_ours, sender, owner, is_leaving), believes_it, "{what}");
        }
    }
}
