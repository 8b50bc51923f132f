//! Of the sandboxes that are left of a cluster, a backup is made: of each group, what the furthest
//! log has.
//!
//! The sandboxes are only read: their logs and states are copied, and the copies are opened. While
//! that goes on, no node can start on them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use node::{
    Block, DirectorySeen, Page, SandboxState, Source, is_set_back, read_sandbox, why_in_doubt,
};
use protocol::{GroupId, Position, ReplicaId, Term};
use storage::{DataKey, Log, LogError, LogOptions, LogReader, Recovered};

use super::files::BackupWriter;
use super::manifest::{GroupFile, Manifest, in_hex};
use crate::disk::{FOLDER_MODE, SEGMENT_BYTES};
use crate::encryption::Encryption;
use crate::keyring::sealer;
use crate::rewriting::key_to_read;
use crate::sandbox::{Identity, is_half_put_aside, locked_for_reading, read_identity};
use crate::{Failure, FileDisk, FjallStore, FolderFiles, random};

/// What the sandboxes have, before anything is done with it.
pub struct Findings {
    sandboxes: Vec<Opened>,
    work: PathBuf,
    best: BTreeMap<GroupId, usize>,
    directory: DirectorySeen,
    /// For people, in the order of the groups.
    pub found: Vec<Found>,
    /// What is left out, and why.
    pub notes: Vec<String>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    /// The node whose log is the furthest, and how far that is. None: no sandbox has anything of
    /// it.
    pub best: Option<(String, u64, u64)>,
    /// How many of its replicas are here, without those in doubt, of how many there were.
    pub here: usize,
    pub of: usize,
    /// The replicas were being changed, so nobody can say which of them had to confirm a write.
    pub is_changing: bool,
    /// It is an immortal.
    pub is_instance: bool,
    /// What it was told was acknowledged before it was on any disk.
    pub is_in_memory: bool,
}

impl Found {
    /// Whether a majority of the replicas is here, and none of these is in doubt: then whatever
    /// was acknowledged is in the furthest log.
    pub fn is_whole(&self) -> bool {
        let has_majority = self.best.is_some() && self.here > self.of / 2;
        has_majority && !self.is_changing && !self.is_in_memory
    }

    /// Whether it may wait for messages that it has confirmed and then lost: who sent them has
    /// forgotten them.
    pub fn may_wait_for_ever(&self) -> bool {
        self.is_instance && self.best.is_some() && !self.is_whole()
    }
}

struct Opened {
    node_id: String,
    replica: ReplicaId,
    cluster: u64,
    store: FjallStore,
    reader: std::sync::Arc<dyn LogReader>,
    recovered: Recovered,
    /// Why it may lack some of what its node has promised.
    doubt: Option<String>,
    trusted_boot: u64,
    _log: Log<FileDisk>,
    _lock: Option<File>,
}

impl Opened {
    fn sources(&self) -> Result<Vec<Source<'_>>, Failure> {
        let read = read_sandbox(&self.store, &*self.reader, &self.recovered);
        let (_, sources) = read.map_err(|why| self.failed(&why))?;
        Ok(sources)
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::new(format!("what node '{}' left cannot be read: {why}", self.node_id))
            .advise("leave its sandbox out if others are left; nothing was changed in it")
    }
}

/// Looks at the sandboxes of stopped nodes. `work` is a folder for copies, which is made, and
/// removed in the end. `encryption`: the key of those that are encrypted.
///
/// # Errors
/// When one of them is in use, cannot be read, or is of another cluster.
pub fn look_at_sandboxes(
    from: &[PathBuf],
    work: &Path,
    encryption: &Encryption,
) -> Result<Findings, Failure> {
    if work.exists() {
        return Err(Failure::new(format!("{} is there already", work.display()))
            .advise("it is left of an earlier try: remove it"));
    }
    let work = work.to_owned();
    let looked = open_all(from, &work, encryption).and_then(|opened| look(opened, &work));
    looked.inspect_err(|_| drop(fs::remove_dir_all(&work)))
}

fn open_all(
    from: &[PathBuf],
    work: &Path,
    encryption: &Encryption,
) -> Result<Vec<Opened>, Failure> {
    let mut opened: Vec<Opened> = Vec::new();
    for (number, root) in from.iter().enumerate() {
        let one = open(root, &work.join(number.to_string()), encryption)?;
        if let Some(twin) = opened.iter().find(|other| other.replica == one.replica) {
            return Err(Failure::new(format!(
                "two of these sandboxes are of node '{}': name each once",
                twin.node_id
            )));
        }
        if let Some(other) = opened.iter().find(|other| other.cluster != one.cluster) {
            return Err(Failure::new(format!(
                "node '{}' is of cluster {:016x}, and node '{}' of cluster {:016x}",
                other.node_id, other.cluster, one.node_id, one.cluster
            ))
            .advise("name only sandboxes of one cluster with --from"));
        }
        opened.push(one);
    }
    doubt_by_witnesses(&mut opened);
    Ok(opened)
}

/// What the nodes have heard of each other shows which sandboxes were set back.
fn doubt_by_witnesses(opened: &mut [Opened]) {
    for at in 0..opened.len() {
        let one = &opened[at];
        let knows_more = |other: &&Opened| {
            let remembered = other.recovered.witnesses.get(&one.replica);
            remembered.is_some_and(|it| is_set_back(it, &one.recovered, one.trusted_boot))
        };
        let who = opened.iter().find(knows_more).map(|other| other.node_id.clone());
        if let (Some(who), None) = (who, &opened[at].doubt) {
            let why = format!("it was set back: node '{who}' remembers more of it than it has");
            opened[at].doubt = Some(why);
        }
    }
}

fn state_of(identity: &Identity) -> SandboxState {
    SandboxState {
        id: identity.sandbox_id,
        boot: identity.boot,
        has_begun: identity.has_begun,
        is_copy: identity.trust.is_copy,
        trusted_boot: identity.trust.trusted_boot,
        forgot: identity.forgot.clone(),
        has_had_others: identity.others.contact.is_some(),
        ..SandboxState::default()
    }
}

type OpenLog = (Log<FileDisk>, Recovered, Option<String>);

/// The log of a sandbox in a copy of it, and whether a node would not go on with it.
fn open_log(root: &Path, copy: &Path, key: Option<&DataKey>) -> Result<OpenLog, String> {
    let options = LogOptions { segment_bytes: SEGMENT_BYTES };
    let disk = || FileDisk::open(copy).map_err(|error| error.to_string());
    let strict = disk()?.copied_from(root);
    let doubt = match Log::open_with(strict, options, key.map(sealer)) {
        Ok((log, recovered)) => return Ok((log, recovered, None)),
        Err(LogError::Corrupt { .. }) => "the files of its log are copies, perhaps older ones",
        Err(error) => return Err(error.to_string()),
    };
    let opened = Log::open_with(disk()?.trusting(), options, key.map(sealer));
    let (log, recovered) = opened.map_err(|error| error.to_string())?;
    Ok((log, recovered, Some(doubt.into())))
}

fn open(root: &Path, copy: &Path, encryption: &Encryption) -> Result<Opened, Failure> {
    let shown = root.display();
    let identity = read_identity(root)?.ok_or_else(|| {
        Failure::new(format!("{shown} is no sandbox: there is no node.json"))
            .advise("name the folders that nodes were started with (--sandbox) with --from")
    })?;
    let lock = locked_for_reading(root)?;
    if is_half_put_aside(&identity) {
        return Err(Failure::new(format!(
            "{shown} is half put aside: a node was killed meanwhile"
        ))
        .advise("start its node once and stop it, or leave the sandbox out"));
    }
    let key = key_to_read(root, encryption)?;
    for part in ["log", "state"] {
        copy_folder(&root.join(part), &copy.join(part)).map_err(|error| {
            Failure::new(format!("{shown} cannot be copied to {}: {error}", copy.display()))
                .advise("as much room is needed beside --to as the sandboxes take")
        })?;
    }
    let failed = |why: String| {
        Failure::new(format!(
            "what node '{}' left in {shown} cannot be read: {why}",
            identity.node_id
        ))
        .advise("leave this sandbox out if others are left; nothing was changed in it")
    };
    let (log, recovered, of_log) =
        open_log(&root.join("log"), &copy.join("log"), key.as_ref()).map_err(failed)?;
    let store = FjallStore::open_with(&copy.join("state"), key.as_ref().map(sealer))
        .map_err(|error| failed(error.to_string()))?;
    let reader = log.reader(FolderFiles::new(&copy.join("log")));
    let (known, _) = read_sandbox(&store, &*reader, &recovered).map_err(failed)?;
    let doubt = why_in_doubt(&state_of(&identity), &recovered, &store).map_err(failed)?;
    Ok(Opened {
        node_id: identity.node_id.clone(),
        replica: known.replica,
        cluster: known.initial.cluster,
        store,
        reader,
        recovered,
        doubt: doubt.or(of_log.filter(|_| !identity.others.was_always_alone())),
        trusted_boot: identity.trust.trusted_boot,
        _log: log,
        _lock: lock,
    })
}

/// The copy is for nobody else, as the sandbox is.
fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

type Reach = (Term, Position);

/// Of each sandbox, what it has of each group.
type Sources<'a> = Vec<BTreeMap<GroupId, Source<'a>>>;

fn sources_of(sandboxes: &[Opened]) -> Result<Sources<'_>, Failure> {
    let of_one = |one| {
        let sources = Opened::sources(one)?.into_iter();
        Ok(sources.map(|source| (source.head.group, source)).collect())
    };
    sandboxes.iter().map(of_one).collect()
}

/// The sandbox with the furthest log of each group, among those that count.
fn furthest(
    sources: &Sources<'_>,
    counts: &dyn Fn(usize) -> bool,
) -> BTreeMap<GroupId, (usize, Reach)> {
    let mut best: BTreeMap<GroupId, (usize, Reach)> = BTreeMap::new();
    for (number, groups) in sources.iter().enumerate().filter(|(number, _)| counts(*number)) {
        for (group, source) in groups {
            let (position, term) = source.head.position;
            let known = best.get(group);
            if known.is_none_or(|(_, reach)| *reach < (term, position)) {
                best.insert(*group, (number, (term, position)));
            }
        }
    }
    best
}

fn look(sandboxes: Vec<Opened>, work: &Path) -> Result<Findings, Failure> {
    let sources = sources_of(&sandboxes)?;
    let all = furthest(&sources, &|_| true);
    let (number, _) = *all.get(&GroupId::DIRECTORY).ok_or_else(|| {
        Failure::new("none of these sandboxes has a directory: they were never part of a cluster")
    })?;
    let directory = sources[number][&GroupId::DIRECTORY].directory();
    let directory = directory.map_err(|why| sandboxes[number].failed(&why))?;
    let is_member = |number: usize| directory.members.contains_key(&sandboxes[number].replica);
    let replaced = (0..sandboxes.len()).filter(|number| !is_member(*number));
    let in_doubt = sandboxes.iter().filter_map(|one| {
        let why = one.doubt.as_ref()?;
        let node = &one.node_id;
        Some(format!("the sandbox of node '{node}' does not count for a majority: {why}"))
    });
    let notes = replaced
        .map(|number| {
            let node = &sandboxes[number].node_id;
            format!("the sandbox of node '{node}' is left out: the cluster has replaced it")
        })
        .chain(in_doubt)
        .collect();
    let reaches = furthest(&sources, &is_member);
    let groups = groups_of(&directory);
    let lacking = groups.keys().find(|group| !group.is_instance() && !reaches.contains_key(group));
    if let Some(group) = lacking {
        return Err(Failure::new(format!("none of these sandboxes has {}", groups[group].0))
            .advise("they are of nodes that were never filled: name others with --from"));
    }
    let mut found = Vec::new();
    for (group, (name, replicas)) in &groups {
        let best = reaches.get(group).map(|(number, (term, position))| {
            (sandboxes[*number].node_id.clone(), position.0, term.0)
        });
        let furthest = reaches.get(group).and_then(|(number, _)| sources[*number].get(group));
        let voters = furthest.and_then(|source| source.voters.as_ref());
        let counts = |one: &Opened| {
            one.doubt.is_none()
                && replicas.contains(&one.replica)
                && voters.is_none_or(|all| all.is_empty() || all.contains(&one.replica))
        };
        let has =
            |number: &usize| counts(&sandboxes[*number]) && sources[*number].contains_key(group);
        found.push(Found {
            name: name.clone(),
            best,
            here: (0..sandboxes.len()).filter(has).count(),
            of: replicas.len().max(voters.map_or(0, Vec::len)),
            is_changing: furthest.is_some() && voters.is_none(),
            is_instance: group.is_instance(),
            is_in_memory: directory.in_memory.contains(group),
        });
    }
    let best = reaches.into_iter().filter(|(group, _)| groups.contains_key(group));
    let best = best.map(|(group, (number, _))| (group, number)).collect();
    drop(sources);
    Ok(Findings { sandboxes, work: work.to_owned(), best, directory, found, notes })
}

/// Each group with its name and the replicas that it should have.
fn groups_of(directory: &DirectorySeen) -> BTreeMap<GroupId, (String, Vec<ReplicaId>)> {
    let members: Vec<ReplicaId> = directory.members.keys().copied().collect();
    let mut groups = BTreeMap::new();
    for group in (0..=directory.partitions).map(GroupId) {
        let name = GroupFile { group: group.0, ..GroupFile::default() }.name();
        groups.insert(group, (name, members.clone()));
    }
    for (group, name, replicas) in &directory.instances {
        groups.insert(*group, (format!("immortal '{name}'"), replicas.clone()));
    }
    groups
}

impl Findings {
    /// The cluster that the sandboxes are of.
    pub fn cluster(&self) -> String {
        format!("{:016x}", self.directory.cluster)
    }

    /// The nodes whose sandboxes are here, and all nodes that the cluster had.
    pub fn nodes(&self) -> (Vec<&str>, Vec<&str>) {
        let here = self.sandboxes.iter().map(|one| one.node_id.as_str()).collect();
        (here, self.directory.members.values().map(String::as_str).collect())
    }
}

impl Drop for Findings {
    /// The copies are of no use any more; a person may remove what cannot be removed here.
    fn drop(&mut self) {
        self.sandboxes.clear();
        drop(fs::remove_dir_all(&self.work));
    }
}

/// Makes a backup of what was found. Instances of which nothing is left are not in it.
///
/// # Errors
/// When it cannot be read or written.
pub fn save_findings(findings: &Findings, to: &Path, at_micros: u64) -> Result<Manifest, Failure> {
    let directory = &findings.directory;
    let manifest = Manifest {
        backup: in_hex(&random().to_be_bytes()),
        cluster: findings.cluster(),
        version: env!("CARGO_PKG_VERSION").into(),
        at_micros,
        nodes: directory.members.values().cloned().collect(),
        is_recovered: true,
        ..Manifest::default()
    };
    let mut writer = BackupWriter::create(to, manifest)?;
    let lost: Vec<&str> = directory
        .instances
        .iter()
        .filter(|(group, ..)| !findings.best.contains_key(group))
        .map(|(_, name, _)| name.as_str())
        .collect();
    let mut sources = sources_of(&findings.sandboxes)?;
    for (group, number) in &findings.best {
        let sandbox = &findings.sandboxes[*number];
        let source = sources[*number].remove(group);
        let mut source = source.ok_or_else(|| sandbox.failed("a group is gone"))?;
        // They would begin anew under numbers that others have seen.
        let gone = if group.is_directory() { source.deregistering(&lost) } else { Vec::new() };
        let (position, term) = source.head.position;
        let instance = directory.instances.iter().find(|(id, ..)| id == group);
        let mut file = writer.group(GroupFile {
            group: group.0,
            instance: instance.map(|(_, name, _)| name.clone()),
            position: position.0,
            term: term.0,
            ..GroupFile::default()
        })?;
        let mut next = Some(Vec::new());
        while let Some(after) = next {
            let page = source.page(&after).map_err(|why| sandbox.failed(&why))?;
            next = file.page(&page.encode())?;
        }
        if !gone.is_empty() {
            let page = Page { block: Block::Entries(gone), next: Vec::new() };
            file.page(&page.encode())?;
        }
        writer.add(file.finish()?);
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_else_may_enter_the_copy_of_a_sandbox() {
        let folder = tempfile::tempdir().unwrap();
        let (from, work) = (folder.path().join("log"), folder.path().join("left.work"));
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::write(from.join("inner/file"), "text").unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o755)).unwrap();
        let to = work.join("0/log");
        copy_folder(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("inner/file")).unwrap(), "text");
        for made in [&work, &work.join("0"), &to, &to.join("inner")] {
            let mode = fs::metadata(made).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, FOLDER_MODE, "{}", made.display());
        }
    }
}
