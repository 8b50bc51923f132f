//! Changes of the membership as entries: how a wish becomes one, and how one is read again.
//!
//! The data of such an entry is Raft's `ConfChangeV2` in protobuf, because raft-rs reads it itself
//! when it is proposed. It comes back over the network and from the disk, and there the protobuf
//! library is not let near it (its old version recurses as deep as the bytes tell it to): what is
//! needed is read here by hand, and anything else is refused.

use std::collections::BTreeSet;

use protocol::ReplicaId;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use crate::{Members, MembershipChange};

/// What raft-rs shall propose, or why the wish makes no sense for these members.
pub(crate) fn plan(change: &MembershipChange, members: &Members) -> Result<ConfChangeV2, String> {
    let all = || change.add_learners.iter().chain(&change.promote).chain(&change.remove);
    let mut seen = BTreeSet::new();
    if let Some(twice) = all().find(|replica| !seen.insert(**replica)) {
        return Err(format!("replica {twice} is named twice"));
    }
    if seen.is_empty() {
        return Err("nothing is to be changed".to_owned());
    }
    if seen.contains(&ReplicaId(0)) {
        return Err("replica 0 is nobody".to_owned());
    }
    if let Some(known) = change.add_learners.iter().find(|replica| members.contains(**replica)) {
        return Err(format!("replica {known} is a member already"));
    }
    if let Some(other) = change.promote.iter().find(|replica| !members.learners.contains(replica)) {
        return Err(format!("replica {other} is not a learner"));
    }
    if let Some(other) = change.remove.iter().find(|replica| !members.contains(**replica)) {
        return Err(format!("replica {other} is not a member"));
    }
    let stays = |voter: &&ReplicaId| !change.remove.contains(*voter);
    if change.promote.is_empty() && members.voters.iter().find(stays).is_none() {
        return Err("no voter would be left".to_owned());
    }
    let steps = |list: &[ReplicaId], kind| list.iter().map(move |id| step(id.0, kind)).collect();
    let mut changes: Vec<ConfChangeSingle> =
        steps(&change.add_learners, ConfChangeType::AddLearnerNode);
    changes.extend::<Vec<_>>(steps(&change.promote, ConfChangeType::AddNode));
    changes.extend::<Vec<_>>(steps(&change.remove, ConfChangeType::RemoveNode));
    // One step is done at once, several go through a joint membership that ends by itself.
    Ok(change_of(ConfChangeTransition::Auto, changes))
}

fn change_of(transition: ConfChangeTransition, changes: Vec<ConfChangeSingle>) -> ConfChangeV2 {
    ConfChangeV2 { transition, changes: changes.into(), ..ConfChangeV2::default() }
}

fn step(node_id: u64, change_type: ConfChangeType) -> ConfChangeSingle {
    ConfChangeSingle { node_id, change_type, ..ConfChangeSingle::default() }
}

/// Reads the data of a membership entry; `None` when it is anything but such a change. Empty data
/// ends a joint membership.
pub(crate) fn read(mut data: &[u8]) -> Option<ConfChangeV2> {
    let mut transition = ConfChangeTransition::Auto;
    let mut changes = Vec::new();
    while !data.is_empty() {
        match take_field(&mut data)? {
            (1, Value::Number(0)) => transition = ConfChangeTransition::Auto,
            (1, Value::Number(1)) => transition = ConfChangeTransition::Implicit,
            (1, Value::Number(2)) => transition = ConfChangeTransition::Explicit,
            (2, Value::Bytes(single)) => changes.push(read_step(single)?),
            // The context: unused, and harmless.
            (3, Value::Bytes(_)) => {}
            _ => return None,
        }
    }
    Some(change_of(transition, changes))
}

fn read_step(mut data: &[u8]) -> Option<ConfChangeSingle> {
    let mut kind = ConfChangeType::AddNode;
    let mut replica = 0;
    while !data.is_empty() {
        match take_field(&mut data)? {
            (1, Value::Number(0)) => kind = ConfChangeType::AddNode,
            (1, Value::Number(1)) => kind = ConfChangeType::RemoveNode,
            (1, Value::Number(2)) => kind = ConfChangeType::AddLearnerNode,
            (2, Value::Number(id)) => replica = id,
            _ => return None,
        }
    }
    (replica != 0).then(|| step(replica, kind))
}

/// The two kinds of field that occur.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn take_field<'a>(data: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = take_number(data)?;
    let value = match tag & 7 {
        0 => Value::Number(take_number(data)?),
        2 => {
            let bytes = usize::try_from(take_number(data)?).ok()?;
            let (value, rest) = data.split_at_checked(bytes)?;
            *data = rest;
            Value::Bytes(value)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

/// Seven bits a byte, the lowest first, the highest bit set on all bytes but the last.
fn take_number(data: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        let bits = u64::from(byte & 0x7f);
        if bits.leading_zeros() < shift {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[u64]) -> Vec<ReplicaId> {
        list.iter().map(|id| ReplicaId(*id)).collect()
    }

    fn members() -> Members {
        Members { learners: ids(&[4]), ..Members::of_voters(ids(&[1, 2, 3])) }
    }

    fn wish(add: &[u64], promote: &[u64], remove: &[u64]) -> MembershipChange {
        MembershipChange { add_learners: ids(add), promote: ids(promote), remove: ids(remove) }
    }

    #[test]
    fn a_wish_that_makes_no_sense_is_refused_with_the_reason() {
        for (wish, reason) in [
            (wish(&[], &[], &[]), "nothing"),
            (wish(&[5], &[], &[5]), "twice"),
            (wish(&[0], &[], &[]), "nobody"),
            (wish(&[3], &[], &[]), "already"),
            (wish(&[], &[3], &[]), "not a learner"),
            (wish(&[], &[], &[9]), "not a member"),
            (wish(&[], &[], &[1, 2, 3]), "no voter"),
        ] {
            let refused = plan(&wish, &members()).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(plan(&wish(&[], &[4], &[1, 2, 3]), &members()).is_ok());
    }

    #[test]
    fn what_is_not_a_change_is_not_read_as_one() {
        assert!(read(&[]).unwrap().changes.is_empty());
        let good = [0x12, 4, 0x08, 2, 0x10, 5];
        let change = read(&good).unwrap();
        assert_eq!(change.changes.len(), 1);
        assert_eq!(change.changes[0].node_id, 5);
        assert_eq!(change.changes[0].change_type, ConfChangeType::AddLearnerNode);
        for cut in 1..good.len() {
            assert!(read(&good[..cut]).is_none(), "cut at {cut}");
        }
        // An unknown transition, kind and field; nobody; a group, which the library would follow
        // down; a number of more than 64 bits.
        assert!(read(&[0x08, 3]).is_none());
        assert!(read(&[0x12, 4, 0x08, 3, 0x10, 5]).is_none());
        assert!(read(&[0x20, 0]).is_none());
        assert!(read(&[0x12, 2, 0x08, 2]).is_none());
        assert!(read(&[0x0b, 0x0b, 0x0b]).is_none());
        let mut long = vec![0x08];
        long.extend([0xff; 9]);
        long.push(0x02);
        assert!(read(&long).is_none());
    }
}
