//! A node's machine: how slow and how full its disk is, and what its clock shows. The node runs
//! over a library (`machine.c`) that reads it here.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use random::Random;
use torture::built;

/// The library's text.
const LIBRARY: &str = include_str!("machine.c");

/// What is wrong with a machine; by default, nothing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wrong {
    /// So much longer each sync takes.
    pub(crate) sync: Duration,
    /// No file takes another byte.
    pub(crate) is_full: bool,
    pub(crate) ahead_seconds: i64,
}

pub(crate) struct Machine {
    library: PathBuf,
    /// Where the library looks.
    place: PathBuf,
    file: File,
    sandbox: PathBuf,
}

impl Machine {
    /// In `folder`, where nothing of it is yet.
    pub(crate) fn new(folder: &Path, name: &str) -> Result<Self, String> {
        let library = built(folder, "machine", LIBRARY)?;
        let place = folder.join(format!("{name}.machine"));
        let file = File::create(&place).map_err(|error| error.to_string())?;
        let machine = Self { library, place, file, sandbox: folder.join(name) };
        machine.set(Wrong::default()).map_err(|error| error.to_string())?;
        Ok(machine)
    }

    pub(crate) fn sandbox(&self) -> &Path {
        &self.sandbox
    }

    /// A node that this command starts lives on this machine.
    pub(crate) fn hold(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("AMRITA_BAD_MACHINE", &self.place);
    }

    pub(crate) fn set(&self, wrong: Wrong) -> io::Result<()> {
        let micros = i64::try_from(wrong.sync.as_micros()).expect("it is short");
        let numbers = [micros, i64::from(wrong.is_full), wrong.ahead_seconds * 1_000_000];
        let bytes: Vec<u8> = numbers.into_iter().flat_map(i64::to_ne_bytes).collect();
        self.file.write_all_at(&bytes, 0)
    }

    /// The log is gone.
    pub(crate) fn forget(&self) -> io::Result<()> {
        fs::remove_dir_all(self.sandbox.join("log"))
    }

    /// Flips bits of what is in the state store.
    pub(crate) fn rot(&self, bits: usize, random: &mut Random) -> io::Result<()> {
        let mut files = Vec::new();
        collect(&self.sandbox.join("state"), &mut files)?;
        for _ in 0..bits {
            let (path, length) = random.pick(&files);
            let file = File::options().read(true).write(true).open(path)?;
            let at = random.below(*length);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            byte[0] ^= 1 << random.below(8);
            file.write_all_at(&byte, at)?;
        }
        Ok(())
    }
}

/// All files below a folder that have something in them, and their lengths.
fn collect(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, found) = (entry.path(), entry.metadata()?);
        if found.is_dir() {
            collect(&path, files)?;
        } else if found.len() > 0 {
            files.push((path, found.len()));
        }
    }
    Ok(())
}
