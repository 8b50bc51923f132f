//! What a machine's log must hold, kept a second time and outside of the node: to see after every
//! start that nothing durable was lost, and with every answer that enough machines held the write.

use std::collections::BTreeMap;

use protocol::{GroupId, Position, ReplicaId, Term};
use storage::{Entry, LogReader, LogRecord, ReadLimits, Recovered};

use super::Broken;

/// A group in a log, with its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    term: Term,
    voted_for: ReplicaId,
    commit: Position,
    base: Position,
    base_term: Term,
    /// From base + 1 on, without gaps.
    entries: Vec<Entry>,
}

/// All that a log held when it was opened.
pub type Found = BTreeMap<GroupId, Logged>;

/// Reads all that a log holds.
///
/// # Errors
/// When an entry that was found cannot be read.
pub fn read(recovered: &Recovered, reader: &dyn LogReader) -> Result<Found, Broken> {
    let group = |(group, known): (&GroupId, &storage::RecoveredGroup)| {
        let (from, end) = (known.base.next(), known.last.next());
        let mut entries: Vec<Entry> = Vec::new();
        // One read looks at a number of places only.
        while let next = entries.last().map_or(from, |last| last.position.next())
            && next != end
        {
            let read = reader.entries(*group, next, end, ReadLimits::NONE);
            let read = read.map_err(|error| {
                Broken::new("what a log says that it has can be read", error.to_string())
            })?;
            entries.extend(read.entries);
        }
        let logged = Logged {
            term: known.term,
            voted_for: known.voted_for,
            commit: known.commit,
            base: known.base,
            base_term: known.base_term,
            entries,
        };
        Ok((*group, logged))
    };
    recovered.groups.iter().map(group).collect()
}

/// One sandbox's log, as its records say it must be.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    durable: Found,
    /// Written in one piece and not yet synced: a crash keeps all of it or nothing.
    written: Vec<LogRecord>,
}

impl Ledger {
    /// The records were written, or the disk refused them: a crash may keep them. They take the
    /// place of those that were refused before.
    pub fn wrote(&mut self, records: &[LogRecord]) {
        self.written = records.to_vec();
    }

    /// What was written is durable.
    pub fn synced(&mut self) {
        for record in std::mem::take(&mut self.written) {
            note(&mut self.durable, record);
        }
    }

    /// The log was opened again. From now on what it had is durable.
    ///
    /// # Errors
    /// When it does not have what it must.
    pub fn reopened(&mut self, found: &Found) -> Result<(), Broken> {
        if !self.durable_is(found) {
            self.synced();
        }
        self.written.clear();
        if self.durable_is(found) {
            return Ok(());
        }
        let differs = |(group, known): (&GroupId, &Logged)| {
            let other = found.get(group).cloned().unwrap_or_default();
            (other != *known)
                .then(|| format!("group {group}: was {}, is {}", in_short(known), in_short(&other)))
        };
        let what = self.durable.iter().find_map(differs);
        let what = what.unwrap_or_else(|| "it has a group that was never written".into());
        Err(Broken::new("what was synced is there after a start", what))
    }

    fn durable_is(&self, found: &Found) -> bool {
        let nothing = Logged::default();
        let groups = self.durable.keys().chain(found.keys());
        groups.into_iter().all(|group| {
            let known = self.durable.get(group).unwrap_or(&nothing);
            known == found.get(group).unwrap_or(&nothing)
        })
    }

    /// Whether that entry is durable here, in the log or in the state it stands on.
    pub fn holds(&self, group: GroupId, position: Position, term: Term) -> bool {
        let Some(known) = self.durable.get(&group) else { return false };
        if position <= known.base {
            return true;
        }
        let at = known.entries.partition_point(|entry| entry.position < position);
        known.entries.get(at).is_some_and(|e| e.position == position && e.term == term)
    }

    /// The last term and vote that are durable.
    pub fn promised(&self, group: GroupId) -> (Term, ReplicaId) {
        self.durable
            .get(&group)
            .map_or((Term(0), ReplicaId(0)), |known| (known.term, known.voted_for))
    }

    /// Whether the durable log goes on to that position at least.
    pub fn reaches(&self, group: GroupId, position: Position) -> bool {
        let Some(known) = self.durable.get(&group) else { return position == Position(0) };
        position <= known.entries.last().map_or(known.base, |entry| entry.position)
    }

    pub fn is_empty(&self) -> bool {
        self.durable.is_empty()
    }
}

fn note(groups: &mut Found, record: LogRecord) {
    match record {
        LogRecord::Entry { group, entry } => {
            let known = groups.entry(group).or_default();
            known.entries.retain(|other| other.position < entry.position);
            known.entries.push(entry);
        }
        LogRecord::Vote { group, term, voted_for, commit } => {
            let known = groups.entry(group).or_default();
            (known.term, known.voted_for, known.commit) = (term, voted_for, commit);
        }
        LogRecord::Base { group, position, term } => {
            let known = groups.entry(group).or_default();
            if position <= known.base {
                return;
            }
            let fits = known.entries.iter().any(|e| e.position == position && e.term == term);
            known.entries.retain(|entry| fits && entry.position > position);
            (known.base, known.base_term) = (position, term);
        }
        LogRecord::Owner(_) | LogRecord::Witness { .. } => {}
    }
}

fn in_short(group: &Logged) -> String {
    let last = group.entries.last().map_or(group.base, |entry| entry.position);
    format!(
        "term {} vote {} commit {} base {} ({}) to {last}",
        group.term, group.voted_for, group.commit, group.base, group.base_term
    )
}

/// Where each version of a document is in its group's log.
#[derive(Debug, Default)]
pub struct Places {
    /// By link, version and epoch, which is the entry's term.
    entries: BTreeMap<(String, u64, Term), (GroupId, Position)>,
    read: BTreeMap<(GroupId, Position), Term>,
}

impl Places {
    /// Takes note of the documents in records on their way to a log.
    pub fn saw(&mut self, records: &[LogRecord]) {
        for record in records {
            let LogRecord::Entry { group, entry } = record else { continue };
            let known = self.read.insert((*group, entry.position), entry.term);
            if group.is_directory() || known == Some(entry.term) || entry.data.is_empty() {
                continue;
            }
            let writes = match documents::Command::decode(&entry.data) {
                Ok(documents::Command::Write(write)) => vec![write],
                Ok(documents::Command::Batch(batch)) => batch.writes,
                _ => continue,
            };
            for write in writes {
                let key = (write.document.link, write.document.version, entry.term);
                self.entries.insert(key, (*group, entry.position));
            }
        }
    }

    /// The entry of that version, and whether each of these logs holds it.
    pub fn holders<'a>(
        &self,
        link: &str,
        version: u64,
        epoch: Term,
        ledgers: impl Iterator<Item = &'a Ledger>,
    ) -> Option<usize> {
        let (group, position) = *self.entries.get(&(link.to_owned(), version, epoch))?;
        Some(ledgers.filter(|ledger| ledger.holds(group, position, epoch)).count())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use storage::EntryKind;

    use super::*;

    const G: GroupId = GroupId(1);

    fn entry(position: u64, term: u64) -> LogRecord {
        let (position, term) = (Position(position), Term(term));
        let entry = Entry { position, term, kind: EntryKind::Normal, data: Bytes::new() };
        LogRecord::Entry { group: G, entry }
    }

    fn recovered(ledger: &Ledger) -> Found {
        ledger.durable.clone()
    }

    #[test]
    fn the_last_write_may_be_lost_or_kept_but_not_halved() {
        let mut ledger = Ledger::default();
        ledger.wrote(&[entry(1, 1)]);
        ledger.synced();
        let before = recovered(&ledger);
        ledger.wrote(&[entry(2, 1), entry(3, 1)]);
        ledger.clone().reopened(&before).unwrap();
        let mut all = ledger.clone();
        all.synced();
        ledger.clone().reopened(&recovered(&all)).unwrap();
        let mut half = Ledger { written: Vec::new(), ..ledger.clone() };
        half.wrote(&[entry(2, 1)]);
        half.synced();
        assert!(ledger.reopened(&recovered(&half)).is_err());
    }

    #[test]
    fn a_synced_entry_that_is_gone_is_found() {
        let mut ledger = Ledger::default();
        ledger.wrote(&[entry(1, 1)]);
        ledger.synced();
        assert!(ledger.reopened(&Found::default()).is_err());
    }

    #[test]
    fn a_forgotten_vote_is_found() {
        let mut ledger = Ledger::default();
        let vote = |voted_for| LogRecord::Vote {
            group: G,
            term: Term(4),
            voted_for: ReplicaId(voted_for),
            commit: Position(0),
        };
        ledger.wrote(&[vote(2)]);
        ledger.synced();
        let mut other = Ledger::default();
        other.wrote(&[vote(0)]);
        other.synced();
        assert!(ledger.reopened(&recovered(&other)).is_err());
    }

    #[test]
    fn an_entry_is_held_only_when_synced_and_not_replaced() {
        let mut ledger = Ledger::default();
        ledger.wrote(&[entry(1, 1), entry(2, 1)]);
        assert!(!ledger.holds(G, Position(2), Term(1)));
        ledger.synced();
        assert!(ledger.holds(G, Position(2), Term(1)));
        ledger.wrote(&[entry(2, 2)]);
        ledger.synced();
        assert!(!ledger.holds(G, Position(2), Term(1)));
        assert!(ledger.holds(G, Position(2), Term(2)));
        ledger.wrote(&[LogRecord::Base { group: G, position: Position(9), term: Term(3) }]);
        ledger.synced();
        assert!(ledger.holds(G, Position(5), Term(2)));
        assert!(ledger.durable[&G].entries.is_empty());
    }
}
