//! The order in which something is done that is recorded: who asks, then the record, then the deed,
//! then what became of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{
    AUDIT, AUDIT_ENDS, CAN_I, CREDENTIALS, JOIN_TOKENS, LOGIN, MADE, ROLES, TOKENS, USER_MADE,
    WHO_AM_I,
};
use hyper::StatusCode;
use protocol::query::LINK as QUERY_TASKS;
use protocol::{Bearer, Method, Principal, Request, Response, node_group};
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::fake_node::{failed, ok, run, with_node};
use crate::http_answer::Answer;
use crate::inbox::Inbox;
use crate::login::Doorkeeper;
use crate::passwords::Client;
use crate::trail::Trail;

/// Longer than the last record takes to be written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

const JANE: &str = "/core/authz/users/jane";

/// As a node answers where jane may do everything, or nothing; `None` for the deed itself.
fn usual(request: &Request, is_allowed: bool) -> Option<Response> {
    match request.path.as_str() {
        CAN_I => ok(&json!({"isAllowed": is_allowed, "as": JANE})),
        WHO_AM_I => ok(&json!({"isLoggedIn": true, "userLink": JANE})),
        AUDIT if request.method == Method::Get => ok(&json!({"documents": {}})),
        AUDIT | AUDIT_ENDS => ok(&json!({})),
        path if path.starts_with(AUDIT_ENDS) => failed(404, "notApplied"),
        _ => None,
    }
}

fn asked_for(verb: Method, path: &str, body: &str) -> Request {
    let bearer = Bearer { name: "t".into(), digest: "d".into(), is_checked: false };
    let principal = Principal::Bearer(Box::new(bearer));
    let request = Request::new(verb, path).on_behalf_of(principal);
    Request { body: body.to_owned().into(), ..request }
}

/// What was asked: how, where and with which body.
type Asked = (Method, String, Value);

/// What a client is answered, and what the node was asked meanwhile, in order.
fn ask(request: Request, answer: impl Fn(&Request) -> Option<Response>) -> (Answer, Vec<Asked>) {
    ask_until_written(request, Duration::ZERO, answer)
}

/// The same, and waits so long until all records are written: not every answer waits for its own.
fn ask_until_written(
    request: Request,
    most: Duration,
    answer: impl Fn(&Request) -> Option<Response>,
) -> (Answer, Vec<Asked>) {
    run(async {
        let inbox = Arc::new(Inbox::new(Arc::default()));
        let (trail, writing) = Trail::begin(&inbox, "n1", 1);
        let mut writing = tokio::spawn(writing);
        let keeper = Doorkeeper::new(Arc::clone(&inbox), false, None, Some(trail));
        let caller = Caller { address: None, basic: None, foreign: None };
        let work = async {
            let answer = keeper.take(request, &caller).await;
            // Without it no more records come, and the writer ends behind the last one.
            drop(keeper);
            let _has_ended = tokio::time::timeout(most, &mut writing).await;
            answer
        };
        let (answer, asked) = with_node(&inbox, answer, work).await;
        writing.abort();
        let body = |request: &Request| serde_json::from_slice(&request.body).unwrap_or_default();
        let asked = asked.iter().map(|it| (it.method, it.path.clone(), body(it))).collect();
        (answer, asked)
    })
}

fn has_reached(asked: &[Asked], verb: Method, path: &str) -> bool {
    asked.iter().any(|(method, asked, _)| *method == verb && asked == path)
}

/// The notes of what was recorded, in order.
fn notes(asked: &[Asked]) -> Vec<(String, u64)> {
    let records = asked.iter().filter(|(verb, path, _)| *verb == Method::Post && path == AUDIT);
    let note = |body: &Value| {
        (body["note"].as_str().unwrap_or_default().to_owned(), body["status"].as_u64().unwrap_or(0))
    };
    records.map(|(_, _, body)| note(body)).collect()
}

#[test]
fn who_asks_is_looked_at_before_anything_of_the_request() {
    // What is wrong with these, only one who may do it is told.
    for (path, body) in [(ROLES, "{"), (JOIN_TOKENS, r#"{"unknown":1}"#), (JOIN_TOKENS, "{}")] {
        let (answer, asked) =
            ask(asked_for(Method::Post, path, body), |request| usual(request, false));
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path} {body}");
        let said: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(said["outcome"], "notApplied");
        let message = said["message"].as_str().unwrap();
        assert!(message.contains("no role allows it"), "{path} {body}: {message}");
        assert!(!has_reached(&asked, Method::Post, path), "{path} {body}");
        assert_eq!(asked[0].1, CAN_I, "who asks comes first");
        assert!(
            notes(&asked).iter().all(|(note, _)| note != "asked"),
            "nothing was about to be done"
        );
    }
}

#[test]
fn what_cannot_be_recorded_is_not_done_and_the_answer_says_so() {
    let (answer, asked) = ask(asked_for(Method::Post, ROLES, "{}"), |request| {
        match (request.method, request.path.as_str()) {
            (Method::Post, AUDIT) => failed(503, "notApplied"),
            (Method::Post, ROLES) => ok(&json!({})),
            _ => usual(request, true),
        }
    });
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said: Value = serde_json::from_slice(answer.body()).unwrap();
    assert_eq!((&said["code"], &said["outcome"]), (&json!("BUSY"), &json!("notApplied")));
    assert!(said["message"].as_str().unwrap().contains("audit trail"), "{said}");
    assert!(!has_reached(&asked, Method::Post, ROLES), "it was done without a record");
    assert!(has_reached(&asked, Method::Post, AUDIT), "it was tried");
}

#[test]
fn the_quorum_can_be_changed_when_nothing_can_be_recorded() {
    let link = node_group::LINK;
    let (answer, asked) = ask(asked_for(Method::Patch, link, "{}"), |request| {
        match (request.method, request.path.as_str()) {
            (Method::Post, AUDIT) => failed(503, "notApplied"),
            (Method::Patch, node_group::LINK) => ok(&json!({})),
            _ => usual(request, true),
        }
    });
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(has_reached(&asked, Method::Patch, link));
}

#[test]
fn the_record_comes_before_the_deed_and_another_says_what_became_of_it() {
    for (came_to, note) in [
        (failed(503, "unknown"), "unknown"),
        (failed(503, "notApplied"), "not done"),
        (failed(409, "notApplied"), "not done"),
        (ok(&json!({})), ""),
    ] {
        let status = came_to.as_ref().unwrap().status;
        let answered = std::sync::Mutex::new(came_to);
        let made = asked_for(Method::Post, ROLES, "{}");
        let (answer, asked) = ask_until_written(made, WRITTEN_WITHIN, |request| {
            match (request.method, request.path.as_str()) {
                (Method::Post, ROLES) => answered.lock().unwrap().take(),
                _ => usual(request, true),
            }
        });
        assert_eq!(answer.status().as_u16(), status);
        let place = |verb, path: &str| {
            asked.iter().position(|(method, asked, _)| *method == verb && asked == path).unwrap()
        };
        assert!(place(Method::Post, CAN_I) < place(Method::Post, AUDIT));
        assert!(place(Method::Post, AUDIT) < place(Method::Post, ROLES));
        let expected = [("asked".to_owned(), 202), (note.to_owned(), u64::from(status))];
        assert_eq!(notes(&asked), expected);
    }
}

#[test]
fn a_program_of_another_user_of_the_machine_is_recorded_when_it_is_refused() {
    let records = run(async {
        let inbox = Arc::new(Inbox::new(Arc::default()));
        let (trail, writing) = Trail::begin(&inbox, "n1", 1);
        let writing = tokio::spawn(writing);
        let keeper = Doorkeeper::new(Arc::clone(&inbox), false, None, Some(trail));
        let work = async {
            keeper.program_refused("user 1001 of this machine", 1500).await;
            drop(keeper);
            let _has_ended = tokio::time::timeout(WRITTEN_WITHIN, writing).await;
        };
        let ((), asked) = with_node(&inbox, |request| usual(request, false), work).await;
        let body = |request: &Request| serde_json::from_slice(&request.body).unwrap_or_default();
        let records = asked.iter().filter(|it| it.method == Method::Post && it.path == AUDIT);
        records.map(body).collect::<Vec<Value>>()
    });
    let [record] = &records[..] else { panic!("{records:?}") };
    let field = |name: &str| record[name].as_str().unwrap_or_default();
    assert_eq!((field("event"), &record["status"]), ("refused", &json!(403)));
    assert_eq!((field("who"), field("address")), ("user 1001 of this machine", "127.0.0.1"));
    assert!(field("note").contains("1500") && field("link") == "/core/immortals", "{record}");
}

/// Tries to log in, one after the other, with a name and a password in Base64. Jane was made at 9,
/// and her password says that its user was made then.
fn logins(password: &str, mark: u64, basics: &[&str]) -> (Vec<u16>, Vec<Asked>) {
    let all: Vec<(&str, Option<IpAddr>)> = basics.iter().map(|basic| (*basic, None)).collect();
    logins_from(password, mark, &all)
}

/// The same, each from an address.
fn logins_from(
    password: &str,
    mark: u64,
    basics: &[(&str, Option<IpAddr>)],
) -> (Vec<u16>, Vec<Asked>) {
    run(async {
        let inbox = Arc::new(Inbox::new(Arc::default()));
        let keeper = Doorkeeper::new(Arc::clone(&inbox), false, None, None);
        let hash = keeper.passwords.hash(Client::Own, password.to_owned()).await.unwrap();
        let own = format!("{CREDENTIALS}/jane");
        let key = json!({"documentSelfLink": own, "privateKey": hash, USER_MADE: mark,
            "documentUpdateTimeMicros": 1});
        let jane = json!({"documentSelfLink": JANE, "email": "j@x", MADE: 9});
        let node = |request: &Request| match (request.method, request.path.as_str()) {
            (Method::Get, JANE) => ok(&jane),
            (Method::Post, QUERY_TASKS) => {
                let asks = String::from_utf8_lossy(&request.body).contains("j@x");
                let found = if asks { json!({JANE: jane}) } else { json!({}) };
                ok(&json!({"results": {"documents": found}}))
            }
            (Method::Get | Method::Patch, path) if path == own => ok(&key),
            (Method::Post, TOKENS) => ok(&json!({"documentExpirationTimeMicros": 5})),
            _ => failed(404, "notApplied"),
        };
        let work = async {
            let mut answers = Vec::new();
            for (basic, address) in basics {
                let basic = Some((*basic).to_owned());
                let caller = Caller { address: *address, basic, foreign: None };
                let login = Request::new(Method::Post, LOGIN).with_json(&json!({}));
                answers.push(keeper.take(login, &caller).await.status().as_u16());
            }
            answers
        };
        let (answers, asked) = with_node(&inbox, node, work).await;
        let body = |request: &Request| serde_json::from_slice(&request.body).unwrap_or_default();
        let asked = asked.iter().map(|it| (it.method, it.path.clone(), body(it))).collect();
        (answers, asked)
    })
}

const BY_NAME: &str = "amFuZTpyaWdodCBwYXNzd29yZA==";
const BY_MAIL: &str = "akB4OnJpZ2h0IHBhc3N3b3Jk";

#[test]
fn a_password_of_an_earlier_user_of_that_name_logs_nobody_in() {
    for (mark, status) in [(9, 200), (5, 401), (access::NOBODY_SO_FAR, 200)] {
        let (answers, asked) = logins("right password", mark, &[BY_NAME]);
        assert_eq!(answers, [status], "{mark}");
        // It was set when there was no jane: from now on it is this one's.
        let bound = asked.iter().find(|(verb, _, _)| *verb == Method::Patch);
        let expected = (mark == access::NOBODY_SO_FAR).then(|| json!({USER_MADE: 9}));
        assert_eq!(bound.map(|(_, _, body)| body.clone()), expected, "{mark}");
    }
}

#[test]
fn one_user_has_one_number_of_attempts_by_whatever_name() {
    let tries = [BY_NAME, BY_MAIL, BY_NAME, BY_MAIL, BY_NAME, BY_MAIL];
    let (answers, _) = logins("another password", 9, &tries);
    assert_eq!(answers, [401, 401, 401, 401, 429, 429]);
}

/// Else a stranger who sends wrong passwords for a name would have all wait who sit behind the
/// address of whoever has it.
#[test]
fn an_attempt_that_is_not_made_does_not_count_for_its_address() {
    let (stranger, shared) = (Some([192, 0, 2, 1].into()), Some([198, 51, 100, 1].into()));
    let wrong = [(BY_NAME, stranger); 4];
    let hers = [(BY_MAIL, shared); 14];
    let others = [("am9lOnBhc3N3b3Jk", shared)];
    let tries = [&wrong[..], &hers[..], &others[..]].concat();
    let (answers, _) = logins_from("another password", 9, &tries);
    assert_eq!(answers[..4], [401; 4]);
    assert_eq!(answers[4..18], [429; 14], "her name waits");
    assert_eq!(answers[18..], [401], "there is no joe, and he need not wait");
}
