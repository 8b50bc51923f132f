//! All that was said to one destination: numbered, and kept until it is confirmed.
//!
//! What is kept is in memory, and goes to the shelf (`shelf`) when there is too much of it, so that a
//! destination that is away costs no memory. It goes there in *cells*. Where they begin depends on
//! nothing but the messages, so replicas whose programs have said the same have the same cells, and a
//! checkpoint need not bring along what its receiver has already.

use std::collections::VecDeque;

use bytes::Bytes;
use protocol::immortal::{Garbled, skip_messages};
use serde::{Deserialize, Serialize};

/// What has fewer bytes is copied when it is kept: it came in a buffer with others, and would hold all of
/// it, of messages for as long as their destination is away.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// A cell has about so many bytes.
const CELL_BYTES: usize = 1 << 20;

/// From so many bytes in memory on, whole cells go to the shelf.
const KEPT_IN_MEMORY_BYTES: usize = 64 << 20;

/// When so many bytes are in memory all the same, a primary's program is told no more inputs: there are
/// many destinations, and not a cell for each.
const KEPT_IN_MEMORY_BYTES_MAX: usize = 256 << 20;

/// When so many bytes are kept in all, neither.
const KEPT_BYTES_MAX: usize = 4 << 30;

/// Bounds of what is kept for destinations, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptLimits {
    /// A cell ends when it has so many; a message that is as long has one of its own.
    pub block: usize,
    /// More in memory goes to the shelf, where it makes whole cells.
    pub memory: usize,
    /// More in memory all the same, or more in all: nothing more should be said.
    pub memory_max: usize,
    pub all_max: usize,
}

impl Default for KeptLimits {
    fn default() -> Self {
        Self {
            block: CELL_BYTES,
            memory: KEPT_IN_MEMORY_BYTES,
            memory_max: KEPT_IN_MEMORY_BYTES_MAX,
            all_max: KEPT_BYTES_MAX,
        }
    }
}

/// Some messages that are kept, all of one cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRun {
    pub first: u64,
    pub count: u64,
    /// The cell's place in the stream: how many bytes were said before it.
    pub cell: u64,
    pub place: Location,
    /// They are the last of the cell, and this is the CRC-32 of all that was said up to its end.
    pub ends: Option<u32>,
}

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    Memory(Bytes),
    Spilled { bytes: usize },
}

/// A cell of a stream. With its checksum, since a program that is not deterministic says something else in
/// the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockKey {
    /// How many bytes were said before it.
    pub at: u64,
    /// CRC-32 of all that was said up to its end, from the first message of the stream on.
    pub crc: u32,
}

/// Some messages, to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub first: u64,
    pub count: u64,
    pub messages: Bytes,
}

/// Where the next messages to be sent are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Here(Run),
    /// They are in that cell.
    Shelved {
        cell: BlockKey,
        first: u64,
        count: u64,
    },
}

/// All that was said to one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// How many messages were said.
    pub count: u64,
    /// How many bytes those were.
    bytes: u64,
    /// The place of the cell that is being filled.
    cell: u64,
    /// CRC-32 of all their bytes.
    pub crc: u32,
    /// Confirmed up to here; may be ahead of `count` in replay.
    pub confirmed: u64,
    /// What is not confirmed.
    pub kept: VecDeque<KeptRun>,
    pub kept_bytes: usize,
    /// So many of those are on the shelf.
    pub shelved_bytes: usize,
}

impl KeptRun {
    /// Its cell, if it is the last of it.
    fn whole_cell(&self) -> Option<BlockKey> {
        Some(BlockKey { at: self.cell, crc: self.ends? })
    }
}

impl Stream {
    /// Numbers the messages, and keeps those that are not confirmed. The bytes that are kept more.
    ///
    /// # Errors
    /// When there are fewer messages than was said.
    pub fn keep(
        &mut self,
        count: u64,
        messages: Bytes,
        cell_bytes: usize,
    ) -> Result<usize, Garbled> {
        let before = self.kept_bytes;
        let full = self.cell.saturating_add(cell_bytes as u64);
        if messages.len() < cell_bytes && self.bytes + messages.len() as u64 <= full {
            self.keep_in_cell(count, messages)?;
        } else {
            self.keep_in_cells(count, messages, cell_bytes as u64)?;
        }
        Ok(self.kept_bytes - before)
    }

    /// Looks at each message whether a cell begins with it.
    fn keep_in_cells(
        &mut self,
        count: u64,
        messages: Bytes,
        cell_bytes: u64,
    ) -> Result<(), Garbled> {
        let (mut run, mut in_run) = (messages.clone(), 0);
        let mut rest = messages;
        for _ in 0..count {
            let after = skip_messages(&rest, 1)?;
            let at = self.bytes + (run.len() - rest.len()) as u64;
            let is_long = (rest.len() - after.len()) as u64 >= cell_bytes;
            if is_long || at - self.cell >= cell_bytes {
                self.keep_in_cell(in_run, run.slice(..run.len() - rest.len()))?;
                self.begin_cell();
                (run, in_run) = (rest, 0);
            }
            in_run += 1;
            rest = after;
            if is_long {
                self.keep_in_cell(in_run, run.slice(..run.len() - rest.len()))?;
                self.begin_cell();
                (run, in_run) = (rest.clone(), 0);
            }
        }
        self.keep_in_cell(in_run, run)
    }

    /// The next message is the first of a cell.
    fn begin_cell(&mut self) {
        if let Some(last) = self.kept.back_mut().filter(|last| last.cell == self.cell) {
            last.ends = Some(self.crc);
        }
        self.cell = self.bytes;
    }

    fn keep_in_cell(&mut self, count: u64, bytes: Bytes) -> Result<(), Garbled> {
        let first = self.count + 1;
        self.count += count;
        self.bytes += bytes.len() as u64;
        self.crc = extend(self.crc, &bytes);
        let skip = (self.confirmed + 1).saturating_sub(first).min(count);
        if skip == count {
            return Ok(());
        }
        let messages = if skip == 0 { bytes } else { skip_messages(&bytes, skip)? };
        let messages = copied_if_short(messages);
        self.kept_bytes += messages.len();
        let (first, count, cell) = (first + skip, count - skip, self.cell);
        self.kept.push_back(KeptRun {
            first,
            count,
            cell,
            place: Location::Memory(messages),
            ends: None,
        });
        Ok(())
    }

    /// Forgets what is confirmed. The bytes that are kept less; cells of which nothing is kept any more
    /// are added to `gone`.
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
                if let Location::Memory(messages) = &mut kept.place {
                    let rest = skip_messages(messages, skip)?;
                    self.kept_bytes -= messages.len() - rest.len();
                    *messages = rest;
                }
                (kept.first, kept.count) = (kept.first + skip, kept.count - skip);
                break;
            }
            match &kept.place {
                Location::Memory(messages) => self.kept_bytes -= messages.len(),
                Location::Spilled { bytes } => {
                    self.kept_bytes -= bytes;
                    self.shelved_bytes -= bytes;
                    gone.extend(kept.whole_cell());
                }
            }
            self.kept.pop_front();
        }
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
        Ok(Some(match &kept.place {
            Location::Memory(messages) if skip == 0 => {
                Found::Here(Run { first, count, messages: messages.clone() })
            }
            Location::Memory(messages) => {
                Found::Here(Run { first, count, messages: skip_messages(messages, skip)? })
            }
            Location::Spilled { .. } => {
                let cell = kept.whole_cell().ok_or_else(|| Garbled::expected("a whole cell"))?;
                Found::Shelved { cell, first, count }
            }
        }))
    }

    /// How many bytes are in memory.
    pub fn memory(&self) -> usize {
        self.kept_bytes - self.shelved_bytes
    }

    /// What is to go to the shelf next, with its cell: the last whole cell that is in memory, since the
    /// first ones are the first to be sent.
    pub fn shelve(&mut self) -> Option<(BlockKey, Run)> {
        let in_memory = |kept: &KeptRun| matches!(kept.place, Location::Memory(_));
        let last = self.kept.iter().rposition(|kept| in_memory(kept) && kept.ends.is_some())?;
        self.shelve_up_to(last)
    }

    /// The same for that cell, if it is a whole one that is in memory.
    pub fn shelve_cell(&mut self, cell: BlockKey) -> Option<Run> {
        let end = self.kept.partition_point(|kept| kept.cell <= cell.at);
        let last = end.checked_sub(1)?;
        let kept = &self.kept[last];
        let in_memory = matches!(kept.place, Location::Memory(_));
        let found = kept.whole_cell() == Some(cell) && in_memory;
        found.then(|| self.shelve_up_to(last))?.map(|(_, piece)| piece)
    }

    fn shelve_up_to(&mut self, last: usize) -> Option<(BlockKey, Run)> {
        let cell = self.kept[last].whole_cell()?;
        let before = self.kept.range(..=last).rev().take_while(|kept| kept.cell == cell.at).count();
        let start = last + 1 - before;
        let mut messages = Vec::new();
        let (first, mut count) = (self.kept[start].first, 0);
        for kept in self.kept.drain(start..=last) {
            if let Location::Memory(bytes) = kept.place {
                messages.extend_from_slice(&bytes);
                count += kept.count;
            }
        }
        let bytes = messages.len();
        self.shelved_bytes += bytes;
        let (place, ends) = (Location::Spilled { bytes }, Some(cell.crc));
        self.kept.insert(start, KeptRun { first, count, cell: cell.at, place, ends });
        Some((cell, Run { first, count, messages: messages.into() }))
    }

    /// The cells on the shelf, with the first message and the count of what is still kept of each.
    pub fn shelved(&self) -> impl Iterator<Item = (BlockKey, u64, u64)> {
        let kept = self.kept.iter();
        kept.filter(|kept| matches!(kept.place, Location::Spilled { .. }))
            .filter_map(|kept| Some((kept.whole_cell()?, kept.first, kept.count)))
    }

    /// Something of that cell is kept on the shelf.
    pub fn has_shelved(&self, cell: BlockKey) -> bool {
        let place = self.kept.partition_point(|kept| kept.cell < cell.at);
        let kept = self.kept.get(place).filter(|kept| kept.whole_cell() == Some(cell));
        kept.is_some_and(|kept| matches!(kept.place, Location::Spilled { .. }))
    }

    /// Leaves out what is kept for sending, so that only the sums stay.
    pub fn forget_messages(&mut self) {
        self.confirmed = self.confirmed.max(self.count);
        self.kept.clear();
        (self.kept_bytes, self.shelved_bytes) = (0, 0);
    }
}

/// Bytes to be kept for long.
pub(crate) fn copied_if_short(bytes: Bytes) -> Bytes {
    if bytes.len() < SHARED_BYTES_MIN { Bytes::copy_from_slice(&bytes) } else { bytes }
}

/// CRC-32 of what was said before and this.
pub(crate) fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use protocol::immortal::{Message, put_message};

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
        stream.keep(lengths.len() as u64, messages(lengths), 100).unwrap();
    }

    fn cells(stream: &Stream) -> Vec<(u64, u64)> {
        let mut cells: Vec<(u64, u64)> = Vec::new();
        for kept in &stream.kept {
            match cells.last_mut() {
                Some((cell, count)) if *cell == kept.cell => *count += kept.count,
                _ => cells.push((kept.cell, kept.count)),
            }
        }
        cells
    }

    #[test]
    fn where_cells_begin_depends_on_the_messages_alone() {
        let lengths = [30, 30, 30, 30, 250, 5, 5, 90, 20, 200, 200, 1];
        let mut whole = Stream::default();
        said(&mut whole, &lengths);
        let mut single = Stream::default();
        lengths.iter().for_each(|length| said(&mut single, &[*length]));
        let mut trimmed = Stream::default();
        said(&mut trimmed, &lengths[..6]);
        trimmed.confirm(5, &mut Vec::new()).unwrap();
        said(&mut trimmed, &lengths[6..]);
        assert_eq!(cells(&whole), cells(&single));
        assert_eq!(
            cells(&whole).iter().map(|(_, count)| *count).collect::<Vec<_>>(),
            [4, 1, 3, 1, 1, 1, 1]
        );
        let places = |stream: &Stream| cells(stream).iter().map(|c| c.0).collect::<Vec<_>>();
        assert_eq!(places(&trimmed), places(&whole)[2..]);
    }

    #[test]
    fn cells_go_to_the_shelf_from_the_last_whole_one_on_and_are_found_there() {
        let mut stream = Stream::default();
        for _ in 0..10 {
            said(&mut stream, &[40, 40]);
        }
        let before = stream.kept_bytes;
        let (cell, piece) = stream.shelve().unwrap();
        assert!(piece.first > 14 && piece.first + piece.count <= 20, "{piece:?}");
        assert_eq!(stream.memory(), before - piece.messages.len());
        assert_eq!(
            stream.find(piece.first + 1),
            Ok(Some(Found::Shelved { cell, first: piece.first + 1, count: piece.count - 1 }))
        );
        let mut all = vec![(cell, piece)];
        while let Some(shelved) = stream.shelve() {
            all.push(shelved);
        }
        assert!(all.windows(2).all(|two| two[0].0.at > two[1].0.at));
        assert!(all.iter().all(|(cell, _)| stream.has_shelved(*cell)));
        let other = BlockKey { crc: all[0].0.crc ^ 1, ..all[0].0 };
        assert!(!stream.has_shelved(other) && stream.shelve_cell(other).is_none());
        // Each message is there, once.
        let mut next = 1;
        while let Some(found) = stream.find(next).unwrap() {
            let (first, count) = match found {
                Found::Here(piece) => (piece.first, piece.count),
                Found::Shelved { first, count, .. } => (first, count),
            };
            assert_eq!(first, next);
            next = first + count;
        }
        assert_eq!(next, 21);
        let mut gone = Vec::new();
        stream.confirm(20, &mut gone).unwrap();
        gone.reverse();
        assert_eq!(gone, all.iter().map(|(cell, _)| *cell).collect::<Vec<_>>());
        assert_eq!((stream.kept_bytes, stream.shelved_bytes), (0, 0));
    }

    #[test]
    fn a_cell_that_is_confirmed_in_part_stays() {
        let mut stream = Stream::default();
        said(&mut stream, &[40, 40, 40, 40]);
        let (cell, piece) = stream.shelve().unwrap();
        assert_eq!((piece.first, piece.count), (1, 3));
        let mut gone = Vec::new();
        stream.confirm(2, &mut gone).unwrap();
        assert_eq!((gone.len(), stream.floor()), (0, 3));
        assert_eq!(stream.find(1), Ok(Some(Found::Shelved { cell, first: 3, count: 1 })));
        stream.confirm(3, &mut gone).unwrap();
        assert_eq!((gone, stream.floor()), (vec![cell], 4));
    }
}
