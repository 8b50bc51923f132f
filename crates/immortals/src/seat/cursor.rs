//! How far the log was read for a program.
//!
//! A program that is level with the log is given each entry when it is applied, because then the
//! entry was decoded and walked already. For a program that is behind, the cursor reads the log.

use std::collections::VecDeque;

use protocol::{Position, Term};

use crate::context::Context;
use crate::history::applied::History;
use crate::history::indexed::{BadEntry, IndexedEntry};
use crate::history::input_state::{InputState, Logged};

/// How much of the log is read at a time, in bytes.
const READ_BYTES: usize = 2 << 20;

/// How many bytes of applied entries wait for a program that is level with the log. When more would
/// wait, the entries are read from the log.
const AHEAD_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Cursor {
    /// The position of the last entry that was read.
    pub(crate) position: Position,
    pub(crate) term: Term,
    /// The sum of the log up to there.
    pub(crate) input_state: InputState,
    /// Applied entries that were not read, without a gap.
    ahead: VecDeque<(Position, Term, IndexedEntry)>,
    ahead_bytes: usize,
    /// All entries up to there were read or are in `ahead`.
    known_to: Position,
    /// The bytes of log that were not read.
    pub(crate) backlog: u64,
}

impl Cursor {
    pub(crate) fn new(
        position: Position,
        term: Term,
        input_state: InputState,
        backlog: u64,
    ) -> Self {
        Self {
            position,
            term,
            input_state,
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            known_to: position,
            backlog,
        }
    }

    /// An entry is applied. It is kept if the program is level with the log, as far as there is
    /// room.
    pub(crate) fn offer(&mut self, position: Position, term: Term, entry: Option<IndexedEntry>) {
        if position <= self.known_to {
            return;
        }
        self.backlog += entry.as_ref().map_or(0, |entry| entry.bytes as u64);
        if self.known_to.0 + 1 != position.0 || self.ahead_bytes > AHEAD_BYTES_MAX {
            return;
        }
        if let Some(entry) = entry {
            self.ahead_bytes += entry.bytes;
            self.ahead.push_back((position, term, entry));
        }
        self.known_to = position;
    }

    /// The next entries, in order: those that were kept, or else a part of the log. There is none
    /// when the cursor has come to the end of what is applied.
    ///
    /// # Errors
    /// When an entry cannot be read.
    pub(crate) fn next(
        &mut self,
        cx: &Context<'_>,
        history: &History,
    ) -> Result<Vec<(Position, Term, IndexedEntry)>, BadEntry> {
        if let Some(next) = self.ahead.pop_front() {
            self.ahead_bytes -= next.2.bytes;
            return Ok(vec![next]);
        }
        if self.known_to < history.position {
            let mut found = Vec::new();
            for (position, term, bytes) in cx.entries.after(self.position, READ_BYTES) {
                found.push((position, term, IndexedEntry::read(bytes)?));
            }
            if let Some((position, ..)) = found.last() {
                self.known_to = *position;
                return Ok(found);
            }
        }
        // The entries up to there are not for programs. A checkpoint is of that place, too.
        if history.position > self.position {
            (self.position, self.term) = (history.position, history.term);
            self.known_to = self.known_to.max(history.position);
        }
        Ok(Vec::new())
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// When it does not fit what was read before.
    pub(crate) fn read(
        &mut self,
        position: Position,
        term: Term,
        entry: &IndexedEntry,
    ) -> Result<Logged, BadEntry> {
        assert!(
            position > self.position,
            "Invariant: a program is given entries in order, not {position} after {}",
            self.position
        );
        (self.position, self.term) = (position, term);
        self.backlog = self.backlog.saturating_sub(entry.bytes as u64);
        self.input_state.log(entry)
    }
}
