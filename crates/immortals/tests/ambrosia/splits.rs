//! The byte stream of an LB may be cut anywhere, and may be damaged.

use bytes::Bytes;
use immortals::ambrosia::AmbrosiaAdapter;
use protocol::Term;
use protocol::immortal::{ToNode, ToProgram};
use random::Random;

use crate::wire::*;

/// A program that has become primary and owes two checkpoints.
fn busy_door() -> AmbrosiaAdapter {
    let mut adapter = loaded_adapter(options(), 9);
    tell(&mut adapter, &from_client(10, &[a_fork(1, b"a"), a_fork(2, b"b")]));
    tell(&mut adapter, &ToProgram::Primary { term: Term(1) });
    tell(&mut adapter, &ToProgram::TakeCheckpoint { request: 4 });
    adapter
}

/// One message of each type.
fn stream() -> Vec<u8> {
    let rpcs = [
        fork("other", 1, &[7; 300]),
        call("other", 2, "server", 1 << 40, b"arguments"),
        returned("third", 2, "server", 5, b""),
    ];
    [
        message(1, b"other"),
        fork("other", -1, b"x"),
        batch(&rpcs),
        checkpoint(&[3; 100]),
        impulse("", 9, b"key"),
        checkpoint(&[4; 1000]),
        message(2, b""),
        message(13, &[size(2), size(1), rpcs[0].clone(), impulse("other", 9, b"i")].concat()),
        message(6, b"\x0aother\x00\x02\x01times"),
        batch(&[]),
        fork("", 1, &[9; 5000]),
    ]
    .concat()
}

fn hear_pieces(pieces: &[&[u8]]) -> Vec<ToNode> {
    let mut adapter = busy_door();
    let mut said = Vec::new();
    for piece in pieces {
        adapter.hear(Bytes::copy_from_slice(piece), &mut said).unwrap();
    }
    joined(said)
}

#[test]
fn any_cut_gives_the_same() {
    let stream = stream();
    let whole = hear_pieces(&[&stream]);
    assert_eq!(whole.len(), 12);
    for at in 0..stream.len() {
        let (front, back) = stream.split_at(at);
        assert_eq!(hear_pieces(&[front, back]), whole, "cut at {at}");
    }
}

#[test]
fn byte_by_byte_gives_the_same() {
    let stream = stream();
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(hear_pieces(&bytes), hear_pieces(&[&stream]));
}

#[test]
fn many_cuts_give_the_same() {
    let stream = stream();
    let whole = hear_pieces(&[&stream]);
    let mut random = Random::of_seed(1);
    for _ in 0..500 {
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        let most = 1 + random.index(700);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + random.index(most)).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        assert_eq!(hear_pieces(&pieces), whole);
    }
}

/// A flipped byte changes what is said, or is an error; it is the same for each split.
#[test]
fn damage_is_said_alike_for_each_split() {
    let stream = stream();
    let mut random = Random::of_seed(2);
    for _ in 0..2000 {
        let mut bad = stream.clone();
        for _ in 0..=random.index(3) {
            let at = random.index(bad.len());
            bad[at] = u8::try_from(random.below(256)).unwrap();
        }
        let outcome = |size: usize| {
            let mut adapter = busy_door();
            let mut said = Vec::new();
            let heard = bad
                .chunks(size)
                .try_for_each(|piece| adapter.hear(Bytes::copy_from_slice(piece), &mut said));
            (joined(said), heard)
        };
        let whole = outcome(bad.len());
        assert_eq!(outcome(1 + random.index(100)), whole);
    }
}

/// Each piece is copied once; if all that has come were copied with each piece, this would take a
/// minute.
#[test]
fn a_long_message_in_small_pieces_comes_whole() {
    let mut adapter = busy_door();
    let bytes = fork("other", 1, &vec![1; 8 << 20]);
    let mut said = Vec::new();
    for piece in bytes.chunks(64) {
        adapter.hear(Bytes::copy_from_slice(piece), &mut said).unwrap();
    }
    assert_eq!(forks(&said)[0].2.len(), 8 << 20);
}
