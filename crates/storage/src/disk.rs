//! The seam to the disk: one flat folder of files, with an explicit word for "durable".

use std::error::Error;
use std::fmt;

/// One flat folder of files. The real one is the shell's; [`crate::MemoryDisk`] is for tests and
/// the simulator.
///
/// A sector of 512 bytes is the unit that a crash keeps or loses of what was written and not
/// synced; sectors may become durable in any order.
pub trait Disk: Send {
    /// The names of all files, in no particular order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn list(&mut self) -> Result<Vec<String>, DiskError>;

    /// Makes a file of `bytes` zero bytes; when it returns, name, length and zeros are durable. A
    /// file that has this name already is replaced.
    ///
    /// # Errors
    /// [`DiskError::Full`] when there is no room; a shorter file may then remain.
    fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError>;

    /// The same at once: room is kept on the disk, and zeros are read, but need not have been
    /// written. Later syncs may take longer than in a file that was [created](Disk::create).
    ///
    /// # Errors
    /// As [`Disk::create`].
    fn reserve(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
        self.create(name, bytes)
    }

    /// The length of a file in bytes.
    ///
    /// # Errors
    /// When there is no such file.
    fn size(&mut self, name: &str) -> Result<u64, DiskError>;

    /// When the file was made, if the disk knows: a number that a copy of the file does not have. A
    /// file that is written, or gets another name, keeps it.
    fn birth(&mut self, _name: &str) -> Option<u64> {
        None
    }

    /// A person has said that copies of files are as good as those that were written.
    fn trusts_copies(&self) -> bool {
        false
    }

    /// Up to `bytes` bytes from `offset` on; fewer only at the end of the file.
    ///
    /// # Errors
    /// When there is no such file or it cannot be read.
    fn read(&mut self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError>;

    /// Writes inside the length that the file was made with. Not durable until [`Disk::sync`].
    ///
    /// # Errors
    /// When it cannot be written; a part of it may have been.
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// When it returns, all earlier writes to that file are durable.
    ///
    /// # Errors
    /// When that is not sure.
    fn sync(&mut self, name: &str) -> Result<(), DiskError>;

    /// This view of the folder is done with a file, which is another view's from now on. A file
    /// that is held open does not give its room back when it is removed.
    fn release(&mut self, _name: &str) {}

    /// Removes a file; after a crash it may be there again until a later rename or create.
    ///
    /// # Errors
    /// When there is no such file or it cannot be removed.
    fn remove(&mut self, name: &str) -> Result<(), DiskError>;

    /// Gives a file another name, in place of a file that had it; durable when it returns.
    ///
    /// # Errors
    /// When there is no such file or it cannot be renamed; either name may then be in force.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;
}

/// Reads the files of a [`Disk`]'s folder beside it, from any thread.
pub trait Files: Send + Sync {
    /// As [`Disk::read`].
    ///
    /// # Errors
    /// As [`Disk::read`].
    fn read(&self, name: &str, offset: u64, bytes: usize) -> Result<Vec<u8>, DiskError>;
}

/// What the disk answered instead of doing as told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// There is no room; it can be tried again when there is.
    Full(String),
    /// Anything else.
    Failed(String),
}

impl DiskError {
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(what) => write!(f, "the disk is full: {what}"),
            Self::Failed(what) => write!(f, "the disk failed: {what}"),
        }
    }
}

impl Error for DiskError {}

/// Forgets what is written to it: for a log that is only measured.
pub(crate) struct Nowhere;

impl Disk for Nowhere {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        Ok(Vec::new())
    }

    fn create(&mut self, _name: &str, _bytes: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn size(&mut self, name: &str) -> Result<u64, DiskError> {
        Err(DiskError::Failed(format!("{name} was not kept")))
    }

    fn read(&mut self, name: &str, _offset: u64, _bytes: usize) -> Result<Vec<u8>, DiskError> {
        Err(DiskError::Failed(format!("{name} was not kept")))
    }

    fn write(&mut self, _name: &str, _offset: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn sync(&mut self, _name: &str) -> Result<(), DiskError> {
        Ok(())
    }

    fn remove(&mut self, _name: &str) -> Result<(), DiskError> {
        Ok(())
    }

    fn rename(&mut self, _from: &str, _to: &str) -> Result<(), DiskError> {
        Ok(())
    }
}

macro_rules! pass_on {
    ($type:ty) => {
        impl<D: Disk + ?Sized> Disk for $type {
            fn list(&mut self) -> Result<Vec<String>, DiskError> {
                (**self).list()
            }
            fn create(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
                (**self).create(name, bytes)
            }
            fn reserve(&mut self, name: &str, bytes: u64) -> Result<(), DiskError> {
                (**self).reserve(name, bytes)
            }
            fn size(&mut self, name: &str) -> Result<u64, DiskError> {
                (**self).size(name)
            }
            fn birth(&mut self, name: &str) -> Option<u64> {
                (**self).birth(name)
            }
            fn trusts_copies(&self) -> bool {
                (**self).trusts_copies()
            }
            fn read(
                &mut self,
                name: &str,
                offset: u64,
                bytes: usize,
            ) -> Result<Vec<u8>, DiskError> {
                (**self).read(name, offset, bytes)
            }
            fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
                (**self).write(name, offset, bytes)
            }
            fn sync(&mut self, name: &str) -> Result<(), DiskError> {
                (**self).sync(name)
            }
            fn release(&mut self, name: &str) {
                (**self).release(name);
            }
            fn remove(&mut self, name: &str) -> Result<(), DiskError> {
                (**self).remove(name)
            }
            fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
                (**self).rename(from, to)
            }
        }
    };
}

pass_on!(&mut D);
pass_on!(Box<D>);
