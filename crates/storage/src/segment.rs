//! Segments: the files of the log, their names and their headers.
//!
//! A segment gets its name only when its zeros and its header are durable, so a file with such a
//! name and without a good header is damage, always.

use std::fmt;

use crate::disk::{Disk, DiskError};
use crate::error::LogError;
use crate::frame::{SECTOR, SECTOR_BYTES, mix, u32_at, u64_at};

/// The format of segments, frames and records that this program writes where nothing is encrypted.
pub(crate) const VERSION: u32 = 3;

/// The same with sealed frames.
const VERSION_SEALED: u32 = 4;

/// The oldest format that it reads. 1 had no moved entries, 2 said
/// nothing of nodes; both are the same otherwise.
const VERSION_MIN: u32 = 1;

/// No segment is shorter, in bytes: a header, a frame, the frame that closes it, and some room.
const SEGMENT_BYTES_MIN: u64 = 16 * SECTOR_BYTES;

/// The magic, the version and the checksum at the end stay where they are in all versions.
const MAGIC: &[u8; 8] = b"AMRITALG";
const CHECKSUM_AT: usize = SECTOR - 4;

/// When the file was made, as the disk said. Since version 3.
const BORN_AT: usize = 36;

/// The fingerprint of the key that its frames are sealed under; 0 where that is not said, as in the
/// first files of that format.
const KEY_AT: usize = 44;

/// Whether the frames of a segment are sealed, by the first 12 bytes of its file.
pub fn is_sealed_segment(head: &[u8; 12]) -> bool {
    &head[..8] == MAGIC && u32_at(head, 8) == VERSION_SEALED
}

/// The name of a segment's file.
pub(crate) fn name(number: u64) -> String {
    format!("wal-{number:08}.log")
}

/// The name of a segment that is made ahead of need, until it is whole.
fn name_ahead(number: u64) -> String {
    format!("wal-{number:08}.new")
}

/// The name of a segment that is made when it is needed, until it is whole. Another one than that
/// of a segment made ahead, as both may be made at once.
fn name_at_need(number: u64) -> String {
    format!("wal-{number:08}.tmp")
}

/// What a file of the log's folder is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment(u64),
    /// A segment that was not made to its end.
    Unfinished,
    Other,
}

pub(crate) fn kind_of(file: &str) -> FileKind {
    let parts = file.strip_prefix("wal-").and_then(|rest| rest.rsplit_once('.'));
    match parts {
        Some((_, "new" | "tmp")) => FileKind::Unfinished,
        Some((digits, "log")) => match digits.parse() {
            // Only the one way of writing a number counts, or two files could be one segment.
            Ok(number) if name(number) == file => FileKind::Segment(number),
            _ => FileKind::Other,
        },
        _ => FileKind::Other,
    }
}

/// A segment that the log will need, for whoever makes it ahead of need: see
/// [`Log::wanted`](crate::Log::wanted).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NextSegment {
    pub(crate) number: u64,
    pub(crate) salt: u64,
    /// The length of the file.
    pub(crate) bytes: u64,
    /// The fingerprint of the key that its frames are sealed under, if they are; 0 if it is not
    /// known.
    pub(crate) key: Option<u64>,
}

impl fmt::Debug for NextSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", name(self.number), self.bytes)
    }
}

impl NextSegment {
    /// A segment of at least `bytes` bytes; `origin` is anything that differs from one to the next.
    pub(crate) fn new(number: u64, bytes: u64, origin: u64, key: Option<u64>) -> Self {
        let bytes = bytes.max(SEGMENT_BYTES_MIN).next_multiple_of(SECTOR_BYTES);
        Self { number, salt: mix(mix(number) ^ origin), bytes, key }
    }

    /// The slow part: makes the file with its zeros and its header, durably, under a name that
    /// means nothing yet. May be done on another thread, with another [`Disk`] of the same folder.
    /// Quickly: without writing the zeros, see [`Disk::reserve`].
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn make<D: Disk + ?Sized>(&self, disk: &mut D, quickly: bool) -> Result<(), DiskError> {
        let unfinished = name_ahead(self.number);
        let made = self.make_as(disk, &unfinished, quickly);
        disk.release(&unfinished);
        made
    }

    /// Gives a segment that was made ahead its name.
    pub(crate) fn adopt<D: Disk>(&self, disk: &mut D) -> Result<(), DiskError> {
        disk.rename(&name_ahead(self.number), &name(self.number))
    }

    /// Takes a segment away that was made ahead and is not needed.
    pub(crate) fn discard<D: Disk>(&self, disk: &mut D) -> Result<(), DiskError> {
        disk.remove(&name_ahead(self.number))
    }

    /// Makes it, and gives it its name. The log waits for it.
    pub(crate) fn make_at_need<D: Disk>(&self, disk: &mut D) -> Result<(), DiskError> {
        let unfinished = name_at_need(self.number);
        self.make_as(disk, &unfinished, true)?;
        disk.rename(&unfinished, &name(self.number))
    }

    fn make_as<D: Disk + ?Sized>(
        &self,
        disk: &mut D,
        unfinished: &str,
        quickly: bool,
    ) -> Result<(), DiskError> {
        if quickly {
            disk.reserve(unfinished, self.bytes)?;
        } else {
            disk.create(unfinished, self.bytes)?;
        }
        let born = disk.birth(unfinished).unwrap_or(0);
        disk.write(unfinished, 0, &self.header(born))?;
        disk.sync(unfinished)
    }

    /// `born`: see [`Disk::birth`]; 0 when that is not known.
    fn header(&self, born: u64) -> [u8; SECTOR] {
        let mut header = [0; SECTOR];
        header[..8].copy_from_slice(MAGIC);
        let version = if self.key.is_some() { VERSION_SEALED } else { VERSION };
        header[8..12].copy_from_slice(&version.to_le_bytes());
        header[12..20].copy_from_slice(&self.number.to_le_bytes());
        header[20..28].copy_from_slice(&self.salt.to_le_bytes());
        header[28..36].copy_from_slice(&self.bytes.to_le_bytes());
        header[BORN_AT..BORN_AT + 8].copy_from_slice(&born.to_le_bytes());
        header[KEY_AT..KEY_AT + 8].copy_from_slice(&self.key.unwrap_or(0).to_le_bytes());
        let sum = crc32fast::hash(&header[..CHECKSUM_AT]);
        header[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    /// Reads the header of the segment with that number, and checks it and the file's length.
    pub(crate) fn read<D: Disk>(disk: &mut D, number: u64) -> Result<Self, LogError> {
        let file = name(number);
        let corrupt = |why: String| LogError::Corrupt { segment: file.clone(), offset: 0, why };
        let header = disk.read(&file, 0, SECTOR)?;
        if header.len() < SECTOR {
            return Err(corrupt(format!("the file has only {} bytes", header.len())));
        }
        if &header[..8] != MAGIC {
            return Err(corrupt("this is not the header of a segment".to_owned()));
        }
        if u32_at(&header, CHECKSUM_AT) != crc32fast::hash(&header[..CHECKSUM_AT]) {
            return Err(corrupt("the header of the segment has a wrong checksum".to_owned()));
        }
        let version = u32_at(&header, 8);
        if !(VERSION_MIN..=VERSION_SEALED).contains(&version) {
            return Err(LogError::Version { found: version, known: VERSION_SEALED });
        }
        let segment = Self {
            number: u64_at(&header, 12),
            salt: u64_at(&header, 20),
            bytes: u64_at(&header, 28),
            key: (version == VERSION_SEALED).then(|| u64_at(&header, KEY_AT)),
        };
        if segment.number != number {
            let found = segment.number;
            return Err(corrupt(format!("the header says that this is segment {found}")));
        }
        let size = disk.size(&file)?;
        if size != segment.bytes {
            let due = segment.bytes;
            return Err(corrupt(format!("the file has {size} bytes, its header says {due}")));
        }
        let (born, birth) = (u64_at(&header, BORN_AT), disk.birth(&file));
        if born != 0 && birth.is_some_and(|birth| birth != born) {
            if !disk.trusts_copies() {
                return Err(corrupt(
                    "the file is a copy of the one that was written, perhaps an older one".into(),
                ));
            }
            // From now on it is the one.
            disk.write(&file, 0, &segment.header(birth.unwrap_or(0)))?;
            disk.sync(&file)?;
        }
        if size < SEGMENT_BYTES_MIN || !size.is_multiple_of(SECTOR_BYTES) {
            return Err(corrupt(format!("no segment has a length of {size} bytes")));
        }
        Ok(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_disk::MemoryDisk;

    fn made() -> (NextSegment, MemoryDisk) {
        let mut disk = MemoryDisk::new();
        let segment = NextSegment::new(3, 0, 0, Some(7));
        segment.make_at_need(&mut disk).unwrap();
        (segment, disk)
    }

    #[test]
    fn a_segment_is_read_as_it_was_made() {
        let (segment, mut disk) = made();
        assert_eq!(NextSegment::read(&mut disk, 3), Ok(segment));
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_header_is_corruption() {
        let (_, mut disk) = made();
        for offset in 0..SECTOR_BYTES {
            assert!(disk.flip(&name(3), offset, 3));
            let error = NextSegment::read(&mut disk, 3).unwrap_err();
            assert!(matches!(error, LogError::Corrupt { .. }), "{offset}: {error}");
            assert!(disk.flip(&name(3), offset, 3));
        }
    }

    #[test]
    fn a_header_of_another_version_is_told_as_such() {
        let (_, mut disk) = made();
        let mut content = disk.content(&name(3)).unwrap().to_vec();
        content[8..12].copy_from_slice(&7_u32.to_le_bytes());
        let sum = crc32fast::hash(&content[..CHECKSUM_AT]);
        content[CHECKSUM_AT..SECTOR].copy_from_slice(&sum.to_le_bytes());
        disk.put(&name(3), content);
        let error = NextSegment::read(&mut disk, 3).unwrap_err();
        assert_eq!(error, LogError::Version { found: 7, known: VERSION_SEALED });
        assert!(error.to_string().contains("newer version"), "{error}");
    }

    #[test]
    fn names_are_told_apart() {
        assert_eq!(kind_of("wal-00000012.log"), FileKind::Segment(12));
        assert_eq!(kind_of(&name(123_456_789_012)), FileKind::Segment(123_456_789_012));
        assert_eq!(kind_of("wal-12.log"), FileKind::Other);
        assert_eq!(kind_of("wal-+0000012.log"), FileKind::Other);
        assert_eq!(kind_of("wal-00000012.new"), FileKind::Unfinished);
        assert_eq!(kind_of("wal-00000012.tmp"), FileKind::Unfinished);
        assert_eq!(kind_of("lock"), FileKind::Other);
    }
}
