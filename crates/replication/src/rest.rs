//! Rest: a group in which nothing happens costs nothing.
//!
//! An owner goes to rest when its followers have all that it has and nothing has happened for a
//! while, and it tells the followers so. From then on no replica's clock ticks in this group: no
//! heartbeat leaves, and no follower misses one. Whether the owner's *node* lives is watched for
//! all of its groups together, by the connection to that node ([`Group::peer_lost`]).
//!
//! Safety depends on terms and votes, as it does without rest. Rest could cost only liveness, so
//! each of these events ends it:
//!
//! | what happens | what ends the rest |
//! |---|---|
//! | a proposal, a read, a change of members | the owner sends to all followers, and each wakes |
//! | the owner's node dies | the connection to it is lost: its followers wake and campaign |
//! | that node freezes, or is cut off | silence: followers wake and count ([`Group::suspect`]) |
//! | a follower was cut off, or begins anew | the owner wakes when the connection is back |
//! | a replica missed the rest, and asks for votes | who hears it wakes; the owner shows itself |
//! | the owner is cut off | the owner wakes, and gives its group up when no quorum answers |

use std::mem;

use protocol::{Position, ReplicaId, Term};
use raft::{ProgressState, StateRole};

use crate::{Group, Message, MessageKind};

impl Group {
    /// True while no replica's clock ticks in this group, until something happens.
    pub fn is_resting(&self) -> bool {
        self.elections.rest.is_resting
    }

    /// Ends the rest here. For events that reach the other replicas by themselves.
    pub(crate) fn stir(&mut self) {
        self.elections.rest.quiet_ticks = 0;
        if mem::take(&mut self.elections.rest.is_resting) {
            // The time at rest was not counted, so it must not count as the owner's silence.
            self.raw.raft.election_elapsed = 0;
        }
    }

    /// Ends the rest here and wakes the other replicas as well. Does nothing when the group is not
    /// at rest.
    pub(crate) fn wake(&mut self) {
        if !self.is_resting() {
            return;
        }
        self.stir();
        if self.is_owner() {
            self.raw.ping();
        }
    }

    /// That node has been silent for `silent_ticks`, in all of its groups. If it owns this group at
    /// rest, this replica waits for it no longer than for an owner that is awake.
    pub fn suspect(&mut self, peer: ReplicaId, silent_ticks: usize) {
        if self.is_resting() && self.owner() == Some(peer) {
            self.stir();
            self.raw.raft.election_elapsed = self.elections.pace.counted_of(silent_ticks);
        }
    }

    /// An owner goes to rest when nothing has happened for long enough. This must be called at each
    /// tick, before the tick sends heartbeats.
    pub(crate) fn rest_if_quiet(&mut self) {
        if self.is_resting() {
            return;
        }
        let last = self.last();
        if mem::replace(&mut self.elections.rest.last, last) != last || !self.is_quiet() {
            self.elections.rest.quiet_ticks = 0;
            return;
        }
        self.elections.rest.quiet_ticks += 1;
        if self.elections.rest.quiet_ticks < self.options.rest_ticks {
            return;
        }
        let (me, term, at_term) = (self.options.me, self.term(), self.term_at(last));
        let mut others: Vec<u64> = self.raw.raft.prs().iter().map(|(id, _)| *id).collect();
        others.retain(|id| *id != me.0);
        others.sort_unstable();
        let log_term = at_term.unwrap_or_default();
        let message = |to: u64| Message { log_term, ..rest_message(me, ReplicaId(to), term, last) };
        self.elections.rest.messages = others.into_iter().map(message).collect();
        self.elections.rest.is_resting = true;
    }

    /// Whether the owner may rest: each follower has everything, and nothing is under way.
    fn is_quiet(&self) -> bool {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        raft.state == StateRole::Leader
            && raft.commit_to_current_term()
            && [raft.raft_log.committed, raft.raft_log.applied, raft.raft_log.persisted]
                .iter()
                .all(|reached| *reached == last)
            && self.is_at_rest()
            && self.snapshots.offers.is_empty()
            && !self.members.is_joint()
            && !raft.has_pending_conf()
            && raft.prs().iter().all(|(id, follower)| {
                let is_here = *id == raft.id;
                is_here || (follower.matched == last && follower.state == ProgressState::Replicate)
            })
    }

    /// The owner says that it rests. A follower that knows of more takes no notice: it will miss
    /// the heartbeats, and wake the owner.
    pub(crate) fn hear_rest(&mut self, message: &Message) {
        let raft = &self.raw.raft;
        let agrees = raft.state == StateRole::Follower
            && raft.term == message.term.0
            && raft.leader_id == message.from.0
            && Position(raft.raft_log.last_index()) == message.index
            && Position(raft.raft_log.committed) == message.index
            && self.elections.hint.is_none();
        self.elections.rest.is_resting = agrees;
    }
}

/// All entries up to `index` are committed, and there are no more.
fn rest_message(from: ReplicaId, to: ReplicaId, term: Term, index: Position) -> Message {
    Message { index, commit: index, ..Message::new(MessageKind::Rest, from, to, term) }
}
