//! What a member of a cluster knows of the others, and how it keeps up with the directory: who is
//! behind a link, which groups begin and end here, who owns which instance.

use std::collections::{BTreeMap, BTreeSet};

use cluster::{
    Claim, Claims, ClusterClock, CommittedAt, Health, Hello, Home, InitialConfig, InstanceEntry,
    Judgement, Links, Member, Ping, Profile, Staleness, Standing, Witnesses, has_gone_back,
    highest_quorum, judge,
};
use group::{Quorum, Replica};
use protocol::{GroupId, Moment, Now, ReplicaId, Term};
use services::PartitionEvent;

use crate::frame::Frame;
use crate::hosted::AnyReplica;
use crate::instance::{InstanceMachine, Map};
use crate::io::{Level, Output, ProgramPorts};
use crate::log_batch::LogBatch;
use crate::member_services::MemberServices;
use crate::proof::Proof;
use crate::serving::words::ServiceWork;
use crate::shard::Shard;
use crate::work::{Effects, Work};

pub(crate) struct Control {
    pub(crate) me: ReplicaId,
    pub(crate) initial: InitialConfig,
    /// The directory as this node knows it.
    pub(crate) map: Map,
    pub(crate) claims: Claims,
    pub(crate) staleness: Staleness,
    pub(crate) instances: InstanceOwners,
    pub(crate) witnesses: Witnesses,
    pub(crate) proof: Proof,
    pub(crate) clock: ClusterClock,
    pub(crate) services: MemberServices,
    /// What this node's own clock shows.
    own_wall: Moment,
    shell: Shell,
}

/// What the shell was told: the links and ports that it is to keep, and what it says to people
/// once.
#[derive(Default)]
struct Shell {
    /// The addresses that it keeps links to.
    dialed: Vec<String>,
    ports: BTreeMap<GroupId, Vec<ProgramPorts>>,
    /// The other members' addresses.
    others: Option<Vec<String>>,
    /// That a flag has no effect.
    flag_differs: bool,
}

impl Shell {
    fn tell_ports(&self, effects: &mut Effects) {
        let ports = self.ports.values().flatten().copied().collect();
        effects.outputs.push(Output::ProgramPorts { ports });
    }
}

/// The ports that programs of an instance have on that node, if there are any.
fn ports_here(entry: &InstanceEntry, node_id: &str) -> Option<(GroupId, Vec<ProgramPorts>)> {
    let group = entry.group;
    let here = entry.replicas.iter().filter(|replica| replica.node == node_id);
    let ports = here.filter_map(|replica| {
        let (receive, send) = (replica.receive_port?, replica.send_port?);
        Some(ProgramPorts { group, receive, send })
    });
    let ports: Vec<ProgramPorts> = ports.collect();
    (!ports.is_empty()).then_some((group, ports))
}

/// Who owns which instance, as far as is known here.
#[derive(Default)]
pub(crate) struct InstanceOwners {
    /// Which replica last said that it owns an instance, and in which term.
    told: BTreeMap<GroupId, (Term, ReplicaId)>,
    /// The instances that are owned here and take messages now.
    accepting: BTreeMap<GroupId, Term>,
    /// The instances that have another owner, or an owner that is reached again. Those who send to
    /// them must be told.
    moved: BTreeSet<GroupId>,
}

impl Control {
    pub(crate) fn new(
        me: ReplicaId,
        initial: InitialConfig,
        (witnesses, proof): (Witnesses, Proof),
        own_wall: Moment,
    ) -> Self {
        Self {
            me,
            initial,
            map: Map::default(),
            claims: Claims::default(),
            staleness: Staleness::default(),
            instances: InstanceOwners::default(),
            witnesses,
            proof,
            clock: ClusterClock::default(),
            services: MemberServices::default(),
            own_wall,
            shell: Shell::default(),
        }
    }

    /// `voters`: of the directory, as far as is known here. A member that was admitted and votes
    /// nowhere so far is not needed to own a group, and so not to know the time.
    pub(crate) fn time(&mut self, now: Now, voters: &[ReplicaId]) -> Moment {
        self.own_wall = now.wall;
        self.clock.soon(now).unwrap_or_else(|| self.clock.tell(now, self.me, voters))
    }

    /// What others said of their clocks before this node was a member.
    pub(crate) fn take_clocks(&mut self, links: &Links) {
        for (sandbox, wall, at) in links.walls() {
            if let Some(replica) = self.known(sandbox) {
                self.clock.heard(replica, wall, at);
            }
        }
    }

    // Small questions.

    /// The replicas of the directory and of every partition.
    pub(crate) fn members(&self) -> Vec<ReplicaId> {
        if self.map.topology.is_formed() {
            self.map.topology.replicas()
        } else {
            self.initial.founders.keys().copied().collect()
        }
    }

    /// The members, as far as they are known, and before a cluster has formed its founders.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&ReplicaId, &Member)> {
        nodes_of(&self.initial, &self.map)
    }

    pub(crate) fn replicas_of(&self, group: GroupId) -> Vec<ReplicaId> {
        if group.is_instance() { self.map.topology.replicas_of(group) } else { self.members() }
    }

    pub(crate) fn is_up(&self, replica: ReplicaId, links: &Links, now: Now) -> bool {
        replica == self.me || links.is_up(replica, now.steady_micros)
    }

    /// `log`: of this node.
    pub(crate) fn quorum(&self, log: &LogBatch, links: &Links, now: Now) -> Quorum {
        // A replica whose disk is full confirms nothing, this one no more than any other.
        let takes_writes = |id: ReplicaId| match id == self.me {
            true => log.full().is_none(),
            false => links.takes_writes(id),
        };
        let is_up = |id: &&ReplicaId| self.is_up(**id, links, now) && takes_writes(**id);
        let up = self.members().iter().filter(is_up).count();
        let set = self.claims.in_force(links, self.map.topology.members().len());
        Quorum { needed: set.max(self.map.topology.majority()), set, up }
    }

    pub(crate) fn order_of(&self, group: GroupId, shard: &Shard) -> Vec<ReplicaId> {
        let replicas = self.replicas_of(group);
        let is_drained = |id: &ReplicaId| self.map.topology.is_drained(*id);
        let Some(instance) = shard.instance(group) else {
            let mut order = cluster::order(group, &replicas);
            order.sort_by_key(is_drained);
            return order;
        };
        let ready = |id: &ReplicaId| {
            if *id == self.me { instance.is_served() } else { instance.is_ready(*id) }
        };
        let (mut first, last): (Vec<_>, Vec<_>) = replicas.into_iter().partition(ready);
        first.sort_by_key(is_drained);
        first.extend(last);
        first
    }

    pub(crate) fn owner_of(&self, group: GroupId, shard: &Shard) -> Option<ReplicaId> {
        let here = shard.get(group).map(AnyReplica::consensus);
        if !group.is_instance() {
            return here?.owner();
        }
        let told = self.instances.told.get(&group).copied();
        let Some(here) = here else { return told.map(|(_, owner)| owner) };
        // A replica that was removed from the group hears nothing of its owners any more, and may
        // still take the last one that it knew for the owner.
        match told {
            Some((term, owner)) if term > here.term() => Some(owner),
            Some((term, owner)) if term == here.term() => here.owner().or(Some(owner)),
            _ => here.owner(),
        }
    }

    // Links.

    pub(crate) fn hello(&self, profile: &Profile) -> Hello {
        Hello::new(profile, Some(self.me), Some(self.initial.cluster))
    }

    pub(crate) fn judge(&self, profile: &Profile, shard: &Shard, hello: &Hello) -> Judgement {
        let topology = &self.map.topology;
        let knows = |sandbox| topology.replica_of(sandbox).is_some();
        let is_served = shard.directory.consensus.owner().is_some();
        let cluster = Some(self.initial.cluster);
        judge(&Home { profile, cluster, is_served, knows: &knows }, hello)
    }

    /// Tells all links who this is, when that has changed.
    pub(crate) fn greet_all(&self, profile: &Profile, links: &Links, effects: &mut Effects) {
        for link in links.ids() {
            effects.outbox.send_on(link, Frame::Hello(self.hello(profile)));
        }
    }

    /// Finds out which replica is behind each link, and tells the replicas that do not know their
    /// id. Returns those that are back.
    pub(crate) fn identify_all(
        &self,
        links: &mut Links,
        effects: &mut Effects,
    ) -> Vec<(u64, ReplicaId)> {
        let ids = links.ids();
        ids.into_iter().filter_map(|link| self.identify(link, links, effects)).collect()
    }

    /// Finds out which replica is behind a link. Returns it if that is news.
    pub(crate) fn identify(
        &self,
        link: u64,
        links: &mut Links,
        effects: &mut Effects,
    ) -> Option<(u64, ReplicaId)> {
        let hello = links.get(link)?.hello.clone()?;
        let topology = &self.map.topology;
        let is_formed = topology.is_formed();
        match (self.known(hello.sandbox_id), hello.replica) {
            (Some(known), Some(claimed)) if known == claimed => {
                let is_sound = !self.has_gone_back(known, &hello);
                let counts = is_sound && self.proof.is_complete();
                counts.then(|| is_back(link, known, links)).flatten()
            }
            // The id was given away after all that is known here. It is believed, since only this
            // cluster can have given it, and the replica may need this very node to catch up.
            (None, Some(claimed))
                if claimed.0 > topology.last_replica()
                    && hello.cluster == Some(self.initial.cluster) =>
            {
                if !self.proof.is_complete() {
                    return None;
                }
                is_back(link, claimed, links)
            }
            (Some(replica), None) => {
                let initial = self.initial.clone();
                effects.outbox.send_on(link, Frame::Known { replica, initial });
                None
            }
            (None, None) if is_formed => {
                effects.outbox.send_on(link, Frame::Stranger);
                None
            }
            (None, None) => None,
            (_, Some(claimed)) if topology.is_removed(claimed) => {
                effects.removed(link);
                None
            }
            (_, Some(_)) => {
                let why = format!(
                    "the sandbox of node '{}' was replaced by another one: start it with an empty \
                     --sandbox",
                    hello.node_id
                );
                effects.refuse(link, why);
                None
            }
        }
    }

    /// The replica that this sandbox is. A founder is known by the initial configuration alone, so
    /// that all adopt the first configuration that was made, as long as they have none.
    pub(crate) fn known(&self, sandbox_id: u64) -> Option<ReplicaId> {
        if self.map.topology.is_formed() {
            self.map.topology.replica_of(sandbox_id)
        } else {
            self.initial.founder(sandbox_id)
        }
    }

    /// Whether the replica behind that hello lacks something that it once told others it had.
    pub(crate) fn has_gone_back(&self, known: ReplicaId, hello: &Hello) -> bool {
        has_gone_back(&self.witnesses.of(known), &hello.start, hello.trusted_boot)
    }

    pub(crate) fn ping(&self, shard: &Shard, now: u64) -> Ping {
        let committed = |group| {
            let consensus = shard.get(group)?.consensus();
            let (term, position) = (consensus.term(), consensus.committed_position());
            Some(CommittedAt { group, term, position })
        };
        let served = shard.document_groups().filter(|group| shard.is_serving(*group));
        let health = Health {
            takes_writes: shard.log.full().is_none(),
            is_filled: shard.astray().next().is_some(),
            is_unfit: shard.log.pace.slow_millis().is_some()
                || self.clock.is_off()
                || self.services.lacks_any(),
            shedding: self.shedding(shard),
        };
        Ping {
            health,
            wall: self.own_wall,
            claim: self.claims.own(),
            frames: shard.log.frames,
            committed: served.filter_map(committed).collect(),
            sent: now,
            echo: None,
        }
    }

    /// How many instances here still have a replica that is being removed.
    pub(crate) fn shedding(&self, shard: &Shard) -> u32 {
        let topology = &self.map.topology;
        if topology.leaving().next().is_none() {
            return 0;
        }
        let is_shedding = |(group, replica): &(&GroupId, &Replica<InstanceMachine>)| {
            let members = replica.consensus.members();
            topology.replicas_of(**group).contains(&self.me)
                && topology.leaving().any(|leaving| members.contains(leaving))
        };
        let count = shard.instances.iter().filter(is_shedding).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(crate) fn ping_all(
        &self,
        shard: &Shard,
        links: &mut Links,
        now: u64,
        effects: &mut Effects,
    ) {
        let ping = self.ping(shard, now);
        for link in links.ids() {
            let echo = links.echo(link, now);
            effects.outbox.send_on(link, Frame::Ping(Ping { echo, ..ping.clone() }));
        }
    }

    /// Checks whether the directory's log has changed. If so, tells the others before anything else
    /// that follows from the change.
    pub(crate) fn renew_claim(
        &mut self,
        shard: &Shard,
        links: &mut Links,
        now: u64,
        effects: &mut Effects,
    ) {
        let directory = &shard.directory;
        let (reach, applied) = (directory.reach(), directory.applied());
        self.map.applied = applied.1;
        if !self.claims.is_outdated(reach, applied) {
            return;
        }
        let pending = directory.consensus.entries_after(applied.1);
        let number = highest_quorum(directory.machine().topology(), &pending);
        let is_news = self.claims.renew(Claim { reach, number }, applied);
        links.forget_claims(applied);
        if is_news {
            self.ping_all(shard, links, now, effects);
        }
    }

    // Addresses and ports.

    pub(crate) fn usual_addresses(&self, profile: &Profile) -> Vec<String> {
        let members = self.map.topology.members().values().map(|member| &member.uri);
        let named = profile.peers.iter().chain(&profile.join);
        members.chain(named).cloned().collect()
    }

    /// Keeps links to all nodes that this one should have a link to.
    pub(crate) fn dial_all(
        &mut self,
        profile: &Profile,
        also: Option<&str>,
        effects: &mut Effects,
    ) {
        let mut addresses = self.usual_addresses(profile);
        addresses.extend(also.map(str::to_owned));
        dial(&mut self.shell.dialed, addresses, profile, effects);
    }

    /// Has it kept durably where the other members are. `is_led`: the directory has an owner.
    pub(crate) fn keep_others(
        &mut self,
        kept: Option<&Vec<String>>,
        is_led: bool,
        effects: &mut Effects,
    ) {
        if !self.map.topology.is_formed() {
            return;
        }
        let members = self.map.topology.members().iter().filter(|(id, _)| **id != self.me);
        let mut others: Vec<String> = members.map(|(_, member)| member.uri.clone()).collect();
        others.sort_unstable();
        let kept = self.shell.others.as_ref().or(kept);
        // A state that is behind its log may lack some that are there.
        let lacks_some = kept.is_some_and(|kept| kept.iter().any(|uri| !others.contains(uri)));
        if kept == Some(&others) || (lacks_some && !is_led) {
            return;
        }
        effects.outputs.push(Output::Others { addresses: others.clone() });
        self.shell.others = Some(others);
    }

    /// Listens for programs of AMBROSIA's where the directory says.
    pub(crate) fn open_ports(&mut self, node_id: &str, effects: &mut Effects) {
        let topology = &self.map.topology;
        let here = topology.instances().filter_map(|entry| ports_here(entry, node_id));
        let ports: BTreeMap<GroupId, Vec<ProgramPorts>> = here.collect();
        if ports != self.shell.ports {
            self.shell.ports = ports;
            self.shell.tell_ports(effects);
        }
    }

    /// Does the same after a change of one instance.
    pub(crate) fn open_ports_of(&mut self, group: GroupId, node_id: &str, effects: &mut Effects) {
        let entry = self.map.topology.instance_of(group);
        let ports = entry.and_then(|entry| ports_here(entry, node_id)).map(|(_, ports)| ports);
        if self.shell.ports.get(&group) == ports.as_ref() {
            return;
        }
        match ports {
            Some(ports) => self.shell.ports.insert(group, ports),
            None => self.shell.ports.remove(&group),
        };
        self.shell.tell_ports(effects);
    }

    /// Says once in the log that a flag has no effect.
    pub(crate) fn say_if_flag_differs(&mut self, flag: Option<usize>, effects: &mut Effects) {
        // Before the cluster has formed, no quorum is in force.
        let Some(flag) = flag.filter(|_| self.map.topology.is_formed()) else { return };
        let in_force = self.map.topology.effective_quorum();
        if flag != in_force && !std::mem::replace(&mut self.shell.flag_differs, true) {
            let text = format!(
                "--membership-quorum {flag} was given, but {in_force} is in force in this cluster \
                 and stays; change it with 'amrita quorum {flag}'"
            );
            effects.note(Level::Warn, text);
        }
    }

    // Services.

    /// Looks which services this node's program lacks.
    pub(crate) fn compare_services(&mut self, profile: &Profile, links: &Links) {
        self.services.heard(links.services());
        let topology = &self.map.topology;
        self.services.compare(&profile.services, |id| topology.members().contains_key(&id));
    }

    /// What it lacks in words for people, if anything.
    pub(crate) fn lacks(&self) -> Option<String> {
        self.services.in_words(|id| self.map.topology.node_id(id))
    }

    // Owners of instances.

    /// This node takes messages for an instance from now on.
    pub(crate) fn accepts(
        &mut self,
        group: GroupId,
        shard: &Shard,
        links: &Links,
        effects: &mut Effects,
    ) {
        let serving = shard.get(group).and_then(AnyReplica::serving);
        let Some((term, _)) = serving else { return };
        self.instances.accepting.insert(group, term);
        for link in links.ids() {
            effects.outbox.send_on(link, Frame::Owns { group, term });
        }
        self.instances.moved.insert(group);
    }

    /// A node that is reached (again) learns what is owned here, and how the programs here are.
    pub(crate) fn announce(&mut self, to: ReplicaId, shard: &Shard, effects: &mut Effects) {
        for group in shard.instances.keys() {
            effects.instance(*group, immortals::Input::PeerReached { replica: to });
        }
        effects.service(ServiceWork::Reached(to));
        self.instances.accepting.retain(|group, _| shard.is_serving(*group));
        for (group, term) in &self.instances.accepting {
            let (group, term) = (*group, *term);
            effects.outbox.send(to, Frame::Owns { group, term });
        }
    }

    /// Another node owns an instance. True when that may matter to requests in flight.
    pub(crate) fn owns(&mut self, from: ReplicaId, group: GroupId, term: Term) -> bool {
        let known = self.instances.told.get(&group);
        let is_news = known.is_none_or(|(known, _)| *known <= term) && !self.is_gone(group);
        if is_news {
            self.instances.told.insert(group, (term, from));
            self.instances.moved.insert(group);
        }
        is_news
    }

    /// An instance was registered, changed or deregistered, so those who send to it must be told.
    /// An owner says only once that it is the owner, so this is forgotten only with the instance.
    pub(crate) fn entry_changed(&mut self, group: GroupId) {
        if self.is_gone(group) {
            self.instances.told.remove(&group);
        }
        self.instances.moved.insert(group);
    }

    /// Forgets who owned the instances that are not registered any more.
    pub(crate) fn forget_the_gone(&mut self) {
        let topology = &self.map.topology;
        self.instances.told.retain(|group, _| topology.standing(*group) != Standing::Gone);
    }

    fn is_gone(&self, group: GroupId) -> bool {
        self.map.topology.standing(group) == Standing::Gone
    }

    /// Tells the instances and partitions that are owned here which of their destinations have
    /// moved.
    pub(crate) fn tell_moved(&mut self, shard: &Shard, effects: &mut Effects) {
        if self.instances.moved.is_empty() {
            return;
        }
        for group in std::mem::take(&mut self.instances.moved) {
            let Some(entry) = self.map.topology.instance_of(group) else { continue };
            for own in shard.speakers.to(&entry.name) {
                effects.instance(own, immortals::Input::OwnerChanged { group });
            }
            for own in shard.partitions_sending_to(&entry.name) {
                let instance = entry.name.clone();
                effects.push(Work::Partition(own, PartitionEvent::InstanceMoved { instance }));
            }
        }
    }
}

/// See [`Control::nodes`].
pub(crate) fn nodes_of<'a>(
    initial: &'a InitialConfig,
    map: &'a Map,
) -> impl Iterator<Item = (&'a ReplicaId, &'a Member)> {
    let is_formed = map.topology.is_formed();
    if is_formed { map.topology.members().iter() } else { initial.founders.iter() }
}

fn is_back(link: u64, replica: ReplicaId, links: &mut Links) -> Option<(u64, ReplicaId)> {
    let known = links.get_mut(link)?;
    known.replica.replace(replica).is_none().then_some((link, replica))
}

/// Keeps links to these addresses, if that is news.
pub(crate) fn dial(
    dialed: &mut Vec<String>,
    mut addresses: Vec<String>,
    profile: &Profile,
    effects: &mut Effects,
) {
    addresses.retain(|address| *address != profile.uri);
    addresses.sort_unstable();
    addresses.dedup();
    if addresses != *dialed {
        dialed.clone_from(&addresses);
        effects.outputs.push(Output::Dial { addresses });
    }
}
