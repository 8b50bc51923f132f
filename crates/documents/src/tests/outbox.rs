//! The outbox: messages come with versions and go when they are confirmed.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{InstanceMessage, Term};
use random::Random;
use serde_json::json;

use super::Site;
use super::commands::write;
use crate::{AppliedCommand, Command, Destination, KeptMessage, Write, message_bytes};

fn message(to: &str, text: &str) -> InstanceMessage {
    InstanceMessage { to: to.into(), method: -7, payload: Bytes::from(text.to_owned()) }
}

fn sending(link: &str, version: u64, messages: Vec<InstanceMessage>) -> Command {
    Command::Write(Write { messages, ..write(link, version, json!({})) })
}

fn numbers(site: &Site, to: &str, first: u64, bytes_max: usize) -> Vec<u64> {
    let messages = site.partition.messages(&site.store, (to, first), bytes_max).unwrap();
    messages.into_iter().map(|message| message.number).collect()
}

#[test]
fn a_command_with_messages_comes_back_as_it_was() {
    let mut with = write("/a", 3, json!({"n": 1}));
    with.messages = vec![message("ledger", "[1]"), message("other", "")];
    let mut with_author = with.clone();
    with_author.document.author = Some("/core/users/jane".into());
    for write in [with, with_author] {
        let bytes = Command::Write(write.clone()).encode();
        assert_eq!(Command::decode(&bytes).unwrap(), Command::Write(write));
        for cut in 0..bytes.len() {
            assert!(Command::decode(&bytes[..cut]).is_err(), "{cut} bytes");
        }
    }
    let confirm = Command::Confirm(vec![("ledger".into(), 300)]);
    assert_eq!(Command::decode(&confirm.encode()).unwrap(), confirm);
}

#[test]
fn the_messages_of_a_version_that_does_not_come_do_not_come() {
    let mut site = Site::new(1);
    site.apply(&sending("/a", 0, vec![message("ledger", "[1]")]));
    let gap = sending("/a", 2, vec![message("ledger", "[2]")]);
    assert_eq!(site.apply(&gap), AppliedCommand::Fenced);
    let Command::Write(mut late) = sending("/a", 1, vec![message("ledger", "[3]")]) else {
        panic!("a write")
    };
    late.document.epoch = Term(0);
    assert_eq!(site.apply(&Command::Write(late)), AppliedCommand::Fenced);
    assert_eq!(numbers(&site, "ledger", 0, 9_999), [1]);
}

#[test]
fn the_messages_of_a_document_outlive_it() {
    let mut site = Site::new(1);
    site.apply(&sending("/a", 0, vec![message("ledger", "[1]")]));
    let Command::Write(mut end) = sending("/a", 1, vec![message("ledger", "[2]")]) else {
        panic!("a write")
    };
    end.purge = true;
    end.document.action = protocol::Action::Delete;
    site.apply(&Command::Write(end));
    assert!(site.partition.latest(&site.store, "/a").unwrap().is_none());
    assert_eq!(numbers(&site, "ledger", 0, 9_999), [1, 2]);
}

#[test]
fn what_is_read_at_a_time_is_bounded_and_never_nothing() {
    let mut site = Site::new(1);
    let texts = ["x".repeat(900), "y".into(), "z".into()];
    site.apply(&sending("/a", 0, texts.iter().map(|text| message("l", text)).collect()));
    assert_eq!(numbers(&site, "l", 0, 10), [1]);
    assert_eq!(numbers(&site, "l", 2, 2 * message_bytes("/a", b"y")), [2, 3]);
    assert_eq!(numbers(&site, "l", 4, 10), [0; 0]);
    assert_eq!(numbers(&site, "nobody", 0, 10), [0; 0]);
}

/// Otherwise one entry would hold up all replicas.
#[test]
fn one_entry_confirms_a_bounded_number_and_bytes_of_all_destinations() {
    let confirmed = |site: &Site| {
        let outbox = site.partition.outbox();
        ["a", "b"].map(|to| outbox.destination(to).map_or(0, |it| it.confirmed))
    };
    let mut site = Site::new(1);
    for version in 0..20 {
        let each = |to| (0..125).map(move |_| message(to, "[1]"));
        let command = sending("/a", version, each("a").chain(each("b")).collect());
        assert!(matches!(site.apply(&command), AppliedCommand::Written(_)));
    }
    let all = Command::Confirm(vec![("a".into(), 9_999), ("b".into(), 9_999)]);
    site.apply(&all);
    assert_eq!(confirmed(&site), [2_500, 4_096 - 2_500]);
    site.apply(&all);
    assert_eq!((confirmed(&site), site.partition.outbox().bytes()), ([2_500, 2_500], 0));
    // Five of a MiB: four make the bytes full.
    for version in 20..25 {
        site.apply(&sending("/a", version, vec![message("a", &"x".repeat(1 << 20))]));
    }
    site.apply(&all);
    assert_eq!(confirmed(&site), [2_504, 2_500]);
}

/// Against a list, with restarts and snapshots.
#[test]
fn numbers_count_up_and_what_is_confirmed_goes() {
    for seed in 0..40 {
        let mut random = Random::new(seed, "outbox");
        let mut site = Site::new(1);
        let mut kept: BTreeMap<&str, Vec<KeptMessage>> = BTreeMap::new();
        let mut versions: BTreeMap<&str, u64> = BTreeMap::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for step in 0..120 {
            let to = *random.pick(&["ledger", "ledger-2", "l"]);
            match random.below(12) {
                0 => site.reopen(),
                1 => site.install_own_snapshot(100),
                2..6 => {
                    let up_to = random.below(last.get(to).unwrap_or(&0) + 3);
                    site.apply(&Command::Confirm(vec![(to.into(), up_to)]));
                    kept.entry(to).or_default().retain(|message| message.number > up_to);
                }
                _ => {
                    let link = *random.pick(&["/a", "/b"]);
                    let version = versions.entry(link).or_default();
                    let text = format!("[{step}]");
                    // A partition that was reopened before its first entry knows no term.
                    site.applied.term = Term(1);
                    let outcome = site.apply(&sending(link, *version, vec![message(to, &text)]));
                    assert!(matches!(outcome, AppliedCommand::Written(_)), "seed {seed}");
                    *version += 1;
                    let number = last.entry(to).or_default();
                    *number += 1;
                    let (method, payload) = (-7, Bytes::from(text));
                    let (from, number) = (link.to_owned(), *number);
                    let message = KeptMessage { number, from, method, payload, answers: None };
                    kept.entry(to).or_default().push(message);
                }
            }
        }
        for (to, messages) in kept {
            let found = site.partition.messages(&site.store, (to, 0), usize::MAX).unwrap();
            assert_eq!(found, messages, "seed {seed}");
            let sizes = messages.iter().map(|it| message_bytes(&it.from, &it.payload) as u64);
            let last = last.get(to).copied().unwrap_or_default();
            let confirmed = messages.first().map_or(last, |message| message.number - 1);
            let expected = Destination { last, confirmed, bytes: sizes.sum() };
            let found = site.partition.outbox().destination(to).copied();
            assert_eq!(found.unwrap_or_default(), expected, "seed {seed}");
        }
    }
}
