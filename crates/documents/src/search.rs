//! A query under way, run in steps so that a long one does not hold up everything else.
//!
//! The documents that the way (see `plan`) leads to are looked at one by one: what the index
//! proposed but does not meet the query, or is deleted or expired, is no hit. So the index may be
//! behind the documents, or change between steps: what did not change is found once.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::Moment;
use query::{CompiledQuery, Cursor, Hit, Page, Scope, after_all_with, encoded_bytes, is_missing};
use storage::{Reader, StoreError};

use crate::family;
use crate::partition::Partition;
use crate::plan::{List, Sorted, Way};
use crate::record::{Record, shown};

/// How many documents are taken from the store at a time.
const CHUNK: usize = 128;

/// How many keys of a list are passed for each link that is looked for in it.
const SCANNED_PER_LINK: usize = 4;

/// A query under way in one partition; see [`Partition::step`].
#[derive(Debug)]
pub struct Search {
    query: Arc<CompiledQuery>,
    run: Run,
}

/// How far it has come.
#[derive(Debug)]
struct Run {
    after: Option<Cursor>,
    limit: usize,
    now: Moment,
    /// The generation and the life of the index that the way leads through.
    life: (u32, u64),
    way: Option<Way>,
    is_in_order: bool,
    only_missing: bool,
    /// The hits so far, one more than the page may have at most.
    best: BTreeSet<Hit>,
    /// The links of the hits, on a way by values: a document whose value changes between steps
    /// may be met again.
    seen: BTreeSet<String>,
    count: u64,
}

impl Run {
    fn new(after: Option<&Cursor>, limit: usize, now: Moment) -> Self {
        Self {
            after: after.cloned(),
            limit,
            now,
            life: (0, 0),
            way: None,
            is_in_order: true,
            only_missing: false,
            best: BTreeSet::new(),
            seen: BTreeSet::new(),
            count: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.is_in_order && self.best.len() > self.limit
    }

    /// Takes a document, or one of its versions, as a hit if it is one.
    fn offer(&mut self, query: &CompiledQuery, link: &str, record: &Record<'_>) {
        let Some(sort_key) = query.evaluate(&record.candidate(link)) else { return };
        if query.is_count() {
            self.count += 1;
            return;
        }
        if self.only_missing && (!is_missing(&sort_key) || self.seen.contains(link)) {
            return;
        }
        let hit = Hit { sort_key, link: link.to_owned(), version: record.version, document: None };
        // A document that was written since the last page has a higher version and is the same
        // document all the same. (If it is sorted by what was changed, it may still move.)
        let version = (query.scope() == Scope::AllVersions).then_some(hit.version);
        let is_before = self.after.as_ref().is_some_and(|after| {
            (&hit.sort_key, &hit.link) < (&after.sort_key, &after.link)
                || (&hit.sort_key, &hit.link) == (&after.sort_key, &after.link)
                    && version.is_none_or(|version| version <= after.version)
        });
        let is_behind =
            self.best.len() > self.limit && self.best.last().is_some_and(|last| hit > *last);
        if is_before || is_behind {
            return;
        }
        let document = query.is_expanded().then(|| shown(*record, link));
        self.best.insert(Hit { document, ..hit });
        if self.best.len() > self.limit.saturating_add(1) {
            self.best.pop_last();
        }
    }

    fn page(&mut self) -> Page {
        let more = self.best.len() > self.limit;
        let hits: Vec<Hit> = std::mem::take(&mut self.best).into_iter().take(self.limit).collect();
        let found = u64::try_from(hits.len()).expect("a length fits");
        Page { count: self.count.max(found), hits, more }
    }
}

/// Links with what is known of their heads.
type Found = Vec<(String, Option<Vec<u8>>)>;

impl Partition {
    /// The hits after `after`, at most `limit`, as of the applied state. To be fast it wants
    /// [`Partition::index`] to have returned true; it is right all the same.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn query(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        after: Option<&Cursor>,
        limit: usize,
        now: Moment,
    ) -> Result<Page, StoreError> {
        let mut run = Run::new(after, limit, now);
        loop {
            if let Some(page) = self.run(store, query, &mut run, usize::MAX)? {
                return Ok(page);
            }
        }
    }

    /// Begins a query that is run in steps: the hits after `after`, at most `limit`. Documents
    /// that expired by `now` are not seen.
    pub fn search(
        &self,
        query: Arc<CompiledQuery>,
        after: Option<&Cursor>,
        limit: usize,
        now: Moment,
    ) -> Search {
        Search { query, run: Run::new(after, limit, now) }
    }

    /// Looks at about `budget` documents more. The page, once it is complete. Commands may be
    /// applied between the steps.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn step(
        &self,
        store: &dyn Reader,
        search: &mut Search,
        budget: usize,
    ) -> Result<Option<Page>, StoreError> {
        self.run(store, &search.query, &mut search.run, budget)
    }

    fn run(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        run: &mut Run,
        budget: usize,
    ) -> Result<Option<Page>, StoreError> {
        let life = (self.space.generation, self.index.life);
        if run.way.is_none() || run.life != life {
            let after = run.after.take().filter(|_| !query.is_count());
            *run = Run::new(after.as_ref(), run.limit, run.now);
            let plan = self.plan(store, query, after.as_ref(), run.limit, false)?;
            run.life = life;
            run.way = Some(plan.way);
            run.is_in_order = plan.is_in_order;
            run.only_missing = plan.only_missing;
        }
        let mut left = budget;
        while left > 0 {
            let chunk = left.min(CHUNK).min(run.limit.saturating_add(1)).max(8);
            left = left.saturating_sub(chunk);
            if self.advance(store, query, run, chunk)? || run.is_full() {
                return Ok(Some(run.page()));
            }
        }
        Ok(None)
    }

    /// Looks at up to `chunk` documents. True when the way has come to its end.
    fn advance(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        run: &mut Run,
        chunk: usize,
    ) -> Result<bool, StoreError> {
        let mut way = run.way.take().expect("a search that is not over has a way");
        let found = match &mut way {
            Way::Links(links) => {
                let rest = links.split_off(links.len().saturating_sub(chunk));
                Some(rest.into_iter().rev().map(|link| (link, None)).collect())
            }
            Way::Heads { from, to } => Some(self.take_heads(store, from, to, chunk)?),
            Way::List(list) => Some(self.take_list(store, list, chunk)?),
            Way::Counted { list, others } => {
                if self.count_list(store, list, others, chunk, &mut run.count)? {
                    return self.count_due(store, query, run).map(|()| true);
                }
                None
            }
            Way::Sorted(sorted) => {
                let is_over = self.take_sorted(store, query, run, sorted, chunk)?;
                if is_over && !run.is_full() {
                    let after = run.after.as_ref();
                    let plan = self.plan(store, query, after, run.limit, true)?;
                    run.only_missing = true;
                    way = plan.way;
                }
                None
            }
        };
        let is_over = found.as_ref().is_some_and(|found: &Found| found.len() < chunk);
        for (link, head) in found.into_iter().flatten() {
            self.look(store, query, run, &link, head)?;
            if run.is_full() {
                break;
            }
        }
        run.way = Some(way);
        Ok(is_over)
    }

    /// Offers a document, or all its versions, to the run.
    fn look(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        run: &mut Run,
        link: &str,
        head: Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let Some(head) = self.head_bytes(store, link, head)? else { return Ok(()) };
        let head = Record::decode(&head, &self.names)?;
        if head.is_expired(run.now) || query.scope() == Scope::Live && head.is_deleted() {
            return Ok(());
        }
        if query.scope() == Scope::AllVersions && head.oldest < head.version {
            let from = self.space.key(family::VERSION, &family::version_rest(link, head.oldest));
            let to = self.space.key(family::VERSION, &family::version_rest(link, head.version));
            let mut outcome = Ok(());
            store.scan(&from, &to, false, &mut |_, value| {
                match Record::decode(value, &self.names) {
                    Ok(record) => run.offer(query, link, &record),
                    Err(error) => outcome = Err(error),
                }
                ControlFlow::Continue(())
            })?;
            outcome?;
        }
        run.offer(query, link, &head);
        Ok(())
    }

    fn head_bytes(
        &self,
        store: &dyn Reader,
        link: &str,
        known: Option<Vec<u8>>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        match known {
            Some(head) => Ok(Some(head)),
            None => store.get(&self.space.key(family::HEAD, link.as_bytes())),
        }
    }

    fn take_heads(
        &self,
        store: &dyn Reader,
        from: &mut Vec<u8>,
        to: &[u8],
        chunk: usize,
    ) -> Result<Found, StoreError> {
        let mut found = Found::new();
        let start = self.space.key(family::HEAD, from);
        let end = self.space.key(family::HEAD, to);
        store.scan(&start, &end, false, &mut |key, value| {
            let link = self.space.rest(key);
            found.push((String::from_utf8_lossy(link).into_owned(), Some(value.to_vec())));
            if found.len() == chunk {
                *from = [link, &[0]].concat();
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// The links of a list's next postings. The rest of the list remains.
    fn take_list(
        &self,
        store: &dyn Reader,
        list: &mut List,
        chunk: usize,
    ) -> Result<Found, StoreError> {
        let mut found = Found::new();
        let mut next = None;
        self.scan_list(store, list, &mut |rest| {
            let link = list.link_at.link(rest).unwrap_or_default();
            found.push((link.to_owned(), None));
            if found.len() == chunk {
                next = Some([rest, &[0]].concat());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        list.from = next.unwrap_or_else(|| list.to.clone());
        Ok(found)
    }

    /// Counts the links that are in a list and in all others; true at its end. A posting is less
    /// work than a document, so more of them are looked at.
    fn count_list(
        &self,
        store: &dyn Reader,
        list: &mut List,
        others: &[List],
        chunk: usize,
        count: &mut u64,
    ) -> Result<bool, StoreError> {
        let chunk = chunk.saturating_mul(8);
        if others.is_empty() {
            return self.count_keys(store, list, chunk, count);
        }
        let found = self.take_list(store, list, chunk)?;
        let is_over = found.len() < chunk;
        let mut links: Vec<String> = found.into_iter().map(|(link, _)| link).collect();
        for other in others {
            links = self.common(store, links, other)?;
        }
        *count += u64::try_from(links.len()).expect("a length fits");
        Ok(is_over)
    }

    fn count_keys(
        &self,
        store: &dyn Reader,
        list: &mut List,
        chunk: usize,
        count: &mut u64,
    ) -> Result<bool, StoreError> {
        let (mut left, mut next) = (chunk, None);
        self.scan_list(store, list, &mut |rest| {
            if left == 0 {
                next = Some(rest.to_vec());
                return ControlFlow::Break(());
            }
            left -= 1;
            *count += 1;
            ControlFlow::Continue(())
        })?;
        let is_over = next.is_none();
        list.from = next.unwrap_or_else(|| list.to.clone());
        Ok(is_over)
    }

    /// Those of the links, which are in order, that are in a list as well.
    fn common(
        &self,
        store: &dyn Reader,
        links: Vec<String>,
        list: &List,
    ) -> Result<Vec<String>, StoreError> {
        let (Some(first), Some(last)) = (links.first(), links.last()) else { return Ok(links) };
        let part = list.between(first, last);
        // Where the list is much longer, looking each link up is less work.
        let mut left = links.len().saturating_mul(SCANNED_PER_LINK);
        let mut is_cut = false;
        let mut common = Vec::new();
        let mut rest = links.into_iter().peekable();
        self.scan_list(store, &part, &mut |key| {
            let Some(link) = part.link_at.link(key) else { return ControlFlow::Continue(()) };
            while rest.next_if(|own| own.as_str() < link).is_some() {}
            common.extend(rest.next_if(|own| own == link));
            left -= 1;
            if left == 0 {
                is_cut = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if is_cut {
            for link in rest {
                if store.get(&self.space.key(part.family, &part.at(&link)))?.is_some() {
                    common.push(link);
                }
            }
        }
        Ok(common)
    }

    /// Takes off those documents from the count of postings that expired but are still there.
    fn count_due(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        run: &mut Run,
    ) -> Result<(), StoreError> {
        for link in self.due(store, run.now, usize::MAX)? {
            let Some(head) = self.head_bytes(store, &link, None)? else { continue };
            let head = Record::decode(&head, &self.names)?;
            if !head.is_deleted() && query.evaluate(&head.candidate(&link)).is_some() {
                run.count = run.count.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Looks at the next documents in the order of their values; true when there are no more.
    fn take_sorted(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        run: &mut Run,
        sorted: &mut Sorted,
        chunk: usize,
    ) -> Result<bool, StoreError> {
        let sort = query.sort().expect("a way by values is taken to sort by them");
        let mut found = Vec::new();
        while found.len() < chunk {
            let from = self.space.key(family::POSTING, &sorted.from);
            let to = self.space.key(family::POSTING, &sorted.to);
            let mut next = None;
            store.scan(&from, &to, false, &mut |key, _| {
                let rest = self.space.rest(key);
                if let Some((value, link)) = value_and_link(rest) {
                    found.push((sort.key(Some(value)), link.to_owned()));
                }
                if found.len() >= chunk {
                    next = Some([rest, &[0]].concat());
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            if let Some(next) = next {
                sorted.from = next;
            } else if !self.next_below(store, sorted)? {
                sorted.from.clone_from(&sorted.to);
                break;
            }
        }
        let is_over = found.len() < chunk;
        for (sort_key, link) in found {
            if run.is_full() {
                break;
            }
            let Some(head) = self.head_bytes(store, &link, None)? else { continue };
            let record = Record::decode(&head, &self.names)?;
            // A document of many values has its place at the first of them.
            let is_place =
                query.evaluate(&record.candidate(&link)).is_some_and(|key| key == sort_key);
            if is_place && run.seen.insert(link.clone()) {
                self.look(store, query, run, &link, Some(head))?;
            }
        }
        Ok(is_over)
    }

    /// Goes on to the next lower value of a walk downward; false if there is none.
    fn next_below(&self, store: &dyn Reader, sorted: &mut Sorted) -> Result<bool, StoreError> {
        let Some(below) = &sorted.below else { return Ok(false) };
        let from = self.space.key(family::POSTING, &sorted.field.to_be_bytes());
        let to = self.space.key(family::POSTING, below);
        let mut value = None;
        store.scan(&from, &to, true, &mut |key, _| {
            let rest = self.space.rest(key);
            let length = value_and_link(rest).map_or(rest.len(), |(value, _)| 2 + value.len());
            value = Some(rest[..length].to_vec());
            ControlFlow::Break(())
        })?;
        let Some(value) = value else { return Ok(false) };
        sorted.to = after_all_with(&value);
        sorted.from.clone_from(&value);
        sorted.below = Some(value);
        Ok(true)
    }
}

/// The parts of a posting's rest, after the number of the field.
fn value_and_link(rest: &[u8]) -> Option<(&[u8], &str)> {
    let rest = rest.get(2..)?;
    let (value, link) = rest.split_at_checked(encoded_bytes(rest)?)?;
    Some((value, std::str::from_utf8(link).ok()?))
}
