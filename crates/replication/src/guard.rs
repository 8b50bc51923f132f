//! Messages that raft-rs would panic on, or that would mislead it, are stopped here.
//!
//! Peers are not enemies, but they may run another version, or have lost what they promised. What
//! is refused, and what raft-rs would do with it:
//!
//! | message | refused when | otherwise |
//! |---|---|---|
//! | any | it is for another one, or from nobody or ourselves | counted as somebody's vote |
//! | any | it has no term | taken for a local message, past all checks of the term |
//! | any | a position or term is too high to be counted on | a panic, or a wrap |
//! | any | its term is far above ours | terms that nothing can be above any more |
//! | append | the entries have gaps, or terms out of order | a panic, or a log with gaps |
//! | append | an entry, or the one before them, has no term | a match beyond the end of the log |
//! | append | an entry changes members in a way unknown here | replicas with different members |
//! | heartbeat | it commits more than there is here | a panic ("to_commit out of range") |
//! | snapshot | it has no position, or impossible members | a panic ("invalid restore") |
//! | snapshot | it contradicts what is committed here | a state that differs from the others' |
//! | answer to an append | it has more than the owner | a follower that is never sent the rest |
//! | refused append | the replica has the entry by now | sent again, then nothing for a while |
//! | request for a snapshot | answered already, no refill | the whole state sent once more |
//! | vote | it makes an owner before its log is durable | a panic (`last_index == persisted`) |

use std::collections::BTreeMap;

use protocol::{Position, ReplicaId, Term};
use raft::{Raft, StateRole};

use crate::change;
use crate::log::GroupLog;
use crate::{Durability, Message, MessageKind};

/// No group lives to see this position or term.
const NUMBER_MAX: u64 = u64::MAX >> 1;

/// Terms grow by one with each election. No replica falls that far behind the others.
const TERMS_AHEAD: u64 = 1 << 32;

/// Whether raft-rs can take the message, or why not.
pub(crate) fn check(
    raft: &Raft<GroupLog>,
    message: &Message,
    durability: Durability,
    refills: &BTreeMap<ReplicaId, u64>,
) -> Result<(), String> {
    check_address(raft.id, message)?;
    check_numbers(raft.term, message)?;
    match message.kind {
        MessageKind::Append => check_append(message),
        MessageKind::Heartbeat => check_heartbeat(raft, message),
        MessageKind::Snapshot => check_snapshot(raft, message),
        MessageKind::AppendAnswer => check_append_answer(raft, message, durability, refills),
        MessageKind::VoteAnswer => check_vote_answer(raft, message),
        MessageKind::Vote
        | MessageKind::PreVote
        | MessageKind::PreVoteAnswer
        | MessageKind::HeartbeatAnswer
        | MessageKind::Campaign
        | MessageKind::Rest => Ok(()),
    }
}

fn check_address(me: u64, message: &Message) -> Result<(), String> {
    if message.to.0 != me {
        Err(format!("it is for replica {}", message.to))
    } else if message.from.0 == 0 || message.from.0 == me {
        Err("its sender cannot be right".to_owned())
    } else {
        Ok(())
    }
}

fn check_numbers(own: u64, message: &Message) -> Result<(), String> {
    if message.term.0 == 0 {
        return Err("it has no term".to_owned());
    }
    if message.term.0.saturating_sub(own) > TERMS_AHEAD && message.term.0 <= NUMBER_MAX {
        return Err(format!("its term {} is too far above {own} to be true", message.term));
    }
    let terms = [message.term, message.log_term, message.commit_term];
    let positions = [message.index, message.commit, message.reject_hint, message.request_snapshot];
    let high = |numbers: &[u64]| numbers.iter().any(|number| *number > NUMBER_MAX);
    if high(&terms.map(|term| term.0)) || high(&positions.map(|position| position.0)) {
        return Err("a number in it is too high to be true".to_owned());
    }
    Ok(())
}

fn check_append(message: &Message) -> Result<(), String> {
    if (message.index.0 == 0) != (message.log_term.0 == 0) {
        return Err(format!("entry {} cannot be of term {}", message.index, message.log_term));
    }
    let mut last = message.index;
    let mut last_term = message.log_term;
    for entry in &message.entries {
        if entry.position != last.next() {
            return Err(format!("entry {} follows {last}", entry.position));
        }
        if entry.term < last_term.max(Term(1)) || entry.term > message.term {
            return Err(format!("entry {} has term {}", entry.position, entry.term));
        }
        let membership = entry.kind == storage::EntryKind::Membership;
        if membership && change::read(&entry.data).is_none() {
            return Err(format!(
                "entry {} changes the membership in an unknown way",
                entry.position
            ));
        }
        last = entry.position;
        last_term = entry.term;
    }
    Ok(())
}

fn check_heartbeat(raft: &Raft<GroupLog>, message: &Message) -> Result<(), String> {
    let last = raft.raft_log.last_index();
    if message.commit.0 > last {
        let commit = message.commit;
        return Err(format!("it says that {commit} is committed here, where {last} is the last"));
    }
    Ok(())
}

fn check_snapshot(raft: &Raft<GroupLog>, message: &Message) -> Result<(), String> {
    let Some(meta) = &message.snapshot else {
        return Err("it says nothing about the snapshot".to_owned());
    };
    if meta.position == Position(0) || meta.position.0 > NUMBER_MAX || meta.term > message.term {
        return Err(format!("a snapshot of {} in term {} cannot be", meta.position, meta.term));
    }
    if meta.members.is_empty() {
        return Err("a group without members has no snapshots".to_owned());
    }
    meta.members.check()?;
    let log = &raft.raft_log;
    if meta.position.0 == log.committed && !log.match_term(meta.position.0, meta.term.0) {
        return Err(format!("{} is committed here in another term", meta.position));
    }
    Ok(())
}

fn check_append_answer(
    raft: &Raft<GroupLog>,
    message: &Message,
    durability: Durability,
    refills: &BTreeMap<ReplicaId, u64>,
) -> Result<(), String> {
    let (StateRole::Leader, Some(progress)) = (raft.state, raft.prs().get(message.from.0)) else {
        return Ok(());
    };
    let wanted = message.request_snapshot.0;
    // What was acknowledged is durable there and stays: the refusal is older. raft-rs looks at that
    // only while it sends without waiting for answers (its issue 555). Where a crash may take back
    // what was acknowledged, the refusal may well be new.
    let is_late = message.reject && wanted == 0 && message.index.0 <= progress.matched;
    if message.term.0 == raft.term && is_late && durability == Durability::Disk {
        return Err("it refuses what it has acknowledged".to_owned());
    }
    if message.term.0 == raft.term && message.index.0.max(wanted) > raft.raft_log.last_index() {
        return Err("it has more than the owner".to_owned());
    }
    if wanted != 0 && wanted <= progress.matched && refills.get(&message.from) != Some(&raft.term) {
        return Err("the snapshot it asks for was sent".to_owned());
    }
    Ok(())
}

fn check_vote_answer(raft: &Raft<GroupLog>, message: &Message) -> Result<(), String> {
    // An honest answer follows a request, and that left when all before it was durable.
    let durable = raft.raft_log.persisted == raft.raft_log.last_index();
    if raft.state == StateRole::Candidate && !message.reject && !durable {
        return Err("a vote that nobody can have asked for".to_owned());
    }
    Ok(())
}
