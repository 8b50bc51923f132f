//! What the log remembers of what it holds: each group's vote, base and terms, and how far each
//! segment is still needed. The entries themselves are not kept.

use std::collections::{BTreeMap, VecDeque};

use protocol::{GroupId, Position, ReplicaId, Term};

use crate::codec::Stored;
use crate::record::{LogRecord, RecoveredGroup};

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

/// What one append did to a group.
#[derive(Debug)]
struct Touched {
    before: Option<Tracked>,
    /// The least position that was written.
    lowest: Option<Position>,
    emptied: bool,
}

/// What an append did, so that it can be taken back or settled.
#[derive(Debug, Default)]
pub(crate) struct Changes(BTreeMap<GroupId, Touched>);

/// A segment, and the last position that it holds of each group that still needs it: neither
/// replaced nor at or below the group's base.
#[derive(Debug)]
struct Held {
    segment: u64,
    bytes: u64,
    last: BTreeMap<GroupId, Position>,
}

/// All that the log remembers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    groups: BTreeMap<GroupId, Tracked>,
    held: VecDeque<Held>,
}

impl Tally {
    /// Takes one record in, and gives the form in which it is stored.
    pub(crate) fn take<'a>(&mut self, record: &'a LogRecord, changes: &mut Changes) -> Stored<'a> {
        match record {
            LogRecord::Entry { group, entry } => {
                let (group, position, term) = (*group, entry.position, entry.term);
                let (tracked, touched) = self.touch(group, changes);
                assert!(
                    position > tracked.base && position <= tracked.last.next(),
                    "an entry of group {group} at {position}, but the log goes on after base {} \
                     and last {}",
                    tracked.base,
                    tracked.last
                );
                touched.lowest = Some(touched.lowest.map_or(position, |low| low.min(position)));
                tracked.entry(position, term);
                Stored::Entry { group, position, term, kind: entry.kind, data: &entry.data }
            }
            LogRecord::Vote { group, term, voted_for, commit } => {
                let (group, term, voted_for, commit) = (*group, *term, *voted_for, *commit);
                let (tracked, _) = self.touch(group, changes);
                (tracked.term, tracked.voted_for, tracked.commit) = (term, voted_for, commit);
                Stored::Vote { group, term, voted_for, commit }
            }
            LogRecord::Base { group, position, term } => {
                let (group, position, term) = (*group, *position, *term);
                let (tracked, touched) = self.touch(group, changes);
                let emptied = position > tracked.base && tracked.raise_base(position, term);
                touched.emptied |= emptied;
                Stored::Base { group, position, term, emptied }
            }
        }
    }

    fn touch<'a>(
        &'a mut self,
        group: GroupId,
        changes: &'a mut Changes,
    ) -> (&'a mut Tracked, &'a mut Touched) {
        let groups = &mut self.groups;
        let touched = changes.0.entry(group).or_insert_with(|| Touched {
            before: groups.get(&group).cloned(),
            lowest: None,
            emptied: false,
        });
        (groups.entry(group).or_default(), touched)
    }

    /// What was taken in did not get to the disk.
    pub(crate) fn take_back(&mut self, changes: &mut Changes) {
        for (group, touched) in std::mem::take(&mut changes.0) {
            match touched.before {
                Some(before) => self.groups.insert(group, before),
                None => self.groups.remove(&group),
            };
        }
    }

    /// What was taken in is durable, in the newest segment.
    pub(crate) fn settle(&mut self, changes: &mut Changes) {
        for (group, touched) in std::mem::take(&mut changes.0) {
            let Tracked { base, last, .. } = self.groups[&group];
            let before = touched.before.unwrap_or_default();
            if touched.emptied {
                self.hold_none(group);
            }
            if let Some(lowest) = touched.lowest {
                self.hold(group, lowest, before.last, last);
            }
            if base > before.base {
                self.release(group, base);
            }
        }
    }

    /// The group needs nothing at or below its base.
    fn release(&mut self, group: GroupId, base: Position) {
        for held in &mut self.held {
            if held.last.get(&group).is_some_and(|last| *last <= base) {
                held.last.remove(&group);
            }
        }
    }

    /// The newest segment holds entries from `lowest` to `last`; those that others hold from there
    /// on were replaced.
    pub(crate) fn hold(
        &mut self,
        group: GroupId,
        lowest: Position,
        former_last: Position,
        last: Position,
    ) {
        let (newest, older) = {
            let slices = self.held.make_contiguous();
            slices.split_last_mut().expect("there is always a newest segment")
        };
        newest.last.insert(group, last);
        if lowest <= former_last {
            for held in older {
                if let Some(last) = held.last.get_mut(&group) {
                    *last = (*last).min(Position(lowest.0 - 1));
                }
            }
        }
    }

    /// All entries of the group were forgotten.
    pub(crate) fn hold_none(&mut self, group: GroupId) {
        for held in &mut self.held {
            held.last.remove(&group);
        }
    }

    pub(crate) fn begin_segment(&mut self, segment: u64, bytes: u64) {
        self.held.push_back(Held { segment, bytes, last: BTreeMap::new() });
    }

    /// The oldest segment that is needed.
    pub(crate) fn oldest_needed(&self) -> u64 {
        let needed = self.held.iter().find(|held| !held.last.is_empty());
        needed.or(self.held.back()).expect("there is always a newest segment").segment
    }

    /// The groups that have entries above their base in the oldest segment; none while it is the
    /// only one.
    pub(crate) fn pinning(&self) -> Vec<GroupId> {
        let oldest = self.held.front().filter(|_| self.held.len() > 1);
        oldest.map(|held| held.last.keys().copied().collect()).unwrap_or_default()
    }

    /// Forgets the segments before `segment`, and gives their numbers.
    pub(crate) fn drop_before(&mut self, segment: u64) -> Vec<u64> {
        let count = self.held.iter().take_while(|held| held.segment < segment).count();
        self.held.drain(..count).map(|held| held.segment).collect()
    }

    /// How many segments there are, and how many bytes they have.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.held.len(), self.held.iter().map(|held| held.bytes).sum())
    }

    /// The records that a segment begins with, so that those before it can go.
    pub(crate) fn restate(&self, mut put: impl FnMut(Stored<'static>)) {
        for (&group, tracked) in &self.groups {
            let Tracked { term, voted_for, commit, base, base_term, .. } = *tracked;
            put(Stored::Vote { group, term, voted_for, commit });
            put(Stored::Base { group, position: base, term: base_term, emptied: false });
        }
    }

    /// Begins with what was recovered.
    pub(crate) fn recover(&mut self, groups: &BTreeMap<GroupId, RecoveredGroup>) {
        for (&group, recovered) in groups {
            let mut tracked = Tracked {
                term: recovered.term,
                voted_for: recovered.voted_for,
                commit: recovered.commit,
                base: recovered.base,
                base_term: recovered.base_term,
                last: recovered.base,
                ..Tracked::default()
            };
            for entry in &recovered.entries {
                tracked.entry(entry.position, entry.term);
            }
            self.groups.insert(group, tracked);
            self.release(group, recovered.base);
        }
    }
}
