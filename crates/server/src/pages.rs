//! The encrypted tree of the state store: pages of sorted pairs, each sealed as a whole.
//!
//! fjall keeps what it is given in the order of its keys, and the keys of the state have links and
//! values of fields in them. So an encrypted store gives fjall nothing but numbers: a page is kept
//! under its number, and so is the first key of the page, both sealed. Which page has which keys is
//! known in memory only: an index with one key for each page, read when the store is opened.
//!
//! A page is never changed. A run writes the pages anew that it touches, under new numbers, and
//! deletes the old ones, all in one file that fjall adds to its tree as a whole or not at all. So
//! what a crash leaves is the tree before the run or after it, as without encryption.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::iter::Peekable;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard};

use fjall::{Database, Keyspace, Readable, Snapshot};
use storage::{DataKey, Purpose, Run, Sealer, StoreError, Tables, Visit};

use crate::tree_errors::{Added, is_full, unharmed, wrong};

/// About how long a page is, in bytes. With longer ones a run would write more anew that it has not
/// changed, and with shorter ones the index would take more memory.
const PAGE_BYTES: usize = 8 << 10;

/// A page that is shorter is joined with the one after it, when it is written anew.
const PAGE_BYTES_SHORT: u32 = 2 << 10;

/// What the names of pages and of their first keys begin with.
const PAGE: u8 = 0;
const FIRST: u8 = 1;

/// Under which number a page is, and how long it is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaf {
    number: u64,
    bytes: u32,
}

/// The pages by their first keys.
type PageIndex = BTreeMap<Box<[u8]>, Leaf>;

/// The tree as it is.
pub(crate) struct Pages {
    database: Database,
    writer: Mutex<Writer>,
    now: Mutex<Arc<PageView>>,
}

struct Writer {
    sealer: Sealer,
    /// The number of the next page.
    next: u64,
}

/// The tree as it was at some moment.
pub(crate) struct PageView {
    index: PageIndex,
    snapshot: Snapshot,
    keyspace: Keyspace,
    key: DataKey,
}

/// A part of a page.
struct Piece {
    page: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.page[self.range.clone()]
    }
}

type Pair = (Piece, Piece);

fn name(kind: u8, number: u64) -> [u8; 9] {
    let mut name = [kind; 9];
    name[1..].copy_from_slice(&number.to_be_bytes());
    name
}

fn changed(number: u64) -> StoreError {
    StoreError::damaged(format!("page {number} is not what was written under this key"))
}

impl Pages {
    /// Reads which pages there are.
    pub(crate) fn open(
        database: &Database,
        keyspace: &Keyspace,
        sealer: Sealer,
    ) -> Result<Self, StoreError> {
        let (mut index, mut next) = (PageIndex::new(), 0);
        let snapshot = database.snapshot();
        let mut firsts = snapshot.range(keyspace, [FIRST]..[FIRST + 1]);
        let mut read = || firsts.next().map(fjall::Guard::into_inner).transpose();
        while let Some((name, sealed)) = unharmed(&mut read)? {
            let number = name.get(1..9).and_then(|number| number.try_into().ok());
            let number = u64::from_be_bytes(number.ok_or_else(|| changed(0))?);
            let first = sealer.key().open(Purpose::Page, &name, &sealed);
            let first = first.ok_or_else(|| changed(number))?;
            let (bytes, first) = first.split_first_chunk().ok_or_else(|| changed(number))?;
            let leaf = Leaf { number, bytes: u32::from_le_bytes(*bytes) };
            if index.insert(first.into(), leaf).is_some() {
                return Err(changed(number));
            }
            next = next.max(number + 1);
        }
        let (keyspace, key) = (keyspace.clone(), sealer.key().clone());
        let now = PageView { index, snapshot, keyspace, key };
        Ok(Self {
            database: database.clone(),
            writer: Mutex::new(Writer { sealer, next }),
            now: Mutex::new(Arc::new(now)),
        })
    }

    /// The tree as it is now.
    pub(crate) fn view(&self) -> Arc<PageView> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<PageView>> {
        self.now.lock().expect("no one panics while holding the view")
    }

    /// Adds a run, durably, if there is room for what is written with it.
    pub(crate) fn add(
        &self,
        run: &Run,
        has_room_for: impl Fn(u64) -> bool,
    ) -> Result<Added, StoreError> {
        let view = self.view();
        let plan = Plan::of(&view.index, run);
        if plan.touched.is_empty() && !plan.has_values {
            return Ok(Added::Yes);
        }
        let rewritten = plan.touched.values().map(|leaf| u64::from(leaf.bytes)).sum();
        if !has_room_for(rewritten) {
            return Ok(Added::NoRoom);
        }
        let mut writer = self.writer.lock().expect("no one panics while writing pages");
        let outcome = writer.write(&view, &plan, run);
        drop(writer);
        let fresh = match outcome {
            Ok(fresh) => fresh,
            Err(Trouble::Tree(error)) if is_full(&error) => return Ok(Added::NoRoom),
            Err(Trouble::Tree(error)) => return Err(wrong(&error)),
            Err(Trouble::Page(error)) => return Err(error),
        };
        let gone: BTreeSet<Box<[u8]>> = plan.touched.keys().map(|first| (*first).into()).collect();
        drop(plan);
        drop(view);
        let mut now = self.lock();
        let snapshot = self.database.snapshot();
        let former = Arc::clone(&now);
        let (keyspace, key) = (former.keyspace.clone(), former.key.clone());
        let mut index = former.index.clone();
        index.retain(|first, _| !gone.contains(first));
        index.extend(fresh);
        *now = Arc::new(PageView { index, snapshot, keyspace, key });
        Ok(Added::Yes)
    }
}

/// Which pages a run touches.
struct Plan<'a> {
    touched: BTreeMap<&'a [u8], Leaf>,
    /// Where a touched page begins that does not follow another touched one. What is written
    /// before it must not get into one page with what comes after it.
    cuts: VecDeque<&'a [u8]>,
    /// The run does not only delete.
    has_values: bool,
}

impl<'a> Plan<'a> {
    fn of(index: &'a PageIndex, run: &Run) -> Self {
        let (mut touched, mut has_values) = (BTreeMap::new(), false);
        let visited = run.each(|key, value| {
            has_values |= value.is_some();
            let at_front = || index.iter().next().map(|(first, leaf)| (&first[..], leaf));
            if let Some((first, leaf)) = holder(index, key).or_else(at_front) {
                touched.insert(first, *leaf);
                let is_short = leaf.bytes < PAGE_BYTES_SHORT;
                if is_short && let Some((first, leaf)) = next(index, first) {
                    touched.insert(first, *leaf);
                }
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let Ok(()) = visited;
        let mut cuts = VecDeque::new();
        let mut follows: Option<&[u8]> = None;
        for first in touched.keys() {
            if follows != Some(first) {
                cuts.push_back(*first);
            }
            follows = next(index, first).map(|(next, _)| next);
        }
        // Whatever is before the first page belongs to it.
        if index.keys().next().map(|first| &first[..]) == cuts.front().copied() {
            cuts.pop_front();
        }
        Self { touched, cuts, has_values }
    }
}

/// The page that a key is in, if it is anywhere.
fn holder<'a>(index: &'a PageIndex, key: &[u8]) -> Option<(&'a [u8], &'a Leaf)> {
    let found = index.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
    found.map(|(first, leaf)| (&first[..], leaf))
}

/// The page after the one with that first key.
fn next<'a>(index: &'a PageIndex, first: &[u8]) -> Option<(&'a [u8], &'a Leaf)> {
    let after = (Bound::Excluded(first), Bound::Unbounded);
    index.range::<[u8], _>(after).next().map(|(first, leaf)| (&first[..], leaf))
}

/// A page that was just written, with its first key.
type Fresh = (Box<[u8]>, Leaf);

enum Trouble {
    Tree(fjall::Error),
    Page(StoreError),
}

impl From<fjall::Error> for Trouble {
    fn from(error: fjall::Error) -> Self {
        Self::Tree(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Page(error)
    }
}

impl Writer {
    /// Writes the touched pages anew, with the run in them. Gives the new ones.
    fn write(
        &mut self,
        view: &PageView,
        plan: &Plan<'_>,
        run: &Run,
    ) -> Result<Vec<Fresh>, Trouble> {
        let mut gone: Vec<u64> = plan.touched.values().map(|leaf| leaf.number).collect();
        gone.sort_unstable();
        let mut file = view.keyspace.start_ingestion()?;
        for number in &gone {
            file.write_tombstone(name(PAGE, *number))?;
        }
        let mut put = |name: [u8; 9], sealed: Vec<u8>| file.write(name, sealed);
        let (cuts, page) = (plan.cuts.clone(), Growing::default());
        let mut merging = Merging { put: &mut put, writer: self, cuts, page, fresh: Vec::new() };
        let old = plan.touched.values().flat_map(|leaf| view.pairs(leaf));
        merging.all(old.peekable(), run)?;
        let fresh = merging.fresh;
        for number in &gone {
            file.write_tombstone(name(FIRST, *number))?;
        }
        for (first, leaf) in &fresh {
            let name = name(FIRST, leaf.number);
            let text = [&leaf.bytes.to_le_bytes()[..], first].concat();
            file.write(name, self.sealer.seal(Purpose::Page, &name, &text))?;
        }
        file.finish()?;
        Ok(fresh)
    }
}

/// A run and the pages that it touches on their way into new pages.
struct Merging<'a> {
    /// Puts a sealed page under its name.
    put: &'a mut dyn FnMut([u8; 9], Vec<u8>) -> fjall::Result<()>,
    writer: &'a mut Writer,
    cuts: VecDeque<&'a [u8]>,
    page: Growing,
    fresh: Vec<Fresh>,
}

/// The pairs of a page that is being made.
#[derive(Default)]
struct Growing {
    bytes: Vec<u8>,
    /// Where each pair begins.
    begins: Vec<usize>,
}

impl Growing {
    fn push(&mut self, key: &[u8], value: &[u8]) {
        self.begins.push(self.bytes.len());
        for part in [key, value] {
            let length = u32::try_from(part.len()).expect("no value is that long");
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(part);
        }
    }

    /// Takes the pairs out that begin before `end`; at least the first one.
    fn take(&mut self, end: usize) -> Vec<u8> {
        let count = self.begins.partition_point(|begin| *begin < end).max(1);
        let cut = self.begins.get(count).copied().unwrap_or(self.bytes.len());
        let rest = self.bytes.split_off(cut);
        self.begins.drain(..count);
        self.begins.iter_mut().for_each(|begin| *begin -= cut);
        std::mem::replace(&mut self.bytes, rest)
    }
}

impl Merging<'_> {
    fn all(
        &mut self,
        mut old: Peekable<impl Iterator<Item = Result<Pair, StoreError>>>,
        run: &Run,
    ) -> Result<(), Trouble> {
        run.each(|key, value| {
            let is_before = |pair: &Result<Pair, StoreError>| {
                pair.as_ref().map_or(true, |(earlier, _)| earlier.as_ref() < key)
            };
            while let Some(pair) = old.next_if(is_before) {
                let (key, value) = pair?;
                self.push(key.as_ref(), value.as_ref())?;
            }
            old.next_if(|pair| pair.as_ref().is_ok_and(|(same, _)| same.as_ref() == key));
            value.map_or(Ok(()), |value| self.push(key, value))
        })?;
        for pair in old {
            let (key, value) = pair?;
            self.push(key.as_ref(), value.as_ref())?;
        }
        self.cut()
    }

    fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), Trouble> {
        while self.cuts.front().is_some_and(|cut| *cut <= key) {
            self.cuts.pop_front();
            self.cut()?;
        }
        self.page.push(key, value);
        if self.page.bytes.len() >= 2 * PAGE_BYTES { self.end_page(PAGE_BYTES) } else { Ok(()) }
    }

    /// Writes what there is: in two halves, if it is much.
    fn cut(&mut self) -> Result<(), Trouble> {
        let bytes = self.page.bytes.len();
        if bytes > PAGE_BYTES {
            self.end_page(bytes / 2)?;
        }
        if self.page.bytes.is_empty() { Ok(()) } else { self.end_page(usize::MAX) }
    }

    fn end_page(&mut self, end: usize) -> Result<(), Trouble> {
        let page = self.page.take(end);
        let bytes = u32::try_from(page.len()).unwrap_or(u32::MAX);
        let number = self.writer.next;
        self.writer.next += 1;
        let (_, first) = piece(&page, 0).expect("it was put together here");
        self.fresh.push((page[first].into(), Leaf { number, bytes }));
        let name = name(PAGE, number);
        (self.put)(name, self.writer.sealer.seal(Purpose::Page, &name, &page))?;
        Ok(())
    }
}

/// What a length at that place says lies after it, and where the next length is.
fn piece(page: &[u8], at: usize) -> Option<(usize, Range<usize>)> {
    let length = page.get(at..)?.first_chunk()?;
    let begin = at + length.len();
    let end = begin.checked_add(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (end <= page.len()).then_some((end, begin..end))
}

impl PageView {
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((_, leaf)) = holder(&self.index, key) else { return Ok(None) };
        let page = self.page(leaf.number)?;
        let mut at = 0;
        while at < page.len() {
            let pair = piece(&page, at).and_then(|(end, key)| Some((key, piece(&page, end)?)));
            let (there, (end, value)) = pair.ok_or_else(|| changed(leaf.number))?;
            match page[there].cmp(key) {
                Ordering::Less => at = end,
                Ordering::Equal => return Ok(Some(page[value].to_vec())),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Visits the pairs of the tree, with those of the tables in their place.
    pub(crate) fn scan(
        &self,
        tables: &Tables,
        (from, to): (&[u8], &[u8]),
        reverse: bool,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let start = holder(&self.index, from).map_or(from, |(first, _)| first);
        let range = (Bound::Included(start), Bound::Excluded(to));
        let leaves = self.index.range::<[u8], _>(range).map(|(_, leaf)| leaf);
        let leaves: Box<dyn Iterator<Item = &Leaf>> =
            if reverse { Box::new(leaves.rev()) } else { Box::new(leaves) };
        let pairs = leaves.flat_map(|leaf| {
            let mut pairs = self.pairs(leaf);
            if reverse {
                pairs.reverse();
            }
            pairs
        });
        let is_within = |pair: &Result<Pair, StoreError>| {
            pair.as_ref().map_or(true, |(key, _)| (from..to).contains(&key.as_ref()))
        };
        tables.scan((from, to), reverse, pairs.filter(is_within), visit)
    }

    /// The pairs of a page, or the one error that it cannot be read.
    fn pairs(&self, leaf: &Leaf) -> Vec<Result<Pair, StoreError>> {
        let pairs = self
            .page(leaf.number)
            .and_then(|page| split(&Arc::new(page)).ok_or_else(|| changed(leaf.number)));
        match pairs {
            Ok(pairs) => pairs.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }
    }

    fn page(&self, number: u64) -> Result<Vec<u8>, StoreError> {
        let name = name(PAGE, number);
        let sealed = unharmed(|| self.snapshot.get(&self.keyspace, name))?;
        let sealed =
            sealed.ok_or_else(|| StoreError::damaged(format!("page {number} is missing")))?;
        self.key.open(Purpose::Page, &name, &sealed).ok_or_else(|| changed(number))
    }
}

fn split(page: &Arc<Vec<u8>>) -> Option<Vec<Pair>> {
    let (mut pairs, mut at) = (Vec::new(), 0);
    while at < page.len() {
        let (end, key) = piece(page, at)?;
        let (end, value) = piece(page, end)?;
        let part = |range| Piece { page: Arc::clone(page), range };
        pairs.push((part(key), part(value)));
        at = end;
    }
    Some(pairs)
}
