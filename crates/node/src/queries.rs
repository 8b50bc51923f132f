//! Queries that came in here: every partition's owner gives its hits in pieces, which are put
//! together when the last has come.
//!
//! A query begins with little effort: if it can be answered within a step of each owner, it is.
//! Otherwise it waits here for its turn, and is asked again with more effort. So owners do nothing
//! in vain, and a short query never waits for a long one.
//!
//! Everything is counted in bytes. A piece is short, so that it holds up nothing behind it on a
//! link. An answer has a bound, and so have all pieces together that are gathered at a node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use protocol::query::{Query, QueryOption, QuerySpecification, QueryTerm};
use protocol::{Code, GroupId, Problem, Response};
use query::{CompiledQuery, Cursor, Groups, Hit, MATCH_VALUES_MAX, Page, PageWish};
use serde_json::Value;
use services::Effort;

use crate::frame::{Answer, Question};
use crate::gather::Scope;
use crate::io::{Level, Output};
use crate::jobs::{AnswerJob, Job};
use crate::pages::{
    ANSWER_BYTES_MAX, Form, HITS_MAX, LinkedAim, List, PAGE_LINK, PageAsked, PageKind, QueryAim,
    Total, check_pages, parse_token, query_answer, too_large, too_many, too_many_values,
};
use crate::query_times::{SLOW_MICROS, Times, Told, explained};
use crate::searches::SEARCH_MICROS_MAX;
use crate::work::{Effects, Purpose, QueryId, Work};

/// How long the first pieces of all partitions may be together, in bytes. With these pieces most
/// answers are complete.
const FIRST_BYTES: usize = 256 << 10;

/// The same for a page, and for the second pieces of an answer without pages.
const PAGE_BYTES: usize = 1 << 20;

/// The least that a partition is asked for at a time, in bytes.
const PIECE_BYTES_MIN: usize = 16 << 10;

/// How long a further piece of one partition is.
const PIECE_BYTES: usize = 512 << 10;

/// How many queries of a node may be under way with the second effort, and with the third. The
/// others wait, and nothing is done for them meanwhile.
const SHORT_MAX: usize = 16;
const LONG_MAX: usize = 3;

/// How long a query waits for its turn, in microseconds.
const WAITING_MICROS_MAX: u64 = 8_000_000;

/// How much longer the pieces that are awaited may take to come, in microseconds: their owners give
/// up by themselves, and say more.
const PIECE_GRACE_MICROS: u64 = 1_000_000;

/// How long the pieces of all queries at a node may be together; the query that would take more is
/// told that the node is busy.
pub const GATHERED_BYTES_MAX: usize = 96 << 20;

/// How many queries may be under way at the node that took them in.
pub const QUERIES_MAX: usize = 1_000;

/// The longest query, as text.
pub const QUERY_BYTES_MAX: usize = 256 << 10;

/// How many documents a query with `EXPAND_LINKS` may find.
const FOLLOWED_HITS_MAX: usize = 10_000;

/// How long the links that it follows may be together, in bytes.
const FOLLOWED_BYTES_MAX: usize = QUERY_BYTES_MAX / 2;

/// A longer answer is put together elsewhere.
const ANSWER_HERE_BYTES_MAX: usize = 32 << 10;

/// A query until its answer is complete.
struct Querying {
    purpose: Purpose,
    aim: QueryAim,
    /// This query only counts. The query in here is run next, from there on, with the number that
    /// was counted.
    page: Option<Box<Counted>>,
    text: Bytes,
    after: Option<Cursor>,
    times: Times,
    /// Whom it is asked of, for whom, and since when: all that it takes together has a bound.
    scope: Scope,
    /// How many pieces are awaited.
    missing: u32,
    parts: BTreeMap<GroupId, Page>,
    /// When the hits have an order of their own, which the next write may change: partitions that
    /// give all their hits in one piece.
    whole: Option<BTreeSet<GroupId>>,
    /// Partitions that are to be asked again, with more effort or for more.
    again: Vec<GroupId>,
    bytes: usize,
}

/// What is run when all that is found is counted, and behind which hit it begins.
type Counted = (QuerySpecification, Option<Cursor>);

/// The queries that may make more effort, and those that wait for it.
#[derive(Default)]
struct Turns {
    running: BTreeSet<QueryId>,
    waiting: VecDeque<QueryId>,
}

#[derive(Default)]
pub(crate) struct Queries {
    /// Of this node, which signs its answers.
    node_id: Arc<str>,
    open: BTreeMap<QueryId, Querying>,
    /// Whose answer is being put together elsewhere, and the bytes of its pieces.
    answering: BTreeMap<QueryId, (Purpose, usize)>,
    short: Turns,
    long: Turns,
    last: QueryId,
    /// Those that are complete, and were not measured so far.
    complete: Vec<QueryId>,
    /// How many bytes of pieces there are, those in answers that are being put together included.
    bytes: usize,
}

impl Queries {
    pub(crate) fn new(node_id: &str) -> Self {
        Self { node_id: node_id.into(), ..Self::default() }
    }

    /// Runs a query over all partitions. The first page is not computed here when it has a link of
    /// its own, as in Xenon's query tasks with a limit.
    pub(crate) fn query(
        &mut self,
        purpose: Purpose,
        specification: QuerySpecification,
        after: Option<&Cursor>,
        form: Form,
        scope: Scope,
        effects: &mut Effects,
    ) {
        if let Err(problem) = CompiledQuery::new(&specification) {
            return effects.finish(&purpose, problem.into());
        }
        if specification.has(QueryOption::GroupBy) {
            let after = after.map(|last| last.link.clone());
            return self.groups(purpose, specification, (after, form), scope, effects);
        }
        let counts = specification.has(QueryOption::Count) || !specification.aggregates.is_empty();
        let is_whole = counts || specification.has(QueryOption::TopResults);
        if let Form::Task(task) = &form
            && specification.result_limit.is_some()
            && !is_whole
        {
            let task = task.clone();
            return self.first_page(purpose, (specification, task), scope, effects);
        }
        let skip = match &form {
            Form::Plain(list) => list.skip,
            Form::Sql(statement) => statement.skip,
            // Further pages begin where the last one has ended.
            _ if after.is_none() => specification.extent.offset.unwrap_or_default(),
            _ => 0,
        };
        let shown = specification.result_limit.unwrap_or(HITS_MAX);
        let limit = if counts { 0 } else { shown.saturating_add(skip) };
        let aim = QueryAim { specification, limit, skip, form };
        let _is_asked = self.begin((purpose, aim, None), after, scope, effects);
    }

    /// Whether there is something on the first page of a query task: only then is it named.
    fn first_page(
        &mut self,
        purpose: Purpose,
        (specification, task): (QuerySpecification, Value),
        scope: Scope,
        effects: &mut Effects,
    ) {
        if let Err(problem) = check_pages(&specification) {
            return effects.finish(&purpose, problem.into());
        }
        let mut one = specification.all_found();
        one.result_limit = Some(1);
        one.options.push(QueryOption::TopResults);
        let skip = specification.extent.offset.unwrap_or_default();
        let form = Form::FirstPage { task, of: Box::new(specification) };
        let aim = QueryAim { specification: one, limit: skip.saturating_add(1), skip, form };
        let _is_asked = self.begin((purpose, aim, None), None, scope, effects);
    }

    /// Which groups there are of what the query finds: each is to have pages of its own.
    fn groups(
        &mut self,
        purpose: Purpose,
        specification: QuerySpecification,
        (after, form): (Option<String>, Form),
        scope: Scope,
        effects: &mut Effects,
    ) {
        // The pages of a group have a clause more.
        if let Err(problem) = CompiledQuery::new(&query::of_group(&specification, &[None])) {
            return effects.finish(&purpose, problem.into());
        }
        let groups = query::groups_of(&specification);
        let form = Form::Groups { of: Box::new(specification), after, form: Box::new(form) };
        let aim = QueryAim { specification: groups, limit: 0, skip: 0, form };
        let _is_asked = self.begin((purpose, aim, None), None, scope, effects);
    }

    /// Follows the links of what was found.
    fn follow(&mut self, querying: Querying, now: u64, effects: &mut Effects) {
        let Querying { purpose, aim, parts, bytes, scope, times, .. } = querying;
        let explained = aim.specification.explain.then(|| explained(&times, &parts));
        let (hits, more) = aim.shown(parts.into_values().collect());
        let links: BTreeSet<&str> =
            hits.iter().flat_map(|hit| &hit.selected).map(|(_, link)| link.as_str()).collect();
        let length: usize = links.iter().map(|link| link.len()).sum();
        if links.len() > MATCH_VALUES_MAX || length > FOLLOWED_BYTES_MAX {
            self.bytes -= bytes;
            return effects.respond(&purpose, too_many_links(links.len()));
        }
        let match_values: Vec<Value> = links.into_iter().map(Value::from).collect();
        let link = QueryTerm { match_values, ..QueryTerm::field("documentSelfLink") };
        let mut linked = aim.specification.all_found();
        linked.options.push(QueryOption::ExpandContent);
        linked.query = Query { term: Some(link), ..Query::default() };
        if linked.query.term.as_ref().is_some_and(|term| term.match_values.is_empty()) {
            // Nothing is to be found, and there is no term that says so.
            let took_micros = now.saturating_sub(scope.now);
            let first = LinkedAim { aim: aim.clone(), hits, more, explained };
            let form = Form::Linked(Box::new(first));
            let aim = QueryAim { specification: linked, limit: 0, skip: 0, form };
            self.bytes -= bytes;
            let told = Told { took_micros, explained: None };
            return effects.respond(&purpose, query_answer(&aim, Vec::new(), told));
        }
        let form = Form::Linked(Box::new(LinkedAim { aim, hits, more, explained }));
        let aim = QueryAim { specification: linked, limit: HITS_MAX, skip: 0, form };
        if self.begin((purpose, aim, None), None, scope, effects) {
            let querying = self.open.get_mut(&self.last).expect("it has begun just now");
            querying.bytes += bytes;
        } else {
            self.bytes -= bytes;
        }
    }

    /// Counts what the query finds, then runs it.
    pub(crate) fn counted(
        &mut self,
        purpose: Purpose,
        (specification, after): Counted,
        form: Form,
        scope: Scope,
        effects: &mut Effects,
    ) {
        if let Err(problem) = CompiledQuery::new(&specification) {
            return effects.finish(&purpose, problem.into());
        }
        let mut count = specification.all_found();
        count.options.push(QueryOption::Count);
        let aim = QueryAim { specification: count, limit: 0, skip: 0, form };
        let _is_asked = self.begin(
            (purpose, aim, Some(Box::new((specification, after)))),
            None,
            scope,
            effects,
        );
    }

    /// Asks all partitions. False when it is refused.
    fn begin(
        &mut self,
        (purpose, aim, page): (Purpose, QueryAim, Option<Box<Counted>>),
        after: Option<&Cursor>,
        scope: Scope,
        effects: &mut Effects,
    ) -> bool {
        let text = serde_json::to_string(&aim.specification).expect("a specification is JSON");
        if text.len() > QUERY_BYTES_MAX || self.open.len() >= QUERIES_MAX {
            effects.finish(&purpose, refusal(text.len(), self.open.len()).into());
            return false;
        }
        self.last += 1;
        let compiled = CompiledQuery::new(&aim.specification);
        let is_sorted = compiled.is_ok_and(|query| query.sort().is_some());
        let querying = Querying {
            purpose,
            aim,
            page,
            text: Bytes::from(text),
            after: after.cloned(),
            times: Times::default(),
            missing: 0,
            parts: BTreeMap::new(),
            whole: is_sorted.then(BTreeSet::new),
            again: (1..=scope.partitions).map(GroupId).collect(),
            bytes: 0,
            scope,
        };
        let querying = self.open.entry(self.last).or_insert(querying);
        querying.ask(self.last, querying.scope.now, effects);
        true
    }

    /// `GET /core/query-page/<token>`.
    pub(crate) fn page(
        &mut self,
        purpose: Purpose,
        (token, wish): (&str, &PageWish),
        scope: Scope,
        effects: &mut Effects,
    ) {
        let page = match page_of(token, wish) {
            Ok(page) => page,
            Err(problem) => return effects.finish(&purpose, problem.into()),
        };
        let (link, after) = (format!("{PAGE_LINK}/{token}"), page.after());
        let PageAsked { kind, specification, trail } = page;
        let form = match kind {
            PageKind::Task => Form::TaskPage { link, owner: self.node_id.clone(), trail },
            PageKind::Plain | PageKind::PlainWithTotal => {
                Form::Plain(List { link, skip: 0, total: Total::Unasked, trail })
            }
        };
        if kind == PageKind::PlainWithTotal {
            return self.counted(purpose, (specification, after), form, scope, effects);
        }
        self.query(purpose, specification, after.as_ref(), form, scope, effects);
    }

    /// A piece of one partition has come.
    pub(crate) fn came(
        &mut self,
        id: QueryId,
        group: GroupId,
        answer: Answer,
        now: u64,
        effects: &mut Effects,
    ) {
        // A query that has ended meanwhile needs no more pieces.
        let Some(querying) = self.open.get_mut(&id) else { return };
        querying.missing -= 1;
        querying.times.came(group, now);
        let refused = match answer {
            Answer::Page(Page { forgotten: Some(forgotten), .. }) => {
                Some(forgotten.to_problem().into())
            }
            Answer::Page(page) => {
                let bytes = page.bytes();
                self.bytes += querying.take(group, page, bytes);
                let is_too_much = self.bytes > GATHERED_BYTES_MAX;
                querying.refusal().or_else(|| is_too_much.then(|| busy(self.bytes))).map(Into::into)
            }
            Answer::TooLong => {
                querying.again.push(group);
                None
            }
            other => Some(other.into_response()),
        };
        if let Some(response) = refused {
            self.refuse(id, response, now, effects);
        } else if querying.missing == 0 && querying.again.is_empty() {
            if querying.is_unmeasured(now) {
                self.complete.push(id);
                effects.outputs.push(Output::Measure);
                return;
            }
            let querying = self.end(id);
            self.finish(id, querying, now, effects);
        } else if querying.age(now) > SEARCH_MICROS_MAX {
            self.refuse(id, given_up().into(), now, effects);
        } else if querying.missing == 0 && querying.times.effort == Effort::Long {
            querying.ask(id, now, effects);
        } else if querying.missing == 0 {
            querying.times.effort = match querying.times.effort {
                Effort::Step => Effort::Short,
                Effort::Short | Effort::Long => Effort::Long,
            };
            let effort = querying.times.effort;
            querying.times.queue(now);
            self.short.leave(id);
            self.turns(effort).waiting.push_back(id);
        }
        self.give_turns(now, effects);
    }

    /// Time has gone on since some queries were complete.
    pub(crate) fn measured(&mut self, now: u64, effects: &mut Effects) {
        for id in std::mem::take(&mut self.complete) {
            if self.open.contains_key(&id) {
                let mut querying = self.end(id);
                querying.times.measured(now);
                self.finish(id, querying, now, effects);
            }
        }
        self.give_turns(now, effects);
    }

    fn turns(&mut self, effort: Effort) -> &mut Turns {
        if effort == Effort::Long { &mut self.long } else { &mut self.short }
    }

    /// Lets the queries go on that have waited longest, as long as there are places.
    fn give_turns(&mut self, now: u64, effects: &mut Effects) {
        for (effort, most) in [(Effort::Short, SHORT_MAX), (Effort::Long, LONG_MAX)] {
            while self.turns(effort).running.len() < most {
                let Some(id) = self.turns(effort).waiting.pop_front() else { break };
                let Some(querying) = self.open.get_mut(&id) else { continue };
                if querying.age(now) > WAITING_MICROS_MAX {
                    let count = self.turns(effort).waiting.len();
                    self.refuse(id, waited(count).into(), now, effects);
                    continue;
                }
                querying.ask(id, now, effects);
                self.turns(effort).running.insert(id);
            }
        }
    }

    /// Time goes on: who has waited too long is told so, and what takes too long is given up.
    pub(crate) fn tick(&mut self, now: u64, effects: &mut Effects) {
        for effort in [Effort::Short, Effort::Long] {
            while let Some(id) = self.turns(effort).waiting.front().copied() {
                let since = self.open.get(&id).map_or(0, |querying| querying.scope.now);
                if now.saturating_sub(since) <= WAITING_MICROS_MAX {
                    break;
                }
                self.turns(effort).waiting.pop_front();
                let count = self.turns(effort).waiting.len();
                if self.open.contains_key(&id) {
                    self.refuse(id, waited(count).into(), now, effects);
                }
            }
        }
        let is_late = |it: &Querying| it.age(now) > SEARCH_MICROS_MAX + PIECE_GRACE_MICROS;
        let late = self.open.iter().filter(|(_, querying)| is_late(querying));
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.refuse(id, given_up().into(), now, effects);
        }
        self.give_turns(now, effects);
    }

    fn end(&mut self, id: QueryId) -> Querying {
        self.short.leave(id);
        self.long.leave(id);
        self.open.remove(&id).expect("it was there")
    }

    fn refuse(&mut self, id: QueryId, response: Response, now: u64, effects: &mut Effects) {
        let querying = self.end(id);
        note_if_slow(&querying, now, effects);
        self.bytes -= querying.bytes;
        effects.respond(&querying.purpose, response);
    }

    fn finish(&mut self, id: QueryId, querying: Querying, now: u64, effects: &mut Effects) {
        note_if_slow(&querying, now, effects);
        let is_first = querying.page.is_none() && !matches!(querying.aim.form, Form::Linked(_));
        if is_first && querying.aim.specification.has(QueryOption::ExpandLinks) {
            return self.follow(querying, now, effects);
        }
        let Querying { purpose, aim, page, parts, bytes, scope, times, .. } = querying;
        if let Some(page) = page {
            let (specification, after) = *page;
            self.bytes -= bytes;
            let form = aim.form.with_total(parts.values().map(|part| part.count).sum());
            // The bound is for both together.
            return self.query(purpose, specification, after.as_ref(), form, scope, effects);
        }
        let is_explained = aim.specification.explain;
        let told = Told {
            took_micros: now.saturating_sub(scope.now),
            explained: is_explained.then(|| explained(&times, &parts)),
        };
        let pages = parts.into_values().collect();
        if bytes > ANSWER_HERE_BYTES_MAX {
            self.answering.insert(id, (purpose, bytes));
            return effects.job(Job::answer(AnswerJob { query: id, aim, pages, told }));
        }
        self.bytes -= bytes;
        effects.respond(&purpose, query_answer(&aim, pages, told));
    }

    /// An answer was put together elsewhere.
    pub(crate) fn answered(&mut self, id: QueryId, response: Response, effects: &mut Effects) {
        let (purpose, bytes) = self.answering.remove(&id).expect("it is answered once");
        self.bytes -= bytes;
        effects.respond(&purpose, response);
    }
}

impl Turns {
    fn leave(&mut self, id: QueryId) {
        self.running.remove(&id);
    }
}

impl Querying {
    /// Asks those partitions that are to be asked again.
    fn ask(&mut self, id: QueryId, now: u64, effects: &mut Effects) {
        self.times.ask(now);
        let all = match self.times.effort {
            Effort::Step if self.wants_all() => FIRST_BYTES,
            Effort::Long if self.wants_all() => PIECE_BYTES.saturating_mul(self.partitions_count()),
            Effort::Step | Effort::Short | Effort::Long => PAGE_BYTES,
        };
        let piece = all / self.partitions_count();
        let bytes = u64::try_from(piece.max(PIECE_BYTES_MIN)).expect("it fits");
        // One whole after the other: together they are no longer than the answer may be.
        let left = ANSWER_BYTES_MAX.saturating_sub(self.bytes).max(PIECE_BYTES_MIN);
        let whole_bytes = u64::try_from(left).expect("it fits");
        let mut has_whole = false;
        for group in std::mem::take(&mut self.again) {
            let is_whole = self.whole.as_ref().is_some_and(|it| it.contains(&group));
            if is_whole && std::mem::replace(&mut has_whole, true) {
                self.again.push(group);
                continue;
            }
            let part = self.parts.get(&group);
            let last = part.and_then(|part| part.hits.last()).map(Hit::cursor);
            let got = part.map_or(0, |part| part.hits.len());
            let question = Question::Query {
                specification: self.text.clone(),
                after: last.or_else(|| self.after.clone()),
                limit: u64::try_from(self.each() - got).unwrap_or(u64::MAX),
                bytes: if is_whole { whole_bytes } else { bytes },
                effort: self.times.effort,
                left_micros: SEARCH_MICROS_MAX.saturating_sub(self.age(now)),
                principal: self.scope.principal.clone(),
            };
            self.missing += 1;
            effects.push(Work::Submit(Purpose::Piece { query: id, group }, group, question));
        }
    }

    /// Whether there is no time to be told, as everything was done within one step.
    fn is_unmeasured(&self, now: u64) -> bool {
        let wants_parts = self.aim.specification.explain;
        self.age(now) == 0 || (wants_parts && self.times.is_unmeasured(now))
    }

    /// How long ago it came, in microseconds.
    fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.scope.now)
    }

    fn partitions_count(&self) -> usize {
        usize::try_from(self.scope.partitions).unwrap_or(usize::MAX).max(1)
    }

    /// How many hits are wanted of each partition: one more than is shown tells whether there is
    /// another page.
    fn each(&self) -> usize {
        self.aim.limit.saturating_add(1)
    }

    /// A page may be shorter than was asked for; all else must be whole.
    fn wants_all(&self) -> bool {
        let specification = &self.aim.specification;
        specification.result_limit.is_none()
            || specification.has(QueryOption::TopResults)
            || self.aim.skip > 0
    }

    /// Takes a piece, and says how many bytes of it are kept.
    ///
    /// A further piece is looked for in the partition as it is by then. In the order of links that
    /// is right: no document moves. In another order a document that was written meanwhile may have
    /// come already, or may now be before what has come; so one search has to give the whole.
    fn take(&mut self, group: GroupId, page: Page, bytes: usize) -> usize {
        let (each, wants_all) = (self.each(), self.wants_all());
        let had = self.parts.get(&group).map_or(0, |part| part.hits.len());
        let found = page.hits.len();
        let goes_on = page.more && had + found < each && found > 0 && wants_all;
        if goes_on
            && let Some(whole) = &mut self.whole
            && whole.insert(group)
        {
            self.again.push(group);
            return 0;
        }
        self.bytes += bytes;
        let part = self.parts.entry(group).or_default();
        part.count += page.count;
        part.more = page.more;
        part.hits.extend(page.hits);
        part.groups = page.groups;
        if let Some(more) = page.explained {
            part.explained.get_or_insert_default().add(&more);
        }
        if goes_on && self.whole.is_none() {
            self.again.push(group);
        }
        bytes
    }

    /// Why it is useless to go on with the query, if it is useless.
    fn refusal(&self) -> Option<Problem> {
        let each = self.each();
        let is_cut = |part: &Page| part.more && part.hits.len() < each && self.whole.is_some();
        let is_too_long = self.bytes > ANSWER_BYTES_MAX || self.parts.values().any(is_cut);
        if is_too_long && self.wants_all() {
            return Some(too_large());
        }
        let mut groups = self.parts.values().filter_map(|part| part.groups.as_ref());
        if groups.any(Groups::is_over) {
            return Some(too_many_values());
        }
        let is_all = self.aim.specification.result_limit.is_none();
        let found = self.parts.values().map(|part| part.hits.len()).sum::<usize>();
        // These are put together on the node's own thread.
        if found > FOLLOWED_HITS_MAX && self.aim.specification.has(QueryOption::ExpandLinks) {
            return Some(too_many_to_follow());
        }
        (is_all && found > self.aim.limit && self.aim.limit > 0).then(too_many)
    }
}

/// The page that a link stands for, as it is wished.
fn page_of(token: &str, wish: &PageWish) -> Result<PageAsked, Problem> {
    let mut page = parse_token(token)?;
    wish.put_in(&mut page.specification)?;
    page.kind = match (page.kind, wish.total) {
        (PageKind::Task, Some(true)) => {
            return Err(Problem::bad_request(
                "$count: the pages of a query task do not say how many there are in all; ask a query \
                 with the option COUNT",
            ));
        }
        (PageKind::Plain, Some(true)) => PageKind::PlainWithTotal,
        (PageKind::PlainWithTotal, Some(false)) => PageKind::Plain,
        (kind, _) => kind,
    };
    Ok(page)
}

/// The log tells of slow queries, by their shape: what is in documents is nobody's business there.
fn note_if_slow(querying: &Querying, now: u64, effects: &mut Effects) {
    let took = querying.age(now);
    if took < SLOW_MICROS {
        return;
    }
    let found: u64 = querying.parts.values().map(|part| part.count).sum();
    let text = format!(
        "a query took {} ms, of which it waited {} ms for its turn, and found {found} documents: \
         {}",
        took / 1_000,
        querying.times.waited_micros() / 1_000,
        query::shape_of(&querying.aim.specification)
    );
    effects.note(Level::Warn, text);
}

fn refusal(text_bytes: usize, open: usize) -> Problem {
    if text_bytes > QUERY_BYTES_MAX {
        return Problem::bad_request(format!(
            "the query has {text_bytes} bytes, and the limit is {QUERY_BYTES_MAX}: ask in several \
             queries"
        ));
    }
    Problem::new(Code::Busy, format!("{open} queries are under way at this node; try again"))
}

fn too_many_links(count: usize) -> Problem {
    Problem::bad_request(format!(
        "EXPAND_LINKS would follow {count} links; it follows {MATCH_VALUES_MAX} with \
         {FOLLOWED_BYTES_MAX} bytes at most: ask for pages with resultLimit"
    ))
}

fn too_many_to_follow() -> Problem {
    Problem::bad_request(format!(
        "over {FOLLOWED_HITS_MAX} documents have links to be followed by EXPAND_LINKS: ask for pages \
         with resultLimit"
    ))
}

fn waited(others: usize) -> Problem {
    let text = format!(
        "the query is long, and has waited {} s for its turn at this node, where {others} others \
         wait: try again later, or ask for less with a page ($limit) or a narrower query",
        WAITING_MICROS_MAX / 1_000_000
    );
    Problem::new(Code::Busy, text)
}

fn given_up() -> Problem {
    let text = format!(
        "the query was given up after {} s: name a field and a value that few documents have, or \
         ask for pages ($limit)",
        SEARCH_MICROS_MAX / 1_000_000
    );
    Problem::new(Code::Timeout, text)
}

fn busy(bytes: usize) -> Problem {
    let text = format!(
        "the results of all queries under way at this node have {} MiB: try again, or ask for \
         pages with resultLimit (or $limit)",
        bytes >> 20
    );
    Problem::new(Code::Busy, text)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_language;
