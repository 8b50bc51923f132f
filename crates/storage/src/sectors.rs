//! Reads a segment sector by sector, a window at a time.

use crate::disk::DiskError;
use crate::error::LogError;
use crate::frame::SECTOR;
use crate::segment::{self, NextSegment};

/// Reads that many bytes of a file from an offset on; fewer only at its end.
pub(crate) type ReadAt<'a> = dyn FnMut(&str, u64, usize) -> Result<Vec<u8>, DiskError> + 'a;

/// A segment that is being read.
pub(crate) struct Sectors<'a> {
    read: &'a mut ReadAt<'a>,
    file: String,
    window: Vec<u8>,
    /// How long a window is, in bytes.
    window_bytes: usize,
    /// Where the window begins, in bytes.
    from: u64,
    /// The length of the segment, in bytes.
    pub(crate) end: u64,
    /// How many bytes were read so far.
    pub(crate) read_bytes: usize,
}

impl<'a> Sectors<'a> {
    pub(crate) fn of(read: &'a mut ReadAt<'a>, segment: &NextSegment, window_bytes: usize) -> Self {
        let file = segment::name(segment.number);
        let (window, from, end) = (Vec::new(), 0, segment.bytes);
        Self { read, file, window, window_bytes, from, end, read_bytes: 0 }
    }

    /// The sector at an offset inside of the segment.
    pub(crate) fn at(&mut self, offset: u64) -> Result<&[u8], LogError> {
        if self.within(offset).is_none() {
            self.window = (self.read)(&self.file, offset, self.window_bytes)?;
            self.from = offset;
            self.read_bytes += self.window.len();
        }
        match self.within(offset) {
            Some(start) => Ok(&self.window[start..start + SECTOR]),
            None => Err(self.corrupt(offset, "the file ends here, before its time".to_owned())),
        }
    }

    fn within(&self, offset: u64) -> Option<usize> {
        let start = usize::try_from(offset.checked_sub(self.from)?).ok()?;
        (start.checked_add(SECTOR)? <= self.window.len()).then_some(start)
    }

    pub(crate) fn corrupt(&self, offset: u64, why: String) -> LogError {
        LogError::Corrupt { segment: self.file.clone(), offset, why }
    }
}
