//! What comes out of a replica: its readys.

use std::mem;

use protocol::{Position, ReplicaId, Term};
use raft::StateRole;
use raft::eraftpb;
use raft::eraftpb::MessageType;
use storage::{Entry, EntryKind, LogError, LogRecord};

use crate::{
    Committed, CommittedData, Group, Install, Members, Message, MessageKind, Ready, SnapshotOffer,
    change, convert,
};

impl Group {
    /// What has to be done now. To be called after any input, until there is nothing.
    pub fn ready(&mut self) -> Option<Ready> {
        if let Some(damage) = self.raw.store().damage() {
            return self.say_damage(damage);
        }
        self.reads.watch(self.term_owned());
        self.begin_round();
        let idle = self.notes.is_empty()
            && self.first_records.is_empty()
            && !self.elections.rest.has_messages()
            && !self.reads.has_answers()
            && !self.raw.has_ready();
        if idle {
            return None;
        }
        let mut from = self.raw.ready();
        self.written.made = from.number();
        let records = mem::take(&mut self.first_records);
        let mut ready = Ready {
            number: from.number(),
            must_sync: from.must_sync() || !records.is_empty(),
            records,
            ..Ready::default()
        };
        self.take_log(&mut from, &mut ready);
        self.take_messages(&mut from, &mut ready);
        for state in from.take_read_states() {
            self.reads.end(&state.request_ctx, Position(state.index));
        }
        let committed = from.take_committed_entries();
        // Until here raft-rs must not be touched.
        self.raw.advance_append_async(from);
        self.skip_disk(&mut ready);
        for entry in committed {
            let committed = self.commit(convert::entry_from_raft(entry));
            ready.committed.push(committed);
        }
        ready.confirmed = self.reads.take_confirmed();
        ready.refused = self.reads.take_refused();
        ready.notes = mem::take(&mut self.notes);
        ready.send_now.append(&mut self.elections.rest.take_messages());
        Some(ready)
    }

    /// Once.
    fn say_damage(&mut self, damage: LogError) -> Option<Ready> {
        if mem::replace(&mut self.upkeep.is_damaged, true) {
            return None;
        }
        Some(Ready { number: self.written.made, damage: Some(damage), ..Ready::default() })
    }

    /// When nothing is on its way to the disk, and this needs no sync, nothing has to wait.
    fn skip_disk(&mut self, ready: &mut Ready) {
        if !ready.must_sync && self.all_persisted_before(ready.number) {
            self.persisted(ready.number);
            ready.send_now.append(&mut ready.send_durable);
        }
    }

    /// raft-rs drops a read without a word before it has committed something in its term: until
    /// then the tickets wait.
    fn begin_round(&mut self) {
        let raft = &self.raw.raft;
        let may_ask = raft.state == StateRole::Leader && raft.commit_to_current_term();
        if let Some(context) = may_ask.then(|| self.reads.begin()).flatten() {
            self.raw.read_index(context);
        }
    }

    /// Snapshot, entries and vote: into memory at once, and into the records.
    fn take_log(&mut self, from: &mut raft::Ready, ready: &mut Ready) {
        let group = self.options.group;
        if !from.snapshot().is_empty() {
            let meta = convert::snapshot_from_raft(from.snapshot());
            self.raw.mut_store().restart(&meta);
            let (position, term) = (meta.position, meta.term);
            ready.records.push(LogRecord::Base { group, position, term });
            self.members = meta.members.clone();
            self.written.installs.push_back((ready.number, position));
            self.handed_out = position;
            ready.install = Some(Install { position, term, members: meta.members });
        }
        for entry in from.take_entries() {
            let entry = convert::entry_from_raft(entry);
            self.raw.mut_store().append(entry.clone());
            ready.records.push(LogRecord::Entry { group, entry });
        }
        if let Some(hard) = from.hs() {
            if self.written.hard_state != (hard.term, hard.vote) {
                self.written.hard_state = (hard.term, hard.vote);
                self.written.hard_state_ready = ready.number;
            }
            ready.records.push(LogRecord::Vote {
                group,
                term: Term(hard.term),
                voted_for: ReplicaId(hard.vote),
                commit: Position(hard.commit),
            });
        }
    }

    /// An owner's messages may leave before its records are durable, and so may answers that
    /// promise nothing. All others wait.
    fn take_messages(&mut self, from: &mut raft::Ready, ready: &mut Ready) {
        let now = from.take_messages();
        let durable = from.take_persisted_messages();
        let (now, durable) = if self.hard_state_is_durable() {
            let (answers, durable): (Vec<_>, Vec<_>) =
                durable.into_iter().partition(promises_nothing);
            ([now, answers].concat(), durable)
        } else {
            (Vec::new(), [now, durable].concat())
        };
        self.sort_messages(now, ready, false);
        self.sort_messages(durable, ready, true);
    }

    fn sort_messages(&mut self, messages: Vec<eraftpb::Message>, ready: &mut Ready, wait: bool) {
        let bytes_max = self.options.entry_bytes_per_message_max;
        for message in messages {
            let Some(message) = convert::message_from_raft(message) else {
                self.note("raft: a message that should not leave".to_owned());
                continue;
            };
            if message.kind == MessageKind::Snapshot {
                ready.send_snapshot.extend(self.offer(message));
            } else {
                let to = if wait { &mut ready.send_durable } else { &mut ready.send_now };
                convert::push_in_pieces(message, bytes_max, to);
            }
        }
    }

    /// No second offer while the node is still sending the first, even if that was in another term
    /// of office: when it is reported, the receiver says what it lacks.
    fn offer(&mut self, message: Message) -> Option<SnapshotOffer> {
        let meta = message.snapshot.clone()?;
        if !self.is_owner() || !self.snapshots.offers.insert(message.to) {
            return None;
        }
        Some(SnapshotOffer {
            to: message.to,
            message,
            position: meta.position,
            term: meta.term,
            members: meta.members,
        })
    }

    fn commit(&mut self, entry: Entry) -> Committed {
        let Entry { position, term, kind, data } = entry;
        self.handed_out = position;
        let data = match kind {
            EntryKind::Membership => self.change_members(position, &data),
            EntryKind::Normal if data.is_empty() => CommittedData::Empty,
            EntryKind::Normal => CommittedData::Normal(data),
        };
        Committed { position, term, data }
    }

    /// From here on the committed membership is in force. A change that cannot be made is skipped,
    /// as every other replica does with the same members.
    fn change_members(&mut self, position: Position, data: &[u8]) -> CommittedData {
        let Some(change) = change::read(data) else {
            self.note(format!("entry {position} changes the membership in an unknown way"));
            return CommittedData::Empty;
        };
        match self.raw.apply_conf_change(&change) {
            Ok(state) => {
                self.members = Members::from_raft(&state);
                self.raw.mut_store().members_from(position, self.members.clone());
                self.forget_strangers();
                if self.is_owner() && !self.members.is_voter(self.options.me) {
                    self.step_down();
                }
                CommittedData::Members(self.members.clone())
            }
            Err(error) => {
                self.note(format!("entry {position} does not change the membership: {error}"));
                CommittedData::Empty
            }
        }
    }

    /// Nobody reports on a snapshot for a replica that is not a member any more, or asks for one.
    fn forget_strangers(&mut self) {
        let members = &self.members;
        self.snapshots.offers.retain(|to| members.contains(*to));
        self.snapshots.refills.retain(|to, _| members.contains(*to));
    }
}

/// Answers that say nothing of what is on the disk, as long as the term and the vote are: that the
/// owner is heard, that its entries do not fit, that one would vote. With a slow disk they would
/// come too late.
fn promises_nothing(message: &eraftpb::Message) -> bool {
    match message.msg_type {
        MessageType::MsgHeartbeatResponse | MessageType::MsgRequestPreVoteResponse => true,
        MessageType::MsgAppendResponse => message.reject,
        _ => false,
    }
}
