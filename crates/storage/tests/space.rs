//! The keys of a group: where they lie, and how a snapshot takes their place.

use std::ops::ControlFlow;

use protocol::{GroupId, Position, Term};
use storage::{Applied, Batch, DERIVED, MemoryStore, Reader, Space, StateStore};

fn space_of(store: &dyn Reader, group: u32) -> (Space, Applied) {
    Space::open(store, GroupId(group)).expect("the store holds sound things")
}

fn write(store: &mut MemoryStore, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    store.write(batch).expect("memory takes it");
}

fn applied(position: u64) -> Applied {
    Applied { position: Position(position), term: Term(2), members: vec![1, 2, 3] }
}

/// The rests of the keys in a range.
fn rests(store: &dyn Reader, space: &Space, (from, to): (Vec<u8>, Vec<u8>)) -> Vec<Vec<u8>> {
    let mut rests = Vec::new();
    store
        .scan(&from, &to, false, &mut |key, _| {
            rests.push(space.rest(key).to_vec());
            ControlFlow::Continue(())
        })
        .expect("memory can be read");
    rests
}

#[test]
fn a_new_space_has_applied_nothing() {
    let (space, applied) = space_of(&MemoryStore::new(), 7);
    assert_eq!(space.group, GroupId(7));
    assert_eq!(applied, Applied::default());
}

#[test]
fn what_was_applied_is_read_back() {
    let mut store = MemoryStore::new();
    let (space, _) = space_of(&store, 7);
    write(&mut store, |batch| space.put_applied(batch, &applied(9)));
    assert_eq!(space_of(&store, 7), (space, applied(9)));
    assert_eq!(space_of(&store, 8).1, Applied::default(), "another group's is its own");
}

#[test]
fn a_range_has_the_keys_with_its_prefix_and_no_others() {
    let mut store = MemoryStore::new();
    let (space, _) = space_of(&store, u32::MAX);
    for family in [1, 2, 0xff] {
        write(&mut store, |batch| {
            for rest in [&b""[..], b"a", b"ab", b"b", b"\xff", b"\xff\xff", b"\xff\xffx"] {
                batch.put(space.key(family, rest), b"");
            }
        });
    }
    assert_eq!(rests(&store, &space, space.range(2)).len(), 7);
    assert_eq!(rests(&store, &space, space.range(0xff)).len(), 7);
    assert_eq!(rests(&store, &space, space.range_of(1, b"a")), [&b"a"[..], b"ab"]);
    let high = rests(&store, &space, space.range_of(0xff, b"\xff\xff"));
    assert_eq!(high, [&b"\xff\xff"[..], b"\xff\xffx"]);
}

/// A group with documents in two families, an index, and a neighbour on each side.
fn filled() -> (MemoryStore, Space) {
    let mut store = MemoryStore::new();
    let (space, _) = space_of(&store, 7);
    write(&mut store, |batch| {
        for number in 0..20_u8 {
            batch.put(space.key(1, &[number]), vec![number; 10]);
            batch.put(space.key(0x7f, &[number]), vec![number; 10]);
            batch.put(space.key(DERIVED, &[number]), vec![number; 10]);
        }
        space.put_applied(batch, &applied(40));
        for group in [6, 8] {
            let neighbour = Space { group: GroupId(group), ..space };
            batch.put(neighbour.key(1, b"theirs"), b"");
            neighbour.put_applied(batch, &applied(1));
        }
    });
    (store, space)
}

/// Takes a snapshot out of one store into the staging space of another.
fn transfer(from: &Space, view: &dyn Reader, to: &Space, store: &mut MemoryStore) -> usize {
    let (mut after, mut chunks) = (Vec::new(), 0);
    loop {
        let chunk = from.export(view, &after, 60).expect("memory can be read");
        chunks += 1;
        after = chunk.pairs.last().expect("none of these chunks is empty").0.clone();
        write(store, |batch| to.stage(batch, chunk.pairs));
        if chunk.done {
            return chunks;
        }
    }
}

#[test]
fn a_snapshot_is_unseen_until_it_is_installed_and_then_takes_the_place_of_all() {
    let (source, space) = filled();
    let view = source.view();
    let mut store = MemoryStore::new();
    let (old, _) = space_of(&store, 7);
    write(&mut store, |batch| {
        batch.put(old.key(1, b"old"), b"");
        old.put_applied(batch, &applied(3));
        Space { group: GroupId(8), ..old }.put_applied(batch, &applied(5));
    });
    let staged = old.staging();
    let chunks = transfer(&space, view.as_ref(), &staged, &mut store);
    assert!(chunks > 5, "{chunks}");
    assert_eq!(space_of(&store, 7), (old, applied(3)));
    assert_eq!(rests(&store, &old, old.range(1)), [b"old"]);

    write(&mut store, |batch| staged.install(batch, &applied(40)));
    let (new, found) = space_of(&store, 7);
    assert_eq!((new, found), (staged, applied(40)));
    assert_eq!(rests(&store, &new, new.range(1)).len(), 20);
    assert_eq!(rests(&store, &new, new.range(0x7f)).len(), 20);
    assert_eq!(rests(&store, &new, new.range(DERIVED)).len(), 0, "what is derived is left out");

    let mut batch = Batch::new();
    assert!(!new.clean(&store, &mut batch, 1).unwrap());
    assert_eq!(batch.len(), 1);
    store.write(batch).unwrap();
    let mut batch = Batch::new();
    assert!(new.clean(&store, &mut batch, 100).unwrap());
    store.write(batch).unwrap();
    assert_eq!(rests(&store, &old, old.range(1)).len(), 0);
    assert_eq!(space_of(&store, 7), (staged, applied(40)), "the pointer stays");
    assert_eq!(space_of(&store, 8).1, applied(5), "and so does the neighbour");
}

#[test]
fn the_remains_of_a_broken_transfer_are_cleaned() {
    let (mut store, space) = filled();
    let staged = space.staging();
    write(&mut store, |batch| staged.stage(batch, vec![(vec![1, 9], vec![])]));
    let mut batch = Batch::new();
    assert!(space.clean(&store, &mut batch, 100).unwrap());
    assert_eq!(batch.writes, [(staged.key(1, &[9]), storage::Write::Delete)]);
    store.write(batch).unwrap();
    let mut batch = Batch::new();
    assert!(space.clean(&store, &mut batch, 0).unwrap(), "nothing is left");
}

#[test]
fn of_a_group_that_is_removed_nothing_stays_and_its_neighbours_do() {
    let (mut store, space) = filled();
    let (before, after) = (GroupId(space.group.0 - 1), GroupId(space.group.0 + 1));
    write(&mut store, |batch| {
        space.staging().install(batch, &applied(3));
        space.staging().staging().stage(batch, vec![(vec![1, 9], vec![])]);
        Space { group: before, ..space }.put_applied(batch, &applied(4));
        Space { group: after, ..space }.put_applied(batch, &applied(5));
    });
    let mut batch = Batch::new();
    Space::remove(space.group, &store, &mut batch).unwrap();
    store.write(batch).unwrap();
    let mut left = Vec::new();
    let all = vec![0xff; 64];
    store
        .scan(&[], &all, false, &mut |key, _| {
            left.push(key.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    let mut groups: Vec<_> = left.iter().map(|key| key[..4].to_vec()).collect();
    groups.dedup();
    assert_eq!(groups, [before, after].map(|group| group.0.to_be_bytes()));
}

#[test]
fn an_empty_space_exports_one_empty_chunk() {
    let store = MemoryStore::new();
    let (space, _) = space_of(&store, 7);
    let chunk = space.export(&store, b"", 100).unwrap();
    assert!(chunk.done && chunk.pairs.is_empty());
}

#[test]
fn keys_that_no_export_has_are_not_staged() {
    let space = Space { group: GroupId(7), generation: 2 };
    let mut batch = Batch::new();
    space.stage(&mut batch, vec![(vec![], vec![]), (vec![0], vec![]), (vec![DERIVED, 1], vec![])]);
    assert!(batch.is_empty());
}
