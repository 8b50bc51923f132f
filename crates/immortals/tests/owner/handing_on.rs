//! A checkpoint on its way to another replica.

use super::*;

/// An owner takes a checkpoint and hands it to another replica, whose log is the same. `damage` may
/// change what is handed.
pub(super) fn handed_on(damage: impl FnMut(&mut Peer)) -> (Owner, Owner) {
    handed_early(0, damage)
}

/// The first `pieces` pieces come before the other replica has applied anything.
fn handed_early(pieces: usize, mut damage: impl FnMut(&mut Peer)) -> (Owner, Owner) {
    let mut owner = Owner::replica(1, &[1, 2]);
    owner.leads(TERM);
    owner.attach(0, 0);
    let mut bytes = Vec::new();
    let payload = Bytes::from(vec![7; 900_000]);
    put_message(&mut bytes, &Message::Fork { method: 1, payload });
    let (destination, messages) = ("theirs".into(), bytes.into());
    owner.says(&ToNode::Send { destination, count: 1, messages });
    owner.comes(1, 1);
    let mut other = Owner::replica(2, &[1, 2]);
    owner.step(Input::Request { ticket: 1, request: Request::Checkpoint });
    owner.waits(200_000);
    let mut entries = owner.log.entries.clone();
    let mut come = 0;
    while let Some(mut message) = owner.handed.pop() {
        if come == pieces {
            for (_, _, entry) in entries.drain(..) {
                other.commit(entry);
            }
        }
        come += 1;
        if let Peer::Chunk { bytes, last, .. } = &message {
            assert!(bytes.len() <= 300_000, "a piece of {} bytes", bytes.len());
            assert!(last.as_ref().is_none_or(|record| record.pieces() == 4));
        }
        damage(&mut message);
        other.step(Input::Peer { from: ReplicaId(1), message });
        for message in std::mem::take(&mut other.handed) {
            owner.step(Input::Peer { from: ReplicaId(2), message });
        }
    }
    (owner, other)
}

#[test]
fn what_is_kept_travels_with_a_checkpoint_in_pieces() {
    let (_, mut other) = handed_on(|_| {});
    assert_eq!(other.instance.status().base_input, 2);
    other.attach(0, 0);
    let kept = other.instance.destinations();
    let [to] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((to.to.as_str(), to.sent, to.confirmed), ("theirs", 1, 0));
    assert!(to.kept_bytes >= 900_000);
    // As the owner it sends what came with the checkpoint.
    other.leads(Term(2));
    let (lane, logged) = (Lane::Stream, 0);
    let message = Between::Ack { lane, logged, resend_from: Some(1) };
    let said = other.step(Input::Between { from: THEIRS, message });
    assert!(matches!(said[..], [Between::Send { first: 1, count: 1, .. }]), "{said:?}");
}

#[test]
fn a_checkpoint_that_begins_to_come_before_anything_is_applied_is_whole() {
    let (_, mut other) = handed_early(1, |_| {});
    assert_eq!(other.instance.status().base_input, 2);
    other.attach(0, 0);
    assert_ne!(other.told_last, "RELOAD");
    assert!(other.instance.destinations()[0].kept_bytes >= 900_000);
}

#[test]
fn a_checkpoint_that_is_damaged_on_its_way_is_not_taken() {
    for piece in 0..4 {
        let (owner, other) = handed_on(|message| {
            if let Peer::Chunk { number, bytes, .. } = message
                && *number == piece
            {
                let mut damaged = bytes.to_vec();
                damaged[0] ^= 1;
                *bytes = damaged.into();
            }
        });
        assert_eq!(owner.instance.status().base_input, 2);
        assert_eq!(other.instance.status().base_input, 0, "piece {piece}");
    }
}

#[test]
fn a_replica_that_missed_a_checkpoint_is_sent_it_by_the_owner() {
    let (mut owner, other) = handed_on(|_| {});
    assert_eq!(owner.handed, []);
    let mut status = other.instance.status();
    status.base = Position(0);
    for _ in 0..2 {
        let message = Peer::Status(status.clone());
        owner.step(Input::Peer { from: ReplicaId(2), message });
        assert_eq!(owner.handed, []);
        for _ in 0..35 {
            let message = Peer::Status(status.clone());
            owner.step(Input::Peer { from: ReplicaId(2), message });
            owner.waits(100_000);
        }
        let begun = std::mem::take(&mut owner.handed);
        assert!(matches!(begun[..], [Peer::Chunk { number: 0, .. }]), "{begun:?}");
    }
}
