//! Reads entries back from the log while it is being written: the seam through which a group gets
//! what it does not hold in memory.
//!
//! Nothing is believed that is read: each sector has a checksum that knows its place, and each
//! entry must have the group, the position and the term that the index says.

use bytes::Bytes;
use protocol::{GroupId, Position, Term};

use crate::codec::{Records, Stored, StoredEntry};
use crate::disk::{DiskError, Files};
use crate::error::LogError;
use crate::frame::{self, FRAME_BYTES_MAX, Payload, SECTOR_BYTES, Verdict};
use crate::index::Stretch;
use crate::record::Entry;
use crate::seal::{DataKey, Opener};
use crate::sectors::{ReadAt, Sectors};
use crate::segment::NextSegment;
use crate::shared::SharedIndex;

/// How much of a segment is read at once, in bytes.
const WINDOW_BYTES: usize = 64 << 10;

/// No more places are looked up for one read.
const STRETCHES_MAX: usize = 256;

/// How many sectors are taken from a frame at once, when more of it is needed.
const SECTORS_AT_ONCE: usize = 64;

/// How often a read is tried again because the entry moved meanwhile. It moves once in the life of
/// a segment, so more often means a mistake of ours.
const MOVES_MAX: usize = 4;

/// How much one read may bring. At least one entry is read, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Of data of the entries, in bytes.
    pub data_bytes: usize,
    /// Of the files, in bytes. Entries of other groups that lie between are read along.
    pub file_bytes: usize,
}

impl ReadLimits {
    /// Everything.
    pub const NONE: Self = Self { data_bytes: usize::MAX, file_bytes: usize::MAX };
}

/// What a read has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadEntries {
    pub entries: Vec<Entry>,
    /// How many bytes of the files were read for it.
    pub file_bytes: usize,
}

/// The durable entries of all groups of a node. The one of [`Log::reader`](crate::Log::reader)
/// reads segments; tests have others.
pub trait LogReader: Send + Sync {
    /// Entries of a group from `from` on and before `end`, without gaps: at least one, and more as
    /// far as the limits allow.
    ///
    /// # Errors
    /// When the entry at `from` is not there or not what was written, or the disk fails.
    /// **Invariant:** an entry that is returned is the one that was written.
    fn entries(
        &self,
        group: GroupId,
        from: Position,
        end: Position,
        limits: ReadLimits,
    ) -> Result<ReadEntries, LogError>;

    /// The term of the durable entry there, if there is one.
    fn term(&self, group: GroupId, position: Position) -> Option<Term>;
}

/// Reads segments.
pub(crate) struct SegmentReader<F> {
    index: SharedIndex,
    files: F,
    /// Of an encrypted log.
    key: Option<DataKey>,
}

impl<F: Files> SegmentReader<F> {
    pub(crate) fn new(index: SharedIndex, files: F, key: Option<DataKey>) -> Self {
        Self { index, files, key }
    }
}

impl<F: Files> LogReader for SegmentReader<F> {
    fn entries(
        &self,
        group: GroupId,
        from: Position,
        end: Position,
        limits: ReadLimits,
    ) -> Result<ReadEntries, LogError> {
        let mut read = |name: &str, offset, bytes| self.files.read(name, offset, bytes);
        read_entries(&self.index, &mut read, self.key.as_ref(), group, (from, end), limits)
    }

    fn term(&self, group: GroupId, position: Position) -> Option<Term> {
        self.index.lock().term(group, position)
    }
}

/// Looks up where the entries are, and reads them there.
pub(crate) fn read_entries(
    index: &SharedIndex,
    read: &mut ReadAt<'_>,
    key: Option<&DataKey>,
    group: GroupId,
    (from, end): (Position, Position),
    limits: ReadLimits,
) -> Result<ReadEntries, LogError> {
    let mut moves = 0;
    loop {
        let stretches = index.lock().stretches(group, (from, end), STRETCHES_MAX);
        let Some(first) = stretches.first() else {
            let why = format!("entry {from} of group {group} is not in the log");
            return Err(LogError::Disk(DiskError::Failed(why)));
        };
        let wanted = Found {
            group,
            next: from,
            end,
            limits,
            data_bytes: 0,
            entries: Vec::new(),
            opener: key.cloned().map(Opener::new),
        };
        match read_stretches(&stretches, read, wanted) {
            // The segment may have gone after its entries were moved out of it.
            Err(error) if moves < MOVES_MAX => {
                let now = index.lock().stretches(group, (from, end), 1);
                if now.first().map(|now| now.place) == Some(first.place) {
                    return Err(error);
                }
                moves += 1;
            }
            outcome => return outcome,
        }
    }
}

fn read_stretches(
    stretches: &[Stretch],
    read: &mut ReadAt<'_>,
    mut found: Found,
) -> Result<ReadEntries, LogError> {
    let limits = found.limits;
    let mut file_bytes = 0;
    for in_segment in stretches.chunk_by(|one, other| one.segment == other.segment) {
        let mut sectors = Sectors::of(read, &in_segment[0].segment, WINDOW_BYTES);
        for stretch in in_segment {
            let far = file_bytes + sectors.read_bytes >= limits.file_bytes;
            let stop = found.is_full() || (far && !found.entries.is_empty());
            // The index has no gaps once the log is open, so what follows is the next stretch.
            if stop || stretch.first > found.next {
                file_bytes += sectors.read_bytes;
                return Ok(ReadEntries { entries: found.entries, file_bytes });
            }
            found.read(&mut sectors, stretch)?;
        }
        file_bytes += sectors.read_bytes;
    }
    Ok(ReadEntries { entries: found.entries, file_bytes })
}

/// What has been read so far.
struct Found {
    group: GroupId,
    /// The position that comes next.
    next: Position,
    end: Position,
    limits: ReadLimits,
    data_bytes: usize,
    entries: Vec<Entry>,
    /// Opens the frames, if they are sealed.
    opener: Option<Opener>,
}

impl Found {
    fn is_full(&self) -> bool {
        !self.entries.is_empty() && self.data_bytes >= self.limits.data_bytes
    }

    /// Reads the entries of one stretch.
    fn read(&mut self, sectors: &mut Sectors<'_>, stretch: &Stretch) -> Result<(), LogError> {
        let end = stretch.end.min(self.end);
        let (mut at, mut within) = (stretch.place.frame_at(), stretch.place.within);
        while self.next < end && !self.is_full() {
            let opener = self.opener.as_mut();
            let mut frame = Frame::open(sectors, &stretch.segment, (at, within), opener)?;
            while self.next < end && !self.is_full() {
                let taken = match frame.record()? {
                    Some(Stored::Entry(entry) | Stored::Moved(entry)) => {
                        self.take(&entry, stretch.term)
                    }
                    Some(_) => Ok(()),
                    None => break,
                };
                taken.map_err(|why| frame.corrupt(why))?;
            }
            (at, within) = (at + frame.bytes(), 0);
        }
        Ok(())
    }

    fn take(&mut self, entry: &StoredEntry<'_>, term_due: Term) -> Result<(), String> {
        let StoredEntry { group, position, term, kind, data } = *entry;
        if group != self.group || position < self.next {
            return Ok(());
        }
        if position > self.next || term != term_due {
            let due = self.next;
            return Err(format!(
                "here is entry {position} of term {term} of group {group}, where entry {due} of \
                 term {term_due} was written"
            ));
        }
        self.data_bytes += data.len();
        self.next = position.next();
        self.entries.push(Entry { position, term, kind, data: Bytes::copy_from_slice(data) });
        Ok(())
    }
}

/// A frame, from some record in it on.
struct Frame<'s, 'a> {
    sectors: &'s mut Sectors<'a>,
    salt: u64,
    /// Where it begins in the file, in bytes.
    at: u64,
    number: frame::Number,
    /// How many sectors it has.
    count: usize,
    parts: Payload,
    /// The sector to be read next.
    index: usize,
    /// What was read and is not taken apart so far, from `begin` on.
    payload: Vec<u8>,
    begin: usize,
    /// How much payload was not read so far, in bytes.
    unread: usize,
}

impl<'s, 'a> Frame<'s, 'a> {
    fn open(
        sectors: &'s mut Sectors<'a>,
        segment: &NextSegment,
        (at, within): (u64, u32),
        opener: Option<&mut Opener>,
    ) -> Result<Self, LogError> {
        let salt = segment.salt;
        let first = sectors.at(at)?;
        let header = frame::header(first);
        let is_good = frame::judge(first, salt, header.number, 0) == Verdict::Good;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let within = usize::try_from(within).unwrap_or(usize::MAX);
        if !is_good || !header.magic_fits || length > FRAME_BYTES_MAX || within > length {
            let why = "the first sector of a frame is damaged".to_owned();
            return Err(sectors.corrupt(at, why));
        }
        let parts = Payload::of(first, segment.number, opener);
        let count = parts.shape().sectors(length);
        let (index, skipped) = parts.shape().locate(within);
        let (payload, unread) = (Vec::new(), length - within);
        let number = header.number;
        let mut frame =
            Self { sectors, salt, at, number, count, parts, index, payload, begin: 0, unread };
        if unread > 0 {
            frame.gather(1, skipped)?;
        }
        Ok(frame)
    }

    /// How long it is on the disk.
    fn bytes(&self) -> u64 {
        u64::try_from(self.count).expect("FRAME_BYTES_MAX fits") * SECTOR_BYTES
    }

    /// The next record, nothing at the end.
    fn record(&mut self) -> Result<Option<Stored<'_>>, LogError> {
        let left = loop {
            let mut records = Records::of(&self.payload[self.begin..]);
            match records.next() {
                Ok(Some(_)) => break records.left(),
                Ok(None) if self.unread == 0 => return Ok(None),
                Err(why) if self.unread == 0 => return Err(self.corrupt(why)),
                // It goes on in sectors that are not read so far.
                Ok(None) | Err(_) => self.gather(SECTORS_AT_ONCE, 0)?,
            }
        };
        let begin = std::mem::replace(&mut self.begin, self.payload.len() - left);
        Ok(Records::of(&self.payload[begin..]).next().expect("it was read a moment ago"))
    }

    /// Reads up to that many more sectors; of the first one without some bytes at the front.
    fn gather(&mut self, count: usize, mut skipped: usize) -> Result<(), LogError> {
        self.payload.drain(..self.begin);
        self.begin = 0;
        for index in self.index..self.count.min(self.index + count) {
            let offset = self.at + SECTOR_BYTES * u64::try_from(index).expect("an index fits");
            let sector = self.sectors.at(offset)?;
            if frame::judge(sector, self.salt, self.number, index) != Verdict::Good {
                let why = format!("sector {index} of frame {} is damaged", self.number);
                return Err(self.sectors.corrupt(offset, why));
            }
            let Some(part) = self.parts.part(sector, index) else {
                let why = format!("sector {index} of frame {} was changed", self.number);
                return Err(self.sectors.corrupt(offset, why));
            };
            let body = &part[std::mem::take(&mut skipped)..];
            let wanted = body.len().min(self.unread);
            self.payload.extend_from_slice(&body[..wanted]);
            self.unread -= wanted;
            self.index = index + 1;
        }
        Ok(())
    }

    fn corrupt(&self, why: String) -> LogError {
        self.sectors.corrupt(self.at, why)
    }
}
