//! Tables for query tasks and their pages, and for queries that are said in the path alone.

use super::tables::check;
use super::world::{World, request};

#[test]
fn queries() {
    let world = World::new();
    let query = r#""querySpec":{"query":{"term":{"propertyName":"name","matchValue":"a"}}}"#;
    let with = |fields: &str| format!("{{{query}{fields}}}");
    let direct = with(r#","taskInfo":{"isDirect":true}"#);
    let info = |more: &str| with(&format!(r#","taskInfo":{{"isDirect":true{more}}}"#));
    let asked = |field: &str| with(&format!(r#","taskInfo":{{"isDirect":true}},{field}"#));
    let expires = r#""documentExpirationTimeMicros":"abc""#;
    let limit = r#"{"querySpec":{"resultLimit":2147483647,"query":{"term":{"propertyName":"name",
        "matchValue":"a"}}},"taskInfo":{"isDirect":true}}"#;
    check(
        &world,
        &[
            ("POST /core/query-tasks", &direct, "query limit=None as a task"),
            ("POST /core/local-query-tasks", &direct, "query limit=None as a task"),
            ("POST /core/query-tasks", limit, "query limit=None as a task"),
            ("POST /core/query-tasks", &with(""), "ask POST /core/query-tasks/60a2"),
            (
                "POST /core/query-tasks",
                &with(r#","taskInfo":{"isDirect":"true"}"#),
                "query limit=None as a task",
            ),
            ("POST /core/query-tasks", &with(r#","taskInfo":{"isDirect":"false"}"#), "ask POST"),
            ("GET /core/local-query-tasks/q", "", "ask GET /core/query-tasks/q"),
            ("GET /core/query-tasks", "", "query limit=None as a list"),
            (
                "POST /core/query-tasks",
                r#"{"querySpec":{"quer":{}}}"#,
                "400 .. did you mean 'query'?",
            ),
            (
                "POST /core/query-tasks",
                &with(r#","bogus":1"#),
                "400 a query task has no field 'bogus'",
            ),
            ("POST /core/query-tasks", &info(r#","foo":1"#), "400 taskInfo has no field 'foo'"),
            ("POST /core/query-tasks", &info(r#","stage":"FINISHED""#), "400 a new task is"),
            ("POST /core/query-tasks", &info(r#","stage":"CREATED""#), "query limit=None"),
            ("POST /core/query-tasks", &asked(r#""kind":"foo""#), "400 .. kind 'foo'"),
            ("POST /core/query-tasks", &asked(r#""documentKind":"bar""#), "400 .. 'bar'"),
            ("POST /core/query-tasks", &asked(expires), "400 'documentExpirationTimeMicros' must"),
            ("POST /core/query-tasks", &asked(r#""documentSelfLink":"/a/b""#), "400 documentSelf"),
            ("POST /core/query-tasks", &asked(r#""documentVersion":3"#), "400"),
            ("POST /core/query-tasks", &asked(r#""results":{}"#), "400 .. results"),
            ("DELETE /core/query-page/abc", "", "404 no such page"),
            ("GET /core/query-page/abc", "", "page abc expand=false"),
            ("GET /core/query-page/abc?expand", "", "page abc expand=true"),
            ("GET /core/query-page/abc?$limit=3&$select=a&$count", "", "page abc expand=false"),
            ("GET /core/query-page/abc?$limit=none", "", "400 $limit is 'none'"),
            (
                "GET /core/query-page/abc?$top=3",
                "",
                "400 .. no parameter 'top'; it takes expand, limit, select, count",
            ),
            ("POST /core/query-page/abc", "{}", "405"),
        ],
    );
}

/// For whom, over what and like which other one a query is asked.
#[test]
fn query_tasks_say_where_and_for_whom() {
    let query = r#""querySpec":{"query":{"term":{"propertyName":"name","matchValue":"a"}}}"#;
    let with = |fields: &str| format!("{{{query}{fields}}}");
    let expected = r#"{"taskInfo":{"isDirect":true},"querySpec":{"expectedResultCount":2,
        "query":{"term":{"propertyName":"name","matchValue":"a"}}}}"#;
    check(
        &World::new(),
        &[
            ("POST /core/query-tasks", &with(r#","tenantLinks":["/t"]"#), "ask POST"),
            ("POST /core/query-tasks", &with(r#","tenantLinks":"/t""#), "400 tenantLinks is"),
            ("POST /core/query-tasks", &with(r#","tenantLinks":[]"#), "ask POST"),
            (
                "POST /core/query-tasks",
                &with(r#","nodeSelectorLink":"/core/node-selectors/default-3x""#),
                "ask POST",
            ),
            ("POST /core/query-tasks", &with(r#","nodeSelectorLink":"/x""#), "400 nodeSelector"),
            ("POST /core/query-tasks", &with(r#","indexLink":"/other""#), "400 indexLink is"),
            (
                "POST /core/query-tasks",
                &with(r#","documentSourceLink":"/core/query-tasks/q""#),
                "400 querySpec is there, and documentSourceLink",
            ),
            (
                "POST /core/query-tasks",
                r#"{"documentSourceLink":"/core/things/q"}"#,
                "400 documentSourceLink is",
            ),
            (
                "POST /core/query-tasks",
                r#"{"documentSourceLink":"/core/local-query-tasks/q","documentSelfLink":"r"}"#,
                r#"copy of /core/query-tasks/q: {"documentSelfLink":"r"}"#,
            ),
            ("POST /core/query-tasks", expected, "ask POST /core/query-tasks/60a2"),
        ],
    );
}

#[test]
fn queries_without_a_body() {
    let world = World::new();
    let odata = |rest: &str| format!("GET /core/odata-queries{rest}");
    let index = |rest: &str| format!("GET /core/document-index{rest}");
    check(
        &world,
        &[
            (&odata("?$filter=name%20eq%20a"), "", "query limit=None as a task"),
            (
                &odata("?$filter=name%20eq%20a&$limit=5&$skip=1"),
                "",
                "query limit=Some(5) as a task",
            ),
            (&odata(""), "", "400 .. needs a $filter"),
            (&odata("?$filter=name"), "", "400 $filter is wrong"),
            (&odata("?$filter=a%20eq%201&$count=true&$limit=1"), "", "400 $count with $limit"),
            (&odata("?$filter=a%20eq%201&$tenantLinks=/t"), "", "query limit=None as a task"),
            (&odata("?$filter=a%20eq%201&$tenantLinks=t"), "", "400 $tenantLinks is"),
            (&odata("?$filter=a%20eq%201&asOf=1800000000000000"), "", "400 .. nobody knows"),
            ("POST /core/odata-queries", "{}", "405"),
            (&index("?documentSelfLink=/core/things/a"), "", "ask GET /core/things/a"),
            (
                &index("?documentSelfLink=/core/things/a&documentVersion=3"),
                "",
                "ask GET /core/things/a?documentVersion=3",
            ),
            (&index("?documentSelfLink=/core/things*&$expand"), "", "query limit=None as a list"),
            (
                &index("?documentSelfLink=/core/things/*&includeDeleted&capability=PERSISTENCE"),
                "",
                "query limit=None as a list",
            ),
            (&index(""), "", "400 .. needs documentSelfLink"),
            (&index("?documentSelfLink=/core/things"), "", "400 /core/things is a factory"),
            (&index("?documentSelfLink=/core/nothing/a"), "", "404"),
            (
                &index("?documentSelfLink=/core/things/a/actions/add"),
                "",
                "400 /core/things/a/actions/add is no document: it is an action",
            ),
            (&index("?documentSelfLink=/core/things/config"), "", "400 .. is no document"),
            (&index("?documentSelfLink=/core/things/a/subscriptions"), "", "400 .. is no document"),
            (&index("?documentSelfLink=/core/things/a&capability=X"), "", "400 capability is 'X'"),
            (
                &index("?documentSelfLink=/core/things/a&includeDeleted"),
                "",
                "query limit=None as one document",
            ),
            (
                &index("?documentSelfLink=/core/things/a&documentVersion=3&includeDeleted"),
                "",
                "ask GET /core/things/a?documentVersion=3",
            ),
            (
                &index("?documentSelfLink=/core/things/a&expand&capability=NONE"),
                "",
                "ask GET /core/things/a",
            ),
            (
                &index("?documentSelfLink=/core/things/a&capability=IMMUTABLE"),
                "",
                "ask GET /core/things/a",
            ),
            (
                &index("?documentSelfLink=/core/things*&documentVersion=1"),
                "",
                "400 documentVersion is of one document",
            ),
            ("DELETE /core/document-index", "", "405"),
        ],
    );
}

/// A client may say that it waits, where there is nothing to wait for, and delete a page that it
/// has read.
#[test]
fn pages_and_what_has_no_body_wait_for_nothing() {
    let world = World::new();
    let token = {
        let specification = serde_json::to_string(&query::prefix_query("/a/")).unwrap();
        let token = (true, specification, None::<query::Cursor>);
        protocol::base64url::encode(&postcard::to_stdvec(&token).unwrap())
    };
    let direct = r#"{"taskInfo":{"isDirect":true},"querySpec":{"query":{"term":
        {"propertyName":"a","matchValue":"x"}}}}"#;
    let page = format!("/core/query-page/{token}");
    for (line, body) in [
        (format!("GET {page}"), ""),
        ("POST /core/query-tasks".into(), direct),
        ("GET /core/odata-queries?$filter=a%20eq%201".into(), ""),
        ("GET /core/document-index?documentSelfLink=/core/things/a".into(), ""),
    ] {
        let mut request = request(&line, body);
        request.pragmas = vec!["xn-queue".into()];
        let planned = world.plan_of(request);
        assert!(planned.is_ok(), "{line}: {}", planned.err().unwrap().message);
    }
    check(&world, &[(&format!("DELETE {page}"), "", "nothing")]);
}

/// A link that was made up may name a time that is still to come.
#[test]
fn no_page_is_of_what_will_be() {
    let mut specification = query::prefix_query("/a/");
    specification.as_of(protocol::Moment(1_800_000_000_000_000));
    let token = (true, serde_json::to_string(&specification).unwrap(), None::<query::Cursor>);
    let token = protocol::base64url::encode(&postcard::to_stdvec(&token).unwrap());
    check(
        &World::new(),
        &[(&format!("GET /core/query-page/{token}"), "", "400 .. nobody knows what will be")],
    );
}
