//! An entry that was decoded and walked once. That walk notes what every reader of the entry needs:
//! the replica for its own state, and the program that is fed from the entry.

use std::fmt;

use bytes::Bytes;
use protocol::GroupId;
use protocol::immortal::{Garbled, MessageView, SourceKind, View};

use crate::history::entry::{Entry, Inputs, Origin};

/// An entry that cannot be read, or that does not fit what was logged before it. A replica that
/// meets one stops: the log is damaged, or was written by another release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEntry(pub String);

impl fmt::Display for BadEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadEntry {}

impl From<Garbled> for BadEntry {
    fn from(why: Garbled) -> Self {
        Self(format!("it cannot be read: {why}"))
    }
}

/// An input that the node put into the log and that replicas act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnInput {
    Start,
    /// A timer has fired, or a side effect has a result.
    Resolved(u64),
    Upgrade(u64),
}

/// The head of a block, as far as the numbering of inputs needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockIndex {
    pub(crate) origin: Origin,
    /// The number of the first message in the sender's stream.
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// An entry and what is in it.
#[derive(Clone, Debug)]
pub struct IndexedEntry {
    pub(crate) entry: Entry,
    pub(crate) blocks: Vec<BlockIndex>,
    /// The node's own inputs, each with its place among the inputs of the entry, counted from 0.
    pub(crate) own: Vec<(u64, OwnInput)>,
    /// The length of the encoded entry.
    pub(crate) bytes: usize,
}

impl IndexedEntry {
    /// Decodes and walks an entry.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(bytes: Bytes) -> Result<Self, BadEntry> {
        let length = bytes.len();
        let entry = Entry::decode(bytes)?;
        let (mut blocks, mut own) = (Vec::new(), Vec::new());
        if let Entry::Inputs(inputs) = &entry {
            index_blocks(inputs, &mut blocks, &mut own)?;
        }
        Ok(Self { entry, blocks, own, bytes: length })
    }

    /// Whether messages of that instance's stream are in it.
    pub(crate) fn has_stream_of(&self, from: GroupId) -> bool {
        self.blocks.iter().any(|block| block.origin == Origin::Stream { from })
    }

    /// How many inputs there are.
    pub fn count(&self) -> u64 {
        self.blocks.iter().map(|block| block.count).sum()
    }
}

fn index_blocks(
    inputs: &Inputs,
    blocks: &mut Vec<BlockIndex>,
    own: &mut Vec<(u64, OwnInput)>,
) -> Result<(), BadEntry> {
    let mut walk = View::new(&inputs.blocks);
    let (mut origins, mut place) = (inputs.origins.iter(), 0);
    while let Some(block) = walk.block()? {
        let Some(origin) = origins.next() else {
            let origins = inputs.origins.len();
            return Err(BadEntry(format!("it names {origins} origins and has more blocks")));
        };
        let is_own = block.kind == SourceKind::Node;
        if is_own != (*origin == Origin::Node) {
            let (is, said) = match is_own {
                true => ("the node's own", "a sender's"),
                false => ("a sender's", "the node's own"),
            };
            return Err(BadEntry(format!("a block is {is} and is said to be {said}")));
        }
        blocks.push(BlockIndex { origin: *origin, first: block.first, count: block.count });
        if is_own {
            index_own(block.messages, block.count, place, own)?;
        }
        place = place
            .checked_add(block.count)
            .ok_or_else(|| BadEntry(format!("a block of {} messages", block.count)))?;
    }
    match origins.count() {
        0 => Ok(()),
        more => Err(BadEntry(format!("it names {more} origins without a block"))),
    }
}

fn index_own(
    mut messages: View<'_>,
    count: u64,
    first: u64,
    own: &mut Vec<(u64, OwnInput)>,
) -> Result<(), BadEntry> {
    let mut found = 0;
    while let Some(message) = messages.message()? {
        let place = first + found;
        found += 1;
        match message {
            MessageView::Start { .. } => own.push((place, OwnInput::Start)),
            MessageView::Timer { id } | MessageView::Result { id, .. } => {
                own.push((place, OwnInput::Resolved(id)));
            }
            MessageView::Upgrade { version } => own.push((place, OwnInput::Upgrade(version))),
            _ => {}
        }
    }
    if found == count {
        return Ok(());
    }
    Err(BadEntry(format!("a block of {count} messages has {found}")))
}
