//! One replica of a group: what goes in. What comes out of it is made in `work`, what can be seen
//! of it in `view`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use protocol::{Position, ReplicaId, Term};
use raft::eraftpb;
use raft::eraftpb::{EntryType, HardState, MessageType};
use raft::{Config, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use storage::{LogReader, LogRecord};

use crate::election::{ELECTION_TICKS, HINT_RETRY_TICKS, Held, Hint, Pace, Rest};
use crate::log::GroupLog;
use crate::reads::Reads;
use crate::tail::{Reach, Tail};
use crate::{
    ConfirmError, GroupOptions, Members, MembershipChange, Message, MessageKind, Need,
    ProposeError, RestoreError, Restored, TailLimits, change, convert, guard,
};

/// A ready has no more committed entries than fit into this many bytes (but at least one); the rest
/// comes with the next.
const COMMITTED_BYTES_PER_READY_MAX: u64 = 16 << 20;

/// See [`Group::set_election_ticks`].
const ELECTION_TICKS_SPAN: usize = 1_000;

/// At most this many appends may be on their way to a follower that lacks what is not in memory.
const DISK_INFLIGHT_MAX: usize = 4;

/// More notes than this between two readys are dropped.
const NOTES_MAX: usize = 16;

/// One replica of a group.
///
/// After every input, [`Group::ready`] says what has to be done, until it says nothing.
pub struct Group {
    pub(crate) options: GroupOptions,
    pub(crate) raw: RawNode<GroupLog>,
    /// In force now, as the committed entries handed out so far say.
    pub(crate) members: Members,
    pub(crate) reads: Reads,
    pub(crate) snapshots: Snapshots,
    pub(crate) notes: Vec<String>,
    /// To be written before anything else.
    pub(crate) first_records: Vec<LogRecord>,
    /// The last committed entry that was handed out.
    pub(crate) handed_out: Position,
    pub(crate) elections: Elections,
    pub(crate) written: Written,
    pub(crate) heard: Heard,
    pub(crate) upkeep: LogUpkeep,
}

/// What a replica knows of elections and of its own part in them.
pub(crate) struct Elections {
    pub(crate) hint: Option<Hint>,
    /// A pre-vote that was refused because the owner seemed to live.
    pub(crate) held_pre_vote: Held,
    /// A call to campaign that came before a committed membership was applied.
    pub(crate) held_campaign: Held,
    /// How long an owner may be silent before this replica campaigns.
    pub(crate) election_ticks: usize,
    pub(crate) pace: Pace,
    /// How much longer it waits, as it would be of little use as an owner.
    pub(crate) reluctance_ticks: usize,
    /// Another has this replica's vote, and this many ticks to make something of it.
    pub(crate) vote_ticks: usize,
    pub(crate) rest: Rest,
}

/// Who gets a snapshot.
#[derive(Default)]
pub(crate) struct Snapshots {
    /// For whom the node is sending one.
    pub(crate) offers: BTreeSet<ReplicaId>,
    /// Replicas that have all entries and ask for the state all the same, and the term in which
    /// this replica, as the owner, was told so.
    pub(crate) refills: BTreeMap<ReplicaId, u64>,
}

/// What was given to the node to be written, and how much of it is durable.
pub(crate) struct Written {
    /// The last ready that was made, and the last that is durable.
    pub(crate) made: u64,
    pub(crate) persisted: u64,
    /// The term and vote last written, and the ready they are in.
    pub(crate) hard_state: (u64, u64),
    pub(crate) hard_state_ready: u64,
    /// Installs that are not durable yet: ready and position.
    pub(crate) installs: VecDeque<(u64, Position)>,
}

/// How much there is, as far as is known here.
pub(crate) struct Heard {
    /// The last entry that was here when this replica began.
    pub(crate) began_at: Position,
    /// Up to there all is committed, as an owner has said, and the term in which one has said last
    /// how far it is.
    pub(crate) told_committed: (Position, Term),
}

/// How the log is kept.
pub(crate) struct LogUpkeep {
    pub(crate) tail: Tail,
    /// There are followers that get few appends at a time.
    pub(crate) is_pacing: bool,
    /// That the log cannot be read was said.
    pub(crate) is_damaged: bool,
}

impl Group {
    /// `log` has the entries that are durable.
    ///
    /// # Errors
    /// When what was restored contradicts itself; such a replica must not take part any more.
    ///
    /// # Panics
    /// When the options make no sense.
    pub fn new(
        options: GroupOptions,
        mut restored: Restored,
        log: Arc<dyn LogReader>,
    ) -> Result<Self, RestoreError> {
        let anew = restored.settle()?;
        let election_ticks = options.election_ticks;
        let hard = HardState {
            term: restored.term.0,
            vote: restored.voted_for.0,
            commit: restored.commit.0,
            ..HardState::default()
        };
        let log = GroupLog::new(options.group, &restored, hard, log);
        let Restored { base, base_term, applied, members, .. } = restored;
        // raft-rs tells its story to a logger; ours is told by the readys.
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let mut raw = RawNode::new(&config(&options, applied), log, &logger)
            .expect("what raft-rs checks was checked when it was restored");
        if members.is_empty() {
            // The first members of a group are nowhere in its log, so the log alone would leave
            // this replica with other members than the rest. Until it has a snapshot it asks for
            // one instead of taking entries.
            raw.raft.pending_request_snapshot = 1;
        }
        let began_at = Position(raw.raft.raft_log.last_index());
        let record = LogRecord::Base { group: options.group, position: base, term: base_term };
        Ok(Self {
            options,
            raw,
            members,
            reads: Reads::default(),
            snapshots: Snapshots::default(),
            notes: Vec::new(),
            first_records: anew.then_some(record).into_iter().collect(),
            handed_out: applied,
            elections: Elections {
                hint: None,
                held_pre_vote: Held::default(),
                held_campaign: Held::default(),
                election_ticks,
                pace: Pace::new(election_ticks),
                reluctance_ticks: 0,
                vote_ticks: 0,
                rest: Rest::default(),
            },
            written: Written {
                made: 0,
                persisted: 0,
                hard_state: (restored.term.0, restored.voted_for.0),
                hard_state_ready: 0,
                installs: VecDeque::new(),
            },
            heard: Heard { began_at, told_committed: (Position(0), Term(0)) },
            upkeep: LogUpkeep { tail: Tail::default(), is_pacing: false, is_damaged: false },
        })
    }

    /// Time goes on.
    pub fn tick(&mut self) {
        self.rest_if_quiet();
        if self.is_resting() {
            return;
        }
        // The timeout is looked at in raft-rs's tick only, so what chance chose since the last one
        // has no effect.
        let least = self.options.election_ticks;
        let ticks = self.elections.election_ticks + self.elections.reluctance_ticks;
        let ticks = ticks.min(least + ELECTION_TICKS_SPAN - 1);
        self.raw.raft.set_randomized_election_timeout(ticks);
        self.elections.vote_ticks = self.elections.vote_ticks.saturating_sub(1);
        self.elections.held_pre_vote.tick();
        self.elections.held_campaign.tick();
        if let Some(hint) = &mut self.elections.hint {
            hint.tick();
        }
        self.follow_hint();
        let is_awaited = self.raw.store().refill();
        self.pace_followers(is_awaited);
        // A hand-over that comes to nothing ends soon.
        let slow = self.is_owner() && self.raw.raft.lead_transferee.is_none();
        if !self.elections.pace.tick(slow) {
            // raft-rs will count this tick all the same.
            let elapsed = &mut self.raw.raft.election_elapsed;
            *elapsed = elapsed.saturating_sub(1);
        }
        if self.is_owner() || self.may_campaign() {
            self.raw.tick();
        } else {
            // All that raft-rs would do but campaign.
            self.raw.raft.election_elapsed += 1;
        }
        self.answer_held_pre_vote();
    }

    /// Somebody asked for a vote a moment before this replica, too, had waited long enough for the
    /// owner.
    fn answer_held_pre_vote(&mut self) {
        let is_late = self.raw.raft.leader_id != raft::INVALID_ID && !self.seems_owned();
        if self.elections.held_pre_vote.is_there()
            && is_late
            && !self.is_owner()
            && let Some(pre_vote) = self.elections.held_pre_vote.take()
        {
            self.step(pre_vote);
        }
    }

    /// How long an owner may be silent before its followers, and a quorum before its owner, stop
    /// believing in it, and how long a question and its answer are under way, in ticks. At least
    /// the `election_ticks` of the options.
    pub fn set_pace(&mut self, silence_ticks: usize, round_trip_ticks: usize) {
        self.elections.pace.set(silence_ticks, round_trip_ticks);
    }

    /// Followers that lack what is not in memory any more get a few appends at a time: what is read
    /// from the disk for them waits in memory until they have it. If one of them `is_awaited`, it
    /// gets the next now.
    fn pace_followers(&mut self, is_awaited: bool) {
        let (me, first) = (self.raw.raft.id, self.raw.store().window_first());
        let all_is_held = first == self.raw.store().base().next();
        if !self.is_owner() || (all_is_held && !self.upkeep.is_pacing) {
            return;
        }
        let others = self.raw.raft.prs().iter().filter(|(id, _)| **id != me);
        let mut others: Vec<_> =
            others.map(|(id, to)| (*id, to.matched < first.0 - 1, to.next_idx < first.0)).collect();
        others.sort_unstable();
        self.upkeep.is_pacing = others.iter().any(|(_, is_behind, _)| *is_behind);
        for (peer, is_behind, is_next_on_disk) in others {
            let full = self.options.inflight_max;
            let most = if is_behind { full.min(DISK_INFLIGHT_MAX) } else { full };
            self.raw.raft.adjust_max_inflight_msgs(peer, most);
            let is_paused = self.raw.raft.prs().get(peer).is_none_or(|to| to.is_paused());
            if is_awaited && is_next_on_disk && !is_paused {
                self.raw.raft.send_append(peer);
            }
        }
    }

    /// How long this replica waits for an owner that is silent, from now on: at least the
    /// `election_ticks` of the options (which stay the measure of leases), and less than
    /// 1,000 more. Give each replica of a group another number.
    pub fn set_election_ticks(&mut self, ticks: usize) {
        let least = self.options.election_ticks;
        self.elections.election_ticks = ticks.clamp(least, least + ELECTION_TICKS_SPAN - 1);
    }

    /// How much longer than it was told this replica waits before it campaigns by itself.
    pub fn set_reluctance_ticks(&mut self, ticks: usize) {
        self.elections.reluctance_ticks = ticks;
    }

    /// Campaigns now, if this replica is a voter, knows of no owner, and has not just
    /// given its vote to another: for a group that has just begun, and where the node knows better
    /// than to wait. May be called often.
    pub fn campaign_if_free(&mut self) {
        let raft = &self.raw.raft;
        let free = raft.leader_id == raft::INVALID_ID && raft.state != StateRole::Candidate;
        if free && self.elections.vote_ticks == 0 && self.may_campaign() {
            self.stir();
            self.campaign();
        }
    }

    /// A message from another replica. One that makes no sense is dropped with a note.
    pub fn receive(&mut self, message: Message) {
        let (durability, refills) = (self.options.durability, &self.snapshots.refills);
        if let Err(why) = guard::check(&self.raw.raft, &message, durability, refills) {
            let kind = message.kind.name();
            self.note(format!("dropped {kind} from replica {}: {why}", message.from));
            return;
        }
        if message.kind == MessageKind::Rest {
            return self.hear_rest(&message);
        }
        let kind = message.kind;
        // A late answer to the last heartbeat asks for nothing.
        if kind != MessageKind::HeartbeatAnswer {
            self.wake();
        }
        let message = convert::message_to_raft(message);
        match kind {
            MessageKind::PreVote if self.seems_owned() => {
                self.elections.held_pre_vote.put(message.clone());
            }
            MessageKind::AppendAnswer if !message.reject => self.snapshot_arrived(&message),
            MessageKind::VoteAnswer | MessageKind::PreVoteAnswer => self.learn_commit(&message),
            _ => {}
        }
        let (from, term) = (message.from, self.raw.raft.term);
        let (said_in, committed) = (message.term, Position(message.commit));
        let is_behind = self.is_behind(&message);
        match kind {
            MessageKind::Campaign => self.campaign_for_owner(message),
            _ => self.step(message),
        }
        if self.raw.raft.term == said_in {
            self.hear_commit(kind, committed);
        }
        if self.raw.raft.leader_id != raft::INVALID_ID {
            self.elections.vote_ticks = 0;
        } else if kind == MessageKind::Vote && self.raw.raft.vote == from {
            self.elections.vote_ticks = self.election_lasts();
        }
        let (lasts, retry) = (self.election_lasts(), self.pre_vote_lasts());
        if let Some(hint) = &mut self.elections.hint {
            if self.raw.raft.term > term {
                hint.wait(lasts);
            } else if kind == MessageKind::PreVote && is_behind {
                hint.hurry();
            } else if kind == MessageKind::PreVote {
                hint.wait(retry);
            }
        }
        if is_behind {
            self.follow_hint();
        }
    }

    /// The position that the entry will have if this owner stays. Empty data comes out as
    /// [`crate::CommittedData::Empty`].
    ///
    /// # Errors
    /// `NotOwner`, `HandingOver` and `Full`.
    pub fn propose(&mut self, data: Bytes) -> Result<Position, ProposeError> {
        self.check_ownership()?;
        self.stir();
        let raft = &self.raw.raft;
        if raft.raft_log.last_index() - raft.raft_log.applied >= self.options.unapplied_max {
            return Err(ProposeError::Full);
        }
        // Not through `RawNode::propose`: that takes a vector, and would have the data copied.
        let entry = eraftpb::Entry {
            entry_type: EntryType::EntryNormal,
            data,
            ..eraftpb::Entry::default()
        };
        let proposal = eraftpb::Message {
            msg_type: MessageType::MsgPropose,
            from: raft.id,
            entries: vec![entry].into(),
            ..eraftpb::Message::default()
        };
        // The owner drops a proposal for one more reason only: too many bytes.
        self.raw.raft.step(proposal).map_err(|_| ProposeError::Full)?;
        Ok(Position(self.raw.raft.raft_log.last_index()))
    }

    /// Asks a quorum whether this is still the owner; answered by `confirmed` or `refused` of some
    /// later ready.
    ///
    /// # Errors
    /// When it is not the owner even now, or has too many tickets.
    pub fn confirm(&mut self, ticket: u64) -> Result<(), ConfirmError> {
        if !self.is_owner() {
            return Err(ConfirmError::NotOwner { owner: self.owner() });
        }
        self.stir();
        self.reads.watch(self.term_owned());
        if self.reads.add(ticket) { Ok(()) } else { Err(ConfirmError::Full) }
    }

    /// Proposes another membership; the position of the entry. It is in force when it comes back
    /// as [`crate::CommittedData::Members`]; a joint one is followed by its end.
    ///
    /// An owner does not take itself out: asked to, it hands over to one that stays, and says so.
    /// The next owner is to be asked again.
    ///
    /// # Errors
    /// All of them.
    pub fn change(&mut self, change: &MembershipChange) -> Result<Position, ProposeError> {
        self.check_ownership()?;
        self.stir();
        // raft-rs would put an empty entry in its place, without a word.
        if self.raw.raft.has_pending_conf() || self.members.is_joint() {
            return Err(ProposeError::ChangePending);
        }
        let plan = change::plan(change, &self.members).map_err(ProposeError::Refused)?;
        if change.remove.contains(&self.options.me) {
            let Some(to) = self.successor(&change.remove) else {
                let why = "no other voter would be left to own the group".to_owned();
                return Err(ProposeError::Refused(why));
            };
            self.hand_over(to);
            return Err(ProposeError::HandingOver { to });
        }
        self.raw.propose_conf_change(Vec::new(), plan).map_err(|_| ProposeError::Full)?;
        Ok(Position(self.raw.raft.raft_log.last_index()))
    }

    /// Lets another voter become the owner, as soon as it has everything. Given up after an
    /// election timeout. Does nothing when this is not the owner or that is not a voter.
    pub fn hand_over(&mut self, to: ReplicaId) {
        if self.is_owner() && to != self.options.me && self.members.voters.contains(&to) {
            self.stir();
            self.raw.transfer_leader(to.0);
        }
    }

    /// The connection to that replica broke. If it owns the group: forget it, and campaign
    /// in `delay_ticks` (0: now) and again every few ticks, until there is an owner.
    pub fn peer_lost(&mut self, peer: ReplicaId, delay_ticks: usize) {
        if self.is_owner() {
            self.wake();
            self.snapshot_sent(peer, false);
            self.raw.report_unreachable(peer.0);
            return;
        }
        if self.owner() != Some(peer) {
            return;
        }
        self.stir();
        // The term and the vote stay. The lease of the owner ends here and now: it only keeps the
        // others from being disturbed, no read depends on it.
        let term = self.raw.raft.term;
        self.raw.raft.become_follower(term, raft::INVALID_ID);
        let mut hint = Hint::new(delay_ticks);
        if let Some(pre_vote) = self.elections.held_pre_vote.take() {
            if self.is_behind(&pre_vote) {
                hint.hurry();
            } else {
                hint.wait(self.pre_vote_lasts());
            }
            self.step(pre_vote);
        }
        self.elections.hint = Some(hint);
        self.follow_hint();
    }

    /// There is a connection to that replica again: an owner goes on sending at once.
    pub fn peer_back(&mut self, peer: ReplicaId) {
        if !self.is_owner() {
            return;
        }
        self.wake();
        if let Some(progress) = self.raw.raft.mut_prs().get_mut(peer.0) {
            progress.resume();
            self.raw.raft.send_append(peer.0);
        }
    }

    /// That ready and all earlier ones are durable.
    ///
    /// # Panics
    /// When there was no such ready.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.written.made, "ready {number} was never given out");
        if number <= self.written.persisted {
            return;
        }
        self.written.persisted = number;
        self.raw.on_persist_ready(number);
        while self.written.installs.front().is_some_and(|(ready, _)| *ready <= number) {
            let (_, position) = self.written.installs.pop_front().expect("it was just looked at");
            self.applied(position);
        }
    }

    /// The state machine has applied everything up to here.
    ///
    /// # Panics
    /// When that was not committed.
    pub fn applied(&mut self, position: Position) {
        assert!(position <= self.handed_out, "{position} was applied before it was committed");
        let raft = &self.raw.raft;
        // An install counts as applied only when it is durable; the state has it before.
        let durable = raft.raft_log.persisted.min(raft.raft_log.committed);
        let (position, last) = (position.0.min(durable), raft.raft_log.last_index());
        if position <= raft.raft_log.applied {
            return;
        }
        self.raw.advance_apply_to(position);
        self.raw.mut_store().applied_to(Position(position));
        if self.raw.raft.raft_log.last_index() > last {
            // The end of a joint membership; raft-rs appends it, and would let it lie there until
            // the next heartbeat.
            self.raw.raft.bcast_append();
        }
        if let Some(campaign) = self.elections.held_campaign.take() {
            self.campaign_for_owner(campaign);
        }
    }

    /// The snapshot that was offered for that replica has arrived there, or has not. Whether it is
    /// of use there, the replica itself will say.
    pub fn snapshot_sent(&mut self, to: ReplicaId, ok: bool) {
        if self.snapshots.offers.remove(&to) {
            let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
            self.raw.report_snapshot(to.0, status);
        }
    }

    /// Forgets the entries up to there (at most up to the applied position). The record is for the
    /// log; none when there is nothing to forget.
    pub fn compact(&mut self, up_to: Position) -> Option<LogRecord> {
        let position = up_to.min(self.applied_position());
        if position <= self.raw.store().base() {
            return None;
        }
        let term = self.raw.mut_store().compact(position);
        Some(LogRecord::Base { group: self.options.group, position, term })
    }

    /// Forgets what is not needed: at most up to `durable`, where the state stands for good, and
    /// not what another replica may ask for. `somebody_is_away` counts while this is not the owner:
    /// then it is not known here how far the others are. The record is for the log. To be asked
    /// from time to time, at least every few seconds while something is appended.
    pub fn cut_tail(
        &mut self,
        durable: Position,
        micros: u64,
        somebody_is_away: bool,
        limits: &TailLimits,
    ) -> Option<LogRecord> {
        if *limits == TailLimits::NOTHING && !self.snapshots.offers.is_empty() {
            // Behind the state that is on its way stands what its receiver needs next: without it
            // another state would have to follow, and so on.
            return None;
        }
        let log = self.raw.store();
        let (base, last, bytes) = (log.base(), log.last(), log.appended_bytes());
        let matched = self.progress().into_iter().map(|(_, progress)| progress.matched).min();
        let need = match matched {
            Some(matched) => Need::Matched(matched),
            None if self.is_owner() => Need::Matched(last),
            None if somebody_is_away => Need::SomebodyAway,
            None => Need::NobodyAway,
        };
        let up_to =
            self.upkeep.tail.cut(Reach { micros, base, last, bytes }, durable, need, limits);
        self.compact(up_to)
    }

    /// About how many bytes of the log are kept, as [`Group::cut_tail`] counts them.
    pub fn tail_bytes(&self) -> u64 {
        let log = self.raw.store();
        self.upkeep.tail.kept(log.base(), log.appended_bytes())
    }

    /// Takes the oldest entries out of memory, about that many bytes of them, if they are durable
    /// and applied; they are read from the disk from now on. Gives what the rest takes, as
    /// [`Group::log_bytes`].
    pub fn shrink_window(&mut self, bytes: usize) -> usize {
        self.raw.mut_store().shrink_window(bytes)
    }

    /// Snapshots stand at this position from now on, and not where the state machine has come to:
    /// for a state that is not written with every entry. The log must not be cut behind it.
    pub fn snapshots_stand_at(&mut self, position: Position, term: Term, members: Members) {
        self.raw.mut_store().snapshots_stand_at(crate::SnapshotMeta { position, term, members });
    }

    /// Gives a message to raft-rs. It has errors for local messages and strangers only, and such
    /// messages are to be ignored.
    pub(crate) fn step(&mut self, message: eraftpb::Message) {
        match self.raw.step(message) {
            Ok(()) | Err(raft::Error::StepPeerNotFound) => {}
            Err(error) => self.note(format!("raft: {error}")),
        }
    }

    pub(crate) fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }

    /// The term in which this replica owns the group.
    pub(crate) fn term_owned(&self) -> Option<Term> {
        self.is_owner().then(|| self.term())
    }

    /// An owner's vote for itself must be durable before it says anything as the owner. With
    /// several voters that is so by nature; a lone voter wins before it has written a byte, and
    /// after a crash it could win the same term again.
    pub(crate) fn hard_state_is_durable(&self) -> bool {
        self.written.hard_state_ready <= self.written.persisted
    }

    pub(crate) fn all_persisted_before(&self, ready: u64) -> bool {
        self.written.persisted + 1 >= ready
    }

    fn check_ownership(&self) -> Result<(), ProposeError> {
        if !self.is_owner() {
            return Err(ProposeError::NotOwner { owner: self.owner() });
        }
        // Nothing would come of it.
        if self.upkeep.is_damaged {
            return Err(ProposeError::NotOwner { owner: None });
        }
        match self.raw.raft.lead_transferee {
            Some(to) => Err(ProposeError::HandingOver { to: ReplicaId(to) }),
            None => Ok(()),
        }
    }

    /// Another replica owns the group and was heard of lately: raft-rs ignores pre-votes.
    fn seems_owned(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state == StateRole::Follower
            && raft.leader_id != raft::INVALID_ID
            && raft.election_elapsed < raft.election_timeout()
    }

    /// Somebody asks for a vote that it cannot get, as it lacks entries that are here. It will ask
    /// again and again; with an owner dead in the middle of a write, only this replica can win.
    fn is_behind(&self, message: &eraftpb::Message) -> bool {
        let raft = &self.raw.raft;
        message.msg_type == MessageType::MsgRequestPreVote
            && raft.state == StateRole::Follower
            && raft.leader_id == raft::INVALID_ID
            && !raft.raft_log.is_up_to_date(message.index, message.log_term)
    }

    /// raft-rs panics when it campaigns while a state that was installed is not durable (it looks
    /// for entries before the base), and when a lone voter does while its log is not (it wins at
    /// once).
    fn may_campaign(&self) -> bool {
        let raft = &self.raw.raft;
        let lone = raft.prs().is_singleton();
        let durable = raft.raft_log.persisted == raft.raft_log.last_index();
        raft.promotable() && self.written.installs.is_empty() && (durable || !lone)
    }

    /// Campaigns if the hint says so, with a pre-vote: if the owner lives after all, the
    /// others say no and nothing happened.
    fn follow_hint(&mut self) {
        let round_trip = self.elections.pace.round_trip;
        let Some(hint) = &mut self.elections.hint else { return };
        if self.raw.raft.leader_id != raft::INVALID_ID || hint.is_spent() {
            self.elections.hint = None;
        } else if hint.is_due(round_trip) && self.may_campaign() {
            self.campaign();
        }
    }

    /// The votes travel there and back, and are written to disk on both sides.
    fn election_lasts(&self) -> usize {
        ELECTION_TICKS + 2 * self.elections.pace.round_trip
    }

    fn pre_vote_lasts(&self) -> usize {
        HINT_RETRY_TICKS + self.elections.pace.round_trip
    }

    fn campaign(&mut self) {
        if let Err(error) = self.raw.campaign() {
            self.note(format!("raft: {error}"));
        }
    }

    /// The owner hands over to this replica. It cannot campaign while a committed membership is not
    /// applied, or when it may not; then the call is kept until more is applied.
    fn campaign_for_owner(&mut self, call: eraftpb::Message) {
        let kept = call.clone();
        if self.may_campaign() {
            self.step(call);
        }
        let raft = &self.raw.raft;
        let refused = raft.state == StateRole::Follower && raft.promotable();
        if refused && raft.term == kept.term {
            self.elections.held_campaign.put(kept);
        }
    }

    /// A replica that asked for a snapshot has one. raft-rs forgets the wish only when the report
    /// of the sending comes before this answer, and would offer the state again.
    fn snapshot_arrived(&mut self, answer: &eraftpb::Message) {
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Leader || answer.term != raft.term {
            return;
        }
        self.snapshots.refills.remove(&ReplicaId(answer.from));
        let progress = raft.mut_prs().get_mut(answer.from);
        match progress {
            Some(progress) if answer.index >= progress.pending_request_snapshot => {
                progress.pending_request_snapshot = raft::INVALID_INDEX;
            }
            _ => {}
        }
    }

    /// The owner says how far it has come; in a heartbeat only as far as it knows this replica to
    /// have it.
    fn hear_commit(&mut self, kind: MessageKind, committed: Position) {
        let knows = match kind {
            MessageKind::Append => true,
            MessageKind::Heartbeat => committed >= self.last(),
            _ => return,
        };
        let (known, term) = self.heard.told_committed;
        let term = if knows { self.term() } else { term };
        self.heard.told_committed = (known.max(committed), term);
    }

    /// Who refuses its vote says what is committed. raft-rs listens, but not to one in an earlier
    /// term. That can be an owner which took itself out and stepped down: it alone knows that it is
    /// out, will not give its vote to somebody who has less, and may not campaign itself. Without
    /// this the others would ask for its vote for ever.
    fn learn_commit(&mut self, answer: &eraftpb::Message) {
        let raft = &mut self.raw.raft;
        let earlier = answer.reject && answer.term < raft.term && answer.commit_term > 0;
        let campaigns = matches!(raft.state, StateRole::Candidate | StateRole::PreCandidate);
        if earlier && campaigns && raft.raft_log.maybe_commit(answer.commit, answer.commit_term) {
            // What was learned may be another membership: then the votes were counted wrongly.
            let term = raft.term;
            raft.become_follower(term, raft::INVALID_ID);
        }
    }

    /// This owner is not a voter any more: an entry of the owner before it said so. The others
    /// learn that this is committed, and the one that has most is called to campaign.
    pub(crate) fn step_down(&mut self) {
        let successor = self.successor(&[]);
        let raft = &mut self.raw.raft;
        raft.bcast_append();
        if let Some(successor) = successor {
            raft.send_timeout_now(successor.0);
        }
        let term = raft.term;
        raft.become_follower(term, raft::INVALID_ID);
    }

    /// The other voter that has most. Of equals the last: which one does not matter, but it must
    /// not depend on chance.
    fn successor(&self, leaving: &[ReplicaId]) -> Option<ReplicaId> {
        let progress = self.raw.raft.prs();
        let matched = |voter: &&ReplicaId| progress.get(voter.0).map_or(0, |peer| peer.matched);
        let voters = self.members.voters.iter();
        let others = voters.filter(|voter| **voter != self.options.me && !leaving.contains(voter));
        others.max_by_key(matched).copied()
    }
}

fn config(options: &GroupOptions, applied: Position) -> Config {
    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Config {
        id: options.me.0,
        election_tick: options.election_ticks,
        heartbeat_tick: options.heartbeat_ticks,
        applied: applied.0,
        max_size_per_msg: bytes(options.entry_bytes_per_message_max),
        max_inflight_msgs: options.inflight_max,
        check_quorum: true,
        pre_vote: true,
        // Raft-rs takes a number between these by chance; `Group::tick` puts ours in its place.
        min_election_tick: options.election_ticks,
        max_election_tick: options.election_ticks + ELECTION_TICKS_SPAN,
        read_only_option: ReadOnlyOption::Safe,
        skip_bcast_commit: false,
        // Else each proposal is a message of its own.
        batch_append: true,
        max_uncommitted_size: bytes(options.uncommitted_bytes_max),
        max_committed_size_per_ready: COMMITTED_BYTES_PER_READY_MAX,
        ..Config::default()
    }
}
