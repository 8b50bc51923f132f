//! What somebody has missed, found in the store: the same as somebody was told who never slept.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use protocol::{Action, Moment, Position, Term, links};
use random::Random;
use serde_json::json;
use storage::Reader;

use super::Site;
use super::commands::write;
use super::equality::{STEP_MICROS, follow};
use super::generate::command;
use super::model::Model;
use crate::command::{AppliedCommand, Command, Write};
use crate::family;
use crate::since::HEADS_BYTES_MAX;
use crate::{Change, Cursor, Missed, Place, Retention, Since};

/// What a reader is told of each document, in order.
type Told = BTreeMap<String, Vec<u64>>;

fn tell(told: &mut Told, change: &Change) {
    if let Some(after) = &change.after {
        told.entry(after.link.clone()).or_default().push(after.version);
    }
}

fn catch_up(site: &Site, random: &mut Random, from: Position, prefix: &str) -> Vec<Missed> {
    let until = site.applied.position;
    let (mut found, mut after): (Vec<Missed>, Option<Cursor>) = (Vec::new(), None);
    loop {
        let bytes_max = *random.pick(&[1, 50, 5_000]);
        let (is_one, latest_at) = (false, None);
        let asked = Since { prefix, is_one, from, until, latest_at, after, bytes_max };
        let mut caught = site.partition.since(&site.store, &asked).unwrap();
        found.append(&mut caught.changes);
        after = match caught.next {
            Some(next) => Some(next),
            None => return found,
        };
    }
}

#[test]
fn what_was_missed_is_found_or_said_to_be_lost() {
    let (mut whole, mut with_gaps, mut gone) = (0, 0, 0);
    for seed in 0..10 {
        let mut random = Random::of_seed(seed);
        let mut site = Site::new(1);
        let mut model = Model::default();
        let mut now = Moment(STEP_MICROS * 10);
        let mut from = site.applied.position;
        let mut told = Told::new();
        for step in 0..400 {
            now.0 += random.below(STEP_MICROS);
            let command = command(&mut random, &model, Term(2), now);
            site.applied.term = Term(2);
            let place = Place::after(site.applied.position);
            let outcome = site.apply(&command);
            follow(&mut model, &site, &command, &outcome);
            let changes = site.partition.changes().after(place, site.applied.position);
            changes.unwrap().for_each(|change| tell(&mut told, change));
            if random.one_in(200) {
                site.reopen();
            }
            if step % 40 != 39 {
                continue;
            }
            let mut caught = Told::new();
            let mut gaps = BTreeMap::new();
            for missed in catch_up(&site, &mut random, from, "/core/examples") {
                let after = missed.change.after.as_ref().unwrap();
                assert!(missed.change.place.position > from);
                let before = missed.change.before.as_ref().map(|before| before.version);
                let is_kept = |version| {
                    let key = family::version_rest(&after.link, version);
                    let key = site.partition.space.key(family::VERSION, &key);
                    site.store.get(&key).unwrap().is_some()
                };
                let expected = after.version.checked_sub(1).filter(|version| is_kept(*version));
                assert_eq!(before, expected, "{} v{}", after.link, after.version);
                *gaps.entry(after.link.clone()).or_insert(false) |= missed.is_after_gap;
                tell(&mut caught, &missed.change);
            }
            for (link, versions) in &told {
                let (factory, _) = links::split(link).unwrap();
                let some_gone =
                    site.partition.some_have_gone(&site.store, &|it| it == factory, from).unwrap();
                assert!(
                    !site
                        .partition
                        .some_have_gone(&site.store, &|it| it == "/other", from)
                        .unwrap()
                );
                let found = caught.remove(link).unwrap_or_default();
                if found == *versions {
                    whole += 1;
                } else if found.is_empty() || found.len() < versions.len() {
                    assert!(versions.ends_with(&found), "{link}: {found:?} of {versions:?}");
                    let is_said = gaps.get(link).copied().unwrap_or(false);
                    assert!(is_said || some_gone, "{link}: {found:?} of {versions:?}");
                    with_gaps += usize::from(is_said);
                    gone += usize::from(!is_said);
                } else {
                    panic!("{link}: {found:?}, and there were {versions:?}");
                }
            }
            assert!(caught.is_empty(), "{caught:?}");
            (from, told) = (site.applied.position, Told::new());
        }
    }
    assert!(
        whole > 500 && gone > 0 && with_gaps > 0,
        "{whole} whole, {with_gaps} with gaps, {gone} gone"
    );
}

/// Who begins anew gets each document as it was at that position, and that is found by few looks.
#[test]
fn a_replay_shows_the_last_version_up_to_a_position_of_what_is_there() {
    let mut site = Site::new(1);
    let mut put = |link: &str, version: u64, expires: u64, action: Action| {
        let mut write = write(link, version, json!({"n": version}));
        (write.document.expires, write.document.action) = (Moment(expires), action);
        assert!(matches!(site.apply(&Command::Write(write)), AppliedCommand::Written(_)));
        site.applied.position
    };
    for version in 0..4 {
        put("/core/things/a", version, 0, Action::Put);
    }
    let at_three = put("/core/things/a", 4, 0, Action::Put).0 - 1;
    put("/core/things/b", 0, 0, Action::Post);
    put("/core/things/ends", 0, 500, Action::Post);
    put("/core/thing", 0, 0, Action::Post);
    put("/core/other/z", 0, 0, Action::Post);
    let before_the_end = put("/core/things/c", 0, 0, Action::Post);
    let the_end = put("/core/things/b", 1, 0, Action::Delete);
    let replay = |from: Position, until: u64| {
        let asked = Since {
            prefix: "/core/things/",
            is_one: false,
            from,
            until: Position(until),
            latest_at: Some(Moment(1_000)),
            after: None,
            bytes_max: 1 << 20,
        };
        let caught = site.partition.since(&site.store, &asked).unwrap();
        assert!(caught.next.is_none());
        let shown = caught.changes.iter().map(|missed| missed.change.after.as_ref().unwrap());
        shown.map(|it| format!("{} v{}", &it.link[13..], it.version)).collect::<Vec<_>>()
    };
    assert_eq!(replay(Position(0), at_three), ["a v3"]);
    assert_eq!(replay(Position(0), before_the_end.0), ["a v4", "b v0", "c v0"]);
    assert_eq!(replay(before_the_end, the_end.0), ["a v4", "b v1", "c v0"], "b has ended since");
    assert_eq!(replay(the_end, the_end.0), ["a v4", "c v0"], "that was known");
}

/// How somebody catches up, from one call to the next.
fn asked(until: Position, after: Option<Cursor>) -> Since<'static> {
    Since {
        prefix: "/core/things/",
        is_one: false,
        from: Position(0),
        until,
        latest_at: None,
        after,
        bytes_max: 1 << 20,
    }
}

#[test]
fn a_document_that_fills_a_call_by_itself_is_passed() {
    let mut site = Site::new(1);
    for link in ["/core/things/a", "/core/things/b", "/core/things/c"] {
        site.apply(&Command::Write(write(link, 0, json!({"n": "x".repeat(HEADS_BYTES_MAX)}))));
    }
    let (mut after, mut links) = (None, Vec::new());
    for _ in 0..8 {
        let asked = asked(site.applied.position, after);
        let caught = site.partition.since(&site.store, &asked).unwrap();
        let told = caught.changes.iter().map(|missed| missed.change.after.as_ref().unwrap());
        links.extend(told.map(|it| it.link.clone()));
        after = caught.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(after, None, "it comes to its end");
    assert_eq!(links, ["/core/things/a", "/core/things/b", "/core/things/c"]);
}

#[test]
fn what_goes_while_somebody_catches_up_is_said_to_be_missing() {
    let mut site = Site::new(1);
    let mut put = |version: u64| {
        let mut write = write("/core/things/a", version, json!({"n": version}));
        write.retention = Retention { limit: 2, floor: 1 };
        assert!(matches!(site.apply(&Command::Write(write)), AppliedCommand::Written(_)));
        site.applied.position
    };
    (0..3).for_each(|version| _ = put(version));
    let until = put(3);
    // Nothing of what was there up to then is kept any more.
    (4..9).for_each(|version| _ = put(version));
    let caught = site.partition.since(&site.store, &asked(until, None)).unwrap();
    assert!(caught.is_broken && caught.changes.is_empty(), "{:?}", caught.changes);
    // The same for somebody who was told a part of it, whose last version has gone since.
    let after = Some(Cursor { link: "/core/things/a".into(), version: 7 });
    let caught = site.partition.since(&site.store, &asked(site.applied.position, after)).unwrap();
    assert!(caught.is_broken && caught.changes.len() == 1, "{:?}", caught.changes);
}

/// Replicas that have applied an entry with the older program, and with this one, must be equal.
#[test]
fn what_an_older_program_has_logged_has_no_place_at_rest() {
    let state = |format: &[u8]| {
        let mut site = Site::new(1);
        for command in [
            Command::Write(write("/core/things/a", 0, json!({"n": 1}))),
            Command::Write(Write { purge: true, ..write("/core/things/a", 1, json!({"n": 2})) }),
            Command::Write(write("/core/things/b", 0, json!({"n": 3}))),
        ] {
            site.applied.position = site.applied.position.next();
            let bytes = [format, &postcard::to_stdvec(&command).unwrap()].concat();
            site.partition.apply(&mut site.store, site.applied.clone(), &bytes).unwrap();
        }
        let gone = site.partition.space.range(family::GONE);
        let mut count = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            count += 1;
            ControlFlow::Continue(())
        };
        site.store.scan(&gone.0, &gone.1, false, &mut visit).unwrap();
        let key = site.partition.space.key(family::HEAD, b"/core/things/b");
        let head = site.store.get(&key).unwrap().expect("it is there");
        (count, head.len())
    };
    let (of_old, as_now) = (state(&[1]), state(&[3, 0, 0]));
    assert_eq!((of_old.0, as_now.0), (0, 1));
    assert_eq!(of_old.1 + 1, as_now.1, "a small place is one byte");
}
