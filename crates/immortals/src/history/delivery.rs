//! How logged inputs are given to a program: with a placeholder for each that was taken out, and
//! one at a time when one of them may make the program fail.

use std::collections::BTreeSet;

use bytes::Bytes;
use protocol::immortal::{
    Block, BlockHead, Garbled, Message, SourceKind, blocks, messages, put_block_head, put_message,
};

use crate::history::input_state::Logged;

/// The blocks with a placeholder for each input that was taken out.
///
/// # Errors
/// When the blocks cannot be read.
pub(crate) fn without_skipped(logged: &Logged, skipped: &BTreeSet<u64>) -> Result<Bytes, Garbled> {
    let end = logged.first + logged.count;
    if skipped.range(logged.first..end).next().is_none() {
        return Ok(logged.blocks.clone());
    }
    let mut input = logged.first;
    let mut out = Vec::new();
    for block in blocks(logged.blocks.clone()) {
        let block = block?;
        let mut body = Vec::new();
        for message in messages(block.messages) {
            let is_out = skipped.contains(&input);
            put_message(&mut body, &if is_out { Message::Skipped } else { message? });
            input += 1;
        }
        put_block_head(&mut out, &block.head, body.len());
        out.extend_from_slice(&body);
    }
    Ok(out.into())
}

/// One block for each message.
///
/// # Errors
/// When the blocks cannot be read.
pub(crate) fn one_by_one(logged: &Bytes) -> Result<Vec<Bytes>, Garbled> {
    let mut singles = Vec::new();
    for block in blocks(logged.clone()) {
        let Block { head, messages: bytes } = block?;
        for (place, message) in (0..).zip(messages(bytes)) {
            let mut body = Vec::new();
            put_message(&mut body, &message?);
            let is_numbered = head.kind == SourceKind::Instance;
            let first = if is_numbered { head.first + place } else { head.first };
            let single = BlockHead { first, count: 1, ..head.clone() };
            let mut out = Vec::new();
            put_block_head(&mut out, &single, body.len());
            out.extend_from_slice(&body);
            singles.push(out.into());
        }
    }
    Ok(singles)
}

/// The message at a place among the inputs of an entry, and the name of its sender.
pub(crate) fn message_at(logged: &Bytes, place: usize) -> Option<(String, Message)> {
    let all = blocks(logged.clone()).flatten();
    all.flat_map(|block| {
        let name = block.head.name;
        messages(block.messages).flatten().map(move |message| (name.clone(), message))
    })
    .nth(place)
}
