//! All messages to one destination: each is numbered, and kept until the destination confirms it.
//!
//! What is kept is in memory. When there is too much of it, it goes to the store in *blocks* (see
//! `spill`), so that a destination that is away costs no memory. Where a block begins depends on
//! the messages alone. So replicas whose programs have sent the same have the same blocks, and a
//! checkpoint need not bring along blocks that its receiver has.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::immortal::{Garbled, Message, messages, skip_messages};
use serde::{Deserialize, Serialize};

/// Shorter bytes are copied when they are kept for long. They arrived in a buffer with others, and
/// without a copy they would keep the whole buffer in memory.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// The size of a block.
const BLOCK_BYTES: usize = 1 << 20;

/// From this many bytes in memory on, whole blocks go to the store.
const KEPT_IN_MEMORY_BYTES: usize = 64 << 20;

/// When this many bytes are in memory in spite of that, a primary's program is given no more
/// inputs: there are many destinations, and less than a block for each.
const KEPT_IN_MEMORY_BYTES_MAX: usize = 256 << 20;

/// When this many bytes are kept in memory and store together, a primary's program is given no more
/// inputs.
const KEPT_BYTES_MAX: usize = 4 << 30;

/// The bounds of what is kept for destinations, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLimits {
    /// A block ends when it has this many bytes. A message that is as long has a block of its own.
    pub block: usize,
    /// Bytes in memory beyond this go to the store, as far as they make whole blocks.
    pub memory: usize,
    /// With more in memory than this, nothing more should be sent.
    pub memory_max: usize,
    /// With more in memory and store together than this, nothing more should be sent.
    pub all_max: usize,
}

impl Default for KeptLimits {
    fn default() -> Self {
        Self {
            block: BLOCK_BYTES,
            memory: KEPT_IN_MEMORY_BYTES,
            memory_max: KEPT_IN_MEMORY_BYTES_MAX,
            all_max: KEPT_BYTES_MAX,
        }
    }
}

/// Consecutive messages that are kept, all of one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRun {
    pub first: u64,
    pub count: u64,
    /// The place of the block: how many bytes were sent before it.
    pub block: u64,
    pub location: Location,
    /// Present on the last messages of the block: the CRC-32 of all that was sent up to its end.
    pub ends: Option<u32>,
}

/// Where kept messages are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    Memory(Bytes),
    Spilled { bytes: usize },
}

/// Names a block of one stream. The checksum is part of the name, since a program that is not
/// deterministic sends something else in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockKey {
    /// How many bytes were sent before it.
    pub at: u64,
    /// CRC-32 of all that was sent up to its end, from the first message of the stream on.
    pub crc: u32,
}

/// What of the messages of a program must be the same in each copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Each byte.
    Bytes,
    /// The kinds and the methods. That is what AMBROSIA asks of a program: arguments may differ,
    /// and those of its own test programs have the time in them.
    Shapes,
}

/// Consecutive messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub first: u64,
    pub count: u64,
    pub messages: Bytes,
}

/// Where the next messages to be sent are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    InMemory(Run),
    /// The messages are in that block, in the store.
    Spilled {
        block: BlockKey,
        first: u64,
        count: u64,
    },
}

/// All that was sent to one destination.
///
/// **Invariant:** `kept` holds the messages from `floor` to `count` without a gap, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// How many messages were sent.
    pub count: u64,
    /// How many bytes those were.
    bytes: u64,
    /// The place of the block that is being filled.
    block: u64,
    /// CRC-32 of all of them, as their [`Sum`] says.
    pub crc: u32,
    /// The last message that is confirmed. In replay it may be ahead of `count`.
    pub confirmed: u64,
    /// What is not confirmed.
    pub kept: VecDeque<KeptRun>,
    pub kept_bytes: usize,
    /// How many of those bytes are in the store.
    pub spilled_bytes: usize,
}

impl KeptRun {
    /// The block of these messages, when they are its last ones.
    fn whole_block(&self) -> Option<BlockKey> {
        Some(BlockKey { at: self.block, crc: self.ends? })
    }
}

impl Stream {
    /// Numbers the messages, and keeps those that are not confirmed. The result says how many bytes
    /// more are kept. The bytes are shared: see [`copied_if_short`].
    ///
    /// # Errors
    /// When there are fewer messages than `count`.
    pub fn keep(
        &mut self,
        count: u64,
        messages: Bytes,
        block_bytes: usize,
        sum: Sum,
    ) -> Result<usize, Garbled> {
        let before = self.kept_bytes;
        let full = self.block.saturating_add(block_bytes as u64);
        if messages.len() < block_bytes && self.bytes + messages.len() as u64 <= full {
            self.keep_in_block(count, messages, sum)?;
        } else {
            self.keep_in_blocks(count, messages, block_bytes as u64, sum)?;
        }
        Ok(self.kept_bytes - before)
    }

    /// Keeps the messages one by one, since a block may begin with any of them.
    fn keep_in_blocks(
        &mut self,
        count: u64,
        messages: Bytes,
        block_bytes: u64,
        sum: Sum,
    ) -> Result<(), Garbled> {
        let (mut run, mut in_run) = (messages.clone(), 0);
        let mut rest = messages;
        for _ in 0..count {
            let after = skip_messages(&rest, 1)?;
            let at = self.bytes + (run.len() - rest.len()) as u64;
            let is_long = (rest.len() - after.len()) as u64 >= block_bytes;
            if is_long || at - self.block >= block_bytes {
                self.keep_in_block(in_run, run.slice(..run.len() - rest.len()), sum)?;
                self.begin_block();
                (run, in_run) = (rest, 0);
            }
            in_run += 1;
            rest = after;
            if is_long {
                self.keep_in_block(in_run, run.slice(..run.len() - rest.len()), sum)?;
                self.begin_block();
                (run, in_run) = (rest.clone(), 0);
            }
        }
        self.keep_in_block(in_run, run, sum)
    }

    /// The next message is the first of a block.
    fn begin_block(&mut self) {
        if let Some(last) = self.kept.back_mut().filter(|last| last.block == self.block) {
            last.ends = Some(self.crc);
        }
        self.block = self.bytes;
    }

    fn keep_in_block(&mut self, count: u64, bytes: Bytes, sum: Sum) -> Result<(), Garbled> {
        let first = self.count + 1;
        self.count += count;
        self.bytes += bytes.len() as u64;
        self.crc = sum.extend(self.crc, &bytes);
        let skip = (self.confirmed + 1).saturating_sub(first).min(count);
        if skip == count {
            return Ok(());
        }
        let messages = if skip == 0 { bytes } else { skip_messages(&bytes, skip)? };
        self.kept_bytes += messages.len();
        let (first, count, block) = (first + skip, count - skip, self.block);
        let location = Location::Memory(messages);
        self.kept.push_back(KeptRun { first, count, block, location, ends: None });
        Ok(())
    }

    /// Forgets what is confirmed. The result says how many bytes less are kept. Blocks in the store
    /// of which nothing is kept any more are added to `gone`.
    ///
    /// # Errors
    /// Never for messages that [`Stream::keep`] took.
    pub fn confirm(&mut self, up_to: u64, gone: &mut Vec<BlockKey>) -> Result<usize, Garbled> {
        let before = self.kept_bytes;
        self.confirmed = self.confirmed.max(up_to);
        while let Some(kept) = self.kept.front_mut() {
            if kept.first > self.confirmed {
                break;
            }
            let skip = self.confirmed + 1 - kept.first;
            if skip < kept.count {
                if let Location::Memory(messages) = &mut kept.location {
                    let rest = skip_messages(messages, skip)?;
                    self.kept_bytes -= messages.len() - rest.len();
                    *messages = rest;
                }
                (kept.first, kept.count) = (kept.first + skip, kept.count - skip);
                break;
            }
            match &kept.location {
                Location::Memory(messages) => self.kept_bytes -= messages.len(),
                Location::Spilled { bytes } => {
                    self.kept_bytes -= bytes;
                    self.spilled_bytes -= bytes;
                    gone.extend(kept.whole_block());
                }
            }
            self.kept.pop_front();
        }
        assert!(
            self.spilled_bytes <= self.kept_bytes,
            "Invariant: what is in the store is a part of what is kept"
        );
        Ok(before - self.kept_bytes)
    }

    /// The lowest number that can still be sent.
    pub fn floor(&self) -> u64 {
        self.kept.front().map_or(self.count.max(self.confirmed) + 1, |kept| kept.first)
    }

    /// Some messages from `next` on.
    ///
    /// # Errors
    /// Never for messages that [`Stream::keep`] took.
    pub fn find(&self, next: u64) -> Result<Option<Found>, Garbled> {
        let place = self.kept.partition_point(|kept| kept.first + kept.count <= next);
        let Some(kept) = self.kept.get(place) else { return Ok(None) };
        let skip = next.saturating_sub(kept.first);
        let (first, count) = (kept.first + skip, kept.count - skip);
        Ok(Some(match &kept.location {
            Location::Memory(messages) if skip == 0 => {
                Found::InMemory(Run { first, count, messages: messages.clone() })
            }
            Location::Memory(messages) => {
                Found::InMemory(Run { first, count, messages: skip_messages(messages, skip)? })
            }
            Location::Spilled { .. } => {
                let block = kept.whole_block().ok_or_else(|| Garbled::expected("a whole block"))?;
                Found::Spilled { block, first, count }
            }
        }))
    }

    /// How many bytes are in memory.
    pub fn memory(&self) -> usize {
        self.kept_bytes - self.spilled_bytes
    }

    /// Takes out of memory what is to go to the store next: the last whole block that is in memory,
    /// since the first ones are the first to be sent.
    pub fn spill(&mut self) -> Option<(BlockKey, Run)> {
        let in_memory = |kept: &KeptRun| matches!(kept.location, Location::Memory(_));
        let last = self.kept.iter().rposition(|kept| in_memory(kept) && kept.ends.is_some())?;
        self.spill_up_to(last)
    }

    /// The same for that block, when it is a whole one that is in memory.
    pub fn spill_block(&mut self, block: BlockKey) -> Option<Run> {
        let end = self.kept.partition_point(|kept| kept.block <= block.at);
        let last = end.checked_sub(1)?;
        let kept = &self.kept[last];
        let in_memory = matches!(kept.location, Location::Memory(_));
        let found = kept.whole_block() == Some(block) && in_memory;
        found.then(|| self.spill_up_to(last))?.map(|(_, run)| run)
    }

    fn spill_up_to(&mut self, last: usize) -> Option<(BlockKey, Run)> {
        let key = self.kept[last].whole_block()?;
        let before = self.kept.range(..=last).rev().take_while(|kept| kept.block == key.at).count();
        let start = last + 1 - before;
        let mut messages = Vec::new();
        let (first, mut count) = (self.kept[start].first, 0);
        for kept in self.kept.drain(start..=last) {
            if let Location::Memory(bytes) = kept.location {
                messages.extend_from_slice(&bytes);
                count += kept.count;
            }
        }
        let bytes = messages.len();
        self.spilled_bytes += bytes;
        let (location, ends) = (Location::Spilled { bytes }, Some(key.crc));
        self.kept.insert(start, KeptRun { first, count, block: key.at, location, ends });
        Some((key, Run { first, count, messages: messages.into() }))
    }

    /// The blocks in the store, with the first message and the count of what is still kept of each.
    pub fn spilled(&self) -> impl Iterator<Item = (BlockKey, u64, u64)> {
        let kept = self.kept.iter();
        kept.filter(|kept| matches!(kept.location, Location::Spilled { .. }))
            .filter_map(|kept| Some((kept.whole_block()?, kept.first, kept.count)))
    }

    /// Whether something of that block is kept in the store.
    pub fn has_spilled(&self, block: BlockKey) -> bool {
        let place = self.kept.partition_point(|kept| kept.block < block.at);
        let kept = self.kept.get(place).filter(|kept| kept.whole_block() == Some(block));
        kept.is_some_and(|kept| matches!(kept.location, Location::Spilled { .. }))
    }

    /// Leaves out what is kept for sending. The sums stay.
    pub fn forget_messages(&mut self) {
        self.confirmed = self.confirmed.max(self.count);
        self.kept.clear();
        (self.kept_bytes, self.spilled_bytes) = (0, 0);
    }
}

/// Bytes to be kept for long.
pub(crate) fn copied_if_short(bytes: Bytes) -> Bytes {
    if bytes.len() < SHARED_BYTES_MIN { Bytes::copy_from_slice(&bytes) } else { bytes }
}

impl Sum {
    /// The sum of what was sent before and of these messages.
    pub(crate) fn extend(self, crc: u32, bytes: &Bytes) -> u32 {
        if self == Self::Bytes {
            return extend(crc, bytes);
        }
        let mut hasher = crc32fast::Hasher::new_with_initial(crc);
        for message in messages(bytes.clone()).flatten() {
            let (kind, method) = shape_of(&message);
            hasher.update(&[kind]);
            hasher.update(&method.to_le_bytes());
        }
        hasher.finalize()
    }
}

/// The kind of a message, and its method.
pub(crate) fn shape_of(message: &Message) -> (u8, i64) {
    match message {
        Message::Fork { method, .. } => (0, *method),
        Message::Call { method, .. } => (1, *method),
        Message::Answer { .. } => (2, 0),
        Message::Impulse { method, .. } => (3, *method),
        Message::Start { .. } => (4, 0),
        Message::Timer { .. } => (5, 0),
        Message::Result { .. } => (6, 0),
        Message::Upgrade { .. } => (7, 0),
        Message::Skipped => (8, 0),
    }
}

/// CRC-32 of what was sent before and these bytes.
pub(crate) fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use protocol::immortal::put_message;

    use super::*;

    fn messages(lengths: &[usize]) -> Bytes {
        let mut out = Vec::new();
        for length in lengths {
            let payload = Bytes::from(vec![7; *length]);
            put_message(&mut out, &Message::Fork { method: 1, payload });
        }
        out.into()
    }

    fn said(stream: &mut Stream, lengths: &[usize]) {
        stream.keep(lengths.len() as u64, messages(lengths), 100, Sum::Bytes).unwrap();
    }

    fn blocks(stream: &Stream) -> Vec<(u64, u64)> {
        let mut blocks: Vec<(u64, u64)> = Vec::new();
        for kept in &stream.kept {
            match blocks.last_mut() {
                Some((block, count)) if *block == kept.block => *count += kept.count,
                _ => blocks.push((kept.block, kept.count)),
            }
        }
        blocks
    }

    #[test]
    fn where_blocks_begin_depends_on_the_messages_alone() {
        let lengths = [30, 30, 30, 30, 250, 5, 5, 90, 20, 200, 200, 1];
        let mut whole = Stream::default();
        said(&mut whole, &lengths);
        let mut single = Stream::default();
        lengths.iter().for_each(|length| said(&mut single, &[*length]));
        let mut trimmed = Stream::default();
        said(&mut trimmed, &lengths[..6]);
        trimmed.confirm(5, &mut Vec::new()).unwrap();
        said(&mut trimmed, &lengths[6..]);
        assert_eq!(blocks(&whole), blocks(&single));
        assert_eq!(
            blocks(&whole).iter().map(|(_, count)| *count).collect::<Vec<_>>(),
            [4, 1, 3, 1, 1, 1, 1]
        );
        let places = |stream: &Stream| blocks(stream).iter().map(|c| c.0).collect::<Vec<_>>();
        assert_eq!(places(&trimmed), places(&whole)[2..]);
    }

    /// AMBROSIA's own test program sends the time.
    #[test]
    fn what_may_differ_between_copies_is_not_in_the_sum_of_shapes() {
        let one = |method: i64, text: &str| {
            let mut out = Vec::new();
            let payload = Bytes::from(text.to_owned());
            put_message(&mut out, &Message::Fork { method, payload });
            Bytes::from(out)
        };
        let sum = |sum: Sum, of: &[(i64, &str)]| {
            of.iter().fold(0, |crc, (method, text)| sum.extend(crc, &one(*method, text)))
        };
        let (first, second) = ([(1, "12:00:01"), (2, "a")], [(1, "12:00:02"), (2, "bcd")]);
        assert_eq!(sum(Sum::Shapes, &first), sum(Sum::Shapes, &second));
        assert_ne!(sum(Sum::Bytes, &first), sum(Sum::Bytes, &second));
        for other in [&[(1, "x"), (3, "a")][..], &[(2, "a"), (1, "x")], &[(1, "x")]] {
            assert_ne!(sum(Sum::Shapes, &first), sum(Sum::Shapes, other), "{other:?}");
        }
        let impulse = |crc| {
            let mut out = Vec::new();
            put_message(&mut out, &Message::Impulse { method: 1, payload: Bytes::new() });
            Sum::Shapes.extend(crc, &out.into())
        };
        assert_ne!(impulse(0), sum(Sum::Shapes, &[(1, "")]), "another kind");
    }

    #[test]
    fn blocks_go_to_the_store_from_the_last_whole_one_on_and_are_found_there() {
        let mut stream = Stream::default();
        for _ in 0..10 {
            said(&mut stream, &[40, 40]);
        }
        let before = stream.kept_bytes;
        let (block, run) = stream.spill().unwrap();
        assert!(run.first > 14 && run.first + run.count <= 20, "{run:?}");
        assert_eq!(stream.memory(), before - run.messages.len());
        assert_eq!(
            stream.find(run.first + 1),
            Ok(Some(Found::Spilled { block, first: run.first + 1, count: run.count - 1 }))
        );
        let mut all = vec![(block, run)];
        while let Some(spilled) = stream.spill() {
            all.push(spilled);
        }
        assert!(all.windows(2).all(|two| two[0].0.at > two[1].0.at));
        assert!(all.iter().all(|(block, _)| stream.has_spilled(*block)));
        let other = BlockKey { crc: all[0].0.crc ^ 1, ..all[0].0 };
        assert!(!stream.has_spilled(other) && stream.spill_block(other).is_none());
        // Each message is there, once.
        let mut next = 1;
        while let Some(found) = stream.find(next).unwrap() {
            let (first, count) = match found {
                Found::InMemory(run) => (run.first, run.count),
                Found::Spilled { first, count, .. } => (first, count),
            };
            assert_eq!(first, next);
            next = first + count;
        }
        assert_eq!(next, 21);
        let mut gone = Vec::new();
        stream.confirm(20, &mut gone).unwrap();
        gone.reverse();
        assert_eq!(gone, all.iter().map(|(block, _)| *block).collect::<Vec<_>>());
        assert_eq!((stream.kept_bytes, stream.spilled_bytes), (0, 0));
    }

    #[test]
    fn a_block_that_is_confirmed_in_part_stays() {
        let mut stream = Stream::default();
        said(&mut stream, &[40, 40, 40, 40]);
        let (block, run) = stream.spill().unwrap();
        assert_eq!((run.first, run.count), (1, 3));
        let mut gone = Vec::new();
        stream.confirm(2, &mut gone).unwrap();
        assert_eq!((gone.len(), stream.floor()), (0, 3));
        assert_eq!(stream.find(1), Ok(Some(Found::Spilled { block, first: 3, count: 1 })));
        stream.confirm(3, &mut gone).unwrap();
        assert_eq!((gone, stream.floor()), (vec![block], 4));
    }
}
