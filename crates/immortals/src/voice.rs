//! What the program attached to a replica has said: numbered streams of messages to other instances,
//! and what it waits for.
//!
//! All copies say the same, so every replica keeps count, and what it keeps is what receivers have
//! not confirmed. After a change of owner nothing has to be fetched: it was said here, too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use protocol::Moment;
use protocol::immortal::{Garbled, skip_messages};
use serde::{Deserialize, Serialize};

use crate::shelf::{SpillBlockId, SpilledBlock};
use crate::stream::{KeptLimits, Run, Stream, extend};

/// How many points at which outputs can be compared are remembered.
const POINTS_MAX: usize = 4_096;

/// A program may speak to so many destinations in its whole life; one that speaks to more is let go.
pub(crate) const DESTINATIONS_MAX: usize = 65_536;

/// So many timers and side effects may be awaited at a time; a program that awaits more is let go.
pub(crate) const AWAITS_MAX: usize = 1 << 20;

/// Under this name what a program awaits goes into the digest.
const AWAITS: &str = "\u{0}awaits";

/// The sum of what was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputState {
    pub streams: BTreeMap<String, Stream>,
    /// Timers and when they fire, and side effects (None).
    pub awaits: BTreeMap<u64, Option<Moment>>,
    /// The highest id ever awaited.
    awaited_last: u64,
    /// Resolved in the log before the program, in replay, has come to say that it waits.
    resolved_early: BTreeSet<u64>,
    awaits_said: (u64, u32),
    /// The sum over all streams, kept up to date.
    digest: u64,
    /// Handled up to here, as far as is known.
    pub done: u64,
    #[serde(skip)]
    points: VecDeque<(u64, u64)>,
    #[serde(skip)]
    stream_points: VecDeque<(String, u64, u32)>,
    pub kept_bytes: usize,
    pub shelved_bytes: usize,
    /// The name of the instance.
    #[serde(skip)]
    own: String,
    #[serde(skip)]
    limits: KeptLimits,
    /// Of these cells nothing is kept any more.
    #[serde(skip)]
    pub(crate) gone: Vec<SpillBlockId>,
    /// Cells were looked for, and there are no more of them before so much is in memory.
    #[serde(skip)]
    all_short: usize,
}

/// How a point of comparison came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    Equal,
    Differs,
    /// Not said yet.
    Ahead,
    /// Too long ago.
    Forgotten,
}

impl OutputState {
    /// Of the instance with that name.
    pub(crate) fn of(self, own: &str, limits: KeptLimits) -> Self {
        Self { own: own.to_owned(), limits, ..self }
    }

    /// The program said messages. `fine`: remember a point after each of them.
    ///
    /// # Errors
    /// When the messages are not as many as was said.
    pub fn send(
        &mut self,
        destination: &str,
        count: u64,
        bytes: Bytes,
        fine: bool,
    ) -> Result<(), Garbled> {
        if !self.streams.contains_key(destination) {
            self.streams.insert(destination.to_owned(), Stream::default());
        }
        let stream = self.streams.get_mut(destination).expect("it was just made sure");
        let before = part(destination, stream.count, stream.crc);
        if fine {
            let (mut rest, mut crc) = (bytes.clone(), stream.crc);
            for number in stream.count + 1..=stream.count + count {
                let after = skip_messages(&rest, 1)?;
                crc = extend(crc, &rest[..rest.len() - after.len()]);
                rest = after;
                if self.stream_points.len() == POINTS_MAX {
                    self.stream_points.pop_front();
                }
                self.stream_points.push_back((destination.to_owned(), number, crc));
            }
        }
        let kept = stream.keep(count, bytes, self.limits.block)?;
        self.kept_bytes += kept;
        let after = part(destination, stream.count, stream.crc);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        Ok(())
    }

    /// What a receiver has confirmed need not be kept.
    ///
    /// # Errors
    /// Never for messages that [`OutputState::send`] took.
    pub fn confirmed(&mut self, destination: &str, up_to: u64) -> Result<(), Garbled> {
        if !self.streams.contains_key(destination) {
            self.streams.insert(destination.to_owned(), Stream::default());
        }
        let stream = self.streams.get_mut(destination).expect("it was just made sure");
        let shelved = stream.shelved_bytes;
        let mut gone = Vec::new();
        self.kept_bytes -= stream.confirm(up_to, &mut gone)?;
        self.shelved_bytes -= shelved - stream.shelved_bytes;
        let gone =
            gone.into_iter().map(|cell| SpillBlockId { destination: destination.into(), cell });
        self.gone.extend(gone);
        Ok(())
    }

    /// How many bytes are kept in memory.
    pub(crate) fn memory(&self) -> usize {
        self.kept_bytes - self.shelved_bytes
    }

    /// So much is kept that nothing more should be said.
    pub(crate) fn is_full(&self) -> bool {
        let (in_memory, all) = self.kept_for_others();
        in_memory > self.limits.memory_max || all > self.limits.all_max
    }

    /// How many more bytes may be kept.
    pub(crate) fn room(&self) -> usize {
        let (in_memory, all) = self.kept_for_others();
        let in_memory = self.limits.memory_max.saturating_sub(in_memory);
        in_memory.min(self.limits.all_max.saturating_sub(all))
    }

    /// In memory, and in all. What the program says to itself does not count: it would wait for what it
    /// has not said.
    fn kept_for_others(&self) -> (usize, usize) {
        let own = self.streams.get(&self.own);
        let (in_memory, all) = own.map_or((0, 0), |own| (own.memory(), own.kept_bytes));
        (self.memory() - in_memory, self.kept_bytes - all)
    }

    /// What is to go to the shelf because there is too much in memory.
    pub(crate) fn shelve(&mut self) -> Vec<(SpillBlockId, Run)> {
        let limit = self.limits.memory;
        self.all_short = self.all_short.min(self.memory() + self.limits.block);
        if self.memory() <= limit.max(self.all_short) {
            return Vec::new();
        }
        // An eighth more than need be, so that it is not looked at with each message.
        let wanted = limit - limit / 8;
        let cells = self.shelve_down_to(wanted);
        self.all_short = if self.memory() > wanted { self.memory() + self.limits.block } else { 0 };
        cells
    }

    /// Whole cells, of the streams of which most is in memory first, until no more than that is.
    pub(crate) fn shelve_down_to(&mut self, bytes: usize) -> Vec<(SpillBlockId, Run)> {
        let mut cells = Vec::new();
        let mut more = self.memory().saturating_sub(bytes);
        let mut streams: Vec<(&String, &mut Stream)> = self.streams.iter_mut().collect();
        streams.sort_by_key(|(_, stream)| std::cmp::Reverse(stream.memory()));
        for (name, stream) in streams {
            while more > 0
                && let Some((cell, piece)) = stream.shelve()
            {
                more = more.saturating_sub(piece.messages.len());
                self.shelved_bytes += piece.messages.len();
                cells.push((SpillBlockId { destination: name.clone(), cell }, piece));
            }
        }
        cells
    }

    /// That cell goes to the shelf, if it is in memory.
    pub(crate) fn shelve_cell(&mut self, id: &SpillBlockId) -> Option<Run> {
        let piece = self.streams.get_mut(&id.destination)?.shelve_cell(id.cell)?;
        self.shelved_bytes += piece.messages.len();
        Some(piece)
    }

    /// All cells that are on the shelf, in order.
    pub(crate) fn shelved(&self) -> Vec<SpilledBlock> {
        let all = self.streams.iter().flat_map(|(name, stream)| {
            stream.shelved().map(|(cell, first, count)| {
                let id = SpillBlockId { destination: name.clone(), cell };
                SpilledBlock { id, first, count }
            })
        });
        all.collect()
    }

    pub fn await_for(&mut self, id: u64, due: Option<Moment>) {
        self.note_await(id, due.map_or(0, |due| due.0));
        self.awaited_last = self.awaited_last.max(id);
        if !self.resolved_early.remove(&id) {
            self.awaits.insert(id, due);
        }
    }

    pub fn cancel(&mut self, id: u64) {
        self.note_await(id, u64::MAX);
        self.awaits.remove(&id);
    }

    fn note_await(&mut self, id: u64, what: u64) {
        let (count, crc) = self.awaits_said;
        let before = part(AWAITS, count, crc);
        let crc = extend(extend(crc, &id.to_le_bytes()), &what.to_le_bytes());
        self.awaits_said = (count + 1, crc);
        let after = part(AWAITS, count + 1, crc);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
    }

    /// The log has the timer or the result of the side effect.
    pub fn resolved(&mut self, id: u64) {
        if self.awaits.remove(&id).is_none() && id > self.awaited_last {
            self.resolved_early.insert(id);
        }
    }

    /// All inputs up to there are handled and all that follows from them was said.
    pub fn done(&mut self, input: u64) {
        self.done = input;
        // RecentOutput twice, the first time counts: it is what others compare with.
        if self.points.back().is_some_and(|(last, _)| *last == input) {
            return;
        }
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back((input, self.digest));
    }

    /// Leaves out what is kept for sending, so that only the sums stay.
    pub fn forget_messages(&mut self) {
        self.streams.values_mut().for_each(Stream::forget_messages);
        (self.kept_bytes, self.shelved_bytes) = (0, 0);
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The last point for others to compare with.
    pub fn last_point(&self) -> Option<(u64, u64)> {
        self.points.back().copied()
    }

    /// The digest at a remembered point.
    pub fn digest_at(&self, input: u64) -> Option<u64> {
        let at = self.points.binary_search_by_key(&input, |(input, _)| *input).ok()?;
        Some(self.points[at].1)
    }

    /// The point before that one: up to there all was equal, or it was not compared.
    pub fn point_before(&self, input: u64) -> u64 {
        let at = self.points.partition_point(|(point, _)| *point < input);
        at.checked_sub(1).map_or(0, |at| self.points[at].0)
    }

    pub fn last_stream_point(&self) -> Option<&(String, u64, u32)> {
        self.stream_points.back()
    }

    /// What another replica's program, or this one in an earlier life, had said at that input.
    pub fn compare(&self, input: u64, digest: u64) -> Compared {
        if input > self.done {
            return Compared::Ahead;
        }
        let at = self.points.binary_search_by_key(&input, |(input, _)| *input);
        match at {
            Ok(place) if self.points[place].1 == digest => Compared::Equal,
            Ok(_) => Compared::Differs,
            Err(_) => Compared::Forgotten,
        }
    }

    pub fn compare_stream(&self, destination: &str, count: u64, crc: u32) -> Compared {
        if self.streams.get(destination).is_none_or(|stream| stream.count < count) {
            return Compared::Ahead;
        }
        let mut points = self.stream_points.iter().rev();
        let found = points.find(|(name, number, _)| *number == count && name == destination);
        match found {
            Some((_, _, found)) if *found == crc => Compared::Equal,
            Some(_) => Compared::Differs,
            None => Compared::Forgotten,
        }
    }
}

/// The part of one stream in the digest. A sum of such parts changes with one stream at a time.
fn part(name: &str, count: u64, crc: u32) -> u64 {
    if count == 0 {
        return 0;
    }
    let mut hash = u64::from(extend(0, name.as_bytes())) ^ (u64::from(crc) << 32);
    for word in [count, u64::from(crc)] {
        hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash
}

#[cfg(test)]
mod tests {
    use protocol::immortal::{Message, put_message};

    use super::*;
    use crate::stream::{Found, Location};

    fn said(count: u64) -> Bytes {
        let mut out = Vec::new();
        for number in 0..count {
            let payload = Bytes::from(number.to_string());
            put_message(&mut out, &Message::Fork { method: 1, payload });
        }
        out.into()
    }

    #[test]
    fn what_is_confirmed_is_forgotten_also_in_the_middle_of_a_piece() {
        let mut voice = OutputState::default();
        voice.send("b", 5, said(5), false).unwrap();
        voice.send("b", 5, said(5), false).unwrap();
        voice.confirmed("b", 7).unwrap();
        let stream = &voice.streams["b"];
        assert_eq!((stream.floor(), stream.kept.len()), (8, 1));
        let found = stream.find(9).unwrap();
        assert!(matches!(found, Some(Found::Here(Run { first: 9, count: 2, .. }))), "{found:?}");
        assert_eq!(stream.find(11).unwrap(), None);
        voice.confirmed("b", 10).unwrap();
        assert_eq!((voice.kept_bytes, voice.streams["b"].floor()), (0, 11));
    }

    #[test]
    fn what_is_kept_does_not_hold_the_buffer_it_came_in() {
        let short = said(3);
        let buffer = Bytes::from([&short[..], &[0; 1 << 20][..]].concat());
        let mut voice = OutputState::default();
        voice.send("b", 3, buffer.slice(..short.len()), false).unwrap();
        assert_eq!(voice.streams["b"].kept[0].place, Location::Memory(short));
        assert!(buffer.is_unique());
    }

    #[test]
    fn after_there_were_only_short_cells_whole_ones_are_looked_for_again() {
        let one = said(1).len();
        let (cell, memory, memory_max) = (10 * one, 50 * one, 105 * one);
        let limits = KeptLimits { block: cell, memory, memory_max, all_max: 1_000 * one };
        let mut voice = OutputState::default().of("a", limits);
        for number in 0..100 {
            voice.send(&format!("b{number}"), 1, said(1), false).unwrap();
        }
        assert!(voice.memory() > memory && voice.shelve().is_empty());
        for number in 0..30 {
            voice.confirmed(&format!("b{number}"), 1).unwrap();
        }
        assert!(voice.memory() > memory && voice.shelve().is_empty());
        for _ in 0..200 {
            voice.send("c", 1, said(1), false).unwrap();
            voice.shelve();
            assert!(!voice.is_full(), "{} of {memory_max} bytes are in memory", voice.memory());
        }
    }

    #[test]
    fn what_was_confirmed_before_it_is_said_again_is_not_kept() {
        let mut voice = OutputState::default();
        voice.confirmed("b", 3).unwrap();
        voice.send("b", 2, said(2), false).unwrap();
        assert_eq!(voice.kept_bytes, 0);
        voice.send("b", 2, said(2), false).unwrap();
        assert_eq!(voice.streams["b"].floor(), 4);
    }

    #[test]
    fn the_digest_does_not_depend_on_how_messages_were_cut_into_pieces() {
        let (mut one, mut two) = (OutputState::default(), OutputState::default());
        one.send("b", 4, said(4), false).unwrap();
        one.send("c", 1, said(1), false).unwrap();
        let all = said(4);
        let rest = skip_messages(&all, 1).unwrap();
        two.send("b", 1, all.slice(..all.len() - rest.len()), true).unwrap();
        two.send("c", 1, said(1), true).unwrap();
        two.send("b", 3, rest, true).unwrap();
        one.done(9);
        two.done(9);
        assert_eq!(two.compare(9, one.digest()), Compared::Equal);
        two.send("c", 1, said(1), true).unwrap();
        two.done(10);
        assert_eq!(two.compare(10, one.digest()), Compared::Differs);
        assert_eq!(two.compare(11, 0), Compared::Ahead);
        let stream = &one.streams["b"];
        assert_eq!(two.compare_stream("b", 4, stream.crc), Compared::Equal);
        assert_eq!(two.compare_stream("b", 4, 1), Compared::Differs);
    }

    #[test]
    fn a_timer_that_the_log_has_fired_is_not_awaited_again_in_replay() {
        let mut voice = OutputState::default();
        voice.resolved(1);
        voice.await_for(1, Some(Moment(5)));
        voice.await_for(2, None);
        assert_eq!(voice.awaits.keys().copied().collect::<Vec<_>>(), [2]);
        voice.resolved(2);
        voice.resolved(1);
        assert!(voice.awaits.is_empty());
    }
}
