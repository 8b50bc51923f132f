//! What only the node that takes a query in can put together: groups with pages, documents that
//! links lead to, what is left out at the beginning. The partitions look at each of their
//! documents.

use protocol::{Code, Moment, Principal};
use query::{Candidate, Forgotten};
use serde_json::json;

use super::*;
use crate::io::Output;

const PARTITIONS: u32 = 3;

/// Links and bodies.
const DOCUMENTS: [(&str, &str); 6] = [
    ("/a/1", r#"{"name":"x","n":5,"parentLink":"/p/1"}"#),
    ("/a/2", r#"{"name":"x","n":"5","parentLink":"/p/2"}"#),
    ("/a/3", r#"{"name":"y","parentLink":"/p/1"}"#),
    ("/a/4", r#"{"name":"y","n":7,"parentLink":"/p/gone"}"#),
    ("/p/1", r#"{"name":"first"}"#),
    ("/p/2", r#"{"name":"second"}"#),
];

/// What one partition finds.
fn page(specification: &QuerySpecification, group: GroupId, after: Option<&Cursor>) -> Page {
    let compiled = CompiledQuery::new(specification).unwrap();
    let groups = compiled.aggregation().map(|aggregation| aggregation.begin());
    let mut page = Page { groups, ..Page::default() };
    for (number, (link, body)) in DOCUMENTS.iter().enumerate() {
        let candidate = Candidate { link, body: body.as_bytes(), ..Candidate::nothing() };
        let is_here = u32::try_from(number).unwrap() % PARTITIONS + 1 == group.0;
        let Some(sort_key) = compiled.evaluate(&candidate).filter(|_| is_here) else { continue };
        if let (Some(groups), Some(aggregation)) = (&mut page.groups, compiled.aggregation()) {
            aggregation.add(groups, &candidate);
            page.count += 1;
            continue;
        }
        let selected = compiled.selected_links(&candidate);
        let document = compiled.is_expanded().then(|| body.as_bytes().into());
        let hit = Hit { sort_key, link: (*link).into(), version: 0, document, selected };
        if after.is_none_or(|after| hit.cursor() > *after) {
            page.hits.push(hit);
        }
    }
    if page.groups.is_none() {
        page.count = page.hits.len() as u64;
    }
    page
}

/// Plays the partitions until the answer comes.
fn played(queries: &mut Queries, effects: &mut Effects) -> (u16, Value) {
    while let Some(work) = effects.work.pop_front() {
        let Work::Submit(Purpose::Piece { query, group }, _, question) = work else { panic!() };
        let Question::Query { specification, after, limit, .. } = question else {
            panic!("{question:?}")
        };
        let text: Value = serde_json::from_slice(&specification).unwrap();
        let specification = query::parse_specification(&text).unwrap();
        let mut page = page(&specification, group, after.as_ref());
        page.more = page.hits.len() as u64 > limit;
        page.hits.truncate(usize::try_from(limit).unwrap());
        queries.came(query, group, Answer::Page(page), 5, effects);
    }
    let Some(Output::Answer { response, .. }) = effects.outputs.pop() else { panic!() };
    assert_eq!((queries.bytes, queries.open.len()), (0, 0), "nothing is kept");
    (response.status, response.to_json())
}

fn scope() -> Scope {
    Scope { principal: Principal::System, partitions: PARTITIONS, now: 0 }
}

fn asked(specification: &Value) -> (u16, Value) {
    let (mut queries, mut effects) = (Queries::default(), Effects::default());
    let task = json!({"taskInfo": {"isDirect": true}});
    let specification = query::parse_specification(specification).unwrap();
    let purpose = Purpose::Client { ticket: 1 };
    queries.query(purpose, specification, None, Form::Task(task), scope(), &mut effects);
    played(&mut queries, &mut effects)
}

/// A page of a query, by its link.
fn followed(link: &Value) -> Value {
    let (mut queries, mut effects) = (Queries::default(), Effects::default());
    let token = link.as_str().unwrap().strip_prefix("/core/query-page/").unwrap();
    let purpose = Purpose::Client { ticket: 1 };
    queries.page(purpose, (token, &PageWish::default()), scope(), &mut effects);
    let (status, page) = played(&mut queries, &mut effects);
    assert_eq!((status, &page["documentSelfLink"]), (200, link));
    page["results"].clone()
}

fn of_links(prefix: &str) -> Value {
    json!({"term": {"propertyName": "documentSelfLink", "matchType": "PREFIX",
        "matchValue": prefix}})
}

/// A list with `$count` and `$limit`, and what follows by a link with these wishes.
#[test]
fn further_pages_say_how_many_there_are_too_and_may_be_wished_otherwise() {
    let (mut queries, mut effects) = (Queries::default(), Effects::default());
    let mut specification = query::prefix_query("/a/");
    specification.result_limit = Some(1);
    let form = Form::list("/a");
    let purpose = || Purpose::Client { ticket: 1 };
    queries.counted(purpose(), (specification, None), form, scope(), &mut effects);
    let (_, first) = played(&mut queries, &mut effects);
    assert_eq!((&first["totalCount"], &first["documentLinks"]), (&json!(4), &json!(["/a/1"])));
    let mut page = |link: &Value, wish: &str| {
        let request = protocol::Request::get(&format!("/core/query-page/x{wish}"));
        let wish = PageWish::of(&request).unwrap();
        let token = link.as_str().unwrap().strip_prefix("/core/query-page/").unwrap();
        queries.page(purpose(), (token, &wish), scope(), &mut effects);
        played(&mut queries, &mut effects)
    };
    let next = &first["nextPageLink"];
    let (_, second) = page(next, "");
    assert_eq!((&second["totalCount"], &second["documentLinks"]), (&json!(4), &json!(["/a/2"])));
    let (_, more) = page(next, "?$limit=2&$count=false&$select=name");
    assert_eq!(more["documentLinks"], json!(["/a/2", "/a/3"]));
    assert!(more["totalCount"].is_null() && more["documents"]["/a/2"].is_object(), "{more}");
    let (_, last) = page(&more["nextPageLink"], "?$count");
    assert_eq!((&last["totalCount"], &last["documentLinks"]), (&json!(4), &json!(["/a/4"])));
    assert!(last["nextPageLink"].is_null(), "{last}");
}

/// Links that were made before a page said how many there are in all.
#[test]
fn older_links_of_pages_are_followed() {
    let specification = serde_json::to_string(&query::prefix_query("/a/")).unwrap();
    for (is_task, kind) in [(false, PageKind::Plain), (true, PageKind::Task)] {
        let token = (is_task, &specification, None::<Cursor>);
        let token = protocol::base64url::encode(&postcard::to_stdvec(&token).unwrap());
        assert_eq!(parse_token(&token).unwrap().kind, kind);
        let request = protocol::Request::get("/core/query-page/x?$count=true");
        let counted = page_of(&token, &PageWish::of(&request).unwrap());
        assert_eq!(counted.is_err(), is_task, "the pages of a task have no totalCount");
    }
}

#[test]
fn each_group_has_pages_of_its_own() {
    let mut specification = json!({
        "options": ["GROUP_BY", "EXPAND_CONTENT"], "query": of_links("/a/"),
        "groupByTerm": {"propertyName": "n", "propertyType": "LONG"}, "resultLimit": 1,
    });
    let (status, answer) = asked(&specification);
    assert_eq!(status, 200, "{answer}");
    let results = &answer["results"];
    assert_eq!((&results["documentCount"], &results["documentLinks"]), (&json!(4), &json!([])));
    let links = results["nextPageLinksPerGroup"].as_object().unwrap();
    let names: Vec<&String> = links.keys().collect();
    assert_eq!(names, ["5", "7", "DocumentsWithoutResults"]);
    // The number and the text are written alike, and are in one group, page by page.
    let first = followed(&links["5"]);
    assert_eq!(first["documentLinks"], json!(["/a/1"]));
    assert_eq!(first["documents"]["/a/1"]["n"], 5);
    let second = followed(&first["nextPageLink"]);
    assert_eq!(second["documentLinks"], json!(["/a/2"]));
    assert!(second["nextPageLink"].is_null());
    let without = followed(&links["DocumentsWithoutResults"]);
    assert_eq!(without["documentLinks"], json!(["/a/3"]));
    // Two groups at a time, the greatest first.
    specification["groupResultLimit"] = json!(2);
    specification["groupSortOrder"] = json!("DESC");
    let (_, answer) = asked(&specification);
    let names = |results: &Value| -> Vec<String> {
        results["nextPageLinksPerGroup"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(names(&answer["results"]), ["5", "7"]);
    let rest = followed(&answer["results"]["nextPageLink"]);
    assert_eq!(names(&rest), ["DocumentsWithoutResults"]);
    assert!(rest["nextPageLink"].is_null());
}

#[test]
fn what_links_lead_to_is_shown_beside_them() {
    let specification = json!({
        "options": ["SELECT_LINKS", "EXPAND_LINKS"], "query": of_links("/a/"),
        "linkTerms": [{"propertyName": "parentLink"}],
    });
    let (status, answer) = asked(&specification);
    assert_eq!(status, 200, "{answer}");
    let results = &answer["results"];
    assert_eq!(results["selectedLinks"], json!(["/p/1", "/p/2", "/p/gone"]));
    assert_eq!(results["selectedLinksPerDocument"]["/a/3"], json!({"parentLink": "/p/1"}));
    let linked = &results["selectedDocuments"];
    assert_eq!(linked["/p/1"], json!({"name": "first"}));
    assert_eq!(linked["/p/2"], json!({"name": "second"}));
    // What is not there, or may not be seen, is an error, as in Xenon.
    let missing = &linked["/p/gone"];
    assert_eq!((&missing["statusCode"], linked.as_object().unwrap().len()), (&json!(404), 3));
    assert_eq!(results["documentLinks"].as_array().unwrap().len(), 4);
    assert!(results["documents"].is_null(), "nobody has asked for them");
    let none = json!({
        "options": ["SELECT_LINKS", "EXPAND_LINKS"], "query": of_links("/p/"),
        "linkTerms": [{"propertyName": "parentLink"}],
    });
    let results = &asked(&none).1["results"];
    assert_eq!(
        (&results["selectedLinks"], &results["selectedDocuments"]),
        (&json!([]), &json!({}))
    );
    // Each hit has an entry.
    assert_eq!(results["selectedLinksPerDocument"], json!({"/p/1": {}, "/p/2": {}}));
}

#[test]
fn pages_begin_behind_what_is_left_out() {
    let specification =
        json!({"query": of_links("/a/"), "offset": 1, "resultLimit": 2, "options": []});
    let (_, answer) = asked(&specification);
    let first = followed(&answer["results"]["nextPageLink"]);
    assert_eq!(first["documentLinks"], json!(["/a/2", "/a/3"]));
    let second = followed(&first["nextPageLink"]);
    assert_eq!(second["documentLinks"], json!(["/a/4"]));
    assert!(second["nextPageLink"].is_null());
    let whole = json!({"query": of_links("/a/"), "offset": 3});
    assert_eq!(asked(&whole).1["results"]["documentLinks"], json!(["/a/4"]));
}

#[test]
fn a_version_that_is_gone_is_told_by_the_document() {
    let (mut queries, mut effects) = (Queries::default(), Effects::default());
    let mut specification = query::prefix_query("/a/");
    specification.as_of(Moment(7));
    let form = Form::list("/a");
    let purpose = Purpose::Client { ticket: 1 };
    queries.counted(purpose, (specification, None), form, scope(), &mut effects);
    let Some(Work::Submit(Purpose::Piece { query, group }, _, question)) = effects.work.pop_front()
    else {
        panic!()
    };
    let Question::Query { specification, .. } = question else { panic!() };
    let counted: QuerySpecification = serde_json::from_slice(&specification).unwrap();
    assert!(counted.has(QueryOption::TimeSnapshot), "the total is of the same time");
    let forgotten = Some(Forgotten { link: "/a/1".into(), version: 3, since: Moment(9) });
    let page = Page { forgotten, ..Page::default() };
    queries.came(query, group, Answer::Page(page), 5, &mut effects);
    let Some(Output::Answer { response, .. }) = effects.outputs.pop() else { panic!() };
    let body = response.to_json();
    assert_eq!((response.status, &body["code"]), (410, &json!(Code::HistoryGone.name())));
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("/a/1 has no version before 3"), "{message}");
    assert!(message.contains("1970-01-01T00:00:00.000009Z"), "{message}");
}

/// What Java clients of Xenon look at in a page and in the answer before it.
#[test]
fn a_page_says_what_was_asked_and_leads_back() {
    let specification = json!({"query": of_links("/a/"), "resultLimit": 1,
        "options": ["EXPAND_CONTENT", "SORT"], "sortTerm": {"propertyName": "name"}});
    let (_, first) = asked(&specification);
    let results = &first["results"];
    assert_eq!((&results["documents"], &results["documentCount"]), (&json!({}), &json!(0)));
    assert!(results["queryTimeMicros"].is_u64() && results["prevPageLink"].is_null(), "{first}");
    assert_eq!(first["indexLink"], "/core/document-index");
    assert_eq!(first["nodeSelectorLink"], "/core/node-selectors/default");
    assert!(first["documentSelfLink"].is_null(), "it is kept nowhere");
    let mut queries = Queries::new("n1");
    let mut page = |link: &Value| {
        let mut effects = Effects::default();
        let token = link.as_str().unwrap().strip_prefix("/core/query-page/").unwrap();
        let purpose = Purpose::Client { ticket: 1 };
        queries.page(purpose, (token, &PageWish::default()), scope(), &mut effects);
        played(&mut queries, &mut effects).1
    };
    let (mut link, mut pages) = (results["nextPageLink"].clone(), Vec::new());
    while !link.is_null() {
        let found = page(&link);
        assert_eq!(found["querySpec"]["options"], json!(["EXPAND_CONTENT", "SORT"]));
        assert_eq!(found["querySpec"]["resultLimit"], 1);
        assert_eq!((&found["documentOwner"], &found["documentSelfLink"]), (&json!("n1"), &link));
        assert_eq!(found["results"]["documentOwner"], "n1");
        assert!(found["results"]["documents"].is_object(), "{found}");
        link = found["results"]["nextPageLink"].clone();
        pages.push(found);
    }
    assert_eq!(pages.len(), 4);
    assert!(pages[0]["results"]["prevPageLink"].is_null());
    for number in (1..4).rev() {
        let before = page(&pages[number]["results"]["prevPageLink"]);
        let links = |page: &Value| page["results"]["documentLinks"].clone();
        assert_eq!(links(&before), links(&pages[number - 1]));
        let back = |page: &Value| page["results"]["prevPageLink"].clone();
        assert_eq!(back(&before), back(&pages[number - 1]));
    }
}

/// A link to a page says that there is something on it.
#[test]
fn a_query_that_finds_nothing_has_no_page() {
    let mut specification =
        json!({"query": of_links("/none/"), "resultLimit": 10, "options": ["EXPAND_CONTENT"]});
    let (status, answer) = asked(&specification);
    let results = &answer["results"];
    assert_eq!((status, &results["documentCount"]), (200, &json!(0)));
    assert!(results["nextPageLink"].is_null() && results["documents"] == json!({}), "{answer}");
    // What is left out at the beginning is not on it either.
    specification["query"] = of_links("/a/");
    for (offset, is_there) in [(3, true), (4, false)] {
        specification["offset"] = json!(offset);
        let link = &asked(&specification).1["results"]["nextPageLink"];
        assert_eq!(!link.is_null(), is_there, "{offset}");
    }
}

#[test]
fn a_list_says_how_many_there_are_where_that_is_known() {
    let total = |limit: Option<usize>, option: Option<QueryOption>, skip: usize| {
        let (mut queries, mut effects) = (Queries::default(), Effects::default());
        let mut specification = query::prefix_query("/a/");
        specification.result_limit = limit;
        specification.options.extend(option);
        let Form::Plain(list) = Form::list("/a") else { panic!() };
        let form = Form::Plain(List { total: Total::IfWhole, skip, ..list });
        let purpose = Purpose::Client { ticket: 1 };
        queries.query(purpose, specification, None, form, scope(), &mut effects);
        played(&mut queries, &mut effects).1["totalCount"].clone()
    };
    assert_eq!(total(None, None, 0), 4);
    assert_eq!(total(Some(4), None, 0), 4);
    for unknown in [total(Some(3), None, 0), total(None, None, 1)] {
        assert!(unknown.is_null(), "{unknown}");
    }
    assert!(total(Some(3), Some(QueryOption::TopResults), 0).is_null());
}

/// What is left out at the beginning of a list is in no link, so none leads back there.
#[test]
fn a_page_of_a_list_does_not_lead_back_to_what_was_left_out() {
    for (skip, is_there) in [(0, true), (1, false)] {
        let (mut queries, mut effects) = (Queries::default(), Effects::default());
        let mut specification = query::prefix_query("/a/");
        specification.result_limit = Some(1);
        let Form::Plain(list) = Form::list("/a") else { panic!() };
        let form = Form::Plain(List { skip, ..list });
        let purpose = || Purpose::Client { ticket: 1 };
        queries.query(purpose(), specification, None, form, scope(), &mut effects);
        let (_, first) = played(&mut queries, &mut effects);
        let token = first["nextPageLink"].as_str().unwrap();
        let token = token.strip_prefix("/core/query-page/").unwrap();
        queries.page(purpose(), (token, &PageWish::default()), scope(), &mut effects);
        let (_, second) = played(&mut queries, &mut effects);
        assert_eq!(second["prevPageLink"].is_string(), is_there, "{skip}: {second}");
    }
}

#[test]
fn a_made_up_link_of_a_list_has_no_groups() {
    let mut specification = query::prefix_query("/a/");
    specification.options.push(QueryOption::GroupBy);
    let specification = serde_json::to_string(&specification).unwrap();
    for (kind, is_page) in [(PageKind::Plain, false), (PageKind::Task, true)] {
        let token = (kind, &specification, None::<Cursor>);
        let token = protocol::base64url::encode(&postcard::to_stdvec(&token).unwrap());
        assert_eq!(parse_token(&token).is_ok(), is_page);
    }
}
