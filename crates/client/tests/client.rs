//! What a client does when nodes are gone, break connections, or ask for another attempt.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use client::{Client, ClientError};
use serde_json::json;

/// What a false node does with a request.
#[derive(Clone, Copy)]
enum Act {
    Answer(u16, &'static str),
    /// Answers, then closes the connection.
    AnswerLast(u16, &'static str),
    /// Closes the connection without an answer.
    Break,
    /// Says nothing, and keeps the connection.
    Silence,
}

/// A false node that plays its acts one after the other, then refuses to go on. Gives the requests.
fn false_node(acts: &'static [Act]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        let mut socket: Option<TcpStream> = None;
        let mut silent = Vec::new();
        for act in acts {
            let request = loop {
                let open =
                    socket.get_or_insert_with(|| listener.accept().expect("someone comes").0);
                match read_request(open) {
                    Some(request) => break request,
                    None => socket = None,
                }
            };
            sender.send(request).expect("the test waits for it");
            match *act {
                Act::Answer(status, body) => answer(socket.as_mut(), status, body),
                Act::AnswerLast(status, body) => answer(socket.take().as_mut(), status, body),
                Act::Break => socket = None,
                Act::Silence => silent.extend(socket.take()),
            }
        }
        // Until the test is over, or the silence would be an end of the connections.
        while !silent.is_empty() {
            std::thread::park();
        }
    });
    (address, requests)
}

fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).ok()?;
        text.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&text).into_owned();
    let length =
        header(&head, "content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    socket.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}

fn header(request: &str, name: &str) -> Option<String> {
    request.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

fn answer(socket: Option<&mut TcpStream>, status: u16, body: &str) {
    let length = body.len();
    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
    let socket = socket.expect("a request was read from it");
    socket.write_all(text.as_bytes()).expect("the client waits");
}

/// An address at which nobody listens.
fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("it is bound"))
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

const NO_OWNER: &str = r#"{"code":"NO_OWNER","outcome":"notApplied"}"#;

#[test]
fn a_write_is_repeated_with_the_same_key_when_the_connection_breaks() {
    let (first, first_asked) = false_node(&[Act::Break]);
    let (second, second_asked) = false_node(&[Act::Answer(200, r#"{"ok":1}"#)]);
    let client = Client::new(&[first, second]).unwrap();
    let answer = run(client.post("/core/examples?x=1", &json!({"name": "a"}))).unwrap();
    assert_eq!(answer.to_json()["ok"], 1);
    let (one, two) = (first_asked.recv().unwrap(), second_asked.recv().unwrap());
    assert!(one.starts_with("POST /core/examples?x=1 HTTP/1.1\r\n"), "{one}");
    assert!(one.ends_with(r#"{"name":"a"}"#), "{one}");
    assert!(header(&one, "idempotency-key").is_some());
    assert_eq!(header(&one, "idempotency-key"), header(&two, "idempotency-key"));
}

const PATIENCE: Duration = Duration::from_millis(400);

#[test]
fn a_no_of_one_node_does_not_hide_that_another_may_have_done_it() {
    let (first, _asked) = false_node(&[Act::Break, Act::Break, Act::Break, Act::Break]);
    let (second, _others) = false_node(&[Act::Answer(503, NO_OWNER); 100]);
    let client = Client::new(&[first, second]).unwrap().patience(PATIENCE);
    let answer = run(client.post("/core/examples", &json!({}))).unwrap().to_json();
    assert_eq!((&answer["code"], &answer["outcome"]), (&json!("NO_OWNER"), &json!("unknown")));
}

#[test]
fn an_answer_that_did_not_look_for_the_key_does_not_settle_what_became_of_it() {
    for (status, body, outcome) in [
        (403, r#"{"code":"ACCESS_DENIED","outcome":"notApplied","message":"no"}"#, "unknown"),
        (503, r#"{"code":"QUORUM_NOT_MET","outcome":"notApplied","message":"no"}"#, "unknown"),
        (422, r#"{"code":"KEY_REUSED","outcome":"notApplied","message":"no"}"#, "unknown"),
        (412, r#"{"code":"PRECONDITION_FAILED","outcome":"notApplied"}"#, "notApplied"),
    ] {
        let acts = Box::leak(Box::new([Act::Break, Act::Answer(status, body)]));
        let (node, _asked) = false_node(acts);
        let client = Client::new(&[node]).unwrap().patience(PATIENCE);
        let answer = run(client.patch("/core/examples/a", &json!({}))).unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.to_json()["outcome"], outcome, "{body}");
        let words = answer.to_json()["message"].to_string();
        assert_eq!(words.contains("may have happened"), outcome == "unknown", "{words}");
    }
}

#[test]
fn without_a_key_a_later_answer_settles_nothing() {
    const THERE: &str = r#"{"code":"ALREADY_EXISTS","outcome":"notApplied"}"#;
    let (node, asked) = false_node(&[Act::Break, Act::Answer(409, THERE)]);
    let client = Client::new(&[node]).unwrap().patience(PATIENCE);
    let answer = run(client.post("/core/immortals", &json!({"name": "a"}))).unwrap();
    assert_eq!(answer.to_json()["outcome"], "unknown");
    assert_eq!(header(&asked.recv().unwrap(), "idempotency-key"), None);
}

#[test]
fn what_concerns_one_node_is_not_asked_of_the_next_one_too() {
    let (first, _asked) = false_node(&[Act::Break]);
    let (second, others) = false_node(&[Act::Answer(200, "{}")]);
    let client = Client::new(&[first, second]).unwrap().patience(PATIENCE);
    let error = run(client.delete("/core/management")).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { outcome_unknown: true, .. }), "{error}");
    assert!(others.try_recv().is_err(), "the second node was stopped as well");
}

#[test]
fn a_node_that_accepts_and_says_nothing_is_passed_over() {
    let (silent, first_asked) = false_node(&[Act::Silence]);
    let (node, second_asked) = false_node(&[Act::Answer(200, r#"{"ok":1}"#)]);
    let client = Client::new(&[silent, node]).unwrap().patience(Duration::from_secs(2));
    assert_eq!(run(client.put("/a/b", &json!({}))).unwrap().to_json()["ok"], 1);
    let keys = [first_asked, second_asked].map(|it| header(&it.recv().unwrap(), "idempotency-key"));
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn what_a_silent_node_did_is_not_known() {
    let (silent, _asked) = false_node(&[Act::Silence; 9]);
    let client = Client::new(&[silent, dead_address()]).unwrap().patience(PATIENCE);
    let error = run(client.post("/a", &json!({}))).unwrap_err();
    assert!(error.to_string().contains("may have happened"), "{error}");
}

#[test]
fn a_path_that_is_none_is_refused_before_anything_is_sent() {
    let client = Client::new(&[dead_address()]).unwrap();
    for path in ["core/examples", "@elsewhere/a", ""] {
        let error = run(client.get(path)).unwrap_err();
        assert!(matches!(&error, ClientError::Malformed(why) if why.contains(path)), "{error}");
    }
}

#[test]
fn two_writes_have_two_keys_and_one_connection() {
    let (node, asked) = false_node(&[Act::Answer(200, "{}"), Act::Answer(200, "{}")]);
    let client = Client::new(&[node]).unwrap();
    run(async {
        client.put("/a/b", &json!({})).await.unwrap();
        client.put("/a/b", &json!({})).await.unwrap();
    });
    let keys: Vec<_> = (0..2).map(|_| header(&asked.recv().unwrap(), "idempotency-key")).collect();
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_dead_node_is_passed_over_and_the_living_one_preferred_from_then_on() {
    let (node, _asked) = false_node(&[Act::Answer(200, "{}"), Act::Answer(200, "{}")]);
    let client = Client::new(&[dead_address(), node]).unwrap();
    run(async {
        client.get("/livez").await.unwrap();
        client.get("/livez").await.unwrap();
    });
}

#[test]
fn an_idle_connection_that_the_node_closed_is_no_failure() {
    let (node, _asked) = false_node(&[Act::AnswerLast(200, "{}"), Act::Answer(200, "{}")]);
    let client = Client::new(&[node]).unwrap().without_keys();
    run(async {
        client.post("/a", &json!({})).await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        client.post("/a", &json!({})).await.unwrap();
    });
}

#[test]
fn a_node_without_an_owner_is_asked_again() {
    let (node, _asked) = false_node(&[
        Act::Answer(503, NO_OWNER),
        Act::Answer(503, NO_OWNER),
        Act::Answer(200, r#"{"ok":1}"#),
    ]);
    let client = Client::new(&[node]).unwrap();
    assert_eq!(run(client.get("/a")).unwrap().status, 200);
}

#[test]
fn a_refusal_that_another_attempt_cannot_change_is_passed_on_at_once() {
    let (node, _asked) = false_node(&[Act::Answer(503, r#"{"code":"QUORUM_NOT_MET"}"#)]);
    let client = Client::new(&[node]).unwrap();
    let begun = Instant::now();
    assert_eq!(run(client.get("/a")).unwrap().status, 503);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn when_the_patience_is_over_the_nodes_own_words_are_passed_on() {
    let acts = &[Act::Answer(503, NO_OWNER); 100];
    let (node, _asked) = false_node(acts);
    let client = Client::new(&[node]).unwrap().patience(Duration::from_millis(100));
    assert_eq!(run(client.get("/a")).unwrap().to_json()["code"], "NO_OWNER");
}

#[test]
fn without_keys_a_write_that_broke_is_not_repeated() {
    let (node, asked) = false_node(&[Act::Break, Act::Answer(200, "{}")]);
    let client = Client::new(&[node]).unwrap().without_keys();
    let error = run(client.post("/a", &json!({}))).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { outcome_unknown: true, .. }), "{error}");
    assert!(error.to_string().contains("the write may have happened"), "{error}");
    assert_eq!(header(&asked.recv().unwrap(), "idempotency-key"), None);
}

#[test]
fn a_cluster_that_is_gone_is_named_in_the_error() {
    let dead = dead_address();
    let client = Client::new(&[&dead]).unwrap().patience(Duration::from_millis(50));
    let error = run(client.get("/a")).unwrap_err();
    assert!(error.to_string().contains(&dead), "{error}");
    assert!(!error.to_string().contains("may have happened"), "{error}");
}

#[test]
fn a_client_in_a_hurry_tries_each_node_once() {
    let client = Client::new(&[dead_address(), dead_address()]).unwrap();
    let client = client.reach_within(Duration::ZERO);
    let begun = Instant::now();
    assert!(run(client.get("/a")).is_err());
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn an_address_that_is_none_is_refused() {
    assert!(Client::new(&["https://a/b"]).is_err());
    assert!(Client::new(&[""; 0]).is_err());
    for with_password in ["http://ann:hush@host:80", "http://ann:hush@host", "ann:hush@host:x"] {
        let error = Client::new(&[with_password]).err().expect("it is refused").to_string();
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn a_token_is_not_sent_in_the_clear_to_another_machine() {
    for client in [
        Client::new(&["http://192.0.2.1:8000"]).unwrap().with_token("amr_x.y"),
        Client::new(&["http://192.0.2.1:8000"]).unwrap().with_password("jane", "secret"),
    ] {
        let client = client.patience(Duration::from_millis(50)).reach_within(Duration::ZERO);
        let error = run(client.get("/a")).unwrap_err();
        assert!(
            matches!(&error, ClientError::Malformed(why) if why.contains("https://")),
            "{error}"
        );
        assert!(!error.to_string().contains("secret") && !error.to_string().contains("amr_"));
    }
    let (address, requests) = false_node(&[Act::Answer(200, "{}")]);
    run(Client::new(&[address]).unwrap().with_token("amr_x.y").get("/a")).unwrap();
    assert!(requests.recv().unwrap().contains("amr_x.y"), "on this machine nobody reads along");
}
