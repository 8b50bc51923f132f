//! A cluster is made of a backup: what its first node has on the disk when it starts for the first
//! time.
//!
//! Each group is left as after a snapshot that was installed: its state, at one position of the
//! log, and the entries behind it. The only member of every group is the new node, under a replica
//! id that was never given away. The cluster has a new name, which follows from the new sandbox.
//! Positions and terms go on, so versions, epochs and the numbers of messages do.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cluster::{DirectoryCommand, DirectoryMachine, Identity, InstanceCommand, Member, Stamp};
use documents::{Command, fence_at_rest};
use group::{decode_members, encode_members};
use protocol::{GroupId, Position, ReplicaId, Term};
use replication::Members;
use storage::{
    Applied, Batch, Entry, EntryKind, LogReader, LogRecord, MemoryStore, ReadLimits, Reader,
    Recovered, RecoveredGroup, Space, StateStore, StoreError,
};

use super::page::{Block, Cursor, Head, PAGE_BYTES, Page, logged};

/// Writes groups into a new store. What goes into the log is given back, in order.
pub struct Restorer<'a> {
    store: &'a mut dyn StateStore,
    node: Member,
    identity: Option<Identity>,
    /// The group that is being written.
    group: Option<Written>,
    /// Those that are written, and where they end.
    done: BTreeMap<GroupId, Position>,
    /// The latest term that anything in the backup knows of, see [`Self::end`].
    term: Term,
}

struct Written {
    head: Head,
    space: Space,
    /// The last entry so far.
    last: (Position, Term),
    /// Of the directory: they are applied at once, as some of them are about nodes that are gone.
    of_directory: Vec<Bytes>,
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The name of the new cluster.
    pub cluster: u64,
    pub replica: ReplicaId,
    pub partitions: u32,
}

impl<'a> Restorer<'a> {
    /// On an empty store, for the node with this name, address and sandbox.
    pub fn new(
        store: &'a mut dyn StateStore,
        (id, uri): (String, String),
        sandbox_id: u64,
    ) -> Self {
        let node = Member { node_id: id, uri, sandbox_id };
        Self { store, node, identity: None, group: None, done: BTreeMap::new(), term: Term(0) }
    }

    /// Takes the next block. A head begins a group, and ends the one before; the directory comes
    /// first.
    ///
    /// # Errors
    /// What does not fit, or why it cannot be written.
    pub fn take(&mut self, block: Block) -> Result<Vec<LogRecord>, String> {
        match block {
            Block::Head(head) => {
                self.end_group()?;
                self.begin_group(head)
            }
            Block::State(pairs) => {
                let written = self.group.as_ref().ok_or("a state without a head")?;
                if written.head.group.is_partition() {
                    let fences = pairs.iter().filter_map(|(key, it)| fence_at_rest(key, it));
                    self.term = fences.fold(self.term, Term::max);
                }
                let mut batch = Batch::default();
                written.space.stage(&mut batch, pairs);
                self.store.write(batch).map_err(|error| error.to_string())?;
                Ok(Vec::new())
            }
            Block::Entries(entries) => self.entries(entries),
        }
    }

    fn begin_group(&mut self, head: Head) -> Result<Vec<LogRecord>, String> {
        let group = head.group;
        if group.is_directory() != self.identity.is_none() {
            return Err(format!("{} comes where it should not", crate::hosted::name_of(group)));
        }
        let (space, applied) = Space::open(&*self.store, group).map_err(|it| it.to_string())?;
        if applied != Applied::default() {
            return Err(format!("{} comes twice", crate::hosted::name_of(group)));
        }
        let last = head.applied;
        self.group = Some(Written { head, space, last, of_directory: Vec::new() });
        // The directory is written as it is in the end, and so begins there.
        let (position, term) = if group.is_directory() { head.position } else { head.applied };
        Ok(vec![LogRecord::Base { group, position, term }])
    }

    fn entries(&mut self, entries: Vec<(Position, Term, Bytes)>) -> Result<Vec<LogRecord>, String> {
        let written = self.group.as_mut().ok_or("entries without a head")?;
        let group = written.head.group;
        let mut records = Vec::new();
        for (position, term, data) in entries {
            let (last, last_term) = written.last;
            if last.0.checked_add(1) != Some(position.0) || term < last_term {
                return Err(format!(
                    "after position {last} of {} comes position {position}",
                    crate::hosted::name_of(group)
                ));
            }
            written.last = (position, term);
            if group.is_partition() && !data.is_empty() {
                let command = Command::decode(&data).map_err(|problem| problem.message)?;
                let epoch = command.source().map(|source| source.epoch);
                self.term = self.term.max(epoch.unwrap_or_default());
            }
            if group.is_directory() {
                written.of_directory.push(data);
            } else {
                let entry = Entry { position, term, kind: EntryKind::Normal, data };
                records.push(LogRecord::Entry { group, entry });
            }
        }
        Ok(records)
    }

    fn end_group(&mut self) -> Result<(), String> {
        let Some(Written { head, space, last, of_directory }) = self.group.take() else {
            return Ok(());
        };
        let group = head.group;
        if last.0 != head.position.0 {
            return Err(format!(
                "{} ends at position {} and should go on to {}",
                crate::hosted::name_of(group),
                last.0,
                head.position.0
            ));
        }
        if group.is_directory() {
            let made = DirectoryMachine::found_anew(
                &mut *self.store,
                &space,
                &of_directory,
                self.node.clone(),
            );
            self.identity = Some(made.map_err(|error| error.to_string())?);
        }
        let me = self.identity.as_ref().expect("the directory comes first").replica;
        let members = encode_members(&Members::of_voters([me]));
        let (position, term) = if group.is_directory() { head.position } else { head.applied };
        let mut batch = Batch::default();
        space.install(&mut batch, &Applied { position, term, members });
        self.store.write(batch).map_err(|error| error.to_string())?;
        let (end, term) = head.position;
        self.done.insert(group, end);
        self.term = self.term.max(term);
        Ok(())
    }

    /// After the last block. When the records are durable, [`Self::seal`] comes.
    ///
    /// All groups begin behind the latest term of any. In what is left of a cluster, a partition
    /// may have a fence of a term of which the log of the partition behind it has nothing any more:
    /// below that term, its tasks would be shut out for ever.
    ///
    /// # Errors
    /// When something is missing.
    pub fn end(&mut self) -> Result<Vec<LogRecord>, String> {
        self.end_group()?;
        let awaited = self.awaited()?;
        if let Some(group) = awaited.iter().find(|group| !self.done.contains_key(group)) {
            return Err(format!("{} is missing", crate::hosted::name_of(*group)));
        }
        if let Some(group) = self.done.keys().find(|group| !awaited.contains(group)) {
            return Err(format!(
                "{} is not one that the directory knows",
                crate::hosted::name_of(*group)
            ));
        }
        let (term, voted_for) = (self.term, ReplicaId(0));
        let vote = |(group, end): (&GroupId, &Position)| LogRecord::Vote {
            group: *group,
            term,
            voted_for,
            commit: *end,
        };
        Ok(self.done.iter().map(vote).collect())
    }

    /// The groups that the directory names, and itself.
    fn awaited(&self) -> Result<BTreeSet<GroupId>, String> {
        let identity = self.identity.as_ref().ok_or("there is no directory")?;
        let failed = |error: StoreError| error.to_string();
        let (space, _) = Space::open(&*self.store, GroupId::DIRECTORY).map_err(failed)?;
        let directory = DirectoryMachine::open(&*self.store, &space).map_err(failed)?;
        let documents = (0..=identity.initial.partitions).map(GroupId);
        let instances = directory.topology().instances().map(|entry| entry.group);
        Ok(documents.chain(instances).collect())
    }

    /// All records are durable: from now on the store says who the node is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn seal(self) -> Result<Restored, String> {
        let identity = self.identity.ok_or("there is no directory")?;
        // Before this, a restart finds a log whose state does not know the node, and takes nothing
        // of it.
        self.store.persist().map_err(|error| error.to_string())?;
        let written = identity
            .write(&mut *self.store)
            .and_then(|()| {
                Stamp { sandbox_id: self.node.sandbox_id, frames: 1 }.write(&mut *self.store)
            })
            .and_then(|()| self.store.persist());
        written.map_err(|error| error.to_string())?;
        let Identity { replica, initial } = identity;
        Ok(Restored { cluster: initial.cluster, replica, partitions: initial.partitions })
    }
}

/// The groups that a backup must have, as the blocks of its directory say, which are all of those.
///
/// # Errors
/// What does not fit.
pub fn groups_of(directory: Vec<Block>) -> Result<BTreeSet<GroupId>, String> {
    let mut store = MemoryStore::new();
    let node = ("nobody".to_owned(), "http://nobody".to_owned());
    let mut restorer = Restorer::new(&mut store, node, 1);
    for block in directory {
        restorer.take(block)?;
    }
    restorer.end_group()?;
    restorer.awaited()
}

/// What a sandbox that no node uses has of one group, page by page.
pub struct Source<'a> {
    store: &'a dyn Reader,
    log: &'a dyn LogReader,
    space: Space,
    pub head: Head,
    /// The replicas that vote; none at all, if they are those that the group began with. `None`
    /// when that changes behind the state.
    pub voters: Option<Vec<ReplicaId>>,
    /// How many positions the head goes beyond what is in the log.
    added: u64,
}

/// What a directory says, as far as it matters to who makes a backup of what is left.
#[derive(Clone, Debug)]
pub struct DirectorySeen {
    pub cluster: u64,
    pub partitions: u32,
    /// The names of the nodes.
    pub members: BTreeMap<ReplicaId, String>,
    /// Each instance with its name and its replicas.
    pub instances: Vec<(GroupId, String, Vec<ReplicaId>)>,
    /// Those of them whose inputs are acknowledged before they are on any disk.
    pub in_memory: Vec<GroupId>,
}

/// What a sandbox that no node uses has: who the node was, and each group with how far it reaches.
///
/// # Errors
/// When it cannot be read, or its parts do not go together.
pub fn read_sandbox<'a>(
    store: &'a dyn Reader,
    log: &'a dyn LogReader,
    recovered: &Recovered,
) -> Result<(Identity, Vec<Source<'a>>), String> {
    let identity = Identity::read(store).map_err(|error| error.to_string())?;
    let identity = identity.ok_or("it belongs to no cluster: it is empty, or its state is gone")?;
    let mut sources = Vec::new();
    for (group, found) in &recovered.groups {
        sources.extend(Source::of(store, log, *group, found)?);
    }
    Ok((identity, sources))
}

impl<'a> Source<'a> {
    fn of(
        store: &'a dyn Reader,
        log: &'a dyn LogReader,
        group: GroupId,
        found: &RecoveredGroup,
    ) -> Result<Option<Self>, String> {
        let (space, applied) = Space::open(store, group).map_err(|error| error.to_string())?;
        let name = crate::hosted::name_of(group);
        if applied == Applied::default() && found.base > Position(0) {
            // An instance that is not registered any more leaves only the end of its log.
            return Ok(None);
        }
        if found.base > applied.position {
            return Err(format!(
                "{name}: the log begins behind position {}, and the state stands at {}: one of them is \
                 older than the other",
                found.base, applied.position
            ));
        }
        let last = (found.last, found.last_term());
        // After a snapshot, the state may be further than the log.
        let position = last.max((applied.position, applied.term));
        let changes = found.memberships.iter().any(|at| *at > applied.position);
        let members = decode_members(&applied.members).map_err(|error| error.to_string())?;
        let is_known = !changes && members.outgoing.is_empty();
        let voters = is_known.then_some(members.voters);
        let applied = (applied.position, applied.term);
        Ok(Some(Self {
            store,
            log,
            space,
            head: Head { group, applied, position },
            voters,
            added: 0,
        }))
    }

    /// What the directory says at its end; for the source of the directory alone.
    ///
    /// # Errors
    /// When it cannot be read, or there was no cluster.
    pub fn directory(&self) -> Result<DirectorySeen, String> {
        let machine = DirectoryMachine::open(self.store, &self.space);
        let mut topology = machine.map_err(|error| error.to_string())?.topology().clone();
        let mut next = Cursor::Entries(self.head.applied.0, self.head.applied.0).encode();
        while self.head.applied.0 < self.head.position.0 && !next.is_empty() {
            let page = self.page(&next)?;
            next = page.next;
            let Block::Entries(entries) = page.block else { break };
            for (_, _, data) in entries.iter().filter(|(_, _, data)| !data.is_empty()) {
                topology.apply(DirectoryCommand::decode(data)?);
            }
        }
        let cluster = topology.cluster().ok_or("the cluster was never formed")?;
        let name = |(id, member): (&ReplicaId, &Member)| (*id, member.node_id.clone());
        let instances = topology
            .instances()
            .map(|entry| (entry.group, entry.name.clone(), topology.replicas_of(entry.group)));
        let in_memory = topology.instances().filter(|entry| entry.options.memory);
        Ok(DirectorySeen {
            in_memory: in_memory.map(|entry| entry.group).collect(),
            cluster,
            partitions: topology.partitions(),
            members: topology.members().iter().map(name).collect(),
            instances: instances.collect(),
        })
    }

    /// Entries for the end of the directory by which instances of which nothing is left are
    /// removed. The head goes as far then.
    pub fn deregistering(&mut self, names: &[&str]) -> Vec<(Position, Term, Bytes)> {
        let mut entries = Vec::new();
        for name in names {
            let (position, term) = (self.head.position.0.next(), self.head.position.1);
            let command = InstanceCommand::Deregister { name: (*name).to_owned() };
            entries.push((position, term, DirectoryCommand::Instance(command).encode()));
            self.head.position.0 = position;
            self.added += 1;
        }
        entries
    }

    /// The page behind what the former page said as its next; without bytes the first one.
    ///
    /// # Errors
    /// When the sandbox cannot be read.
    pub fn page(&self, after: &[u8]) -> Result<Page, String> {
        let (head, base) = (self.head, self.head.applied.0);
        let last_here = Position(head.position.0.0 - self.added);
        match Cursor::decode(after).ok_or("a page that was not named")? {
            Cursor::Head => {
                let next = Cursor::State(base, Vec::new()).encode();
                Ok(Page { block: Block::Head(head), next })
            }
            Cursor::State(_, key) => {
                let chunk = self.space.export(self.store, &key, PAGE_BYTES);
                let chunk = chunk.map_err(|error| error.to_string())?;
                Ok(Page::of_state(chunk, base, last_here))
            }
            Cursor::Entries(_, behind) => {
                let limits = ReadLimits { data_bytes: PAGE_BYTES, file_bytes: usize::MAX };
                let end = last_here.next();
                let read = self.log.entries(head.group, behind.next(), end, limits);
                let read = read.map_err(|error| error.to_string())?.entries;
                let entries: Vec<_> = read.into_iter().map(logged).collect();
                let last = entries.last().map(|(position, ..)| *position);
                let last = last.ok_or("the log has lost an entry")?;
                let goes_on = last < last_here;
                let next = goes_on.then(|| Cursor::Entries(base, last).encode());
                Ok(Page { block: Block::Entries(entries), next: next.unwrap_or_default() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cluster::{DirectoryCommand, InitialConfig};
    use storage::MemoryStore;

    use super::*;

    const TERM: Term = Term(3);

    fn head(group: u32, applied: u64, position: u64) -> Block {
        let at = |position| (Position(position), TERM);
        Block::Head(Head { group: GroupId(group), applied: at(applied), position: at(position) })
    }

    fn entry(position: u64, data: Bytes) -> Block {
        Block::Entries(vec![(Position(position), TERM, data)])
    }

    fn vote(group: u32, term: Term, commit: u64) -> LogRecord {
        let (group, commit) = (GroupId(group), Position(commit));
        LogRecord::Vote { group, term, voted_for: ReplicaId(0), commit }
    }

    #[test]
    fn all_groups_begin_behind_the_latest_term_that_anything_knows_of() {
        let source = protocol::Source { partition: GroupId(1), epoch: Term(8) };
        let in_a_state = Block::State(vec![(vec![6, 0, 0, 0, 2], 7u64.to_be_bytes().to_vec())]);
        for (block, term) in [
            (in_a_state, Term(7)),
            (entry(8, Command::Fence(source).encode()), Term(8)),
            (entry(8, Command::Noop.encode()), TERM),
        ] {
            let mut store = MemoryStore::new();
            let mut one = restorer(&mut store);
            one.take(head(0, 0, 1)).unwrap();
            one.take(entry(1, formed())).unwrap();
            let end = if matches!(block, Block::State(_)) { 7 } else { 8 };
            one.take(head(1, 7, end)).unwrap();
            one.take(block).unwrap();
            assert_eq!(one.end().unwrap(), [vote(0, term, 1), vote(1, term, end)]);
        }
    }

    #[test]
    fn a_group_that_the_directory_does_not_know_makes_up_for_none() {
        let foreign = GroupId::INSTANCES.0 + 1;
        for groups in [vec![foreign], vec![1, foreign]] {
            let mut store = MemoryStore::new();
            let mut one = restorer(&mut store);
            one.take(head(0, 0, 1)).unwrap();
            one.take(entry(1, formed())).unwrap();
            for group in groups {
                one.take(head(group, 7, 7)).unwrap();
            }
            one.end().unwrap_err();
        }
        let mut store = MemoryStore::new();
        let mut one = restorer(&mut store);
        let end = (Position(u64::MAX), TERM);
        one.take(Block::Head(Head { group: GroupId(0), applied: end, position: end })).unwrap();
        assert!(one.take(entry(0, formed())).is_err(), "there is nothing behind the last position");
    }

    fn formed() -> Bytes {
        let member = Member { node_id: "old".into(), uri: "http://old".into(), sandbox_id: 1 };
        let initial = InitialConfig::new(1, [(ReplicaId(1), member)].into());
        DirectoryCommand::Form { initial, quorum: None }.encode()
    }

    fn restorer(store: &mut MemoryStore) -> Restorer<'_> {
        Restorer::new(store, ("new".into(), "http://new".into()), 9)
    }

    #[test]
    fn the_first_node_has_what_it_would_have_after_snapshots() {
        let mut store = MemoryStore::new();
        let mut restorer = restorer(&mut store);
        restorer.take(head(0, 0, 1)).unwrap();
        restorer.take(entry(1, formed())).unwrap();
        let mut records = restorer.take(head(1, 7, 8)).unwrap();
        let pair = (vec![9, 1], b"value".to_vec());
        restorer.take(Block::State(vec![pair.clone()])).unwrap();
        records.extend(restorer.take(entry(8, Bytes::new())).unwrap());
        records.extend(restorer.end().unwrap());
        let group = GroupId(1);
        let (kind, data) = (EntryKind::Normal, Bytes::new());
        assert_eq!(
            records[..2],
            [
                LogRecord::Base { group, position: Position(7), term: TERM },
                LogRecord::Entry {
                    group,
                    entry: Entry { position: Position(8), term: TERM, kind, data }
                },
            ]
        );
        assert_eq!(records[2..], [vote(0, TERM, 1), vote(1, TERM, 8)]);
        let made = restorer.seal().unwrap();
        assert_eq!((made.replica, made.partitions), (ReplicaId(2), 1));
        let identity = Identity::read(&store).unwrap().unwrap();
        assert_eq!(identity.initial.cluster, made.cluster);
        let (space, applied) = Space::open(&store, group).unwrap();
        assert_eq!(applied.position, Position(7));
        assert_eq!(decode_members(&applied.members).unwrap().voters, [ReplicaId(2)]);
        assert_eq!(store.get(&space.key(9, &[1])).unwrap(), Some(pair.1));
    }

    #[test]
    fn what_is_missing_or_out_of_place_is_refused() {
        let mut store = MemoryStore::new();
        let mut one = restorer(&mut store);
        assert!(one.take(entry(1, formed())).is_err(), "entries without a head");
        assert!(one.take(head(1, 7, 7)).is_err(), "the directory comes first");
        let mut store = MemoryStore::new();
        let mut one = restorer(&mut store);
        one.take(head(0, 0, 1)).unwrap();
        assert!(one.take(head(1, 7, 9)).is_err(), "the directory has lost an entry");
        let mut store = MemoryStore::new();
        let mut one = restorer(&mut store);
        one.take(head(0, 0, 1)).unwrap();
        one.take(entry(1, formed())).unwrap();
        assert!(one.end().is_err(), "a partition is missing");
        let mut store = MemoryStore::new();
        let mut one = restorer(&mut store);
        one.take(head(0, 0, 1)).unwrap();
        one.take(entry(1, formed())).unwrap();
        one.take(head(1, 7, 9)).unwrap();
        assert!(one.take(entry(9, Bytes::new())).is_err(), "an entry is missing");
        one.take(entry(8, Bytes::new())).unwrap();
        assert!(one.end().is_err(), "the last entry is missing");
    }
}
