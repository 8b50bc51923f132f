//! A recording is what a replica has of an instance, to be replayed elsewhere: a checkpoint, and
//! what was logged since then. It is asked for page by page, or is a file. Making a recording
//! changes nothing in the instance.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use bytes::Bytes;
use protocol::{GroupId, Position};
use serde::{Deserialize, Serialize};
use storage::{Reader, Space, StoreError};

use crate::base::record::{BaseRecord, read_chunk, read_output};
use crate::machine::instance::Instance;
use crate::output::output_state::OutputState;

/// The version of the encoding.
const VERSION: u32 = 7;

/// The first bytes of a file.
const MAGIC: &[u8; 17] = b"amrita-recording\n";

/// The size of a page of the log. A page has at least one entry, however long it is.
pub const PAGE_BYTES: usize = 1 << 20;

/// The longest part of a file. No entry, chunk or head is longer.
const PART_BYTES_MAX: u32 = 80 << 20;

/// The head of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    version: u32,
    pub name: String,
    pub group: GroupId,
    /// The node whose replica was recorded.
    pub node: String,
    pub base: BaseRecord,
    /// What the program had sent at the base, without the messages themselves.
    pub output: OutputState,
    /// How many inputs there were when the recording was asked for.
    pub inputs: u64,
    /// The inputs that were taken out.
    pub skipped: BTreeSet<u64>,
    /// How many partitions of documents there are: they decide to which of them a link belongs.
    pub partitions: u32,
}

/// An entry of the log and its position.
pub type Recorded = (Position, Bytes);

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    Head(Box<Recording>),
    /// A piece of the checkpoint, in order.
    Chunk(Bytes),
    Entries(Vec<Recorded>),
    /// Nothing is missing.
    End,
}

impl Recording {
    /// # Errors
    /// When the bytes are not a recording, or one of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let recording: Self =
            postcard::from_bytes(bytes).map_err(|_| "this is not a recording".to_owned())?;
        recording.checked()
    }

    fn checked(self) -> Result<Self, String> {
        if self.version == VERSION {
            return Ok(self);
        }
        Err(format!(
            "a recording of version {}, and this program reads version {VERSION}",
            self.version
        ))
    }

    pub fn encode(&self) -> Bytes {
        postcard::to_stdvec(self).expect("a recording encodes").into()
    }
}

/// A page of entries, as bytes.
pub fn encode_entries(entries: &[Recorded]) -> Bytes {
    postcard::to_stdvec(entries).expect("entries encode").into()
}

/// # Errors
/// When the bytes are not a page.
pub fn decode_entries(bytes: &[u8]) -> Result<Vec<Recorded>, String> {
    postcard::from_bytes(bytes).map_err(|_| "this is not a page of a recording".to_owned())
}

impl Instance {
    /// The head of a recording. None while no program has begun: there is nothing to replay.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recording(
        &self,
        store: &dyn Reader,
        space: &Space,
    ) -> Result<Option<Recording>, StoreError> {
        if !self.base.has_state() {
            return Ok(None);
        }
        let mut output = read_output(store, space, &self.base.record)?;
        output.forget_messages();
        Ok(Some(Recording {
            version: VERSION,
            name: self.identity.name.clone(),
            group: self.identity.group,
            node: self.identity.node.clone(),
            base: self.base.record.clone(),
            output,
            inputs: self.inputs(),
            skipped: self.history.input_state.skipped.clone(),
            partitions: self.settings.partitions,
        }))
    }

    /// A piece of the checkpoint. None when there is no such piece (any more).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recorded_chunk(
        &self,
        store: &dyn Reader,
        space: &Space,
        number: u32,
    ) -> Result<Option<Bytes>, StoreError> {
        match &self.base.record.blob {
            Some(blob) => read_chunk(store, space, blob, number),
            None => Ok(None),
        }
    }
}

/// Writes the beginning of a file.
///
/// # Errors
/// When it cannot be written.
pub fn write_magic(to: &mut impl Write) -> io::Result<()> {
    to.write_all(MAGIC)
}

/// Writes a part, with a checksum.
///
/// # Errors
/// When it cannot be written.
pub fn write_part(to: &mut impl Write, part: &Part) -> io::Result<()> {
    let bytes = postcard::to_stdvec(part).expect("a part encodes");
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&crc32fast::hash(&bytes).to_le_bytes())?;
    to.write_all(&bytes)
}

/// # Errors
/// When it is not the beginning of such a file.
pub fn read_magic(from: &mut impl Read) -> Result<(), String> {
    let mut magic = [0; MAGIC.len()];
    match from.read_exact(&mut magic) {
        Ok(()) if &magic == MAGIC => Ok(()),
        _ => Err("this is not a recording: `amrita immortal record` makes one".into()),
    }
}

/// # Errors
/// When the file is cut off or damaged there.
pub fn read_part(from: &mut impl Read) -> Result<Part, String> {
    let cut = |_| "the recording is cut off: it was not written to its end".to_owned();
    let mut head = [0; 8];
    from.read_exact(&mut head).map_err(cut)?;
    let (length, crc) = head.split_at(4);
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let (length, crc) = (number(length), number(crc));
    if length > PART_BYTES_MAX {
        return Err(format!("the recording is damaged: a part of {length} bytes"));
    }
    let mut bytes = vec![0; usize::try_from(length).expect("it was just looked at")];
    from.read_exact(&mut bytes).map_err(cut)?;
    if crc32fast::hash(&bytes) != crc {
        return Err("the recording is damaged: a checksum does not hold".into());
    }
    match postcard::from_bytes(&bytes) {
        Ok(Part::Head(recording)) => recording.checked().map(|head| Part::Head(Box::new(head))),
        Ok(part) => Ok(part),
        Err(_) => Err("the recording is damaged: a part cannot be read".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_or_damaged_is_not_taken_for_a_whole_one() {
        let mut file = Vec::new();
        write_magic(&mut file).unwrap();
        let part = Part::Entries(vec![(Position(7), Bytes::from_static(b"entry"))]);
        write_part(&mut file, &part).unwrap();
        write_part(&mut file, &Part::End).unwrap();
        let read = |file: &[u8]| {
            let mut from = file;
            read_magic(&mut from)?;
            Ok((read_part(&mut from)?, read_part(&mut from)?))
        };
        assert_eq!(read(&file), Ok((part, Part::End)));
        for cut in 0..file.len() {
            assert!(read(&file[..cut]).is_err(), "cut at {cut}");
            let mut damaged = file.clone();
            damaged[cut] ^= 1;
            let found: Result<_, String> = read(&damaged);
            assert!(found.is_err(), "damaged at {cut}");
        }
    }
}
