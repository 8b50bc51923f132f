//! What waits to be sent on a socket: pieces in order, given to the system many at a time.
//!
//! Shared by the links to other nodes and the connections of programs. The node's thread writes to
//! a socket itself, as far as it takes anything; a task of the connection writes the rest.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};

/// Pieces up to this size are copied together, so that many go out in one.
pub(crate) const COPY_BYTES_MAX: usize = 8 << 10;

/// The most pieces that are given to the system in one call.
const SLICES_MAX: usize = 64;

/// So much room for small pieces is used again. More is given back, or each connection would hold
/// on to what its busiest moment took.
const TAIL_BYTES_KEPT: usize = 64 << 10;

#[derive(Default)]
pub(crate) struct Outgoing {
    pieces: VecDeque<Bytes>,
    /// Small pieces, gathered; comes after all others.
    tail: BytesMut,
    bytes: usize,
}

/// How far a write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    All,
    /// The socket takes no more for now.
    Blocked,
    /// Nothing more can be sent.
    Broken,
}

impl Outgoing {
    /// How much waits.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.len() <= COPY_BYTES_MAX {
            return self.push_slice(&piece);
        }
        self.bytes += piece.len();
        self.close_tail();
        self.pieces.push_back(piece);
    }

    pub(crate) fn push_slice(&mut self, piece: &[u8]) {
        self.bytes += piece.len();
        self.tail.extend_from_slice(piece);
    }

    /// Writes as much as `write` takes (it says how much that was, as a socket does).
    pub(crate) fn write(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> Flushed {
        self.close_tail();
        while !self.pieces.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.pieces.len().min(SLICES_MAX);
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
            }
            match write(&slices[..count]) {
                Ok(sent) => self.forget(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Broken,
            }
        }
        Flushed::All
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn close_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let tail = if self.tail.len() > TAIL_BYTES_KEPT {
            std::mem::take(&mut self.tail)
        } else {
            self.tail.split()
        };
        self.pieces.push_back(tail.freeze());
    }

    /// That many bytes are sent.
    fn forget(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while let Some(piece) = self.pieces.front_mut() {
            if sent < piece.len() {
                piece.advance(sent);
                return;
            }
            sent -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_all_sizes_go_out_in_order_however_little_is_taken_at_a_time() {
        let sizes = [1, COPY_BYTES_MAX + 1, 0, 7, COPY_BYTES_MAX, 3 * COPY_BYTES_MAX, 5];
        let mut outgoing = Outgoing::default();
        let mut wanted = Vec::new();
        for (n, size) in sizes.into_iter().enumerate() {
            let piece = vec![u8::try_from(n).unwrap(); size];
            wanted.extend_from_slice(&piece);
            outgoing.push(piece.into());
        }
        assert_eq!(outgoing.bytes(), wanted.len());
        let mut sent = Vec::new();
        let mut calls = 0;
        let taken = |slices: &[IoSlice<'_>], sent: &mut Vec<u8>| {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let count = all.len().min(1_000);
            sent.extend_from_slice(&all[..count]);
            Ok(count)
        };
        let blocked = outgoing.write(|slices| {
            calls += 1;
            if calls > 3 { Err(io::ErrorKind::WouldBlock.into()) } else { taken(slices, &mut sent) }
        });
        assert_eq!(blocked, Flushed::Blocked);
        assert_eq!(outgoing.bytes(), wanted.len() - sent.len());
        assert_eq!(outgoing.write(|slices| taken(slices, &mut sent)), Flushed::All);
        assert_eq!((outgoing.bytes(), sent == wanted), (0, true));
    }
}
