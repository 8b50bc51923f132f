//! Clients that take no answers, or ask for too much, hold up nobody but themselves: real sockets,
//! HTTP/2 by hand. Everything stays on 127.0.0.1.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use protocol::base64url;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use server::{Config, Host, Security};
use services::{Catalogue, Service, Spec};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an answer may stay untaken, and how long the connection may take for its end: 30 s and
/// one, and some more as the machine may be busy. A ping that nobody answers ends it at 50.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(42);

/// The most requests of one connection that are under way.
const STREAMS: u32 = 127;

/// A kind of which the documents are as long as one likes.
struct Blob;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct BlobState {
    text: String,
}

impl Service for Blob {
    type State = BlobState;

    fn spec(&self) -> Spec {
        Spec::new("/core/blobs", "test:Blob")
    }
}

/// A node where everybody must log in, and the token of its first admin.
fn start(folder: &TempDir) -> (Host, String) {
    let sandbox = folder.path().join("s");
    let security = Security { auth: true, ..Security::default() };
    let config = Config { port: 0, sandbox: Some(sandbox.clone()), security, ..Config::default() };
    let host = Host::start(config, Catalogue::new().with(Blob)).expect("it starts");
    let password = wait_for("the first admin", || first_password(&sandbox));
    let token = wait_for("the first login", || log_in(&host, "admin", &password));
    (host, token)
}

fn first_password(sandbox: &Path) -> Option<String> {
    let text = std::fs::read_to_string(sandbox.join("first-login")).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The token, once it was shown: until then a request counts for its address.
fn log_in(host: &Host, name: &str, password: &str) -> Option<String> {
    let text = base64url::encode(format!("{name}:{password}").as_bytes());
    let padding = "=".repeat((4 - text.len() % 4) % 4);
    let basic = format!("{}{padding}", text.replace('-', "+").replace('_', "/"));
    let head = format!("Authorization: Basic {basic}\r\n");
    let (status, body) = ask(host, "POST", "/core/authn/basic", &head, "{}");
    if status != 200 {
        return None;
    }
    let token = body["token"].as_str().expect("a login has one").to_owned();
    (ask(host, "GET", "/core/blobs", &bearer(&token), "").0 != 401).then_some(token)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn ended(host: Host) {
    host.stop();
    host.wait().expect("it stops in good order");
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn connect(host: &Host) -> TcpStream {
    let socket = TcpStream::connect(host.address().authority()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    socket
}

/// One request of HTTP/1.1; `more` are further lines of the head.
fn ask(host: &Host, verb: &str, path: &str, more: &str, body: &str) -> (u16, Value) {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let head = format!(
        "{verb} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}\
         Content-Length: {length}\r\n{more}\r\n"
    );
    let mut socket = connect(host);
    socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("it takes it");
    let mut answer = Vec::new();
    // A connection that is reset after the answer is as good as one that is closed.
    drop(socket.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("this is no HTTP answer: '{answer}'"));
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or_else(|_| body.into()))
}

fn bytes_held(host: &Host, token: &str) -> usize {
    let (status, page) = ask(host, "GET", "/metrics", &bearer(token), "");
    assert_eq!(status, 200, "{page}");
    let page = page.as_str().expect("it is text").to_owned();
    let line = page.lines().find_map(|line| line.strip_prefix("amrita_bytes_held "));
    line.expect("it is on the page").parse().expect("it is a number")
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("it is short").to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, body].concat()
}

/// A header that is in no table (RFC 7541, 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).expect("it is short");
    assert!(length(value) < 127 && length(name) < 127);
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// A client of HTTP/2 that takes not one byte of any body, and asks for a path on many streams.
fn takes_nothing(host: &Host, path: &str, more: &[(&str, &str)], streams: u32) -> TcpStream {
    let mut socket = connect(host);
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let start = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings].concat();
    socket.write_all(&start).expect("it takes it");
    // :method GET, :scheme http
    let mut head = vec![0x82, 0x86];
    head.extend(literal(":path", path));
    head.extend(literal(":authority", "localhost"));
    more.iter().for_each(|(name, value)| head.extend(literal(name, value)));
    let asks = (0..streams).map(|n| frame(1, 5, 1 + 2 * n, &head));
    socket.write_all(&frame(4, 1, 0, &[])).expect("it takes it");
    for ask in asks {
        // It may be closed already.
        drop(socket.write_all(&ask));
    }
    socket
}

/// Reads frames until this number of answers has begun, or the connection ends: how many began,
/// and whether it ended.
fn answers_begun(socket: &mut TcpStream, most: u32) -> (u32, bool) {
    let mut count = 0;
    while count < most {
        let mut head = [0; 9];
        if socket.read_exact(&mut head).is_err() {
            return (count, true);
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut body = vec![0; usize::try_from(length).expect("a u32 fits")];
        if socket.read_exact(&mut body).is_err() {
            return (count, true);
        }
        count += u32::from(head[3] == 1);
    }
    (count, false)
}

/// Registers an instance: something to write, with a body.
fn write(host: &Host, token: &str, name: &str) -> (u16, Value) {
    let body = json!({"name": name}).to_string();
    ask(host, "POST", "/core/immortals", &bearer(token), &body)
}

#[test]
fn a_stranger_that_takes_no_answers_holds_up_nobody_and_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (host, admin) = start(&folder);
    let asks = |path, more: &[(&str, &str)]| takes_nothing(&host, path, more, STREAMS);
    let mut sockets: Vec<TcpStream> = (0..17).map(|_| asks("/core/console/app.js", &[])).collect();
    let gzip = [("accept-encoding", "gzip")];
    sockets.extend((0..4).map(|_| asks("/core/console/app.js", &gzip)));
    sockets.extend((0..4).map(|_| asks("/livez", &[])));
    for socket in &mut sockets {
        answers_begun(socket, STREAMS);
    }
    let begun = Instant::now();
    // Nobody else notices anything.
    for n in 0..5 {
        let (status, body) = write(&host, &admin, &format!("i{n}"));
        assert_eq!(status, 200, "{body}");
    }
    let held = bytes_held(&host, &admin);
    assert!(held < 4 << 20, "{held} bytes are held");
    // The stranger has all that one may have.
    let mut refused = connect(&host);
    refused.write_all(b"GET /core/console HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut start = [0; 12];
    if refused.read_exact(&mut start).is_ok() {
        assert_eq!(&start, b"HTTP/1.1 429");
    }
    for socket in &mut sockets {
        socket.set_read_timeout(Some(GIVEN_UP_WITHIN)).unwrap();
        let (_, has_ended) = answers_begun(socket, u32::MAX);
        assert!(has_ended && begun.elapsed() < GIVEN_UP_WITHIN, "{:?}", begun.elapsed());
    }
    let (status, _) = wait_for("room", || {
        Some(ask(&host, "GET", "/core/console", "", "")).filter(|(status, _)| *status != 429)
    });
    assert_eq!(status, 200, "its requests are not under way any more");
    ended(host);
}

#[test]
fn a_user_that_takes_no_answers_loses_its_own_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (host, admin) = start(&folder);
    let as_admin = |verb: &str, path: &str, body: &Value| {
        let (status, answer) = ask(&host, verb, path, &bearer(&admin), &body.to_string());
        assert_eq!(status, 200, "{verb} {path}: {answer}");
    };
    let text = "x".repeat(200 << 10);
    as_admin("POST", "/core/blobs", &json!({"documentSelfLink": "long", "text": text}));
    as_admin(
        "POST",
        "/core/authz/users",
        &json!({"documentSelfLink": "mallory",
        "email": "mallory@example.com",
        "userGroupLinks": ["/core/authz/user-groups/writers"]}),
    );
    let password = json!({"userEmail": "mallory@example.com",
        "privateKey": "a long password of mallory"});
    as_admin("POST", "/core/auth/credentials", &password);
    let token = log_in(&host, "mallory", "a long password of mallory").expect("it logs in");
    let bearer_of_it = format!("Bearer {token}");
    let header = [("authorization", bearer_of_it.as_str())];
    let ask = || takes_nothing(&host, "/core/blobs/long", &header, STREAMS);
    // Most of its share; the others are over it.
    let mut first = ask();
    assert_eq!(answers_begun(&mut first, STREAMS), (STREAMS, false));
    for n in 0..3 {
        let begun = Instant::now();
        let (_, has_ended) = answers_begun(&mut ask(), u32::MAX);
        assert!(has_ended && begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        let (status, body) = write(&host, &admin, &format!("i{n}"));
        assert_eq!(status, 200, "{body}");
    }
    let held = bytes_held(&host, &admin);
    assert!(held > 20 << 20 && held < 33 << 20, "{held} bytes are held");
    drop(first);
    wait_for("all that was held", || (bytes_held(&host, &admin) < 1 << 20).then_some(()));
    ended(host);
}

#[test]
fn a_user_without_roles_does_not_keep_admins_from_taking_rights_away() {
    let folder = tempfile::tempdir().unwrap();
    let (host, admin) = start(&folder);
    let as_admin = |verb: &str, path: &str, body: &Value| {
        ask(&host, verb, path, &bearer(&admin), &body.to_string())
    };
    let nora = "/core/authz/users/nora";
    let made = json!({"documentSelfLink": "nora", "email": "nora@example.com"});
    assert_eq!(as_admin("POST", "/core/authz/users", &made).0, 200);
    let made = json!({"userEmail": "nora@example.com",
        "privateKey": "a long password of nora"});
    assert_eq!(as_admin("POST", "/core/auth/credentials", &made).0, 200);
    let token = log_in(&host, "nora", "a long password of nora").expect("it logs in");
    let body = json!({"expirationSeconds": 60}).to_string();
    let head = format!(
        "POST /core/auth/tokens HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        bearer(&token),
        body.len()
    );
    let mut sockets: Vec<TcpStream> = (0..1_024).map(|_| connect(&host)).collect();
    for socket in &mut sockets {
        socket.write_all(head.as_bytes()).expect("it takes it");
    }
    for n in 0..10 {
        let body = json!({"userGroupLinks": []});
        let (status, answer) = as_admin("PATCH", nora, &body);
        assert_eq!(status, 200, "{n}: {answer}");
    }
    let mut counts = std::collections::BTreeMap::<u16, usize>::new();
    for socket in &mut sockets {
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it answers");
        let status: u16 =
            answer.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
        let waits = answer.to_lowercase().contains("\r\nretry-after: ");
        assert!(status != 429 || waits, "{answer}");
        *counts.entry(status).or_default() += 1;
    }
    assert!(counts[&200] >= 32, "{counts:?}");
    assert!(
        counts[&429] >= 800 && counts.keys().all(|it| [200, 429, 503].contains(it)),
        "{counts:?}"
    );
    ended(host);
}
