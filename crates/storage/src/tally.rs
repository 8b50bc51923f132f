//! What the log remembers of its groups: each one's vote, base and terms, as far as they were given
//! to it. The entries themselves are not kept.

use std::collections::BTreeMap;

use protocol::{GroupId, Position, ReplicaId, Term};

use crate::codec::{Stored, StoredEntry};
use crate::frame::FrameBuffer;
use crate::index::{Index, Noted, Place};
use crate::record::{Entry, EntryKind, LogOwner, LogRecord, Recovered, RecoveredGroup, Witness};

/// A group in the log, without its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tracked {
    term: Term,
    voted_for: ReplicaId,
    commit: Position,
    base: Position,
    base_term: Term,
    last: Position,
    /// Since which position all entries have that term.
    run: (Position, Term),
    /// The runs before it, as far as they are above the base. Nearly always empty.
    former_runs: Vec<(Position, Term)>,
}

impl Tracked {
    /// The term of the entry at `position`, which must be above the base and not beyond the last.
    fn term_at(&self, position: Position) -> Term {
        let runs = self.former_runs.iter().rev();
        let mut runs = std::iter::once(&self.run).chain(runs);
        runs.find(|(from, _)| *from <= position).map_or(self.base_term, |(_, term)| *term)
    }

    fn entry(&mut self, position: Position, term: Term) {
        while self.run.0 >= position && self.run.0 > Position(0) {
            self.run = self.former_runs.pop().unwrap_or_default();
        }
        if self.run.1 != term || self.run.0 == Position(0) {
            if self.run.0 > Position(0) {
                self.former_runs.push(self.run);
            }
            self.run = (position, term);
        }
        self.last = position;
    }

    /// True when the entries after the new base are forgotten.
    fn raise_base(&mut self, position: Position, term: Term) -> bool {
        let emptied =
            position > self.last || (position > self.base && self.term_at(position) != term);
        self.base = position;
        self.base_term = term;
        if emptied || position == self.last {
            self.last = position;
            self.run = (Position(0), Term(0));
            self.former_runs.clear();
        } else {
            // A run ends where the next one begins; those that end at the base are not needed.
            let begins = self.former_runs.iter().skip(1).chain([&self.run]);
            let ended = begins.take_while(|next| next.0.0 <= position.0.saturating_add(1)).count();
            self.former_runs.drain(..ended.min(self.former_runs.len()));
        }
        emptied
    }
}

/// Something that an append wrote, for the index.
#[derive(Clone, Copy, Debug)]
struct Written {
    group: GroupId,
    position: Position,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Entry { term: Term, kind: EntryKind, lies: Lies },
    Moved { term: Term, kind: EntryKind, lies: Lies },
    Base { emptied: bool },
}

/// Where a record lies in the payload of its frame, in bytes.
#[derive(Clone, Copy, Debug)]
struct Lies {
    within: usize,
    bytes: usize,
}

/// What an append did, so that it can be taken back or settled.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The groups as they were before.
    before: BTreeMap<GroupId, Option<Tracked>>,
    /// What the log said of nodes before, if that was changed.
    nodes_before: Option<Nodes>,
    written: Vec<Written>,
}

/// A frame that is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) segment: u64,
    /// Where it begins in the file, in bytes.
    pub(crate) at: u64,
    /// What it takes on the disk.
    pub(crate) bytes: u64,
    /// What of that is payload.
    pub(crate) payload: usize,
}

impl Settled {
    /// The share of the frame's bytes that falls on a record.
    pub(crate) fn share(&self, record_bytes: usize) -> u64 {
        let of = |bytes: usize| u64::try_from(bytes).expect("FRAME_BYTES_MAX fits");
        (self.bytes * of(record_bytes) / of(self.payload).max(1)).max(1)
    }
}

/// All that the log remembers of its groups. It is ahead of the index: that knows what is durable.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    groups: BTreeMap<GroupId, Tracked>,
    nodes: Nodes,
}

/// What the log says of its own node and of others.
#[derive(Clone, Debug, Default)]
struct Nodes {
    owner: Option<LogOwner>,
    witnesses: BTreeMap<ReplicaId, Witness>,
}

impl Tally {
    /// Takes one record in, and puts it into the frame.
    pub(crate) fn take(
        &mut self,
        record: &LogRecord,
        frame: &mut FrameBuffer,
        changes: &mut Changes,
    ) {
        match record {
            LogRecord::Entry { group, entry } => {
                let (group, position, term) = (*group, entry.position, entry.term);
                let tracked = self.touch(group, changes);
                assert!(
                    position > tracked.base && position <= tracked.last.next(),
                    "an entry of group {group} at {position}, but the log goes on after base {} \
                     and last {}",
                    tracked.base,
                    tracked.last
                );
                tracked.entry(position, term);
                let kind = entry.kind;
                let lies = put(frame, &Stored::Entry(stored(group, entry)));
                let what = What::Entry { term, kind, lies };
                changes.written.push(Written { group, position, what });
            }
            LogRecord::Vote { group, term, voted_for, commit } => {
                let (group, term, voted_for, commit) = (*group, *term, *voted_for, *commit);
                let tracked = self.touch(group, changes);
                (tracked.term, tracked.voted_for, tracked.commit) = (term, voted_for, commit);
                put(frame, &Stored::Vote { group, term, voted_for, commit });
            }
            LogRecord::Base { group, position, term } => {
                let (group, position, term) = (*group, *position, *term);
                let tracked = self.touch(group, changes);
                let is_news = position > tracked.base;
                let emptied = is_news && tracked.raise_base(position, term);
                put(frame, &Stored::Base { group, position, term, emptied });
                if is_news {
                    let what = What::Base { emptied };
                    changes.written.push(Written { group, position, what });
                }
            }
            LogRecord::Owner(owner) => {
                self.touch_nodes(changes).owner = Some(*owner);
                put(frame, &Stored::Owner(*owner));
            }
            LogRecord::Witness { of, said } => {
                self.touch_nodes(changes).witnesses.insert(*of, *said);
                put(frame, &Stored::Witness { of: *of, said: *said });
            }
        }
    }

    /// Puts a second copy of an entry into the frame.
    pub(crate) fn take_moved(
        group: GroupId,
        entry: &Entry,
        frame: &mut FrameBuffer,
        changes: &mut Changes,
    ) {
        let lies = put(frame, &Stored::Moved(stored(group, entry)));
        let what = What::Moved { term: entry.term, kind: entry.kind, lies };
        changes.written.push(Written { group, position: entry.position, what });
    }

    fn touch_nodes(&mut self, changes: &mut Changes) -> &mut Nodes {
        changes.nodes_before.get_or_insert_with(|| self.nodes.clone());
        &mut self.nodes
    }

    fn touch(&mut self, group: GroupId, changes: &mut Changes) -> &mut Tracked {
        let groups = &mut self.groups;
        changes.before.entry(group).or_insert_with(|| groups.get(&group).cloned());
        groups.entry(group).or_default()
    }

    /// What was taken in did not get to the disk.
    pub(crate) fn take_back(&mut self, changes: &mut Changes) {
        let Changes { before, nodes_before, .. } = std::mem::take(changes);
        if let Some(nodes) = nodes_before {
            self.nodes = nodes;
        }
        for (group, before) in before {
            match before {
                Some(before) => self.groups.insert(group, before),
                None => self.groups.remove(&group),
            };
        }
    }

    /// What was taken in is durable in that frame.
    pub(crate) fn settle(changes: &mut Changes, frame: &Settled, index: &mut Index) {
        for Written { group, position, what } in std::mem::take(changes).written {
            let noted = |term, Lies { within, bytes }| Noted {
                group,
                position,
                term,
                place: Place::new(frame.segment, frame.at, within),
                bytes: frame.share(bytes),
            };
            match what {
                What::Entry { term, kind, lies } => index.entry(noted(term, lies), kind),
                What::Moved { term, kind, lies } => index
                    .moved(noted(term, lies), kind)
                    .expect("what was moved was read where the index said"),
                What::Base { emptied } => index.base(group, position, emptied),
            }
        }
    }

    /// The records that a segment begins with, so that those before it can go.
    pub(crate) fn restate(&self, mut put: impl FnMut(Stored<'static>)) {
        if let Some(owner) = self.nodes.owner {
            put(Stored::Owner(owner));
        }
        for (&of, &said) in &self.nodes.witnesses {
            put(Stored::Witness { of, said });
        }
        for (&group, tracked) in &self.groups {
            let Tracked { term, voted_for, commit, base, base_term, .. } = *tracked;
            put(Stored::Vote { group, term, voted_for, commit });
            put(Stored::Base { group, position: base, term: base_term, emptied: false });
        }
    }

    /// Begins with what was recovered.
    pub(crate) fn recover(recovered: &Recovered) -> Self {
        let tracked = |recovered: &RecoveredGroup| {
            let mut former_runs = recovered.terms.clone();
            Tracked {
                term: recovered.term,
                voted_for: recovered.voted_for,
                commit: recovered.commit,
                base: recovered.base,
                base_term: recovered.base_term,
                last: recovered.last,
                run: former_runs.pop().unwrap_or_default(),
                former_runs,
            }
        };
        let groups = recovered.groups.iter().map(|(group, known)| (*group, tracked(known)));
        let nodes = Nodes { owner: recovered.owner, witnesses: recovered.witnesses.clone() };
        Self { groups: groups.collect(), nodes }
    }
}

fn stored(group: GroupId, entry: &Entry) -> StoredEntry<'_> {
    let Entry { position, term, kind, ref data } = *entry;
    StoredEntry { group, position, term, kind, data }
}

fn put(frame: &mut FrameBuffer, record: &Stored<'_>) -> Lies {
    let within = frame.payload_bytes();
    record.put(frame);
    Lies { within, bytes: frame.payload_bytes() - within }
}
