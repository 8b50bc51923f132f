//! The write-ahead log of a node, for all its groups: frames one after the other in segments.
//!
//! One frame at a time is written and synced, so at most the last one can be unfinished after a
//! crash. A segment is closed by a frame of its own before the next one is begun, which begins by
//! restating votes and bases; so the loss of any file is noticed, and old ones can go.
//!
//! Segments go in order of age. Where a few entries keep an old one, they are written once more at
//! the tail, as *moved*: from the next frame on the old segment is not needed. A crash in between
//! leaves an entry in two places, which are alike. So the files take at most twice what the entries
//! that are needed take, and [`SLACK_SEGMENTS`] segments, and what was appended since.

use std::sync::Arc;

use protocol::GroupId;

use crate::codec::Stored;
use crate::disk::{Disk, DiskError, Files};
use crate::error::LogError;
use crate::frame::{FrameBuffer, SECTOR_BYTES};
use crate::index::Index;
use crate::reader::{self, LogReader, ReadLimits, SegmentReader};
use crate::record::{Entry, LogRecord, Recovered};
use crate::recovery::{self, Found, Place, Tail};
use crate::segment::{self, NextSegment};
use crate::shared::SharedIndex;
use crate::tally::{Changes, Settled, Tally};

/// What the frame that closes a segment takes, in bytes.
const SEAL_BYTES: u64 = SECTOR_BYTES;

/// The longest first segment of a new log, in bytes: a node's first start should not wait for
/// many zeros.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;

/// From this many bytes an append on, on average, it costs more to write zeros ahead than it saves:
/// the disk writes everything twice, to spare each sync one more small write.
const LONG_APPEND_BYTES: u64 = 256 << 10;

/// How many appends that average looks back on, roughly.
const APPENDS_REMEMBERED: u64 = 32;

/// How much is written at once where much is written again, in bytes.
const PIECE_BYTES: u64 = 64 << 10;

/// The files may take this many times what the entries in them take that are needed...
const LIVE_FACTOR: u64 = 2;

/// ... and this many segments more, before entries are moved out of the oldest one.
const SLACK_SEGMENTS: u64 = 4;

/// This many bytes of entries may be moved with an append, and as many as it has itself if it has
/// more...
const MOVED_BYTES_MIN: u64 = 256 << 10;

/// ... but no more than this.
const MOVED_BYTES_MAX: u64 = 32 << 20;

/// How the log is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The length of a segment's file. An append that does not fit gets a longer one, and the
    /// very first may be shorter.
    pub segment_bytes: u64,
}

/// The write-ahead log of a node, for all its groups.
///
/// After [`DiskError::Full`] the log goes on: an `append` that was refused is as if it had not
/// been (though after a crash it may turn out to be there) and is to be given again, and a `sync`
/// that was refused is to be called again. After [`DiskError::Failed`] from `append` or `sync`
/// nobody knows what the disk holds: the log answers everything with that error, and has to be
/// opened anew.
pub struct Log<D: Disk> {
    disk: D,
    options: LogOptions,
    tail: Tail,
    /// The name of the tail's file.
    file: String,
    spare: Option<NextSegment>,
    tally: Tally,
    index: SharedIndex,
    segments: Segments,
    frame: FrameBuffer,
    unsynced: Option<Unsynced>,
    pace: Pace,
    failed: Option<LogError>,
}

/// Which files there are beside the tail's.
struct Segments {
    /// The oldest segment, as the log itself says durably.
    oldest: u64,
    /// Files that are not needed any more.
    remains: Vec<String>,
}

/// How the log moves on.
struct Pace {
    /// The length of an append on the disk, on average.
    usual_bytes: u64,
    /// How many entries were moved.
    moved: u64,
}

/// The frame that is written and not synced.
struct Unsynced {
    /// Its length on the disk, and what of it is payload.
    bytes: u64,
    payload: usize,
    /// Its first sector's checksum.
    name: u32,
    changes: Changes,
    /// The oldest segment, as that frame says.
    oldest: u64,
    /// A sync was refused. The system may have forgotten what it had to write, and call the next
    /// sync a success: the frame, which is still in the buffer, is written once more before that.
    again: bool,
}

impl<D: Disk> Log<D> {
    /// Opens the log in a folder, or begins one where there is none. An unfinished last write is
    /// cut.
    ///
    /// # Errors
    /// When the disk fails, or the log is damaged or of another version; nothing was changed then
    /// that a second attempt would not find again.
    pub fn open(mut disk: D, options: LogOptions) -> Result<(Self, Recovered), LogError> {
        let found = match recovery::read(&mut disk)? {
            Some(found) => found,
            None => begin(&mut disk, options)?,
        };
        let mut log = Self {
            disk,
            options,
            file: segment::name(found.tail.segment.number),
            tail: found.tail,
            spare: found.spare,
            tally: Tally::recover(&found.recovered),
            index: SharedIndex::of(found.index),
            segments: Segments { oldest: found.oldest, remains: found.remains },
            frame: FrameBuffer::default(),
            unsynced: None,
            pace: Pace { usual_bytes: 0, moved: 0 },
            failed: None,
        };
        if let Some(last) = found.last {
            log.settle(&last)?;
        }
        log.scrub()?;
        log.remove_remains()?;
        Ok((log, found.recovered))
    }

    /// Writes all the records as one frame at the tail. It is not durable until [`Log::sync`];
    /// an append before that syncs the former one first. No records, no frame.
    ///
    /// # Errors
    /// When the disk refuses; see [`Log`] for what then is. The records are to be given again.
    ///
    /// # Panics
    /// When an entry lies at or below its group's base, or leaves a gap.
    pub fn append(&mut self, records: &[LogRecord]) -> Result<(), LogError> {
        self.sync()?;
        if records.is_empty() {
            return Ok(());
        }
        let moves = self.moves(records)?;
        self.write(records, &moves)
    }

    /// Moves some entries, if the files take more than they should, and lets segments go that are
    /// not needed; all of it durably. To be called when there is nothing to append. False when
    /// there is nothing to do.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn tidy(&mut self) -> Result<bool, LogError> {
        self.sync()?;
        let moves = self.moves(&[])?;
        if moves.is_empty() && self.index.lock().oldest_needed() == self.segments.oldest {
            return Ok(false);
        }
        self.write(&[], &moves)?;
        self.sync()?;
        Ok(true)
    }

    /// There is something for [`Log::tidy`] to do.
    pub fn is_untidy(&self) -> bool {
        self.index.lock().oldest_needed() != self.segments.oldest || self.is_wasteful()
    }

    /// Reads what is durable here, from files of the same folder, while this goes on being written.
    pub fn reader(&self, files: impl Files + 'static) -> Arc<dyn LogReader> {
        Arc::new(SegmentReader::new(self.index.clone(), files))
    }

    fn write(&mut self, records: &[LogRecord], moves: &[(GroupId, Entry)]) -> Result<(), LogError> {
        self.guarded(Self::scrub)?;
        let mut changes = Changes::default();
        let mut oldest = self.encode(records, moves, self.tail.fresh, &mut changes);
        if !self.fits(&self.tail.segment, self.tail.at) {
            if !self.tail.fresh {
                self.tally.take_back(&mut changes);
                oldest = self.encode(records, moves, true, &mut changes);
            }
            if let Err(error) = self.guarded(Self::roll) {
                self.tally.take_back(&mut changes);
                return Err(error);
            }
        }
        let Tail { segment, number, former, at, .. } = self.tail;
        let name = self.frame.finish(segment.salt, number, former);
        let (bytes, payload) = (self.frame.written_bytes(), self.frame.payload_bytes());
        if let Err(error) = self.disk.write(&self.file, at, self.frame.bytes()) {
            self.tally.take_back(&mut changes);
            self.tail.soiled_to = at + bytes;
            return Err(self.remember(error));
        }
        self.pace.moved += u64::try_from(moves.len()).expect("a length fits");
        self.unsynced = Some(Unsynced { bytes, payload, name, changes, oldest, again: false });
        Ok(())
    }

    /// The entries that are to be written once more with these records.
    fn moves(&mut self, records: &[LogRecord]) -> Result<Vec<(GroupId, Entry)>, LogError> {
        if !self.is_wasteful() {
            return Ok(Vec::new());
        }
        let data = records.iter().map(|record| match record {
            LogRecord::Entry { entry, .. } => entry.data.len(),
            _ => 0,
        });
        let own = u64::try_from(data.sum::<usize>()).expect("a length fits");
        let wanted = self.index.lock().movable(own.clamp(MOVED_BYTES_MIN, MOVED_BYTES_MAX));
        let mut moves = Vec::new();
        for (group, from, end) in wanted {
            let disk = &mut self.disk;
            let mut read = |name: &str, offset, bytes| disk.read(name, offset, bytes);
            let (range, limits) = ((from, end), ReadLimits::NONE);
            let found = reader::read_entries(&self.index, &mut read, group, range, limits);
            match found {
                Ok(found) => moves.extend(found.entries.into_iter().map(|entry| (group, entry))),
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(moves)
    }

    /// The files take more than they should.
    fn is_wasteful(&self) -> bool {
        let index = self.index.lock();
        let (segments, bytes) = index.size();
        let slack = SLACK_SEGMENTS * self.options.segment_bytes;
        segments > 1 && bytes > LIVE_FACTOR * index.live_bytes() + slack
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// When the disk refuses; see [`Log`] for what then is.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(mut unsynced) = self.unsynced.take() else { return Ok(()) };
        if let Err(error) = self.flush(unsynced.again) {
            unsynced.again = true;
            self.unsynced = Some(unsynced);
            return Err(self.remember(error));
        }
        self.pace.usual_bytes += unsynced.bytes / APPENDS_REMEMBERED;
        self.pace.usual_bytes -= self.pace.usual_bytes / APPENDS_REMEMBERED;
        let Tail { segment, at, .. } = self.tail;
        let (bytes, payload) = (unsynced.bytes, unsynced.payload);
        let frame = Settled { segment: segment.number, at, bytes, payload };
        self.tail.at += unsynced.bytes;
        self.tail.soiled_to = self.tail.at;
        self.tail.number += 1;
        self.tail.former = unsynced.name;
        self.tail.fresh = false;
        self.segments.oldest = unsynced.oldest;
        let mut index = self.index.lock();
        Tally::settle(&mut unsynced.changes, &frame, &mut index);
        let gone = index
            .drop_before(self.segments.oldest)
            .expect("it was not needed when this was written");
        drop(index);
        self.segments.remains.extend(gone.into_iter().map(segment::name));
        // The frame is durable whether old files can be removed or not; `prepare` says if not.
        let _tried_again_later = self.remove_remains();
        Ok(())
    }

    /// Makes the next segment ahead of need, unless it is there, and removes old ones if that did
    /// not succeed before. Slow, as it writes a segment full of zeros: see [`Log::wanted`] for
    /// doing that elsewhere.
    ///
    /// # Errors
    /// When the disk refuses; the log is as before.
    pub fn prepare(&mut self) -> Result<(), LogError> {
        self.remove_remains()?;
        if let Some(next) = self.wanted() {
            next.make(&mut self.disk, false)?;
            next.adopt(&mut self.disk)?;
            self.spare = Some(next);
        }
        Ok(())
    }

    /// The next segment, unless it is there: whoever has time calls [`NextSegment::make`] with
    /// another disk of the same folder, and then gives it to [`Log::adopt`]. One at a time.
    pub fn wanted(&self) -> Option<NextSegment> {
        let bytes = self.options.segment_bytes;
        self.spare.is_none().then(|| self.next_segment(bytes))
    }

    /// Appends are so long at present that the next segment had better be made without zeros.
    pub fn appends_are_long(&self) -> bool {
        self.pace.usual_bytes >= LONG_APPEND_BYTES
    }

    /// Takes a segment over that was made elsewhere, or removes it if it is not needed any more.
    ///
    /// # Errors
    /// When the disk refuses; the log is as before.
    pub fn adopt(&mut self, made: NextSegment) -> Result<(), LogError> {
        if self.spare.is_none() && made.number == self.tail.segment.number + 1 {
            made.adopt(&mut self.disk)?;
            self.spare = Some(made);
        } else {
            made.discard(&mut self.disk)?;
        }
        Ok(())
    }

    /// The groups whose entries above their base keep the oldest segment from going: when there
    /// are too many segments, it is these groups that should persist their state and raise
    /// their base. None while there is but one segment.
    pub fn pinning(&self) -> Vec<GroupId> {
        self.index.lock().pinning()
    }

    /// How many segments are in use (without one made ahead), and how many bytes they take.
    pub fn size(&self) -> (usize, u64) {
        self.index.lock().size()
    }

    /// What the entries that are needed take of that, in bytes.
    pub fn live_bytes(&self) -> u64 {
        self.index.lock().live_bytes()
    }

    /// How many entries were written once more so that an old segment could go.
    pub fn moved_entries(&self) -> u64 {
        self.pace.moved
    }

    /// How many frames are durable, of all that the log has ever had.
    pub fn frames(&self) -> u64 {
        self.tail.number - 1
    }

    pub fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    pub fn into_disk(self) -> D {
        self.disk
    }

    /// Makes durable what was found. The process may have ended, and the machine not: then the last
    /// frame, and the zeros that were to cut one, were read and are perhaps not on the disk yet.
    /// The frame is written again, as the system may have failed to write it and forgotten that.
    fn settle(&mut self, last: &Place) -> Result<(), DiskError> {
        let file = segment::name(last.segment);
        let mut at = last.at;
        let end = last.at + last.bytes;
        while at < end {
            let bytes = usize::try_from(PIECE_BYTES.min(end - at)).expect("PIECE_BYTES fits");
            let piece = self.disk.read(&file, at, bytes)?;
            self.disk.write(&file, at, &piece)?;
            at += PIECE_BYTES;
        }
        self.disk.sync(&file)?;
        if file == self.file { Ok(()) } else { self.disk.sync(&self.file) }
    }

    /// Puts the payload of a frame together. Gives the oldest segment that it names.
    fn encode(
        &mut self,
        records: &[LogRecord],
        moves: &[(GroupId, Entry)],
        fresh: bool,
        changes: &mut Changes,
    ) -> u64 {
        self.frame.begin();
        let oldest = self.index.lock().oldest_needed();
        if fresh || oldest > self.segments.oldest {
            Stored::Oldest { segment: oldest }.put(&mut self.frame);
        }
        if fresh {
            self.tally.restate(|record| record.put(&mut self.frame));
        }
        // Before the records: one of those may replace what is moved here.
        for (group, entry) in moves {
            Tally::take_moved(*group, entry, &mut self.frame, changes);
        }
        for record in records {
            self.tally.take(record, &mut self.frame, changes);
        }
        oldest
    }

    /// Whether the frame has room in the segment from `at` on.
    fn fits(&self, segment: &NextSegment, at: u64) -> bool {
        at + self.frame.written_bytes() + SEAL_BYTES <= segment.bytes
    }

    fn next_segment(&self, bytes: u64) -> NextSegment {
        let number = self.tail.segment.number + 1;
        let origin = (u64::from(self.tail.former) << 32) ^ self.tail.number;
        NextSegment::new(number, bytes, origin)
    }

    /// Goes on in the next segment, with room for the present frame.
    fn roll(&mut self) -> Result<(), DiskError> {
        let next = match self.spare {
            Some(spare) if self.fits(&spare, SECTOR_BYTES) => spare,
            _ => {
                let needed = SECTOR_BYTES + self.frame.written_bytes() + SEAL_BYTES;
                let next = self.next_segment(needed.max(self.options.segment_bytes));
                next.make_at_need(&mut self.disk)?;
                next
            }
        };
        self.spare = Some(next);
        let mut seal = FrameBuffer::default();
        seal.begin();
        Stored::Sealed { next: next.number }.put(&mut seal);
        let former = seal.finish(self.tail.segment.salt, self.tail.number, self.tail.former);
        self.tail.soiled_to = self.tail.at + SEAL_BYTES;
        self.disk.write(&self.file, self.tail.at, seal.bytes())?;
        self.disk.sync(&self.file)?;
        self.spare = None;
        self.file = segment::name(next.number);
        self.index.lock().begin_segment(next);
        self.tail = Tail {
            segment: next,
            at: SECTOR_BYTES,
            soiled_to: SECTOR_BYTES,
            fresh: true,
            number: self.tail.number + 1,
            former,
        };
        Ok(())
    }

    fn flush(&mut self, again: bool) -> Result<(), DiskError> {
        if again {
            self.disk.write(&self.file, self.tail.at, self.frame.bytes())?;
        }
        self.disk.sync(&self.file)
    }

    /// Overwrites what a failed or unfinished write has left, durably: the next frame may be
    /// shorter, and what lies beyond the last frame must be zeros.
    fn scrub(&mut self) -> Result<(), DiskError> {
        let Tail { at, soiled_to, .. } = self.tail;
        if soiled_to == at {
            return Ok(());
        }
        let mut from = at;
        while from < soiled_to {
            let bytes = PIECE_BYTES.min(soiled_to - from);
            let zeros = vec![0; usize::try_from(bytes).expect("PIECE_BYTES fits")];
            self.disk.write(&self.file, from, &zeros)?;
            from += bytes;
        }
        self.disk.sync(&self.file)?;
        self.tail.soiled_to = at;
        Ok(())
    }

    /// Removes files that are not needed. They must not be removed before the frame that says so
    /// is durable.
    fn remove_remains(&mut self) -> Result<(), LogError> {
        while let Some(file) = self.segments.remains.last() {
            self.disk.remove(file)?;
            self.segments.remains.pop();
        }
        Ok(())
    }

    /// Remembers an error after which nobody knows what the disk holds.
    fn guarded(&mut self, step: fn(&mut Self) -> Result<(), DiskError>) -> Result<(), LogError> {
        step(self).map_err(|error| self.remember(error))
    }

    fn remember(&mut self, error: DiskError) -> LogError {
        let error = LogError::from(error);
        if !error.is_full() {
            self.failed = Some(error.clone());
        }
        error
    }
}

/// Begins a log in a folder that has none.
fn begin<D: Disk>(disk: &mut D, options: LogOptions) -> Result<Found, LogError> {
    let segment = NextSegment::new(1, options.segment_bytes.min(FIRST_SEGMENT_BYTES), 0);
    segment.make(disk, false)?;
    segment.adopt(disk)?;
    let mut index = Index::default();
    index.begin_segment(segment);
    let at = SECTOR_BYTES;
    Ok(Found {
        recovered: Recovered::default(),
        index,
        tail: Tail { segment, at, soiled_to: at, fresh: true, number: 1, former: 0 },
        spare: None,
        last: None,
        oldest: 1,
        remains: Vec::new(),
    })
}
