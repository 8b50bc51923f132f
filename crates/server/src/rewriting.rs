//! Opens the key of a sandbox, and writes a sandbox anew under another one: a rotation of the
//! key, the first encryption of a sandbox that was not, or the reverse.
//!
//! All of it happens before the node begins, and has one moment that counts. First everything is
//! written anew into the folder `rewritten`, while the sandbox stays as it is. Then
//! `encryption.json` is replaced, which happens whole or not at all: from that moment on the new
//! key counts and the old one is of no use. Then what is in `rewritten` is moved to its place.
//! Whoever dies before that moment begins again with the old key, and whoever dies after it goes on
//! moving at the next start.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use storage::{Batch, DataKey, Log, LogError, LogOptions, Reader, StoreError};

use crate::disk::{FOLDER_MODE, FileDisk, SEGMENT_BYTES, sync_folder};
use crate::encryption::Encryption;
use crate::keyring::{Keyring, sealer, shown};
use crate::store::FjallStore;
use crate::{Failure, repros};

pub(crate) const LOG: &str = "log";
pub(crate) const STATE: &str = "state";

/// Where everything is written anew.
const REWRITTEN: &str = "rewritten";

/// How much of the state is copied at once, in bytes.
const COPIED_BYTES: usize = 1 << 20;

/// What to do where a sandbox is only read: there is no other flag for its key.
const GIVE_IT: &str = "give the key that it is encrypted under, with --encryption-key-file or \
                       --encryption-key-command";

/// What to do when a sandbox could not be written anew.
const START_AGAIN: &str =
    "nothing of it is lost: start again with the same keys when the cause is mended";

/// No key of the state is greater.
const LAST_KEY: [u8; 64] = [0xff; 64];

/// The key of a sandbox that nobody else uses at present; `None` when it is not encrypted. With the
/// wrong key, or none, nothing is touched.
///
/// # Errors
/// When what the user says does not go with the sandbox, or it cannot be written anew.
pub(crate) fn open(
    root: &Path,
    wanted: &Encryption,
    trusts_copies: bool,
) -> Result<Option<DataKey>, Failure> {
    let (key, old) = (wanted.key()?, wanted.old_key()?);
    let ring = Keyring::read(root)?;
    let users = Users { key: key.as_ref(), old: old.as_ref() };
    let rewriting = |old| Rewriting { root, trusts_copies, old };
    match (ring, key.as_ref()) {
        (Some(ring), _) if ring.is_none() => {
            // It was decrypted, and the last step is missing.
            finish(root, &ring, users)?;
            open(root, wanted, trusts_copies)
        }
        (Some(ring), Some(key)) => match ring.open(key) {
            Some(data) => {
                finish(root, &ring, users)?;
                if old.is_some() || wanted.converts {
                    leave_out(root, "is encrypted under the key that was given");
                }
                Ok(Some(data))
            }
            None => match old.as_ref().and_then(|old| Some((ring.open(old)?, old))) {
                Some((data, old)) => {
                    finish(root, &ring, Users { key: Some(old), old: None })?;
                    rewriting(Some((data, old))).run(Some(key))
                }
                None => Err(wrong_key(root, &ring, key, old.as_ref())),
            },
        },
        (Some(ring), None) => match old.as_ref().and_then(|old| Some((ring.open(old)?, old))) {
            Some((data, old)) if wanted.converts => {
                finish(root, &ring, Users { key: Some(old), old: None })?;
                rewriting(Some((data, old))).run(None)
            }
            _ => Err(no_key(root, &ring)),
        },
        (None, key) => match (key, looks_encrypted(root).map_err(|why| unlooked(root, &why))?) {
            (_, Some(true)) => Err(no_ring(root)),
            (None, _) => {
                drop_half_written(root)?;
                if old.is_some() || wanted.converts {
                    leave_out(root, "is not encrypted");
                }
                Ok(None)
            }
            (Some(key), None) => {
                drop_half_written(root)?;
                let (ring, data) = Keyring::make(key);
                ring.write(root)?;
                Ok(Some(data))
            }
            (Some(key), Some(false)) if wanted.converts => rewriting(None).run(Some(key)),
            (Some(_), Some(false)) => Err(in_clear(root)),
        },
    }
}

/// The key of a sandbox that is only read; `None` when it is not encrypted.
///
/// # Errors
/// When the right key is not given, or the sandbox is being written anew.
pub(crate) fn key_to_read(root: &Path, wanted: &Encryption) -> Result<Option<DataKey>, Failure> {
    let Some(ring) = Keyring::read(root)? else {
        let looked = looks_encrypted(root).map_err(|error| unlooked(root, &error))?;
        let is_sealed = looked == Some(true);
        return if is_sealed { Err(no_ring(root)) } else { Ok(None) };
    };
    if ring.is_none() || ring.is_moving {
        return Err(Failure::new(format!(
            "the sandbox {} is half written anew, under another key or none",
            root.display()
        ))
        .advise("start its node once, with the same encryption flags as before, and stop it"));
    }
    let key = wanted.key()?.ok_or_else(|| no_key(root, &ring).advise(GIVE_IT))?;
    let data = ring.open(&key);
    data.map(Some).ok_or_else(|| wrong_key(root, &ring, &key, None).advise(GIVE_IT))
}

/// The keys of the user: the one that the sandbox is or will be under, and the one before.
#[derive(Clone, Copy)]
struct Users<'a> {
    key: Option<&'a DataKey>,
    old: Option<&'a DataKey>,
}

/// There is nothing to write anew.
fn leave_out(root: &Path, is_so: &str) {
    tracing::info!(
        target: "amrita",
        "the sandbox {} {is_so} already: leave out --encryption-old-key-file (or -command) and \
         --encryption-convert",
        root.display()
    );
}

fn wrong_key(root: &Path, ring: &Keyring, key: &DataKey, old: Option<&DataKey>) -> Failure {
    let given = match old {
        Some(old) => format!("the keys that were given are {} and {}", shown(key), shown(old)),
        None => format!("the key that was given is {}", shown(key)),
    };
    Failure::new(format!(
        "the sandbox {} is encrypted under the key {}; {given}. Nothing was touched",
        root.display(),
        ring.key()
    ))
    .advise(
        "give the key that it is encrypted under. To change the key, give the new one with \
         --encryption-key-file and that one with --encryption-old-key-file",
    )
}

fn no_key(root: &Path, ring: &Keyring) -> Failure {
    Failure::new(format!(
        "the sandbox {} is encrypted under the key {}, and no key was given. Nothing was touched",
        root.display(),
        ring.key()
    ))
    .advise(
        "give it with --encryption-key-file or --encryption-key-command. To write the sandbox anew \
         without encryption, give it as --encryption-old-key-file, with --encryption-convert yes",
    )
}

fn no_ring(root: &Path) -> Failure {
    Failure::new(format!(
        "the sandbox {} is encrypted, but the file encryption.json with its key is missing. \
         Nothing was touched",
        root.display()
    ))
    .advise(
        "put it back from a copy; or move the whole folder away and start again: a node of a \
         cluster is then filled from its peers",
    )
}

fn in_clear(root: &Path) -> Failure {
    Failure::new(format!(
        "the sandbox {} has data that is not encrypted, and a key was given. Nothing was touched",
        root.display()
    ))
    .advise(
        "start once with --encryption-convert yes, and it is written anew, encrypted; or name an \
         empty --sandbox: a node of a cluster is then filled from its peers; or leave the key out",
    )
}

/// Whether what is in the sandbox is encrypted, by the header of a segment; nothing when there is
/// no data.
fn looks_encrypted(root: &Path) -> io::Result<Option<bool>> {
    let (log, state) = (root.join(LOG), root.join(STATE));
    if !log.try_exists()? {
        return Ok(state.try_exists()?.then_some(false));
    }
    for file in fs::read_dir(&log)? {
        let file = file?;
        if !file.file_name().to_string_lossy().ends_with(".log") {
            continue;
        }
        let mut head = [0; 12];
        match fs::File::open(file.path()).and_then(|mut file| file.read_exact(&mut head)) {
            Ok(()) => return Ok(Some(storage::is_sealed_segment(&head))),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(false))
}

/// Finishes what an earlier start has begun: the moving, or the end of one that never came so far.
fn finish(root: &Path, ring: &Keyring, users: Users<'_>) -> Result<(), Failure> {
    if ring.is_moving {
        return finish_moving(root, ring, users);
    }
    drop_half_written(root)?;
    // The old key was given: perhaps it is still needed there.
    if users.old.is_some() { look_at_what_was_put_aside(root, users) } else { Ok(()) }
}

/// Removes what was written anew and never came to count. After a way back to no encryption that
/// was given up, all data would lie there in the clear.
fn drop_half_written(root: &Path) -> Result<(), Failure> {
    let dropped = || -> io::Result<()> {
        let folder = root.join(REWRITTEN);
        if folder.try_exists()? {
            gone(&folder)?;
            sync_folder(root)?;
        }
        Ok(())
    };
    dropped().map_err(|error| failed(root, &error))
}

/// Moves what was written anew to its place; may be repeated after a crash.
fn finish_moving(root: &Path, ring: &Keyring, users: Users<'_>) -> Result<(), Failure> {
    let moved = || -> io::Result<()> {
        let from = root.join(REWRITTEN);
        for name in [LOG, STATE, repros::FOLDER] {
            if from.join(name).try_exists()? {
                gone(&root.join(name))?;
                fs::rename(from.join(name), root.join(name))?;
                sync_folder(root)?;
            }
        }
        gone(&from)?;
        sync_folder(root)
    };
    moved().map_err(|error| failed(root, &error))?;
    // As long as the mark is there, the old key is known to be needed.
    look_at_what_was_put_aside(root, users)?;
    if ring.is_none() {
        Keyring::remove(root).map_err(|error| failed(root, &error))?;
    } else {
        ring.clone().moving(false).write(root)?;
    }
    let is_now = match ring.key() {
        "" => "not encrypted any more".to_owned(),
        key => format!("encrypted under the key {key}"),
    };
    tracing::info!(
        target: "amrita",
        "the sandbox {} is written anew and {is_now}; the key that it had before is needed no more",
        root.display()
    );
    Ok(())
}

fn gone(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn failed(root: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("the sandbox {} cannot be written anew: {why}", root.display()))
        .advise(START_AGAIN)
}

fn unlooked(folder: &Path, why: &io::Error) -> Failure {
    Failure::new(format!("{} cannot be looked at: {why}", folder.display()))
        .advise("is the folder this user's, and the disk well? Then start again")
}

/// A sandbox that is written anew.
struct Rewriting<'a> {
    root: &'a Path,
    trusts_copies: bool,
    /// The data key that it has, and the user's key over that.
    old: Option<(DataKey, &'a DataKey)>,
}

impl Rewriting<'_> {
    /// Under that key of the user, or none. Gives the new data key.
    fn run(&self, key: Option<&DataKey>) -> Result<Option<DataKey>, Failure> {
        let begun = Instant::now();
        let name = |key: Option<&DataKey>| {
            key.map_or("no key".to_owned(), |key| format!("the key {}", shown(key)))
        };
        let (from, to) = (name(self.old.as_ref().map(|(_, old)| *old)), name(key));
        let shown = self.root.display();
        tracing::info!(
            target: "amrita",
            "the sandbox {shown} is written anew: it is under {from}, and will be under {to}. \
             Until that is done, start it with both"
        );
        let made = key.map(Keyring::make);
        let data = made.as_ref().map(|(_, data)| data);
        if let Err(why) = self.write(data) {
            // It takes room, and may be in the clear.
            drop_half_written(self.root)?;
            let is_as_before = format!("{START_AGAIN}. Until then it is under {from}, as before");
            return Err(failed(self.root, &why).advise(is_as_before));
        }
        let ring = made.as_ref().map_or_else(Keyring::none, |(ring, _)| ring.clone());
        let ring = ring.moving(true);
        // The moment that counts.
        ring.write(self.root)?;
        finish_moving(
            self.root,
            &ring,
            Users { key, old: self.old.as_ref().map(|(_, old)| *old) },
        )?;
        tracing::info!(target: "amrita", "that took {} ms", begun.elapsed().as_millis());
        Ok(made.map(|(_, data)| data))
    }

    fn write(&self, new: Option<&DataKey>) -> Result<(), String> {
        let to = self.root.join(REWRITTEN);
        let made = gone(&to).and_then(|()| fs::DirBuilder::new().mode(FOLDER_MODE).create(&to));
        made.map_err(|error| format!("{}: {error}", to.display()))?;
        if is_there(&self.root.join(LOG))? {
            self.write_log(&to.join(LOG), new).map_err(|error| error.to_string())?;
        }
        if is_there(&self.root.join(STATE))? {
            self.write_state(&to.join(STATE), new).map_err(|error| error.to_string())?;
        }
        let texts = self.root.join(repros::FOLDER);
        let written = || -> io::Result<()> {
            if texts.try_exists()? {
                let keys = (self.old.as_ref().map(|(data, _)| data), new);
                repros::copy(&texts, &to.join(repros::FOLDER), keys)?;
                sync_folder(&to.join(repros::FOLDER))?;
            }
            sync_folder(&to)?;
            sync_folder(self.root)
        };
        written().map_err(|error| error.to_string())
    }

    fn write_log(&self, to: &Path, new: Option<&DataKey>) -> Result<(), LogError> {
        let disk = FileDisk::open(&self.root.join(LOG))?;
        let disk = if self.trusts_copies { disk.trusting() } else { disk };
        let ours = self.old.as_ref().map(|(data, _)| sealer(data));
        let options = LogOptions { segment_bytes: SEGMENT_BYTES };
        let (mut log, recovered) = Log::open_with(disk, options, ours)?;
        log.copy(&recovered, FileDisk::open(to)?, new.map(sealer))?;
        Ok(())
    }

    fn write_state(&self, to: &Path, new: Option<&DataKey>) -> Result<(), StoreError> {
        let ours = self.old.as_ref().map(|(data, _)| sealer(data));
        let from = FjallStore::open_with(&self.root.join(STATE), ours)?;
        let mut store = FjallStore::open_with(to, new.map(sealer))?;
        let (mut next, mut is_done) = (Vec::new(), false);
        while !is_done {
            let (mut batch, mut bytes) = (Batch::new(), 0);
            is_done = true;
            let begin = std::mem::take(&mut next);
            from.scan(&begin, &LAST_KEY, false, &mut |key, value| {
                if bytes >= COPIED_BYTES {
                    (next, is_done) = (key.to_vec(), false);
                    return std::ops::ControlFlow::Break(());
                }
                bytes += key.len() + value.len();
                batch.put_new(key, value);
                std::ops::ControlFlow::Continue(())
            })?;
            store.write_if_room(batch)?;
        }
        store.persist_if_room()
    }
}

/// Only what is surely not there is not there: what cannot be looked at would be left out.
fn is_there(path: &Path) -> Result<bool, String> {
    path.try_exists().map_err(|error| format!("{}: {error}", path.display()))
}

/// What was put aside is not written anew. Its own copy of the data key gets under the new key
/// of the user; where the old one is missing, this says which folders need it.
fn look_at_what_was_put_aside(root: &Path, users: Users<'_>) -> Result<(), Failure> {
    for folder in put_aside(root).map_err(|error| failed(root, &error))? {
        let shown = folder.display();
        let ring = match Keyring::read(&folder) {
            Ok(Some(ring)) => ring,
            Ok(None) => continue,
            Err(why) => {
                let what = "what was put aside in";
                tracing::warn!(target: "amrita", "{what} {shown} is as it was: {why}");
                continue;
            }
        };
        if users.key.is_some_and(|key| ring.open(key).is_some()) {
            continue;
        }
        let told = match users.old.zip(users.key).and_then(|(old, key)| ring.under(old, key)) {
            Some(ring) => {
                ring.write(&folder)?;
                "is under the new key now, its data still as it was written".to_owned()
            }
            None => format!("is still under the key {}, and cannot be read without it", ring.key()),
        };
        tracing::warn!(
            target: "amrita",
            "what was put aside in {shown} {told}; remove it when you do not need it"
        );
    }
    Ok(())
}

/// The folders with what was put aside.
fn put_aside(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if (name.starts_with("damaged-") || name.starts_with("left-")) && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Keeps the key with what is about to be put aside: whoever puts that back needs it. With data
/// that is there already its key is, and stays, whatever the sandbox has by now.
pub(crate) fn keep_key(root: &Path, aside: &Path) -> Result<(), Failure> {
    let has_data = || Ok(aside.join(LOG).try_exists()? || aside.join(STATE).try_exists()?);
    let has_data = has_data().map_err(|error: io::Error| unlooked(aside, &error))?;
    if has_data && Keyring::read(aside)?.is_some() {
        return Ok(());
    }
    Keyring::read(root)?.map_or(Ok(()), |ring| ring.write(aside))
}

/// An encrypted text of the folder `repros` of a sandbox.
///
/// # Errors
/// When it cannot be read, or the key is not the one.
pub fn unseal(file: &Path, wanted: &Encryption) -> Result<Vec<u8>, Failure> {
    let shown = file.display();
    let key = wanted.key()?.ok_or_else(|| {
        Failure::new(format!("no key was given to read {shown} with")).advise(GIVE_IT)
    })?;
    let file = file.canonicalize();
    let file = file.map_err(|error| Failure::new(format!("{shown} cannot be read: {error}")))?;
    let root = file.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let ring = Keyring::read(root)?.ok_or_else(|| {
        Failure::new(format!("{} is not an encrypted sandbox", root.display()))
            .advise("name a file in the folder repros of a sandbox")
    })?;
    let data = ring.open(&key);
    let data = data.ok_or_else(|| wrong_key(root, &ring, &key, None).advise(GIVE_IT))?;
    let content = fs::read(&file);
    let content =
        content.map_err(|error| Failure::new(format!("{shown} cannot be read: {error}")))?;
    repros::unseal(&content, &data).ok_or_else(|| {
        Failure::new(format!("{shown} is not what this node wrote under its present key"))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use storage::{LogOwner, LogRecord, StateStore};

    use super::*;
    use crate::repros::Repros;

    const OPTIONS: LogOptions = LogOptions { segment_bytes: 64 << 10 };

    fn key_file(folder: &Path, name: &str) -> PathBuf {
        let file = folder.join(name);
        fs::write(&file, format!("{name}-{}", "k".repeat(40))).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    /// What a user says who has these keys.
    fn wanted(folder: &Path, key: &str, old: &str) -> Encryption {
        let file = |name: &str| (!name.is_empty()).then(|| key_file(folder, name));
        Encryption { key_file: file(key), old_key_file: file(old), ..Encryption::default() }
    }

    fn converting(encryption: Encryption) -> Encryption {
        Encryption { converts: true, ..encryption }
    }

    fn fill(root: &Path, data: Option<&DataKey>) {
        let disk = FileDisk::open(&root.join(LOG)).unwrap();
        let (mut log, _) = Log::open_with(disk, OPTIONS, data.map(sealer)).unwrap();
        log.append(&[LogRecord::Owner(LogOwner { sandbox_id: 7, boot: 3 })]).unwrap();
        log.sync().unwrap();
        let mut store = FjallStore::open_with(&root.join(STATE), data.map(sealer)).unwrap();
        let mut batch = Batch::new();
        for number in 0..3_000_u32 {
            batch.put(number.to_be_bytes(), vec![1; 1_000]);
        }
        store.write(batch).unwrap();
        store.persist().unwrap();
        let texts = Repros { sandbox: root.to_owned(), key: data.cloned() };
        repros::keep(&texts, "counter", "a text");
    }

    /// The sandbox is whole, under that data key.
    fn check(root: &Path, data: Option<&DataKey>) {
        let disk = FileDisk::open(&root.join(LOG)).unwrap();
        let (_, recovered) = Log::open_with(disk, OPTIONS, data.map(sealer)).unwrap();
        assert_eq!(recovered.owner, Some(LogOwner { sandbox_id: 7, boot: 3 }));
        let store = FjallStore::open_with(&root.join(STATE), data.map(sealer)).unwrap();
        let mut count = 0;
        let counted = store.scan(b"", &LAST_KEY, false, &mut |_, value| {
            assert_eq!(value, [1; 1_000]);
            count += 1;
            std::ops::ControlFlow::Continue(())
        });
        counted.unwrap();
        assert_eq!(count, 3_000);
        let mut texts = fs::read_dir(root.join(repros::FOLDER)).unwrap();
        let content = fs::read(texts.next().unwrap().unwrap().path()).unwrap();
        assert!(texts.next().is_none(), "one text was kept");
        let text = match data {
            Some(key) => repros::unseal(&content, key).unwrap(),
            None => content,
        };
        assert!(text.ends_with(b"a text"), "{text:?}");
    }

    fn refused(root: &Path, wanted: &Encryption, words: &str) {
        let why = open(root, wanted, false).unwrap_err().to_string();
        assert!(why.contains(words) && why.contains("Nothing was touched"), "{why}");
    }

    #[test]
    fn a_sandbox_is_encrypted_rotated_and_decrypted_and_each_wrong_key_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, root) = (folder.path(), folder.path().join("sandbox"));
        fs::create_dir(&root).unwrap();
        let with = |key, old| wanted(keys, key, old);
        assert!(open(&root, &with("", ""), false).unwrap().is_none());
        fill(&root, None);
        refused(&root, &with("one", ""), "not encrypted");
        let data = open(&root, &converting(with("one", "")), false).unwrap();
        check(&root, data.as_ref());
        refused(&root, &with("", ""), "no key was given");
        refused(&root, &with("two", ""), "encrypted under the key");
        refused(&root, &with("two", "three"), "encrypted under the key");
        let same = open(&root, &with("one", ""), false).unwrap();
        check(&root, same.as_ref());
        let rotated = open(&root, &with("two", "one"), false).unwrap();
        check(&root, rotated.as_ref());
        let (former, now) = (data.unwrap().fingerprint(), rotated.unwrap().fingerprint());
        assert_ne!(former, now, "the data key must be another one");
        refused(&root, &with("one", ""), "encrypted under the key");
        let again = open(&root, &with("two", "one"), false).unwrap();
        assert_eq!(again.unwrap().fingerprint(), now, "it was done already");
        refused(&root, &with("", "two"), "no key was given");
        assert!(open(&root, &converting(with("", "two")), false).unwrap().is_none());
        check(&root, None);
        assert!(Keyring::read(&root).unwrap().is_none());
    }

    #[test]
    fn a_missing_file_with_the_key_is_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("sandbox");
        fs::create_dir(&root).unwrap();
        let with = wanted(folder.path(), "one", "");
        let data = open(&root, &with, false).unwrap();
        fill(&root, data.as_ref());
        Keyring::remove(&root).unwrap();
        refused(&root, &with, "encryption.json with its key is missing");
        refused(&root, &Encryption::default(), "encryption.json with its key is missing");
    }

    /// The process dies at each step of a rotation, and the next start goes on.
    #[test]
    fn a_rotation_that_is_cut_short_anywhere_is_finished_later() {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path();
        let with = |key: &str, old: &str| wanted(keys, key, old);
        for dies_at in 0..8 {
            let root = keys.join(format!("sandbox-{dies_at}"));
            fs::create_dir(&root).unwrap();
            let old = open(&root, &with("one", ""), false).unwrap().unwrap();
            fill(&root, Some(&old));
            let (user, former) = (with("two", "").key().unwrap().unwrap(), with("one", ""));
            let former = former.key().unwrap().unwrap();
            let run =
                Rewriting { root: &root, trusts_copies: false, old: Some((old.clone(), &former)) };
            let (ring, new) = Keyring::make(&user);
            run.write(Some(&new)).unwrap();
            let from = root.join(REWRITTEN);
            if dies_at == 0 {
                // Half of it was written.
                fs::remove_dir_all(from.join(STATE)).unwrap();
            }
            if dies_at >= 2 {
                ring.moving(true).write(&root).unwrap();
            }
            if dies_at == 3 {
                // Half of the old log is gone.
                let file = fs::read_dir(root.join(LOG)).unwrap().next().unwrap().unwrap();
                fs::remove_file(file.path()).unwrap();
            }
            for (step, name) in [(4, LOG), (6, STATE)] {
                if dies_at >= step {
                    fs::remove_dir_all(root.join(name)).unwrap();
                }
                if dies_at > step {
                    fs::rename(from.join(name), root.join(name)).unwrap();
                }
            }
            if dies_at < 2 {
                // The old key still opens it.
                let data = open(&root, &with("one", ""), false).unwrap();
                check(&root, data.as_ref());
                assert!(!from.exists(), "what never counted is not left there");
            } else {
                refused(&root, &with("one", ""), "encrypted under the key");
            }
            let data = open(&root, &with("two", "one"), false).unwrap();
            check(&root, data.as_ref());
            assert!(!from.exists());
            assert!(!Keyring::read(&root).unwrap().unwrap().is_moving);
        }
    }

    #[test]
    fn what_was_put_aside_keeps_its_key_and_gets_under_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, root) = (folder.path(), folder.path().join("sandbox"));
        let aside = root.join("damaged-1");
        fs::create_dir_all(&aside).unwrap();
        let with = |key, old| wanted(keys, key, old);
        let data = open(&root, &with("one", ""), false).unwrap().unwrap();
        fill(&root, Some(&data));
        keep_key(&root, &aside).unwrap();
        open(&root, &with("two", "one"), false).unwrap();
        let kept = |key| {
            let user = with(key, "").key().unwrap().unwrap();
            Keyring::read(&aside).unwrap().unwrap().open(&user).map(|data| data.fingerprint())
        };
        assert_eq!(kept("two"), Some(data.fingerprint()));
        // The start that finished a rotation had only the new key. The old one may come later.
        let (ring, _) = Keyring::make(&with("three", "").key().unwrap().unwrap());
        fs::create_dir_all(root.join(REWRITTEN)).unwrap();
        ring.moving(true).write(&root).unwrap();
        open(&root, &with("three", ""), false).unwrap();
        assert_eq!(kept("two"), Some(data.fingerprint()));
        open(&root, &with("three", "two"), false).unwrap();
        assert_eq!(kept("three"), Some(data.fingerprint()));
        // Data that is there keeps its key, whatever the sandbox has by now.
        fs::create_dir(aside.join(LOG)).unwrap();
        keep_key(&root, &aside).unwrap();
        assert_eq!(kept("three"), Some(data.fingerprint()));
    }

    /// In the middle of the rotation, before the mark is gone.
    #[test]
    fn what_was_put_aside_is_under_the_new_key_before_the_old_one_is_said_to_be_needed_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, root) = (folder.path(), folder.path().join("sandbox"));
        let aside = root.join("left-1");
        fs::create_dir_all(&aside).unwrap();
        let with = |key, old| wanted(keys, key, old);
        open(&root, &with("one", ""), false).unwrap();
        keep_key(&root, &aside).unwrap();
        let user = with("two", "").key().unwrap().unwrap();
        // It dies after the moment that counts.
        Keyring::make(&user).0.moving(true).write(&root).unwrap();
        open(&root, &with("two", "one"), false).unwrap();
        assert!(Keyring::read(&aside).unwrap().unwrap().open(&user).is_some());
    }

    #[test]
    fn what_a_way_back_that_was_given_up_has_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, root) = (folder.path(), folder.path().join("sandbox"));
        fs::create_dir(&root).unwrap();
        let data = open(&root, &wanted(keys, "one", ""), false).unwrap().unwrap();
        fill(&root, Some(&data));
        let user = wanted(keys, "one", "").key().unwrap().unwrap();
        Rewriting { root: &root, trusts_copies: false, old: Some((data, &user)) }
            .write(None)
            .unwrap();
        assert!(root.join(REWRITTEN).join(STATE).exists(), "it is in the clear");
        open(&root, &wanted(keys, "one", ""), false).unwrap();
        assert!(!root.join(REWRITTEN).exists());
    }

    /// A name that leads in circles cannot be looked at, so nobody knows what is there.
    #[test]
    fn what_cannot_be_looked_at_is_not_taken_for_missing() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, root) = (folder.path(), folder.path().join("sandbox"));
        fs::create_dir(&root).unwrap();
        let data = open(&root, &wanted(keys, "one", ""), false).unwrap().unwrap();
        fill(&root, Some(&data));
        fs::rename(root.join(STATE), root.join("kept")).unwrap();
        std::os::unix::fs::symlink(STATE, root.join(STATE)).unwrap();
        let why = open(&root, &wanted(keys, "two", "one"), false).unwrap_err().to_string();
        assert!(why.contains(STATE), "{why}");
        assert!(!root.join(REWRITTEN).exists());
        fs::remove_file(root.join(STATE)).unwrap();
        fs::rename(root.join("kept"), root.join(STATE)).unwrap();
        let same = open(&root, &wanted(keys, "one", ""), false).unwrap();
        check(&root, same.as_ref());
    }
}
