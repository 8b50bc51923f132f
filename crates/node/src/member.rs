//! A node that belongs to a cluster: its parts, and the order in which they get their turn.
//!
//! Each input is given to the part that it concerns. What one part wants of another is put into a
//! queue ([`Effects`]). The step is over when the queue is empty and no group has anything left to
//! do.

use std::collections::BTreeMap;

use cluster::{Change, DirectoryChange, Hello, Identity, Judgement, Ping, Witnesses};
use group::Caller;
use protocol::{GroupId, Moment, Now, Principal, ReplicaId, Request, Response};
use services::PartitionEvent;
use storage::StoreError;

use crate::admission;
use crate::control::Control;
use crate::feeds::Feeds;
use crate::frame::{Answer, Frame};
use crate::gather::{Gather, LateFence};
use crate::groups;
use crate::instance::InstanceEvent;
use crate::io::{Input, Level, Output, ProgramDoor};
use crate::jobs::{Done, JobDone};
use crate::joining::Joining;
use crate::members;
use crate::membership::{Fate, Host, Membership, conditions, surroundings, view};
use crate::placement::Surroundings;
use crate::programs::Programs;
use crate::proof::Proof;
use crate::queries::Queries;
use crate::replies::{directory_answer, instance_answer, leveled};
use crate::rest;
use crate::router::Router;
use crate::searches::Searches;
use crate::serving::words::ServiceWork;
use crate::shard::{Conditions, Shard, reluctance_of};
use crate::undefined::Undefined;
use crate::view::View;
use crate::work::{Asked, FeedWork, Purpose, Work};

/// How much later each next in line asks for votes when the owner's connection broke, in ticks. A
/// replica that receives another's pre-vote meanwhile postpones its own.
const HINT_TICKS_PER_RANK: usize = 2;

/// How often the logs are cut in addition to the routine persists. Otherwise the last minute of a
/// quiet group's log would stay until its next write.
const CUT_EVERY_TICKS: u64 = 1_000;

/// A node that is silent for this long, in microseconds, has missed a ping. The replicas here of
/// its resting groups then wake by themselves.
const SILENCE_MICROS_NOTED: u64 = 200_000;

/// What can be seen of this member.
macro_rules! seen {
    ($self:expr, $host:expr) => {
        view!($self.membership, $host, $self.router.len())
    };
}

pub(crate) struct Member {
    pub(crate) membership: Membership,
    pub(crate) router: Router,
    pub(crate) gather: Gather,
    pub(crate) queries: Queries,
    searches: Searches,
    pub(crate) feeds: Feeds,
    pub(crate) undefined: Undefined,
    programs: Programs,
    /// While this node looks at the cluster that it is to join.
    pub(crate) joining: Option<Joining>,
    owners_known: BTreeMap<GroupId, ReplicaId>,
    ticks: u64,
    /// The last number that was given to a request as its own.
    pub(crate) fresh: u64,
}

impl Member {
    /// # Errors
    /// Why it cannot begin, for people.
    pub(crate) fn new(
        identity: &Identity,
        shard: Shard,
        memory: (Witnesses, Proof),
        host: &mut Host<'_>,
    ) -> Result<Self, String> {
        // It may ping others in this very step.
        let wall = host.now.wall;
        let control = Control::new(identity.replica, identity.initial.clone(), memory, wall);
        let mut member = Self {
            membership: Membership::new(control, shard),
            router: Router::default(),
            gather: Gather::default(),
            queries: Queries::new(&host.config.node_id),
            searches: Searches::default(),
            feeds: Feeds::default(),
            undefined: Undefined::default(),
            programs: Programs::default(),
            joining: None,
            owners_known: BTreeMap::new(),
            ticks: 0,
            fresh: 0,
        };
        member.begin(host)?;
        Ok(member)
    }

    fn begin(&mut self, host: &mut Host<'_>) -> Result<(), String> {
        let Self { membership, .. } = self;
        // From now on the state store must know the log that it belongs to.
        membership.shard.log.want_persist = true;
        membership.take_topology();
        membership.control.take_clocks(host.links);
        let conditions = conditions!(membership, host);
        groups::follow_directory(&mut membership.shard, &conditions, host.config, host.effects)?;
        membership.control.say_if_flag_differs(host.config.membership_quorum, host.effects);
        membership.control.open_ports(&host.config.node_id, host.effects);
        surroundings!(membership, host).set_ranks(&mut membership.shard);
        surroundings!(membership, host).set_leaving(&mut membership.shard);
        self.dial_all(host);
        let Self { membership, .. } = self;
        membership.placement.campaign(&surroundings!(membership, host), &mut membership.shard);
        membership.control.greet_all(host.profile, host.links, host.effects);
        membership.identify_all(host);
        Ok(())
    }

    /// What time it is, for all decisions about data.
    pub(crate) fn time(&mut self, now: Now) -> Moment {
        let voters = &self.membership.shard.directory.consensus.members().voters;
        self.membership.control.time(now, voters)
    }

    pub(crate) fn demand_login(&mut self) {
        self.membership.shard.handlers.guard.is_on = true;
    }

    /// The group of the instance that a program is attached to.
    pub(crate) fn group_of_program(&self, program: u64) -> Option<GroupId> {
        self.programs.group_of(program)
    }

    /// Takes one thing that happened.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn take(&mut self, input: Input, host: &mut Host<'_>) -> Result<Fate, StoreError> {
        match input {
            Input::Tick => return self.tick(host),
            Input::Request { ticket, request } => {
                self.enter(Purpose::Client { ticket }, request, host)?;
            }
            Input::LinkOpened { link, dialed, is_detour } => {
                self.link_opened(link, dialed, host);
                if is_detour {
                    host.links.is_a_detour(link);
                }
            }
            Input::LinkClosed { link } => self.link_closed(link, host),
            Input::DialFailed { address } => self.membership.control.proof.is_absent(address),
            Input::Received { .. } => unreachable!("the node takes frames out of their envelope"),
            Input::LogDurable { batch, frames } => {
                self.membership.shard.log.durable(batch, frames, host.now.steady_micros);
                self.membership.shard.log_durable(batch, host.effects);
            }
            Input::StatePersisted { mark } => {
                return Ok(self.membership.state_persisted(mark, host));
            }
            Input::Invoked(invoked) => {
                let (group, event) = (invoked.partition, PartitionEvent::Invoked(invoked));
                host.effects.push(Work::Partition(group, event));
            }
            Input::Ran(job) => self.ran(job, host)?,
            Input::Notified { number, outcome } => {
                let view = seen!(self, host);
                self.feeds.subscriptions.notified(number, outcome, &view, host.effects)?;
            }
            Input::GoOn { group, opening } => {
                host.effects.push(Work::Partition(group, PartitionEvent::GoOn { opening }));
            }
            Input::Measured => self.queries.measured(host.now.steady_micros, host.effects),
            Input::ProgramOpened { program, door } => self.program_opened(program, door, host),
            Input::ProgramSaid { program, bytes } => {
                self.programs.said(program, bytes, &seen!(self, host), host.effects);
            }
            Input::ProgramDrained { program, bytes } => {
                self.programs.drained(program, bytes, host.effects);
            }
            Input::ProgramClosed { program } => self.programs.closed(program, host.effects),
            Input::StorageFailed { why, full: true } => self.membership.disk_is_full(why, host)?,
            Input::StorageFailed { why, full: false } => {
                host.effects.halt(format!("the disk failed: {why}. The other nodes carry on"));
            }
            Input::StorageRecovered => {
                host.effects.note(Level::Info, "the disk takes writes again".into());
                self.membership.shard.log.set_writable();
            }
            Input::Room { is_low } => self.membership.room_is(is_low, host),
            Input::StateFailed(error) => host.effects.failed(&error),
            Input::Stop => self.membership.stop(self.router.is_empty(), host)?,
        }
        Ok(Fate::GoesOn)
    }

    pub(crate) fn program_opened(&mut self, program: u64, door: ProgramDoor, host: &mut Host<'_>) {
        self.programs.opened(program, door, &seen!(self, host), host.effects);
    }

    // Time.

    fn tick(&mut self, host: &mut Host<'_>) -> Result<Fate, StoreError> {
        self.ticks += 1;
        let tick_micros = host.config.timing.tick_micros;
        for (node, silence) in host.links.silent(SILENCE_MICROS_NOTED, host.now.steady_micros) {
            let ticks = usize::try_from(silence / tick_micros).unwrap_or(usize::MAX);
            self.membership.shard.suspect(node, ticks);
        }
        self.membership.tick_proof(self.ticks, host);
        self.membership.shard.tick(&conditions!(self.membership, host), host.effects)?;
        self.router.check_patience(&seen!(self, host), host.effects);
        self.queries.tick(host.now.steady_micros, host.effects);
        self.feeds.tick(&seen!(self, host), host.effects)?;
        let fate = self.look_at_the_other_cluster(host);
        if fate == Fate::Ended {
            return Ok(fate);
        }
        if self.ticks.is_multiple_of(10) {
            let now = host.now.steady_micros;
            self.membership.control.ping_all(&self.membership.shard, host.links, now, host.effects);
            self.membership.set_pace(host);
            self.membership.form_if_all_are_bound(host);
            surroundings!(self.membership, host)
                .change_members(&mut self.membership.shard, host.effects);
            self.membership.tell_who_asks(host);
            self.membership.end_removals(host);
            self.membership.note_moves(host);
            self.membership.keep_others(host);
            self.repeat_late_fences(host);
            self.membership.see_who_lives(host);
            self.programs.tick(&seen!(self, host), host.effects);
            self.note_programs();
        }
        if self.ticks.is_multiple_of(5) {
            self.membership
                .placement
                .campaign(&surroundings!(self.membership, host), &mut self.membership.shard);
            self.membership.persist_if_due(host)?;
            self.membership.watch_its_fitness(host)?;
            self.membership.move_one_group(host)?;
            self.router.owners_changed();
        }
        self.membership.tick_audits(self.ticks, host)?;
        self.membership.backup_tick(host);
        if self.ticks.is_multiple_of(CUT_EVERY_TICKS) {
            self.membership.cut_logs(host);
        }
        self.membership.go_on_stopping(self.router.is_empty(), host)
    }

    /// Notes which kinds have a program that serves them.
    fn note_programs(&mut self) {
        let outside = self.programs.of_kinds();
        let attached = &mut self.membership.shard.handlers.attached;
        if !outside.keys().eq(attached.iter()) {
            *attached = outside.keys().cloned().collect();
        }
        self.membership.control.services.outside = outside;
    }

    fn repeat_late_fences(&mut self, host: &mut Host<'_>) {
        for LateFence { group, opening, source } in self.gather.take_late_fences() {
            if self.membership.shard.is_serving_opening(group, opening) {
                host.effects.push(Work::Fence { group, opening, source });
            }
        }
    }

    // Links.

    fn link_opened(&mut self, link: u64, dialed: Option<String>, host: &mut Host<'_>) {
        if let Some(address) = &dialed {
            self.membership.control.proof.is_reached(address);
        }
        if !host.links.admit(link, dialed, host.now.steady_micros) {
            host.effects.outputs.push(Output::Close { link });
            return;
        }
        if !self.only_looks(link, host) {
            let now = host.now.steady_micros;
            let (hello, ping) = (
                self.membership.control.hello(host.profile),
                self.membership.control.ping(&self.membership.shard, now),
            );
            host.effects.outbox.send_on(link, Frame::Hello(hello));
            host.effects.outbox.send_on(link, Frame::Ping(ping));
        }
    }

    /// The kernel closes the sockets of a dead process, which is the quickest news of a death.
    fn link_closed(&mut self, link: u64, host: &mut Host<'_>) {
        let Some(closed) = host.links.closed(link) else { return };
        let Some(replica) = closed.replica else { return };
        if closed.is_detour && host.links.link_to(replica).is_some() {
            return;
        }
        if host.links.link_to(replica).is_none() {
            self.router.take_back(replica, &seen!(self, host), host.effects);
            self.programs.node_lost(replica, &seen!(self, host), host.effects);
            for group in self.membership.shard.instances.keys() {
                host.effects.instance(*group, immortals::Input::PeerLost { replica });
            }
        }
        for group in self.membership.shard.groups().collect::<Vec<_>>() {
            let mut order = self.membership.control.order_of(group, &self.membership.shard);
            order.retain(|id| *id != replica);
            let me = self.membership.control.me;
            let rank = order.iter().position(|id| *id == me).unwrap_or(order.len());
            let reluctance = self.membership.shard.instance(group).map_or(0, reluctance_of);
            let here = self.membership.shard.get_mut(group).expect("it was listed");
            here.end_transfer(replica, false);
            here.consensus_mut().peer_lost(replica, rank * HINT_TICKS_PER_RANK + reluctance);
        }
        self.router.owners_changed();
    }

    /// One frame of another node.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn frame(
        &mut self,
        link: u64,
        frame: Frame,
        host: &mut Host<'_>,
    ) -> Result<Fate, StoreError> {
        match frame {
            Frame::Hello(hello) => return Ok(self.greeted(link, hello, host)),
            Frame::Refused { why } => self.membership.was_refused(link, why, host),
            Frame::Admit(candidate) => self.membership.admit(link, candidate, host),
            Frame::Removed => return Ok(self.membership.was_removed(link, host)),
            Frame::Ping(ping) => self.pinged(link, &ping, host),
            Frame::Remembered(witness) => self.membership.remembered(link, witness, host),
            Frame::Stranger => return Ok(self.is_missed(link, host)),
            // The other node knows this already.
            Frame::Known { .. } | Frame::Listed => {}
            other => {
                // Only a replica that is known may speak in a group, and only in its own name.
                if let Some(from) = host.links.get(link).and_then(|link| link.replica) {
                    self.frame_of_replica(from, other, host)?;
                }
            }
        }
        Ok(Fate::GoesOn)
    }

    fn pinged(&mut self, link: u64, ping: &Ping, host: &mut Host<'_>) {
        let now = host.now.steady_micros;
        host.links.pinged(link, ping, now);
        let control = &mut self.membership.control;
        let Some(link) = host.links.get(link) else { return };
        // A clock says the same whether its node has proved itself or not. The first ping comes
        // before that, and nobody may own anything until the time is told.
        let sandbox = link.hello.as_ref().map(|hello| hello.sandbox_id);
        if let Some(replica) = sandbox.and_then(|sandbox| control.known(sandbox)) {
            control.clock.heard(replica, ping.wall, now);
        }
        if let Some(replica) = link.replica {
            control.witnesses.heard(replica, ping.frames);
            control.staleness.heard(&ping.committed, now);
        }
    }

    fn frame_of_replica(
        &mut self,
        from: ReplicaId,
        frame: Frame,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        match frame {
            _ if self.membership.shard.log.leaves_out(&frame, host.effects) => {}
            Frame::Consensus { .. } | Frame::Chunk(_) | Frame::ChunkTaken { .. } => {
                let conditions = conditions!(self.membership, host);
                self.membership.shard.received(from, frame, &conditions, host.effects)?;
            }
            Frame::Peer { group, message } => {
                let message = *message;
                host.effects.instance(group, immortals::Input::Peer { from, message });
            }
            Frame::Between { from, to, message } => {
                self.membership.heard_between(from, to, *message, host.effects);
            }
            Frame::Asking(candidates) => {
                self.membership.asking.told(candidates, host.now.steady_micros);
            }
            Frame::Audit(audit) => self.membership.audit(from, audit, host)?,
            Frame::Service(frame) => {
                self.programs.service_frame(from, *frame, &seen!(self, host), host.effects);
            }
            Frame::Backup(frame) => self.membership.backup_heard(from, *frame, host)?,
            Frame::Recognized => {
                let Membership { control, shard, .. } = &mut self.membership;
                control.announce(from, shard, host.effects);
            }
            Frame::Owns { group, term } if self.membership.control.owns(from, group, term) => {
                self.router.owners_changed();
            }
            Frame::Question { boot, number, group, term, key, is_retry, question } => {
                let caller = Caller { node: from, boot, number };
                let asked = Asked { caller, term: Some(term), key, is_retry, question };
                host.effects.push(Work::Ask { group, asked });
            }
            Frame::Answer { boot, number, answer } if boot == host.config.sandbox.boot => {
                let now = host.now.steady_micros;
                self.router.answered(from, number, answer, now, host.effects);
            }
            _ => {}
        }
        Ok(())
    }

    /// Somebody says who it is.
    fn greeted(&mut self, link: u64, hello: Hello, host: &mut Host<'_>) -> Fate {
        if self.only_looks(link, host) {
            let found = self.joining.as_ref().map(|joining| joining.looked(&hello, host.profile));
            return found.map_or(Fate::GoesOn, |found| self.found(found, host));
        }
        let judgement = self.membership.control.judge(host.profile, &self.membership.shard, &hello);
        if judgement != Judgement::Welcome {
            self.turn_away(link, &hello, judgement, host);
            return Fate::GoesOn;
        }
        for outdated in host.links.outdated_by(&hello) {
            self.link_closed(outdated, host);
            host.effects.outputs.push(Output::Close { link: outdated });
        }
        if let Some(link) = host.links.get_mut(link) {
            link.hello = Some(hello);
        }
        self.membership.answer_greeting(link, host);
        let back = self.membership.control.identify(link, host.links, host.effects);
        self.membership.are_back(back.into_iter().collect(), host);
        if let Some((_, replica)) = back {
            let view = seen!(self, host);
            self.router.reached_anew(replica, &view, host.effects);
        }
        self.membership.form_if_all_are_bound(host);
        self.router.owners_changed();
        Fate::GoesOn
    }

    pub(crate) fn dial_all(&mut self, host: &mut Host<'_>) {
        let usual = self.membership.control.usual_addresses(host.profile);
        let joined = self.joining.as_ref().map(Joining::contact);
        let also = joined.filter(|contact| !usual.iter().any(|usual| usual == contact));
        let control = &mut self.membership.control;
        control.dial_all(host.profile, also, host.effects);
        self.membership.keep_others(host);
    }

    // The directory.

    fn directory_changed(
        &mut self,
        change: DirectoryChange,
        host: &mut Host<'_>,
    ) -> Result<(), String> {
        match change {
            DirectoryChange::Leading => self.membership.form_if_all_are_bound(host),
            DirectoryChange::Everything => {
                self.membership.take_topology();
                self.cluster_changed(host)?;
            }
            DirectoryChange::By { position, .. }
                if position <= self.membership.control.map.applied => {}
            DirectoryChange::By { position, command } => {
                let change = self.membership.control.map.topology.apply(*command);
                self.membership.control.map.applied = position;
                match change {
                    Change::Group(group, _) => self.group_changed(group, host)?,
                    Change::Cluster => self.cluster_changed(host)?,
                    Change::Nothing | Change::Same(_) | Change::Refused(_) => {}
                }
            }
        }
        Ok(())
    }

    fn group_changed(&mut self, group: GroupId, host: &mut Host<'_>) -> Result<(), String> {
        let conditions = conditions!(self.membership, host);
        groups::follow_entry(
            group,
            &mut self.membership.shard,
            &conditions,
            host.config,
            host.effects,
        )?;
        if self.membership.shard.has(group) {
            surroundings!(self.membership, host).set_rank(group, &mut self.membership.shard);
        }
        let control = &mut self.membership.control;
        control.entry_changed(group);
        control.open_ports_of(group, &host.config.node_id, host.effects);
        if !self.membership.shard.has(group) {
            self.programs.close_orphans(|attached| attached != group, host.effects);
        }
        Ok(())
    }

    fn cluster_changed(&mut self, host: &mut Host<'_>) -> Result<(), String> {
        let topology = &self.membership.control.map.topology;
        let (me, mine) = (self.membership.control.me, topology.replica_of(host.profile.sandbox_id));
        if topology.is_removed(me) {
            return Err(members::was_removed(&host.config.node_id));
        }
        if topology.is_retired(me) && mine != Some(me) {
            return Err(format!(
                "this sandbox was replaced: another node '{}' was admitted with an empty one. If \
                 that was not meant, give each node its own --id",
                host.config.node_id
            ));
        }
        let conditions = conditions!(self.membership, host);
        groups::follow_directory(
            &mut self.membership.shard,
            &conditions,
            host.config,
            host.effects,
        )?;
        self.membership.control.forget_the_gone();
        let shard = &self.membership.shard;
        self.programs.close_orphans(|group| shard.has(group), host.effects);
        self.membership.control.open_ports(&host.config.node_id, host.effects);
        self.membership.control.say_if_flag_differs(host.config.membership_quorum, host.effects);
        self.membership.form_if_all_are_bound(host);
        self.dial_all(host);
        self.membership.identify_all(host);
        self.membership.control.greet_all(host.profile, host.links, host.effects);
        let surroundings = surroundings!(self.membership, host);
        surroundings.set_ranks(&mut self.membership.shard);
        surroundings.set_leaving(&mut self.membership.shard);
        Ok(())
    }

    // Coming to rest.

    /// Lets every part of the node come to rest.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) fn settle(&mut self, host: &mut Host<'_>) -> Result<(), StoreError> {
        loop {
            while let Some(work) = host.effects.work.pop_front() {
                self.do_work(work, host)?;
            }
            let touched = self.membership.shard.take_touched();
            for group in &touched {
                self.membership.shard.settle(
                    *group,
                    &conditions!(self.membership, host),
                    host.effects,
                )?;
                if group.is_directory() {
                    self.follow_the_directory(host);
                }
            }
            self.follow_rules(&touched, host)?;
            self.feeds.applied(&seen!(self, host), host.effects)?;
            let now = host.now.steady_micros;
            self.membership.control.renew_claim(
                &self.membership.shard,
                host.links,
                now,
                host.effects,
            );
            self.membership.control.tell_moved(&self.membership.shard, host.effects);
            for group in touched {
                let owner = self
                    .membership
                    .shard
                    .get(group)
                    .and_then(|replica| replica.consensus().owner());
                let known = match owner {
                    Some(owner) => self.owners_known.insert(group, owner),
                    None => self.owners_known.remove(&group),
                };
                if known != owner {
                    surroundings!(self.membership, host)
                        .set_rank(group, &mut self.membership.shard);
                    self.router.owners_changed();
                }
            }
            self.router.reroute(&seen!(self, host), host.effects);
            self.begin_searches(host);
            if self.membership.shard.is_settled() {
                self.membership.backup_go_on(host)?;
            }
            if host.effects.work.is_empty() && self.membership.shard.is_settled() {
                return self.membership.stamp_the_state(host.profile);
            }
        }
    }

    fn begin_searches(&mut self, host: &mut Host<'_>) {
        let shard = &self.membership.shard;
        let partition = |group, opening| {
            let replica = shard.partitions.get(&group)?;
            shard.is_serving_opening(group, opening).then(|| replica.machine())
        };
        self.searches.begin(&*shard.store, partition, host.now.steady_micros, host.effects);
    }

    /// A job has had its turn.
    fn ran(&mut self, job: JobDone, host: &mut Host<'_>) -> Result<(), StoreError> {
        match job.into_done() {
            Done::Search(job, found) => {
                let (group, opening) = (job.asked.group, job.asked.wanted.opening);
                let is_served = self.membership.shard.is_serving_opening(group, opening);
                let now = host.now.steady_micros;
                self.searches.came(job, found?, is_served, now, host.effects);
            }
            Done::Answer(query, response) => self.queries.answered(query, response, host.effects),
            Done::Survey(job, answer) => {
                self.gather.surveyed(job, answer?, host.effects);
            }
            Done::Digest(job, sum) => return self.membership.digested(job, sum?, host),
        }
        Ok(())
    }

    /// The map is kept level with the directory, before anything else is done with either.
    fn follow_the_directory(&mut self, host: &mut Host<'_>) {
        for change in std::mem::take(&mut host.effects.directory) {
            if let Err(why) = self.directory_changed(change, host) {
                host.effects.halt(why);
            }
        }
        self.membership.control.map.applied =
            self.membership.shard.directory.consensus.applied_position();
    }

    fn do_work(&mut self, work: Work, host: &mut Host<'_>) -> Result<(), StoreError> {
        let now = host.now.steady_micros;
        match work {
            Work::Ask { group, asked } => return self.ask(group, asked, host),
            Work::Partition(group, event) => {
                let conditions = conditions!(self.membership, host);
                let shard = &mut self.membership.shard;
                return shard.partition_event(group, event, &conditions, host.effects);
            }
            Work::Instance(group, input) => {
                return self.tell_instance(group, InstanceEvent::Input(input), host);
            }
            Work::Attach(group, program, named) => {
                let (adapter, hello) = *named;
                let event = InstanceEvent::Attach { program, adapter, hello };
                return self.tell_instance(group, event, host);
            }
            Work::HandOverInstance { group, to } => {
                return self.membership.hand_over_instance(group, to, host);
            }
            Work::Enter(purpose, request) => return self.enter(purpose, request, host),
            Work::LookedUp(waiting, answer) => {
                let guard = &self.membership.shard.handlers.guard;
                let known = (guard, &self.membership.control.map.topology);
                admission::looked_up(waiting, &answer, known, host.now.wall, host.effects);
            }
            Work::Feed(work) => return self.feed(work, host),
            Work::Leveled(waiting, answer) => return self.leveled(*waiting, &answer, host),
            Work::Undefine(waiting, answer) => self.counted(*waiting, &answer, host),
            Work::Submit(purpose, group, question) => {
                let view = seen!(self, host);
                self.router.submit(purpose, group, question, &view, host.effects);
            }
            Work::Found(sought, response) => {
                self.undefined.looked_up(*sought, response, &seen!(self, host), host.effects);
            }
            Work::Answered { from, number, answer } => {
                self.router.answered(from, number, answer, now, host.effects);
            }
            Work::Atom(of, answer) => self.gather.batches.answered(of, answer, host.effects),
            Work::Gathered(part, answer) => self.gather.gathered(part, answer, host.effects),
            Work::Piece(id, group, answer) => {
                self.queries.came(id, group, answer, now, host.effects);
            }
            Work::Search(group, wanted) => self.searches.add(group, *wanted, now, host.effects),
            Work::Fence { group, opening, source } => {
                let scope = self.scope(Principal::System, host);
                self.gather.fence((group, opening, source), scope, host.effects);
            }
            Work::DirectoryReply(caller, reply) => {
                self.reply(caller, |view| directory_answer(reply, view), host);
            }
            Work::InstanceReply(group, caller, reply) => {
                self.reply(caller, |view| instance_answer(group, reply, view), host);
            }
            Work::Accepts(group) => {
                let Membership { control, shard, .. } = &mut self.membership;
                control.accepts(group, shard, host.links, host.effects);
            }
            Work::Between { from, to, message } => {
                self.membership.send_between(from, to, message, host);
            }
            Work::SendToInstance { from, instance, message } => {
                self.membership.send_to_instance(from, instance, message, host);
            }
            Work::ProgramGone(program) => self.programs.gone(program),
            Work::Service(work) => self.service(*work, host),
            Work::Backup(from, frame) => return self.membership.backup_heard(from, *frame, host),
        }
        Ok(())
    }

    fn reply(
        &mut self,
        caller: Caller,
        answer: impl FnOnce(&View<'_>) -> Answer,
        host: &mut Host<'_>,
    ) {
        let answer = answer(&seen!(self, host));
        host.effects.reply(self.membership.control.me, caller, answer);
    }

    fn feed(&mut self, work: FeedWork, host: &mut Host<'_>) -> Result<(), StoreError> {
        match work {
            FeedWork::Seen(waiting, response) => {
                rest::subscriptions::seen(*waiting, response, host.effects);
                Ok(())
            }
            FeedWork::Copied(waiting, response) => {
                rest::copies::seen(*waiting, &response, host.effects);
                Ok(())
            }
            FeedWork::Notified(number, response) => {
                let view = seen!(self, host);
                self.feeds.subscriptions.answered(number, &response, &view, host.effects)
            }
        }
    }

    fn service(&mut self, work: ServiceWork, host: &mut Host<'_>) {
        self.programs.service(work, &seen!(self, host), host.effects);
    }

    /// This node's directory has come as far as its owner's.
    fn leveled(
        &mut self,
        (purpose, request): (Purpose, Request),
        answer: &Response,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let plan = rest::plan(request.clone(), self.fresh, &seen!(self, host));
        match leveled((purpose, request), answer, plan, host.effects) {
            Some((purpose, request)) => self.enter(purpose, request, host),
            None => Ok(()),
        }
    }

    fn tell_instance(
        &mut self,
        group: GroupId,
        event: InstanceEvent,
        host: &mut Host<'_>,
    ) -> Result<(), StoreError> {
        let conditions = conditions!(self.membership, host);
        self.membership.shard.instance_event(group, event, &conditions, host.effects)
    }

    /// What goes out at the end of a step.
    pub(crate) fn flush(&mut self, outputs: &mut Vec<Output>) {
        let mut log = std::mem::take(&mut self.membership.shard.log);
        if let Some((batch, records)) = log.take_batch(|| self.membership.take_lazy()) {
            outputs.push(Output::Append { batch, records });
        }
        if let Some(mark) = log.take_persist() {
            outputs.push(Output::Persist { mark });
        }
        self.membership.shard.log = log;
    }
}
