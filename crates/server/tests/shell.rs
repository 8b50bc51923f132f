//! The shell round a node without services: what it answers itself, what it refuses, and how it
//! starts and ends. Everything stays on 127.0.0.1.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use protocol::Address;
use protocol::immortal::{Hello, ToNode, ToProgram, split_frame};
use server::{BODY_BYTES_MAX, Config, Failure, Founding, Host};
use services::Catalogue;
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(folder: &TempDir) -> Config {
    Config { port: 0, sandbox: Some(folder.path().join("sandbox")), ..Config::default() }
}

fn start(config: Config) -> Result<Host, Failure> {
    Host::start(config, Catalogue::new())
}

fn refusal(config: Config) -> String {
    start(config).err().expect("it must be refused").to_string()
}

fn ended(host: Host) {
    host.stop();
    host.wait().expect("it stops in good order");
}

fn connect(host: &Host) -> TcpStream {
    let socket = TcpStream::connect(host.address().authority()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    socket
}

/// Sends bytes and reads until the other side closes.
fn exchange(host: &Host, request: &[u8]) -> String {
    let mut socket = connect(host);
    socket.write_all(request).expect("it takes the request");
    let mut answer = Vec::new();
    // A connection that is reset after the answer is as good as one that is closed.
    drop(socket.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(host: &Host, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    exchange(host, request.as_bytes())
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("this is no HTTP answer: '{answer}'"))
}

fn wait_until_ready(host: &Host) {
    let begun = Instant::now();
    while status(&get(host, "/readyz")) != 200 {
        assert!(begun.elapsed() < PATIENCE, "it does not become ready");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_node_alone_is_up_at_once_and_stops_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let host = start(config(&folder)).unwrap();
    assert_eq!(status(&get(&host, "/livez")), 200);
    wait_until_ready(&host);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?}");
    let metrics = get(&host, "/metrics");
    for name in ["amrita_requests_total{method=\"GET\",status=\"200\"}", "amrita_log_sync_seconds"]
    {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
    let begun = Instant::now();
    ended(host);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_node_started_again_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(config(&folder)).unwrap();
    let id = host.node_id().to_owned();
    ended(host);
    let host = start(config(&folder)).unwrap();
    assert_eq!(host.node_id(), id);
    ended(host);
}

#[test]
fn a_port_or_a_sandbox_in_use_is_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = start(config(&one)).unwrap();
    let port = host.address().port();
    let message = refusal(Config { port, ..config(&two) });
    assert!(message.contains(&format!("port {port} is in use")), "{message}");
    assert!(message.contains("--port"), "{message}");
    let message = refusal(config(&one));
    assert!(message.contains("in use by another process"), "{message}");
    ended(host);
}

#[test]
fn settings_that_contradict_one_another_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there: it was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let peers = |list: &[&str]| {
        let peer_nodes = list.iter().map(|peer| Address::parse(peer).unwrap()).collect();
        let founding = Founding { peer_nodes, ..Founding::default() };
        Config { port, founding, ..config(&folder) }
    };
    let message = refusal(peers(&["127.0.0.1:1", "127.0.0.1:2"]));
    assert!(message.contains("does not name this node itself"), "{message}");
    let ours = &format!("127.0.0.1:{port}");
    let message = refusal(peers(&[ours, "127.0.0.1:2", "127.0.0.1:2"]));
    assert!(message.contains("names http://127.0.0.1:2 twice"), "{message}");
    let mut three = peers(&[ours, "127.0.0.1:2", "127.0.0.1:3"]);
    three.founding.membership_quorum = Some(1);
    let message = refusal(three);
    assert!(message.contains("from 2 to 3"), "{message}");
    let bind_address = "203.0.113.9".parse().unwrap();
    // Without a certificate of its own it makes one, so that only the address is wrong.
    let message = refusal(Config { bind_address, ..config(&folder) });
    assert!(message.contains("no address 203.0.113.9"), "{message}");
    let security = server::Security { insecure: true, ..Default::default() };
    let message = refusal(Config { bind_address, security, ..config(&folder) });
    assert!(message.contains("no address 203.0.113.9"), "{message}");
}

#[test]
fn a_sandbox_that_cannot_be_made_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sandbox"), "a file").unwrap();
    assert!(refusal(config(&folder)).contains("cannot be made"));
}

#[test]
fn broken_http_is_answered_and_harms_no_one() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(config(&folder)).unwrap();
    let nonsense = exchange(&host, b"NONSENSE\r\n\r\n");
    assert_eq!(status(&nonsense), 400);
    assert!(nonsense.contains("not valid HTTP/1.1") && nonsense.contains("BAD_REQUEST"));
    assert_eq!(status(&exchange(&host, b"GET / HTTP/1.1\r\nA B: c\r\n\r\n")), 400);
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let long = exchange(&host, long.as_bytes());
    assert_eq!(status(&long), 431);
    assert!(long.contains("too large"), "{long}");
    let verb = exchange(&host, b"BREW / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&verb), 405);
    assert!(verb.contains("METHOD_NOT_ALLOWED"), "{verb}");
    assert_eq!(status(&get(&host, "/livez")), 200);
    ended(host);
}

#[test]
fn a_body_over_the_limit_is_refused_however_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(config(&folder)).unwrap();
    let head = "POST /core/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    // Announced, and sent without waiting.
    let length = BODY_BYTES_MAX + 1;
    let mut request = format!("{head}Content-Length: {length}\r\n\r\n").into_bytes();
    request.resize(request.len() + length, b' ');
    let answer = exchange(&host, &request);
    assert_eq!(status(&answer), 413);
    assert!(answer.contains("TOO_LARGE") && answer.contains("notApplied"), "{answer}");
    // In pieces whose sum nobody announced.
    let mut request = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..9 {
        request.extend_from_slice(b"100000\r\n");
        request.resize(request.len() + (1 << 20), b' ');
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(status(&exchange(&host, &request)), 413);
    // Announced by one who waits to be told: nothing of it is sent.
    let request = format!("{head}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(status(&exchange(&host, request.as_bytes())), 413);
    ended(host);
}

#[test]
fn many_requests_on_one_connection_are_answered_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(config(&folder)).unwrap();
    let one = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = exchange(&host, (one.repeat(3) + last).as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 3, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 4, "{answer}");
    ended(host);
}

#[test]
fn only_another_node_of_the_same_version_gets_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(config(&folder)).unwrap();
    let ask = |headers: &str| {
        let head = "GET /core/peer-link HTTP/1.1\r\nHost: localhost\r\n";
        format!("{head}Connection: upgrade\r\n{headers}\r\n")
    };
    let plain = get(&host, "/core/peer-link");
    assert_eq!(status(&plain), 400, "{plain}");
    let other = ask("Upgrade: amrita-peer\r\nAmrita-Link-Version: 99\r\nConnection: close\r\n");
    let other = exchange(&host, other.as_bytes());
    assert_eq!(status(&other), 400);
    assert!(other.contains("the other node's 99"), "{other}");

    let mut socket = connect(&host);
    let good = ask("Upgrade: amrita-peer\r\nAmrita-Link-Version: 2\r\n");
    socket.write_all(good.as_bytes()).unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    // A frame that says it is longer than any frame may be: the link is cut.
    socket.write_all(&[0xff; 8]).unwrap();
    let mut rest = Vec::new();
    let read = socket.read_to_end(&mut rest);
    assert!(
        read.is_ok() || read.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
    );
    assert_eq!(status(&get(&host, "/livez")), 200);
    ended(host);
}

#[test]
fn a_program_attaches_over_the_port_only_if_it_asks_for_the_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(config(&folder)).unwrap();
    let plain = get(&host, "/core/immortals/counter/attach");
    assert_eq!(status(&plain), 426, "{plain}");
    assert!(plain.contains("upgrade: amrita-immortal") && plain.contains("UPGRADE_REQUIRED"));
    let programs = |host: &Host, count: usize| {
        let begun = Instant::now();
        while !get(host, "/metrics").contains(&format!("amrita_programs {count}\n")) {
            assert!(begun.elapsed() < PATIENCE, "there are not {count} programs");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let mut socket = connect(&host);
    let ask = "GET /core/immortals/counter/attach HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
               Upgrade: amrita-immortal\r\n\r\n";
    socket.write_all(ask.as_bytes()).unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    programs(&host, 1);
    let beside = UnixStream::connect(folder.path().join("sandbox/immortals.sock")).unwrap();
    programs(&host, 2);
    drop((socket, beside));
    programs(&host, 0);
    let left = UnixStream::connect(folder.path().join("sandbox/immortals.sock")).unwrap();
    programs(&host, 1);
    ended(host);
    drop(left);
    assert!(!folder.path().join("sandbox/immortals.sock").exists());
}

/// The program's first words: it wants to be a copy of that instance.
fn hello(instance: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    ToNode::Hello(Hello {
        version_min: 1,
        version_max: 1,
        instance: instance.into(),
        program_version: 0,
        upgrade_to: 0,
    })
    .put(&mut bytes);
    bytes
}

/// The next frames that a program is told, until there are `count` or the node closes.
fn told(mut socket: impl Read, count: usize) -> Vec<ToProgram> {
    let (mut told, mut buffer) = (Vec::new(), BytesMut::new());
    while told.len() < count {
        let mut more = [0; 4096];
        let read = socket.read(&mut more).expect("it goes on or closes");
        if read == 0 {
            break;
        }
        buffer.extend_from_slice(&more[..read]);
        while let Some(frame) = split_frame(&mut buffer, 1 << 20).expect("it speaks clearly") {
            told.push(ToProgram::read(frame).expect("it speaks clearly"));
        }
    }
    told
}

#[test]
fn a_program_is_welcome_if_its_instance_is_registered_and_told_if_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(config(&folder)).unwrap();
    wait_until_ready(&host);
    let attach = || {
        let path = folder.path().join("sandbox/immortals.sock");
        let mut socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&hello("counter")).unwrap();
        socket
    };
    // The reason comes before the end, though more was said that nobody will read.
    let mut unknown = attach();
    drop(unknown.write_all(&[7; 5_000]));
    let words = told(unknown, 9);
    assert!(
        matches!(&words[..], [ToProgram::Error { code, .. }] if code == "UNKNOWN_INSTANCE"),
        "{words:?}"
    );
    let body = r#"{"name":"counter"}"#;
    let length = body.len();
    let register = format!(
        "POST /core/immortals HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: \
         application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let registered = exchange(&host, register.as_bytes());
    assert!(status(&registered) < 300, "{registered}");
    let begun = Instant::now();
    // Until the replica is there, the node says so.
    let socket = loop {
        let socket = attach();
        match &told(&socket, 2)[..] {
            [ToProgram::Welcome(_), ToProgram::Genesis] => break socket,
            words => assert!(begun.elapsed() < PATIENCE, "{words:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let second = told(attach(), 9);
    assert!(
        matches!(&second[..], [.., ToProgram::Error { code, .. }] if code == "ATTACHED"),
        "{second:?}"
    );
    drop(socket);
    ended(host);
}
