//! Our messages and entries to Raft's and back. Nothing is copied but the numbers: the data moves.

use protocol::{Position, ReplicaId, Term};
use raft::eraftpb;
use raft::eraftpb::{EntryType, MessageType};
use storage::{Entry, EntryKind};

use crate::{Members, Message, MessageKind, SnapshotMeta};

pub(crate) fn entry_to_raft(entry: Entry) -> eraftpb::Entry {
    let entry_type = match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::Membership => EntryType::EntryConfChangeV2,
    };
    eraftpb::Entry {
        entry_type,
        term: entry.term.0,
        index: entry.position.0,
        data: entry.data,
        ..eraftpb::Entry::default()
    }
}

pub(crate) fn entry_from_raft(entry: eraftpb::Entry) -> Entry {
    let kind = match entry.entry_type {
        EntryType::EntryNormal => EntryKind::Normal,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => EntryKind::Membership,
    };
    Entry { position: Position(entry.index), term: Term(entry.term), kind, data: entry.data }
}

fn kind_to_raft(kind: MessageKind) -> MessageType {
    match kind {
        MessageKind::Append => MessageType::MsgAppend,
        MessageKind::AppendAnswer => MessageType::MsgAppendResponse,
        MessageKind::Vote => MessageType::MsgRequestVote,
        MessageKind::VoteAnswer => MessageType::MsgRequestVoteResponse,
        MessageKind::PreVote => MessageType::MsgRequestPreVote,
        MessageKind::PreVoteAnswer => MessageType::MsgRequestPreVoteResponse,
        MessageKind::Heartbeat => MessageType::MsgHeartbeat,
        MessageKind::HeartbeatAnswer => MessageType::MsgHeartbeatResponse,
        MessageKind::Snapshot => MessageType::MsgSnapshot,
        MessageKind::Campaign => MessageType::MsgTimeoutNow,
        // Not for raft-rs, which knows no rest and refuses this as a message to itself.
        MessageKind::Rest => MessageType::MsgBeat,
    }
}

/// `None` for what raft-rs says to itself only, or would forward to an owner: we do neither.
fn kind_from_raft(kind: MessageType) -> Option<MessageKind> {
    Some(match kind {
        MessageType::MsgAppend => MessageKind::Append,
        MessageType::MsgAppendResponse => MessageKind::AppendAnswer,
        MessageType::MsgRequestVote => MessageKind::Vote,
        MessageType::MsgRequestVoteResponse => MessageKind::VoteAnswer,
        MessageType::MsgRequestPreVote => MessageKind::PreVote,
        MessageType::MsgRequestPreVoteResponse => MessageKind::PreVoteAnswer,
        MessageType::MsgHeartbeat => MessageKind::Heartbeat,
        MessageType::MsgHeartbeatResponse => MessageKind::HeartbeatAnswer,
        MessageType::MsgSnapshot => MessageKind::Snapshot,
        MessageType::MsgTimeoutNow => MessageKind::Campaign,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum
        | MessageType::MsgTransferLeader
        | MessageType::MsgReadIndex
        | MessageType::MsgReadIndexResp => return None,
    })
}

pub(crate) fn message_to_raft(message: Message) -> eraftpb::Message {
    let entries: Vec<_> = message.entries.into_iter().map(entry_to_raft).collect();
    eraftpb::Message {
        msg_type: kind_to_raft(message.kind),
        to: message.to.0,
        from: message.from.0,
        term: message.term.0,
        log_term: message.log_term.0,
        index: message.index.0,
        entries: entries.into(),
        commit: message.commit.0,
        commit_term: message.commit_term.0,
        snapshot: message.snapshot.as_ref().map(snapshot_to_raft).into(),
        request_snapshot: message.request_snapshot.0,
        reject: message.reject,
        reject_hint: message.reject_hint.0,
        context: message.context,
        // The older of two fields that say the same.
        deprecated_priority: u64::try_from(message.priority).unwrap_or(0),
        priority: message.priority,
        ..eraftpb::Message::default()
    }
}

pub(crate) fn message_from_raft(mut message: eraftpb::Message) -> Option<Message> {
    let kind = kind_from_raft(message.msg_type)?;
    let entries = message.take_entries().into_iter().map(entry_from_raft).collect();
    let snapshot = message.snapshot.take().map(|snapshot| snapshot_from_raft(&snapshot));
    Some(Message {
        kind,
        to: ReplicaId(message.to),
        from: ReplicaId(message.from),
        term: Term(message.term),
        log_term: Term(message.log_term),
        index: Position(message.index),
        entries,
        commit: Position(message.commit),
        commit_term: Term(message.commit_term),
        snapshot,
        reject: message.reject,
        reject_hint: Position(message.reject_hint),
        request_snapshot: Position(message.request_snapshot),
        context: message.context,
        priority: message.priority,
    })
}

pub(crate) fn snapshot_to_raft(meta: &SnapshotMeta) -> eraftpb::Snapshot {
    let metadata = eraftpb::SnapshotMetadata {
        conf_state: Some(meta.members.to_raft()).into(),
        index: meta.position.0,
        term: meta.term.0,
        ..eraftpb::SnapshotMetadata::default()
    };
    eraftpb::Snapshot { metadata: Some(metadata).into(), ..eraftpb::Snapshot::default() }
}

pub(crate) fn snapshot_from_raft(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let meta = snapshot.get_metadata();
    SnapshotMeta {
        position: Position(meta.index),
        term: Term(meta.term),
        members: Members::from_raft(meta.get_conf_state()),
    }
}

/// Cuts an append with more than `bytes_max` bytes of data into several that follow each other.
/// raft-rs joins everything that one follower lacks into one message, whatever its size.
pub(crate) fn push_in_pieces(mut message: Message, bytes_max: usize, to: &mut Vec<Message>) {
    loop {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.data.len();
            bytes <= bytes_max
        };
        let fitting = message.entries.iter().take_while(fits).count().max(1);
        if message.entries.len() <= fitting {
            to.push(message);
            return;
        }
        let entries = message.entries.split_off(fitting);
        let last = &message.entries[fitting - 1];
        let next = Message {
            index: last.position,
            log_term: last.term,
            entries,
            snapshot: None,
            context: message.context.clone(),
            ..message
        };
        message.entries.shrink_to_fit();
        to.push(std::mem::replace(&mut message, next));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(position: u64, term: u64, bytes: usize) -> Entry {
        let (position, term) = (Position(position), Term(term));
        Entry { position, term, kind: EntryKind::Normal, data: Bytes::from(vec![7; bytes]) }
    }

    fn full_message(kind: MessageKind) -> Message {
        let members = Members {
            voters: vec![ReplicaId(1), ReplicaId(2)],
            outgoing: vec![ReplicaId(1), ReplicaId(3)],
            learners: vec![ReplicaId(4)],
            learners_next: vec![ReplicaId(3)],
            auto_leave: true,
        };
        let membership = Entry { kind: EntryKind::Membership, ..entry(12, 6, 3) };
        Message {
            kind,
            to: ReplicaId(1),
            from: ReplicaId(2),
            term: Term(9),
            log_term: Term(5),
            index: Position(10),
            entries: vec![entry(11, 5, 0), membership],
            commit: Position(8),
            commit_term: Term(4),
            snapshot: Some(SnapshotMeta { position: Position(7), term: Term(3), members }),
            reject: true,
            reject_hint: Position(6),
            request_snapshot: Position(2),
            context: Bytes::from_static(b"context"),
            priority: -1,
        }
    }

    #[test]
    fn nothing_is_lost_on_the_way_to_raft_and_back_nor_on_the_wire() {
        for kind in [
            MessageKind::Append,
            MessageKind::AppendAnswer,
            MessageKind::Vote,
            MessageKind::VoteAnswer,
            MessageKind::PreVote,
            MessageKind::PreVoteAnswer,
            MessageKind::Heartbeat,
            MessageKind::HeartbeatAnswer,
            MessageKind::Snapshot,
            MessageKind::Campaign,
        ] {
            let message = full_message(kind);
            let back = message_from_raft(message_to_raft(message.clone()));
            assert_eq!(back.as_ref(), Some(&message));
            let frame = postcard::to_stdvec(&message).unwrap();
            assert_eq!(postcard::from_bytes::<Message>(&frame).unwrap(), message);
        }
    }

    #[test]
    fn a_large_append_is_cut_into_pieces_that_follow_each_other() {
        let sizes = [(11, 5, 4), (12, 6, 4), (13, 6, 100), (14, 7, 4), (15, 7, 4), (16, 7, 4)];
        let entries: Vec<_> =
            sizes.map(|(position, term, size)| entry(position, term, size)).into();
        let whole = Message { entries: entries.clone(), ..full_message(MessageKind::Append) };
        let mut pieces = Vec::new();
        push_in_pieces(whole, 8, &mut pieces);
        let starts: Vec<_> = pieces.iter().map(|piece| (piece.index.0, piece.log_term.0)).collect();
        assert_eq!(starts, [(10, 5), (12, 6), (13, 6), (15, 7)]);
        let joined: Vec<_> = pieces.into_iter().flat_map(|piece| piece.entries).collect();
        assert_eq!(joined, entries);
    }
}
