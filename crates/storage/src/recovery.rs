//! Reads the log back: decides for every byte whether it is sound, an unfinished last write, or
//! damage, and finds out where the entries of each group lie. They stay on the disk.
//!
//! Only one frame is ever un-synced, and what lies beyond the last frame is zeros. So where the
//! frames end there may be, of one further frame, any part of its sectors; anything else there is
//! damage.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use crc32fast::Hasher;
use protocol::{GroupId, ReplicaId};

use crate::codec::{Records, Stored, StoredEntry};
use crate::disk::Disk;
use crate::error::LogError;
use crate::frame::{
    self, FRAME_BYTES_MAX, FramePlace, Number, Payload, SECTOR, SECTOR_BYTES, Verdict,
};
use crate::index::{Index, Noted, Place as Lies};
use crate::record::{LogOwner, Recovered, RecoveredGroup, Witness};
use crate::seal::{DataKey, Opener};
use crate::sectors::Sectors;
use crate::segment::{self, FileKind, NextSegment};
use crate::tally::Settled;

/// How much of a segment is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// A sector that nothing was written to. Most of the newest segment is such, and comparing with
/// one is much faster than looking at each byte.
const EMPTY: [u8; SECTOR] = [0; SECTOR];

/// Where the log goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub(crate) segment: NextSegment,
    /// Where the next frame goes, in bytes.
    pub(crate) at: u64,
    /// From `at` to here are the remains of a write that did not come to its end.
    pub(crate) soiled_to: u64,
    /// No frame is in the segment yet.
    pub(crate) fresh: bool,
    /// The number of the next frame.
    pub(crate) number: Number,
    /// The checksum of the last frame.
    pub(crate) former: u32,
}

impl Tail {
    /// Where the next frame goes.
    pub(crate) fn next_frame(&self) -> FramePlace {
        let NextSegment { number: segment, salt, .. } = self.segment;
        FramePlace { segment, salt, number: self.number, former: self.former }
    }
}

/// Where a frame is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) at: u64,
    pub(crate) bytes: u64,
}

/// A log that was read back.
pub(crate) struct Found {
    pub(crate) recovered: Recovered,
    pub(crate) index: Index,
    pub(crate) tail: Tail,
    /// The segment after the tail's, when it was made ahead.
    pub(crate) spare: Option<NextSegment>,
    /// The last frame.
    pub(crate) last: Option<Place>,
    /// What the log says is its oldest segment.
    pub(crate) oldest: u64,
    /// Files that are not needed: unfinished segments, and those before the oldest.
    pub(crate) remains: Vec<String>,
}

/// Reads the log in that folder; nothing when there is none. With a key it must be encrypted.
pub(crate) fn read<D: Disk>(
    disk: &mut D,
    key: Option<&DataKey>,
) -> Result<Option<Found>, LogError> {
    let (mut numbers, mut remains) = (Vec::new(), Vec::new());
    for file in disk.list()? {
        match segment::kind_of(&file) {
            FileKind::Segment(number) => numbers.push(number),
            FileKind::Unfinished => remains.push(file),
            FileKind::Other => {}
        }
    }
    numbers.sort_unstable();
    let Some(&newest) = numbers.last() else {
        for file in remains {
            disk.remove(&file)?;
        }
        return Ok(None);
    };
    // The unbroken row up to the newest. If one before it is missing, it must be one that the log
    // was about to remove; that is known at the end.
    let mut first = newest;
    for &number in numbers.iter().rev().skip(1) {
        if number.saturating_add(1) != first {
            break;
        }
        first = number;
    }
    let fingerprint = key.map(DataKey::fingerprint);
    let segments = read_headers(disk, first..=newest, fingerprint, &mut remains)?;
    let mut replay = Replay { opener: key.cloned().map(Opener::new), ..Replay::default() };
    let (tail, spare) = replay.segments(disk, &segments)?;
    if first > replay.oldest {
        let missing = first - 1;
        let oldest = replay.oldest;
        let why = format!("the file is missing; the log goes back to segment {oldest}");
        return Err(LogError::Corrupt { segment: segment::name(missing), offset: 0, why });
    }
    let oldest = replay.oldest;
    remains.extend(numbers.iter().filter(|number| **number < oldest).map(|n| segment::name(*n)));
    let torn_bytes = tail.soiled_to - tail.at;
    let last = replay.place;
    let frames = replay.last.map_or(0, |(number, _)| number);
    let (owner, witnesses) = (replay.owner, std::mem::take(&mut replay.witnesses));
    let (groups, index) = replay.finish().map_err(|why| LogError::Corrupt {
        segment: segment::name(oldest),
        offset: 0,
        why,
    })?;
    let recovered = Recovered { groups, owner, witnesses, frames, torn_bytes };
    Ok(Some(Found { recovered, index, tail, spare, last, oldest, remains }))
}

/// Reads the headers of an unbroken row of segments.
fn read_headers<D: Disk>(
    disk: &mut D,
    numbers: RangeInclusive<u64>,
    key: Option<u64>,
    remains: &mut Vec<String>,
) -> Result<Vec<NextSegment>, LogError> {
    let (first, newest) = (*numbers.start(), *numbers.end());
    let mut segments = Vec::new();
    for number in numbers {
        match NextSegment::read(disk, number) {
            // It was made ahead of need, and decayed before anything was written to it.
            Err(LogError::Corrupt { .. })
                if number == newest && number > first && is_unused(disk, number)? =>
            {
                remains.push(segment::name(number));
            }
            read => segments.push(read?),
        }
    }
    // Nothing was changed so far, and nothing will be: the key may be the wrong one.
    for other in &segments {
        let segment = || segment::name(other.number);
        match (other.key, key) {
            (None, None) | (Some(0), Some(_)) => {}
            (Some(found), Some(key)) if found == key => {}
            (Some(_), Some(_)) => return Err(LogError::OtherKey { segment: segment() }),
            (found, _) => {
                return Err(LogError::Sealed { segment: segment(), is_sealed: found.is_some() });
            }
        }
    }
    Ok(segments)
}

/// What is at a place where a frame may begin.
enum Next {
    Frame {
        /// Its length on the disk, in bytes.
        bytes: u64,
        number: Number,
        /// Its first sector's checksum.
        name: u32,
    },
    /// No frame: a part of one, or nothing at all.
    Nothing {
        /// Its length in bytes, if that part tells.
        bytes: Option<u64>,
    },
}

/// How a segment ends.
enum End {
    /// By its closing frame.
    Sealed { next: u64 },
    /// Here the next frame would be.
    Open { at: u64 },
}

/// The groups while the log is read.
#[derive(Default)]
struct Replay {
    groups: BTreeMap<GroupId, RecoveredGroup>,
    owner: Option<LogOwner>,
    witnesses: BTreeMap<ReplicaId, Witness>,
    index: Index,
    oldest: u64,
    /// The number and the name of the last frame; nothing before the first one.
    last: Option<(Number, u32)>,
    /// Where that is.
    place: Option<Place>,
    /// The length of the frame that could not be read to its end, if known.
    torn: Option<u64>,
    payload: Vec<u8>,
    /// Opens the frames, if they are sealed.
    opener: Option<Opener>,
}

impl Replay {
    /// Reads all segments. Gives where the log goes on, and the segment made ahead.
    fn segments<D: Disk>(
        &mut self,
        disk: &mut D,
        segments: &[NextSegment],
    ) -> Result<(Tail, Option<NextSegment>), LogError> {
        self.oldest = 1;
        let first = segments.first().expect("there is at least one segment").number;
        if first == 1 {
            self.last = Some((0, 0));
        }
        let mut following = segments.iter();
        while let Some(segment) = following.next() {
            self.index.begin_segment(*segment);
            let mut read = |name: &str, offset, bytes| disk.read(name, offset, bytes);
            let mut sectors = Sectors::of(&mut read, segment, READ_BYTES);
            let at = match self.segment(&mut sectors, segment)? {
                End::Sealed { next } if Some(next) != segment.number.checked_add(1) => {
                    let why = format!("the frame that closes it names segment {next} as the next");
                    return Err(sectors.corrupt(0, why));
                }
                End::Sealed { next } if following.len() == 0 => {
                    let why = "the file is missing; the segment before goes on in it".to_owned();
                    return Err(LogError::Corrupt { segment: segment::name(next), offset: 0, why });
                }
                End::Sealed { .. } => continue,
                End::Open { at } => at,
            };
            let tail = self.tail(&mut sectors, segment, at)?;
            let spare = following.next().copied();
            if let Some(spare) = &spare {
                let mut read = |name: &str, offset, bytes| disk.read(name, offset, bytes);
                let is_clean = is_empty(&mut Sectors::of(&mut read, spare, READ_BYTES))?;
                let is_spare = following.len() == 0 && is_unused(disk, spare.number)?;
                if is_spare && !is_clean {
                    // A bit has decayed in zeros. The log makes another one.
                    disk.remove(&segment::name(spare.number))?;
                    return Ok((tail, None));
                }
                if !is_spare {
                    let why = "the frames end here, though a later segment was begun".to_owned();
                    let segment = segment::name(segment.number);
                    return Err(LogError::Corrupt { segment, offset: at, why });
                }
            }
            return Ok((tail, spare));
        }
        unreachable!("the last segment is open or it was an error")
    }

    /// Reads the frames of a segment.
    fn segment(
        &mut self,
        sectors: &mut Sectors<'_>,
        segment: &NextSegment,
    ) -> Result<End, LogError> {
        let mut at = SECTOR_BYTES;
        while at < sectors.end {
            let (bytes, number, name) = match self.frame(sectors, segment, at)? {
                Next::Frame { bytes, number, name } => (bytes, number, name),
                Next::Nothing { bytes } => {
                    self.torn = bytes;
                    break;
                }
            };
            self.last = Some((number, name));
            self.place = Some(Place { segment: segment.number, at, bytes });
            let payload = std::mem::take(&mut self.payload);
            let frame = Settled { segment: segment.number, at, bytes, payload: payload.len() };
            let sealed = self.records(&payload, &frame);
            let sealed = sealed.map_err(|why| sectors.corrupt(at, why))?;
            self.payload = payload;
            if let Some(next) = sealed {
                return Ok(End::Sealed { next });
            }
            at += bytes;
        }
        Ok(End::Open { at })
    }

    /// Reads the frame at `at`, its payload into `self.payload`.
    fn frame(
        &mut self,
        sectors: &mut Sectors<'_>,
        segment: &NextSegment,
        at: u64,
    ) -> Result<Next, LogError> {
        let salt = segment.salt;
        let first = sectors.at(at)?;
        let header = frame::header(first);
        let due = self.last.map_or(header.number, |(number, _)| number.saturating_add(1));
        let name = frame::stored(first);
        match frame::judge(first, salt, due, 0) {
            Verdict::Good => {}
            Verdict::Missing => return Ok(Next::Nothing { bytes: None }),
            Verdict::Damaged => {
                let why = format!("the first sector of frame {due} is damaged");
                return Err(sectors.corrupt(at, why));
            }
        }
        let mut parts = Payload::of(first, segment.number, self.opener.as_mut());
        self.payload.clear();
        let Some(part) = parts.part(first, 0) else { return Err(changed(sectors, at, due)) };
        self.payload.extend_from_slice(part);
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        let count = parts.shape().sectors(length.min(FRAME_BYTES_MAX));
        let bytes = u64::try_from(count * SECTOR).expect("FRAME_BYTES_MAX fits");
        let former = self.last.map_or(header.former, |(_, name)| name);
        if !header.magic_fits
            || header.number != due
            || header.former != former
            || length > FRAME_BYTES_MAX
            || bytes > sectors.end - at
        {
            return Err(sectors.corrupt(at, format!("this is not frame {due} of this log")));
        }
        let mut others = Hasher::new();
        let mut missing = false;
        for index in 1..count {
            let offset = at + offset_of(index);
            let sector = sectors.at(offset)?;
            match frame::judge(sector, salt, due, index) {
                Verdict::Good => {
                    others.update(&frame::stored(sector).to_le_bytes());
                    let Some(part) = parts.part(sector, index) else {
                        return Err(changed(sectors, offset, due));
                    };
                    self.payload.extend_from_slice(part);
                }
                Verdict::Missing => missing = true,
                Verdict::Damaged => {
                    let why = format!("sector {index} of frame {due} is damaged");
                    return Err(sectors.corrupt(offset, why));
                }
            }
        }
        if missing {
            return Ok(Next::Nothing { bytes: Some(bytes) });
        }
        if others.finalize() != header.others {
            let why = format!("the sectors of frame {due} do not belong together");
            return Err(sectors.corrupt(at, why));
        }
        self.payload.truncate(length);
        Ok(Next::Frame { bytes, number: due, name })
    }

    /// Checks that after the last frame there is at most a part of one more.
    fn tail(
        &mut self,
        sectors: &mut Sectors<'_>,
        segment: &NextSegment,
        at: u64,
    ) -> Result<Tail, LogError> {
        let Some((last, former)) = self.last else {
            // The segments before were removed only after this one had begun.
            let why = "the segment has no frame, though it is not the first one".to_owned();
            return Err(sectors.corrupt(at, why));
        };
        let number = last.saturating_add(1);
        let part_end = self.torn.map_or(sectors.end, |bytes| at + bytes);
        let mut soiled_to = at;
        let mut offset = at;
        while offset < sectors.end {
            let index = usize::try_from((offset - at) / SECTOR_BYTES).unwrap_or(usize::MAX);
            let sector = sectors.at(offset)?;
            if *sector != EMPTY {
                let verdict = frame::judge(sector, segment.salt, number, index);
                if offset >= part_end || verdict == Verdict::Damaged {
                    let why = format!(
                        "frame {number} is not whole, yet at {offset} there is something that \
                         was written after it"
                    );
                    return Err(sectors.corrupt(at, why));
                }
                soiled_to = offset + SECTOR_BYTES;
            }
            offset += SECTOR_BYTES;
        }
        let fresh = at == SECTOR_BYTES;
        Ok(Tail { segment: *segment, at, soiled_to, fresh, number, former })
    }

    /// Takes the records of a frame in. Gives the next segment if the frame closes this one.
    fn records(&mut self, payload: &[u8], frame: &Settled) -> Result<Option<u64>, String> {
        let mut records = Records::of(payload);
        let mut sealed = None;
        let mut within = 0;
        while let Some(record) = records.next()? {
            let end = payload.len() - records.left();
            match record {
                Stored::Entry(entry) => {
                    let noted = self.noted(&entry, frame, within..end)?;
                    self.index.entry(noted, entry.kind);
                }
                Stored::Moved(entry) => {
                    let noted = self.noted(&entry, frame, within..end)?;
                    self.index.moved(noted, entry.kind)?;
                }
                Stored::Vote { group, term, voted_for, commit } => {
                    let known = self.groups.entry(group).or_default();
                    (known.term, known.voted_for, known.commit) = (term, voted_for, commit);
                }
                Stored::Base { group, position, term, emptied } => {
                    let known = self.groups.entry(group).or_default();
                    if position > known.base {
                        (known.base, known.base_term) = (position, term);
                        self.index.base(group, position, emptied);
                    }
                }
                Stored::Owner(owner) => self.owner = Some(owner),
                Stored::Witness { of, said } => drop(self.witnesses.insert(of, said)),
                Stored::Oldest { segment } => self.oldest = self.oldest.max(segment),
                Stored::Sealed { next } => sealed = Some(next),
            }
            within = end;
        }
        Ok(sealed)
    }

    /// Where segments are gone, the first entry that is left may lie beyond the base that is known
    /// so far: a later record raises that. Copies of earlier ones may come later, too. So gaps are
    /// looked for at the end.
    fn noted(
        &mut self,
        entry: &StoredEntry<'_>,
        frame: &Settled,
        lies: Range<usize>,
    ) -> Result<Noted, String> {
        let StoredEntry { group, position, term, .. } = *entry;
        let base = self.groups.entry(group).or_default().base;
        if position <= base {
            return Err(format!(
                "an entry of group {group} at {position} does not go on from base {base}"
            ));
        }
        let place = Lies::new(frame.segment, frame.at, lies.start);
        Ok(Noted { group, position, term, place, bytes: frame.share(lies.len()) })
    }

    /// Puts the groups together.
    fn finish(mut self) -> Result<(BTreeMap<GroupId, RecoveredGroup>, Index), String> {
        self.index.drop_before(self.oldest)?;
        for (group, known) in &mut self.groups {
            if let Some(missing) = self.index.gap(*group, known.base) {
                return Err(format!(
                    "entry {missing} of group {group}, after its base {}, is missing",
                    known.base
                ));
            }
            known.last = self.index.last(*group).unwrap_or(known.base);
            known.terms = self.index.terms(*group);
            known.memberships = self.index.memberships(*group);
            known.bytes = self.index.bytes(*group);
        }
        Ok((self.groups, self.index))
    }
}

/// A sector that is good on the disk, and is not what was sealed.
fn changed(sectors: &Sectors<'_>, offset: u64, number: Number) -> LogError {
    let why = format!("frame {number} was changed by somebody who does not know the key");
    sectors.corrupt(offset, why)
}

fn offset_of(index: usize) -> u64 {
    u64::try_from(index).expect("the index of a sector fits") * SECTOR_BYTES
}

/// True when no frame was ever begun in that segment: the first sector of its first frame never
/// arrived. Nothing else can have been written to it before that was durable.
fn is_unused<D: Disk>(disk: &mut D, number: u64) -> Result<bool, LogError> {
    let first = disk.read(&segment::name(number), SECTOR_BYTES, SECTOR)?;
    Ok(first.len() < SECTOR || first[0] == 0 || first[SECTOR - 1] == 0)
}

/// True when there is nothing after the header.
fn is_empty(sectors: &mut Sectors<'_>) -> Result<bool, LogError> {
    let mut offset = SECTOR_BYTES;
    while offset < sectors.end {
        if *sectors.at(offset)? != EMPTY {
            return Ok(false);
        }
        offset += SECTOR_BYTES;
    }
    Ok(true)
}
