//! The entries in the log of an instance, and their encoding.
//!
//! An entry of inputs holds the very bytes that a DELIVER frame carries. Before those bytes comes
//! what only the replicas need: the origin of each block, what destinations have confirmed, and a
//! digest to compare.
//!
//! Every entry begins with a version byte. An entry that this code cannot read is refused as a
//! whole: a replica that guessed would differ from one that did not.

use bytes::Bytes;
use protocol::immortal::{BlockHead, Garbled, Taker, put_block_head, put_number, put_text};
use protocol::{GroupId, Moment, Position};
use serde::{Deserialize, Serialize};

use crate::history::keys::ImpulseKey;

/// The target size of an entry of inputs. An entry holds at least one run of messages, however long
/// it is.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// The first byte of every entry. The bytes 1 to 6 began the entries of releases that had no
/// version.
const VERSION: u8 = 17;

/// One of a sender's streams to one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// What the program sends in handling inputs, numbered over the whole life of the sender.
    Stream,
    /// The impulses of one ownership of the sender, numbered within that session.
    Impulses { session: u64 },
}

/// Who sent the messages of a block. An instance is named by its group, because a name may be
/// registered anew for another instance, and a group never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The node itself.
    Node,
    /// The numbered stream of an instance.
    Stream { from: GroupId },
    /// Impulses of an instance's primary, numbered within one session.
    Impulses { from: GroupId, session: u64, first: u64 },
    /// A client outside the cluster. Its impulses have no numbers.
    Outside,
    /// A client outside the cluster that has given its impulse a key.
    Keyed(ImpulseKey),
}

/// A digest of what a program has sent up to some point. Programs of all replicas send the same, or
/// one of them has diverged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// The digest after this input was handled.
    Input { input: u64, digest: u64 },
    /// The digest after this many messages to this destination, for programs that do not confirm
    /// inputs.
    Stream { destination: String, count: u64, crc: u32 },
}

/// Inputs, and what travels with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The owner's clock. Applying the entry keeps the instance's time from going back.
    pub time: Moment,
    /// What destinations have confirmed since the last entry. Messages up to these numbers need not
    /// be kept.
    pub trims: Vec<(String, u64)>,
    pub mark: Option<Mark>,
    /// One origin for each block.
    pub origins: Vec<Origin>,
    /// Blocks as in a DELIVER.
    pub blocks: Bytes,
}

impl Inputs {
    /// No inputs at all; what travels with inputs can be added.
    pub(crate) fn none(time: Moment) -> Self {
        Self { time, trims: Vec::new(), mark: None, origins: Vec::new(), blocks: Bytes::new() }
    }
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Inputs(Inputs),
    /// A piece of the state that the first program began with.
    Genesis {
        first: bool,
        chunk: Bytes,
        last: Option<GenesisEnd>,
    },
    /// A person takes an input out. Programs are given a placeholder in its place.
    Skip {
        input: u64,
    },
    /// The outcome of the upgrade at this input.
    Upgraded {
        input: u64,
        outcome: UpgradeOutcome,
    },
    /// The log forgets senders that are no longer registered. They were gone at that position of
    /// the directory's log.
    Forget {
        senders: Vec<GroupId>,
        directory: Position,
    },
    /// The messages of a sender up to that number were confirmed to the sender, and then lost with
    /// the memory of a majority. They count as received, so that the next messages fit.
    Lost {
        sender: GroupId,
        lane: Lane,
        up_to: u64,
    },
}

/// The outcome of an upgrade. The first one in the log counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeOutcome {
    /// A program has turned its state into the new version.
    Done,
    /// No program could turn its state. Programs are given a placeholder in place of the upgrade
    /// and go on as they were. The upgrade is not tried again for this wish, only for a later one.
    GivenUp { wish: u64 },
}

/// The end of the first state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisEnd {
    /// CRC-32 of all pieces.
    pub crc: u32,
    /// The payload of the START input.
    pub initial: Bytes,
    pub program_version: u64,
}

/// The usual size of what stands before the messages of a block.
const BLOCK_HEAD_BYTES: usize = 32;

const INPUTS: u8 = 1;
const GENESIS: u8 = 2;
const SKIP: u8 = 3;
const UPGRADED: u8 = 4;
const FORGET: u8 = 5;
const LOST: u8 = 6;

const GENESIS_FIRST: u8 = 1;
const GENESIS_LAST: u8 = 2;

impl Entry {
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        match self {
            Self::Inputs(inputs) => {
                out.reserve(inputs.blocks.len() + 64);
                out.push(INPUTS);
                put_inputs(&mut out, inputs);
            }
            Self::Genesis { first, chunk, last } => {
                out.reserve(chunk.len() + 64);
                out.push(GENESIS);
                put_genesis(&mut out, *first, chunk, last.as_ref());
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
        let version = from.byte("the version of an entry")?;
        if version != VERSION {
            return Err(Garbled(format!(
                "an entry of version {version}, and this program reads version {VERSION}"
            )));
        }
        match from.byte("the kind of an entry")? {
            INPUTS => take_inputs(from).map(Self::Inputs),
            GENESIS => take_genesis(from),
            SKIP => {
                let input = from.number("an input")?;
                whole(&from, Self::Skip { input })
            }
            UPGRADED => {
                let input = from.number("an input")?;
                let outcome = match from.number("an outcome")?.checked_sub(1) {
                    None => UpgradeOutcome::Done,
                    Some(wish) => UpgradeOutcome::GivenUp { wish },
                };
                whole(&from, Self::Upgraded { input, outcome })
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
                whole(&from, Self::Lost { sender, lane, up_to })
            }
            other => Err(Garbled(format!("an entry of the unknown kind {other}"))),
        }
    }
}

/// Nothing may follow what was read.
fn whole(from: &Taker, entry: Entry) -> Result<Entry, Garbled> {
    if from.is_empty() {
        return Ok(entry);
    }
    Err(Garbled(format!("{} bytes after the end of an entry", from.len())))
}

/// Encodes an entry of inputs whose blocks are given as heads and messages. The messages are most
/// of the entry, so they are copied only once. `inputs.blocks` is empty.
pub(crate) fn encode_inputs(inputs: &Inputs, blocks: &[(BlockHead, Bytes)]) -> Bytes {
    let bytes = blocks.iter().map(|(_, messages)| messages.len() + BLOCK_HEAD_BYTES).sum::<usize>();
    let mut out = Vec::with_capacity(bytes + 64);
    out.extend([VERSION, INPUTS]);
    put_inputs(&mut out, inputs);
    for (head, messages) in blocks {
        put_block_head(&mut out, head, messages.len());
        out.extend_from_slice(messages);
    }
    out.into()
}

fn put_genesis(out: &mut Vec<u8>, first: bool, chunk: &Bytes, last: Option<&GenesisEnd>) {
    let first = if first { GENESIS_FIRST } else { 0 };
    out.push(first | if last.is_some() { GENESIS_LAST } else { 0 });
    if let Some(end) = last {
        put_number(out, u64::from(end.crc));
        put_number(out, end.program_version);
        put_number(out, end.initial.len() as u64);
        out.extend_from_slice(&end.initial);
    }
    out.extend_from_slice(chunk);
}

fn take_genesis(mut from: Taker) -> Result<Entry, Garbled> {
    let flags = from.byte("flags")?;
    if flags & !(GENESIS_FIRST | GENESIS_LAST) != 0 {
        return Err(Garbled(format!("a piece of the first state with unknown flags {flags}")));
    }
    let last = if flags & GENESIS_LAST == 0 {
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
    Ok(Entry::Genesis { first: flags & GENESIS_FIRST != 0, chunk: from.rest(), last })
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
            Origin::Keyed(ImpulseKey { hash, digest }) => {
                out.push(4);
                out.extend_from_slice(&hash.to_le_bytes());
                out.extend_from_slice(&digest.to_le_bytes());
            }
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
        2 => Some(Mark::Stream {
            destination: from.text("a destination")?,
            count: from.number("a count")?,
            crc: from.fixed_u32("a checksum")?,
        }),
        other => return Err(Garbled(format!("a mark of the unknown kind {other}"))),
    };
    let mut origins = Vec::new();
    for _ in 0..from.number("a count")? {
        origins.push(take_origin(&mut from)?);
    }
    Ok(Inputs { time, trims, mark, origins, blocks: from.rest() })
}

fn take_origin(from: &mut Taker) -> Result<Origin, Garbled> {
    match from.byte("an origin")? {
        0 => Ok(Origin::Node),
        1 => Ok(Origin::Stream { from: take_group(from)? }),
        2 => Ok(Origin::Impulses {
            from: take_group(from)?,
            session: from.number("a session")?,
            first: from.number("a number")?,
        }),
        3 => Ok(Origin::Outside),
        4 => {
            let (hash, digest) = (take_u64(from)?, take_u64(from)?);
            Ok(Origin::Keyed(ImpulseKey { hash, digest }))
        }
        other => Err(Garbled(format!("an origin of the unknown kind {other}"))),
    }
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
                Origin::Keyed(ImpulseKey { hash: u64::MAX, digest: 9 }),
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

    #[test]
    fn what_an_entry_does_not_name_is_refused_and_not_guessed() {
        let inputs = Inputs { origins: vec![Origin::Outside], ..Inputs::none(Moment(5)) };
        let good = Entry::Inputs(inputs).encode();
        // Version, kind, time, count of trims, mark, count of origins, origin.
        assert_eq!(good[..], [VERSION, INPUTS, 5, 0, 0, 1, 3]);
        for (place, wrong) in [(0, VERSION + 1), (0, INPUTS), (1, 9), (4, 3), (6, 4)] {
            let mut bytes = good.to_vec();
            bytes[place] = wrong;
            assert!(Entry::decode(bytes.into()).is_err(), "{wrong} at {place}");
        }
        let genesis = Entry::Genesis { first: true, chunk: Bytes::new(), last: None };
        for entry in [genesis, Entry::Skip { input: 1 }] {
            let mut bytes = entry.encode().to_vec();
            bytes[2] |= 0x40;
            bytes.push(1);
            assert!(Entry::decode(bytes.into()).is_err(), "{entry:?}");
        }
    }
}
