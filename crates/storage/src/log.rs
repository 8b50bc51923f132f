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
use crate::disk::{Disk, DiskError, Files, Nowhere};
use crate::error::LogError;
use crate::frame::{FrameBuffer, FramePlace, Number, SECTOR_BYTES, Shape};
use crate::index::Index;
use crate::reader::{self, LogReader, ReadLimits, SegmentReader};
use crate::record::{Entry, LogRecord, Recovered};
use crate::recovery::{self, Found, Place, Tail};
use crate::seal::{DataKey, Sealer};
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

/// How much is copied with one frame when the whole log is, in bytes.
const COPIED_BYTES: usize = 4 << 20;

/// What an entry takes in a frame beside its data, about.
const ENTRY_BYTES: usize = 64;

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
    frames: Frames,
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

/// How frames are made.
struct Frames {
    /// The present one.
    frame: FrameBuffer,
    /// Seals them all, if they are sealed.
    sealer: Option<Sealer>,
}

impl Frames {
    fn of(sealer: Option<Sealer>) -> Self {
        Self { frame: Self::buffer(sealer.is_some()), sealer }
    }

    fn buffer(sealed: bool) -> FrameBuffer {
        FrameBuffer::of(if sealed { Shape::SEALED } else { Shape::CLEAR })
    }

    fn key(&self) -> Option<&DataKey> {
        self.sealer.as_ref().map(Sealer::key)
    }

    /// Finishes the present frame.
    fn finish(&mut self, place: FramePlace) -> u32 {
        self.frame.finish(place, self.sealer.as_mut())
    }

    /// A frame that closes a segment, beside the present one.
    fn closing(&mut self, next: u64, place: FramePlace) -> (FrameBuffer, u32) {
        let mut frame = Self::buffer(self.sealer.is_some());
        frame.begin();
        Stored::Sealed { next }.put(&mut frame);
        let name = frame.finish(place, self.sealer.as_mut());
        (frame, name)
    }
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
    pub fn open(disk: D, options: LogOptions) -> Result<(Self, Recovered), LogError> {
        Self::open_with(disk, options, None)
    }

    /// The same for an encrypted log: `sealer` has its key. It must not have sealed anything that
    /// another log has written.
    ///
    /// # Errors
    /// Also when the log is encrypted and there is no sealer, or the other way round.
    pub fn open_with(
        mut disk: D,
        options: LogOptions,
        sealer: Option<Sealer>,
    ) -> Result<(Self, Recovered), LogError> {
        let frames = Frames::of(sealer);
        let found = match recovery::read(&mut disk, frames.key())? {
            Some(found) => found,
            None => begin(&mut disk, options, fingerprint(frames.sealer.as_ref()))?,
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
            frames,
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
        Arc::new(SegmentReader::new(self.index.clone(), files, self.frames.key().cloned()))
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
        let at = self.tail.at;
        let name = self.frames.finish(self.tail.next_frame());
        let frame = &self.frames.frame;
        let (bytes, payload) = (frame.written_bytes(), frame.payload_bytes());
        if let Err(error) = self.disk.write(&self.file, at, frame.bytes()) {
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
            let key = self.frames.key();
            let found = reader::read_entries(&self.index, &mut read, key, group, range, limits);
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

    /// Writes all that is needed of this log into an empty folder, under another key or none. Its
    /// last frame has the number that the last one has here: with a lower one others would take it
    /// for an older log, and with a higher one for a log that has what it lacks.
    /// `recovered`: as this log was opened; nothing was appended since.
    ///
    /// # Errors
    /// When one of the disks refuses, or something cannot be read; this log is as before.
    pub fn copy<E: Disk>(
        &mut self,
        recovered: &Recovered,
        disk: E,
        sealer: Option<Sealer>,
    ) -> Result<Log<E>, LogError> {
        // How many frames it takes is known when they were made; so the first time they go nowhere.
        // The sealer goes on counting, as it must not seal twice with one count.
        let mut measured = self.empty_copy(recovered, Nowhere, sealer, self.tail.number)?;
        self.copy_entries(recovered, &mut measured)?;
        let taken = measured.tail.number - self.tail.number;
        let first = self.tail.number.checked_sub(taken).filter(|first| *first > 0);
        let first = first.ok_or_else(|| {
            let frames = self.frames();
            LogError::Disk(DiskError::Failed(format!(
                "a copy of the log takes {taken} frames, and the log itself has had {frames}: \
                 start the node as it is, and let it write something"
            )))
        })?;
        let mut copy = self.empty_copy(recovered, disk, measured.frames.sealer, first)?;
        self.copy_entries(recovered, &mut copy)?;
        debug_assert_eq!(copy.tail.number, self.tail.number, "it is made in the same way twice");
        Ok(copy)
    }

    /// A log that goes on with that frame, of which nothing is needed but what is restated.
    fn empty_copy<E: Disk>(
        &self,
        recovered: &Recovered,
        mut disk: E,
        sealer: Option<Sealer>,
        first: Number,
    ) -> Result<Log<E>, LogError> {
        let is_new = self.frames() == 0;
        let bytes = self.options.segment_bytes;
        let origin = (u64::from(self.tail.former) << 32) ^ self.tail.number;
        // Only the first segment of all may have no frame.
        let number = if is_new { 1 } else { self.tail.segment.number + 1 };
        let segment = NextSegment::new(number, bytes, origin, fingerprint(sealer.as_ref()));
        segment.make_at_need(&mut disk)?;
        let mut emptied = recovered.clone();
        for group in emptied.groups.values_mut() {
            (group.last, group.terms) = (group.base, Vec::new());
        }
        let mut index = Index::default();
        index.begin_segment(segment);
        let (at, former) = (SECTOR_BYTES, self.tail.former);
        Ok(Log {
            disk,
            options: self.options,
            file: segment::name(number),
            tail: Tail { segment, at, soiled_to: at, fresh: true, number: first, former },
            spare: None,
            tally: Tally::recover(&emptied),
            index: SharedIndex::of(index),
            segments: Segments { oldest: number, remains: Vec::new() },
            frames: Frames::of(sealer),
            unsynced: None,
            pace: Pace { usual_bytes: 0, moved: 0 },
            failed: None,
        })
    }

    /// Few frames, as there may be no more of them than this log has had: entries of several groups
    /// go into one.
    fn copy_entries<E: Disk>(
        &mut self,
        recovered: &Recovered,
        copy: &mut Log<E>,
    ) -> Result<(), LogError> {
        if self.frames() == 0 {
            return Ok(());
        }
        let nodes = recovered.owner.map(LogRecord::Owner);
        let witnesses = recovered.witnesses.iter();
        let witnesses = witnesses.map(|(of, said)| LogRecord::Witness { of: *of, said: *said });
        let mut records: Vec<LogRecord> = nodes.into_iter().chain(witnesses).collect();
        let mut bytes = 0;
        for (&group, known) in &recovered.groups {
            let mut from = known.base.next();
            while from <= known.last {
                if bytes >= COPIED_BYTES {
                    copy.write(&std::mem::take(&mut records), &[])?;
                    copy.sync()?;
                    bytes = 0;
                }
                let disk = &mut self.disk;
                let mut read = |name: &str, offset, bytes| disk.read(name, offset, bytes);
                let limits =
                    ReadLimits { data_bytes: COPIED_BYTES - bytes, file_bytes: COPIED_BYTES };
                let (key, range) = (self.frames.key(), (from, known.last.next()));
                let found =
                    reader::read_entries(&self.index, &mut read, key, group, range, limits)?;
                from = found.entries.last().expect("it reads at least one").position.next();
                for entry in found.entries {
                    bytes += entry.data.len() + ENTRY_BYTES;
                    records.push(LogRecord::Entry { group, entry });
                }
            }
        }
        // The first frame restates votes and bases, so there is one in any case.
        copy.write(&records, &[])?;
        copy.sync()
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
        self.frames.frame.begin();
        let oldest = self.index.lock().oldest_needed();
        if fresh || oldest > self.segments.oldest {
            Stored::Oldest { segment: oldest }.put(&mut self.frames.frame);
        }
        if fresh {
            self.tally.restate(|record| record.put(&mut self.frames.frame));
        }
        // Before the records: one of those may replace what is moved here.
        for (group, entry) in moves {
            Tally::take_moved(*group, entry, &mut self.frames.frame, changes);
        }
        for record in records {
            self.tally.take(record, &mut self.frames.frame, changes);
        }
        oldest
    }

    /// Whether the frame has room in the segment from `at` on.
    fn fits(&self, segment: &NextSegment, at: u64) -> bool {
        at + self.frames.frame.written_bytes() + SEAL_BYTES <= segment.bytes
    }

    fn next_segment(&self, bytes: u64) -> NextSegment {
        let number = self.tail.segment.number + 1;
        let origin = (u64::from(self.tail.former) << 32) ^ self.tail.number;
        NextSegment::new(number, bytes, origin, fingerprint(self.frames.sealer.as_ref()))
    }

    /// Goes on in the next segment, with room for the present frame.
    fn roll(&mut self) -> Result<(), DiskError> {
        let next = match self.spare {
            Some(spare) if self.fits(&spare, SECTOR_BYTES) => spare,
            _ => {
                let needed = SECTOR_BYTES + self.frames.frame.written_bytes() + SEAL_BYTES;
                let next = self.next_segment(needed.max(self.options.segment_bytes));
                next.make_at_need(&mut self.disk)?;
                next
            }
        };
        self.spare = Some(next);
        let (closing, former) = self.frames.closing(next.number, self.tail.next_frame());
        self.tail.soiled_to = self.tail.at + SEAL_BYTES;
        self.disk.write(&self.file, self.tail.at, closing.bytes())?;
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
            self.disk.write(&self.file, self.tail.at, self.frames.frame.bytes())?;
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

/// Of the key.
fn fingerprint(sealer: Option<&Sealer>) -> Option<u64> {
    sealer.map(|sealer| sealer.key().fingerprint())
}

/// Begins a log in a folder that has none.
fn begin<D: Disk>(disk: &mut D, options: LogOptions, key: Option<u64>) -> Result<Found, LogError> {
    let bytes = options.segment_bytes.min(FIRST_SEGMENT_BYTES);
    let segment = NextSegment::new(1, bytes, 0, key);
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
