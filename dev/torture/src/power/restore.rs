//! Takes back what was not synced when the power went.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

use random::Random;

/// The unit that a disk keeps or loses.
const SECTOR_BYTES: u64 = 512;

/// The offset of the record that has the length of the file.
const LENGTH: u64 = u64::MAX;

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    pub names: u64,
    pub bytes: u64,
}

impl Taken {
    pub fn add(&mut self, other: Self) {
        self.names += other.names;
        self.bytes += other.bytes;
    }
}

/// What becomes of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lost,
    Kept,
    /// Some sectors are lost.
    Torn,
}

impl Fate {
    fn of(random: &mut Random) -> Self {
        *random.pick(&[Self::Lost, Self::Lost, Self::Kept, Self::Torn])
    }
}

/// The power is back: `root` is what was durable, and perhaps some of what was not. The notes
/// begin anew.
///
/// # Errors
/// When files cannot be read or written.
pub fn restore(root: &Path, notes: &Path, random: &mut Random) -> io::Result<Taken> {
    let mut taken = Taken::default();
    if root.exists() {
        names(root, notes, random, &mut taken)?;
        files(root, notes, random, &mut taken)?;
    }
    for kind in ["u", "s", "f", "d"] {
        let folder = notes.join(kind);
        for entry in fs::read_dir(&folder)? {
            fs::remove_file(entry?.path())?;
        }
    }
    Ok(taken)
}

/// The names that a folder durably has, with their inodes; `true` for folders.
fn durable_names(folder: &Path, notes: &Path) -> io::Result<BTreeMap<String, (u64, bool)>> {
    let inode = fs::metadata(folder)?.ino();
    let list = match fs::read_to_string(notes.join("d").join(inode.to_string())) {
        Ok(list) => list,
        // It was made and never synced: it has no names.
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let name = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let inode = parts.next()?.parse().ok()?;
        let is_folder = parts.next()? == "d";
        Some((parts.next()?.to_owned(), (inode, is_folder)))
    };
    Ok(list.lines().filter_map(name).collect())
}

fn names(folder: &Path, notes: &Path, random: &mut Random, taken: &mut Taken) -> io::Result<()> {
    let durable = durable_names(folder, notes)?;
    // Of names it is all or nothing: a file system writes them in order.
    if random.chance(600) {
        for entry in fs::read_dir(folder)? {
            let (entry, path) = (entry.as_ref(), entry.as_ref().map(fs::DirEntry::path));
            let (Ok(entry), Ok(path)) = (entry, path) else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            let found = fs::symlink_metadata(&path)?;
            if durable.get(&name).is_some_and(|(inode, _)| *inode == found.ino()) {
                continue;
            }
            taken.names += 1;
            if found.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
        for (name, (inode, is_folder)) in &durable {
            let path = folder.join(name);
            if path.exists() {
                continue;
            }
            taken.names += 1;
            if *is_folder {
                fs::create_dir(&path)?;
            } else {
                fs::hard_link(notes.join("f").join(inode.to_string()), &path)?;
            }
        }
    }
    for entry in sorted(folder)? {
        if entry.is_dir() {
            names(&entry, notes, random, taken)?;
        }
    }
    Ok(())
}

/// In an order that is the same each time.
fn sorted(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(folder)?;
    let mut paths = entries.map(|it| it.map(|it| it.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn files(folder: &Path, notes: &Path, random: &mut Random, taken: &mut Taken) -> io::Result<()> {
    for path in sorted(folder)? {
        let found = fs::symlink_metadata(&path)?;
        if found.is_dir() {
            files(&path, notes, random, taken)?;
        } else if found.is_file() {
            let (fate, torn) = (Fate::of(random), random.draw());
            take_back_from(&path, notes, fate, torn, taken)?;
        }
    }
    Ok(())
}

/// Takes back what is noted of a file.
fn take_back_from(
    path: &Path,
    notes: &Path,
    fate: Fate,
    torn: u64,
    taken: &mut Taken,
) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let born = found.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let born = born.map_or(0, |born| born.as_nanos());
    let note = format!("{}-{born}", found.ino());
    // The newest first.
    for kind in ["u", "s"] {
        match fs::read(notes.join(kind).join(&note)) {
            Ok(records) => take_back(path, &records, fate, torn, taken)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A part of a file as it was.
struct Record<'a> {
    offset: u64,
    length: u64,
    bytes: &'a [u8],
}

/// The last one may be unfinished: the process ended while it was written, and before the file was
/// touched.
fn records(mut bytes: &[u8]) -> Vec<Record<'_>> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<16>() {
        let number = |at: usize| {
            u64::from_le_bytes(head[at..at + 8].try_into().expect("it is eight bytes long"))
        };
        let (offset, length) = (number(0), number(8));
        let count = if offset == LENGTH { 0 } else { length };
        let Some(count) = usize::try_from(count).ok().filter(|count| *count <= rest.len()) else {
            break;
        };
        let (data, rest) = rest.split_at(count);
        all.push(Record { offset, length, bytes: data });
        bytes = rest;
    }
    all
}

fn take_back(
    path: &Path,
    bytes: &[u8],
    fate: Fate,
    torn: u64,
    taken: &mut Taken,
) -> io::Result<()> {
    let all = records(bytes);
    let is_lost = |sector: u64| match fate {
        Fate::Lost => true,
        Fate::Kept => false,
        Fate::Torn => Random::of_seed(torn ^ sector).chance(500),
    };
    let file = File::options().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    let was = all.first().filter(|it| it.offset == LENGTH).map_or(size, |it| it.length);
    for record in all.iter().rev().filter(|record| record.offset != LENGTH) {
        let mut at = 0;
        while at < record.length {
            let offset = record.offset + at;
            let next = (SECTOR_BYTES - offset % SECTOR_BYTES).min(record.length - at);
            if is_lost(offset / SECTOR_BYTES) {
                let from = usize::try_from(at).expect("it is in memory");
                let piece = &record.bytes[from..][..usize::try_from(next).expect("it is small")];
                file.write_all_at(piece, offset)?;
                taken.bytes += next;
            }
            at += next;
        }
    }
    if fate == Fate::Lost || (fate == Fate::Torn && is_lost(u64::MAX)) {
        taken.bytes += size.saturating_sub(was);
        file.set_len(was)?;
    } else if fate == Fate::Torn {
        // What is behind the old end and did not get there is zeros.
        let mut offset = was;
        while offset < size {
            let next = (SECTOR_BYTES - offset % SECTOR_BYTES).min(size - offset);
            if is_lost(offset / SECTOR_BYTES) {
                let zeros = vec![0; usize::try_from(next).expect("it is small")];
                file.write_all_at(&zeros, offset)?;
                taken.bytes += next;
            }
            offset += next;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs `race.c` below the library, with what is given beside the file, and takes back
    /// everything that was not synced. What the file was when its sync returned, and what it is.
    fn race(pause: &str, how: &str) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let library = super::super::build(folder.path()).unwrap();
        let (text, program) = (folder.path().join("race.c"), folder.path().join("race"));
        fs::write(&text, include_str!("race.c")).unwrap();
        let mut cc = Command::new("cc");
        cc.arg("-o").arg(&program).arg(&text).arg("-lpthread");
        assert!(cc.status().unwrap().success());
        let (root, notes) = (folder.path().join("root"), folder.path().join("notes"));
        let mut command = Command::new(program);
        super::super::watch(&mut command, &library, &root, &notes).unwrap();
        let file = root.join("file");
        fs::write(&file, "was here").unwrap();
        let output = command.arg(&file).arg(how).env("UNSYNCED_PAUSE", pause).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "came now");
        take_back_from(&file, &notes, Fate::Lost, 0, &mut Taken::default()).unwrap();
        (String::from_utf8(output.stdout).unwrap(), fs::read_to_string(&file).unwrap())
    }

    #[test]
    fn a_write_is_lost_unless_it_came_before_a_sync() {
        let of_synced = race("0", "after");
        assert_eq!(of_synced, ("was here".to_owned(), "was here".to_owned()));
        let of_synced = race("0", "before");
        assert_eq!(of_synced, ("came now".to_owned(), "came now".to_owned()));
    }

    /// A sync in the middle of a write must not take the note of what it has not synced.
    #[test]
    fn a_sync_and_a_write_come_one_after_the_other() {
        let (synced, left) = race("400", "meanwhile");
        assert_eq!(left, synced);
    }
}
