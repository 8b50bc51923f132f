//! A table for each resource: the request that comes in, and the plan or the refusal that comes
//! out.

use cluster::{
    DirectoryAnswer, DirectoryCommand, InstanceCommand, InstanceOptions, InstanceReplica,
};
use group::Reply;
use protocol::ReplicaId;

use super::Plan;
use super::world::{World, request};
use crate::frame::{Answer, Question};
use crate::pages::{Form, Total};
use crate::replies::directory_answer;

/// A plan in a few words.
pub(super) fn shown(plan: &Plan) -> String {
    match plan {
        Plan::Respond(response) => {
            format!("{} {}", response.status, String::from_utf8_lossy(&response.body))
        }
        Plan::Copy { look, make } => {
            format!("copy of {}: {}", look.path, String::from_utf8_lossy(&make.body))
        }
        Plan::Nothing => "nothing".into(),
        Plan::Enter(request) => format!("enter {}", request.path),
        Plan::Broadcast(request, _) => format!("broadcast {}", request.path),
        Plan::Ask(_, Question::Rest(request)) => {
            let query = if request.query.is_empty() { "" } else { "?" };
            format!("ask {} {}{query}{}", request.method.name(), request.path, request.query)
        }
        Plan::Ask(_, question) => format!("ask {question:?}"),
        Plan::Change(command) => format!("change {command:?}"),
        Plan::Level(request, problem) => {
            format!("level {}, or {} {}", request.path, problem.status(), problem.message)
        }
        Plan::Query(specification, form) => {
            format!("query limit={:?} {}", specification.result_limit, shape(form))
        }
        Plan::Counted(specification, form) => {
            format!("count, then query limit={:?} {}", specification.result_limit, shape(form))
        }
        Plan::Batch(batch) => {
            let parts = batch.atoms.iter().map(|part| format!("{:?}", part.places));
            format!("batch of {}: {}", batch.count, parts.collect::<Vec<_>>().join(" "))
        }
        Plan::Page { token, wish } => format!("page {token} expand={}", wish.expand),
        Plan::Stats(request) => format!("stats {}", request.path),
        Plan::Available => "available".into(),
        Plan::Explain(known) => format!("explain, asking {:?}", known.ask),
        Plan::Record(group, page) => format!("record {group} {page:?}"),
        Plan::Watch(watch) => {
            let (since, wait) = (watch.after.is_some(), watch.wait_micros);
            format!("watch {} since={since} wait={wait} before={}", watch.prefix, watch.with_before)
        }
        Plan::Subscribe { look, make } => {
            let look = look.as_ref().map_or("nothing", |look| &look.path);
            format!("subscribe after {look}: {}", String::from_utf8_lossy(&make.body))
        }
        Plan::Undefine { count, delete } => {
            format!("count {}?{}, then delete {}", count.path, count.query, delete.path)
        }
        Plan::Seek(request, factories) => {
            format!("seek {} for {}", factories.join(" or "), request.path)
        }
        Plan::Backup(wish) => format!("backup {wish:?}"),
        Plan::Survey => "survey".into(),
        Plan::Release(group) => format!("release {group}"),
        Plan::Join(contact) => format!("join {contact}"),
        Plan::Stop => "stop".into(),
    }
}

fn shape(form: &Form) -> &'static str {
    match form {
        Form::Task(_) => "as a task",
        Form::TaskPage { .. } => "as a page of a task",
        Form::Sql(_) => "as rows",
        Form::Groups { .. } => "as groups",
        Form::Linked(_) => "with what its links lead to",
        Form::Plain(list) if list.total == Total::IfWhole => "as a list with its number",
        Form::Plain(_) => "as a list",
        Form::Document { .. } => "as one document",
        Form::FirstPage { .. } => "as a first page",
        Form::Subscribers { .. } => "as a list of subscribers",
    }
}

/// Each row has a request, its body, and what the plan must contain, or what the refusal must
/// contain after its status.
pub(super) fn check(world: &World, table: &[(&str, &str, &str)]) {
    for (line, body, expected) in table {
        let found = match world.plan(line, body) {
            Ok(plan) => shown(&plan),
            Err(problem) => {
                let is_write = !line.starts_with("GET");
                assert_eq!(problem.outcome.is_some(), is_write, "{line}: {problem}");
                format!("{} {}", problem.status(), problem.message)
            }
        };
        let mut parts = expected.split(" .. ");
        let start = parts.next().unwrap_or_default();
        assert!(found.starts_with(start), "{line} {body}\n  wanted {expected}\n  found {found}");
        for part in parts {
            assert!(found.contains(part), "{line} {body}\n  wanted {expected}\n  found {found}");
        }
    }
}

/// An instance on all three nodes.
fn registered() -> DirectoryCommand {
    let replica = |number: u64| InstanceReplica {
        node: format!("n{}", number + 1),
        number,
        receive_port: None,
        send_port: None,
        upgrade_version: None,
    };
    DirectoryCommand::Instance(InstanceCommand::Register {
        name: "counter".into(),
        founders: (1..=3).map(ReplicaId).collect(),
        replicas: (0..3).map(replica).collect(),
        options: InstanceOptions::default(),
    })
}

pub(super) fn with_an_instance() -> World {
    let mut world = World::new();
    world.apply(registered());
    world
}

#[test]
fn a_change_is_answered_with_what_was_changed() {
    let mut world = with_an_instance();
    let quorum = || DirectoryCommand::SetQuorum { quorum: 3 };
    for (command, expected) in [
        (registered(), r#""documentSelfLink":"/core/immortals/counter""#),
        (quorum(), r#""membershipQuorum":3"#),
        (quorum(), r#""membershipQuorum":3"#),
    ] {
        let done = DirectoryAnswer::Done(world.apply(command.clone()));
        let answer = directory_answer(Reply::Answer(done), &world.view());
        let Answer::Changed { response, .. } = answer else { panic!("{command:?}: {answer:?}") };
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert!(body.contains(expected), "{command:?}: {body}");
    }
}

#[test]
fn the_root() {
    let world = World::new();
    check(
        &world,
        &[
            ("GET /", "", "200 .. /core/things .. /core/immortals"),
            ("GET /?includes=ALL", "", "400 / takes no parameters, and so no 'includes'"),
            ("POST /", "{}", "405 / does not take POST; it takes GET"),
            ("GET /core/nothing", "", "404 there is no service at /core/nothing"),
            ("POST /core", "{}", "404 there is no service at /core"),
        ],
    );
}

#[test]
fn a_factory() {
    let world = World::new();
    check(
        &world,
        &[
            ("GET /core/things", "", "query limit=None as a list"),
            ("GET /core/things/", "", "query limit=None as a list"),
            ("GET /core/things?$limit=3&expand", "", "query limit=Some(3) as a list"),
            ("GET /core/things?$limit=2147483647", "", "query limit=None as a list"),
            ("GET /core/things?$limit=3&$count=true", "", "count, then query limit=Some(3)"),
            ("GET /core/things?$count=true", "", "query limit=None as a list with its number"),
            ("GET /core/things?$filter=name eq 'a'", "", "query limit=None as a list with its"),
            ("GET /core/things?$orderby=name", "", "query limit=None as a list with its number"),
            ("GET /core/things?$top=3", "", "query limit=Some(3) as a list with its number"),
            ("GET /core/things?$skip=3", "", "query limit=None as a list with its number"),
            ("GET /core/things?expand", "", "query limit=None as a list"),
            ("GET /core/things?asOf=1", "", "query limit=None as a list"),
            ("GET /core/things?asOf=1&$limit=3&$count=true", "", "count, then query limit=Some(3)"),
            ("GET /core/things?asOf=v1", "", "400 asOf is 'v1'"),
            ("GET /core/things?asOf=1800000000000000", "", "400 .. nobody knows what will be"),
            ("GET /core/things?asOf=1&watch=true", "", "400 .. no parameter 'asOf'"),
            (
                "GET /core/things?top=1&$top=2",
                "",
                "400 the parameter 'top' is there more than once",
            ),
            (
                "GET /core/things?$filters=a",
                "",
                "400 /core/things has no parameter 'filters'; it takes",
            ),
            ("GET /core/things?consistency=local", "", "400 .. 'consistency'"),
            ("GET /core/things?$filter=%ff", "", "400 .. UTF-8"),
            ("GET /core/things", "{}", "400 GET /core/things takes no body"),
            ("POST /core/things", r#"{"documentSelfLink":"a"}"#, "ask POST /core/things/a"),
            (
                "POST /core/things",
                r#"{"documentSelfLink":"/core/things/a"}"#,
                "ask POST /core/things/a",
            ),
            ("POST /core/things", "{}", "ask POST /core/things/60a24181e4000-1-1-7"),
            ("POST /core/things", r#"{"documentSelfLink":"a/b"}"#, "400 documentSelfLink 'a/b'"),
            (
                "POST /core/things",
                r#"{"documentSelfLink":"stats"}"#,
                "400 documentSelfLink 'stats'",
            ),
            ("POST /core/things", r#"{"documentSelfLink":"é?"}"#, "400 the link"),
            ("POST /core/things", r#"{"documentSelfLink":7}"#, "400 documentSelfLink must be"),
            ("POST /core/things", "[]", "400 the body must be a JSON object"),
            ("POST /core/things", "", "400 a body is needed"),
            ("POST /core/things?x=1", "{}", "400 /core/things takes no parameters, and so no 'x'"),
            ("PUT /core/things", "{}", "405 /core/things does not take PUT; it takes GET, POST"),
            ("DELETE /core/things", "", "405 .. it takes GET, POST"),
        ],
    );
}

#[test]
fn the_utilities_of_a_factory_and_of_a_document() {
    let world = World::new();
    check(
        &world,
        &[
            ("GET /core/things/available", "", "available"),
            ("GET /core/things/stats", "", "stats /core/things/stats"),
            ("GET /core/things/template", "", "200 .. documentDescription"),
            ("GET /core/things/config", "", "200 .. versionRetentionLimit"),
            ("GET /core/things/one/stats", "", "ask GET /core/things/one/stats"),
            ("GET /core/things/one/config", "", "ask GET /core/things/one/config"),
            ("GET /core/things/one/template?x", "", "400 .. no 'x'"),
            ("PATCH /core/things/config", "{}", "400 the kind of a change of the configuration"),
            (
                "PATCH /core/things/config",
                r#"{"kind":"a:ServiceConfigUpdateRequest","addOptions":["INSTRUMENTATION"]}"#,
                "200 .. versionRetentionLimit",
            ),
            (
                "PATCH /core/things/one/config",
                r#"{"kind":"a:ServiceConfigUpdateRequest","addOptions":["PERSISTENCE"],
                    "removeOptions":["IMMUTABLE"],"versionRetentionLimit":1000}"#,
                "ask GET /core/things/one/config",
            ),
            (
                "PATCH /core/things/one/config",
                r#"{"kind":"a:ServiceConfigUpdateRequest","addOptions":["IMMUTABLE"]}"#,
                r#"409 addOptions has "IMMUTABLE""#,
            ),
            (
                "PATCH /core/things/config",
                r#"{"kind":"a:ServiceConfigUpdateRequest","removeOptions":["REPLICATION"]}"#,
                r#"409 removeOptions has "REPLICATION""#,
            ),
            (
                "PATCH /core/things/config",
                r#"{"kind":"a:ServiceConfigUpdateRequest","maintenanceIntervalMicros":5}"#,
                "409 maintenanceIntervalMicros is 5",
            ),
            ("PUT /core/things/config", "{}", "405 .. it takes GET, PATCH"),
            ("DELETE /core/things/one/stats", "", "405"),
            ("GET /core/nothing/one/stats", "", "404"),
        ],
    );
}

#[test]
fn a_document() {
    let world = World::new();
    check(
        &world,
        &[
            ("GET /core/things/one", "", "ask GET /core/things/one"),
            ("GET /core/things/one?documentVersion=2", "", "ask GET /core/things/one?documentV"),
            ("GET /core/things/one?consistency=local", "", "404 .. not known to this replica"),
            (
                "GET /core/things/one?consistency=local&documentVersion=0",
                "",
                "404 .. not known to this replica",
            ),
            ("GET /core/things/one?consistency=maybe", "", "400 'consistency' is linearizable or"),
            ("GET /core/things/one?consistency=linearizable", "", "ask GET"),
            (
                "GET /core/things/one?bogus=1",
                "",
                "400 .. no parameter 'bogus'; it takes documentVersion",
            ),
            (
                "GET /core/things/one?documentVersion=1&documentVersion=2",
                "",
                "400 .. more than once",
            ),
            ("GET /core/things/one?asOf=v3", "", "ask GET /core/things/one?documentVersion=3"),
            (
                "GET /core/things/one?asOf=2023-01-01T00:00:00%2B01:00",
                "",
                "ask GET /core/things/one?asOf=2023",
            ),
            ("GET /core/things/one?asOf=1700000000000000", "", "ask GET /core/things/one?asOf=17"),
            ("GET /core/things/one?asOf=1700000001000001", "", "400 asOf is 2023-11-14T22:13:21"),
            ("GET /core/things/one?asOf=vx", "", "400 asOf is 'vx'; write a time"),
            ("GET /core/things/one?asOf=1&diff=1", "", "400 asOf and diff name two"),
            ("GET /core/things/one?documentVersion=1&asOf=1", "", "400 documentVersion and asOf"),
            ("GET /core/things/one?asOf=1&consistency=local", "", "400 'asOf' is answered by the"),
            ("GET /core/things/one?asOf=1&watch=true", "", "400 .. no parameter 'asOf'"),
            ("GET /core/things/one?diff=1,2", "", "ask GET /core/things/one?diff=1,2"),
            ("GET /core/things/one?diff=1,2,3", "", "400 diff is '1,2,3'"),
            ("GET /core/things/one?diff=a", "", "400 diff is 'a'"),
            ("PUT /core/things/one?revert=3", "", "ask PUT /core/things/one?revert=3"),
            ("PUT /core/things/one?revert=x", "", "400 revert is 'x'"),
            ("PUT /core/things/one?revert=3", "{}", "400 revert says what the document is to be"),
            ("PATCH /core/things/one?revert=3", "{}", "400 .. no 'revert'"),
            ("GET /core/things/one?revert=3", "", "400 .. no parameter 'revert'"),
            ("PUT /core/things/one", "{}", "ask PUT /core/things/one"),
            ("PATCH /core/things/one", "{}", "ask PATCH /core/things/one"),
            ("PATCH /core/things/one?documentVersion=1", "{}", "400 .. no 'documentVersion'"),
            ("DELETE /core/things/one", "", "ask DELETE /core/things/one"),
            ("POST /core/things/one", "{}", "405 .. it takes GET, PUT, PATCH, DELETE"),
            ("PUT /core/fixed/one", "{}", "405 .. it takes GET, DELETE"),
            ("PATCH /core/fixed/one", "{}", "405 .. it takes GET, DELETE"),
            ("PUT /core/walks/one", "{}", "405 .. it takes GET, PATCH, DELETE"),
            ("GET /core/things/a b", "", "400 the link"),
            ("GET /core/things/one/deeper", "", "404 there is no service"),
        ],
    );
}

#[test]
fn definitions() {
    let world = World::new();
    let path = "POST /core/factories";
    check(
        &world,
        &[
            (path, r#"{"link": "/app/seats"}"#, "ask POST /core/factories/app:seats"),
            (path, "{}", "400 link is required"),
            (
                path,
                r#"{"link": "/core/things/x"}"#,
                "409 .. a document of the factory /core/things",
            ),
            (path, r#"{"link": "/core"}"#, "409 .. is a factory already"),
            (
                path,
                r#"{"link": "/app/x", "kind": "amrita:KindState"}"#,
                "409 .. choose another kind",
            ),
            ("GET /app/seats/A1", "", "seek /app/seats or /app/seats/A1 for /app/seats/A1"),
            ("POST /app/seats", "{}", "seek /app/seats or /app for /app/seats"),
            ("PATCH /app/seats/A1", "{}", "seek /app/seats for /app/seats/A1"),
            ("GET /core/seats/A1", "", "404 there is no service"),
        ],
    );
}

#[test]
fn changes() {
    let of = |option: &str, more: &str| {
        let query = r#""query":{"term":{"propertyName":"a","matchValue":"x"}}"#;
        format!(r#"GET /core/changes?querySpec={{"options":["{option}"],{query}{more}}}"#)
    };
    let world = World::new();
    check(
        &world,
        &[
            ("GET /core/things?watch=true", "", "watch /core/things/ since=false wait=20000000"),
            (
                "GET /core/things?watch&$filter=counter%20gt%205&wait=0&before=true",
                "",
                "watch /core/things/ since=false wait=0 before=true",
            ),
            ("GET /core/things/a?watch=true", "", "watch /core/things/a since=false"),
            ("GET /core/things?watch=false", "", "400 watch is true or not there"),
            ("GET /core/changes", "", "watch / since=false"),
            ("GET /core/changes?prefix=/core/t", "", "watch /core/t since=false"),
            (&of("EXPAND_CONTENT", ""), "", "watch / since=false"),
            (&of("COUNT", ""), "", r#"400 querySpec has the option "COUNT""#),
            (
                &of("EXPAND_CONTENT", r#","resultLimit":3"#),
                "",
                "400 querySpec of a watch has a query and nothing else",
            ),
            ("GET /core/changes?querySpec=7", "", "400 querySpec must be a JSON object"),
            ("GET /core/changes?prefix=core", "", "400 prefix is 'core'; links begin with '/'"),
            ("GET /core/changes?watch=true", "", "400 /core/changes has no parameter 'watch'"),
            ("GET /core/things?watch=yes", "", "400 $watch is 'yes'"),
            ("GET /core/things?watch=true&$top=1", "", "400 .. has no parameter 'top'"),
            ("GET /core/things?watch=true&$orderby=a", "", "400 .. has no parameter 'orderby'"),
            ("GET /core/things?after=x", "", "400 the parameter 'after' is for watching"),
            ("GET /core/things/a?wait=1", "", "400 the parameter 'wait' is for watching"),
            ("GET /core/things/a?watch=true&$filter=a eq 1", "", "400 .. no parameter 'filter'"),
            ("GET /core/things/a?watch=true&documentVersion=1", "", "400 .. 'documentVersion'"),
            ("GET /core/things?watch=true&wait=61", "", "400 wait is '61'"),
            ("GET /core/things?watch=true&wait=-1", "", "400 wait is '-1'"),
            ("GET /core/things?watch=true&before=1", "", "400 $before is '1'"),
            ("GET /core/things?watch=true&after=x", "", "400 'after' is no token of changes"),
            ("GET /core/things?watch=true&$filter=counter", "", "400 $filter is wrong"),
            ("POST /core/changes", "{}", "405 /core/changes does not take POST; it takes GET"),
        ],
    );
}

#[test]
fn pragmas_and_headers() {
    let world = World::new();
    let with = |line: &str, change: fn(&mut protocol::Request)| {
        let mut request = request(line, if line.starts_with("P") { "{}" } else { "" });
        change(&mut request);
        world.plan_of(request).map(|plan| shown(&plan)).map_err(|problem| problem.message)
    };
    let pragma = |line: &str, name: &'static str| match name {
        "xn-queue" => with(line, |it| it.pragmas.push("xn-queue".into())),
        "xn-force-index-update" => with(line, |it| it.pragmas.push("xn-force-index-update".into())),
        "xn-no-index-update" => with(line, |it| it.pragmas.push("xn-no-index-update".into())),
        _ => with(line, |it| it.pragmas.push("xn-from-migration".into())),
    };
    for (line, name, is_known) in [
        ("POST /core/things", "xn-force-index-update", true),
        ("DELETE /core/things/one", "xn-no-index-update", true),
        ("DELETE /core/things/one", "xn-force-index-update", false),
        ("DELETE /core/factories/app:seats", "xn-force-index-update", true),
        ("GET /core/things/one", "xn-queue", true),
        ("POST /core/things", "xn-from-migration", false),
        ("PATCH /core/things/one", "xn-force-index-update", false),
        ("PUT /core/things/one", "xn-no-index-update", false),
        ("GET /core/management", "xn-queue", false),
    ] {
        let planned = pragma(line, name);
        assert_eq!(planned.is_ok(), is_known, "{line} {name}: {planned:?}");
        assert!(is_known || planned.unwrap_err().contains(&format!("'{name}'")), "{line}");
    }
    let if_match = |it: &mut protocol::Request| it.conditions.if_match = "*".parse().ok();
    let quorum = |it: &mut protocol::Request| it.quorum = "x-xenon-all".parse().ok();
    assert!(with("PATCH /core/things/one", if_match).is_ok());
    assert!(with("PATCH /core/things/one", quorum).is_ok());
    assert!(with("GET /core/things", if_match).unwrap_err().contains("If-Match"));
    assert!(with("PATCH /core/node-groups/default", if_match).unwrap_err().contains("If-Match"));
    assert!(with("POST /core/immortals", quorum).unwrap_err().contains("x-xenon-rpl-quorum"));
}

#[test]
fn a_direct_query_takes_no_headers_of_documents() {
    let world = World::new();
    let body = r#"{"querySpec":{"query":{"term":{"propertyName":"name","matchValue":"a"}}},
        "taskInfo":{"isDirect":true}}"#;
    let with = |change: fn(&mut protocol::Request)| {
        let mut request = request("POST /core/query-tasks", body);
        change(&mut request);
        world.plan_of(request).map(|plan| shown(&plan)).map_err(|problem| problem.message)
    };
    assert!(with(|_| {}).is_ok());
    assert!(with(|it| it.conditions.if_match = "*".parse().ok()).unwrap_err().contains("If-Match"));
    let if_none_match = with(|it| it.conditions.if_none_match = "*".parse().ok());
    assert!(if_none_match.unwrap_err().contains("If-None-Match"));
    let quorum = with(|it| it.quorum = "x-xenon-all".parse().ok());
    assert!(quorum.unwrap_err().contains("x-xenon-rpl-quorum"));
    let key = with(|it| it.idempotency_key = Some("k".into()));
    assert!(key.unwrap_err().contains("Idempotency-Key"));
    let of_a_task = with(|it| {
        it.idempotency_key = Some("k".into());
        let (partition, epoch) = (protocol::GroupId(1), protocol::Term(1));
        it.maker = protocol::Maker::Task(protocol::Source { partition, epoch });
    });
    assert!(of_a_task.is_ok(), "{of_a_task:?}");
}

#[test]
fn the_node_group() {
    let world = World::new();
    let quorum = |fields: &str| format!(r#"{{"kind":"UpdateQuorumRequest"{fields}}}"#);
    let join = |fields: &str| {
        let to = r#""memberGroupReference":"http://127.0.0.1:9000/core/node-groups/default""#;
        format!(r#"{{"kind":"JoinPeerRequest",{to}{fields}}}"#)
    };
    let all = r#","membershipQuorum":3,"isGroupUpdate":true,"locationQuorum":null"#;
    check(
        &world,
        &[
            ("GET /core/node-groups/default", "", r#"200 .. "n3" .. "membershipQuorum":2"#),
            ("GET /core/node-groups", "", r#"200 .. "/core/node-groups/default""#),
            ("GET /core/node-groups?expand", "", r#"200 .. "membershipQuorum":2"#),
            ("GET /core/node-groups?$expand=maybe", "", "400 $expand is 'maybe'"),
            ("GET /core/node-groups/default?x=1", "", "400 .. no 'x'"),
            ("PATCH /core/node-groups/default", &quorum(all), "change SetQuorum { quorum: 3 }"),
            ("PATCH /core/node-groups/default", &quorum(r#","membershipQuorum":4"#), "409"),
            ("PATCH /core/node-groups/default", &quorum(r#","membershipQuorum":1"#), "409"),
            (
                "PATCH /core/node-groups/default",
                &quorum(r#","membershipQuorum":3,"bogus":1"#),
                "400 .. bogus",
            ),
            (
                "PATCH /core/node-groups/default",
                &quorum(r#","membershipQuorum":3,"locationQuorum":2"#),
                "400",
            ),
            ("POST /core/node-groups/default", &quorum(all), "405"),
            ("POST /core/node-groups/default", &join(""), "join http://127.0.0.1:9000"),
            ("POST /core/node-groups/default", &join(r#","localNodeOptions":["PEER"]"#), "join"),
            ("POST /core/node-groups/default", &join(r#","localNodeOptions":["OBSERVER"]"#), "400"),
            ("POST /core/node-groups/default", &join(r#","location":"L""#), "400 .. location"),
            ("PATCH /core/node-groups/default", "{}", "400 the body needs a 'kind'"),
            ("DELETE /core/node-groups/default", "", "405"),
        ],
    );
}

#[test]
fn the_management() {
    let mut world = World::new();
    check(
        &world,
        &[
            ("GET /core/management", "", r#"200 .. "httpPort":8001 .. "id":"n1" .. "version""#),
            ("GET /core/management?x", "", "400 .. no 'x'"),
            ("DELETE /core/management", "", "stop"),
            ("PATCH /core/management", "{}", "405 .. it takes GET, DELETE"),
            ("GET /core/management/disk", "", "survey"),
            ("GET /core/management/disk?kind=a", "", "400 .. 'kind'"),
            ("DELETE /core/management/disk", "", "405 .. it takes GET"),
        ],
    );
    world.is_stopping = true;
    check(&world, &[("GET /core/management", "", "503 this node is stopping")]);
}

#[test]
fn immortals() {
    let world = with_an_instance();
    check(
        &world,
        &[
            ("GET /core/immortals", "", r#"200 {"documentCount":1"#),
            ("GET /core/immortals?expand", "", r#"200 .. "documents""#),
            ("GET /core/immortals?bogus", "", "400 .. no parameter 'bogus'; it takes expand"),
            ("POST /core/immortals", r#"{"name":"a"}"#, "change Instance(Register"),
            (
                "POST /core/immortals",
                r#"{"name":"a","bogus":1}"#,
                "400 a registration has no field 'bogus'",
            ),
            ("POST /core/immortals", r#"{"name":"a","addReplica":{}}"#, "400 .. 'addReplica'"),
            ("POST /core/immortals", r#"{"name":".."}"#, "400 an instance's name has"),
            (
                "POST /core/immortals",
                r#"{"name":"a","replicas":9}"#,
                "400 'replicas' may be 1 to 3",
            ),
            (
                "POST /core/immortals",
                r#"{"name":"a","paused":"yes"}"#,
                "400 'paused' is true or false",
            ),
            ("GET /core/immortals/counter", "", "200 .. \"name\":\"counter\""),
            ("GET /core/immortals/counter?x=1", "", "400 .. no 'x'"),
            ("GET /core/immortals/other", "", "level /core/immortals/other, or 404 .. 'other'"),
            ("DELETE /core/immortals/other", "", "level /core/immortals/other, or 404"),
            ("POST /core/immortals/other/move", "{}", "level .. or 404"),
            ("GET /core/immortals/other/recording", "", "level .. or 404"),
            (
                "POST /core/immortals",
                r#"{"name":"a","documentVersion":3}"#,
                "400 documentVersion is 3: a new instance begins at",
            ),
            (
                "POST /core/immortals",
                r#"{"name":"a","documentSourceLink":"/core/immortals/b"}"#,
                "400 an instance has no documentSourceLink",
            ),
            (
                "POST /core/immortals",
                r#"{"name":"a","documentSourceLink":0}"#,
                "400 an instance has no documentSourceLink",
            ),
            (
                "POST /core/immortals",
                r#"{"name":"a","receivePort":2000}"#,
                "400 'receivePort' and 'sendPort' go together",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"addReplica":{"node":"n2","sendPort":2001}}"#,
                "400 'receivePort' and 'sendPort' go together",
            ),
            (
                "POST /core/immortals",
                r#"{"name":"a","documentSelfLink":"/core/immortals/b"}"#,
                "400 documentSelfLink is",
            ),
            ("DELETE /core/immortals/counter", "", "400 .. confirm=counter"),
            ("DELETE /core/immortals/counter?confirm=counter", "", "change Instance(Deregister"),
            ("DELETE /core/immortals/counter?confirm=counter&x", "", "400 .. no parameter 'x'"),
            ("PUT /core/immortals/counter", "{}", "405 .. it takes GET, PATCH, DELETE"),
        ],
    );
}

#[test]
fn a_patch_of_an_instance() {
    let world = with_an_instance();
    check(
        &world,
        &[
            ("PATCH /core/immortals/counter", r#"{"paused":true}"#, "change Instance(SetOptions"),
            (
                "PATCH /core/immortals/counter",
                r#"{"name":"b"}"#,
                "400 a PATCH of an instance has no field",
            ),
            ("PATCH /core/immortals/counter", r#"{"bogus":1}"#, "400 .. 'bogus'"),
            (
                "PATCH /core/immortals/counter",
                r#"{"paused":true,"documentVersion":7}"#,
                "409 .. expected documentVersion 7, found 0",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"paused":true,"documentSelfLink":"/core/immortals/b"}"#,
                "400 documentSelfLink is",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"paused":true,"documentExpirationTimeMicros":5}"#,
                "400 an instance has no documentExpirationTimeMicros",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"paused":true,"documentVersion":0,"documentKind":"amrita:ImmortalState",
                    "documentSelfLink":"/core/immortals/counter"}"#,
                "change Instance(SetOptions",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"removeReplica":"n3","paused":true}"#,
                "400 a PATCH with removeReplica has no field 'paused'",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"addReplica":{"node":"n3","port":1}}"#,
                "400 addReplica has no field 'port'",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"addReplica":"n3"}"#,
                "400 'addReplica' is an object",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"addReplica":{"node":3}}"#,
                "400 there is no node 3",
            ),
            (
                "PATCH /core/immortals/counter",
                r#"{"removeReplica":"n3"}"#,
                "change Instance(Remove",
            ),
        ],
    );
}

#[test]
fn what_is_asked_of_an_instance() {
    let world = with_an_instance();
    let at = |verb: &str| format!("POST /core/immortals/counter/{verb}");
    check(
        &world,
        &[
            (&at("checkpoint"), "", "ask Instance(Checkpoint)"),
            (&at("checkpoint"), r#"{"now":true}"#, "400 the body of checkpoint has no fields"),
            (&at("move"), r#"{"node":"n2"}"#, "ask Instance(Move"),
            (&at("move"), r#"{"node":"n9"}"#, "400 there is no node"),
            (&at("move"), r#"{"node":"n2","force":1}"#, "400 .. 'force'"),
            (&at("skip"), r#"{"input":4}"#, "ask Instance(Skip { input: 4 })"),
            (&at("skip"), r#"{"input":4,"count":2}"#, "400 .. 'count'"),
            (&at("skip"), "{}", "400 'input' is needed"),
            (&at("release"), "", "release"),
            (&at("release"), r#"{"x":1}"#, "400 .. 'x'"),
            (&at("impulses"), r#"{"method":1,"payload":{"a":1.50}}"#, "ask Instance(Impulse"),
            (&at("impulses"), r#"{"method":1,"bogus":2}"#, "400 .. 'bogus'"),
            (&at("impulses"), r#"{"method":1,"method":2}"#, "400 .. 'method' is there twice"),
            (&at("impulses"), r#"{"method":"one"}"#, "400 'method' is a number"),
            (&at("impulses"), r#"{"method":1,"from":7}"#, "400 'from' is a text"),
            (&at("impulses?x=1"), r#"{"method":1}"#, "400 .. no 'x'"),
            (&at("nonsense"), "{}", "404 an instance has checkpoint, move"),
            ("GET /core/immortals/counter/move", "", "405 .. it takes POST"),
            ("GET /core/immortals/counter/recording", "", "409 node 'n1' has no replica"),
            ("GET /core/immortals/counter/recording?base=1", "", "400 a page of a recording"),
            ("GET /core/immortals/counter/recording?page=1", "", "400 .. no parameter 'page'"),
        ],
    );
}

#[test]
fn a_payload_is_the_text_that_was_sent() {
    let world = with_an_instance();
    for payload in
        ["117.63331139400017", "18446744073709551616", "1e400", "{\"a\":1.50 , \"b\":-0}"]
    {
        let body = format!("{{\"method\":1,\"payload\":{payload}}}");
        let planned = world.plan("POST /core/immortals/counter/impulses", &body);
        let Ok(Plan::Ask(_, Question::Instance(asked))) = planned else {
            panic!("{payload} asks no instance")
        };
        let immortals::Request::Impulse { payload: sent, .. } = asked else {
            panic!("{payload} is no impulse")
        };
        assert_eq!(&sent[..], payload.as_bytes());
    }
}

#[test]
fn what_ambrosia_asks() {
    let world = World::new();
    check(
        &world,
        &[
            ("GET /core/ambrosia/craendpointtable?$filter=x", "", r#"200 {"value":[]}"#),
            ("GET /core/ambrosia/craendpointtable?nonsense=1", "", "400 .. 'nonsense'"),
            ("GET /core/ambrosia/cra/AmbrosiaBinaries/a-a0", "", "404"),
            ("PUT /core/ambrosia/cra/AmbrosiaBinaries/a-a0", "x", "405"),
        ],
    );
}
