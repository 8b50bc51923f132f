//! Whether a node still has what it promised.
//!
//! Raft's members never forget a vote, nor an entry that they confirmed. A sandbox can forget:
//! folders are deleted, copies are put back, disks are set back to a snapshot. So a node votes and
//! counts only when the parts of its sandbox go together and no other node remembers more of it. A
//! node that cannot prove this comes back as another replica. The argument, with each case, is in
//! `docs/design/0011-a-node-that-forgot.md`.

use std::collections::BTreeSet;

use cluster::{DirectoryMachine, Identity, Stamp};
use protocol::{GroupId, ReplicaId};
use storage::{Recovered, Space, StateStore, StoreError, Witness};

use crate::io::SandboxState;

/// How long a node that comes back waits for the others to say what they remember of it, in ticks:
/// on a slow network a link takes several round trips. Then the rest of the proof has to do.
const TICKS_MAX: u64 = 300;

/// How long it waits for those where nobody is: they may be down for long, or be starting as well.
const ABSENT_TICKS: u64 = 30;

/// Why a node cannot start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// The node cannot prove that it still has what it promised. The sandbox must be put aside, and
    /// the node begins anew as another replica, if there are others that can fill it.
    Forgot(String),
    /// A person has to do something about it; the text says what.
    Impossible(String),
}

impl StartError {
    fn of_store(error: &StoreError) -> Self {
        if error.is_damage {
            Self::Forgot(error.to_string())
        } else {
            Self::Impossible(error.to_string())
        }
    }
}

/// Who the node is, if its parts go together.
///
/// # Errors
/// When the parts do not go together, or the store cannot be read.
pub(crate) fn check(
    sandbox: &SandboxState,
    recovered: &Recovered,
    store: &dyn StateStore,
) -> Result<Option<Identity>, StartError> {
    let identity = Identity::read(store).map_err(|error| StartError::of_store(&error))?;
    if identity.is_none() && !recovered.groups.is_empty() {
        return Err(StartError::Forgot(
            "its state store is missing, or does not know the node".into(),
        ));
    }
    if sandbox.is_trusted {
        return Ok(identity);
    }
    let stamp = Stamp::read(store).map_err(|error| StartError::of_store(&error))?;
    if let Some(why) = missing(sandbox, recovered, identity.is_some(), stamp) {
        return Err(StartError::Forgot(why));
    }
    let is_of_many = || has_others(identity.as_ref(), sandbox, store);
    if sandbox.is_copy && is_of_many().map_err(|error| StartError::of_store(&error))? {
        return Err(StartError::Forgot(
            "its sandbox is a copy, perhaps an older one, of the one that the node wrote".into(),
        ));
    }
    Ok(identity)
}

/// Why a sandbox that no node uses may lack some of what its node has promised, as far as it tells
/// by itself.
///
/// # Errors
/// When its store cannot be read.
pub fn why_in_doubt(
    sandbox: &SandboxState,
    recovered: &Recovered,
    store: &dyn StateStore,
) -> Result<Option<String>, String> {
    match check(sandbox, recovered, store) {
        Ok(_) => Ok(None),
        Err(StartError::Forgot(why)) => Ok(Some(why)),
        Err(StartError::Impossible(why)) => Err(why),
    }
}

/// Whether another replica remembers more of a sandbox than its log has. What it remembers from
/// before a start that a person trusted proves nothing.
pub fn is_set_back(remembered: &Witness, recovered: &Recovered, trusted_boot: u64) -> bool {
    let boot = recovered.owner.map_or(0, |owner| owner.boot);
    let has_more = remembered.boot > boot || remembered.frames > recovered.frames;
    has_more && remembered.boot >= trusted_boot
}

/// What is missing, or is of another time than the rest.
fn missing(
    sandbox: &SandboxState,
    recovered: &Recovered,
    is_member: bool,
    stamp: Option<Stamp>,
) -> Option<String> {
    match recovered.owner {
        // A log of an earlier release says nothing.
        None if recovered.frames == 0 && (sandbox.has_begun || is_member) => {
            return Some("its log is missing".into());
        }
        Some(owner) if owner.sandbox_id != sandbox.id => {
            return Some("its log is that of another sandbox".into());
        }
        _ => {}
    }
    let stamp = stamp?;
    if stamp.sandbox_id != sandbox.id {
        return Some("its state store is that of another sandbox".into());
    }
    (stamp.frames > recovered.frames).then(|| {
        format!(
            "its log is older than its state store: it ends after {} writes, and had {} when the \
             state was written",
            recovered.frames, stamp.frames
        )
    })
}

/// Whether this node has promised something to other nodes. A copy of a cluster of one is a backup.
fn has_others(
    identity: Option<&Identity>,
    sandbox: &SandboxState,
    store: &dyn StateStore,
) -> Result<bool, StoreError> {
    // An older state may be from before others joined.
    if sandbox.has_had_others {
        return Ok(true);
    }
    let Some(identity) = identity else { return Ok(sandbox.forgot.is_some()) };
    let (space, _) = Space::open(store, GroupId::DIRECTORY)?;
    let directory = DirectoryMachine::open(store, &space)?;
    let members = directory.topology().members().len();
    Ok(identity.initial.founders.len().max(members) > 1)
}

/// What a node that came back waits for before it says who it is in any group.
#[derive(Debug, Default)]
pub(crate) struct Proof {
    ticks_left: u64,
    heard: BTreeSet<ReplicaId>,
    /// Where nobody was reached at the last attempt.
    absent: BTreeSet<String>,
}

impl Proof {
    /// The proof of a node that was a member before this start.
    pub(crate) fn of_one_that_is_back() -> Self {
        Self { ticks_left: TICKS_MAX, ..Self::default() }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.ticks_left == 0
    }

    /// Notes that that replica remembers nothing which is missing here.
    pub(crate) fn heard(&mut self, replica: ReplicaId) {
        if !self.is_complete() {
            self.heard.insert(replica);
        }
    }

    /// An attempt to reach somebody there came to nothing.
    pub(crate) fn is_absent(&mut self, address: String) {
        if !self.is_complete() {
            self.absent.insert(address);
        }
    }

    /// Somebody is there.
    pub(crate) fn is_reached(&mut self, address: &str) {
        self.absent.remove(address);
    }

    /// True when it is complete with this: all others, each with its address, were heard, or have
    /// been waited for long enough.
    pub(crate) fn ends_with<'a>(
        &mut self,
        others: impl IntoIterator<Item = (ReplicaId, &'a str)>,
    ) -> bool {
        if self.is_complete() {
            return false;
        }
        let waits_for_all = TICKS_MAX - self.ticks_left < ABSENT_TICKS;
        let is_done = |(id, address): (ReplicaId, &str)| {
            self.heard.contains(&id) || (!waits_for_all && self.absent.contains(address))
        };
        let ends = others.into_iter().all(is_done);
        if ends {
            self.ticks_left = 0;
        }
        ends
    }

    /// True when this completes the proof.
    pub(crate) fn tick(&mut self) -> bool {
        let was_complete = self.is_complete();
        self.ticks_left = self.ticks_left.saturating_sub(1);
        !was_complete && self.is_complete()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cluster::{InitialConfig, Member};
    use storage::{LogOwner, MemoryStore, RecoveredGroup};

    use super::*;

    const ID: u64 = 77;

    fn sandbox() -> SandboxState {
        SandboxState { id: ID, boot: 3, has_begun: true, ..SandboxState::default() }
    }

    #[test]
    fn what_another_remembers_shows_that_a_log_was_set_back() {
        let of = |boot, frames| Witness { boot, start: 1, frames };
        let log = recovered(50);
        assert!(!is_set_back(&Witness::default(), &log, 0) && !is_set_back(&of(2, 50), &log, 0));
        assert!(is_set_back(&of(3, 10), &log, 0), "a later start");
        assert!(
            is_set_back(&of(2, 51), &log, 0) && is_set_back(&of(1, 51), &log, 0),
            "more writes"
        );
        assert!(!is_set_back(&of(1, 51), &log, 2), "a person trusted it since");
    }

    #[test]
    fn a_sandbox_that_no_node_would_start_on_is_in_doubt() {
        let log = recovered(50);
        assert_eq!(why_in_doubt(&sandbox(), &log, &store(3, 50)), Ok(None));
        let why = why_in_doubt(&sandbox(), &log, &store(3, 51));
        assert!(matches!(&why, Ok(Some(why)) if why.contains("older")), "{why:?}");
        let copy = SandboxState { is_copy: true, ..sandbox() };
        let why = why_in_doubt(&copy, &log, &store(3, 50));
        assert!(matches!(&why, Ok(Some(why)) if why.contains("copy")), "{why:?}");
    }

    fn recovered(frames: u64) -> Recovered {
        let owner = Some(LogOwner { sandbox_id: ID, boot: 2 });
        let groups = BTreeMap::from([(GroupId(1), RecoveredGroup::default())]);
        Recovered { groups, owner, frames, ..Recovered::default() }
    }

    fn store(nodes: u64, frames: u64) -> MemoryStore {
        let member = |id: u64| Member {
            node_id: format!("n{id}"),
            uri: format!("http://n{id}"),
            sandbox_id: id,
        };
        let founders = (1..=nodes).map(|id| (ReplicaId(id), member(id))).collect();
        let initial = InitialConfig::new(4, founders);
        let mut store = MemoryStore::new();
        Identity { replica: ReplicaId(1), initial }.write(&mut store).unwrap();
        Stamp { sandbox_id: ID, frames }.write(&mut store).unwrap();
        store
    }

    fn why(sandbox: &SandboxState, recovered: &Recovered, store: &MemoryStore) -> String {
        match check(sandbox, recovered, store) {
            Err(StartError::Forgot(why)) => why,
            other => panic!("it should have forgotten something: {other:?}"),
        }
    }

    #[test]
    fn parts_that_go_together_prove_themselves() {
        assert!(check(&sandbox(), &recovered(9), &store(3, 9)).unwrap().is_some());
        assert!(check(&sandbox(), &recovered(20), &store(3, 9)).unwrap().is_some());
        let fresh = SandboxState { id: ID, boot: 1, ..SandboxState::default() };
        assert_eq!(check(&fresh, &Recovered::default(), &MemoryStore::new()), Ok(None));
    }

    #[test]
    fn each_part_that_is_missing_or_older_is_noticed() {
        let empty = Recovered::default();
        assert!(why(&sandbox(), &empty, &store(3, 9)).contains("log is missing"));
        assert!(why(&sandbox(), &empty, &MemoryStore::new()).contains("log is missing"));
        assert!(why(&sandbox(), &recovered(9), &MemoryStore::new()).contains("state store"));
        assert!(why(&sandbox(), &recovered(8), &store(3, 9)).contains("older than its state"));
        let other = SandboxState { id: 1, ..sandbox() };
        assert!(why(&other, &recovered(9), &store(3, 9)).contains("another sandbox"));
        // `node.json` was deleted and made anew, or was written before the log was begun.
        let early = SandboxState { has_begun: false, ..sandbox() };
        assert!(why(&early, &empty, &store(3, 9)).contains("log is missing"));
    }

    #[test]
    fn a_copy_is_noticed_where_others_were_promised_something() {
        let copy = SandboxState { is_copy: true, ..sandbox() };
        assert!(why(&copy, &recovered(9), &store(3, 9)).contains("is a copy"));
        assert!(check(&copy, &recovered(9), &store(1, 9)).is_ok(), "a backup of a cluster of one");
        let grown = SandboxState { has_had_others: true, ..copy.clone() };
        assert!(why(&grown, &recovered(9), &store(1, 9)).contains("is a copy"), "others joined");
        let trusted = SandboxState { is_trusted: true, ..copy };
        assert!(check(&trusted, &recovered(8), &store(3, 9)).is_ok(), "a person said so");
    }

    #[test]
    fn a_proof_is_complete_when_all_others_were_heard_or_after_a_while() {
        let others = [(ReplicaId(1), "one"), (ReplicaId(2), "two")];
        let mut proof = Proof::of_one_that_is_back();
        proof.heard(ReplicaId(1));
        assert!(!proof.ends_with(others) && !proof.is_complete());
        proof.heard(ReplicaId(2));
        assert!(proof.ends_with(others) && proof.is_complete() && !proof.ends_with(others));
        let mut late = Proof::of_one_that_is_back();
        let ticks = (1..).find(|_| late.tick()).unwrap();
        assert_eq!(ticks, TICKS_MAX);
        let mut alone = Proof::of_one_that_is_back();
        alone.heard(ReplicaId(1));
        alone.is_absent("two".into());
        let ticks = (1..).find(|_| alone.tick() || alone.ends_with(others)).unwrap();
        assert_eq!(ticks, ABSENT_TICKS, "nobody is there");
        let mut slow = Proof::of_one_that_is_back();
        slow.is_absent("one".into());
        slow.is_absent("two".into());
        slow.is_reached("two");
        let ticks = (1..).find(|_| slow.tick() || slow.ends_with(others)).unwrap();
        assert_eq!(ticks, TICKS_MAX, "somebody is there, and has yet to speak");
        assert!(Proof::default().is_complete(), "who has just become a member promised nothing");
    }
}
