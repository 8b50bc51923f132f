//! A query under way, run in steps so that a long one does not hold up everything else.
//!
//! The documents that the way (see `plan`) leads to are looked at one by one: what the index
//! proposed but does not meet the query, or is deleted or expired, is no hit. So the index may be
//! behind the documents. All steps see the store as it was at the first of them.
//!
//! Work is counted in bytes: of what is read and compared, and a little for each document and key.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::Moment;
use query::{
    CompiledQuery, Cursor, Explained, Forgotten, Hit, Page, Scope, after_all_with, encoded_bytes,
    is_missing,
};
use storage::{Reader, StoreError};

use crate::family;
use crate::hits::{Findings, Hits};
use crate::partition::Partition;
use crate::past::{Place, RecordAt};
use crate::plan::{List, Sorted, Way};
use crate::record::{Record, shown};
use crate::view::View;

/// How many documents are taken from the store at a time.
const CHUNK: usize = 128;

/// No more bytes of documents are taken from the store at a time, but for the last one.
const CHUNK_BYTES_MAX: usize = 256 << 10;

/// What a document costs beside its bytes, in bytes.
const DOCUMENT_COST: usize = 64;

/// What a key of the index costs, in bytes.
const KEY_COST: usize = 16;

/// How many keys of a list are passed for each link that is looked for in it.
const SCANNED_PER_LINK: usize = 4;

/// Which page of a query is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The page begins after this hit.
    pub after: Option<Cursor>,
    /// At most this many hits.
    pub hits: usize,
    /// The page ends with the first hit that takes it over this many bytes.
    pub bytes: usize,
    /// Documents that expired by then are not seen.
    pub now: Moment,
}

/// A query under way in one partition.
#[derive(Debug)]
pub struct Search {
    view: View,
    query: Arc<CompiledQuery>,
    wanted: Wanted,
    /// Where it goes on; none before the first step, and at the end of the way.
    way: Option<Way>,
    /// Behind a way by values: the way to the documents without one.
    missing: Option<Way>,
    is_begun: bool,
    is_short: bool,
    is_in_order: bool,
    only_missing: bool,
    next: Next,
    found: Findings,
    /// How it was done, and how much work that was; kept in any case, as that costs nothing.
    explained: Explained,
}

/// What the way has led to and was not looked at.
#[derive(Debug, Default)]
struct Next {
    candidates: VecDeque<Candidate>,
    /// On a way by values: the one that was looked at last, if others may be the same to the index
    /// and come before it all the same.
    tied: Option<Vec<u8>>,
}

/// A document that may be a hit.
#[derive(Debug)]
struct Candidate {
    link: String,
    /// What is known of its head.
    head: Option<Vec<u8>>,
    /// On a way by values: it is a hit here only if its sort key begins with this.
    place: Option<Vec<u8>>,
    /// Others may have this place and another sort key.
    is_tied: bool,
}

impl Candidate {
    fn of(link: String) -> Self {
        Self { link, head: None, place: None, is_tied: false }
    }
}

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
        let wanted = Wanted { after: after.cloned(), hits: limit, bytes: usize::MAX, now };
        let mut search = Search::new(self.view(), Arc::new(query.clone()), wanted);
        loop {
            if let Some(page) = search.step(store, usize::MAX)? {
                return Ok(page);
            }
        }
    }
}

impl Search {
    pub fn new(view: View, query: Arc<CompiledQuery>, mut wanted: Wanted) -> Self {
        wanted.after = wanted.after.filter(|_| !query.is_count());
        let hits = Hits::new(wanted.hits, wanted.bytes);
        let groups = query.aggregation().map(|aggregation| aggregation.begin());
        let found = Findings { hits, count: 0, groups, forgotten: None };
        Self {
            view,
            query,
            wanted,
            way: None,
            missing: None,
            is_begun: false,
            is_short: false,
            is_in_order: true,
            only_missing: false,
            next: Next::default(),
            found,
            explained: Explained::default(),
        }
    }

    /// A document that takes more than the budget of a step is not looked at: the search is for a
    /// step that must be short, and goes on elsewhere.
    #[must_use]
    pub fn short(self) -> Self {
        Self { is_short: true, ..self }
    }

    /// Does about `budget` bytes of work more. The page, once it is complete. The store must be as
    /// it was at the first step, when the view was made.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn step(&mut self, store: &dyn Reader, budget: usize) -> Result<Option<Page>, StoreError> {
        if !self.is_begun {
            self.begin(store)?;
        }
        let mut left = budget;
        while left > 0 {
            let cost = match self.next.candidates.pop_front() {
                Some(mut candidate) => {
                    let cost = self.cost(store, &mut candidate)?;
                    // What takes more than is left comes with the next turn, and a whole turn is
                    // enough for each: but none is begun in a step that is for short work.
                    if cost > left && (left < budget || self.is_short) {
                        self.next.candidates.push_front(candidate);
                        return Ok(None);
                    }
                    self.look(store, &candidate, cost)?
                }
                None if self.way.is_some() => self.advance(store)?,
                None if self.missing.is_some() => {
                    self.way = self.missing.take();
                    self.only_missing = true;
                    KEY_COST
                }
                None => return Ok(Some(self.page())),
            };
            self.explained.bytes += u64::try_from(cost).expect("a length fits");
            if self.is_full() {
                return Ok(Some(self.page()));
            }
            left = left.saturating_sub(cost);
        }
        Ok(None)
    }

    /// How much work was done so far, in bytes.
    pub fn spent(&self) -> usize {
        usize::try_from(self.explained.bytes).unwrap_or(usize::MAX)
    }

    fn begin(&mut self, store: &dyn Reader) -> Result<(), StoreError> {
        let after = self.wanted.after.as_ref();
        let plan = self.view.plan(store, &self.query, after, self.wanted.hits, false)?;
        if let Way::Links(links) = &plan.way {
            self.explained.entries = u64::try_from(links.len()).expect("a length fits");
        }
        self.explained.way = plan.told;
        self.way = Some(plan.way);
        self.is_in_order = plan.is_in_order;
        self.only_missing = plan.only_missing;
        self.is_begun = true;
        Ok(())
    }

    fn is_full(&self) -> bool {
        let is_in_order = self.is_in_order && !self.is_among_ties();
        self.found.forgotten.is_some() || self.found.are_full(is_in_order)
    }

    /// What comes next may belong before what was found.
    fn is_among_ties(&self) -> bool {
        let Some(tied) = &self.next.tied else { return false };
        match self.next.candidates.front() {
            Some(next) => next.place.as_ref() == Some(tied),
            None => self.way.is_some(),
        }
    }

    fn page(&mut self) -> Page {
        let (hits, more) = self.found.hits.take();
        let found = u64::try_from(hits.len()).expect("a length fits");
        let explained = self.query.is_explained().then(|| std::mem::take(&mut self.explained));
        let explained = explained.map(|explained| match self.query.tells_counts() {
            true => explained,
            // Which index is narrow tells how many documents there are, hidden ones included.
            false => Explained { is_hidden: true, ..Explained::default() },
        });
        Page {
            count: self.found.count.max(found),
            hits,
            more,
            groups: self.found.groups.take(),
            explained,
            forgotten: self.found.forgotten.take(),
        }
    }

    /// Takes a document, or one of its versions, as a hit if it is one.
    fn offer(&mut self, link: &str, record: &Record<'_>) {
        self.explained.documents += 1;
        let Some(sort_key) = self.query.evaluate(&record.candidate(link)) else { return };
        if self.query.is_count() {
            self.found.count += 1;
            return;
        }
        if let Some(groups) = &mut self.found.groups {
            self.query.add_to(groups, &record.candidate(link));
            self.found.count += 1;
            return;
        }
        if self.only_missing && !is_missing(&sort_key) {
            return;
        }
        let (version, document, selected) = (record.version, None, Vec::new());
        let hit = Hit { sort_key, link: link.to_owned(), version, document, selected };
        // A document that was written since the last page has a higher version and is the same
        // document all the same. (If it is sorted by what was changed, it may still move.)
        let version = (self.query.scope() == Scope::AllVersions).then_some(hit.version);
        let is_before = self.wanted.after.as_ref().is_some_and(|after| {
            (&hit.sort_key, &hit.link) < (&after.sort_key, &after.link)
                || (&hit.sort_key, &hit.link) == (&after.sort_key, &after.link)
                    && version.is_none_or(|version| version <= after.version)
        });
        if !is_before && self.found.hits.want(&hit) {
            let document =
                self.query.is_expanded().then(|| self.query.expanded(shown(*record, link)));
            let selected = self.query.selected_links(&record.candidate(link));
            self.found.hits.insert(Hit { document, selected, ..hit });
        }
    }

    /// Takes the next candidates from the way, and says what that cost.
    fn advance(&mut self, store: &dyn Reader) -> Result<usize, StoreError> {
        let Some(mut way) = self.way.take() else { return Ok(0) };
        let chunk = CHUNK.min(self.wanted.hits.saturating_add(1)).max(8);
        let mut cost = KEY_COST * chunk;
        let is_over = match &mut way {
            Way::Links(links) => {
                let rest = links.split_off(links.len().saturating_sub(chunk));
                self.next.candidates.extend(rest.into_iter().rev().map(Candidate::of));
                links.is_empty()
            }
            Way::Heads { from, to } => {
                let (found, is_over) = self.view.take_heads(store, from, to, chunk)?;
                self.next.candidates.extend(found);
                is_over
            }
            Way::List(list) => {
                let links = self.view.take_list(store, list, chunk)?;
                self.explained.entries += u64::try_from(links.len()).expect("a length fits");
                let is_over = links.len() < chunk;
                self.next.candidates.extend(links.into_iter().map(Candidate::of));
                is_over
            }
            Way::Counted { list, others } => {
                cost *= 8 * (1 + others.len());
                let before = self.found.count;
                let is_over =
                    self.view.count_list(store, list, others, chunk, &mut self.found.count)?;
                self.explained.entries += self.found.count - before;
                if is_over {
                    self.count_due(store)?;
                }
                is_over
            }
            Way::Sorted(sorted) => {
                let found = self.view.take_sorted(store, &self.query, sorted, chunk)?;
                self.explained.entries += u64::try_from(found.len()).expect("a length fits");
                let is_over = found.len() < chunk;
                self.next.candidates.extend(found);
                if is_over {
                    // Behind the documents with a value come those without.
                    let after = self.wanted.after.as_ref();
                    let plan = self.view.plan(store, &self.query, after, self.wanted.hits, true)?;
                    self.missing = Some(plan.way);
                }
                is_over
            }
        };
        if !is_over {
            self.way = Some(way);
        }
        Ok(cost)
    }

    /// What it costs to look at a document, which is read for that.
    fn cost(&self, store: &dyn Reader, candidate: &mut Candidate) -> Result<usize, StoreError> {
        if candidate.head.is_none() {
            let key = self.view.space.key(family::HEAD, candidate.link.as_bytes());
            candidate.head = store.get(&key)?;
        }
        let Some(head) = &candidate.head else { return Ok(DOCUMENT_COST) };
        Ok((DOCUMENT_COST + head.len()).saturating_mul(self.query.weight()))
    }

    /// Offers a document, or all its versions, as hits, and says what that cost.
    fn look(
        &mut self,
        store: &dyn Reader,
        candidate: &Candidate,
        mut cost: usize,
    ) -> Result<usize, StoreError> {
        let weight = self.query.weight();
        let link = &candidate.link;
        let Some(head) = &candidate.head else { return Ok(cost) };
        let (space, names) = (self.view.space, Arc::clone(&self.view.names));
        let head = Record::decode(head, &names)?;
        if let Some(place) = &candidate.place {
            // A document of many values has its place at the first of them.
            let sort_key = self.query.evaluate(&head.candidate(link));
            self.next.tied = candidate.is_tied.then(|| place.clone());
            if sort_key.is_none_or(|sort_key| !sort_key.starts_with(place)) {
                return Ok(cost);
            }
        }
        let scope = self.query.scope();
        if head.is_expired(self.wanted.now) {
            return Ok(cost);
        }
        if let Scope::AsOf { at, .. } = scope {
            let place = Place { store, space, names: &names };
            self.look_at(&place, (link, &head), at, &mut cost)?;
            return Ok(cost);
        }
        if head.is_deleted() && !scope.shows_deleted() {
            return Ok(cost);
        }
        if scope == Scope::AllVersions && head.oldest < head.version {
            let from = space.key(family::VERSION, &family::version_rest(link, head.oldest));
            let to = space.key(family::VERSION, &family::version_rest(link, head.version));
            let mut outcome = Ok(());
            store.scan(&from, &to, false, &mut |_, value| {
                cost += (DOCUMENT_COST + value.len()) * weight;
                match Record::decode(value, &names) {
                    Ok(record) => self.offer(link, &record),
                    Err(error) => outcome = Err(error),
                }
                if self.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            outcome?;
        }
        self.offer(link, &head);
        Ok(cost)
    }

    /// Offers the version of a time.
    fn look_at(
        &mut self,
        place: &Place<'_>,
        (link, head): (&str, &Record<'_>),
        at: Moment,
        cost: &mut usize,
    ) -> Result<(), StoreError> {
        let weight = self.query.weight();
        let mut read = |bytes| *cost += (DOCUMENT_COST + bytes) * weight;
        let older;
        let record = match place.record_at(link, head, at, &mut read)? {
            RecordAt::Nothing => return Ok(()),
            RecordAt::Head => *head,
            RecordAt::Older(bytes) => {
                older = bytes;
                Record::decode(&older, place.names)?
            }
            RecordAt::Forgotten(forgotten) => return self.miss(place, head, forgotten),
        };
        let is_shown = !record.is_deleted() || self.query.scope().shows_deleted();
        if is_shown && !record.is_expired(at) {
            self.offer(link, &record);
        }
        Ok(())
    }

    /// The version of that time is not kept. Who may not see what is kept of the document is told
    /// nothing of it, not even that.
    fn miss(
        &mut self,
        place: &Place<'_>,
        head: &Record<'_>,
        forgotten: Forgotten,
    ) -> Result<(), StoreError> {
        let Place { store, space, names } = *place;
        let link = &forgotten.link;
        let changed = store.get(&space.key(family::KIND_CHANGED, link.as_bytes()))?;
        let kind = changed.is_none().then_some(head.kind);
        if !self.query.may_meet(link, kind) {
            return Ok(());
        }
        let rest = family::version_rest(link, head.oldest);
        let oldest = store.get(&space.key(family::VERSION, &rest))?;
        let oldest = oldest.as_deref().map(|bytes| Record::decode(bytes, names)).transpose()?;
        if self.query.may_show(&oldest.unwrap_or(*head).candidate(link)) {
            self.found.forgotten = Some(forgotten);
        }
        Ok(())
    }

    /// Takes off those documents from the count of postings that expired but are still there.
    fn count_due(&mut self, store: &dyn Reader) -> Result<(), StoreError> {
        let view = &self.view;
        for link in view.due(store, self.wanted.now, usize::MAX)? {
            let head = store.get(&view.space.key(family::HEAD, link.as_bytes()))?;
            let Some(head) = head else { continue };
            let head = Record::decode(&head, &view.names)?;
            if !head.is_deleted() && self.query.evaluate(&head.candidate(&link)).is_some() {
                self.found.count = self.found.count.saturating_sub(1);
            }
        }
        Ok(())
    }
}

impl View {
    /// The next heads in a range, and whether there are no more.
    fn take_heads(
        &self,
        store: &dyn Reader,
        from: &mut Vec<u8>,
        to: &[u8],
        chunk: usize,
    ) -> Result<(Vec<Candidate>, bool), StoreError> {
        let (mut found, mut bytes, mut is_over) = (Vec::new(), 0, true);
        let start = self.space.key(family::HEAD, from);
        let end = self.space.key(family::HEAD, to);
        store.scan(&start, &end, false, &mut |key, value| {
            let rest = self.space.rest(key);
            let link = String::from_utf8_lossy(rest).into_owned();
            found.push(Candidate { head: Some(value.to_vec()), ..Candidate::of(link) });
            bytes += value.len();
            if found.len() == chunk || bytes >= CHUNK_BYTES_MAX {
                *from = [rest, &[0]].concat();
                is_over = false;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok((found, is_over))
    }

    /// The links of a list's next postings. The rest of the list remains.
    fn take_list(
        &self,
        store: &dyn Reader,
        list: &mut List,
        chunk: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        let mut next = None;
        self.scan_list(store, list, &mut |rest| {
            found.push(list.link_at.link(rest).unwrap_or_default().to_owned());
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
        let mut links = found;
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

    /// The next documents in the order of their values; fewer than `chunk` when there are no more.
    fn take_sorted(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        sorted: &mut Sorted,
        chunk: usize,
    ) -> Result<Vec<Candidate>, StoreError> {
        let sort = query.sort().expect("a way by values is taken to sort by them");
        let mut found = Vec::new();
        while found.len() < chunk {
            let from = self.space.key(family::POSTING, &sorted.from);
            let to = self.space.key(family::POSTING, &sorted.to);
            let mut next = None;
            store.scan(&from, &to, false, &mut |key, _| {
                let rest = self.space.rest(key);
                if let Some((value, link)) = value_and_link(rest) {
                    let place = Some(sort.key(&[Some(value.to_vec())]));
                    let is_tied = query::is_shared(value);
                    found.push(Candidate { link: link.to_owned(), head: None, place, is_tied });
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
        Ok(found)
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
