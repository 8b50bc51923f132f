//! Commands by hand: what is refused, what is kept, what is forgotten, and what it costs.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use protocol::query::{Query, QueryOption, QuerySpecification, QueryTerm, SortOrder};
use protocol::{Action, Body, Document, GroupId, Moment, ReplicaId, Source, Term};
use query::{CompiledQuery, Hit};
use serde_json::{Value, json};
use storage::{Batch, Reader, StateStore, StoreError};

use super::Site;
use crate::{
    AUTO_KEY_MINUTES, AppliedCommand, Command, Recorded, Remember, RequestKey, Retention, Search,
    USER_KEY_HOURS, Wanted, Write,
};

const MINUTE: u64 = 60_000_000;
const KEEP_ALL: Retention = Retention { limit: 10_000, floor: 1 };

pub(super) fn write(link: &str, version: u64, fields: Value) -> Write {
    let Value::Object(fields) = fields else { panic!("a body is an object") };
    Write {
        document: Document {
            link: link.into(),
            version,
            epoch: Term(1),
            kind: "com:example:State".into(),
            action: if version == 0 { Action::Post } else { Action::Put },
            updated: Moment(1_000 * MINUTE),
            expires: Moment(0),
            owner: "node-1".into(),
            author: None,
            body: Body::from_map(fields),
        },
        key: None,
        status: 200,
        retention: KEEP_ALL,
        source: None,
        task: None,
        purge: false,
        response: None,
        messages: Vec::new(),
        noted: None,
    }
}

impl Site {
    fn write(&mut self, write: Write) -> AppliedCommand {
        self.apply(&Command::Write(write))
    }

    fn next_version(&self, link: &str) -> u64 {
        let latest = self.partition.latest(&self.store, link).unwrap();
        latest.map_or(0, |latest| latest.version + 1)
    }

    /// As many writes as make answers be forgotten once: that is at every 64th position.
    fn pass(&mut self, minute: u64) {
        for _ in 0..64 {
            let mut write = write("/a", self.next_version("/a"), json!({}));
            write.document.updated = Moment(minute * MINUTE);
            self.write(write);
        }
    }

    fn links(&mut self, specification: &QuerySpecification) -> Vec<String> {
        self.index_wholly();
        let compiled = CompiledQuery::new(specification).unwrap();
        let page = self.partition.query(&self.store, &compiled, None, 1_000, Moment(5)).unwrap();
        page.hits.iter().map(|hit| compiled.shown_link(hit)).collect()
    }
}

fn asking(name: &str, value: Value, options: &[QueryOption]) -> QuerySpecification {
    let term =
        QueryTerm { property_name: name.into(), match_value: Some(value), ..QueryTerm::default() };
    QuerySpecification {
        query: Query { term: Some(term), ..Query::default() },
        options: options.to_vec(),
        ..QuerySpecification::default()
    }
}

#[test]
fn a_write_that_does_not_fit_changes_nothing_but_the_position() {
    let mut site = Site::new(1);
    assert!(matches!(site.write(write("/a", 0, json!({}))), AppliedCommand::Written(_)));
    let source = |epoch| Some(Source { partition: GroupId(7), epoch: Term(epoch) });
    site.write(Write { source: source(5), ..write("/a", 1, json!({})) });
    let before = site.digest();
    let other_term = Document { epoch: Term(2), ..write("/a", 2, json!({})).document };
    for refused in [
        write("/a", 1, json!({})),
        write("/a", 3, json!({})),
        write("/b", 1, json!({})),
        write("/\0", 0, json!({})),
        write("", 0, json!({})),
        Write { document: other_term, ..write("/a", 2, json!({})) },
        Write { source: source(4), ..write("/a", 2, json!({})) },
    ] {
        assert_eq!(site.write(refused.clone()), AppliedCommand::Fenced, "{refused:?}");
    }
    let late = Source { partition: GroupId(7), epoch: Term(4) };
    assert_eq!(site.apply(&Command::Fence(late)), AppliedCommand::Fenced);
    assert_eq!(site.digest(), before);
    assert_eq!(site.partition.fence(GroupId(7)), Term(5));
    site.reopen();
    assert_eq!(site.position().0, 10);
    assert_eq!(site.partition.fence(GroupId(7)), Term(5));
}

#[test]
fn the_history_goes_down_to_the_floor_when_it_is_over_the_limit() {
    let mut site = Site::new(1);
    let retention = Retention { limit: 4, floor: 2 };
    for version in 0..5 {
        site.write(Write { retention, ..write("/a", version, json!({"n": version})) });
    }
    let kept = |site: &Site| -> Vec<u64> {
        let is_kept =
            |&version: &u64| site.partition.version(&site.store, "/a", version).unwrap().is_some();
        (0..10).filter(is_kept).collect()
    };
    assert_eq!(kept(&site), [3, 4]);
    site.write(Write { retention: Retention { limit: 1, floor: 9 }, ..write("/a", 5, json!({})) });
    assert_eq!(kept(&site), [5]);
}

#[test]
fn what_has_expired_is_told() {
    let mut site = Site::new(1);
    for (link, at) in [("/soon", 5), ("/now", 3), ("/never", 0)] {
        let new = write(link, 0, json!({}));
        let document = Document { expires: Moment(at), ..new.document };
        site.write(Write { document, ..new });
    }
    let mut expire = |at| match site.apply(&Command::Expire { at: Moment(at), links_max: 9 }) {
        AppliedCommand::Expired(gone) => {
            gone.iter().map(|it| it.link.clone()).collect::<Vec<_>>().join(" ")
        }
        other => panic!("{other:?}"),
    };
    assert_eq!([expire(2), expire(4), expire(9)], ["", "/now", "/soon"]);
}

#[test]
fn a_long_history_is_purged_in_steps() {
    let mut site = Site::new(1);
    for version in 0..6_000 {
        site.write(write("/long", version, json!({})));
    }
    site.index_wholly();
    let tombstone = write("/long", 6_000, json!({}));
    let tombstone = Document { action: Action::Delete, ..tombstone.document };
    let last = Write { purge: true, ..write("/long", 6_000, json!({})) };
    site.write(Write { document: tombstone, ..last });
    assert!(site.partition.latest(&site.store, "/long").unwrap().unwrap().is_deleted());
    let mut steps = 0;
    while site.partition.expiration_due(&site.store, Moment(1)).unwrap() {
        // The index may look at what is left of it.
        site.index_wholly();
        site.apply(&Command::Expire { at: Moment(1), links_max: 100 });
        steps += 1;
    }
    assert_eq!(steps, 2);
    site.index_wholly();
    assert_eq!(site.partition.latest(&site.store, "/long").unwrap(), None);
    let (from, to) = site.partition.space.range(crate::family::VERSION);
    let mut rest = 0;
    site.store
        .scan(&from, &to, false, &mut |_, _| {
            rest += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(rest, 0);
    assert!(site.links(&asking("documentKind", "com:example:State".into(), &[])).is_empty());
}

#[test]
fn answers_are_remembered_for_their_time_and_then_forgotten() {
    let mut site = Site::new(1);
    let auto = |minute| RequestKey::Auto { edge: ReplicaId(1), boot: 2, number: 3, minute };
    let user = |key: &str| RequestKey::User { key: key.into(), digest: 9 };
    let response = Some(Bytes::from_static(b"{}"));
    let at = |minute: u64, version, key| {
        let mut write = write("/a", version, json!({}));
        write.document.updated = Moment(minute * MINUTE);
        Write { key: Some(key), response: response.clone(), status: 202, ..write }
    };
    site.write(at(1_000, 0, auto(1_000)));
    site.write(at(1_000, 1, user("one")));
    site.write(at(1_001, 2, user("again")));
    let known = |site: &Site, key: &RequestKey| {
        site.partition.recorded(&site.store, key).unwrap().map(|it| (it.version, it.digest))
    };
    let recorded = site.partition.recorded(&site.store, &user("one")).unwrap().unwrap();
    assert_eq!((recorded.link.as_str(), recorded.status), ("/a", 202));
    assert_eq!(recorded.response, response);
    site.pass(1_000 + u64::from(AUTO_KEY_MINUTES));
    assert_eq!(known(&site, &auto(1_000)), Some((0, 0)));
    site.pass(1_001 + u64::from(AUTO_KEY_MINUTES));
    assert_eq!(known(&site, &auto(1_000)), None);
    site.reopen();
    assert_eq!(known(&site, &user("one")), Some((1, 9)));
    // While a key is remembered it is not taken for another write.
    let next = site.next_version("/a");
    assert_eq!(site.write(at(1_001, next, user("one"))), AppliedCommand::Fenced);
    site.pass(1_000 + USER_KEY_HOURS * 60);
    assert_eq!(known(&site, &user("one")), Some((1, 9)));
    site.pass(1_001 + USER_KEY_HOURS * 60);
    assert_eq!(known(&site, &user("one")), None);
    assert_eq!(known(&site, &user("again")), Some((2, 9)));
    let next = site.next_version("/a");
    site.write(at(1_002 + USER_KEY_HOURS * 60, next, user("one")));
    assert_eq!(known(&site, &user("one")), Some((next, 9)));
}

#[test]
fn an_answer_without_a_new_version_is_remembered_once_and_forgotten_like_others() {
    let user = RequestKey::User { key: "one".into(), digest: 9 };
    let (link, status, response) = ("/a".to_owned(), 200, Some(Bytes::new()));
    let answer = Recorded { link, version: 0, status, digest: 0, response, written: None };
    let mut site = Site::new(1);
    let at = Moment(1_000 * MINUTE);
    let epoch = site.applied.term;
    let remember = |epoch| {
        let (key, answer) = (user.clone(), answer.clone());
        Command::Remember(Remember { epoch, key, answer, at })
    };
    let later = Term(epoch.0 + 1);
    assert_eq!(site.apply(&remember(later)), AppliedCommand::Fenced);
    assert_eq!(site.apply(&remember(epoch)), AppliedCommand::Other);
    assert_eq!(site.apply(&remember(epoch)), AppliedCommand::Fenced, "it is remembered already");
    site.reopen();
    let known = |site: &Site| site.partition.recorded(&site.store, &user).unwrap();
    let recorded = Recorded { digest: 9, ..answer.clone() };
    assert_eq!(known(&site), Some(recorded));
    let write = Write { key: Some(user.clone()), ..write("/a", 0, json!({})) };
    assert_eq!(site.write(write), AppliedCommand::Fenced, "the same request does nothing more");
    site.pass(1_001 + USER_KEY_HOURS * 60);
    assert_eq!(known(&site), None);
}

#[test]
fn an_answer_is_found_again_after_a_start_whichever_is_asked_for_first() {
    let auto = |boot, number, minute| RequestKey::Auto { edge: ReplicaId(1), boot, number, minute };
    for first in [0, 1, 2] {
        let mut site = Site::new(1);
        let keys = [auto(2, 300, 1_000), auto(2, 5, 1_002), auto(3, 1, 1_001)];
        for (version, key) in (0..).zip(&keys) {
            let mut write = write("/a", version, json!({}));
            write.document.updated = Moment(1_002 * MINUTE);
            site.write(Write { key: Some(key.clone()), ..write });
        }
        for _ in 0..2 {
            let known = |key: &RequestKey| {
                site.partition.recorded(&site.store, key).unwrap().map(|it| it.version)
            };
            assert_eq!(known(&keys[first]), Some(u64::try_from(first).unwrap()));
            let found: Vec<_> = keys.iter().map(known).collect();
            assert_eq!(found, [Some(0), Some(1), Some(2)]);
            assert_eq!(known(&auto(2, 301, 1_002)), None);
            assert_eq!(known(&auto(2, 4, 1_002)), None);
            assert_eq!(known(&auto(4, 1, 1_002)), None);
            site.reopen();
        }
    }
}

#[test]
fn a_task_is_in_progress_until_it_is_not() {
    let mut site = Site::new(1);
    let tasks = |site: &Site| site.partition.tasks_in_progress(&site.store).unwrap();
    site.write(Write { task: Some(true), ..write("/t/1", 0, json!({})) });
    site.write(Write { task: Some(true), ..write("/t/2", 0, json!({})) });
    site.write(Write { task: Some(true), ..write("/t/1", 1, json!({})) });
    assert_eq!(tasks(&site), ["/t/1", "/t/2"]);
    site.write(Write { task: Some(false), ..write("/t/1", 2, json!({})) });
    let mut deletion = Write { task: Some(true), ..write("/t/2", 1, json!({})) };
    deletion.document.action = Action::Delete;
    site.write(deletion);
    assert!(tasks(&site).is_empty());
}

#[test]
fn a_new_life_goes_on_with_the_version_and_after_a_purge_begins_at_nothing() {
    let mut site = Site::new(1);
    site.write(write("/a", 0, json!({})));
    let mut deletion = write("/a", 1, json!({}));
    deletion.document.action = Action::Delete;
    site.write(deletion.clone());
    assert_eq!(site.write(write("/a", 0, json!({}))), AppliedCommand::Fenced);
    assert!(matches!(site.write(write("/a", 2, json!({}))), AppliedCommand::Written(_)));
    deletion.document.version = 3;
    site.write(Write { purge: true, ..deletion });
    assert!(matches!(site.write(write("/a", 0, json!({}))), AppliedCommand::Written(_)));
    assert_eq!(site.partition.document_count(), 1);
}

#[test]
fn all_versions_of_a_kind_are_found_though_the_kind_has_changed() {
    let mut site = Site::new(1);
    site.write(write("/a", 0, json!({})));
    let mut changed = write("/a", 1, json!({}));
    changed.document.kind = "com:example:Other".into();
    site.write(changed);
    site.write(write("/b", 0, json!({})));
    let options = [QueryOption::IncludeAllVersions];
    assert_eq!(
        site.links(&asking("documentKind", "com:example:State".into(), &options)),
        ["/a?documentVersion=0", "/b?documentVersion=0"]
    );
}

#[test]
fn a_command_of_a_later_format_stops_the_node() {
    let mut site = Site::new(1);
    for broken in [&b""[..], b"\x09", b"\x01\xff"] {
        let applied = site.applied.clone();
        assert!(site.partition.apply(&mut site.store, applied, broken).is_err());
    }
}

/// A store that counts how often it is read.
struct Counting<'s> {
    store: &'s mut dyn StateStore,
    reads: Cell<u32>,
    written: usize,
}

impl Reader for Counting<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.set(self.reads.get() + 1);
        self.store.get(key)
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.reads.set(self.reads.get() + 1);
        self.store.scan(from, to, reverse, visit)
    }
}

impl StateStore for Counting<'_> {
    fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.written += batch.len();
        self.store.write(batch)
    }

    fn view(&self) -> Box<dyn Reader + Send> {
        self.store.view()
    }

    fn persist(&mut self) -> Result<(), StoreError> {
        self.store.persist()
    }

    fn persister(&self) -> Box<dyn FnMut() -> Result<(), StoreError> + Send> {
        self.store.persister()
    }
}

#[test]
fn a_write_to_a_cached_document_reads_nothing_and_writes_little() {
    let mut site = Site::new(1);
    let auto = |number| RequestKey::Auto { edge: ReplicaId(1), boot: 1, number, minute: 1_000 };
    site.write(write("/a", 0, json!({"n": 0})));
    site.index_wholly();
    let mut applied = site.applied.clone();
    let mut counting = Counting { store: &mut site.store, reads: Cell::new(0), written: 0 };
    // The first of an edge looks what is the last of it.
    for (version, keys, reads) in [(1, 5, 1), (2, 4, 0)] {
        applied.position = applied.position.next();
        counting.written = 0;
        let next = Write { key: Some(auto(version)), ..write("/a", version, json!({"n": 1})) };
        let command = Command::Write(next).encode();
        site.partition.apply(&mut counting, applied.clone(), &command).unwrap();
        // The head, the version before, the answer, the position; once the mark for the index.
        assert_eq!(counting.written, keys, "version {version}");
        assert_eq!(counting.reads.replace(0), reads, "version {version}");
    }
    assert!(!site.partition.expiration_due(&counting, Moment(1)).unwrap());
    counting.reads.set(0);
    assert!(!site.partition.expiration_due(&counting, Moment(2)).unwrap());
    assert_eq!(counting.reads.get(), 0, "nothing expires, and that is known");
    assert!(site.partition.latest(&counting, "/a").unwrap().is_some());
    assert_eq!(counting.reads.get(), 0);
}

#[test]
fn the_index_waits_while_documents_are_written_unless_it_is_far_behind() {
    let mut site = Site::new(1);
    for number in 0..4 {
        site.write(write(&format!("/{number}"), 0, json!({"n": 0})));
    }
    site.index_wholly();
    for version in 1..4 {
        site.write(write("/0", version, json!({"n": version})));
        let done = site.partition.index_at_leisure(&mut site.store, 100).unwrap();
        assert!(!done, "version {version}");
    }
    assert!(site.partition.index_at_leisure(&mut site.store, 100).unwrap(), "nothing was written");
    site.partition.index.bounds.behind = 2;
    site.write(write("/0", 4, json!({"n": 4})));
    assert!(!site.partition.index_at_leisure(&mut site.store, 100).unwrap());
    site.write(write("/1", 1, json!({"n": 4})));
    assert!(site.partition.index_at_leisure(&mut site.store, 100).unwrap(), "far behind");
}

#[test]
fn what_does_not_change_is_found_once_while_the_rest_changes_between_the_steps() {
    for order in [None, Some(SortOrder::Asc), Some(SortOrder::Desc)] {
        for (limit, is_forgotten) in [(1_000, false), (1_000, true), (13, false), (13, true)] {
            // So that streams are taken, and lists.
            for listed in [[0, 0, 0], [0, 0, 500]] {
                changing(order, limit, is_forgotten, listed);
            }
        }
    }
}

fn changing(order: Option<SortOrder>, limit: usize, is_forgotten: bool, listed: [usize; 3]) {
    let mut site = Site::new(1);
    site.partition.index.bounds.listed = listed;
    // One in ten has no place.
    let fields = |n: u64| match n % 10 {
        0 => json!({"group": "one", "n": n}),
        _ => json!({"group": "one", "place": n * 7 % 50, "n": n}),
    };
    for n in 0..200 {
        site.write(write(&format!("/a/{n:03}"), 0, fields(n)));
    }
    site.index_wholly();
    let mut specification = asking("group", "one".into(), &[]);
    specification.sort_order = order;
    specification.sort_term =
        order.map(|_| QueryTerm { property_name: "place".into(), ..QueryTerm::default() });
    let compiled = Arc::new(CompiledQuery::new(&specification).unwrap());
    let mut hits: Vec<Hit> = Vec::new();
    let mut steps = 0;
    loop {
        site.index_wholly();
        let after = hits.last().map(Hit::cursor);
        let wanted = Wanted { after, hits: limit, bytes: usize::MAX, now: Moment(5) };
        let mut search = Search::new(site.partition.view(), Arc::clone(&compiled), wanted);
        let store = site.store.view();
        let page = loop {
            if let Some(page) = search.step(&*store, 1_000).unwrap() {
                break page;
            }
            steps += 1;
            // Only documents with an odd number change.
            for n in (1..200).step_by(2) {
                site.write(write(&format!("/a/{n:03}"), steps, fields(n + steps * 3)));
            }
            site.partition.index(&mut site.store, 15).unwrap();
            if is_forgotten && steps == 3 {
                site.partition.forget_index(&mut site.store).unwrap();
            }
        };
        let links: BTreeSet<&String> = page.hits.iter().map(|hit| &hit.link).collect();
        assert_eq!(links.len(), page.hits.len(), "on a page nothing is twice");
        hits.extend(page.hits);
        if !page.more {
            break;
        }
    }
    assert!(steps > 3);
    assert!(hits.is_sorted_by_key(Hit::cursor), "{order:?}");
    for n in (0..200).step_by(2) {
        let link = format!("/a/{n:03}");
        let times = hits.iter().filter(|hit| hit.link == link).count();
        assert_eq!(times, 1, "{link} {order:?} {limit} {is_forgotten} {listed:?}");
    }
}

#[test]
fn nothing_remains_of_a_document_that_was_purged() {
    let mut site = Site::new(1);
    site.write(Write { task: Some(true), ..write("/a", 0, json!({"n": 1})) });
    let before = site.state().len();
    let mut changed = write("/b", 0, json!({"n": 1}));
    changed.document.expires = Moment(7);
    site.write(Write { task: Some(true), ..changed.clone() });
    changed.document.version = 1;
    changed.document.kind = "com:example:Other".into();
    site.write(changed.clone());
    site.index_wholly();
    changed.document.version = 2;
    site.write(Write { purge: true, ..changed });
    // The other kind has got its number, and the factory the position of the end.
    assert_eq!(site.state().len(), before + 2);
    site.index_wholly();
    assert!(site.links(&asking("documentKind", "com:example:Other".into(), &[])).is_empty());
}

/// How many documents have all these values.
fn counted(site: &mut Site, values: &[(&str, Value)], options: &[QueryOption]) -> u64 {
    let queries = values.iter().map(|(name, value)| asking(name, value.clone(), &[]).query);
    let specification = QuerySpecification {
        query: Query { boolean_clauses: Some(queries.collect()), ..Query::default() },
        options: [&[QueryOption::Count], options].concat(),
        ..QuerySpecification::default()
    };
    site.index_wholly();
    let compiled = CompiledQuery::new(&specification).unwrap();
    site.partition.query(&site.store, &compiled, None, 10, Moment(5)).unwrap().count
}

#[test]
fn a_count_does_not_believe_an_index_that_has_no_room_for_a_field() {
    let mut site = Site::new(1);
    site.partition.index.bounds.fields = 1;
    for n in 0..10 {
        site.write(write(&format!("/a/{n}"), 0, json!({"first": 1, "second": n % 2})));
    }
    assert_eq!(counted(&mut site, &[("first", json!(1)), ("second", json!(1))], &[]), 5);
}

#[test]
fn a_count_of_several_values_meets_in_their_lists() {
    let mut site = Site::new(1);
    for n in 0..700 {
        let fields = json!({"all": 1, "third": n % 3, "rare": n % 200, "late": n > 650});
        site.write(write(&format!("/a/{n:03}"), 0, fields));
    }
    let mut count = |values: &[(&str, Value)]| counted(&mut site, values, &[]);
    let (all, third, rare) = (("all", json!(1)), ("third", json!(1)), ("rare", json!(1)));
    assert_eq!(count(&[all.clone(), third.clone()]), 233);
    // 1, 201, 401 and 601: far apart in the other lists.
    assert_eq!(count(&[all.clone(), rare.clone()]), 4);
    assert_eq!(count(&[rare, third.clone(), all.clone()]), 2);
    assert_eq!(count(&[("late", json!(true)), all, third]), 16);
    assert_eq!(count(&[("late", json!(true)), ("rare", json!(7))]), 0);
}

#[test]
fn a_count_of_all_versions_counts_versions() {
    let mut site = Site::new(1);
    for version in 0..5 {
        site.write(write("/a", version, json!({})));
    }
    let kind = [("documentKind", json!("com:example:State"))];
    assert_eq!(counted(&mut site, &kind, &[QueryOption::IncludeAllVersions]), 5);
    assert_eq!(counted(&mut site, &kind, &[QueryOption::IncludeDeleted]), 1);
}

#[test]
fn a_document_that_was_written_between_two_pages_is_not_found_twice() {
    for listed in [[0, 0, 0], [128, 128, 128]] {
        let mut site = Site::new(1);
        site.partition.index.bounds.listed = listed;
        for n in 0..6 {
            site.write(write(&format!("/a/{n}"), 0, json!({"group": "one", "place": 1})));
        }
        for order in [None, Some(SortOrder::Asc), Some(SortOrder::Desc)] {
            let mut specification = asking("group", "one".into(), &[]);
            specification.sort_order = order;
            specification.sort_term =
                order.map(|_| QueryTerm { property_name: "place".into(), ..QueryTerm::default() });
            let compiled = CompiledQuery::new(&specification).unwrap();
            let mut found = Vec::new();
            let mut after = None;
            loop {
                site.index_wholly();
                let (store, now) = (&site.store, Moment(5));
                let page = site.partition.query(store, &compiled, after.as_ref(), 2, now).unwrap();
                after = page.hits.last().map(Hit::cursor);
                found.extend(page.hits.into_iter().map(|hit| hit.link));
                if !page.more {
                    break;
                }
                for n in 0..6 {
                    let link = format!("/a/{n}");
                    let next = site.next_version(&link);
                    site.write(write(&link, next, json!({"group": "one", "place": 1, "n": next})));
                }
            }
            assert_eq!(found, ["/a/0", "/a/1", "/a/2", "/a/3", "/a/4", "/a/5"], "{order:?}");
        }
    }
}
