//! A fake consensus: one log that all replicas of a group share, an owner in each term, and
//! proposals that are not committed.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use immortals::{Entries, IndexedEntry, InputState, Standing};
use protocol::immortal::{Message, SourceKind, blocks, messages};
use protocol::{GroupId, Position, Term};

use crate::script::{Given, Word};

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<(Term, Option<Bytes>)>,
    pub(crate) term: u64,
    pub(crate) owner: Option<usize>,
    /// The entry with which the owner's term begins.
    pub(crate) term_start: usize,
    pub(crate) proposals: VecDeque<Bytes>,
    /// All inputs, in order.
    pub(crate) inputs: Vec<Given>,
    pub(crate) state: InputState,
    /// How often each impulse was logged here, by its tag.
    pub(crate) impulses: BTreeMap<u64, u64>,
    /// How often each timer and each side effect was resolved.
    pub(crate) resolved: BTreeMap<u64, u64>,
}

impl Log {
    pub(crate) fn commit(&mut self) -> bool {
        let Some(bytes) = self.proposals.pop_front() else { return false };
        self.entries.push((Term(self.term), Some(bytes.clone())));
        let entry = IndexedEntry::read(bytes).expect("what is proposed can be read");
        let logged = self.state.log(&entry).expect("what is proposed fits");
        let mut number = logged.first;
        for block in blocks(logged.blocks) {
            let block = block.expect("a good block");
            for (place, message) in (block.head.first..).zip(messages(block.messages)) {
                let message = message.expect("a good message");
                let (kind, name) = (block.head.kind, block.head.name.clone());
                self.note(kind, &message);
                let time = logged.time.0;
                self.inputs.push(Given { number, time, kind, name, place, message });
                number += 1;
            }
        }
        true
    }

    fn note(&mut self, kind: SourceKind, message: &Message) {
        match message {
            Message::Impulse { payload, .. } if kind == SourceKind::Impulses => {
                *self.impulses.entry(Word::of(payload).tag).or_default() += 1;
            }
            Message::Timer { id } | Message::Result { id, .. } => {
                let count = self.resolved.entry(*id).or_default();
                *count += 1;
                assert_eq!(*count, 1, "await {id} is resolved twice");
            }
            _ => {}
        }
    }

    /// Makes another replica the owner. Some of what was proposed is committed before, and the rest
    /// is lost.
    pub(crate) fn elect(&mut self, owner: usize, kept: usize) {
        for _ in 0..kept {
            self.commit();
        }
        self.proposals.clear();
        self.term += 1;
        self.owner = Some(owner);
        self.entries.push((Term(self.term), None));
        self.term_start = self.entries.len();
    }
}

/// What a replica sees of the log.
pub(crate) struct View<'a> {
    pub(crate) log: &'a Log,
    pub(crate) applied: usize,
    pub(crate) cut: usize,
    pub(crate) names: &'a BTreeMap<String, GroupId>,
    /// The instance that nobody finds.
    pub(crate) hidden: Option<GroupId>,
}

impl Entries for View<'_> {
    fn after(&self, position: Position, bytes_max: usize) -> Vec<(Position, Term, Bytes)> {
        let after = usize::try_from(position.0).expect("small");
        assert!(
            after >= self.cut,
            "entries after {after} are asked for, the log is cut at {}",
            self.cut
        );
        let mut found = Vec::new();
        let mut bytes = 0;
        for place in after..self.applied {
            let (term, data) = &self.log.entries[place];
            let Some(data) = data else { continue };
            bytes += data.len();
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            let position = Position(u64::try_from(place + 1).expect("small"));
            found.push((position, *term, data.clone()));
        }
        found
    }

    fn known_committed(&self) -> Option<Position> {
        Some(Position(0))
    }

    fn members_at(&self, position: Position) -> Vec<u8> {
        position.0.to_le_bytes().to_vec()
    }

    fn resolve(&self, name: &str) -> Option<GroupId> {
        self.names.get(name).copied().filter(|group| Some(*group) != self.hidden)
    }

    fn standing(&self, _group: GroupId) -> Standing {
        Standing::Registered
    }

    fn directory(&self) -> Position {
        Position(0)
    }
}
