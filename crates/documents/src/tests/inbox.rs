//! The inbox: a write of an instance is taken if it is the next one, with its version or without.

use bytes::Bytes;
use protocol::{GroupId, Position, Term};
use random::Random;
use serde_json::json;
use storage::StateStore;

use super::Site;
use super::commands::write;
use crate::{AppliedCommand, Command, InstanceAnswer, Noted, Write};

const ONE: GroupId = GroupId(1 << 20);
const TWO: GroupId = GroupId((1 << 20) + 1);

fn noted(instance: GroupId, after: u64, number: u64) -> Noted {
    Noted { instance, after, number, answer: None }
}

fn with_answer(noted: Noted, id: u64) -> Noted {
    let payload = Bytes::from(format!("{{\"status\":{id}}}"));
    let (to, from) = ("ledger".to_owned(), "/a/actions/b".to_owned());
    Noted { answer: Some(InstanceAnswer { to, from, id, payload }), ..noted }
}

fn writing(link: &str, version: u64, noted: Noted) -> Command {
    Command::Write(Write { noted: Some(noted), ..write(link, version, json!({})) })
}

#[test]
fn a_command_of_an_instance_comes_back_as_it_was() {
    let all = [
        writing("/a", 3, noted(ONE, 4, 5)),
        writing("/a", 3, with_answer(noted(ONE, 4, 9), 300)),
        Command::Note(Term(7), with_answer(noted(TWO, 0, 1), 1)),
    ];
    for command in all {
        let bytes = command.encode();
        assert_eq!(bytes[0], 4, "an older program does not know it");
        assert_eq!(Command::decode(&bytes).unwrap(), command);
        for cut in 0..bytes.len() {
            assert!(Command::decode(&bytes[..cut]).is_err(), "{cut} bytes");
        }
    }
    assert_eq!(Command::Write(write("/a", 0, json!({}))).encode()[0], 3);
}

#[test]
fn a_write_that_is_not_the_next_one_changes_nothing() {
    let mut site = Site::new(1);
    let wrong = [(1, 2), (0, 0)];
    for (after, number) in wrong {
        let command = writing("/a", 0, with_answer(noted(ONE, after, number), 7));
        assert_eq!(site.apply(&command), AppliedCommand::Fenced, "{number} after {after}");
    }
    assert!(site.partition.latest(&site.store, "/a").unwrap().is_none());
    let first = writing("/a", 0, with_answer(noted(ONE, 0, 1), 7));
    assert!(matches!(site.apply(&first), AppliedCommand::Written(_)));
    // Once more, as the next version of its document: it would fit in all else.
    let again = writing("/a", 1, with_answer(noted(ONE, 0, 1), 7));
    assert_eq!(site.apply(&again), AppliedCommand::Fenced);
    // A refusal cannot take its number either.
    let refused = Command::Note(Term(1), with_answer(noted(ONE, 0, 1), 7));
    assert_eq!(site.apply(&refused), AppliedCommand::Fenced);
    let messages = site.partition.messages(&site.store, ("ledger", 0), 9_999).unwrap();
    assert_eq!(messages.len(), 1);
    let told = &messages[0];
    assert_eq!((told.answers, told.from.as_str()), (Some(7), "/a/actions/b"));
}

#[test]
fn a_write_whose_version_does_not_come_is_not_taken() {
    let mut site = Site::new(1);
    let gap = writing("/a", 1, with_answer(noted(ONE, 0, 1), 7));
    assert_eq!(site.apply(&gap), AppliedCommand::Fenced);
    let late = Command::Note(Term(0), noted(ONE, 0, 1));
    assert_eq!(site.apply(&late), AppliedCommand::Fenced, "of an earlier owner");
    assert_eq!((site.partition.inbox().last(ONE), site.partition.outbox().count()), (0, 0));
}

/// Against a number for each instance, with restarts and snapshots.
#[test]
fn each_number_is_noted_once() {
    for seed in 0..40 {
        let mut random = Random::new(seed, "inbox");
        let mut site = Site::new(1);
        let (mut last, mut version, mut told) = ([0, 0], 0, 0);
        for _ in 0..120 {
            let which = random.index(2);
            let known: u64 = last[which];
            let after = if random.chance(700) { known } else { random.below(known + 2) };
            let number = after + random.below(3);
            let fits = after == known && number > after;
            let note = with_answer(noted([ONE, TWO][which], after, number), number);
            // A partition that was reopened before its first entry knows no term.
            site.applied.term = Term(1);
            match random.below(10) {
                0 => site.reopen(),
                1 => site.install_own_snapshot(100),
                2..5 => {
                    let outcome = site.apply(&Command::Note(Term(1), note));
                    assert_eq!(outcome == AppliedCommand::Other, fits, "seed {seed}");
                    (last[which], told) = if fits { (number, told + 1) } else { (known, told) };
                }
                _ => {
                    let outcome = site.apply(&writing("/a", version, note));
                    assert_eq!(matches!(outcome, AppliedCommand::Written(_)), fits, "{seed}");
                    (last[which], told) = if fits { (number, told + 1) } else { (known, told) };
                    version += u64::from(fits);
                }
            }
            let inbox = site.partition.inbox();
            assert_eq!([inbox.last(ONE), inbox.last(TWO)], last, "seed {seed}");
        }
        let messages = site.partition.messages(&site.store, ("ledger", 0), usize::MAX).unwrap();
        assert_eq!(messages.len(), told, "seed {seed}");
    }
}

/// What is noted is part of what replicas are compared by.
#[test]
fn replicas_that_have_noted_another_number_differ() {
    let digest = |number| {
        let mut site = Site::new(1);
        site.apply(&Command::Note(Term(1), noted(ONE, 0, number)));
        (site.position(), site.digest())
    };
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

#[test]
fn a_broken_inbox_is_not_guessed() {
    let mut site = Site::new(1);
    site.apply(&Command::Note(Term(1), noted(ONE, 0, 1)));
    let space = site.partition.space;
    let mut batch = storage::Batch::new();
    batch.put(space.key(crate::family::INBOX, b"x"), [0]);
    site.store.write(batch).unwrap();
    let error = crate::Partition::open(&site.store, space).unwrap_err();
    assert!(error.to_string().contains("a broken inbox"), "{error}");
    assert_eq!(site.position(), Position(1));
}
