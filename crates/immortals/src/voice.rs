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

/// How many points at which outputs can be compared are remembered.
const POINTS_MAX: usize = 4_096;

/// What has fewer bytes is copied when it is kept: it came in a buffer with others, and would hold all of
/// it, of messages for as long as their destination is away.
const SHARED_BYTES_MIN: usize = 64 << 10;

/// A program may speak to so many destinations in its whole life; one that speaks to more is let go.
pub(crate) const DESTINATIONS_MAX: usize = 65_536;

/// So many timers and side effects may be awaited at a time; a program that awaits more is let go.
pub(crate) const AWAITS_MAX: usize = 1 << 20;

/// Under this name what a program awaits goes into the digest.
const AWAITS: &str = "\u{0}awaits";

/// Some messages to one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub first: u64,
    pub count: u64,
    pub messages: Bytes,
}

/// All that was said to one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// How many messages were said.
    pub count: u64,
    /// CRC-32 of all their bytes.
    pub crc: u32,
    /// Confirmed up to here; may be ahead of `count` in replay.
    pub confirmed: u64,
    /// What is not confirmed.
    pub kept: VecDeque<Kept>,
    pub kept_bytes: usize,
}

/// The sum of what was said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voice {
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

impl Voice {
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
            let first = stream.count + 1;
            let mut rest = bytes.clone();
            for number in first..first + count {
                let after = skip_messages(&rest, 1)?;
                let crc = extend(stream.crc, &rest[..rest.len() - after.len()]);
                stream.crc = crc;
                rest = after;
                if self.stream_points.len() == POINTS_MAX {
                    self.stream_points.pop_front();
                }
                self.stream_points.push_back((destination.to_owned(), number, crc));
            }
        } else {
            stream.crc = extend(stream.crc, &bytes);
        }
        let kept = stream.keep(count, bytes)?;
        self.kept_bytes += kept;
        let after = part(destination, stream.count, stream.crc);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        Ok(())
    }

    /// What a receiver has confirmed need not be kept.
    ///
    /// # Errors
    /// Never for messages that [`Voice::send`] took.
    pub fn confirmed(&mut self, destination: &str, up_to: u64) -> Result<(), Garbled> {
        if !self.streams.contains_key(destination) {
            self.streams.insert(destination.to_owned(), Stream::default());
        }
        let stream = self.streams.get_mut(destination).expect("it was just made sure");
        self.kept_bytes -= stream.confirm(up_to)?;
        Ok(())
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
        // Said twice, the first time counts: it is what others compare with.
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
        for stream in self.streams.values_mut() {
            stream.confirmed = stream.confirmed.max(stream.count);
            stream.kept.clear();
            stream.kept_bytes = 0;
        }
        self.kept_bytes = 0;
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

impl Stream {
    /// Numbers the messages, and keeps those that are not confirmed. The bytes that are kept more.
    ///
    /// # Errors
    /// When there are fewer messages than was said.
    pub fn keep(&mut self, count: u64, bytes: Bytes) -> Result<usize, Garbled> {
        let first = self.count + 1;
        self.count += count;
        let skip = (self.confirmed + 1).saturating_sub(first).min(count);
        if skip == count {
            return Ok(0);
        }
        let messages = if skip == 0 { bytes } else { skip_messages(&bytes, skip)? };
        let messages = copied_if_short(messages);
        let more = messages.len();
        self.kept_bytes += more;
        self.kept.push_back(Kept { first: first + skip, count: count - skip, messages });
        Ok(more)
    }

    /// Forgets what is confirmed. The bytes that are kept less.
    ///
    /// # Errors
    /// Never for messages that [`Stream::keep`] took.
    pub fn confirm(&mut self, up_to: u64) -> Result<usize, Garbled> {
        let before = self.kept_bytes;
        self.confirmed = self.confirmed.max(up_to);
        while let Some(kept) = self.kept.front_mut() {
            if kept.first > self.confirmed {
                break;
            }
            let bytes = kept.messages.len();
            let skip = self.confirmed + 1 - kept.first;
            if skip >= kept.count {
                self.kept.pop_front();
                self.kept_bytes -= bytes;
                continue;
            }
            kept.messages = skip_messages(&kept.messages, skip)?;
            (kept.first, kept.count) = (kept.first + skip, kept.count - skip);
            self.kept_bytes -= bytes - kept.messages.len();
        }
        Ok(before - self.kept_bytes)
    }

    /// The lowest number that can still be sent.
    pub fn floor(&self) -> u64 {
        self.kept.front().map_or(self.count.max(self.confirmed) + 1, |kept| kept.first)
    }

    /// The messages from `next` on that were said in one piece.
    ///
    /// # Errors
    /// Never for messages that [`Voice::send`] took.
    pub fn piece(&self, next: u64) -> Result<Option<Kept>, Garbled> {
        let place = self.kept.partition_point(|kept| kept.first + kept.count <= next);
        let Some(kept) = self.kept.get(place) else { return Ok(None) };
        let skip = next.saturating_sub(kept.first);
        let messages = match skip {
            0 => kept.messages.clone(),
            skip => skip_messages(&kept.messages, skip)?,
        };
        Ok(Some(Kept { first: kept.first + skip, count: kept.count - skip, messages }))
    }
}

/// Bytes to be kept for long.
pub(crate) fn copied_if_short(bytes: Bytes) -> Bytes {
    if bytes.len() < SHARED_BYTES_MIN { Bytes::copy_from_slice(&bytes) } else { bytes }
}

fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
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
        let mut voice = Voice::default();
        voice.send("b", 5, said(5), false).unwrap();
        voice.send("b", 5, said(5), false).unwrap();
        voice.confirmed("b", 7).unwrap();
        let stream = &voice.streams["b"];
        assert_eq!((stream.floor(), stream.kept.len()), (8, 1));
        assert_eq!(stream.piece(9).unwrap().map(|kept| (kept.first, kept.count)), Some((9, 2)));
        assert_eq!(stream.piece(11).unwrap(), None);
        voice.confirmed("b", 10).unwrap();
        assert_eq!((voice.kept_bytes, voice.streams["b"].floor()), (0, 11));
    }

    #[test]
    fn what_is_kept_does_not_hold_the_buffer_it_came_in() {
        let short = said(3);
        let buffer = Bytes::from([&short[..], &[0; 1 << 20][..]].concat());
        let mut voice = Voice::default();
        voice.send("b", 3, buffer.slice(..short.len()), false).unwrap();
        assert_eq!(voice.streams["b"].kept[0].messages, short);
        assert!(buffer.is_unique());
    }

    #[test]
    fn what_was_confirmed_before_it_is_said_again_is_not_kept() {
        let mut voice = Voice::default();
        voice.confirmed("b", 3).unwrap();
        voice.send("b", 2, said(2), false).unwrap();
        assert_eq!(voice.kept_bytes, 0);
        voice.send("b", 2, said(2), false).unwrap();
        assert_eq!(voice.streams["b"].floor(), 4);
    }

    #[test]
    fn the_digest_does_not_depend_on_how_messages_were_cut_into_pieces() {
        let (mut one, mut two) = (Voice::default(), Voice::default());
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
        let mut voice = Voice::default();
        voice.resolved(1);
        voice.await_for(1, Some(Moment(5)));
        voice.await_for(2, None);
        assert_eq!(voice.awaits.keys().copied().collect::<Vec<_>>(), [2]);
        voice.resolved(2);
        voice.resolved(1);
        assert!(voice.awaits.is_empty());
    }
}
