//! How records lie in the payload of a frame: a kind, then numbers of varying length, then bytes.

use protocol::varint::{self, NoNumber};
use protocol::{GroupId, Position, ReplicaId, Term};

use crate::frame::FrameBuffer;
use crate::record::{EntryKind, LogOwner, Witness};

const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;
const VOTE: u8 = 3;
const BASE: u8 = 4;
const BASE_EMPTIED: u8 = 5;
const OLDEST: u8 = 6;
const SEALED: u8 = 7;
const MOVED_NORMAL: u8 = 8;
const MOVED_MEMBERSHIP: u8 = 9;
const OWNER: u8 = 10;
const WITNESS: u8 = 11;

/// An entry as it is stored. Its data is borrowed from the caller or from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredEntry<'a> {
    pub(crate) group: GroupId,
    pub(crate) position: Position,
    pub(crate) term: Term,
    pub(crate) kind: EntryKind,
    pub(crate) data: &'a [u8],
}

/// A record as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    /// A new entry. It replaces the one at its position and all after it.
    Entry(StoredEntry<'a>),
    /// An entry that was in the log already and still is: a second copy, so that the segment with
    /// the first one can go. It replaces nothing. Since version 2.
    Moved(StoredEntry<'a>),
    Vote {
        group: GroupId,
        term: Term,
        voted_for: ReplicaId,
        commit: Position,
    },
    Base {
        group: GroupId,
        position: Position,
        term: Term,
        /// The entries after it were forgotten. Stored, as whoever reads it later may not have the
        /// entry at the position any more, and could not tell.
        emptied: bool,
    },
    /// Since version 3.
    Owner(LogOwner),
    /// Since version 3.
    Witness {
        of: ReplicaId,
        said: Witness,
    },
    /// The segments before this one are not needed.
    Oldest {
        segment: u64,
    },
    /// The last record of a segment: the log goes on in that one.
    Sealed {
        next: u64,
    },
}

impl Stored<'_> {
    pub(crate) fn put(&self, frame: &mut FrameBuffer) {
        match *self {
            Self::Entry(entry) => entry.put(frame, [NORMAL, MEMBERSHIP]),
            Self::Moved(entry) => entry.put(frame, [MOVED_NORMAL, MOVED_MEMBERSHIP]),
            Self::Vote { group, term, voted_for, commit } => {
                frame.put(&[VOTE]);
                frame.put_number(group.0.into());
                frame.put_number(term.0);
                frame.put_number(voted_for.0);
                frame.put_number(commit.0);
            }
            Self::Base { group, position, term, emptied } => {
                frame.put(&[if emptied { BASE_EMPTIED } else { BASE }]);
                frame.put_number(group.0.into());
                frame.put_number(position.0);
                frame.put_number(term.0);
            }
            Self::Owner(LogOwner { sandbox_id, boot }) => {
                frame.put(&[OWNER]);
                frame.put_number(sandbox_id);
                frame.put_number(boot);
            }
            Self::Witness { of, said: Witness { boot, start, frames } } => {
                frame.put(&[WITNESS]);
                for number in [of.0, boot, start, frames] {
                    frame.put_number(number);
                }
            }
            Self::Oldest { segment } => {
                frame.put(&[OLDEST]);
                frame.put_number(segment);
            }
            Self::Sealed { next } => {
                frame.put(&[SEALED]);
                frame.put_number(next);
            }
        }
    }
}

impl StoredEntry<'_> {
    fn put(&self, frame: &mut FrameBuffer, [normal, membership]: [u8; 2]) {
        frame.put(&[match self.kind {
            EntryKind::Normal => normal,
            EntryKind::Membership => membership,
        }]);
        frame.put_number(self.group.0.into());
        frame.put_number(self.position.0);
        frame.put_number(self.term.0);
        frame.put_number(u64::try_from(self.data.len()).expect("the length of a slice fits"));
        frame.put(self.data);
    }
}

/// Reads the records of a payload one after the other.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(crate) fn of(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// The next record, nothing at the end.
    ///
    /// # Errors
    /// Says what cannot be read.
    pub(crate) fn next(&mut self) -> Result<Option<Stored<'a>>, String> {
        let Some((&kind, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        Ok(Some(match kind {
            NORMAL => Stored::Entry(self.entry(EntryKind::Normal)?),
            MEMBERSHIP => Stored::Entry(self.entry(EntryKind::Membership)?),
            MOVED_NORMAL => Stored::Moved(self.entry(EntryKind::Normal)?),
            MOVED_MEMBERSHIP => Stored::Moved(self.entry(EntryKind::Membership)?),
            VOTE => Stored::Vote {
                group: self.group()?,
                term: Term(self.number()?),
                voted_for: ReplicaId(self.number()?),
                commit: Position(self.number()?),
            },
            BASE | BASE_EMPTIED => Stored::Base {
                group: self.group()?,
                position: Position(self.number()?),
                term: Term(self.number()?),
                emptied: kind == BASE_EMPTIED,
            },
            OWNER => Stored::Owner(LogOwner { sandbox_id: self.number()?, boot: self.number()? }),
            WITNESS => Stored::Witness {
                of: ReplicaId(self.number()?),
                said: Witness {
                    boot: self.number()?,
                    start: self.number()?,
                    frames: self.number()?,
                },
            },
            OLDEST => Stored::Oldest { segment: self.number()? },
            SEALED => Stored::Sealed { next: self.number()? },
            other => return Err(format!("a record of the unknown kind {other}")),
        }))
    }

    /// How much of the payload is not read so far, in bytes.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    fn entry(&mut self, kind: EntryKind) -> Result<StoredEntry<'a>, String> {
        let group = self.group()?;
        let position = Position(self.number()?);
        let term = Term(self.number()?);
        let length = self.number()?;
        let (data, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length))
            .ok_or_else(|| format!("an entry of {length} bytes, beyond the end of its frame"))?;
        self.rest = rest;
        Ok(StoredEntry { group, position, term, kind, data })
    }

    fn group(&mut self) -> Result<GroupId, String> {
        let number = self.number()?;
        u32::try_from(number).map(GroupId).map_err(|_| format!("a group with the number {number}"))
    }

    fn number(&mut self) -> Result<u64, String> {
        varint::take(&mut self.rest).map_err(|why| match why {
            NoNumber::CutShort => "a record that ends in the middle of a number".to_owned(),
            NoNumber::TooLong => "a number of more than 64 bits".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{FramePlace, Payload};

    /// The payload of a frame with these records, which must fit into one sector.
    fn payload(records: &[Stored<'_>]) -> Vec<u8> {
        let mut frame = FrameBuffer::default();
        frame.begin();
        for record in records {
            record.put(&mut frame);
        }
        frame.finish(FramePlace { segment: 1, salt: 0, number: 1, former: 0 }, None);
        let length = crate::frame::header(frame.bytes()).length;
        let mut parts = Payload::of(frame.bytes(), 1, None);
        let part = parts.part(&frame.bytes()[..512], 0).unwrap();
        part[..usize::try_from(length).unwrap()].to_vec()
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let group = GroupId(u32::MAX);
        let (position, term) = (Position(u64::MAX), Term(1 << 63));
        let entry = |kind, data| StoredEntry { group, position, term, kind, data };
        let written = [
            Stored::Entry(entry(EntryKind::Normal, b"data")),
            Stored::Entry(entry(EntryKind::Membership, b"")),
            Stored::Moved(entry(EntryKind::Normal, b"data")),
            Stored::Moved(entry(EntryKind::Membership, b"")),
            Stored::Vote { group, term, voted_for: ReplicaId(127), commit: Position(128) },
            Stored::Base { group, position, term, emptied: true },
            Stored::Base { group, position, term, emptied: false },
            Stored::Oldest { segment: 0 },
            Stored::Sealed { next: u64::MAX },
        ];
        let payload = payload(&written);
        let mut records = Records::of(&payload);
        for record in &written {
            assert_eq!(records.next().unwrap().as_ref(), Some(record));
        }
        assert_eq!(records.next().unwrap(), None);
    }

    #[test]
    fn a_payload_cut_anywhere_is_an_error_and_never_a_panic() {
        let group = GroupId(300);
        let (position, term) = (Position(300), Term(300));
        let kind = EntryKind::Normal;
        let entry = StoredEntry { group, position, term, kind, data: b"d" };
        let whole = payload(&[Stored::Entry(entry)]);
        for cut in 1..whole.len() {
            assert!(Records::of(&whole[..cut]).next().is_err(), "{cut}");
        }
        let mut long = vec![NORMAL, 1, 1, 1];
        long.extend([0xff; 9]);
        assert!(Records::of(&[&long[..], &[1]].concat()).next().is_err(), "a huge length");
        assert!(Records::of(&[&long[..], &[2]].concat()).next().is_err(), "65 bits");
        assert!(Records::of(&[0]).next().is_err(), "an unknown kind");
    }

    #[test]
    fn any_bytes_are_read_to_their_end_or_to_an_error() {
        let mut state = 1_u64;
        for round in 0..20_000_u64 {
            let bytes: Vec<u8> = (0..round % 40)
                .map(|_| {
                    state = crate::frame::mix(state);
                    // Small numbers more often, so that the kinds are met.
                    let [low, choice, ..] = state.to_le_bytes();
                    if choice < 128 { low % 11 } else { low }
                })
                .collect();
            let mut records = Records::of(&bytes);
            let mut read = 0;
            while let Ok(Some(_)) = records.next() {
                read += 1;
            }
            assert!(read <= bytes.len(), "each record takes at least a byte");
        }
    }
}
