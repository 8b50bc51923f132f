//! Choosing the way to the documents that a query may be about.
//!
//! Of the clauses that must hold, the one with the fewest postings is taken: they are counted side
//! by side, up to a number that grows, until one comes to its end. When none is short, a single
//! value's postings are in the order of links, and a field's in the order of its values: a page
//! needs only as many of them as it takes to fill it. At worst all documents are looked at.

use std::ops::ControlFlow;

use query::{
    Atom, CompiledQuery, Constraint, Cursor, KIND_FIELD, Leaf, LinkRange, Scope, Sort,
    UPDATED_FIELD, after_all_with, encoded_bytes, is_built_in, names_within,
};
use storage::{Reader, StoreError};

use crate::family;
use crate::fields::OVERFULL;
use crate::view::View;

/// How many fields within an object the index is asked for when a term names the object. With more
/// of them the term does not lead to its documents, and another way is taken.
pub(crate) const FIELDS_WITHIN_MAX: usize = 256;

/// Where the documents are that are looked at next.
#[derive(Debug)]
pub(crate) enum Way {
    /// These, the last one first.
    Links(Vec<String>),
    /// All in a range of links.
    Heads { from: Vec<u8>, to: Vec<u8> },
    /// The postings of a single value, in order of links.
    List(List),
    /// As many as there are in all these lists, which are in order of links, and nothing else.
    Counted { list: List, others: Vec<List> },
    /// The postings of a field, in order of its values.
    Sorted(Sorted),
}

/// A range of keys with links at their ends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct List {
    pub(crate) family: u8,
    /// Rests of keys.
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
    pub(crate) link_at: LinkAt,
}

/// Where in the rest of a key the link begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkAt {
    Byte(usize),
    /// After the field's number and a value.
    AfterValue,
}

impl LinkAt {
    pub(crate) fn link(self, rest: &[u8]) -> Option<&str> {
        let at = match self {
            Self::Byte(at) => at,
            Self::AfterValue => 2 + encoded_bytes(rest.get(2..)?)?,
        };
        std::str::from_utf8(rest.get(at..)?).ok()
    }
}

/// A walk through the postings of a field by its values. Downward it goes from value to value,
/// but upward through the links of each.
#[derive(Debug)]
pub(crate) struct Sorted {
    /// The rests of keys still to come, of all values (upward) or of the present one (downward).
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
    /// Downward: all further values are below this one.
    pub(crate) below: Option<Vec<u8>>,
    /// The number of the field.
    pub(crate) field: u16,
}

/// A constraint as it is found in this partition's index.
#[derive(Debug, Default)]
struct Source {
    /// The fields that it is about, for people.
    fields: String,
    links: Vec<String>,
    lists: Vec<List>,
}

impl Source {
    /// In order of links as it is.
    fn stream(&self) -> Option<&List> {
        match self.lists.as_slice() {
            [list] if self.links.is_empty() && list.link_at != LinkAt::AfterValue => Some(list),
            _ => None,
        }
    }
}

/// What the index can say to the constraints of a query.
#[derive(Debug)]
struct Sources {
    each: Vec<Source>,
    /// It says something to every constraint (but for those that are a range of links).
    is_whole: bool,
    /// Each list is all there is to its value, and in order.
    may_stream: bool,
}

impl Sources {
    fn stream(&self) -> Option<(&List, &str)> {
        let mut streams = self.each.iter().filter(|_| self.may_stream);
        streams.find_map(|source| Some((source.stream()?, source.fields.as_str())))
    }

    fn stream_or_heads(&self, range: &LinkRange) -> (Way, String) {
        match self.stream() {
            Some((list, fields)) => {
                (Way::List(list.within(range)), format!("index of {fields}, in order of links"))
            }
            None => {
                let to = range.to.clone().unwrap_or_else(|| vec![0xff]);
                let way = Way::Heads { from: range.from.clone(), to };
                let is_all = range.from.is_empty() && range.to.is_none();
                let of = if is_all { "all documents" } else { "all documents with such links" };
                (way, format!("no index: {of}"))
            }
        }
    }
}

/// What a search needs to know of its way.
pub(crate) struct Plan {
    pub(crate) way: Way,
    /// The way is in the order of the hits.
    pub(crate) is_in_order: bool,
    /// Documents without a value to sort by are all that is still to come.
    pub(crate) only_missing: bool,
    /// The way in a few words.
    pub(crate) told: String,
}

impl View {
    /// `after` is where the page begins; `only_missing` when all documents with a value to sort
    /// by were seen.
    pub(crate) fn plan(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        after: Option<&Cursor>,
        limit: usize,
        only_missing: bool,
    ) -> Result<Plan, StoreError> {
        let mut range = LinkRange::of(query);
        let sources = self.sources(store, query, &range)?;
        if let Some(sort) = query.sort().filter(|_| !query.is_count() && !only_missing) {
            // After the documents with a value come those without.
            let is_behind = after.is_some_and(|after| sort.value(&after.sort_key).is_none());
            // The postings are those of the latest versions.
            let may_stream = sources.may_stream && !query.scope().is_of_history();
            return match self.sort_field(sort).filter(|_| may_stream) {
                Some(field) if field.is_none() || is_behind => {
                    self.plan(store, query, after, limit, true)
                }
                field => {
                    let from = after.filter(|_| !is_behind);
                    let sorted = field.flatten().map(|field| Sorted::new(field, sort, from));
                    self.plan_sorted(store, &sources, &range, sorted, limit)
                }
            };
        }
        // Among documents with no value to sort by, a cursor with one is not a place.
        let is_place = |after: &&Cursor| match query.sort() {
            None => true,
            Some(sort) => sort.value(&after.sort_key).is_none(),
        };
        if let Some(after) = after.filter(is_place) {
            range = range.starting(&after.link);
        }
        let (way, told) = self.way_by_links(store, query, &sources, &range)?;
        Ok(Plan { way, is_in_order: true, only_missing, told })
    }

    fn plan_sorted(
        &self,
        store: &dyn Reader,
        sources: &Sources,
        range: &LinkRange,
        sorted: Option<Sorted>,
        limit: usize,
    ) -> Result<Plan, StoreError> {
        // If hits are spread evenly, a page of the postings in order is full after `limit` times
        // all documents through the hits: with more hits than this that is less work than to
        // look at all of them.
        let all = usize::try_from(self.live).unwrap_or(usize::MAX);
        let max = match &sorted {
            Some(_) => limit.saturating_mul(all).isqrt(),
            None => usize::MAX,
        };
        let shortest = self.shortest(store, sources, range, max)?;
        let ((way, told), is_in_order) = match (shortest, sorted) {
            (Some((links, fields)), _) => (by_links(links, fields), false),
            (None, Some(sorted)) => {
                let told = "index of the field to sort by, in its order".to_owned();
                ((Way::Sorted(sorted), told), true)
            }
            (None, None) => (sources.stream_or_heads(range), false),
        };
        Ok(Plan { way, is_in_order, only_missing: false, told })
    }

    fn way_by_links(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        sources: &Sources,
        range: &LinkRange,
    ) -> Result<(Way, String), StoreError> {
        let is_of_heads = !query.scope().is_of_history();
        if query.is_count() && query.is_exact() && is_of_heads && sources.is_whole {
            let streams: Option<Vec<&List>> = sources.each.iter().map(Source::stream).collect();
            if let Some(lists) = streams.filter(|lists| sources.may_stream && !lists.is_empty()) {
                let fields: Vec<&str> = sources.each.iter().map(|it| it.fields.as_str()).collect();
                let told = format!("count in the index of {}", fields.join(" and "));
                return Ok((self.counted(store, lists, range)?, told));
            }
        }
        let stream = sources.stream();
        if stream.is_some() && sources.each.len() == 1 {
            return Ok(sources.stream_or_heads(range));
        }
        let is_page = stream.is_some() && !query.is_count();
        let max = if is_page { self.bounds.listed[1] } else { usize::MAX };
        Ok(match self.shortest(store, sources, range, max)? {
            Some((links, fields)) => by_links(links, fields),
            None => sources.stream_or_heads(range),
        })
    }

    /// The shortest of some lists, to be looked up in the others.
    fn counted(
        &self,
        store: &dyn Reader,
        lists: Vec<&List>,
        range: &LinkRange,
    ) -> Result<Way, StoreError> {
        let mut others: Vec<List> = lists.into_iter().map(|list| list.within(range)).collect();
        let mut best = (usize::MAX, 0);
        for (number, list) in others.iter().enumerate().filter(|_| others.len() > 1) {
            let [.., most] = self.bounds.listed;
            if let Some(keys) = self.keys(store, std::slice::from_ref(list), range, most)? {
                best = best.min((keys, number));
            }
        }
        Ok(Way::Counted { list: others.swap_remove(best.1), others })
    }

    fn sources(
        &self,
        store: &dyn Reader,
        query: &CompiledQuery,
        range: &LinkRange,
    ) -> Result<Sources, StoreError> {
        let is_indexed = self.is_indexed;
        let mut also = Vec::new();
        let whole = |family, prefix: Vec<u8>, link_at| List {
            family,
            to: after_all_with(&prefix),
            from: prefix,
            link_at,
        };
        also.push(whole(family::POSTING, OVERFULL.to_be_bytes().to_vec(), LinkAt::Byte(2)));
        if query.scope() != Scope::Live {
            // Tombstones are listed by their kind only.
            let kind = self.fields.number(KIND_FIELD).expect("every index has kinds");
            also.push(whole(family::DEAD, kind.to_be_bytes().to_vec(), LinkAt::AfterValue));
        }
        if query.scope().is_of_history() {
            also.push(List {
                family: family::KIND_CHANGED,
                from: range.from.clone(),
                to: range.to.clone().unwrap_or_else(|| vec![0xff]),
                link_at: LinkAt::Byte(0),
            });
        }
        let mut present = Vec::new();
        for list in also {
            if self.is_any(store, &list)? {
                present.push(list);
            }
        }
        let mut sources = Sources {
            each: Vec::new(),
            is_whole: true,
            may_stream: is_indexed && present.is_empty(),
        };
        let mut lists_left = self.bounds.lists;
        for constraint in query.constraints().iter().filter(|it| it.link_prefix().is_none()) {
            let is_of_links = constraint.atoms.iter().all(|atom| matches!(atom, Atom::Link(_)));
            let may_be_used = is_of_links
                || is_indexed
                    && (!query.scope().is_of_history() || constraint.holds_for_all_versions());
            let source = match may_be_used {
                true => self.source(store, constraint, &mut lists_left)?,
                false => None,
            };
            match source {
                Some(mut source) => {
                    if !is_of_links {
                        source.lists.extend_from_slice(&present);
                    }
                    sources.each.push(source);
                }
                None => sources.is_whole = false,
            }
        }
        Ok(sources)
    }

    /// `None` if the index does not know, or if more lists than are left would be looked at.
    fn source(
        &self,
        store: &dyn Reader,
        constraint: &Constraint,
        lists_left: &mut usize,
    ) -> Result<Option<Source>, StoreError> {
        let mut source = Source { fields: fields_of(constraint), ..Source::default() };
        for atom in &constraint.atoms {
            match atom {
                Atom::Link(link) => source.links.push(link.clone()),
                Atom::LinkPrefix(prefix) => {
                    let Some(left) = lists_left.checked_sub(1) else { return Ok(None) };
                    *lists_left = left;
                    source.lists.push(List {
                        family: family::HEAD,
                        from: prefix.clone().into_bytes(),
                        to: after_all_with(prefix.as_bytes()),
                        link_at: LinkAt::Byte(0),
                    });
                }
                Atom::Values { path, from, to, is_single, is_within } => {
                    let values = ValuesOf { from, to, is_single: *is_single };
                    let own = self.fields.number(path);
                    if own.is_none() && self.is_short_of_fields() {
                        return Ok(None);
                    }
                    // Without a number, no document has it.
                    let mut lists: Vec<List> = own.map(|it| values.list(it)).into_iter().collect();
                    if *is_within {
                        let mut inner = self.fields.within(path).take(FIELDS_WITHIN_MAX + 1);
                        lists.extend(inner.by_ref().take(FIELDS_WITHIN_MAX).map(
                            |(rest, field)| {
                                match names_within(rest).any(|name| values.has_text(name)) {
                                    true => List::of_field(field),
                                    false => values.list(field),
                                }
                            },
                        ));
                        if inner.next().is_some() {
                            return Ok(None);
                        }
                    }
                    let Some(left) = lists_left.checked_sub(lists.len()) else { return Ok(None) };
                    *lists_left = left;
                    for list in lists {
                        if self.is_any(store, &list)? {
                            source.lists.push(list);
                        }
                    }
                }
            }
        }
        Ok(Some(source))
    }

    /// The links under the constraint that has the fewest postings, the last one first, unless
    /// all have more than `max`, or than are worth listing at all.
    fn shortest(
        &self,
        store: &dyn Reader,
        sources: &Sources,
        range: &LinkRange,
        max: usize,
    ) -> Result<Option<(Vec<String>, String)>, StoreError> {
        for listed in self.bounds.listed {
            let most = listed.min(max);
            let mut best: Option<(usize, &Source)> = None;
            for source in &sources.each {
                let keys = self.keys(store, &source.lists, range, most)?;
                if let Some(keys) = keys.map(|keys| keys + source.links.len())
                    && best.is_none_or(|(fewest, _)| keys < fewest)
                {
                    best = Some((keys, source));
                }
            }
            if let Some((_, source)) = best {
                let links = self.links(store, source, range)?;
                return Ok(Some((links, source.fields.clone())));
            }
            if listed >= max {
                break;
            }
        }
        Ok(None)
    }

    /// How many keys there are in some lists, unless there are more than `max`.
    fn keys(
        &self,
        store: &dyn Reader,
        lists: &[List],
        range: &LinkRange,
        max: usize,
    ) -> Result<Option<usize>, StoreError> {
        let mut keys = 0;
        for list in lists {
            self.scan_list(store, &list.within(range), &mut |_| {
                keys += 1;
                if keys > max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if keys > max {
                return Ok(None);
            }
        }
        Ok(Some(keys))
    }

    /// All links of a source, the last one first.
    fn links(
        &self,
        store: &dyn Reader,
        source: &Source,
        range: &LinkRange,
    ) -> Result<Vec<String>, StoreError> {
        let own = source.links.iter().filter(|link| range.has(link));
        let mut links: Vec<String> = own.cloned().collect();
        for list in &source.lists {
            let list = list.within(range);
            self.scan_list(store, &list, &mut |rest| {
                if let Some(link) = list.link_at.link(rest)
                    && range.has(link)
                {
                    links.push(link.to_owned());
                }
                ControlFlow::Continue(())
            })?;
        }
        links.sort_unstable_by(|one, other| other.cmp(one));
        links.dedup();
        Ok(links)
    }

    pub(crate) fn scan_list(
        &self,
        store: &dyn Reader,
        list: &List,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let from = self.space.key(list.family, &list.from);
        let to = self.space.key(list.family, &list.to);
        store.scan(&from, &to, false, &mut |key, _| visit(self.space.rest(key)))
    }

    fn is_any(&self, store: &dyn Reader, list: &List) -> Result<bool, StoreError> {
        let mut is_any = false;
        self.scan_list(store, list, &mut |_| {
            is_any = true;
            ControlFlow::Break(())
        })?;
        Ok(is_any)
    }

    /// The field whose postings are in the order asked for: `None` if the index does not have
    /// it, `Some(None)` if no document does.
    fn sort_field(&self, sort: &Sort) -> Option<Option<u16>> {
        let [path] = sort.single()?.paths.as_slice() else { return None };
        if is_built_in(path) && path != KIND_FIELD && path != UPDATED_FIELD {
            return None;
        }
        let field = self.fields.number(path);
        (field.is_some() || !self.is_short_of_fields()).then_some(field)
    }
}

/// The values that a constraint asks for, by their encodings.
struct ValuesOf<'a> {
    from: &'a [u8],
    to: &'a [u8],
    is_single: bool,
}

impl ValuesOf<'_> {
    /// Their postings in one field.
    fn list(&self, field: u16) -> List {
        let key = |value: &[u8]| [&field.to_be_bytes(), value].concat();
        let (from, to) = (key(self.from), key(self.to));
        let link_at = if self.is_single { LinkAt::Byte(from.len()) } else { LinkAt::AfterValue };
        List { family: family::POSTING, from, to, link_at }
    }

    fn has_text(&self, text: &str) -> bool {
        let encoded = Leaf::Text(text).encoded();
        self.from <= encoded.as_slice() && encoded.as_slice() < self.to
    }
}

fn by_links(links: Vec<String>, fields: String) -> (Way, String) {
    let told = format!("index of {fields}");
    (Way::Links(links), told)
}

/// The fields that a constraint is about.
fn fields_of(constraint: &Constraint) -> String {
    let mut names: Vec<&str> = Vec::new();
    for atom in &constraint.atoms {
        let name = match atom {
            Atom::Link(_) | Atom::LinkPrefix(_) => "documentSelfLink",
            Atom::Values { path, .. } => path,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" or ")
}

impl List {
    /// All postings of a field.
    fn of_field(field: u16) -> Self {
        let from = field.to_be_bytes().to_vec();
        let to = after_all_with(&from);
        Self { family: family::POSTING, from, to, link_at: LinkAt::AfterValue }
    }

    /// Only what is in a range of links, as far as that is together.
    fn within(&self, range: &LinkRange) -> Self {
        let mut list = self.clone();
        if let LinkAt::Byte(at) = self.link_at {
            let prefix = &self.from[..at.min(self.from.len())];
            let from = [prefix, &range.from].concat();
            if from > list.from {
                list.from = from;
            }
            if let Some(to) = &range.to {
                let to = [prefix, to].concat();
                if to < list.to {
                    list.to = to;
                }
            }
        }
        list
    }
}

/// For the lists of single values.
impl List {
    /// The rest of the key of a link.
    pub(crate) fn at(&self, link: &str) -> Vec<u8> {
        let LinkAt::Byte(at) = self.link_at else {
            unreachable!("links of many values are not in order")
        };
        [&self.from[..at], link.as_bytes()].concat()
    }

    /// The part from one link up to and with another.
    pub(crate) fn between(&self, first: &str, last: &str) -> Self {
        let mut to = self.at(last);
        to.push(0);
        Self { from: self.at(first), to, ..self.clone() }
    }
}

impl Sorted {
    /// `after` is a cursor that has a value.
    fn new(field: u16, sort: &Sort, after: Option<&Cursor>) -> Self {
        let start = field.to_be_bytes().to_vec();
        let end = after_all_with(&start);
        let from = after.and_then(|after| Some((sort.value(&after.sort_key)?, after)));
        let is_descending = sort.single().is_some_and(|field| field.is_descending);
        match (from, is_descending) {
            (None, false) => Self { from: start, to: end, below: None, field },
            (None, true) => Self { from: Vec::new(), to: Vec::new(), below: Some(end), field },
            (Some((value, after)), is_descending) => {
                // Documents whose values are one to the index do not come in the order of links.
                let is_shared = query::is_shared(&value);
                let value = [start, value].concat();
                let from = match is_shared {
                    true => value.clone(),
                    false => [&value, after.link.as_bytes(), &[0]].concat(),
                };
                if is_descending {
                    Self { from, to: after_all_with(&value), below: Some(value), field }
                } else {
                    Self { from, to: end, below: None, field }
                }
            }
        }
    }
}
