//! The sum of what the program here has sent: numbered streams of messages to other instances, and
//! the timers and side effects that it awaits.
//!
//! Programs of all replicas send the same, so every replica counts the messages, and keeps those
//! that receivers have not confirmed. After a change of owner no message has to be fetched: the
//! program here has sent it, too.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protocol::Moment;
use protocol::immortal::{Garbled, skip_messages};
use serde::{Deserialize, Serialize};

use crate::output::awaits::Awaits;
use crate::output::spill::{SpillBlockId, SpilledBlock};
use crate::output::stream::{KeptLimits, Run, Stream, Sum, extend};

/// How many points at which outputs can be compared are remembered.
const POINTS_MAX: usize = 4_096;

/// How many destinations a program may send to in its whole life. A program that sends to more is
/// closed.
pub(crate) const DESTINATIONS_MAX: usize = 65_536;

/// The name under which the awaits of a program go into the digest.
const AWAITS: &str = "\u{0}awaits";

/// The sum of what was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputState {
    pub streams: BTreeMap<String, Stream>,
    pub(crate) awaits: Awaits,
    /// The sum over all streams and awaits, kept up to date.
    digest: u64,
    /// The last input that is known to be handled.
    pub done: u64,
    pub kept_bytes: usize,
    pub spilled_bytes: usize,
    #[serde(skip)]
    points: Points,
    /// The name of the instance.
    #[serde(skip)]
    own: String,
    #[serde(skip)]
    limits: KeptLimits,
    /// Blocks in the store of which nothing is kept any more.
    #[serde(skip)]
    released: Vec<SpillBlockId>,
    /// Whole blocks were looked for and not found. There are none until this many bytes are in
    /// memory.
    #[serde(skip)]
    no_block_below: usize,
}

/// Points at which other replicas' outputs can be compared with the outputs here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Points {
    /// Inputs, and the digest after each.
    inputs: VecDeque<(u64, u64)>,
    /// Destinations, the number of a message, and the checksum up to it.
    streams: VecDeque<(String, u64, u32)>,
}

impl Points {
    fn note_input(&mut self, input: u64, digest: u64) {
        // Of two DONEs for the same input the first one is kept, since others compare with that
        // one.
        if self.inputs.back().is_some_and(|(last, _)| *last == input) {
            return;
        }
        if self.inputs.len() == POINTS_MAX {
            self.inputs.pop_front();
        }
        self.inputs.push_back((input, digest));
    }

    fn note_message(&mut self, destination: &str, number: u64, crc: u32) {
        if self.streams.len() == POINTS_MAX {
            self.streams.pop_front();
        }
        self.streams.push_back((destination.to_owned(), number, crc));
    }
}

/// The result of comparing outputs at one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    Equal,
    Differs,
    /// The program has not come to that point.
    Ahead,
    /// The point is too long ago.
    Forgotten,
}

/// How finely points of comparison are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// After each input: the program confirms inputs.
    Input,
    /// After each message: the program does not confirm inputs.
    Message,
}

impl Grain {
    /// Programs that do not confirm inputs are those of AMBROSIA.
    fn sum(self) -> Sum {
        match self {
            Self::Input => Sum::Bytes,
            Self::Message => Sum::Shapes,
        }
    }
}

impl OutputState {
    /// The output state of the instance with that name.
    pub(crate) fn of(mut self, own: &str, limits: KeptLimits) -> Self {
        self.awaits.index();
        Self { own: own.to_owned(), limits, ..self }
    }

    /// The program has sent messages.
    ///
    /// # Errors
    /// When there are fewer messages than `count`.
    pub fn send(
        &mut self,
        destination: &str,
        count: u64,
        bytes: Bytes,
        grain: Grain,
    ) -> Result<(), Garbled> {
        if !self.streams.contains_key(destination) {
            self.streams.insert(destination.to_owned(), Stream::default());
        }
        let stream = self.streams.get_mut(destination).expect("it was just made sure");
        let before = part(destination, stream.count, stream.crc);
        let sum = grain.sum();
        if grain == Grain::Message {
            let (mut rest, mut crc) = (bytes.clone(), stream.crc);
            for number in stream.count + 1..=stream.count + count {
                let after = skip_messages(&rest, 1)?;
                crc = sum.extend(crc, &rest.slice(..rest.len() - after.len()));
                rest = after;
                self.points.note_message(destination, number, crc);
            }
        }
        let kept = stream.keep(count, bytes, self.limits.block, sum)?;
        self.kept_bytes += kept;
        let after = part(destination, stream.count, stream.crc);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        Ok(())
    }

    /// A receiver has confirmed messages, so they need not be kept. In replay this may come before
    /// the program sends them.
    ///
    /// # Errors
    /// Never for messages that [`OutputState::send`] took.
    pub fn confirm(&mut self, destination: &str, up_to: u64) -> Result<(), Garbled> {
        if !self.streams.contains_key(destination) {
            self.streams.insert(destination.to_owned(), Stream::default());
        }
        let stream = self.streams.get_mut(destination).expect("it was just made sure");
        let spilled = stream.spilled_bytes;
        let mut gone = Vec::new();
        self.kept_bytes -= stream.confirm(up_to, &mut gone)?;
        self.spilled_bytes -= spilled - stream.spilled_bytes;
        assert!(
            self.spilled_bytes <= self.kept_bytes,
            "Invariant: what is in the store is a part of what is kept"
        );
        let id = |block| SpillBlockId { destination: destination.into(), block };
        self.released.extend(gone.into_iter().map(id));
        Ok(())
    }

    /// Blocks in the store of which nothing is kept any more, since the last time this was called.
    pub(crate) fn take_released(&mut self) -> Vec<SpillBlockId> {
        std::mem::take(&mut self.released)
    }

    /// How many bytes are kept in memory.
    pub(crate) fn memory(&self) -> usize {
        self.kept_bytes - self.spilled_bytes
    }

    /// Whether so much is kept that nothing more should be sent.
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

    /// The destinations for which something is kept, beside the instance itself.
    pub(crate) fn kept_destinations(&self) -> impl Iterator<Item = &String> {
        let kept = self.streams.iter().filter(|(_, stream)| stream.kept_bytes > 0);
        kept.map(|(name, _)| name).filter(|name| **name != self.own)
    }

    /// The bytes kept in memory, and in all. Messages of the program to itself do not count. They
    /// are confirmed when the program is given them as inputs, so a program that waited for their
    /// room would wait for itself.
    fn kept_for_others(&self) -> (usize, usize) {
        let own = self.streams.get(&self.own);
        let (in_memory, all) = own.map_or((0, 0), |own| (own.memory(), own.kept_bytes));
        (self.memory() - in_memory, self.kept_bytes - all)
    }

    /// Takes out of memory what is too much for it.
    pub(crate) fn spill(&mut self) -> Vec<(SpillBlockId, Run)> {
        let limit = self.limits.memory;
        self.no_block_below = self.no_block_below.min(self.memory() + self.limits.block);
        if self.memory() <= limit.max(self.no_block_below) {
            return Vec::new();
        }
        // Spill an eighth more than necessary, so that blocks are not looked for with each message.
        let wanted = limit - limit / 8;
        let blocks = self.spill_down_to(wanted);
        let is_short = self.memory() > wanted;
        self.no_block_below = if is_short { self.memory() + self.limits.block } else { 0 };
        blocks
    }

    /// Takes whole blocks out of memory until at most `bytes` are left there. The streams with the
    /// most bytes in memory come first.
    pub(crate) fn spill_down_to(&mut self, bytes: usize) -> Vec<(SpillBlockId, Run)> {
        let mut blocks = Vec::new();
        let mut more = self.memory().saturating_sub(bytes);
        let mut streams: Vec<(&String, &mut Stream)> = self.streams.iter_mut().collect();
        streams.sort_by_key(|(_, stream)| std::cmp::Reverse(stream.memory()));
        for (name, stream) in streams {
            while more > 0
                && let Some((block, run)) = stream.spill()
            {
                more = more.saturating_sub(run.messages.len());
                self.spilled_bytes += run.messages.len();
                blocks.push((SpillBlockId { destination: name.clone(), block }, run));
            }
        }
        blocks
    }

    /// Takes that block out of memory, if it is there.
    pub(crate) fn spill_block(&mut self, id: &SpillBlockId) -> Option<Run> {
        let run = self.streams.get_mut(&id.destination)?.spill_block(id.block)?;
        self.spilled_bytes += run.messages.len();
        Some(run)
    }

    /// All blocks in the store of which something is kept, in order.
    pub(crate) fn spilled(&self) -> Vec<SpilledBlock> {
        let all = self.streams.iter().flat_map(|(name, stream)| {
            stream.spilled().map(|(block, first, count)| {
                let id = SpillBlockId { destination: name.clone(), block };
                SpilledBlock { id, first, count }
            })
        });
        all.collect()
    }

    /// Whether something of that block is kept in the store.
    pub(crate) fn refers_to(&self, id: &SpillBlockId) -> bool {
        self.streams.get(&id.destination).is_some_and(|stream| stream.has_spilled(id.block))
    }

    /// The program awaits a timer, or a side effect when nothing is due.
    pub fn await_for(&mut self, id: u64, due: Option<Moment>) {
        self.note_await(id, due.map_or(0, |due| due.0));
        self.awaits.begin(id, due);
    }

    /// The program does not await that any more.
    pub fn cancel(&mut self, id: u64) {
        self.note_await(id, u64::MAX);
        self.awaits.cancel(id);
    }

    fn note_await(&mut self, id: u64, what: u64) {
        let (count, crc) = self.awaits.said;
        let before = part(AWAITS, count, crc);
        let crc = extend(extend(crc, &id.to_le_bytes()), &what.to_le_bytes());
        self.awaits.said = (count + 1, crc);
        let after = part(AWAITS, count + 1, crc);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
    }

    /// The log has the timer, or the result of the side effect.
    pub fn resolved(&mut self, id: u64) {
        self.awaits.resolve(id);
    }

    /// The program has handled all inputs up to this one, and has sent all that follows from them.
    pub fn done(&mut self, input: u64) {
        assert!(
            input >= self.done,
            "Invariant: the last handled input goes up, not from {} to {input}",
            self.done
        );
        self.done = input;
        self.points.note_input(input, self.digest);
    }

    /// Leaves out what is kept for sending. The sums stay.
    pub fn forget_messages(&mut self) {
        self.streams.values_mut().for_each(Stream::forget_messages);
        (self.kept_bytes, self.spilled_bytes) = (0, 0);
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The last input after which outputs can be compared, and the digest there.
    pub fn last_point(&self) -> Option<(u64, u64)> {
        self.points.inputs.back().copied()
    }

    /// The digest at a remembered input.
    pub fn digest_at(&self, input: u64) -> Option<u64> {
        let at = self.points.inputs.binary_search_by_key(&input, |(input, _)| *input).ok()?;
        Some(self.points.inputs[at].1)
    }

    /// The remembered input before that one. All outputs up to there were equal, or were not
    /// compared.
    pub fn point_before(&self, input: u64) -> u64 {
        let at = self.points.inputs.partition_point(|(point, _)| *point < input);
        at.checked_sub(1).map_or(0, |at| self.points.inputs[at].0)
    }

    pub fn last_stream_point(&self) -> Option<&(String, u64, u32)> {
        self.points.streams.back()
    }

    /// Compares with what another replica's program, or this one in an earlier life, had sent at
    /// that input.
    pub fn compare(&self, input: u64, digest: u64) -> Compared {
        if input > self.done {
            return Compared::Ahead;
        }
        match self.digest_at(input) {
            Some(found) if found == digest => Compared::Equal,
            Some(_) => Compared::Differs,
            None => Compared::Forgotten,
        }
    }

    /// The same for a message of one stream.
    pub fn compare_stream(&self, destination: &str, count: u64, crc: u32) -> Compared {
        if self.streams.get(destination).is_none_or(|stream| stream.count < count) {
            return Compared::Ahead;
        }
        let mut points = self.points.streams.iter().rev();
        let found = points.find(|(name, number, _)| *number == count && name == destination);
        match found {
            Some((_, _, found)) if *found == crc => Compared::Equal,
            Some(_) => Compared::Differs,
            None => Compared::Forgotten,
        }
    }
}

/// The part of one stream in the digest. The digest is a sum of such parts, so it changes with one
/// stream at a time.
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
    use crate::output::stream::Found;

    fn said(count: u64) -> Bytes {
        let mut out = Vec::new();
        for number in 0..count {
            let payload = Bytes::from(number.to_string());
            put_message(&mut out, &Message::Fork { method: 1, payload });
        }
        out.into()
    }

    #[test]
    fn what_is_confirmed_is_forgotten_also_in_the_middle_of_a_run() {
        let mut state = OutputState::default();
        state.send("b", 5, said(5), Grain::Input).unwrap();
        state.send("b", 5, said(5), Grain::Input).unwrap();
        state.confirm("b", 7).unwrap();
        let stream = &state.streams["b"];
        assert_eq!((stream.floor(), stream.kept.len()), (8, 1));
        let found = stream.find(9).unwrap();
        assert!(
            matches!(found, Some(Found::InMemory(Run { first: 9, count: 2, .. }))),
            "{found:?}"
        );
        assert_eq!(stream.find(11).unwrap(), None);
        state.confirm("b", 10).unwrap();
        assert_eq!((state.kept_bytes, state.streams["b"].floor()), (0, 11));
    }

    #[test]
    fn after_there_were_only_short_blocks_whole_ones_are_looked_for_again() {
        let one = said(1).len();
        let (block, memory, memory_max) = (10 * one, 50 * one, 105 * one);
        let limits = KeptLimits { block, memory, memory_max, all_max: 1_000 * one };
        let mut state = OutputState::default().of("a", limits);
        for number in 0..100 {
            state.send(&format!("b{number}"), 1, said(1), Grain::Input).unwrap();
        }
        assert!(state.memory() > memory && state.spill().is_empty());
        for number in 0..30 {
            state.confirm(&format!("b{number}"), 1).unwrap();
        }
        assert!(state.memory() > memory && state.spill().is_empty());
        for _ in 0..200 {
            state.send("c", 1, said(1), Grain::Input).unwrap();
            state.spill();
            assert!(!state.is_full(), "{} of {memory_max} bytes are in memory", state.memory());
        }
    }

    #[test]
    fn what_was_confirmed_before_it_is_said_again_is_not_kept() {
        let mut state = OutputState::default();
        state.confirm("b", 3).unwrap();
        state.send("b", 2, said(2), Grain::Input).unwrap();
        assert_eq!(state.kept_bytes, 0);
        state.send("b", 2, said(2), Grain::Input).unwrap();
        assert_eq!(state.streams["b"].floor(), 4);
    }

    #[test]
    fn the_digest_does_not_depend_on_how_messages_were_cut_into_runs() {
        let (mut one, mut two) = (OutputState::default(), OutputState::default());
        one.send("b", 4, said(4), Grain::Input).unwrap();
        one.send("c", 1, said(1), Grain::Input).unwrap();
        let all = said(4);
        let rest = skip_messages(&all, 1).unwrap();
        two.send("b", 1, all.slice(..all.len() - rest.len()), Grain::Message).unwrap();
        two.send("c", 1, said(1), Grain::Message).unwrap();
        two.send("b", 3, rest, Grain::Message).unwrap();
        one.done(9);
        two.done(9);
        assert_eq!(two.compare(9, one.digest()), Compared::Equal);
        two.send("c", 1, said(1), Grain::Message).unwrap();
        two.done(10);
        assert_eq!(two.compare(10, one.digest()), Compared::Differs);
        assert_eq!(two.compare(11, 0), Compared::Ahead);
        let stream = &one.streams["b"];
        assert_eq!(two.compare_stream("b", 4, stream.crc), Compared::Equal);
        assert_eq!(two.compare_stream("b", 4, 1), Compared::Differs);
    }
}
