//! The folder of a node's data: who it belongs to, and that one process at a time uses it.
//!
//! `lock` is held while the process lives. `node.json` says whose the data is. `log` and `state`
//! are the write-ahead log and the state store, and `spare` is room for a start. What had to be put
//! aside stays in `damaged-1` or `left-1` and so on, for people to look at; nothing here deletes
//! data.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use protocol::Address;
use serde::{Deserialize, Serialize};
use storage::DataKey;

use crate::disk::{FILE_MODE, FOLDER_MODE, birth_of, sync_folder};
use crate::encryption::Encryption;
use crate::rewriting::{self, LOG, STATE};
use crate::whereabouts::Whereabouts;
use crate::{Failure, random, spare};

/// The form of `node.json` and of the folder that this program reads and writes.
const FORMAT: u32 = 6;

/// What anybody but the user that runs the node may do.
const OF_OTHERS: u32 = 0o077;

const LOCK: &str = "lock";
const IDENTITY: &str = "node.json";
const ADDRESS: &str = "address";

/// A start for which a person trusts the sandbox is numbered so much higher: above each start that
/// the sandbox may have forgotten, so that nothing of those is taken for one of these.
const FORGOTTEN_STARTS: u64 = 1_000_000;

/// The most folders of one kind that are put aside before a person has to look.
const PUT_ASIDE_MAX: u32 = 100;

/// Whose sandbox it is: the contents of `node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    format: u32,
    pub(crate) node_id: String,
    /// The replica's name in the cluster; a new one for each life of the sandbox.
    pub(crate) sandbox_id: u64,
    /// Counts the starts.
    pub(crate) boot: u64,
    #[serde(flatten)]
    pub(crate) others: Whereabouts,
    /// The log was durably begun: from then on a sandbox without a log has lost it.
    #[serde(default)]
    pub(crate) has_begun: bool,
    /// When this very file was made, where the file system tells: a copy of it was made at another
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<u64>,
    #[serde(flatten)]
    pub(crate) trust: Trust,
    /// What the one before it could not prove to have, if this one was begun for that reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) forgot: Option<String>,
    /// The folder that old data is still to be moved to. With it set, what is in `log` and `state`
    /// is not this life's: a replica that took it for its own would break its promises.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    put_aside: Option<String>,
}

/// Whether the contents are those that the node wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Trust {
    /// A copy was put in place of `node.json`, perhaps an older one. Kept until the sandbox is
    /// begun anew, or a person says that it has all that the node promised.
    #[serde(default)]
    pub(crate) is_copy: bool,
    /// The last start for which a person said that it has all that the node promised; 0 if none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) trusted_boot: u64,
}

/// What the start of the process asks of the sandbox.
pub(crate) struct Wanted {
    pub(crate) node_id: Option<String>,
    pub(crate) peers: Vec<Address>,
    /// A person says that the sandbox has all that the node promised.
    pub(crate) trusts_sandbox: bool,
    pub(crate) encryption: Encryption,
}

/// Why the contents are put aside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PutAside {
    /// They cannot be trusted.
    Damaged,
    /// The node leaves them for another cluster.
    Left,
}

pub(crate) struct Sandbox {
    root: PathBuf,
    identity: Identity,
    /// Of an encrypted sandbox.
    key: Option<DataKey>,
    /// Unlocked by the system when the process ends, however it ends.
    _lock: File,
}

impl Sandbox {
    /// Opens the folder, or makes it, and counts the start.
    ///
    /// # Errors
    /// When it cannot be made, is in use, or belongs to another node or another cluster.
    pub(crate) fn open(root: &Path, wanted: &Wanted) -> Result<Self, Failure> {
        make_private_folder(root).map_err(|error| {
            Failure::new(format!("the sandbox {} cannot be made: {error}", root.display()))
                .advise("name a folder this user may write to with --sandbox")
        })?;
        let lock = lock(root)?;
        // Before anything is touched: the key may be the wrong one, or missing.
        let key = rewriting::open(root, &wanted.encryption, wanted.trusts_sandbox)?;
        // Of a node that ran here before: by now anybody may listen there, and somebody who logs in
        // by this sandbox would send a password to that one.
        drop(fs::remove_file(root.join(ADDRESS)));
        let identity = match read_identity(root)? {
            Some(identity) => check(root, identity, wanted)?,
            None => new_identity(root, wanted)?,
        };
        let mut sandbox = Self { root: root.to_owned(), identity, key, _lock: lock };
        if let Err(why) = sandbox.write_identity() {
            if !spare::give_up(root) {
                return Err(why);
            }
            tracing::warn!(target: "amrita", "{why}; the room that was kept for that is used now");
            sandbox.write_identity()?;
        }
        sandbox.put_aside()?;
        spare::keep(root, FILE_MODE);
        Ok(sandbox)
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What everything that is written here is encrypted with.
    pub(crate) fn key(&self) -> Option<&DataKey> {
        self.key.as_ref()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn log_folder(&self) -> PathBuf {
        self.root.join(LOG)
    }

    pub(crate) fn state_folder(&self) -> PathBuf {
        self.root.join(STATE)
    }

    /// Says where the node is reached, for people and programs on this machine. Nothing depends on
    /// it.
    pub(crate) fn tell_address(&self, address: &Address) {
        let file = self.root.join(ADDRESS);
        if let Err(error) = fs::write(&file, format!("{address}\n")) {
            tracing::warn!(target: "amrita", "{} cannot be written: {error}", file.display());
        }
    }

    /// The log knows its sandbox, durably.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        if self.identity.has_begun {
            return Ok(());
        }
        self.identity.has_begun = true;
        self.write_identity()
    }

    /// This sandbox, which is empty, is to join the cluster of that node.
    pub(crate) fn joins(&mut self, contact: String) -> Result<(), Failure> {
        self.identity.others.join = Some(contact);
        self.write_identity()
    }

    /// The other members of the cluster are there.
    pub(crate) fn keep_members(&mut self, members: Vec<String>) -> Result<(), Failure> {
        self.identity.others.keep_members(members);
        self.write_identity()
    }

    /// The log knows of later starts than `node.json`, which is an older one then.
    pub(crate) fn raise_boot(&mut self, boot: u64) -> Result<(), Failure> {
        if self.identity.boot >= boot {
            return Ok(());
        }
        if self.identity.trust.trusted_boot == self.identity.boot {
            self.identity.trust.trusted_boot = boot;
        }
        self.identity.boot = boot;
        self.write_identity()
    }

    /// Moves log and state into a folder of their own and begins a new, empty life that joins the
    /// cluster of `join`. Returns where the old contents are.
    pub(crate) fn renew(
        &mut self,
        why: PutAside,
        join: Option<String>,
        forgot: Option<String>,
    ) -> Result<PathBuf, Failure> {
        let aside = self.free_folder(why)?;
        let old = self.identity.clone();
        self.identity.sandbox_id = random();
        self.identity.boot = 1;
        self.identity.has_begun = false;
        self.identity.trust = Trust::default();
        self.identity.forgot = forgot;
        self.identity.others.contact = None;
        self.identity.others.join = join;
        if matches!(why, PutAside::Left) {
            // They are not of the cluster that it joins.
            self.identity.others.members = None;
        }
        self.identity.put_aside = Some(aside);
        // From here on the old replica is gone for good, wherever the process may die.
        self.write_identity()?;
        let folder = self.put_aside()?.expect("the folder was named above");
        write_json(&folder, &old)?;
        Ok(folder)
    }

    /// Does what `put_aside` in the identity says, if anything; may be repeated after a crash.
    fn put_aside(&mut self) -> Result<Option<PathBuf>, Failure> {
        let Some(name) = &self.identity.put_aside else { return Ok(None) };
        let folder = self.root.join(name);
        let failed = |error: io::Error| {
            Failure::new(format!(
                "the contents of the sandbox {} cannot be put aside: {error}",
                self.root.display()
            ))
        };
        fs::create_dir_all(&folder).map_err(failed)?;
        // First: nothing is ever there without its key.
        rewriting::keep_key(&self.root, &folder)?;
        let moved = || -> io::Result<()> {
            for name in [LOG, STATE] {
                match fs::rename(self.root.join(name), folder.join(name)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    moved => moved?,
                }
            }
            sync_folder(&folder)?;
            sync_folder(&self.root)
        };
        moved().map_err(failed)?;
        self.identity.put_aside = None;
        self.write_identity()?;
        Ok(Some(folder))
    }

    fn free_folder(&self, why: PutAside) -> Result<String, Failure> {
        let name = match why {
            PutAside::Damaged => "damaged",
            PutAside::Left => "left",
        };
        let mut folders = (1..=PUT_ASIDE_MAX).map(|n| format!("{name}-{n}"));
        folders.find(|folder| !self.root.join(folder).exists()).ok_or_else(|| {
            Failure::new(format!(
                "the sandbox {} was put aside {PUT_ASIDE_MAX} times already",
                self.root.display()
            ))
            .advise("find out why (a failing disk?) and remove the old folders")
        })
    }

    fn write_identity(&self) -> Result<(), Failure> {
        write_json(&self.root, &self.identity)
    }
}

/// `serde` lends what it asks about.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Writes `node.json` whole or not at all; durable when it returns.
fn write_json(folder: &Path, identity: &Identity) -> Result<(), Failure> {
    let fresh = folder.join(format!("{IDENTITY}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    // An old one of that name would keep the time of its making.
    let _there_is_none = fs::remove_file(&fresh);
    let written = options.open(&fresh).and_then(|mut file| {
        let identity = Identity { born: birth_of(&fresh), ..identity.clone() };
        let text =
            serde_json::to_vec_pretty(&identity).expect("an identity is made of texts and numbers");
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, folder.join(IDENTITY))?;
        sync_folder(folder)
    });
    written.map_err(|error| {
        Failure::new(format!("{IDENTITY} in {} cannot be written: {error}", folder.display()))
            .advise("is the disk full, or the folder not this user's?")
    })
}

/// Makes the folder, and keeps it to this user: who reads the log reads every document, and who
/// reaches the programs' socket may attach.
fn make_private_folder(root: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(root)?;
    let is_open = fs::metadata(root)?.permissions().mode() & OF_OTHERS != 0;
    if is_open && let Err(error) = fs::set_permissions(root, Permissions::from_mode(FOLDER_MODE)) {
        // A folder that a container was given may belong to somebody else.
        tracing::warn!(
            target: "amrita",
            "other users may look into {}, and that cannot be changed: {error}",
            root.display()
        );
    }
    Ok(())
}

/// Keeps nodes from the sandbox for as long as the file is open, without a change in it. `None`
/// when no node ever used it.
pub(crate) fn locked_for_reading(root: &Path) -> Result<Option<File>, Failure> {
    let path = root.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Failure::new(format!("{} cannot be read: {error}", path.display())));
        }
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(format!("the sandbox {} is in use by a node", root.display()))
                .advise("stop that node first"))
        }
        Err(TryLockError::Error(error)) => {
            Err(Failure::new(format!("the lock {} cannot be taken: {error}", path.display())))
        }
    }
}

/// Whether what is in log and state is still to be put aside: it is of a former life then.
pub(crate) fn is_half_put_aside(identity: &Identity) -> bool {
    identity.put_aside.is_some()
}

/// Takes the lock, or says who has it.
fn lock(root: &Path) -> Result<File, Failure> {
    let path = root.join(LOCK);
    let failed = |error: io::Error| {
        Failure::new(format!("the lock {} cannot be taken: {error}", path.display()))
            .advise("name a folder this user may write to with --sandbox")
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
    let mut file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message: without the number it is still clear.
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let who = if known { format!(" (pid {})", pid.trim()) } else { String::new() };
            return Err(Failure::new(format!(
                "the sandbox {} is in use by another process{who}",
                root.display()
            ))
            .advise("stop that process, or name another folder with --sandbox"));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    match writeln!(file, "{}", std::process::id()) {
        // The number is for people; the lock holds without it.
        Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(failed(error)),
        _ => Ok(file),
    }
}

/// # Errors
/// When it is there and cannot be read.
pub(crate) fn read_identity(root: &Path) -> Result<Option<Identity>, Failure> {
    let path = root.join(IDENTITY);
    let unreadable = |why: String| {
        Failure::new(format!("{} cannot be read: {why}", path.display())).advise(
            "it says whose data this is; put it back from a copy, or move the whole folder away \
             and start again: a node of a cluster is then filled from its peers",
        )
    };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
    };
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    match value["format"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => {
            return Err(Failure::new(format!(
                "the sandbox {} has format {format}, this program reads format {FORMAT}",
                root.display()
            ))
            .advise("use the version of amrita that wrote it"));
        }
        None => return Err(unreadable("it has no 'format'".into())),
    }
    let read = serde_json::from_value(value);
    let mut identity: Identity = read.map_err(|error| unreadable(error.to_string()))?;
    let is_another = |born: u64| birth_of(&path).is_some_and(|birth| birth != born);
    identity.trust.is_copy |= identity.born.is_some_and(is_another);
    Ok(Some(identity))
}

/// An identity that was there: does it go with what the start asks?
fn check(root: &Path, mut identity: Identity, wanted: &Wanted) -> Result<Identity, Failure> {
    let shown = root.display();
    if let Some(id) = wanted.node_id.as_ref().filter(|id| **id != identity.node_id) {
        return Err(Failure::new(format!(
            "the sandbox {shown} belongs to node '{}', not to '{id}'",
            identity.node_id
        ))
        .advise(format!("start with --id {}, or name another --sandbox", identity.node_id)));
    }
    identity.others.take_list(&wanted.peers, &shown.to_string())?;
    identity.boot += 1;
    if wanted.trusts_sandbox {
        identity.boot += FORGOTTEN_STARTS;
        identity.trust.trusted_boot = identity.boot;
        identity.trust.is_copy = false;
    }
    Ok(identity)
}

fn new_identity(root: &Path, wanted: &Wanted) -> Result<Identity, Failure> {
    if root.join(LOG).exists() || root.join(STATE).exists() {
        return Err(Failure::new(format!(
            "the sandbox {} has data but no {IDENTITY} that says whose it is",
            root.display()
        ))
        .advise("put that file back from a copy, or move the folder away and start again"));
    }
    let node_id = wanted.node_id.clone().unwrap_or_else(|| format!("node-{:08x}", random() >> 32));
    Ok(Identity {
        format: FORMAT,
        node_id,
        sandbox_id: random(),
        boot: 1,
        others: Whereabouts::named(&wanted.peers),
        has_begun: false,
        born: None,
        trust: Trust::default(),
        forgot: None,
        put_aside: None,
    })
}

/// From here on, what this process makes is for its own user only. For programs that are nothing
/// but a node: it counts for the whole process.
pub fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(OF_OTHERS));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_may_look_into_a_sandbox() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("sandbox");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
        drop(Sandbox::open(&root, &wanted("n1", &[])).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root), FOLDER_MODE);
        for file in [LOCK, IDENTITY] {
            assert_eq!(mode(&root.join(file)), FILE_MODE, "{file}");
        }
    }

    fn wanted(id: &str, peers: &[&str]) -> Wanted {
        Wanted {
            node_id: Some(id.into()),
            peers: peers.iter().map(|peer| Address::parse(peer).unwrap()).collect(),
            trusts_sandbox: false,
            encryption: Encryption::default(),
        }
    }

    fn refusal(root: &Path, wanted: &Wanted) -> String {
        Sandbox::open(root, wanted).err().expect("it should be refused").to_string()
    }

    #[test]
    fn a_sandbox_keeps_its_identity_and_counts_its_starts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("new").join("deep");
        let first = Sandbox::open(&root, &wanted("n1", &["a:1"])).unwrap().identity().clone();
        let nameless = Wanted { node_id: None, ..wanted("n1", &[]) };
        let second = Sandbox::open(&root, &nameless).unwrap().identity().clone();
        let born = second.born;
        assert_eq!(second, Identity { boot: first.boot + 1, born, ..first });
    }

    #[test]
    fn the_key_is_there_before_what_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (root, key_file) = (folder.path().join("sandbox"), folder.path().join("key"));
        fs::write(&key_file, "k".repeat(40)).unwrap();
        fs::set_permissions(&key_file, Permissions::from_mode(FILE_MODE)).unwrap();
        let encryption = Encryption { key_file: Some(key_file), ..Encryption::default() };
        let wanted = Wanted { encryption, ..wanted("n1", &[]) };
        let mut sandbox = Sandbox::open(&root, &wanted).unwrap();
        fs::create_dir(root.join(LOG)).unwrap();
        // The moving fails, as if the process had died there.
        fs::create_dir_all(root.join("damaged-1").join(LOG).join("full")).unwrap();
        sandbox.identity.put_aside = Some("damaged-1".into());
        sandbox.put_aside().unwrap_err();
        assert!(root.join("damaged-1").join("encryption.json").exists());
    }

    #[test]
    fn a_sandbox_in_use_is_refused_with_the_pid() {
        let folder = tempfile::tempdir().unwrap();
        let held = Sandbox::open(folder.path(), &wanted("n1", &[])).unwrap();
        let message = refusal(folder.path(), &wanted("n1", &[]));
        assert!(message.contains("in use by another process"), "{message}");
        assert!(message.contains(&std::process::id().to_string()), "{message}");
        drop(held);
        Sandbox::open(folder.path(), &wanted("n1", &[])).unwrap();
    }

    #[test]
    fn a_sandbox_of_another_node_or_cluster_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Sandbox::open(folder.path(), &wanted("n1", &["a:1", "b:1"])).unwrap());
        let message = refusal(folder.path(), &wanted("n2", &["a:1", "b:1"]));
        assert!(message.contains("belongs to node 'n1', not to 'n2'"), "{message}");
        let message = refusal(folder.path(), &wanted("n1", &["x:1", "y:1"]));
        assert!(message.contains("belongs to another cluster"), "{message}");
        // A list that has changed in part is that of a cluster whose membership has changed.
        Sandbox::open(folder.path(), &wanted("n1", &["a:1", "c:1"])).unwrap();
    }

    #[test]
    fn the_list_of_a_start_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        drop(Sandbox::open(folder.path(), &wanted("n1", &["a:1", "b:1"])).unwrap());
        drop(Sandbox::open(folder.path(), &wanted("n1", &["c:1", "b:1"])).unwrap());
        drop(Sandbox::open(folder.path(), &wanted("n1", &["c:1", "d:1"])).unwrap());
        let kept = Sandbox::open(folder.path(), &wanted("n1", &[])).unwrap().identity().clone();
        assert_eq!(kept.others.peers, ["http://c:1", "http://d:1"]);
    }

    #[test]
    fn a_node_that_began_alone_takes_no_peer_list() {
        let folder = tempfile::tempdir().unwrap();
        drop(Sandbox::open(folder.path(), &wanted("n1", &[])).unwrap());
        let message = refusal(folder.path(), &wanted("n1", &["a:1", "b:1"]));
        assert!(message.contains("cluster of one"), "{message}");
    }

    #[test]
    fn an_unreadable_or_foreign_identity_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(IDENTITY);
        for (text, expected) in
            [("{", "cannot be read"), ("{}", "no 'format'"), ("{\"format\":9}", "has format 9")]
        {
            fs::write(&file, text).unwrap();
            let message = refusal(folder.path(), &wanted("n1", &[]));
            assert!(message.contains(expected), "{message}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(folder.path().join(LOG)).unwrap();
        assert!(refusal(folder.path(), &wanted("n1", &[])).contains("has data but no node.json"));
    }

    #[test]
    fn a_copy_of_a_sandbox_is_known_as_one_until_a_person_trusts_it() {
        let folder = tempfile::tempdir().unwrap();
        let (root, copy) = (folder.path().join("one"), folder.path().join("two"));
        let known = |root: &Path, trusts_sandbox| {
            let wanted = Wanted { trusts_sandbox, ..wanted("n1", &[]) };
            Sandbox::open(root, &wanted).unwrap().identity().trust.is_copy
        };
        assert!(!known(&root, false) && !known(&root, false));
        if birth_of(&root.join(IDENTITY)).is_none() {
            #[expect(clippy::print_stderr, reason = "a person reads why nothing was tried")]
            {
                eprintln!("skipped: this file system does not tell when a file was made");
            }
            return;
        }
        fs::create_dir(&copy).unwrap();
        fs::copy(root.join(IDENTITY), copy.join(IDENTITY)).unwrap();
        assert!(known(&copy, false) && known(&copy, false), "also at the start after that");
        assert!(!known(&copy, true) && !known(&copy, false));
        // Another name is no copy, and content over the same file is one.
        fs::rename(&root, folder.path().join("three")).unwrap();
        let moved = folder.path().join("three");
        let older = fs::read(moved.join(IDENTITY)).unwrap();
        assert!(!known(&moved, false));
        fs::write(moved.join(IDENTITY), older).unwrap();
        assert!(known(&moved, false));
    }

    #[test]
    fn a_start_that_a_person_trusts_is_above_all_forgotten_ones_and_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let open = |trusts_sandbox| {
            let wanted = Wanted { trusts_sandbox, ..wanted("n1", &["a:1", "b:1"]) };
            let mut sandbox = Sandbox::open(folder.path(), &wanted).unwrap();
            // As when the log knows of later starts.
            let boot = sandbox.identity().boot + 1;
            sandbox.raise_boot(boot).unwrap();
            (sandbox.identity().boot, sandbox.identity().trust.trusted_boot)
        };
        assert_eq!(open(false), (2, 0));
        let trusted = open(true);
        assert_eq!(trusted, (FORGOTTEN_STARTS + 4, FORGOTTEN_STARTS + 4));
        assert_eq!(open(false), (FORGOTTEN_STARTS + 6, trusted.1));
    }

    #[test]
    fn where_a_node_was_before_is_not_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(ADDRESS);
        fs::write(&file, "http://127.0.0.1:1\n").unwrap();
        let sandbox = Sandbox::open(folder.path(), &wanted("n1", &[])).unwrap();
        assert!(!file.exists());
        sandbox.tell_address(&Address::new("127.0.0.1", 2));
        assert_eq!(fs::read_to_string(&file).unwrap(), "http://127.0.0.1:2\n");
    }

    #[test]
    fn a_renewed_sandbox_is_another_replica_and_keeps_the_old_data_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut sandbox = Sandbox::open(folder.path(), &wanted("n1", &["a:1", "b:1"])).unwrap();
        let before = sandbox.identity().clone();
        fs::create_dir(sandbox.log_folder()).unwrap();
        fs::write(sandbox.log_folder().join("x"), "old").unwrap();
        let aside = sandbox.renew(PutAside::Damaged, Some("http://b:1".into()), None).unwrap();
        assert_eq!(fs::read_to_string(aside.join(LOG).join("x")).unwrap(), "old");
        assert!(!sandbox.log_folder().exists());
        let after = sandbox.identity().clone();
        assert_ne!(after.sandbox_id, before.sandbox_id);
        assert_eq!((after.node_id, after.others.join), (before.node_id, Some("http://b:1".into())));
        sandbox.keep_members(vec!["http://c:1".into()]).unwrap();
        let kept = read_identity(folder.path()).unwrap().unwrap();
        assert_eq!(kept.others.contact.as_deref(), Some("http://c:1"));
        assert_eq!(kept.others.members, Some(vec!["http://c:1".into()]));
        let second = sandbox.renew(PutAside::Left, None, None).unwrap();
        assert_ne!(second, aside);
        let others = &sandbox.identity().others;
        assert_eq!((&others.contact, &others.members), (&None, &None), "of the former cluster");
    }

    #[test]
    fn a_renewal_that_was_cut_short_is_finished_before_the_old_data_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut sandbox = Sandbox::open(folder.path(), &wanted("n1", &[])).unwrap();
        fs::create_dir(sandbox.log_folder()).unwrap();
        sandbox.identity.put_aside = Some("left-1".into());
        sandbox.write_identity().unwrap();
        drop(sandbox);
        let sandbox = Sandbox::open(folder.path(), &wanted("n1", &[])).unwrap();
        assert!(!sandbox.log_folder().exists());
        assert!(folder.path().join("left-1").join(LOG).exists());
        assert_eq!(sandbox.identity.put_aside, None);
    }
}
