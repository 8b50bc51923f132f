//! This node's copy of one group: its consensus, its state, and the snapshots that come and go.
//!
//! A replica turns what consensus says must be done into writes, frames and applied commands. It
//! keeps back what must not leave before it is durable.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use documents::{AppliedCommand, Partition};
use protocol::{GroupId, Position, ReplicaId, Term};
use replication::{Committed, CommittedData, Group, Install, Members, Message, SnapshotOffer};
use storage::{Applied, Batch, EntryKind, LogRecord, Reader, Space, StateStore, StoreError};

use crate::directory::{Changed, Directory, DirectoryCommand};
use crate::frame::{Chunk, Frame};
use crate::immortals::Resident;
use crate::outbox::Outbox;
use crate::replicas::Touch;

/// How much of the latest documents each partition keeps in memory, in bytes.
const CACHE_BYTES: usize = 1 << 20;

/// The key family of the directory's state in its space.
const FAMILY_DIRECTORY: u8 = 1;

/// A transfer that has not moved for this long is given up, in microseconds.
const TRANSFER_PATIENCE_MICROS: u64 = 5_000_000;

/// What a group's entries change.
pub(crate) enum Machine {
    Directory(Directory),
    Partition(Box<Partition>),
    Instance(Box<Resident>),
}

/// What became of a committed entry.
#[derive(Debug)]
pub(crate) enum Outcome {
    Command(AppliedCommand),
    /// With the instance that it was about, if it was about one.
    Directory(Changed, Option<String>),
    /// The entry that opens a term, or a change of members.
    Other,
}

pub(crate) struct Replica {
    pub(crate) id: GroupId,
    pub(crate) group: Group,
    pub(crate) machine: Machine,
    pub(crate) space: Space,
    members: Members,
    /// The term of the last applied entry.
    applied_term: Term,
    /// Readys that wait for the disk, oldest first.
    held: VecDeque<Held>,
    /// A commit position that need not be synced on its own.
    lazy: Option<LogRecord>,
    incoming: Option<Incoming>,
    outgoing: BTreeMap<ReplicaId, Transfer>,
    chunk_bytes: usize,
    /// Where the log could be cut when the last routine persist began.
    pub(crate) persisted_up_to: Position,
    /// The term and vote last written.
    ballot: (Term, ReplicaId),
}

struct Held {
    number: u64,
    /// The batch its records are in; None while they must not be written yet.
    batch: Option<u64>,
    /// The state store must be durable up to this mark before the records are written: a log that
    /// begins after a snapshot would be of no use without it.
    mark: u64,
    records: Vec<LogRecord>,
    messages: Vec<Message>,
}

struct Incoming {
    transfer: u64,
    from: ReplicaId,
    next: u32,
    space: Space,
    position: Position,
}

struct Transfer {
    id: u64,
    view: Box<dyn Reader + Send>,
    offer: SnapshotOffer,
    /// The key after which the next chunk begins.
    after: Vec<u8>,
    number: u32,
    done: bool,
    moved: u64,
}

/// What a pass over a replica found, for the node to act on.
#[derive(Default)]
pub(crate) struct Findings {
    /// Position and term of each entry, and what became of it.
    pub(crate) applied: Vec<(Position, Term, Outcome)>,
    /// Tickets whose ownership was confirmed, with the position that must be applied first.
    pub(crate) confirmed: Vec<(u64, Position)>,
    pub(crate) refused: Vec<u64>,
    /// A snapshot was installed.
    pub(crate) installed: bool,
    pub(crate) notes: Vec<String>,
}

/// What a replica needs of the node while it works.
pub(crate) struct Around<'a> {
    pub(crate) store: &'a mut dyn StateStore,
    pub(crate) outbox: &'a mut Outbox,
    /// Records of this step; they become one batch.
    pub(crate) records: &'a mut Vec<LogRecord>,
    /// The number this step's batch will have.
    pub(crate) batch: u64,
    /// The mark that the next persist will have.
    pub(crate) next_mark: u64,
    /// Set when a persist with `next_mark` is needed.
    pub(crate) persist: &'a mut bool,
    pub(crate) steady_micros: u64,
}

impl Replica {
    pub(crate) fn new(
        id: GroupId,
        group: Group,
        space: Space,
        applied: &Applied,
        members: Members,
        (machine, chunk_bytes): (Machine, usize),
    ) -> Self {
        Self {
            id,
            group,
            machine,
            space,
            members,
            applied_term: applied.term,
            held: VecDeque::new(),
            lazy: None,
            incoming: None,
            outgoing: BTreeMap::new(),
            chunk_bytes,
            persisted_up_to: Position(0),
            ballot: (Term(0), ReplicaId(0)),
        }
    }

    /// Term and position of the last entry here.
    pub(crate) fn reach(&self) -> (Term, Position) {
        let last = self.group.last();
        (self.group.term_at(last).unwrap_or_default(), last)
    }

    /// Term and position of the last entry that was applied.
    pub(crate) fn applied(&self) -> (Term, Position) {
        (self.applied_term, self.group.applied_position())
    }

    /// Of the directory: the highest quorum that is in force here or would be after one of the
    /// entries that are not committed yet, as far as is known.
    pub(crate) fn highest_quorum(&self) -> usize {
        let Machine::Directory(directory) = &self.machine else { return 0 };
        let mut highest = directory.effective_quorum();
        let mut ahead = directory.without_instances();
        let pending = self.group.entries_after(self.group.applied_position());
        for entry in pending.into_iter().filter(|entry| entry.kind == EntryKind::Normal) {
            if let Ok(command) = postcard::from_bytes(&entry.data) {
                ahead.apply(command);
                highest = highest.max(ahead.effective_quorum());
            }
        }
        highest
    }

    pub(crate) fn partition(&mut self) -> Option<&mut Partition> {
        match &mut self.machine {
            Machine::Partition(partition) => Some(partition),
            Machine::Directory(_) | Machine::Instance(_) => None,
        }
    }

    /// Does all that consensus asks for, until it asks for nothing more.
    pub(crate) fn settle(
        &mut self,
        around: &mut Around<'_>,
        findings: &mut Findings,
    ) -> Result<(), StoreError> {
        while let Some(mut ready) = self.group.ready() {
            if let Some(damage) = ready.damage.take() {
                return Err(StoreError(format!("this replica's log is damaged: {damage}")));
            }
            for message in ready.send_now.drain(..) {
                around.outbox.send(message.to, Frame::Raft { group: self.id, message });
            }
            let mut mark = 0;
            if let Some(install) = ready.install.take() {
                self.install(around, install)?;
                findings.installed = true;
                mark = around.next_mark;
                *around.persist = true;
            }
            self.hold(around, &mut ready, mark);
            for committed in ready.committed.drain(..) {
                let (position, term) = (committed.position, committed.term);
                let outcome = self.apply(around.store, committed)?;
                findings.applied.push((position, term, outcome));
                self.group.applied(position);
            }
            for offer in ready.send_snapshot.drain(..) {
                self.begin_transfer(around, offer)?;
            }
            findings.notes.append(&mut ready.notes);
            findings.confirmed.append(&mut ready.confirmed);
            findings.refused.append(&mut ready.refused);
        }
        Ok(())
    }

    /// Keeps back what may leave only when the records are durable.
    fn hold(&mut self, around: &mut Around<'_>, ready: &mut replication::Ready, mark: u64) {
        let mut records = std::mem::take(&mut ready.records);
        let messages = std::mem::take(&mut ready.send_durable);
        if !ready.must_sync && mark == 0 {
            // At most the commit position: it goes with the next records that need a sync.
            self.lazy = records.pop().or_else(|| self.lazy.take());
        } else {
            self.lazy = None;
        }
        let blocked = mark > 0 || self.held.iter().any(|held| held.batch.is_none());
        let votes = self.takes_vote(&records);
        let batch = if blocked {
            None
        } else if records.is_empty() {
            Some(self.held.back().and_then(|held| held.batch).unwrap_or(0))
        } else {
            around.records.append(&mut records);
            let memory = matches!(&self.machine, Machine::Instance(r) if r.memory) && !votes;
            // A group with durability in memory does not wait, but for its own earlier votes.
            let waiting = || self.held.back().and_then(|held| held.batch).unwrap_or(0);
            Some(if memory { waiting() } else { around.batch })
        };
        self.held.push_back(Held { number: ready.number, batch, mark, records, messages });
        self.release(around.outbox, 0);
    }

    /// Whether there is another term or vote among the records, which must never be forgotten.
    fn takes_vote(&mut self, records: &[LogRecord]) -> bool {
        let before = self.ballot;
        for record in records {
            if let LogRecord::Vote { term, voted_for, .. } = record {
                self.ballot = (*term, *voted_for);
            }
        }
        self.ballot != before
    }

    /// Writes the records that waited for the state store.
    pub(crate) fn unblock(&mut self, around: &mut Around<'_>, mark: u64) {
        for held in &mut self.held {
            if held.batch.is_some() {
                continue;
            }
            if held.mark > mark {
                break;
            }
            around.records.append(&mut held.records);
            held.batch = Some(around.batch);
        }
    }

    /// Lets go of what was waiting for the disk. True if anything did.
    pub(crate) fn release(&mut self, outbox: &mut Outbox, durable: u64) -> bool {
        let mut number = None;
        while self.held.front().is_some_and(|held| held.batch.is_some_and(|b| b <= durable)) {
            let held = self.held.pop_front().expect("there is a front");
            self.let_go(outbox, held.messages);
            number = Some(held.number);
        }
        if let Some(number) = number {
            self.group.persisted(number);
        }
        number.is_some()
    }

    fn let_go(&self, outbox: &mut Outbox, messages: Vec<Message>) {
        for message in messages {
            outbox.send(message.to, Frame::Raft { group: self.id, message });
        }
    }

    pub(crate) fn waits_for_the_disk(&self) -> bool {
        !self.held.is_empty()
    }

    pub(crate) fn has_lazy(&self) -> bool {
        self.lazy.is_some()
    }

    /// Time goes on.
    pub(crate) fn tick(&mut self) -> Touch {
        let was_at_rest = self.group.is_at_rest();
        self.group.tick();
        // Of documents there are few groups, and more that depends on them.
        let is_still = self.id.is_instance() && was_at_rest && self.group.is_at_rest();
        if is_still { Touch::Still } else { Touch::Touched }
    }

    /// The commit position that was not worth a sync, to go with the next records.
    pub(crate) fn take_lazy(&mut self) -> Option<LogRecord> {
        self.lazy.take()
    }

    fn apply(
        &mut self,
        store: &mut dyn StateStore,
        committed: Committed,
    ) -> Result<Outcome, StoreError> {
        let Committed { position, term, data } = committed;
        self.applied_term = term;
        if let CommittedData::Members(members) = &data {
            self.members = members.clone();
        }
        if let Machine::Instance(resident) = &mut self.machine {
            resident.apply(store, (&mut self.group, &self.space), (position, term), data)?;
            return Ok(Outcome::Other);
        }
        let applied = |members: &Members| Applied { position, term, members: encode(members) };
        match data {
            CommittedData::Normal(data) => match &mut self.machine {
                Machine::Partition(partition) => {
                    partition.apply(store, applied(&self.members), &data).map(Outcome::Command)
                }
                Machine::Directory(directory) => {
                    let command: DirectoryCommand = postcard::from_bytes(&data)
                        .map_err(|error| StoreError(format!("a directory entry: {error}")))?;
                    let about = match &command {
                        DirectoryCommand::Immortal(command) => Some(command.name().to_owned()),
                        _ => None,
                    };
                    let changed = directory.apply(command);
                    let mut batch = Batch::default();
                    let state = postcard::to_stdvec(directory).expect("a directory encodes");
                    batch.put(self.space.key(FAMILY_DIRECTORY, b""), state);
                    self.space.put_applied(&mut batch, &applied(&self.members));
                    store.write(batch)?;
                    Ok(Outcome::Directory(changed, about))
                }
                Machine::Instance(_) => unreachable!("an instance has taken it above"),
            },
            CommittedData::Members(_) | CommittedData::Empty => {
                self.note_applied(store, &applied(&self.members))
            }
        }
    }

    fn note_applied(
        &self,
        store: &mut dyn StateStore,
        applied: &Applied,
    ) -> Result<Outcome, StoreError> {
        let mut batch = Batch::default();
        self.space.put_applied(&mut batch, applied);
        store.write(batch)?;
        Ok(Outcome::Other)
    }

    /// Before the state is made durable: where the log may be cut afterwards.
    pub(crate) fn prepare_persist(&mut self, store: &mut dyn StateStore) -> Result<(), StoreError> {
        self.persisted_up_to = match &mut self.machine {
            Machine::Instance(resident) => resident.prepare(store, &self.group, &self.space)?.0,
            _ => self.group.applied_position(),
        };
        Ok(())
    }

    // Snapshots out.

    fn begin_transfer(
        &mut self,
        around: &mut Around<'_>,
        offer: SnapshotOffer,
    ) -> Result<(), StoreError> {
        // The state may be further than the offer by now; what is sent is the state as it is.
        let offer = match &mut self.machine {
            Machine::Instance(resident) => {
                let (position, term, members) =
                    resident.prepare(around.store, &self.group, &self.space)?;
                let members = members.with_learner(offer.to);
                offer.at(position, term, members)
            }
            _ => offer.at(self.group.applied_position(), self.applied_term, self.members.clone()),
        };
        let to = offer.to;
        let transfer = Transfer {
            id: around.steady_micros.wrapping_mul(64).wrapping_add(u64::from(self.id.0)),
            view: around.store.view(),
            offer,
            after: Vec::new(),
            number: 0,
            done: false,
            moved: around.steady_micros,
        };
        self.outgoing.insert(to, transfer);
        self.send_chunk(around.outbox, to)
    }

    fn send_chunk(&mut self, outbox: &mut Outbox, to: ReplicaId) -> Result<(), StoreError> {
        let Some(transfer) = self.outgoing.get_mut(&to) else { return Ok(()) };
        let view = transfer.view.as_ref();
        let exported = self.space.export(view, &transfer.after, self.chunk_bytes)?;
        if let Some((key, _)) = exported.pairs.last() {
            transfer.after.clone_from(key);
        }
        transfer.done = exported.done;
        let pairs = exported.pairs.into_iter();
        let chunk = Chunk {
            group: self.id,
            transfer: transfer.id,
            number: transfer.number,
            pairs: pairs.map(|(key, value)| (Bytes::from(key), Bytes::from(value))).collect(),
            last: exported.done.then(|| transfer.offer.message.clone()),
            position: transfer.offer.position,
            term: transfer.offer.term,
            members: transfer.offer.members.clone(),
        };
        outbox.send(to, Frame::Chunk(chunk));
        Ok(())
    }

    /// The receiver has stored a chunk: send the next, or tell consensus that all went out.
    pub(crate) fn chunk_taken(
        &mut self,
        around: &mut Around<'_>,
        from: ReplicaId,
        id: u64,
        number: u32,
    ) -> Result<(), StoreError> {
        match self.outgoing.get_mut(&from) {
            Some(transfer) if transfer.id == id && transfer.number == number => {
                transfer.moved = around.steady_micros;
                transfer.number += 1;
                if transfer.done {
                    self.end_transfer(from, true);
                    return Ok(());
                }
                self.send_chunk(around.outbox, from)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn end_transfer(&mut self, to: ReplicaId, well: bool) {
        if self.outgoing.remove(&to).is_some() {
            self.group.snapshot_sent(to, well);
        }
    }

    /// Gives up transfers that have stood still.
    pub(crate) fn check_transfers(&mut self, steady_micros: u64) -> Touch {
        if self.outgoing.is_empty() {
            return Touch::Still;
        }
        let stuck = |transfer: &Transfer| {
            steady_micros.saturating_sub(transfer.moved) > TRANSFER_PATIENCE_MICROS
        };
        let stuck: Vec<_> =
            self.outgoing.iter().filter(|(_, t)| stuck(t)).map(|(to, _)| *to).collect();
        for to in stuck {
            self.end_transfer(to, false);
        }
        Touch::Touched
    }

    // Snapshots in.

    /// Stores a chunk in the next generation of the space, where nobody sees it yet.
    pub(crate) fn chunk(
        &mut self,
        around: &mut Around<'_>,
        from: ReplicaId,
        chunk: Chunk,
    ) -> Result<(), StoreError> {
        if chunk.number == 0 {
            let staging = self.space.staging();
            let mut batch = Batch::default();
            while !self.space.clean(&*around.store, &mut batch, usize::MAX)? {}
            around.store.write(batch)?;
            self.incoming = Some(Incoming {
                transfer: chunk.transfer,
                from,
                next: 0,
                space: staging,
                position: chunk.position,
            });
        }
        let Some(incoming) = &mut self.incoming else { return Ok(()) };
        let expected = (incoming.transfer, incoming.from, incoming.next);
        if expected != (chunk.transfer, from, chunk.number) {
            return Ok(());
        }
        incoming.next += 1;
        let mut batch = Batch::default();
        let pairs = chunk.pairs.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        incoming.space.stage(&mut batch, pairs.collect());
        around.store.write(batch)?;
        let (group, transfer, number) = (self.id, chunk.transfer, chunk.number);
        around.outbox.send(from, Frame::ChunkTaken { group, transfer, number });
        if let Some(offer) = chunk.last {
            self.group.receive(offer);
        }
        Ok(())
    }

    /// Consensus has taken the snapshot: what was staged becomes the state.
    fn install(&mut self, around: &mut Around<'_>, install: Install) -> Result<(), StoreError> {
        let incoming = self.incoming.take().expect("a snapshot is offered only after its chunks");
        assert_eq!(incoming.position, install.position, "the staged state is not the offered one");
        let mut batch = Batch::default();
        let applied = Applied {
            position: install.position,
            term: install.term,
            members: encode(&install.members),
        };
        incoming.space.install(&mut batch, &applied);
        around.store.write(batch)?;
        self.space = incoming.space;
        self.members = install.members;
        self.applied_term = install.term;
        if let Machine::Instance(resident) = &mut self.machine {
            resident.installed(&*around.store, &self.space, self.members.clone())?;
            resident.stand(&mut self.group);
        } else {
            self.machine = open_machine(self.id, &self.space, &*around.store)?;
        }
        self.group.applied(install.position);
        Ok(())
    }
}

/// The machine of the directory or a partition.
pub(crate) fn open_machine(
    id: GroupId,
    space: &Space,
    store: &dyn Reader,
) -> Result<Machine, StoreError> {
    if !id.is_directory() {
        let mut partition = Partition::open(store, *space)?;
        partition.set_cache_bytes(CACHE_BYTES);
        return Ok(Machine::Partition(Box::new(partition)));
    }
    let directory = match store.get(&space.key(FAMILY_DIRECTORY, b""))? {
        Some(bytes) => postcard::from_bytes(&bytes)
            .map_err(|error| StoreError(format!("the directory cannot be read: {error}")))?,
        None => Directory::default(),
    };
    Ok(Machine::Directory(directory))
}

pub(crate) fn encode(members: &Members) -> Vec<u8> {
    postcard::to_stdvec(members).expect("members encode")
}

/// # Errors
/// When the bytes are not what [`encode`] made.
pub(crate) fn decode_members(bytes: &[u8]) -> Result<Members, StoreError> {
    if bytes.is_empty() {
        return Ok(Members::default());
    }
    postcard::from_bytes(bytes).map_err(|error| StoreError(format!("the members: {error}")))
}
