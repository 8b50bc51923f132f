//! The data key of an encrypted sandbox: `encryption.json`, where it stands encrypted under the key
//! that the user gives.
//!
//! The key of the user is not stored anywhere. Its fingerprint is, so that a wrong key is told from
//! a damaged file. Every question is answered before anything in the sandbox is touched.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use protocol::base64url;
use serde::{Deserialize, Serialize};
use storage::{DataKey, KEY_BYTES, Purpose, SALT_BYTES, Sealer};

use crate::Failure;
use crate::disk::{FILE_MODE, sync_folder};

/// The form of the file that this program writes. It reads 1 as well, whose checksum was of the
/// keys only.
const FORMAT: u32 = 2;

const FILE: &str = "encryption.json";

/// What the data key is bound to when it is sealed.
const ABOUT: &[u8] = b"amrita data key";

/// The contents of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Keyring {
    format: u32,
    /// The fingerprint of the user's key.
    key: String,
    /// The data key, sealed. Empty when the sandbox is not encrypted any more.
    data_key: String,
    /// The checksum of all the others: a file that is damaged is not taken for a wrong key.
    sum: u32,
    /// All of the sandbox is written anew, and is still to be moved to its place.
    #[serde(default)]
    pub(crate) is_moving: bool,
}

/// Fills bytes with chance.
fn fresh<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has a source of random numbers");
    bytes
}

/// Seals under that key. Each one has a salt of its own.
pub(crate) fn sealer(key: &DataKey) -> Sealer {
    Sealer::new(key.clone(), fresh::<SALT_BYTES>())
}

pub(crate) fn shown(key: &DataKey) -> String {
    format!("{:016x}", key.fingerprint())
}

impl Keyring {
    /// A new data key, under the key of the user.
    pub(crate) fn make(key: &DataKey) -> (Self, DataKey) {
        let bytes = fresh::<KEY_BYTES>();
        (Self::of(key, &bytes), DataKey::new(&bytes))
    }

    fn of(key: &DataKey, bytes: &[u8; KEY_BYTES]) -> Self {
        let sealed = sealer(key).seal(Purpose::Key, ABOUT, bytes);
        Self::with(shown(key), base64url::encode(&sealed))
    }

    fn with(key: String, data_key: String) -> Self {
        let ring = Self { format: FORMAT, key, data_key, sum: 0, is_moving: false };
        Self { sum: ring.due_sum(), ..ring }
    }

    /// Of a sandbox that was encrypted and is not any more.
    pub(crate) fn none() -> Self {
        Self::with(String::new(), String::new())
    }

    pub(crate) fn is_none(&self) -> bool {
        self.data_key.is_empty()
    }

    /// The file of that folder, if it has one.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = folder.join(FILE);
        let unreadable = |why: String| {
            Failure::new(format!("{} cannot be read: {why}", path.display())).advise(
                "without it nobody can read the sandbox; put it back from a copy (it does not \
                 change unless the key does), or move the whole folder away and start again: a \
                 node of a cluster is then filled from its peers",
            )
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error.to_string())),
        };
        let ring: Self =
            serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if ring.format > FORMAT {
            return Err(Failure::new(format!(
                "{} has format {}, this program reads up to {FORMAT}",
                path.display(),
                ring.format
            ))
            .advise("use the version of amrita that wrote it, or a later one"));
        }
        if ring.format == 0 || ring.sum != ring.due_sum() {
            return Err(unreadable("it is damaged: its checksum does not fit".into()));
        }
        // Without a key it is there only as long as something is to be moved.
        if ring.is_none() && !ring.is_moving {
            return Err(unreadable("it is damaged: there is no key in it".into()));
        }
        Ok(Some(ring))
    }

    /// The data key; nothing when that is not the key of the user.
    pub(crate) fn open(&self, key: &DataKey) -> Option<DataKey> {
        self.bytes(key).map(|bytes| DataKey::new(&bytes))
    }

    fn bytes(&self, key: &DataKey) -> Option<[u8; KEY_BYTES]> {
        let sealed = base64url::decode(&self.data_key)?;
        key.open(Purpose::Key, ABOUT, &sealed)?.try_into().ok()
    }

    /// The same data key under another key of the user.
    pub(crate) fn under(&self, old: &DataKey, new: &DataKey) -> Option<Self> {
        Some(Self::of(new, &self.bytes(old)?))
    }

    pub(crate) fn moving(self, is_moving: bool) -> Self {
        let ring = Self { format: FORMAT, is_moving, ..self };
        Self { sum: ring.due_sum(), ..ring }
    }

    fn due_sum(&self) -> u32 {
        let Self { format, key, data_key, is_moving, .. } = self;
        let text = match format {
            1 => format!("{key} {data_key}"),
            _ => format!("{format} {key} {data_key} {is_moving}"),
        };
        crc32fast::hash(text.as_bytes())
    }

    /// The fingerprint of the key that it is under.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Whole or not at all; durable when it returns.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let fresh = folder.join(format!("{FILE}.new"));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(FILE_MODE);
        let written = options.open(&fresh).and_then(|mut file| {
            let text = serde_json::to_vec_pretty(self).expect("it is made of texts and numbers");
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, folder.join(FILE))?;
            sync_folder(folder)
        });
        written.map_err(|error| {
            Failure::new(format!("{FILE} in {} cannot be written: {error}", folder.display()))
                .advise("is the disk full, or the folder not this user's?")
        })
    }

    pub(crate) fn remove(folder: &Path) -> io::Result<()> {
        fs::remove_file(folder.join(FILE))?;
        sync_folder(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_key(text: &str) -> DataKey {
        DataKey::of_secret(text.as_bytes())
    }

    #[test]
    fn only_the_key_of_the_user_opens_it_and_damage_is_no_wrong_key() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Keyring::read(folder.path()).unwrap(), None);
        let (ring, data) = Keyring::make(&user_key("one"));
        ring.write(folder.path()).unwrap();
        let read = Keyring::read(folder.path()).unwrap().unwrap();
        assert_eq!(read, ring);
        let opened = read.open(&user_key("one")).unwrap();
        assert_eq!(opened.fingerprint(), data.fingerprint());
        assert!(read.open(&user_key("two")).is_none());
        let moved = read.under(&user_key("one"), &user_key("two")).unwrap();
        assert_eq!(moved.open(&user_key("two")).unwrap().fingerprint(), data.fingerprint());
        let file = folder.path().join(FILE);
        let text = fs::read_to_string(&file).unwrap();
        let damaged = text.replacen(&ring.data_key[..4], "AAAA", 1);
        fs::write(&file, damaged).unwrap();
        let why = Keyring::read(folder.path()).unwrap_err().to_string();
        assert!(why.contains("damaged"), "{why}");
        // The mark counts as well: with it, what is in the sandbox is replaced.
        for (from, to) in [("\"isMoving\": false", "\"isMoving\": true"), ("2,", "1,")] {
            assert!(text.contains(from), "{text}");
            fs::write(&file, text.replacen(from, to, 1)).unwrap();
            assert!(Keyring::read(folder.path()).unwrap_err().to_string().contains("damaged"));
        }
        // Of a later version: nothing is to be put back, or moved away.
        fs::write(&file, text.replacen("2,", "3,", 1)).unwrap();
        let why = Keyring::read(folder.path()).unwrap_err().to_string();
        assert!(why.contains("has format 3") && why.contains("or a later one"), "{why}");
        assert!(!why.contains("move"), "{why}");
        Keyring::none().write(folder.path()).unwrap();
        assert!(Keyring::read(folder.path()).is_err(), "neither a key nor anything to move");
    }

    #[test]
    fn a_file_of_the_first_format_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (ring, _) = Keyring::make(&user_key("one"));
        let sum = crc32fast::hash(format!("{} {}", ring.key, ring.data_key).as_bytes());
        Keyring { format: 1, sum, ..ring }.write(folder.path()).unwrap();
        let read = Keyring::read(folder.path()).unwrap().unwrap();
        assert!(read.open(&user_key("one")).is_some());
        read.moving(true).write(folder.path()).unwrap();
        assert!(Keyring::read(folder.path()).unwrap().unwrap().is_moving);
    }
}
