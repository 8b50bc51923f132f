//! Replicas that are fed the same commands have the same bytes.

use bytes::Bytes;
use protocol::{Document, Moment, RequestKey, Term};
use random::Random;

use super::Site;
use super::generate::command;
use super::model::Model;
use crate::{AppliedCommand, Batch, BatchHead, Command, Write, family};

/// Minutes pass with each command, so that answers are forgotten.
pub(super) const STEP_MICROS: u64 = 70_000_000;

/// Here the model only says what there is, so that the next command may fit.
pub(super) fn follow(model: &mut Model, site: &Site, command: &Command, outcome: &AppliedCommand) {
    if let (Command::Write(write), AppliedCommand::Written(document)) = (command, outcome) {
        model.documents.insert(write.document.link.clone(), vec![Document::clone(document)]);
    }
    if let AppliedCommand::AllWritten(documents) = outcome {
        for document in documents {
            model.documents.insert(document.link.clone(), vec![Document::clone(document)]);
        }
    }
    model.documents.retain(|link, _| site.partition.latest(&site.store, link).unwrap().is_some());
}

/// Some writes come as one batch, now and then with two of one document, which is refused.
fn some_command(random: &mut Random, model: &Model, term: Term, now: Moment) -> Command {
    let first = command(random, model, term, now);
    if !random.one_in(5) {
        return first;
    }
    let mut writes = Vec::new();
    let count = random.below(4);
    for command in
        std::iter::once(first).chain((0..count).map(|_| command(random, model, term, now)))
    {
        if let Command::Write(write) = command {
            writes.push(Write { source: None, ..write });
        }
    }
    let key = random.one_in(2).then(|| RequestKey::User {
        key: format!("batch-{}", random.below(500)),
        digest: random.below(3),
    });
    let epoch = if random.one_in(25) { Term(term.0 - 1) } else { term };
    let outcomes = Bytes::from_static(b"outcomes");
    let head = BatchHead { epoch, key, outcomes, at: now, source: None };
    Command::Batch(Box::new(Batch { head, writes }))
}

/// All that a batch has, or nothing: whatever it is refused for, the state is as it was.
#[test]
fn a_batch_that_is_refused_changes_nothing() {
    let (mut random, mut site) = (Random::of_seed(7), Site::new(1));
    let mut model = Model::default();
    let (mut refused, mut written) = (0, 0);
    site.applied.term = Term(2);
    for number in 0..2_000 {
        let now = Moment(STEP_MICROS * 10 + number);
        let command = some_command(&mut random, &model, Term(2), now);
        let before = site.state();
        let outcome = site.apply(&command);
        follow(&mut model, &site, &command, &outcome);
        let Command::Batch(batch) = &command else { continue };
        match outcome {
            AppliedCommand::AllWritten(documents) => {
                assert_eq!(documents.len(), batch.writes.len());
                written += documents.len();
            }
            AppliedCommand::Fenced => {
                refused += usize::from(batch.writes.len() > 1);
                let is_of_state = |pair: &&(Vec<u8>, Vec<u8>)| !is_forgotten_or_position(&pair.0);
                let of = |all: &[(Vec<u8>, Vec<u8>)]| -> Vec<_> {
                    all.iter().filter(is_of_state).cloned().collect()
                };
                assert_eq!(of(&site.state()), of(&before), "{batch:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 50 && written > 200, "{refused} refused, {written} written");
}

/// What an entry without effect changes as well: answers that are old enough are forgotten.
fn is_forgotten_or_position(key: &[u8]) -> bool {
    [family::AUTO_RECORD, family::USER_RECORD, family::USER_RECORD_TIME].contains(&key[0])
}

#[test]
fn replicas_are_equal_whatever_they_cache_index_and_go_through() {
    for seed in 0..8 {
        let mut random = Random::of_seed(seed);
        let (mut one, mut other) = (Site::new(1), Site::new(1));
        one.partition.set_cache_bytes(0);
        other.partition.index.bounds.pending = 2;
        let mut model = Model::default();
        let mut now = Moment(STEP_MICROS * 10);
        for _ in 0..800 {
            now.0 += random.below(STEP_MICROS);
            // A clock that jumps ahead forgets answers early, and comes back.
            let jump = if random.one_in(20) { 30 * 3_600_000_000 } else { 0 };
            let at = Moment(now.0 + jump);
            let command = some_command(&mut random, &model, Term(2), at);
            for site in [&mut one, &mut other] {
                site.applied.term = Term(2);
            }
            let outcome = one.apply(&command);
            assert_eq!(other.apply(&command), outcome);
            follow(&mut model, &one, &command, &outcome);
            match random.below(50) {
                0 => other.reopen(),
                1 => other.install_own_snapshot(500),
                2 => other.partition.forget_index(&mut other.store).unwrap(),
                3 => other.index_wholly(),
                4..20 => {
                    other.partition.index(&mut other.store, 2).unwrap();
                }
                20 => assert_eq!(one.digest(), other.digest()),
                21 => assert!(!one.partition.expiration_due(&one.store, Moment(1)).unwrap()),
                _ => {}
            }
        }
        assert_eq!(one.state(), other.state(), "seed {seed}");
        assert_eq!(one.digest(), other.digest());
    }
}

#[test]
fn a_replica_that_lost_its_last_batches_comes_to_the_same_by_its_log() {
    for seed in 100..112 {
        let mut random = Random::of_seed(seed);
        let (mut whole, mut crashing) = (Site::new(1), Site::new(1));
        crashing.partition.index.bounds.pending = 2;
        let mut model = Model::default();
        let mut log: Vec<Command> = Vec::new();
        let mut now = Moment(STEP_MICROS * 10);
        for _ in 0..400 {
            now.0 += random.below(STEP_MICROS);
            let command = some_command(&mut random, &model, Term(2), now);
            whole.applied.term = Term(2);
            crashing.applied.term = Term(2);
            let outcome = whole.apply(&command);
            assert_eq!(crashing.apply(&command), outcome);
            follow(&mut model, &whole, &command, &outcome);
            log.push(command);
            match random.below(20) {
                0 => storage::StateStore::persist(&mut crashing.store).unwrap(),
                1 => {
                    crashing.store.crash(random.index(10));
                    crashing.reopen();
                    let from = usize::try_from(crashing.position().0).unwrap();
                    for command in &log[from..] {
                        crashing.applied.term = Term(2);
                        crashing.apply(command);
                    }
                    assert_eq!(crashing.position(), whole.position());
                }
                2..8 => {
                    crashing.partition.index(&mut crashing.store, 3).unwrap();
                }
                _ => {}
            }
        }
        assert_eq!(whole.state(), crashing.state(), "seed {seed}");
        // The index of the one that crashed has what a fresh one has, and nothing else.
        crashing.index_wholly();
        let followed = postings(&crashing);
        crashing.partition.forget_index(&mut crashing.store).unwrap();
        crashing.index_wholly();
        assert_eq!(followed, postings(&crashing), "seed {seed}");
    }
}

/// How many postings there are; their fields' numbers depend on who came first.
fn postings(site: &Site) -> Vec<Vec<u8>> {
    let space = site.partition.space;
    let mut postings = Vec::new();
    let to = space.key(family::DIRTY + 1, b"");
    storage::Reader::scan(
        &site.store,
        &space.key(storage::DERIVED, b""),
        &to,
        false,
        &mut |key, _| {
            // Family, value and link.
            postings.push([&key[8..9], &key[11..]].concat());
            std::ops::ControlFlow::Continue(())
        },
    )
    .unwrap();
    postings.sort();
    postings
}
