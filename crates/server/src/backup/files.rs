//! The files of a backup, written and read page by page.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use blake2::{Blake2s256, Digest};
use node::Page;

use super::manifest::{self, GroupFile, Manifest, file_name, in_hex};
use crate::Failure;
use crate::disk::{FILE_MODE, FOLDER_MODE, sync_folder};

/// A longer page is no page of ours.
const PAGE_BYTES_MAX: u32 = 72 << 20;

/// What is written is made durable this often, so that a slow disk shows early. Were all of it left
/// for the end, the nodes would hear nothing for longer than they wait.
const SYNC_BYTES: u64 = 64 << 20;

/// The first line of each file, with the backup and the group behind it.
const MARK: &str = "amrita backup";

/// Its length.
const MARK_BYTES: u64 = 13;

/// Writes a backup into a folder.
pub struct BackupWriter {
    folder: PathBuf,
    manifest: Manifest,
    /// What becomes the manifest. It is locked for as long as this command writes here.
    fresh: File,
}

/// Writes the file of one group.
pub struct GroupWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hash: Blake2s256,
    bytes: u64,
    /// How much of that is durable.
    synced: u64,
    entry: GroupFile,
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(format!("{} cannot be written: {error}", path.display()));
    match error.kind() {
        ErrorKind::StorageFull => failure.advise("make room, or name another folder with --to"),
        _ => failure,
    }
}

impl BackupWriter {
    /// In a folder that is empty, or is made. What is left of a backup that was cut short is
    /// removed.
    ///
    /// # Errors
    /// When it has something else, or cannot be written.
    pub fn create(folder: &Path, manifest: Manifest) -> Result<Self, Failure> {
        make_durably(folder).map_err(|error| failed(folder, &error))?;
        // Nothing is made in a folder that has something else.
        left_in(folder)?;
        let fresh = locked(folder)?;
        for path in left_in(folder)? {
            fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        }
        let manifest = Manifest { format: manifest::FORMAT, groups: Vec::new(), ..manifest };
        Ok(Self { folder: folder.to_owned(), manifest, fresh })
    }

    /// Begins the file of a group.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn group(&self, entry: GroupFile) -> Result<GroupWriter, Failure> {
        let path = self.folder.join(entry.file_name());
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let file = options.open(&path).map_err(|error| failed(&path, &error))?;
        let (file, hash) = (BufWriter::with_capacity(1 << 20, file), Blake2s256::new());
        let mut writer = GroupWriter { path, file, hash, bytes: 0, synced: 0, entry };
        writer.put(&mark(&self.manifest.backup, writer.entry.group))?;
        Ok(writer)
    }

    /// A group is whole.
    pub fn add(&mut self, entry: GroupFile) {
        self.manifest.groups.push(entry);
    }

    /// All groups are whole: now it is a backup.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<Manifest, Failure> {
        let fresh = self.folder.join(fresh_name());
        let file = &mut self.fresh;
        let written = file.set_len(0).and_then(|()| {
            file.write_all(&manifest::encode(&self.manifest))?;
            file.sync_all()?;
            // The files of the groups must not be missing where the manifest is there.
            sync_folder(&self.folder)?;
            fs::rename(&fresh, self.folder.join(manifest::NAME))?;
            sync_folder(&self.folder)
        });
        written.map_err(|error| failed(&fresh, &error))?;
        Ok(self.manifest)
    }
}

/// Makes the folder and those that are missing above it, and makes all of their names durable.
fn make_durably(folder: &Path) -> io::Result<()> {
    let is_missing = |it: &&Path| !it.as_os_str().is_empty() && !it.exists();
    let missing = folder.ancestors().take_while(is_missing).count();
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    // The name of one that is there may have been left by a command that ended in the middle.
    for above in folder.canonicalize()?.ancestors().skip(1).take(missing.max(1)) {
        match sync_folder(above) {
            // Its name was there before, in a folder that only others may read.
            Err(error) if missing == 0 && error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// What is left there of a backup that was cut short, but for what becomes the manifest.
fn left_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut left = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == manifest::NAME {
            return Err(Failure::new(format!("{} has a backup already", folder.display()))
                .advise("name another folder with --to: a backup is never written over"));
        }
        if name == fresh_name() {
            continue;
        }
        if !is_of_a_backup(&name, &entry.path()) {
            return Err(Failure::new(format!("{} has something else: {name}", folder.display()))
                .advise("name an empty folder, or one that is not there, with --to"));
        }
        left.push(entry.path());
    }
    Ok(left)
}

/// Whether a file was begun as that of a group: by its name, and by how it begins.
fn is_of_a_backup(name: &str, path: &Path) -> bool {
    let number = name.strip_prefix("group-").unwrap_or("");
    if number.is_empty() || !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return false;
    }
    // To open something else might wait for ever.
    if !fs::symlink_metadata(path).is_ok_and(|known| known.is_file()) {
        return false;
    }
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MARK_BYTES).read_to_end(&mut begin));
    // Of one that was killed early nothing may be on the disk.
    read.is_ok() && MARK.as_bytes().starts_with(&begin)
}

/// The file that becomes the manifest, locked.
fn locked(folder: &Path) -> Result<File, Failure> {
    let path = folder.join(fresh_name());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(FILE_MODE);
    let file = options.open(&path).map_err(|error| failed(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::new(format!(
            "another command is writing a backup into {}",
            folder.display()
        ))
        .advise("name another folder with --to, or wait for that command")),
        Err(TryLockError::Error(error)) => Err(failed(&path, &error)),
    }
}

fn fresh_name() -> String {
    format!("{}.new", manifest::NAME)
}

fn mark(backup: &str, group: u32) -> Vec<u8> {
    format!("{MARK} {backup} group {group}\n").into_bytes()
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length fits")
}

impl GroupWriter {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.hash.update(bytes);
        self.bytes += length_of(bytes);
        self.file.write_all(bytes).map_err(|error| failed(&self.path, &error))?;
        if self.bytes - self.synced < SYNC_BYTES {
            return Ok(());
        }
        self.synced = self.bytes;
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        synced.map_err(|error| failed(&self.path, &error))
    }

    /// Writes a page as it came. What the next page is asked for by, if there is one.
    ///
    /// # Errors
    /// When it is no page, or cannot be written.
    pub fn page(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let page = Page::decode(bytes).map_err(Failure::new)?;
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= PAGE_BYTES_MAX);
        let length = length.ok_or_else(|| Failure::new("a page of a backup is too long"))?;
        self.put(&length.to_le_bytes())?;
        self.put(bytes)?;
        Ok(Some(page.next).filter(|next| !next.is_empty()))
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file is whole, and durable.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<GroupFile, Failure> {
        let Self { path, file, hash, bytes, entry, .. } = self;
        let file = file.into_inner().map_err(|error| failed(&path, error.error()))?;
        file.sync_all().map_err(|error| failed(&path, &error))?;
        Ok(GroupFile { bytes, checksum: in_hex(&hash.finalize()), ..entry })
    }
}

/// Reads a group's file: each page is shown in order, and the checksum is compared in the end. Who
/// acts on a page before that has checked the file before.
///
/// # Errors
/// What is wrong with the file, or what `visit` says.
pub(super) fn read_group(
    folder: &Path,
    manifest: &Manifest,
    entry: &GroupFile,
    visit: &mut dyn FnMut(Page, u64) -> Result<(), String>,
) -> Result<(), Failure> {
    let path = folder.join(file_name(entry.group));
    let wrong = |why: String| {
        Failure::new(format!("{} ({}): {why}", path.display(), entry.name()))
            .advise("use another copy of this backup, or another backup")
    };
    let file = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => wrong("the file is missing".into()),
        _ => wrong(format!("it cannot be read: {error}")),
    })?;
    let length = file.metadata().map_err(|error| wrong(error.to_string()))?.len();
    let mut reader =
        Hashing { file: BufReader::with_capacity(1 << 20, file), hash: Blake2s256::new() };
    let cut =
        || wrong(format!("it has {length} bytes, and {} were written: it was cut", entry.bytes));
    let io = |error: io::Error| match error.kind() {
        ErrorKind::UnexpectedEof if length < entry.bytes => cut(),
        ErrorKind::UnexpectedEof => wrong("it ends within a page".into()),
        _ => wrong(format!("it cannot be read: {error}")),
    };
    let expected = mark(&manifest.backup, entry.group);
    let mut found = vec![0; expected.len()];
    reader.read_exact(&mut found).map_err(io)?;
    if found != expected {
        let text = if found.starts_with(MARK.as_bytes()) {
            "it is a file of another backup, or of another group"
        } else {
            "it is no file of a backup"
        };
        return Err(wrong(text.into()));
    }
    if length < entry.bytes {
        return Err(cut());
    }
    if length > entry.bytes {
        return Err(wrong(format!("it has {length} bytes, and {} were written", entry.bytes)));
    }
    let mut at = length_of(&expected);
    while at < entry.bytes {
        let mut bytes = [0; 4];
        reader.read_exact(&mut bytes).map_err(io)?;
        let page = u32::from_le_bytes(bytes);
        if page > PAGE_BYTES_MAX || entry.bytes - at < 4 + u64::from(page) {
            return Err(wrong(format!("the page at byte {at} is damaged")));
        }
        let mut bytes = vec![0; usize::try_from(page).expect("a page fits into memory")];
        reader.read_exact(&mut bytes).map_err(io)?;
        let decoded = Page::decode(&bytes).map_err(|why| wrong(format!("at byte {at}: {why}")))?;
        at += 4 + u64::from(page);
        visit(decoded, at).map_err(|why| wrong(format!("before byte {at}: {why}")))?;
    }
    if in_hex(&reader.hash.finalize()) != entry.checksum {
        return Err(wrong("its checksum is another one: it is damaged".into()));
    }
    Ok(())
}

struct Hashing {
    file: BufReader<File>,
    hash: Blake2s256,
}

impl Read for Hashing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.hash.update(&into[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_backup_has_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let create = || BackupWriter::create(folder.path(), Manifest::default());
        let names = || fs::read_dir(folder.path()).unwrap().count();
        for (name, text) in [("group-policy.txt", ""), ("group-1", "my own text, much longer")] {
            put(name, text);
            let why = create().err().expect("it is not ours").to_string();
            assert!(why.contains("something else") && why.contains(name), "{why}");
            assert_eq!(names(), 1, "nothing was made or removed");
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        put("group-1", "amrita backup ff group 1\n");
        put("group-2", "");
        let first = create().unwrap();
        assert_eq!(names(), 1, "only what becomes the manifest");
        let why = create().err().expect("one at a time").to_string();
        assert!(why.contains("another command"), "{why}");
        first.finish().unwrap();
        let why = create().err().expect("it is there").to_string();
        assert!(why.contains("has a backup already"), "{why}");
    }
}
