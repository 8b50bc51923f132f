//! Queries of partitions that are played here.

use protocol::query::QueryResult;
use serde_json::{Value, json};

use protocol::Principal;

use super::*;
use crate::io::Output;

const PARTITIONS: u32 = 3;

/// Documents of some length, by turns in each partition.
struct Documents {
    count: usize,
    bytes: usize,
    /// Less is answered with `TooLong`.
    effort: Effort,
}

impl Documents {
    fn hit(&self, number: usize) -> Hit {
        let document = format!("\"{}\"", "x".repeat(self.bytes)).into_bytes();
        Hit {
            sort_key: Vec::new(),
            link: format!("/core/examples/{number:06}"),
            version: 0,
            document: Some(document.into()),
            selected: Vec::new(),
        }
    }

    /// As `documents::Search` cuts it.
    fn page(&self, group: GroupId, after: Option<&Cursor>, limit: u64, bytes: u64) -> Page {
        let (mut page, mut held) = (Page::default(), 0);
        for number in 0..self.count {
            let hit = self.hit(number);
            let is_here = u32::try_from(number).unwrap() % PARTITIONS + 1 == group.0;
            if !is_here || after.is_some_and(|after| hit.link <= after.link) {
                continue;
            }
            held += hit.bytes() as u64;
            let is_full = page.hits.len() as u64 == limit;
            if is_full || held > bytes && !page.hits.is_empty() {
                page.more = true;
                break;
            }
            page.hits.push(hit);
        }
        page
    }
}

fn asked(queries: &mut Queries, documents: &Documents, limit: Option<usize>) -> (u16, Value) {
    let specification = QuerySpecification {
        result_limit: limit,
        options: vec![QueryOption::ExpandContent],
        ..query::factory_query("/core/examples", None)
    };
    let form = Form::list("/core/examples");
    let mut effects = Effects::default();
    let scope = Scope { principal: Principal::System, partitions: PARTITIONS, now: 0 };
    let purpose = Purpose::Client { ticket: 1 };
    queries.query(purpose, specification, None, form, scope, &mut effects);
    loop {
        while let Some(work) = effects.work.pop_front() {
            match work {
                Work::Submit(Purpose::Piece { query, group }, _, question) => {
                    let Question::Query { after, limit, bytes, effort, .. } = question else {
                        panic!("{question:?}")
                    };
                    let page = documents.page(group, after.as_ref(), limit, bytes);
                    assert!(page.hits.len() < 2 || sum(&page) <= PIECE_BYTES);
                    let answer = if effort < documents.effort {
                        Answer::TooLong
                    } else {
                        Answer::Page(page)
                    };
                    queries.came(query, group, answer, 5, &mut effects);
                }
                _ => panic!("nothing else is wanted"),
            }
        }
        match effects.outputs.pop() {
            Some(Output::Answer { ticket: 1, response }) => {
                return (response.status, response.to_json());
            }
            Some(Output::Run(job)) => match job.run(&crate::Files::default).into_done() {
                crate::jobs::Done::Answer(query, response) => {
                    queries.answered(query, response, &mut effects);
                }
                _ => panic!("nobody searches here"),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn sum(page: &Page) -> usize {
    page.hits.iter().map(Hit::bytes).sum()
}

#[test]
fn all_documents_come_in_pieces_and_are_shown_in_order() {
    let mut queries = Queries::default();
    let documents = Documents { count: 100, bytes: 100_000, effort: Effort::Step };
    let (status, body) = asked(&mut queries, &documents, None);
    assert_eq!(status, 200);
    let result: QueryResult = serde_json::from_value(body).unwrap();
    let links: Vec<String> = (0..100).map(|number| documents.hit(number).link).collect();
    assert_eq!(result.document_links, links);
    let shown = result.documents.unwrap();
    assert_eq!(shown.len(), 100);
    assert_eq!(shown["/core/examples/000007"].as_str().unwrap().len(), 100_000);
    assert_eq!((queries.bytes, queries.open.len()), (0, 0));
}

/// The first of some documents, in the order of their numbers, but for one that each search
/// finds at the other end.
struct Moving {
    count: usize,
    /// By partition.
    searches: [usize; 3],
}

impl Moving {
    fn page(&mut self, group: GroupId, after: Option<&Cursor>, limit: u64, bytes: u64) -> Page {
        let group = usize::try_from(group.0).unwrap();
        self.searches[group] += 1;
        let (mut page, mut held) = (Page::default(), 0);
        let is_first = self.searches[group].is_multiple_of(2);
        let mut hits: Vec<Hit> = (0..self.count)
            .filter(|number| number % 2 + 1 == group)
            .map(|number| {
                let key = if number != 50 {
                    number
                } else if is_first {
                    0
                } else {
                    self.count
                };
                Hit {
                    sort_key: format!("{key:06}").into_bytes(),
                    link: format!("/core/examples/{number:06}"),
                    version: 0,
                    document: Some(format!("\"{}\"", "x".repeat(10_000)).into_bytes().into()),
                    selected: Vec::new(),
                }
            })
            .collect();
        hits.sort();
        for hit in hits {
            if after.is_some_and(|after| hit.cursor() <= *after) {
                continue;
            }
            held += hit.bytes() as u64;
            if page.hits.len() as u64 == limit || held > bytes && !page.hits.is_empty() {
                page.more = true;
                break;
            }
            page.hits.push(hit);
        }
        page
    }
}

fn sorted(count: usize, limit: Option<usize>, options: &[QueryOption]) -> (u16, Value) {
    let term = QueryTerm::field("name");
    let specification = QuerySpecification {
        sort_term: Some(term),
        result_limit: limit,
        options: [&[QueryOption::ExpandContent, QueryOption::Sort], options].concat(),
        ..query::factory_query("/core/examples", None)
    };
    let form = Form::list("/core/examples");
    let scope = Scope { principal: Principal::System, partitions: 2, now: 0 };
    let (mut queries, mut effects) = (Queries::default(), Effects::default());
    let purpose = Purpose::Client { ticket: 1 };
    queries.query(purpose, specification, None, form, scope, &mut effects);
    let mut moving = Moving { count, searches: [0; 3] };
    while let Some(Work::Submit(Purpose::Piece { query, group }, _, question)) =
        effects.work.pop_front()
    {
        let Question::Query { after, limit, bytes, .. } = question else { panic!() };
        let others = effects.work.iter().filter(|it| matches!(it, Work::Submit(..))).count();
        assert!(bytes <= PAGE_BYTES as u64 || others == 0, "one whole comes after the other");
        let page = moving.page(group, after.as_ref(), limit, bytes);
        queries.came(query, group, Answer::Page(page), 5, &mut effects);
    }
    if let Some(Output::Run(_)) = effects.outputs.last() {
        let Some(Output::Run(job)) = effects.outputs.pop() else { panic!() };
        let crate::jobs::Done::Answer(query, response) =
            job.run(&crate::Files::default).into_done()
        else {
            panic!()
        };
        queries.answered(query, response, &mut effects);
    }
    let Some(Output::Answer { response, .. }) = effects.outputs.pop() else { panic!() };
    assert_eq!((queries.bytes, queries.open.len()), (0, 0));
    (response.status, response.to_json())
}

#[test]
fn a_document_that_moves_in_the_order_is_in_the_whole_answer_once() {
    for (limit, options) in [(None, &[][..]), (Some(90), &[QueryOption::TopResults])] {
        let (status, body) = sorted(100, limit, options);
        assert_eq!(status, 200);
        let links = body["documentLinks"].as_array().unwrap();
        let different: BTreeSet<&str> = links.iter().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(links.len(), limit.unwrap_or(100), "{body}");
        assert_eq!(different.len(), links.len());
        assert_eq!(links[0], "/core/examples/000000");
        assert_eq!(links[1], "/core/examples/000050", "as the second search found it");
    }
    let (status, body) = sorted(5_000, None, &[]);
    assert_eq!((status, body["message"].as_str().unwrap().contains("32 MiB")), (400, true));
}

#[test]
fn more_effort_is_made_until_it_is_enough_and_places_come_back() {
    for effort in [Effort::Short, Effort::Long] {
        let mut queries = Queries::default();
        let documents = Documents { count: 100, bytes: 1_000, effort };
        let (status, body) = asked(&mut queries, &documents, None);
        assert_eq!(status, 200);
        assert_eq!(body["documentCount"], 100);
        assert!(queries.short.running.is_empty() && queries.long.running.is_empty());
    }
}

#[test]
fn one_that_waits_too_long_for_its_turn_is_told() {
    let mut queries = Queries::default();
    queries.short.running.extend((1_000..).take(SHORT_MAX));
    let mut effects = Effects::default();
    let scope = Scope { principal: Principal::System, partitions: 1, now: 0 };
    let form = Form::list("/core/examples");
    let specification = query::factory_query("/core/examples", None);
    let purpose = Purpose::Client { ticket: 1 };
    queries.query(purpose, specification, None, form, scope, &mut effects);
    let id = queries.last;
    queries.came(id, GroupId(1), Answer::TooLong, 5, &mut effects);
    queries.tick(WAITING_MICROS_MAX, &mut effects);
    assert!(effects.outputs.is_empty(), "it waits");
    queries.tick(WAITING_MICROS_MAX + 1, &mut effects);
    let Some(Output::Answer { response, .. }) = effects.outputs.pop() else { panic!() };
    assert_eq!(response.status, 503);
    assert!(queries.open.is_empty());
}

#[test]
fn what_takes_too_long_in_all_is_given_up_whatever_each_piece_took() {
    let documents = Documents { count: 300, bytes: 100_000, effort: Effort::Step };
    let begin = |effects: &mut Effects| {
        let mut queries = Queries::default();
        let scope = Scope { principal: Principal::System, partitions: PARTITIONS, now: 100 };
        let form = Form::list("/core/examples");
        let specification = query::factory_query("/core/examples", None);
        let purpose = Purpose::Client { ticket: 1 };
        queries.query(purpose, specification, None, form, scope, effects);
        queries
    };
    let mut effects = Effects::default();
    let mut queries = begin(&mut effects);
    let mut now = 100;
    while let Some(Work::Submit(Purpose::Piece { query, group }, _, question)) =
        effects.work.pop_front()
    {
        let Question::Query { after, limit, bytes, left_micros, .. } = question else { panic!() };
        assert!(left_micros <= 100 + SEARCH_MICROS_MAX - now + 3_000_000, "{left_micros}");
        now += 1_000_000;
        let page = documents.page(group, after.as_ref(), limit, bytes);
        queries.came(query, group, Answer::Page(page), now, &mut effects);
    }
    let Some(Output::Answer { response, .. }) = effects.outputs.pop() else { panic!() };
    assert_eq!((response.status, now), (504, 9_000_100));
    assert_eq!((queries.bytes, queries.open.len()), (0, 0));
    // The log tells of it as well.
    let noted = effects.outputs.pop();
    assert!(matches!(noted, Some(Output::Note { .. })), "{noted:?}");
    assert!(effects.outputs.is_empty());
    // One piece never comes.
    let mut queries = begin(&mut effects);
    queries.tick(100 + SEARCH_MICROS_MAX + PIECE_GRACE_MICROS, &mut effects);
    assert!(effects.outputs.is_empty());
    queries.tick(101 + SEARCH_MICROS_MAX + PIECE_GRACE_MICROS, &mut effects);
    let Some(Output::Answer { response, .. }) = effects.outputs.pop() else { panic!() };
    assert_eq!(response.status, 504);
}

#[test]
fn a_page_is_as_long_as_a_piece_and_leads_to_the_next() {
    let mut queries = Queries::default();
    let documents = Documents { count: 100, bytes: 100_000, effort: Effort::Step };
    let (status, body) = asked(&mut queries, &documents, Some(80));
    assert_eq!(status, 200);
    let shown = body["documentLinks"].as_array().unwrap().len();
    assert!((1..80).contains(&shown), "{shown}");
    assert_eq!(body["documents"].as_object().unwrap().len(), shown);
    assert!(body["nextPageLink"].is_string());
    assert_eq!(queries.bytes, 0);
}

#[test]
fn a_page_with_a_total_is_counted_first() {
    let mut queries = Queries::default();
    let documents = Documents { count: 100, bytes: 10, effort: Effort::Step };
    let mut effects = Effects::default();
    let scope = Scope { principal: Principal::System, partitions: PARTITIONS, now: 0 };
    let form = Form::list("/core/examples");
    let specification = query::factory_query("/core/examples", None);
    let specification = QuerySpecification { result_limit: Some(2), ..specification };
    let purpose = Purpose::Client { ticket: 1 };
    queries.counted(purpose, (specification, None), form, scope, &mut effects);
    while let Some(work) = effects.work.pop_front() {
        let Work::Submit(Purpose::Piece { query, group }, _, question) = work else { panic!() };
        let Question::Query { specification, after, limit, bytes, .. } = question else {
            panic!("{question:?}")
        };
        let specification: QuerySpecification = serde_json::from_slice(&specification).unwrap();
        let page = if specification.has(QueryOption::Count) {
            Page { count: 10 * u64::from(group.0), ..Page::default() }
        } else {
            documents.page(group, after.as_ref(), limit, bytes)
        };
        queries.came(query, group, Answer::Page(page), 5, &mut effects);
    }
    let Some(Output::Answer { response, .. }) = effects.outputs.pop() else { panic!() };
    let body = response.to_json();
    assert_eq!((&body["totalCount"], &body["documentCount"]), (&60.into(), &2.into()));
    assert_eq!((queries.bytes, queries.open.len()), (0, 0));
}

#[test]
fn an_answer_that_is_too_large_is_refused_and_nothing_of_it_is_kept() {
    let mut queries = Queries::default();
    let documents = Documents { count: 600, bytes: 100_000, effort: Effort::Step };
    let (status, body) = asked(&mut queries, &documents, None);
    assert_eq!(status, 400);
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("32 MiB") && message.contains("$limit"), "{message}");
    assert_eq!((queries.bytes, queries.open.len()), (0, 0));
}

#[test]
fn what_all_queries_hold_together_has_a_bound() {
    let mut queries = Queries { bytes: GATHERED_BYTES_MAX, ..Queries::default() };
    let (status, _) =
        asked(&mut queries, &Documents { count: 3, bytes: 1_000, effort: Effort::Step }, None);
    assert_eq!(status, 503);
    assert_eq!(queries.bytes, GATHERED_BYTES_MAX);
}

/// The groups of all partitions become one answer, with digits that no number of JSON's usual kind
/// has.
#[test]
fn aggregates_of_all_partitions_are_one_answer() {
    let mut queries = Queries::default();
    let mut effects = Effects::default();
    let scope = Scope { principal: Principal::System, partitions: PARTITIONS, now: 0 };
    let task = json!({"taskInfo": {"isDirect": true}});
    let specification = query::parse_specification(&json!({
        "query": {"term": {"propertyName": "n", "matchValue": "*", "matchType": "WILDCARD"}},
        "aggregates": [{"function": "SUM", "propertyName": "n"}, {"function": "COUNT"}],
        "groupTerms": [{"propertyName": "g"}],
    }));
    let specification = specification.unwrap();
    let purpose = Purpose::Client { ticket: 1 };
    queries.query(purpose, specification, None, Form::Task(task), scope, &mut effects);
    while let Some(work) = effects.work.pop_front() {
        let Work::Submit(Purpose::Piece { query, group }, _, question) = work else { panic!() };
        let Question::Query { specification, .. } = question else { panic!("{question:?}") };
        let specification = serde_json::from_slice(&specification).unwrap();
        let compiled = CompiledQuery::new(&specification).unwrap();
        let aggregation = compiled.aggregation().unwrap();
        let mut groups = aggregation.begin();
        for body in [r#"{"g":"a","n":12345678901234567890123}"#, r#"{"g":"b","n":"x"}"#] {
            let candidate =
                query::Candidate { body: body.as_bytes(), ..query::Candidate::nothing() };
            aggregation.add(&mut groups, &candidate);
        }
        let page = Page { count: 2, groups: Some(groups), ..Page::default() };
        queries.came(query, group, Answer::Page(page), 5, &mut effects);
    }
    let Some(Output::Answer { response, .. }) = effects.outputs.pop() else { panic!() };
    let text = String::from_utf8(response.body.to_vec()).unwrap();
    assert!(
        text.contains(r#"{"key":["a"],"values":{"sum(n)":37037036703703703670369,"count":3}}"#),
        "{text}"
    );
    let of_b = r#"{"key":["b"],"values":{"sum(n)":null,"count":3},"leftOut":{"sum(n)":3}}"#;
    assert!(text.contains(of_b), "{text}");
    assert_eq!(response.to_json()["results"]["documentCount"], 6);
    assert_eq!((queries.bytes, queries.open.len()), (0, 0));
}

/// What the log says, and the answer, when each partition answers after some time.
fn slow(micros: u64) -> (Vec<String>, Value) {
    let mut queries = Queries::default();
    let mut effects = Effects::default();
    let scope = Scope { principal: Principal::System, partitions: PARTITIONS, now: 0 };
    let task = json!({"taskInfo": {"isDirect": true}});
    let specification = query::parse_specification(&json!({
        "query": {"term": {"propertyName": "name", "matchValue": "secret"}}, "explain": true,
    }));
    let purpose = Purpose::Client { ticket: 1 };
    queries.query(purpose, specification.unwrap(), None, Form::Task(task), scope, &mut effects);
    while let Some(work) = effects.work.pop_front() {
        let Work::Submit(Purpose::Piece { query, group }, _, _) = work else { panic!() };
        let explained =
            query::Explained { way: "index of name".into(), entries: 7, ..Default::default() };
        let page = Page { count: 2, explained: Some(explained), ..Page::default() };
        queries.came(query, group, Answer::Page(page), micros, &mut effects);
    }
    let mut notes = Vec::new();
    let mut answer = Value::Null;
    for output in effects.outputs {
        match output {
            Output::Note { text, .. } => notes.push(text),
            Output::Answer { response, .. } => answer = response.to_json(),
            other => panic!("{other:?}"),
        }
    }
    (notes, answer)
}

#[test]
fn a_slow_query_is_in_the_log_by_its_shape() {
    assert!(slow(900_000).0.is_empty());
    let (notes, _) = slow(1_500_000);
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert!(note.contains("took 1500 ms") && note.contains("name = ?"), "{note}");
    assert!(!note.contains("secret"), "{note}");
}

/// The partitions of a node that owns all of them answer within one step.
#[test]
fn what_is_answered_within_one_step_is_measured() {
    let mut queries = Queries::default();
    let mut effects = Effects::default();
    let scope = Scope { principal: Principal::System, partitions: PARTITIONS, now: 7 };
    let task = json!({"taskInfo": {"isDirect": true}});
    let specification = query::parse_specification(&json!({
        "query": {"term": {"propertyName": "name", "matchValue": "a"}}, "explain": true,
    }));
    let purpose = Purpose::Client { ticket: 1 };
    queries.query(purpose, specification.unwrap(), None, Form::Task(task), scope, &mut effects);
    while let Some(work) = effects.work.pop_front() {
        let Work::Submit(Purpose::Piece { query, group }, _, _) = work else { panic!() };
        let page = Page { explained: Some(query::Explained::default()), ..Page::default() };
        queries.came(query, group, Answer::Page(page), 7, &mut effects);
    }
    let outputs = std::mem::take(&mut effects.outputs);
    assert!(matches!(outputs.as_slice(), [Output::Measure]), "{outputs:?}");
    queries.measured(19, &mut effects);
    let [Output::Answer { response, .. }] = effects.outputs.as_slice() else { panic!() };
    let body = response.to_json();
    assert_eq!(body["results"]["queryTimeMicros"], 12, "{body}");
    assert_eq!(body["taskInfo"]["durationMicros"], 12, "{body}");
    for part in body["results"]["explained"]["partitions"].as_array().unwrap() {
        assert_eq!(part["micros"], 12, "{part}");
    }
    assert_eq!((queries.bytes, queries.open.len(), queries.complete.len()), (0, 0, 0));
}

#[test]
fn who_asks_is_told_what_each_partition_did() {
    let (_, answer) = slow(40);
    let explained = &answer["results"]["explained"];
    let parts = explained["partitions"].as_array().unwrap();
    assert_eq!(parts.len(), usize::try_from(PARTITIONS).unwrap());
    for part in parts {
        assert_eq!((&part["way"], &part["entriesRead"]), (&"index of name".into(), &7.into()));
        assert_eq!(
            (&part["micros"], &part["ran"]),
            (&40.into(), &"within a step of the owner".into())
        );
    }
    assert_eq!(explained["waitedMicros"], 0);
}
