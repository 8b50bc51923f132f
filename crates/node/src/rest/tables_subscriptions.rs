//! A table for those who want to be told of changes.

use protocol::Principal;
use protocol::subscription::KIND;

use super::tables::check;
use super::world::{World, request};

const ONE: &str = "POST /core/things/one/subscriptions";

#[test]
fn who_is_told_of_what() {
    let outside = r#"{"reference":"http://127.0.0.1:9/x"}"#;
    let typed = format!(
        r#"{{"reference":"http://localhost/x","usePublicUri":false,"notificationLimit":null,
        "notificationCount":0,"documentVersion":0,"documentKind":"{KIND}"}}"#
    );
    let made = "subscribe after /core/things/one: .. \"subscribedLink\":\"/core/things/one\"";
    check(
        &World::new(),
        &[
            (ONE, outside, &format!("{made} .. /core/subscriptions/")),
            (ONE, &typed, made),
            (ONE, r#"{"reference":"/core/things/two","replayState":true}"#, made),
            // A node of the cluster, of which the reference means a document.
            (ONE, r#"{"reference":"http://127.0.0.1:8002/core/things/two"}"#, made),
            (
                "POST /core/things/subscriptions",
                outside,
                "subscribe after nothing: .. \"ofChildren\":true",
            ),
            (
                "POST /core/query-tasks/q/subscriptions",
                outside,
                "subscribe after /core/query-tasks/q",
            ),
            ("GET /core/things/one/subscriptions", "", "query limit=None as a list of subscribers"),
            ("DELETE /core/things/one/subscriptions", outside, "ask DELETE /core/subscriptions/"),
        ],
    );
}

#[test]
fn what_is_refused_of_a_subscription() {
    check(
        &World::new(),
        &[
            (ONE, "{}", "400 reference is required"),
            (ONE, r#"{"reference":7}"#, "400 reference is required"),
            (ONE, r#"{"reference":"http://127.0.0.1:9/","bogus":1}"#, "400 .. 'bogus'"),
            (
                ONE,
                r#"{"reference":"http://127.0.0.1:9/","notificationCount":4}"#,
                "400 .. notificationCount",
            ),
            (ONE, r#"{"reference":"http://127.0.0.1:9/","replayState":1}"#, "400 'replayState'"),
            (
                ONE,
                r#"{"reference":"http://127.0.0.1:9/","notificationLimit":0}"#,
                "400 notificationLimit",
            ),
            (ONE, r#"{"reference":"http://127.0.0.1:9/","kind":"x"}"#, "400 kind"),
            (
                ONE,
                r#"{"reference":"http://127.0.0.1:9/","documentExpirationTimeMicros":7}"#,
                "400 documentExpirationTimeMicros",
            ),
            (ONE, r#"{"reference":"http://10.0.0.1/"}"#, "403 .. --callback-allow"),
            (ONE, r#"{"reference":"http://u:p@127.0.0.1/"}"#, "400"),
            (ONE, r#"{"reference":"https://127.0.0.1/"}"#, "403 .. --callback-ca"),
            (ONE, r#"{"reference":"/core/things/one"}"#, "400 .. over and over"),
            (
                ONE,
                r#"{"reference":"http://127.0.0.1:8003/core/things/one"}"#,
                "400 .. over and over",
            ),
            (ONE, r#"{"reference":"http://127.0.0.1:8003/core/management"}"#, "400 .. no document"),
            // The own nodes under other names.
            (ONE, r#"{"reference":"http://localhost:8001/core/things/two"}"#, "400 .. the link"),
            (ONE, r#"{"reference":"http://127.0.0.2:8003/core/things/two"}"#, "400 .. the link"),
            (ONE, r#"{"reference":"/core/things"}"#, "400 .. no document"),
            (ONE, r#"{"reference":"/core/subscriptions/x"}"#, "400 .. no document"),
            (
                "POST /core/things/subscriptions",
                r#"{"reference":"/core/things/one"}"#,
                "400 .. over and over",
            ),
            ("POST /core/subscriptions/subscriptions", "{}", "403"),
            ("GET /core/subscriptions/x/subscriptions", "", "400 .. of themselves"),
            ("PATCH /core/things/one/subscriptions", "{}", "405"),
            ("POST /core/nothing/one/subscriptions", "{}", "404"),
            // Only the cluster writes them.
            ("POST /core/subscriptions", "{}", "403 .. LINK/subscriptions"),
            ("PUT /core/subscriptions/x", "{}", "403 .. LINK/subscriptions"),
            ("PATCH /core/subscriptions/x", "{}", "403 .. LINK/subscriptions"),
            ("DELETE /core/subscriptions/x", "", "ask DELETE /core/subscriptions/x"),
        ],
    );
    let own = request("PATCH /core/subscriptions/x", "{}").on_behalf_of(Principal::System);
    assert!(super::plan(own, 1, &World::new().view()).is_ok());
}

#[test]
fn who_is_told_needs_rights_to_what_is_told_and_to_whom() {
    let world = World::with_logins();
    let refusal = |user: &str, line: &str, reference: &str| {
        let principal = Principal::User(format!("{}/{user}", access::USERS).into());
        let body = format!(r#"{{"reference":"{reference}"}}"#);
        let planned = world.plan_of(request(line, &body).on_behalf_of(principal));
        planned.err().map(|problem| (problem.status(), problem.message))
    };
    let factory = "POST /core/things/subscriptions";
    for (user, line, reference, words) in [
        ("nora", factory, "/core/walks/one", "GET /core/things:"),
        ("nora", ONE, "/core/walks/one", "the right to change it"),
        ("rita", factory, "/core/walks/one", "the right to change it"),
        ("rita", factory, "http://127.0.0.1:9/x", "the right to POST"),
    ] {
        let (status, why) = refusal(user, line, reference).expect(words);
        assert!(status == 403 && why.contains(words), "{user} {line} {reference}: {why}");
    }
    assert_eq!(refusal("anna", factory, "/core/walks/one"), None);
    assert_eq!(refusal("anna", factory, "http://127.0.0.1:9/x"), None);
}

#[test]
fn a_query_that_goes_on_has_no_direct_answer() {
    let asked = |options: &str, more: &str| {
        format!(
            r#"{{"querySpec":{{"options":["{options}"],
            "query":{{"term":{{"propertyName":"name","matchValue":"x"}}}}}}{more}}}"#
        )
    };
    let direct = r#","taskInfo":{"isDirect":true}"#;
    check(
        &World::new(),
        &[
            ("POST /core/query-tasks", &asked("CONTINUOUS", ""), "ask POST /core/query-tasks/"),
            (
                "POST /core/query-tasks",
                &asked("CONTINUOUS_STOP_MATCH", ""),
                "ask POST /core/query-tasks/",
            ),
            ("POST /core/query-tasks", &asked("CONTINUOUS", direct), "400 .. CONTINUOUS"),
            ("POST /core/query-tasks", &asked("CONTINUOUSLY", ""), "400 .. CONTINUOUSLY"),
            (
                "POST /core/query-tasks",
                &asked(r#"CONTINUOUS","GROUP_BY"#, ""),
                "400 options have CONTINUOUS and GROUP_BY",
            ),
            (
                "POST /core/query-tasks",
                &asked(r#"CONTINUOUS","SELECT_LINKS"#, ""),
                "400 options have CONTINUOUS and SELECT_LINKS",
            ),
        ],
    );
}

/// Nearly all of Xenon's programs ask for the state of a query that they subscribe to.
#[test]
fn what_a_query_has_found_is_replayed() {
    use crate::work::{Effects, Purpose, Work};

    let world = World::new();
    let line = "POST /core/query-tasks/q/subscriptions";
    let body = r#"{"reference":"http://127.0.0.1:9/x","replayState":true}"#;
    let Ok(super::Plan::Subscribe { look: Some(look), make }) = world.plan(line, body) else {
        panic!("the task is looked at first")
    };
    assert_eq!(look.path, "/core/query-tasks/q");
    let task = serde_json::json!({"documentSelfLink": look.path, "taskInfo": {"stage": "STARTED"},
        "querySpec": {"options": ["CONTINUOUS"], "query": {}}});
    let mut effects = Effects::default();
    let waiting = (Purpose::Client { ticket: 1 }, *make);
    super::subscriptions::seen(waiting, protocol::Response::json(200, &task), &mut effects);
    let Some(Work::Enter(_, made)) = effects.work.pop_front() else { panic!("it is made") };
    let made: serde_json::Value = serde_json::from_slice(&made.body).unwrap();
    assert_eq!((&made["replayState"], &made["querySpec"]), (&true.into(), &task["querySpec"]));
}
