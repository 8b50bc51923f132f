//! Numbers with more digits than a double or 64 bits hold, in the index and behind it; and what is
//! told of how a query was run.

use std::sync::Arc;

use protocol::{Action, Body, Document, Moment, Term};
use query::{CompiledQuery, Decimal, Explained, parse_specification};
use serde_json::{Value, json};
use storage::Reader;

use super::Site;
use crate::family;
use crate::past::{Place, RecordAt};
use crate::record::Record;
use crate::{AppliedCommand, Command, Partition, Retention, Search, Wanted, Write};

/// Some of them round to one double, or to one key of the index.
const NUMBERS: [&str; 16] = [
    "-123456789012345678901234567891",
    "-123456789012345678901234567890",
    "-18446744073709551616",
    "-5.0000000000000000001",
    "-5",
    "0.1",
    "0.10000000000000000000001",
    "5",
    "5.0000000000000000001",
    "9007199254740992",
    "9007199254740993",
    "9007199254740993.5",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "1e300",
];

/// Where `site` puts its documents.
const EXAMPLES: &str = "/core/examples";

fn site(bodies: impl Iterator<Item = String>) -> Site {
    let mut site = Site::new(1);
    site.applied.term = Term(2);
    for (number, body) in bodies.enumerate() {
        write(&mut site, format!("{EXAMPLES}/{number:04}"), (0, Moment(1)), body);
    }
    site.index_wholly();
    site
}

fn write(site: &mut Site, link: String, (version, updated): (u64, Moment), body: String) {
    let document = Document {
        link,
        version,
        epoch: Term(2),
        kind: "com:example:A".into(),
        action: Action::Post,
        updated,
        expires: Moment(0),
        owner: "node-1".into(),
        author: None,
        body: Body::from_text(body),
    };
    let command = Command::Write(Write {
        document,
        key: None,
        status: 200,
        retention: Retention { limit: 10_000, floor: 10_000 },
        source: None,
        task: None,
        purge: false,
        response: None,
        messages: Vec::new(),
        noted: None,
    });
    let outcome = site.apply(&command);
    assert!(matches!(outcome, AppliedCommand::Written(_)), "{outcome:?}");
}

fn compiled(specification: &Value) -> CompiledQuery {
    CompiledQuery::new(&parse_specification(specification).unwrap()).unwrap()
}

#[test]
fn ranges_and_equality_are_exact_by_index_and_by_scan() {
    let site = site(NUMBERS.iter().map(|number| format!("{{\"n\":{number}}}")));
    let decimals = NUMBERS.map(|number| Decimal::parse(number).unwrap());
    let check = |term: Value, meets: &dyn Fn(&Decimal) -> bool| {
        let wanted = decimals.iter().filter(|number| meets(number)).count();
        for options in [json!([]), json!(["COUNT"])] {
            let query = compiled(&json!({"query": {"term": term}, "options": options}));
            let page = site.partition.query(&site.store, &query, None, 100, Moment(2)).unwrap();
            assert_eq!(usize::try_from(page.count).unwrap(), wanted, "{term} {options}");
        }
    };
    for (number, decimal) in NUMBERS.iter().zip(&decimals) {
        check(json!({"propertyName": "n", "matchValue": number}), &|it| it == decimal);
        for is_inclusive in [true, false] {
            let min = json!({"type": "DOUBLE", "min": number, "isMinInclusive": is_inclusive});
            check(json!({"propertyName": "n", "range": min}), &|it| {
                it > decimal || is_inclusive && it == decimal
            });
            let max = json!({"type": "DOUBLE", "max": number, "isMaxInclusive": is_inclusive});
            check(json!({"propertyName": "n", "range": max}), &|it| {
                it < decimal || is_inclusive && it == decimal
            });
        }
    }
}

#[test]
fn what_led_to_the_documents_is_told() {
    let site = site((0..40).map(|n| format!("{{\"name\":\"n{}\",\"counter\":{n}}}", n % 4)));
    let explained = |specification: Value| -> Explained {
        let mut specification = specification;
        specification["explain"] = json!(true);
        let query = compiled(&specification);
        let page = site.partition.query(&site.store, &query, None, 100, Moment(2)).unwrap();
        page.explained.unwrap()
    };
    let name = json!({"term": {"propertyName": "name", "matchValue": "n1"}});
    let by_name = explained(json!({"query": name}));
    assert!(by_name.way.starts_with("index of name"), "{by_name:?}");
    assert_eq!((by_name.entries, by_name.documents), (10, 10));
    assert!(by_name.bytes > 0);
    let both = json!({"booleanClauses": [name,
        {"term": {"propertyName": "counter", "range": {"min": 37}}}]});
    let shortest = explained(json!({"query": both}));
    assert_eq!((shortest.way.as_str(), shortest.documents), ("index of counter", 2));
    let counted = explained(json!({"query": name, "options": ["COUNT"]}));
    assert_eq!(counted.way, "count in the index of name");
    assert_eq!((counted.entries, counted.documents), (10, 0));
    let hidden = json!({"term": {"propertyName": "documentVersion", "matchValue": 0}});
    let all = explained(json!({"query": hidden}));
    assert_eq!((all.way.as_str(), all.documents), ("no index: all documents", 40));
    let hiding = compiled(&json!({"query": name, "explain": true}));
    let hiding = hiding.filtered(query::HitFilter::new(|_| false));
    let page = site.partition.query(&site.store, &hiding, None, 100, Moment(2)).unwrap();
    let explained = page.explained.unwrap();
    assert!(explained.is_hidden, "what is hidden is not counted");
    assert_eq!((explained.entries, explained.documents, explained.bytes), (0, 0, 0));
    assert_eq!(explained.way, "", "which index is the narrow one tells it as well");
    let told = compiled(&json!({"query": name}));
    let page = site.partition.query(&site.store, &told, None, 100, Moment(2)).unwrap();
    assert_eq!(page.explained, None, "only to those who ask");
}

#[test]
fn the_version_of_a_time_is_found_among_many_with_few_looks() {
    let mut site = site(std::iter::empty());
    let link = format!("{EXAMPLES}/a");
    // Two versions of each time.
    for version in 0..1_000 {
        let place = (version, Moment(10 + version / 2 * 10));
        write(&mut site, link.clone(), place, format!("{{\"n\":{version}}}"));
    }
    let Partition { space, names, .. } = &site.partition;
    let head = site.store.get(&space.key(family::HEAD, link.as_bytes())).unwrap().unwrap();
    let head = Record::decode(&head, names).unwrap();
    let place = Place { store: &site.store, space: *space, names };
    for (at, expected) in [(9, None), (10, Some(1)), (19, Some(1)), (2_525, Some(503))] {
        let mut looks = 0;
        let found = place.record_at(&link, &head, Moment(at), &mut |_| looks += 1).unwrap();
        let version = match &found {
            RecordAt::Older(bytes) => Some(Record::decode(bytes, names).unwrap().version),
            RecordAt::Nothing => None,
            RecordAt::Head | RecordAt::Forgotten(_) => panic!("all versions are kept"),
        };
        assert_eq!(version, expected, "at {at}");
        assert!(looks <= 10, "{looks} looks");
    }
    let latest = place.record_at(&link, &head, Moment(5_000), &mut |_| {}).unwrap();
    assert!(matches!(latest, RecordAt::Head));
}

#[test]
fn a_query_that_needs_many_lists_is_not_led_by_the_index() {
    let fields = |n: u64| (0..200).map(move |field| format!("\"f{field}\":{}", n * 1_000 + field));
    let body = |n| format!("{{\"m\":{{{}}}}}", fields(n).collect::<Vec<_>>().join(","));
    let site = site((0..5).map(body));
    let way = |values: u64, is_in_a_hurry: bool| {
        let values: Vec<String> = (0..values).map(|n| (1_000 + n).to_string()).collect();
        let query = compiled(&json!({"explain": true,
            "query": {"term": {"propertyName": "m", "matchValues": values}}}));
        let view = site.partition.view();
        let view = if is_in_a_hurry { view.in_a_hurry() } else { view };
        let wanted = Wanted { after: None, hits: 100, bytes: usize::MAX, now: Moment(2) };
        let mut search = Search::new(view, Arc::new(query), wanted);
        let page = search.step(&site.store, usize::MAX).unwrap().unwrap();
        assert_eq!(page.hits.len(), 1);
        page.explained.unwrap().way
    };
    assert_eq!(way(2, false), "index of m");
    assert_eq!(way(2, true), "no index: all documents");
    assert_eq!(way(50, false), "no index: all documents");
}

#[test]
fn what_is_hidden_of_a_document_is_in_no_part_of_an_answer() {
    let site = site((0..3).map(|n| format!("{{\"digest\":\"d{n}\",\"name\":\"n{n}\"}}")));
    let opens = |_: &str, _: &[u8]| Some(br#"{"name":"n"}"#.to_vec());
    let page = |specification: Value| {
        let query = compiled(&specification);
        let query = query.filtered(query::HitFilter::opening(opens, |_| true));
        site.partition.query(&site.store, &query, None, 100, Moment(2)).unwrap()
    };
    let one = json!({"term": {"propertyName": "digest", "matchValue": "d1"}});
    assert_eq!(page(json!({"query": one})).hits.len(), 0);
    let not = json!({"booleanClauses": [{"occurance": "MUST_NOT_OCCUR", "term": one["term"]}]});
    let sorted = page(json!({"query": not, "options": ["SORT"],
        "sortTerm": {"propertyName": "digest"}, "sortOrder": "DESC"}));
    let links: Vec<&str> = sorted.hits.iter().map(|hit| hit.link.as_str()).collect();
    assert_eq!(links, ["0000", "0001", "0002"].map(|name| format!("{EXAMPLES}/{name}")));
    let selected = page(json!({"query": not, "options": ["SELECT_LINKS"],
        "linkTerms": [{"propertyName": "digest"}, {"propertyName": "name"}]}));
    assert_eq!(selected.hits.len(), 3);
    for hit in selected.hits {
        assert_eq!(hit.selected, [("name".to_owned(), "n".to_owned())]);
    }
    let added = json!({"query": not, "groupTerms": [{"propertyName": "digest"}],
        "aggregates": [{"function": "DISTINCT", "propertyName": "digest"}]});
    let rows = compiled(&added).aggregation().unwrap().rows(page(added).groups.unwrap());
    assert_eq!((rows.len(), rows[0].key.clone()), (1, vec![None]));
    assert_eq!(rows[0].values[0].json, "[]");
}

/// A document that is more work than a short step may do is left to whoever has more time.
#[test]
fn a_short_step_does_not_begin_what_it_cannot_end() {
    let site = site(
        [10, 2_000].into_iter().map(|bytes| format!("{{\"name\":\"{}\"}}", "a".repeat(bytes))),
    );
    let pattern = format!("*?{}b*", "a".repeat(500));
    let term = json!({"propertyName": "name", "matchType": "WILDCARD", "matchValue": pattern});
    let query = Arc::new(compiled(&json!({"query": {"term": term}})));
    assert_eq!(query.weight(), 9);
    let search = || {
        let wanted = Wanted { after: None, hits: 100, bytes: usize::MAX, now: Moment(2) };
        Search::new(site.partition.view(), Arc::clone(&query), wanted)
    };
    let mut short = search().short();
    for _ in 0..3 {
        assert!(short.step(&site.store, 10_000).unwrap().is_none());
    }
    assert!(short.spent() < 10_000, "{}", short.spent());
    // A turn of a job looks at it all the same.
    let mut turns = search();
    assert!((0..4).any(|_| turns.step(&site.store, 10_000).unwrap().is_some()));
    assert!(turns.spent() > 18_000, "{}", turns.spent());
    // And no turn goes on with it when it has done something else.
    let mut short = search().short();
    assert!(short.step(&site.store, 100_000).unwrap().is_some());
}
