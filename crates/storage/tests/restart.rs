//! What it takes to open a log of a gibibyte: time and memory. A measurement, with nothing to fail.
//!
//! ```text
//! cargo test --release -p storage --test restart -- --ignored --nocapture
//! ```
//!
//! 16 groups with entries of 1,000 bytes and one with entries of 64 KiB, in real files in the
//! folder for temporary files; the pages are in the system's memory. It says how long the log took
//! to open, and how much the process grew by that.

#![expect(
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "it measures real files with a real clock, and says what it found"
)]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use protocol::{GroupId, Position, Term};
use storage::{Disk, DiskError, Entry, EntryKind, Log, LogOptions, LogRecord};

const LOG_BYTES: usize = 1 << 30;
const OPTIONS: LogOptions = LogOptions { segment_bytes: 32 << 20 };

/// Files, without any care for durability.
struct Folder(PathBuf);

impl Folder {
    fn open(&self, name: &str) -> Result<File, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.open(self.0.join(name)).map_err(|error| wrong(&error))
    }
}

fn wrong(error: &std::io::Error) -> DiskError {
    DiskError::Failed(error.to_string())
}

impl Disk for Folder {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let files = fs::read_dir(&self.0).map_err(|error| wrong(&error))?;
        Ok(files.filter_map(|file| file.ok()?.file_name().into_string().ok()).collect())
    }
    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.open(name)?.set_len(bytes).map_err(|error| wrong(&error))
    }
    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        self.open(name)?.metadata().map(|found| found.len()).map_err(|error| wrong(&error))
    }
    fn read(&mut self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        let mut content = vec![0; bytes];
        let read = self.open(name)?.read_at(&mut content, offset).map_err(|error| wrong(&error))?;
        content.truncate(read);
        Ok(content)
    }
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.open(name)?.write_all_at(bytes, offset).map_err(|error| wrong(&error))
    }
    fn sync(&mut self, _name: &str) -> Result<(), DiskError> {
        Ok(())
    }
    fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        fs::remove_file(self.0.join(name)).map_err(|error| wrong(&error))
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        fs::rename(self.0.join(from), self.0.join(to)).map_err(|error| wrong(&error))
    }
}

/// What the process holds in memory, and the most that it ever held, in MiB.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("it is there");
        let number = line.split_whitespace().nth(1).expect("a number follows");
        number.parse::<u64>().expect("it is a number") >> 10
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn fill(folder: &Path) {
    let (mut log, _) = Log::open(Folder(folder.to_owned()), OPTIONS).expect("an empty folder");
    let mut entries = [0_u64; 17];
    let mut written = 0;
    while written < LOG_BYTES {
        let mut records = Vec::new();
        for group in (0..16).chain((written % (4 << 20) < (64 << 10)).then_some(16)) {
            entries[group] += 1;
            let bytes = if group == 16 { 64 << 10 } else { 1_000 };
            let (position, term) = (Position(entries[group]), Term(1));
            let data = Bytes::from(vec![7; bytes]);
            let entry = Entry { position, term, kind: EntryKind::Normal, data };
            let group = GroupId(u32::try_from(group).expect("small"));
            records.push(LogRecord::Entry { group, entry });
            written += bytes;
        }
        log.append(&records).expect("there is room");
        log.sync().expect("there is room");
    }
}

#[test]
#[ignore = "a measurement"]
fn a_log_of_a_gibibyte_is_opened() {
    let folder = std::env::temp_dir().join(format!("restart-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for temporary files");
    fill(&folder);
    let (before, _) = memory();
    let begun = Instant::now();
    let opened = Log::open(Folder(folder.clone()), OPTIONS).expect("the log is sound");
    let took = begun.elapsed();
    let (after, most) = memory();
    println!(
        "{} groups, {} bytes of log: {took:.2?}, from {before} to {after} MiB (at most {most} so \
         far)",
        opened.1.groups.len(),
        opened.0.size().1,
    );
    fs::remove_dir_all(&folder).expect("the files are ours");
}
