//! The write-ahead log of a node, for all its groups: frames one after the other in segments.
//!
//! One frame at a time is written and synced, so at most the last one can be unfinished after a
//! crash. A segment is closed by a frame of its own before the next one is begun, which begins by
//! restating votes and bases; so the loss of any file is noticed, and old ones can go.

use protocol::GroupId;

use crate::codec::Stored;
use crate::disk::{Disk, DiskError};
use crate::error::LogError;
use crate::frame::{FrameBuffer, SECTOR_BYTES};
use crate::record::{LogRecord, Recovered};
use crate::recovery::{self, Found, Place, Tail};
use crate::segment::{self, NextSegment};
use crate::tally::{Changes, Tally};

/// What the frame that closes a segment takes, in bytes.
const SEAL_BYTES: u64 = SECTOR_BYTES;

/// The longest first segment of a new log, in bytes: a node's first start should not wait for
/// many zeros.
const FIRST_SEGMENT_BYTES: u64 = 4 << 20;

/// From so many bytes an append on, on average, it costs more to write zeros ahead than it saves: the
/// disk writes everything twice, to spare each sync one more small write.
const LONG_APPEND_BYTES: u64 = 256 << 10;

/// How many appends that average looks back on, roughly.
const APPENDS_REMEMBERED: u64 = 32;

/// How much is written at once where much is written again, in bytes.
const PIECE_BYTES: u64 = 64 << 10;

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
    /// The oldest segment, as the log itself says durably.
    oldest: u64,
    /// Files that are not needed any more.
    remains: Vec<String>,
    frame: FrameBuffer,
    unsynced: Option<Unsynced>,
    /// The length of an append on the disk, on average.
    usual_bytes: u64,
    failed: Option<DiskError>,
}

/// The frame that is written and not synced.
struct Unsynced {
    /// Its length on the disk.
    bytes: u64,
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
            tally: found.tally,
            oldest: found.oldest,
            remains: found.remains,
            frame: FrameBuffer::default(),
            unsynced: None,
            usual_bytes: 0,
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
        self.guarded(Self::scrub)?;
        let mut changes = Changes::default();
        let mut oldest = self.encode(records, self.tail.fresh, &mut changes);
        if !self.fits(&self.tail.segment, self.tail.at) {
            if !self.tail.fresh {
                self.tally.take_back(&mut changes);
                oldest = self.encode(records, true, &mut changes);
            }
            if let Err(error) = self.guarded(Self::roll) {
                self.tally.take_back(&mut changes);
                return Err(error);
            }
        }
        let Tail { segment, number, former, at, .. } = self.tail;
        let name = self.frame.finish(segment.salt, number, former);
        let bytes = self.frame.written_bytes();
        if let Err(error) = self.disk.write(&self.file, at, self.frame.bytes()) {
            self.tally.take_back(&mut changes);
            self.tail.soiled_to = at + bytes;
            return Err(self.remember(error));
        }
        self.unsynced = Some(Unsynced { bytes, name, changes, oldest, again: false });
        Ok(())
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// When the disk refuses; see [`Log`] for what then is.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        let Some(mut unsynced) = self.unsynced.take() else { return Ok(()) };
        if let Err(error) = self.flush(unsynced.again) {
            unsynced.again = true;
            self.unsynced = Some(unsynced);
            return Err(self.remember(error));
        }
        self.usual_bytes += unsynced.bytes / APPENDS_REMEMBERED;
        self.usual_bytes -= self.usual_bytes / APPENDS_REMEMBERED;
        self.tail.at += unsynced.bytes;
        self.tail.soiled_to = self.tail.at;
        self.tail.number += 1;
        self.tail.former = unsynced.name;
        self.tail.fresh = false;
        self.tally.settle(&mut unsynced.changes);
        self.oldest = unsynced.oldest;
        self.remains.extend(self.tally.drop_before(self.oldest).into_iter().map(segment::name));
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
        self.usual_bytes >= LONG_APPEND_BYTES
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
        self.tally.pinning()
    }

    /// How many segments are in use (without one made ahead), and how many bytes they take.
    pub fn size(&self) -> (usize, u64) {
        self.tally.size()
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
    fn encode(&mut self, records: &[LogRecord], fresh: bool, changes: &mut Changes) -> u64 {
        self.frame.begin();
        let oldest = self.tally.oldest_needed();
        if fresh || oldest > self.oldest {
            Stored::Oldest { segment: oldest }.put(&mut self.frame);
        }
        if fresh {
            self.tally.restate(|record| record.put(&mut self.frame));
        }
        for record in records {
            self.tally.take(record, changes).put(&mut self.frame);
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
        self.tally.begin_segment(next.number, next.bytes);
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
        while let Some(file) = self.remains.last() {
            self.disk.remove(file)?;
            self.remains.pop();
        }
        Ok(())
    }

    /// Remembers an error after which nobody knows what the disk holds.
    fn guarded(&mut self, step: fn(&mut Self) -> Result<(), DiskError>) -> Result<(), LogError> {
        step(self).map_err(|error| self.remember(error))
    }

    fn remember(&mut self, error: DiskError) -> LogError {
        if !error.is_full() {
            self.failed = Some(error.clone());
        }
        error.into()
    }
}

/// Begins a log in a folder that has none.
fn begin<D: Disk>(disk: &mut D, options: LogOptions) -> Result<Found, LogError> {
    let segment = NextSegment::new(1, options.segment_bytes.min(FIRST_SEGMENT_BYTES), 0);
    segment.make(disk, false)?;
    segment.adopt(disk)?;
    let mut tally = Tally::default();
    tally.begin_segment(segment.number, segment.bytes);
    let at = SECTOR_BYTES;
    Ok(Found {
        recovered: Recovered::default(),
        tally,
        tail: Tail { segment, at, soiled_to: at, fresh: true, number: 1, former: 0 },
        spare: None,
        last: None,
        oldest: 1,
        remains: Vec::new(),
    })
}
