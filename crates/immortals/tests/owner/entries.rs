//! Entries that should not be in the log, and how often the log is read.

use bytes::Bytes;
use immortals::{Entry, Inputs, Origin};
use protocol::immortal::{BlockHead, Message, SourceKind, put_block_head, put_message};
use protocol::{Moment, Position};

use super::{Owner, TERM, THEIRS};

fn a_message(first: u64) -> Bytes {
    let (mut body, mut blocks) = (Vec::new(), Vec::new());
    put_message(&mut body, &Message::Fork { method: 1, payload: Bytes::new() });
    let (kind, name) = (SourceKind::Instance, "theirs".to_owned());
    put_block_head(&mut blocks, &BlockHead { kind, name, first, count: 1 }, body.len());
    blocks.extend_from_slice(&body);
    let origins = vec![Origin::Stream { from: THEIRS }];
    let (trims, mark, blocks) = (Vec::new(), None, blocks.into());
    Entry::Inputs(Inputs { time: Moment(1), trims, mark, origins, blocks }).encode()
}

#[test]
fn an_entry_that_cannot_be_read_or_does_not_fit_stops_the_replica() {
    let mut later = a_message(3).to_vec();
    later[0] += 1;
    let unfit = a_message(9);
    let early = Entry::Genesis { first: false, chunk: Bytes::new(), last: None }.encode();
    for (bad, is_virgin) in
        [(later.into(), false), (unfit, false), (Bytes::from_static(b"?"), false), (early, true)]
    {
        let mut owner = if is_virgin { Owner::replica(1, &[1]) } else { Owner::new() };
        if !is_virgin {
            owner.comes(1, 2);
        }
        let position = Position(owner.log.entries.len() as u64 + 1);
        owner.with(|instance, cx, lead, outputs| {
            let applied = instance.apply(cx, lead.as_mut(), position, TERM, Some(bad), outputs);
            let why = applied.expect_err("it is bad").to_string();
            assert!(!why.is_empty(), "{why}");
        });
    }
}

#[test]
fn a_program_that_is_level_with_the_log_is_given_entries_without_another_reading_of_the_log() {
    let mut owner = Owner::new();
    owner.comes(1, 1);
    let before = owner.log.reads.get();
    for number in 2..50 {
        owner.comes(number, 1);
    }
    assert_eq!(owner.handled().len(), 49);
    assert_eq!(owner.log.reads.get(), before);
    // A program that comes later reads it.
    owner.attach(0, 0);
    assert_eq!((owner.handled().len(), owner.log.reads.get() > before), (98, true));
}
