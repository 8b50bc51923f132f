//! The log's disk: real files in one folder. And what all folders and files of a node have in
//! common.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};
use storage::{Disk, DiskError, Files};

/// The length of a segment of the log.
pub(crate) const SEGMENT_BYTES: u64 = 32 << 20;

/// Folders and files are for the user that runs the node, and for nobody else.
pub(crate) const FOLDER_MODE: u32 = 0o700;
pub(crate) const FILE_MODE: u32 = 0o600;

/// How many files are kept open. The log writes to one and reads one; the rest is margin.
const OPEN_FILES_MAX: usize = 4;

/// How much zero is written and synced at once when a file is made, in bytes. A file is mostly made
/// ahead of need, beside a log at work: the log's own syncs should find gaps to slip through.
const ZEROS_BYTES: usize = 1 << 20;

/// One folder of files. Only one process may use it, which is the caller's care.
#[derive(Debug)]
pub struct FileDisk {
    folder: PathBuf,
    open: BTreeMap<String, File>,
    trusts_copies: bool,
    /// The files here are copies that stand for those of this folder.
    copied_from: Option<PathBuf>,
}

impl FileDisk {
    /// Opens the folder, makes it if need be, and makes durable which files it has.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn open(folder: &Path) -> Result<Self, DiskError> {
        let opened = fs::create_dir_all(folder).and_then(|()| {
            // A process that ended in the middle may have left names that are not durable.
            sync_folder(folder)?;
            folder.canonicalize()?.parent().map_or(Ok(()), sync_folder)
        });
        opened.map_err(|error| wrong("opening", &folder.display(), &error))?;
        Ok(Self {
            folder: folder.to_owned(),
            open: BTreeMap::new(),
            trusts_copies: false,
            copied_from: None,
        })
    }

    /// The same for files that may be copies of those that were written here.
    pub(crate) fn trusting(self) -> Self {
        Self { trusts_copies: true, ..self }
    }

    /// The files were copied from that folder by us. When they were made is asked of those there.
    pub(crate) fn copied_from(self, folder: &Path) -> Self {
        Self { copied_from: Some(folder.to_owned()), ..self }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn file(&mut self, name: &str) -> Result<&File, DiskError> {
        if !self.open.contains_key(name) {
            let file = OpenOptions::new().read(true).write(true).open(self.path(name));
            let file = file.map_err(|error| self.wrong("opening", name, &error))?;
            self.keep(name, file);
        }
        Ok(&self.open[name])
    }

    fn keep(&mut self, name: &str, file: File) {
        while self.open.len() >= OPEN_FILES_MAX {
            // The names count up, so the first one is the oldest file.
            self.open.pop_first();
        }
        self.open.insert(name.to_owned(), file);
    }

    /// An empty file of this name.
    fn fresh(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).open(self.path(name))
    }

    /// Writes real zeros: a file that is merely long has no blocks yet, so that a later write may
    /// find the disk full and each sync has to write down where the blocks are.
    fn fill(&self, name: &str, bytes: u64) -> io::Result<File> {
        let file = self.fresh(name)?;
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = 0;
        while at < bytes {
            let left = usize::try_from(bytes - at).unwrap_or(ZEROS_BYTES);
            let piece = &zeros[..left.min(ZEROS_BYTES)];
            file.write_all_at(piece, at)?;
            file.sync_data()?;
            at += u64::try_from(piece.len()).expect("ZEROS_BYTES fits");
        }
        file.sync_all()?;
        sync_folder(&self.folder)?;
        Ok(file)
    }

    /// Keeps room without writing it. Where a file system cannot do that, zeros are written.
    fn keep_room(&self, name: &str, bytes: u64) -> io::Result<File> {
        let file = self.fresh(name)?;
        let kept = retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, bytes));
        match kept {
            Ok(()) => {}
            // INVAL also for no bytes at all.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return self.fill(name, bytes),
            Err(error) => return Err(error.into()),
        }
        file.sync_all()?;
        sync_folder(&self.folder)?;
        Ok(file)
    }

    fn make(
        &mut self,
        name: &str,
        bytes: u64,
        how: fn(&Self, &str, u64) -> io::Result<File>,
    ) -> Result<(), DiskError> {
        self.open.remove(name);
        match how(self, name, bytes) {
            Ok(file) => {
                self.keep(name, file);
                Ok(())
            }
            Err(error) => {
                // Half a file helps nobody, and others may need the room.
                let _the_first_error_counts = fs::remove_file(self.path(name));
                Err(self.wrong("making", name, &error))
            }
        }
    }

    fn wrong(&self, doing: &str, name: &str, error: &io::Error) -> DiskError {
        wrong(doing, &self.path(name).display(), error)
    }
}

/// Reads the same files beside the disk. None of them is kept open: a file that is removed shall
/// give its room back at once, and reads are long and few.
#[derive(Debug)]
pub struct FolderFiles {
    folder: PathBuf,
}

impl FolderFiles {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }
}

impl Files for FolderFiles {
    fn read(&self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        let path = self.folder.join(name);
        let read = File::open(&path).and_then(|file| {
            let mut content = vec![0; bytes];
            let mut read = 0;
            while read < bytes {
                let at = offset + u64::try_from(read).expect("a length fits");
                match file.read_at(&mut content[read..], at) {
                    Ok(0) => break,
                    Ok(more) => read += more,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            content.truncate(read);
            Ok(content)
        });
        read.map_err(|error| wrong("reading", &path.display(), &error))
    }
}

fn wrong(doing: &str, what: &dyn std::fmt::Display, error: &io::Error) -> DiskError {
    let text = format!("{doing} {what}: {error}");
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DiskError::Full(text),
        _ => DiskError::Failed(text),
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// When a file was made, in nanoseconds, if the file system says so. It cannot be set, so a copy
/// has another.
pub(crate) fn birth_of(file: &Path) -> Option<u64> {
    let made = fs::metadata(file).and_then(|known| known.created()).ok()?;
    let since = made.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok().filter(|nanos| *nanos > 0)
}

impl Disk for FileDisk {
    fn birth(&mut self, name: &str) -> Option<u64> {
        let original = self.copied_from.as_ref().map(|folder| folder.join(name));
        birth_of(&original.unwrap_or_else(|| self.path(name)))
    }

    fn trusts_copies(&self) -> bool {
        self.trusts_copies
    }

    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let mut names = Vec::new();
        let read = fs::read_dir(&self.folder).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                // The log gives its files plain names, so others are not its own.
                if let (true, Ok(name)) =
                    (entry.file_type()?.is_file(), entry.file_name().into_string())
                {
                    names.push(name);
                }
            }
            Ok(())
        });
        read.map_err(|error| wrong("listing", &self.folder.display(), &error))?;
        Ok(names)
    }

    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.make(name, bytes, Self::fill)
    }

    fn reserve(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.make(name, bytes, Self::keep_room)
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        let found = self.file(name)?.metadata();
        found.map(|found| found.len()).map_err(|error| self.wrong("measuring", name, &error))
    }

    fn read(&mut self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        let size = self.size(name)?;
        let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut content = vec![0; bytes.min(left)];
        let read = self.file(name)?.read_exact_at(&mut content, offset);
        read.map_err(|error| self.wrong("reading", name, &error))?;
        Ok(content)
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let written = self.file(name)?.write_all_at(bytes, offset);
        written.map_err(|error| self.wrong("writing", name, &error))
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskError> {
        // The length was made durable when the file was made.
        let synced = self.file(name)?.sync_data();
        synced.map_err(|error| self.wrong("syncing", name, &error))
    }

    fn release(&mut self, name: &str) {
        self.open.remove(name);
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        self.open.remove(name);
        let removed = fs::remove_file(self.path(name));
        removed.map_err(|error| self.wrong("removing", name, &error))
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let file = self.open.remove(from);
        self.open.remove(to);
        let renamed =
            fs::rename(self.path(from), self.path(to)).and_then(|()| sync_folder(&self.folder));
        renamed.map_err(|error| self.wrong("renaming", from, &error))?;
        if let Some(file) = file {
            self.keep(to, file);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_length_it_was_made_with_and_is_all_zeros() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::open(&folder.path().join("log")).unwrap();
        let bytes = ZEROS_BYTES + 513;
        disk.create("a", u64::try_from(bytes).unwrap()).unwrap();
        assert_eq!(disk.size("a").unwrap(), u64::try_from(bytes).unwrap());
        assert_eq!(disk.read("a", 0, usize::MAX).unwrap(), vec![0; bytes]);
        disk.create("a", 0).unwrap();
        assert_eq!(disk.size("a").unwrap(), 0);
        disk.reserve("a", u64::try_from(bytes).unwrap()).unwrap();
        assert_eq!(disk.size("a").unwrap(), u64::try_from(bytes).unwrap());
        assert_eq!(disk.read("a", 0, usize::MAX).unwrap(), vec![0; bytes]);
    }

    #[test]
    fn what_is_written_is_read_and_short_only_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::open(folder.path()).unwrap();
        disk.create("a", 8).unwrap();
        disk.write("a", 2, b"abc").unwrap();
        disk.sync("a").unwrap();
        assert_eq!(disk.read("a", 1, 3).unwrap(), b"\0ab");
        assert_eq!(disk.read("a", 4, 100).unwrap(), b"c\0\0\0");
        assert_eq!(disk.read("a", 100, 100).unwrap(), b"");
        let files = FolderFiles::new(folder.path());
        assert_eq!(files.read("a", 1, 3).unwrap(), b"\0ab");
        assert_eq!(files.read("a", 4, 100).unwrap(), b"c\0\0\0");
        assert_eq!(files.read("a", 100, 100).unwrap(), b"");
        assert!(files.read("b", 0, 1).is_err());
    }

    #[test]
    fn a_renamed_file_is_there_by_its_new_name_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::open(folder.path()).unwrap();
        disk.create("a", 1).unwrap();
        disk.create("b", 2).unwrap();
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.list().unwrap(), ["b"]);
        assert_eq!(disk.size("b").unwrap(), 1);
        disk.write("b", 0, b"x").unwrap();
        assert!(disk.size("a").is_err());
        disk.remove("b").unwrap();
        assert!(disk.list().unwrap().is_empty());
        assert!(disk.remove("b").is_err());
    }

    #[test]
    fn a_folder_is_not_a_file_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("other")).unwrap();
        assert!(FileDisk::open(folder.path()).unwrap().list().unwrap().is_empty());
    }

    #[test]
    fn no_more_files_are_open_than_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let mut disk = FileDisk::open(folder.path()).unwrap();
        for number in 0..3 * OPEN_FILES_MAX {
            disk.create(&number.to_string(), 1).unwrap();
        }
        for number in 0..3 * OPEN_FILES_MAX {
            disk.write(&number.to_string(), 0, b"x").unwrap();
            assert!(disk.open.len() <= OPEN_FILES_MAX);
        }
    }

    #[test]
    fn who_makes_a_segment_for_another_does_not_hold_it_open() {
        use storage::{Log, LogOptions};
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions { segment_bytes: 16 << 10 };
        let (mut log, _) = Log::open(FileDisk::open(folder.path()).unwrap(), options).unwrap();
        let mut other = FileDisk::open(folder.path()).unwrap();
        let next = log.wanted().unwrap();
        next.make(&mut other, false).unwrap();
        log.adopt(next).unwrap();
        assert!(other.open.is_empty());
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let full = io::Error::from(ErrorKind::StorageFull);
        assert!(wrong("writing", &"a", &full).is_full());
        assert!(!wrong("writing", &"a", &io::Error::from(ErrorKind::NotFound)).is_full());
    }

    #[test]
    fn a_log_on_real_files_comes_back() {
        use storage::{Log, LogOptions, LogRecord};
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions { segment_bytes: 16 << 10 };
        let vote = |term| LogRecord::Vote {
            group: protocol::GroupId(1),
            term: protocol::Term(term),
            voted_for: protocol::ReplicaId(2),
            commit: protocol::Position(0),
        };
        let (mut log, _) = Log::open(FileDisk::open(folder.path()).unwrap(), options).unwrap();
        for term in 1..=200 {
            log.append(&[vote(term)]).unwrap();
            log.sync().unwrap();
        }
        drop(log);
        let (_, recovered) = Log::open(FileDisk::open(folder.path()).unwrap(), options).unwrap();
        assert_eq!(recovered.groups[&protocol::GroupId(1)].term, protocol::Term(200));
    }
}
