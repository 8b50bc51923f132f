//! A disk in memory that can lose, tear, flip and refuse, for tests and the simulator.

use std::collections::BTreeMap;

use crate::disk::{Disk, DiskError, Files};

/// The unit that a crash keeps or loses.
const SECTOR: usize = 512;

/// What a crash does to a sector that was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has arrived.
    Kept,
    /// It is as it was at the last sync.
    Lost,
    /// That many bytes of its front have arrived.
    Front(usize),
    /// All but that many bytes of its front have arrived.
    Back(usize),
}

/// A disk in memory. What a crash may do to un-synced writes is up to the callback of
/// [`MemoryDisk::crash`]. Creating, removing and renaming are durable at once. After a sync that
/// failed, a later one does not make durable what that one had to, unless it is written again:
/// so do some systems.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    files: BTreeMap<String, File>,
    full: bool,
    operations_left: Option<u64>,
    syncs: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// The sectors that were written since the last sync.
    unsynced: BTreeMap<usize, Unsynced>,
}

#[derive(Clone, Debug, Default)]
struct Unsynced {
    /// The sector as it is on the medium.
    before: Vec<u8>,
    /// A sync has failed since it was written. The next one will leave it out, and say nothing.
    forgotten: bool,
}

impl File {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let from = sector * SECTOR;
            let to = self.bytes.len().min(from + SECTOR);
            let before = &self.bytes[from..to];
            let unsynced = self
                .unsynced
                .entry(sector)
                .or_insert_with(|| Unsynced { before: before.to_vec(), forgotten: false });
            unsynced.forgotten = false;
        }
        self.bytes[offset..end].copy_from_slice(bytes);
    }
}

impl MemoryDisk {
    pub fn new() -> Self {
        Self::default()
    }

    /// The power went off: `choose` (name of the file, number of the sector) says what became of
    /// each sector that was not synced, in order of names and sectors. What is left is durable,
    /// and [`MemoryDisk::fail_after`] is forgotten.
    pub fn crash(&mut self, mut choose: impl FnMut(&str, u64) -> Fate) {
        self.operations_left = None;
        for (name, file) in &mut self.files {
            for (sector, Unsynced { before, .. }) in std::mem::take(&mut file.unsynced) {
                let number = u64::try_from(sector).expect("a sector number fits");
                let now = &mut file.bytes[sector * SECTOR..][..before.len()];
                match choose(name, number) {
                    Fate::Kept => {}
                    Fate::Lost => now.copy_from_slice(&before),
                    Fate::Front(bytes) => {
                        let bytes = bytes.min(before.len());
                        now[bytes..].copy_from_slice(&before[bytes..]);
                    }
                    Fate::Back(bytes) => {
                        let bytes = bytes.min(before.len());
                        now[..bytes].copy_from_slice(&before[..bytes]);
                    }
                }
            }
        }
    }

    /// Turns one bit (0 to 7) over, durably: the medium has decayed. False when there is no such
    /// byte.
    pub fn flip(&mut self, name: &str, offset: u64, bit: u8) -> bool {
        let byte = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.files.get_mut(name)?.bytes.get_mut(offset));
        if let Some(byte) = byte {
            *byte ^= 1 << (bit % 8);
            true
        } else {
            false
        }
    }

    /// While it is full, creating and writing fail with [`DiskError::Full`] and leave the first
    /// half done, and syncing fails.
    pub fn full(&mut self, full: bool) {
        self.full = full;
    }

    /// The operation of that number from now on that changes something (1 is the next one) is done
    /// by half and fails, and all after it fail without being done at all: the process died there.
    /// Forgotten with `None` or a crash.
    pub fn fail_after(&mut self, operations: Option<u64>) {
        self.operations_left = operations;
    }

    /// Makes every further operation that changes something fail at once, or no longer.
    pub fn fail(&mut self, fail: bool) {
        self.operations_left = fail.then_some(0);
    }

    /// The files with their lengths in bytes.
    pub fn files(&self) -> Vec<(String, u64)> {
        self.files
            .iter()
            .map(|(name, file)| (name.clone(), u64::try_from(file.bytes.len()).unwrap_or(u64::MAX)))
            .collect()
    }

    /// The content of a file, as a reader sees it.
    pub fn content(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(|file| file.bytes.as_slice())
    }

    /// Puts a file with this content there, durably.
    pub fn put(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.insert(name.to_owned(), File { bytes, unsynced: BTreeMap::new() });
    }

    /// How many sectors are written and not durable.
    pub fn unsynced_sectors(&self) -> usize {
        self.files.values().map(|file| file.unsynced.len()).sum()
    }

    /// How many times a file was synced.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    fn file(&mut self, name: &str) -> Result<&mut File, DiskError> {
        self.files.get_mut(name).ok_or_else(|| DiskError::Failed(format!("there is no {name}")))
    }

    /// What share of an operation that changes something is to be done, in halves, and its answer.
    fn admit(&mut self) -> (usize, Result<(), DiskError>) {
        match &mut self.operations_left {
            Some(0) => {
                return (0, Err(DiskError::Failed("the disk was told to fail".to_owned())));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        if self.operations_left == Some(0) {
            return (1, Err(DiskError::Failed("the disk was told to fail here".to_owned())));
        }
        (2, Ok(()))
    }

    fn admit_growth(&mut self) -> (usize, Result<(), DiskError>) {
        let (halves, answer) = self.admit();
        if answer.is_ok() && self.full {
            return (1, Err(DiskError::Full("the disk was told to be full".to_owned())));
        }
        (halves, answer)
    }
}

/// As it is now: a clone is a copy of that moment.
impl Files for MemoryDisk {
    fn read(&self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        let gone = || DiskError::Failed(format!("there is no {name}"));
        let content = self.content(name).ok_or_else(gone)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let to = from.saturating_add(bytes).min(content.len());
        Ok(content[from..to].to_vec())
    }
}

impl Disk for MemoryDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        Ok(self.files.keys().cloned().collect())
    }

    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        let bytes = usize::try_from(bytes)
            .map_err(|_| DiskError::Full(format!("{bytes} bytes are too many")))?;
        let (halves, answer) = self.admit_growth();
        if halves > 0 {
            self.put(name, vec![0; bytes / 2 * halves + bytes % 2 * (halves - 1)]);
        }
        answer
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        Ok(u64::try_from(self.file(name)?.bytes.len()).unwrap_or(u64::MAX))
    }

    fn read(&mut self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        Files::read(self, name, offset, bytes)
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let (halves, answer) = self.admit_growth();
        let file = self.file(name)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        if from.saturating_add(bytes.len()) > file.bytes.len() {
            return Err(DiskError::Failed(format!("a write beyond the end of {name}")));
        }
        // Half a write ends between two sectors: the system takes no part of one.
        let half = (from + bytes.len() / 2) / SECTOR * SECTOR;
        let done = [0, half.saturating_sub(from), bytes.len()][halves];
        file.write(from, &bytes[..done]);
        answer
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        let (_, answer) = self.admit_growth();
        let file = self.file(name)?;
        if answer.is_ok() {
            file.unsynced.retain(|_, unsynced| unsynced.forgotten);
            self.syncs += 1;
        } else {
            file.unsynced.values_mut().for_each(|unsynced| unsynced.forgotten = true);
        }
        answer
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        let (halves, answer) = self.admit();
        self.file(name)?;
        if halves > 0 {
            self.files.remove(name);
        }
        answer
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let (halves, answer) = self.admit();
        self.file(from)?;
        if halves > 0 {
            let file = self.files.remove(from).expect("it was there a line before");
            self.files.insert(to.to_owned(), file);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(bytes: &[u8]) -> MemoryDisk {
        let mut disk = MemoryDisk::new();
        disk.create("a", 1024).unwrap();
        disk.write("a", 0, bytes).unwrap();
        disk
    }

    #[test]
    fn a_crash_loses_only_what_was_not_synced() {
        let mut disk = disk_with(&[1; 1024]);
        disk.sync("a").unwrap();
        disk.write("a", 0, &[2; 1024]).unwrap();
        disk.crash(|_, sector| if sector == 0 { Fate::Lost } else { Fate::Front(2) });
        let content = disk.content("a").unwrap();
        assert_eq!(content[..512], [1; 512]);
        assert_eq!(content[512..515], [2, 2, 1]);
        disk.crash(|_, _| panic!("all is durable after a crash"));
    }

    #[test]
    fn a_full_disk_does_half_of_a_write_and_goes_on_later() {
        let mut disk = disk_with(&[]);
        disk.full(true);
        assert!(disk.write("a", 0, &[1; 1024]).unwrap_err().is_full());
        assert_eq!(disk.content("a").unwrap(), [[1; 512], [0; 512]].concat());
        disk.full(false);
        disk.write("a", 0, &[1; 4]).unwrap();
    }

    #[test]
    fn what_a_failed_sync_forgot_is_not_durable_until_it_is_written_again() {
        let mut disk = disk_with(&[1; 4]);
        disk.full(true);
        assert!(disk.sync("a").unwrap_err().is_full());
        disk.full(false);
        disk.sync("a").unwrap();
        assert_eq!(disk.unsynced_sectors(), 1);
        disk.write("a", 0, &[1; 4]).unwrap();
        disk.sync("a").unwrap();
        assert_eq!(disk.unsynced_sectors(), 0);
    }

    #[test]
    fn a_disk_that_dies_does_nothing_afterwards() {
        let mut disk = disk_with(&[]);
        disk.fail_after(Some(1));
        assert!(disk.write("a", 0, &[1; 1024]).is_err());
        assert!(disk.write("a", 512, &[1; 4]).is_err());
        assert!(disk.sync("a").is_err());
        disk.crash(|_, _| Fate::Kept);
        assert_eq!(disk.content("a").unwrap(), [[1; 512], [0; 512]].concat());
        disk.write("a", 0, &[1; 4]).unwrap();
    }
}
