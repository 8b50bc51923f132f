//! What stands in the log of an instance.
//!
//! The inputs stay as they came: an entry holds the very bytes that a DELIVER frame will carry, and
//! before them what only the replicas need (who sent each block, what receivers have confirmed, a
//! digest to compare).

use bytes::Bytes;
use protocol::immortal::{BlockHead, Garbled, Taker, put_block_head, put_number, put_text};
use protocol::{GroupId, Moment, Position};

use crate::io::Lane;

/// An entry of inputs holds about so many bytes, and at least one message.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Who sent the messages of a block, for numbering: a name may be registered anew, a group never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The node itself.
    Node,
    /// An instance's numbered stream.
    Stream { from: GroupId },
    /// Impulses of an instance's primary, numbered within its session (one opening of its office).
    Impulses { from: GroupId, session: u64, first: u64 },
    /// From outside the cluster; not numbered.
    Outside,
}

/// What a program had said when it had handled an input, in short. Every replica's program says the
/// same, or it has diverged.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Mark {
    /// After this input.
    Input { input: u64, digest: u64 },
    /// After so many messages to this destination (for programs that do not confirm inputs).
    Stream { destination: String, count: u64, crc: u32 },
}

/// Inputs, and what travels with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The owner's wall clock; made to never go back when it is applied.
    pub time: Moment,
    /// What destinations have confirmed since: up to this number nothing need be kept for them.
    pub trims: Vec<(String, u64)>,
    pub mark: Option<Mark>,
    /// One for each block.
    pub origins: Vec<Origin>,
    /// Blocks as in a DELIVER.
    pub blocks: Bytes,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Inputs(Inputs),
    /// A part of the state that the first program began with.
    Genesis {
        first: bool,
        chunk: Bytes,
        last: Option<GenesisEnd>,
    },
    /// A person takes an input out: programs get a placeholder in its stead.
    Skip {
        input: u64,
    },
    /// What became of the upgrade that stands at this input.
    Upgraded {
        input: u64,
        outcome: UpgradeOutcome,
    },
    /// Instances that have sent something and are not registered any more are forgotten. They were gone
    /// at that position of the directory's log.
    Forget {
        senders: Vec<GroupId>,
        directory: Position,
    },
    /// What a sender said up to that number was confirmed to it and is not here: it was lost with the memory
    /// of a majority. It counts as received, so that what follows fits.
    Lost {
        sender: GroupId,
        lane: Lane,
        up_to: u64,
    },
}

/// How an upgrade ended. The first of these in the log counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeOutcome {
    /// A program has turned its state into the new version.
    Done,
    /// None could: programs get a placeholder in its stead, and go on as they were. With the number of
    /// the wish for it, so that it is not tried again before somebody wishes it again.
    GivenUp { wish: u64 },
}

/// The state is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisEnd {
    pub crc: u32,
    pub initial: Bytes,
    pub program_version: u64,
}

/// What stands before the messages of a block, roughly.
const BLOCK_HEAD_BYTES: usize = 32;

const INPUTS: u8 = 1;
const GENESIS: u8 = 2;
const SKIP: u8 = 3;
const UPGRADED: u8 = 4;
const FORGET: u8 = 5;
const LOST: u8 = 6;

impl Entry {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::Inputs(inputs) => {
                out.reserve(inputs.blocks.len() + 64);
                out.push(INPUTS);
                put_inputs(&mut out, inputs);
            }
            Self::Genesis { first, chunk, last } => {
                out.push(GENESIS);
                out.push(u8::from(*first) | (u8::from(last.is_some()) << 1));
                if let Some(end) = last {
                    put_number(&mut out, u64::from(end.crc));
                    put_number(&mut out, end.program_version);
                    put_number(&mut out, end.initial.len() as u64);
                    out.extend_from_slice(&end.initial);
                }
                out.extend_from_slice(chunk);
            }
            Self::Skip { input } => {
                out.push(SKIP);
                put_number(&mut out, *input);
            }
            Self::Upgraded { input, outcome } => {
                out.push(UPGRADED);
                put_number(&mut out, *input);
                put_number(
                    &mut out,
                    match outcome {
                        UpgradeOutcome::Done => 0,
                        UpgradeOutcome::GivenUp { wish } => wish.saturating_add(1),
                    },
                );
            }
            Self::Forget { senders, directory } => {
                out.push(FORGET);
                put_number(&mut out, directory.0);
                senders.iter().for_each(|group| put_number(&mut out, u64::from(group.0)));
            }
            Self::Lost { sender, lane, up_to } => {
                out.push(LOST);
                put_number(&mut out, u64::from(sender.0));
                put_number(&mut out, *up_to);
                if let Lane::Impulses { session } = lane {
                    put_number(&mut out, *session);
                }
            }
        }
        out.into()
    }

    /// # Errors
    /// When the bytes are not what [`Entry::encode`] makes.
    pub fn decode(bytes: Bytes) -> Result<Self, Garbled> {
        let mut from = Taker::new(bytes);
        match from.byte("the kind of an entry")? {
            INPUTS => take_inputs(from).map(Self::Inputs),
            GENESIS => {
                let flags = from.byte("flags")?;
                let last = if flags & 2 == 0 {
                    None
                } else {
                    let crc = from.number("a checksum")?;
                    let program_version = from.number("a version")?;
                    let length = from.number("a length")?;
                    Some(GenesisEnd {
                        crc: u32::try_from(crc).map_err(|_| Garbled::expected("a checksum"))?,
                        program_version,
                        initial: from.bytes(length, "the initial message")?,
                    })
                };
                Ok(Self::Genesis { first: flags & 1 == 1, chunk: from.rest(), last })
            }
            SKIP => Ok(Self::Skip { input: from.number("an input")? }),
            UPGRADED => {
                let input = from.number("an input")?;
                let outcome = match from.number("an outcome")?.checked_sub(1) {
                    None => UpgradeOutcome::Done,
                    Some(wish) => UpgradeOutcome::GivenUp { wish },
                };
                Ok(Self::Upgraded { input, outcome })
            }
            FORGET => {
                let directory = Position(from.number("a position")?);
                let mut senders = Vec::new();
                while !from.is_empty() {
                    senders.push(take_group(&mut from)?);
                }
                Ok(Self::Forget { senders, directory })
            }
            LOST => {
                let (sender, up_to) = (take_group(&mut from)?, from.number("a number")?);
                let lane = match from.is_empty() {
                    true => Lane::Stream,
                    false => Lane::Impulses { session: from.number("a session")? },
                };
                Ok(Self::Lost { sender, lane, up_to })
            }
            other => Err(Garbled(format!("an entry of kind {other}"))),
        }
    }
}

/// An entry of inputs, its blocks written once: they are most of it.
///
/// The `blocks` of the inputs stay empty and are given as heads and messages.
pub(crate) fn encode_inputs(inputs: &Inputs, blocks: &[(BlockHead, Bytes)]) -> Bytes {
    let bytes = blocks.iter().map(|(_, messages)| messages.len() + BLOCK_HEAD_BYTES).sum::<usize>();
    let mut out = Vec::with_capacity(bytes + 64);
    out.push(INPUTS);
    put_inputs(&mut out, inputs);
    for (head, messages) in blocks {
        put_block_head(&mut out, head, messages.len());
        out.extend_from_slice(messages);
    }
    out.into()
}

fn put_inputs(out: &mut Vec<u8>, inputs: &Inputs) {
    put_number(out, inputs.time.0);
    put_number(out, inputs.trims.len() as u64);
    for (destination, up_to) in &inputs.trims {
        put_text(out, destination);
        put_number(out, *up_to);
    }
    match &inputs.mark {
        None => out.push(0),
        Some(Mark::Input { input, digest }) => {
            out.push(1);
            put_number(out, *input);
            out.extend_from_slice(&digest.to_le_bytes());
        }
        Some(Mark::Stream { destination, count, crc }) => {
            out.push(2);
            put_text(out, destination);
            put_number(out, *count);
            out.extend_from_slice(&crc.to_le_bytes());
        }
    }
    put_number(out, inputs.origins.len() as u64);
    for origin in &inputs.origins {
        match origin {
            Origin::Node => out.push(0),
            Origin::Stream { from } => {
                out.push(1);
                put_number(out, u64::from(from.0));
            }
            Origin::Impulses { from, session, first } => {
                out.push(2);
                put_number(out, u64::from(from.0));
                put_number(out, *session);
                put_number(out, *first);
            }
            Origin::Outside => out.push(3),
        }
    }
    out.extend_from_slice(&inputs.blocks);
}

fn take_inputs(mut from: Taker) -> Result<Inputs, Garbled> {
    let time = Moment(from.number("a time")?);
    let mut trims = Vec::new();
    for _ in 0..from.number("a count")? {
        trims.push((from.text("a destination")?, from.number("a number")?));
    }
    let mark = match from.byte("a mark")? {
        0 => None,
        1 => Some(Mark::Input { input: from.number("an input")?, digest: take_u64(&mut from)? }),
        _ => Some(Mark::Stream {
            destination: from.text("a destination")?,
            count: from.number("a count")?,
            crc: from.fixed_u32("a checksum")?,
        }),
    };
    let mut origins = Vec::new();
    for _ in 0..from.number("a count")? {
        origins.push(match from.byte("an origin")? {
            0 => Origin::Node,
            1 => Origin::Stream { from: take_group(&mut from)? },
            2 => Origin::Impulses {
                from: take_group(&mut from)?,
                session: from.number("a session")?,
                first: from.number("a number")?,
            },
            _ => Origin::Outside,
        });
    }
    Ok(Inputs { time, trims, mark, origins, blocks: from.rest() })
}

fn take_u64(from: &mut Taker) -> Result<u64, Garbled> {
    let low = u64::from(from.fixed_u32("a digest")?);
    let high = u64::from(from.fixed_u32("a digest")?);
    Ok(low | (high << 32))
}

fn take_group(from: &mut Taker) -> Result<GroupId, Garbled> {
    let group = from.number("a group")?;
    u32::try_from(group).map(GroupId).map_err(|_| Garbled::expected("a group"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were() {
        let inputs = Inputs {
            time: Moment(1_700_000_000_000_000),
            trims: vec![("server".into(), 300)],
            mark: Some(Mark::Input { input: 7, digest: u64::MAX - 1 }),
            origins: vec![
                Origin::Node,
                Origin::Stream { from: GroupId(1 << 20) },
                Origin::Impulses { from: GroupId(1 << 20), session: 4, first: 9 },
                Origin::Outside,
            ],
            blocks: Bytes::from_static(b"blocks"),
        };
        let stream = Mark::Stream { destination: "s".into(), count: 3, crc: 0xdead_beef };
        let end = GenesisEnd { crc: 5, initial: Bytes::from_static(b"hi"), program_version: 2 };
        let chunk = Bytes::from_static(b"chunk");
        for entry in [
            Entry::Inputs(Inputs { mark: Some(stream), ..inputs.clone() }),
            Entry::Inputs(Inputs { mark: None, ..inputs.clone() }),
            Entry::Inputs(inputs),
            Entry::Genesis { first: true, chunk: chunk.clone(), last: None },
            Entry::Genesis { first: false, chunk, last: Some(end) },
            Entry::Skip { input: 77 },
            Entry::Upgraded { input: 77, outcome: UpgradeOutcome::Done },
            Entry::Upgraded { input: 77, outcome: UpgradeOutcome::GivenUp { wish: 0 } },
            Entry::Forget { senders: vec![GroupId(7), GroupId(1 << 20)], directory: Position(300) },
            Entry::Lost { sender: GroupId(1 << 20), lane: Lane::Stream, up_to: 300 },
            Entry::Lost { sender: GroupId(7), lane: Lane::Impulses { session: 0 }, up_to: 3 },
        ] {
            let bytes = entry.encode();
            assert_eq!(Entry::decode(bytes.clone()), Ok(entry));
            for cut in 0..bytes.len() {
                drop(Entry::decode(bytes.slice(..cut)));
            }
        }
    }
}
