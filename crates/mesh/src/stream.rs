//! A stream of frames over packets that may get lost, come late, twice or in another order: each
//! frame comes out whole, once, in order.
//!
//! Loss is no sign of a full network here, as it is for TCP: a network that drops every fifth
//! packet is what the stream is for. So a piece is sent again after little more than a round trip,
//! every time, and the window shrinks only a little.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::packet::{Piece, Taken};

/// The longest piece of a frame.
pub(crate) const PIECE_BYTES_MAX: usize = 1_250;

/// The most pieces under way: as many as one answer can speak of.
const WINDOW_PIECES_MAX: usize = 128;

/// The window does not become smaller than this.
const WINDOW_PIECES_MIN: usize = 32;

/// The most bytes that may wait to be sent on a stream; with more it is closed, as a link is.
pub(crate) const STREAM_BYTES_MAX: usize = 144 << 20;

/// A frame that is longer closes the stream.
const FRAME_BYTES_MAX: usize = 72 << 20;

/// A piece is sent again after this long at least, in microseconds...
const AGAIN_MICROS_MIN: u64 = 30_000;

/// ... and at most.
const AGAIN_MICROS_MAX: u64 = 1_000_000;

/// Before a round trip was measured.
const ROUND_TRIP_AT_FIRST: u64 = 100_000;

/// A piece counts as lost when this many later ones have come.
const LATER_PIECES: u64 = 3;

/// One end that sends.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Not sent so far; the first one perhaps in part.
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// The number of the next piece.
    next: u64,
    flying: BTreeMap<u64, Flying>,
    window: usize,
    round_trip: RoundTrip,
}

/// A piece that was sent and is not known to have come.
#[derive(Debug)]
struct Flying {
    is_last: bool,
    bytes: Bytes,
    sent: u64,
    tries: u32,
    is_lost: bool,
}

/// Smoothed, and its deviation.
#[derive(Clone, Copy, Debug, Default)]
struct RoundTrip {
    smooth: Option<u64>,
    deviation: u64,
}

impl RoundTrip {
    fn measured(&mut self, micros: u64) {
        match self.smooth {
            None => (self.smooth, self.deviation) = (Some(micros), micros / 2),
            Some(smooth) => {
                self.deviation = (3 * self.deviation + smooth.abs_diff(micros)) / 4;
                self.smooth = Some((7 * smooth + micros) / 8);
            }
        }
    }

    fn again_after(&self, tries: u32) -> u64 {
        let first = self.smooth.unwrap_or(ROUND_TRIP_AT_FIRST) + 4 * self.deviation;
        let more = u64::from(tries.saturating_sub(1).min(6));
        let after = first.max(AGAIN_MICROS_MIN) * (2 + more) / 2;
        after.min(AGAIN_MICROS_MAX.max(first))
    }
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            next: 0,
            flying: BTreeMap::new(),
            window: WINDOW_PIECES_MIN,
            round_trip: RoundTrip::default(),
        }
    }
}

impl Sending {
    /// False: too much waits.
    #[must_use]
    pub(crate) fn put(&mut self, frame: Bytes) -> bool {
        self.bytes += frame.len();
        self.frames.push_back(frame);
        self.bytes <= STREAM_BYTES_MAX
    }

    /// What is to be sent now: what was lost, then what is new.
    pub(crate) fn due(&mut self, now: u64) -> Vec<Piece> {
        let mut due = Vec::new();
        let round_trip = self.round_trip;
        for (number, piece) in &mut self.flying {
            let waited = now.saturating_sub(piece.sent);
            if !piece.is_lost && waited < round_trip.again_after(piece.tries) {
                continue;
            }
            if !piece.is_lost {
                self.window = (self.window * 7 / 8).max(WINDOW_PIECES_MIN);
            }
            (piece.sent, piece.is_lost) = (now, false);
            piece.tries += 1;
            let (is_last, bytes) = (piece.is_last, piece.bytes.clone());
            due.push(Piece { number: *number, is_last, bytes });
        }
        while self.has_room()
            && let Some(frame) = self.frames.front_mut()
        {
            let bytes = frame.split_to(frame.len().min(PIECE_BYTES_MAX));
            let is_last = frame.is_empty();
            if is_last {
                self.frames.pop_front();
            }
            self.bytes -= bytes.len();
            let number = self.next;
            self.next += 1;
            let flying =
                Flying { is_last, bytes: bytes.clone(), sent: now, tries: 1, is_lost: false };
            self.flying.insert(number, flying);
            due.push(Piece { number, is_last, bytes });
        }
        due
    }

    /// The other end keeps what comes early only within a window behind what it lacks.
    fn has_room(&self) -> bool {
        let span = u64::try_from(WINDOW_PIECES_MAX).expect("a window is small");
        let first = self.flying.first_key_value().map_or(self.next, |(number, _)| *number);
        self.flying.len() < self.window && self.next < first + span
    }

    /// The other end says what has come.
    pub(crate) fn taken(&mut self, taken: Taken, now: u64) {
        let has_come = |number: u64| {
            number < taken.next
                || number
                    .checked_sub(taken.next + 1)
                    .is_some_and(|bit| bit < 128 && taken.beyond >> bit & 1 == 1)
        };
        let mut highest = None;
        let mut measured = None;
        self.flying.retain(|number, piece| {
            let has_come = has_come(*number);
            if has_come {
                highest = Some(*number);
                // Of a piece that was sent twice nobody knows which one came.
                measured =
                    (piece.tries == 1).then_some(now.saturating_sub(piece.sent)).or(measured);
                self.window = (self.window + 1).min(WINDOW_PIECES_MAX);
            }
            !has_come
        });
        if let Some(micros) = measured {
            self.round_trip.measured(micros);
        }
        let Some(highest) = highest else { return };
        let patience = self.round_trip.smooth.unwrap_or(ROUND_TRIP_AT_FIRST);
        for (_, piece) in self.flying.range_mut(..highest.saturating_sub(LATER_PIECES - 1)) {
            piece.is_lost |= now.saturating_sub(piece.sent) > patience;
        }
    }
}

/// The other end.
#[derive(Debug, Default)]
pub(crate) struct Receiving {
    next: u64,
    beyond: BTreeMap<u64, Piece>,
    /// A frame that is not whole.
    partial: BytesMut,
}

impl Receiving {
    /// The frames that are whole now; none when the other end does not keep to the rules.
    pub(crate) fn piece(&mut self, piece: Piece) -> Option<Vec<Bytes>> {
        let window = u64::try_from(WINDOW_PIECES_MAX).expect("a window is small");
        let mut frames = Vec::new();
        if piece.number < self.next {
            return Some(frames);
        }
        if piece.number > self.next + window || piece.bytes.len() > PIECE_BYTES_MAX {
            return None;
        }
        self.beyond.insert(piece.number, piece);
        while let Some(piece) = self.beyond.remove(&self.next) {
            self.next += 1;
            if self.partial.len() + piece.bytes.len() > FRAME_BYTES_MAX {
                return None;
            }
            if piece.is_last && self.partial.is_empty() {
                frames.push(piece.bytes);
                continue;
            }
            self.partial.extend_from_slice(&piece.bytes);
            if piece.is_last {
                frames.push(self.partial.split().freeze());
            }
        }
        Some(frames)
    }

    pub(crate) fn taken(&self) -> Taken {
        let bits = self.beyond.keys().filter_map(|number| number.checked_sub(self.next + 1));
        let beyond = bits.filter(|bit| *bit < 128).fold(0, |all, bit| all | 1_u128 << bit);
        Taken { next: self.next, beyond }
    }
}

#[cfg(test)]
mod tests {
    use random::Random;

    use super::*;

    /// Frames go over a network that loses, repeats and mixes up, until all have come.
    fn carry(seed: u64, sizes: &[usize], loss: u64) -> (Vec<Bytes>, u64) {
        let mut random = Random::of_seed(seed);
        let (mut sending, mut receiving) = (Sending::default(), Receiving::default());
        for (n, size) in sizes.iter().enumerate() {
            let byte = u8::try_from(n % 251).unwrap();
            assert!(sending.put(vec![byte; *size].into()));
        }
        let (mut now, mut came, mut under_way) = (0, Vec::new(), Vec::new());
        while came.len() < sizes.len() {
            now += 1_000;
            assert!(now < 600_000_000, "{} of {} frames", came.len(), sizes.len());
            for piece in sending.due(now) {
                for _ in 0..=u64::from(random.chance(50)) {
                    if !random.chance(loss) {
                        under_way.push((now + random.between(500, 20_000), piece.clone()));
                    }
                }
            }
            let arrived = under_way.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>();
            for (_, piece) in arrived {
                came.extend(receiving.piece(piece).expect("the sender keeps to the rules"));
                if !random.chance(loss) {
                    sending.taken(receiving.taken(), now);
                }
            }
        }
        (came, now)
    }

    #[test]
    fn frames_come_whole_once_and_in_order() {
        let sizes = [0, 1, PIECE_BYTES_MAX, PIECE_BYTES_MAX + 1, 300_000, 5, 0, 70_000];
        for seed in 0..30 {
            let (came, _) = carry(seed, &sizes, 200);
            assert_eq!(came.len(), sizes.len());
            for (n, (frame, size)) in came.iter().zip(sizes).enumerate() {
                assert_eq!(frame.len(), size);
                assert!(frame.iter().all(|byte| usize::from(*byte) == n));
            }
        }
    }

    #[test]
    fn a_lossy_network_makes_it_slower_but_not_by_much() {
        let sizes = vec![200; 2_000];
        let (_, clean) = carry(1, &sizes, 0);
        let (_, lossy) = carry(1, &sizes, 200);
        assert!(lossy < clean * 8, "{clean} and {lossy} microseconds");
    }

    #[test]
    fn a_sender_that_does_not_keep_to_the_rules_is_found_out() {
        let mut receiving = Receiving::default();
        let far = Piece { number: 1_000, is_last: true, bytes: Bytes::new() };
        assert!(receiving.piece(far).is_none());
        let fat = Piece { number: 0, is_last: true, bytes: vec![0; PIECE_BYTES_MAX + 1].into() };
        assert!(receiving.piece(fat).is_none());
    }

    #[test]
    fn more_than_the_bound_is_not_kept() {
        let mut sending = Sending::default();
        assert!(sending.put(vec![0; STREAM_BYTES_MAX].into()));
        assert!(!sending.put(vec![0; 1].into()));
    }
}
