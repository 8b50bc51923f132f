//! What was written to a state store and is not in its tree yet.
//!
//! A node applies a command at a time and answers from what it applied, but it needs none of that
//! on the disk: the log has it. So batches gather in a table in memory, and all of it moves to the
//! tree at once, as one sorted run, when there is much of it or when the state has to be durable.
//! Readers look into the tables first and then into the tree.
//!
//! While a run is on its way its tables stay here, and what is written meanwhile goes to another
//! table. The run becomes part of the tree as a whole or not at all, so that after a crash the tree
//! is what it was after some number of whole batches.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::state::{Batch, StoreError, Visit};
use crate::table::Table;

/// How many tables may wait beside the one that is written to. A view closes the present table,
/// so that later writes do not change what it sees; when there are more, the first write after a
/// view copies the table instead.
const CLOSED_MAX: usize = 8;

/// The tables over a tree.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The table that is written to.
    open: Arc<Table>,
    /// Those that are not written to any more, the oldest first.
    closed: VecDeque<Arc<Table>>,
    /// How many of them belong to the run that is on its way.
    moving: usize,
    /// How many batches were ever written, and how many of them are surely in the tree.
    written: u64,
    moved: u64,
}

/// A run that is on its way to the tree: the last values of its keys.
#[derive(Clone, Debug)]
pub struct Run {
    tables: Tables,
    /// How many batches will be in the tree when it is.
    batches: u64,
}

/// Some tables, the newest first. They do not change.
#[derive(Clone, Debug, Default)]
pub struct Tables(Vec<Arc<Table>>);

type Pairs<'a> = Peekable<Box<dyn Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + 'a>>;

impl Layers {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn write(&mut self, batch: Batch) {
        self.written += 1;
        Arc::make_mut(&mut self.open).write(batch);
    }

    /// How many bytes of memory the tables take, about.
    pub fn bytes(&self) -> usize {
        self.open.bytes() + self.closed.iter().map(|table| table.bytes()).sum::<usize>()
    }

    /// How many of them do not belong to a run that is on its way.
    pub fn waiting_bytes(&self) -> usize {
        let closed = self.closed.iter().skip(self.moving);
        self.open.bytes() + closed.map(|table| table.bytes()).sum::<usize>()
    }

    /// How many batches were ever written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// How many batches, of those that were ever written, are in the tree.
    pub fn in_tree(&self) -> u64 {
        let is_all = self.open.is_empty() && self.closed.is_empty();
        if is_all { self.written } else { self.moved }
    }

    /// What was last written to the key, unless it is in the tree alone: its value, or `None` for
    /// a deletion.
    pub fn get<'a>(&'a self, key: &'a [u8]) -> Option<Option<&'a [u8]>> {
        let mut closed = self.closed.iter().rev();
        self.open.get(key).or_else(|| closed.find_map(|table| table.get(key)))
    }

    /// The tables as they are. To be asked before the tree is, and as long as it is: what leaves
    /// these layers meanwhile is in both.
    pub fn tables(&self) -> Tables {
        let closed = self.closed.iter().rev();
        let all = std::iter::once(&self.open).chain(closed);
        Tables(all.filter(|table| !table.is_empty()).cloned().collect())
    }

    /// The same, for somebody who keeps them while more is written.
    pub fn view(&mut self) -> Tables {
        if self.closed.len() < CLOSED_MAX {
            self.close();
        }
        self.tables()
    }

    /// The next view closes no table any more.
    pub fn is_crowded(&self) -> bool {
        self.closed.len() >= CLOSED_MAX
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push_back(std::mem::take(&mut self.open));
        }
    }

    /// Begins to move all that was written. Nothing if there is nothing.
    ///
    /// # Panics
    /// When a run is on its way: there is one at a time.
    pub fn begin_run(&mut self) -> Option<Run> {
        assert!(self.moving == 0, "a run ends before the next one begins");
        self.close();
        self.moving = self.closed.len();
        let tables = Tables(self.closed.iter().rev().cloned().collect());
        (self.moving > 0).then_some(Run { tables, batches: self.written })
    }

    /// The run is part of the tree. Its memory is given back with it, wherever it is dropped.
    pub fn end_run(&mut self, run: &Run) {
        self.moved = run.batches;
        self.closed.drain(..std::mem::take(&mut self.moving));
    }
}

impl Run {
    /// Shows each key, in order, with its last value or `None` for a deletion.
    ///
    /// # Errors
    /// Those of `visit`, the first of which ends it.
    pub fn each<E>(
        &self,
        mut visit: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let [table] = &self.tables.0[..] {
            return table.iter().try_for_each(|(key, value)| visit(key, value));
        }
        let all = self.tables.0.iter().map(|table| -> Pairs<'_> {
            let pairs: Box<dyn Iterator<Item = _>> = Box::new(table.iter());
            pairs.peekable()
        });
        let mut merged = Merged { sources: all.collect(), before: |one, other| one < other };
        merged.try_for_each(|(key, value)| visit(key, value))
    }
}

impl Tables {
    /// See [`Layers::get`].
    pub fn get<'a>(&'a self, key: &'a [u8]) -> Option<Option<&'a [u8]>> {
        self.0.iter().find_map(|table| table.get(key))
    }

    /// Visits the pairs of the tables and the tree together; `tree` gives those in `[from, to)`, in
    /// the order that is asked for.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub fn scan<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        (from, to): (&[u8], &[u8]),
        reverse: bool,
        tree: impl Iterator<Item = Result<(K, V), StoreError>>,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let before: fn(&[u8], &[u8]) -> bool =
            if reverse { |one, other| one > other } else { |one, other| one < other };
        let all = self.0.iter().map(|table| -> Pairs<'_> {
            let range = table.range(from, to);
            let pairs: Box<dyn Iterator<Item = _>> =
                if reverse { Box::new(range.rev()) } else { Box::new(range) };
            pairs.peekable()
        });
        let mut newer = Merged { sources: all.collect(), before }.peekable();
        for pair in tree {
            let (key, value) = pair?;
            let key = key.as_ref();
            while let Some((earlier, value)) = newer.next_if(|(earlier, _)| before(earlier, key)) {
                if shown(visit, earlier, value).is_break() {
                    return Ok(());
                }
            }
            let newer = newer.next_if(|(same, _)| *same == key);
            let value = newer.map_or(Some(value.as_ref()), |(_, value)| value);
            if shown(visit, key, value).is_break() {
                return Ok(());
            }
        }
        let _stopped_or_at_the_end = newer.try_for_each(|(key, value)| shown(visit, key, value));
        Ok(())
    }
}

fn shown(visit: Visit<'_>, key: &[u8], value: Option<&[u8]>) -> ControlFlow<()> {
    value.map_or(ControlFlow::Continue(()), |value| visit(key, value))
}

/// The pairs of several tables in one order. Of pairs with the same key it has the first table's.
struct Merged<'a> {
    sources: Vec<Pairs<'a>>,
    before: fn(&[u8], &[u8]) -> bool,
}

impl<'a> Iterator for Merged<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<(usize, &[u8])> = None;
        for (number, source) in self.sources.iter_mut().enumerate() {
            let Some(&(key, _)) = source.peek() else { continue };
            if first.is_none_or(|(_, earlier)| (self.before)(key, earlier)) {
                first = Some((number, key));
            }
        }
        let (number, key) = first?;
        let (newest, older) = self.sources.get_mut(number..)?.split_first_mut()?;
        for source in older {
            source.next_if(|(same, _)| *same == key);
        }
        newest.next()
    }
}
