//! The front for clients, over real sockets: what is refused, in which forms one may ask and be
//! answered, and that nobody can take all its places. Everything stays on 127.0.0.1.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use server::{BODY_BYTES_MAX, Config, Host};
use services::Catalogue;
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes an instance of an immortal: something to write that needs no service.
const REGISTER: &str = r#"{"name":"counter"}"#;

fn start(folder: &TempDir) -> Host {
    start_with(Config { port: 0, sandbox: Some(folder.path().join("s")), ..Config::default() })
}

fn start_with(config: Config) -> Host {
    let host = Host::start(config, Catalogue::new()).expect("it starts");
    let begun = Instant::now();
    while status(&get(&host, "/readyz", "")) != 200 {
        assert!(begun.elapsed() < PATIENCE, "it does not become ready");
        std::thread::sleep(Duration::from_millis(2));
    }
    host
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
fn exchange(host: &Host, request: &[u8]) -> Vec<u8> {
    let mut socket = connect(host);
    socket.write_all(request).expect("it takes the request");
    let mut answer = Vec::new();
    // A connection that is reset after the answer is as good as one that is closed.
    drop(socket.read_to_end(&mut answer));
    answer
}

/// One request with a body; `more` are further lines of the head.
fn send(host: &Host, verb: &str, path: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let named = if more.contains("Host: ") { "" } else { "Host: localhost\r\n" };
    let length = body.len();
    let head = format!(
        "{verb} {path} HTTP/1.1\r\n{named}Connection: close\r\nContent-Length: {length}\r\n\
         {more}\r\n"
    );
    exchange(host, &[head.as_bytes(), body].concat())
}

fn get(host: &Host, path: &str, more: &str) -> String {
    ask(host, "GET", path, more, "")
}

fn ask(host: &Host, verb: &str, path: &str, more: &str, body: &str) -> String {
    String::from_utf8_lossy(&send(host, verb, path, more, body.as_bytes())).into_owned()
}

fn status(answer: &str) -> u16 {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("this is no HTTP answer: '{answer}'"))
}

fn head_and_body(answer: &[u8]) -> (String, &[u8]) {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("it has a head");
    (String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end + 4..])
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// One node owns every partition, and answers within a step.
#[test]
fn the_time_of_a_query_is_told_where_one_node_answers_all_of_it() {
    let folder = TempDir::new().expect("a folder can be made");
    let host = start(&folder);
    let query = r#"{"taskInfo":{"isDirect":true},"querySpec":{"explain":true,"query":
        {"term":{"propertyName":"documentSelfLink","matchType":"WILDCARD","matchValue":"*"}}}}"#;
    let answer = ask(&host, "POST", "/core/query-tasks", "", query);
    let body = answer.split_once("\r\n\r\n").expect("it has a body").1;
    let body: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
    let parts = body["results"]["explained"]["partitions"].as_array().expect("a list");
    let micros = parts.iter().map(|part| &part["micros"]);
    let whole = [&body["results"]["queryTimeMicros"], &body["taskInfo"]["durationMicros"]];
    for micros in micros.chain(whole) {
        assert!(micros.as_u64().is_some_and(|it| (1..5_000_000).contains(&it)), "{body}");
    }
    ended(host);
}

#[test]
fn a_page_of_another_origin_changes_nothing_and_sees_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    let evil = "Origin: http://evil.example\r\nContent-Type: text/plain\r\n";
    let form = ask(&host, "POST", "/core/immortals", evil, REGISTER);
    assert_eq!(status(&form), 403, "{form}");
    assert!(form.contains("FORBIDDEN") && form.contains("notApplied"), "{form}");
    assert!(!form.to_lowercase().contains("access-control"), "{form}");
    let rebound = ask(&host, "POST", "/core/immortals", "Host: evil.example\r\n", REGISTER);
    assert_eq!(status(&rebound), 403, "{rebound}");
    let image = get(&host, "/core/immortals", "Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(status(&image), 403, "{image}");
    let asks = "Origin: http://evil.example\r\nAccess-Control-Request-Method: PATCH\r\n";
    assert_eq!(status(&ask(&host, "OPTIONS", "/core/immortals", asks, "")), 403);
    assert_eq!(status(&get(&host, "/core/immortals/counter", "")), 404);
    // What curl sends when nothing is said.
    let curl = "Content-Type: application/x-www-form-urlencoded\r\n";
    let plain = ask(&host, "POST", "/core/immortals", curl, REGISTER);
    assert!(status(&plain) < 300, "{plain}");
    ended(host);
}

#[test]
fn a_page_of_an_allowed_origin_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let host = start_with(Config {
        port: 0,
        sandbox: Some(folder.path().join("s")),
        security: server::Security {
            browsers: server::BrowserSettings {
                cors_origins: vec!["https://app.example".into()],
                ..Default::default()
            },
            ..Default::default()
        },
        ..Config::default()
    });
    let page = "Origin: https://app.example\r\n";
    let asks = format!("{page}Access-Control-Request-Method: PATCH\r\n");
    let preflight = ask(&host, "OPTIONS", "/core/immortals", &asks, "").to_lowercase();
    assert_eq!(status(&preflight), 204, "{preflight}");
    assert!(preflight.contains("access-control-allow-methods: get, head, post"), "{preflight}");
    let answer = get(&host, "/core/immortals", page).to_lowercase();
    assert!(answer.contains("access-control-allow-origin: https://app.example"), "{answer}");
    let form = format!("{page}Content-Type: text/plain\r\n");
    assert_eq!(status(&ask(&host, "POST", "/core/immortals", &form, REGISTER)), 415);
    ended(host);
}

#[test]
fn bodies_and_answers_may_be_packed() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    let packed = gzip(REGISTER.as_bytes());
    let post = |more: &str, body: &[u8]| {
        let answer = send(&host, "POST", "/core/immortals", more, body);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let made = post("Content-Encoding: gzip\r\n", &packed);
    assert!(status(&made) < 300, "{made}");
    let broken = post("Content-Encoding: gzip\r\n", &packed[..packed.len() - 4]);
    assert!(status(&broken) == 400 && broken.contains("not whole gzip"), "{broken}");
    // It is small on the way and too large here.
    let bomb = post("Content-Encoding: gzip\r\n", &gzip(&vec![b' '; BODY_BYTES_MAX + 1]));
    assert!(status(&bomb) == 413 && bomb.contains("notApplied"), "{bomb}");
    let other = post("Content-Encoding: br\r\n", &packed);
    assert!(status(&other) == 415 && other.contains("'br'"), "{other}");

    let answer = send(&host, "GET", "/metrics", "Accept-Encoding: br, gzip\r\n", b"");
    let (head, body) = head_and_body(&answer);
    assert!(head.contains("content-encoding: gzip") && head.contains("vary: "), "{head}");
    let mut text = String::new();
    GzDecoder::new(body).read_to_string(&mut text).unwrap();
    assert!(text.contains("amrita_requests_total"), "{text}");
    assert!(!get(&host, "/metrics", "").contains("content-encoding"));
    ended(host);
}

#[test]
fn a_head_has_the_headers_of_a_get_and_no_body() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    // /metrics has another length each time.
    for path in ["/livez", "/readyz", "/core/immortals", "/core/node-groups/default", "/none"] {
        let names = |answer: &[u8]| {
            let (head, body) = head_and_body(answer);
            let names = head.lines().filter(|line| !line.starts_with("date: ")).map(str::to_owned);
            (names.collect::<BTreeSet<_>>(), body.len())
        };
        let (of_get, length) = names(&send(&host, "GET", path, "", b""));
        let (of_head, none) = names(&send(&host, "HEAD", path, "", b""));
        assert_eq!((of_get, none), (of_head, 0), "{path}");
        assert!(length > 0, "{path}");
    }
    ended(host);
}

#[test]
fn each_path_says_which_verbs_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    let options = ask(&host, "OPTIONS", "/core/immortals", "", "");
    assert!(status(&options) == 204 && options.contains("allow: GET, HEAD, POST"), "{options}");
    for (verb, path) in [
        ("BREW", "/core/immortals"),
        ("POST", "/livez"),
        ("DELETE", "/metrics"),
        ("PUT", "/readyz"),
    ] {
        let refused = ask(&host, verb, path, "", "{}");
        assert_eq!(status(&refused), 405, "{verb} {path}: {refused}");
        assert!(refused.contains("allow: GET, HEAD"), "{verb} {path}: {refused}");
    }
    ended(host);
}

#[test]
fn where_there_is_nothing_no_verb_is_offered() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    for path in ["/core/nothing", "/core/query-tasks/one/nothing", "/core/immortals/a/b"] {
        for verb in ["OPTIONS", "GET", "PUT"] {
            let answer = ask(&host, verb, path, "", "");
            assert_eq!(status(&answer), 404, "{verb} {path}: {answer}");
        }
    }
    let slashes = ask(&host, "OPTIONS", "/core/immortals//", "", "");
    assert!(status(&slashes) == 400 && slashes.contains("BAD_LINK"), "{slashes}");
    ended(host);
}

#[test]
fn what_the_shell_answers_takes_no_parameters_and_every_request_needs_a_host() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    for path in ["/livez?foo=1", "/readyz?foo", "/metrics?foo=1"] {
        let answer = get(&host, path, "");
        assert!(status(&answer) == 400 && answer.contains("'foo'"), "{path}: {answer}");
    }
    let bare = |head: &str| String::from_utf8_lossy(&exchange(&host, head.as_bytes())).into_owned();
    let nameless = bare("GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(status(&nameless) == 400 && nameless.contains("Host"), "{nameless}");
    let old = bare("GET /livez HTTP/1.0\r\n\r\n");
    assert_eq!(status(&old), 200, "{old}");
    ended(host);
}

#[test]
fn a_login_takes_neither_a_key_nor_a_merge_patch() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    let path = "/core/authn/basic";
    let keyed = ask(&host, "POST", path, "Idempotency-Key: k\r\n", "{}");
    assert!(status(&keyed) == 400 && keyed.contains("Idempotency-Key"), "{keyed}");
    let merge = "Content-Type: application/merge-patch+json\r\n";
    assert_eq!(status(&ask(&host, "POST", path, merge, "{}")), 415);
    ended(host);
}

#[test]
fn a_name_that_is_not_utf8_or_a_header_twice_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    for path in ["/core/immortals/%ff", "/core/immortals/%c3%28", "/core/%", "/core/x?$filter=%fe"]
    {
        let answer = get(&host, path, "");
        assert!(status(&answer) == 400 && answer.contains("BAD_LINK"), "{path}: {answer}");
    }
    for twice in [
        "x-xenon-auth-token: a\r\nx-xenon-auth-token: b\r\n",
        "Idempotency-Key: a\r\nIdempotency-Key: b\r\n",
        "Content-Length: 3\r\n",
        "x-xenon-rpl-quorum: many\r\n",
    ] {
        let answer = ask(&host, "PATCH", "/core/immortals/x", twice, "{}");
        assert_eq!(status(&answer), 400, "{twice}: {answer}");
    }
    let no_length = |lines: &str| {
        let head = format!("POST /core/immortals HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        let bytes = [head.as_bytes(), b"{\"name\":\"twice\"}\r\n"].concat();
        String::from_utf8_lossy(&exchange(&host, &bytes)).into_owned()
    };
    let far = format!("Content-Length:{}16\r\n", " ".repeat(70));
    for lines in [
        far.as_str(),
        "Content-Length: 16\r\nContent-Length: 16\r\n",
        "Content-Length: 16\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 16\r\n",
        "Transfer-Encoding: gzip, chunked\r\nConnection: close\r\n",
    ] {
        let answer = no_length(lines);
        assert_eq!(status(&answer), 400, "{lines}: {answer}");
        let named = answer.contains("Content-Length") || answer.contains("transfer-encoding");
        assert!(named && answer.contains("notApplied"), "{lines}: {answer}");
    }
    assert_eq!(status(&no_length("Content-Length: 16, 16\r\n")), 400);
    // The library passes over the bare end of a line before the trailers.
    let head = "POST /core/immortals HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    for end in ["0\r\n\nX: 1\r\n\r\n", "0\r\nX: 1\n\r\n\r\n"] {
        let bytes = format!("{head}10\r\n{{\"name\":\"twice\"}}\r\n{end}");
        let answer = String::from_utf8_lossy(&exchange(&host, bytes.as_bytes())).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 2"), "{end:?}: {answer}");
    }
    assert_eq!(status(&get(&host, "/core/immortals/twice", "")), 404);
    let expects = ask(&host, "PATCH", "/core/immortals/x", "Expect: a-miracle\r\n", "{}");
    assert!(status(&expects) == 417 && expects.contains("a-miracle"), "{expects}");
    ended(host);
}

#[test]
fn http_2_is_spoken_by_those_who_begin_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    let address = host.address().authority();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(&address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                .await
                .unwrap();
        tokio::spawn(connection);
        let ask = |verb: &str, path: &str, body: Bytes| {
            let uri = format!("http://{address}{path}");
            let request = hyper::Request::builder().method(verb).uri(uri);
            let request = request.body(Full::new(body)).unwrap();
            let answer = sender.clone().send_request(request);
            async move {
                let (parts, body) = answer.await.unwrap().into_parts();
                (parts.status.as_u16(), body.collect().await.unwrap().to_bytes())
            }
        };
        let made = ask("POST", "/core/immortals", Bytes::from_static(REGISTER.as_bytes()));
        assert!(made.await.0 < 300);
        let (seen, list) = tokio::join!(
            ask("GET", "/livez", Bytes::new()),
            ask("GET", "/core/immortals", Bytes::new())
        );
        assert_eq!((seen.0, list.0), (200, 200));
        let large = ask("POST", "/core/x", Bytes::from(vec![b' '; BODY_BYTES_MAX + 1]));
        assert_eq!(large.await.0, 413);
        let (status, body) = ask("HEAD", "/core/immortals", Bytes::new()).await;
        assert_eq!((status, body.len()), (200, 0));
    });
    ended(host);
}

/// A frame of HTTP/2: its type, its flags, its stream and what is in it.
fn next_frame(socket: &mut TcpStream) -> (u8, u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    socket.read_exact(&mut head).expect("a frame comes");
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut body = vec![0; usize::try_from(length).expect("a u32 fits")];
    socket.read_exact(&mut body).expect("it comes whole");
    (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), body)
}

#[test]
fn http_2_is_spoken_after_the_upgrade_with_the_answer_on_stream_1() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    let upgrade =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let mut socket = connect(&host);
    let ask = format!("GET /core/immortals HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n");
    socket.write_all(ask.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: h2c"), "{head}");
    // The preface, settings that say nothing, and their acknowledgement when ours are there.
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut body = Vec::new();
    loop {
        let (kind, flags, stream, bytes) = next_frame(&mut socket);
        assert_ne!(kind, 7, "it goes away: {bytes:?}");
        if kind == 4 && flags == 0 {
            socket.write_all(b"\0\0\0\x04\x01\0\0\0\0").unwrap();
        }
        if kind == 0 && stream == 1 {
            body.extend(bytes);
            if flags & 1 == 1 {
                break;
            }
        }
    }
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("documentLinks"), "{text}");
    // One with a body is answered as it was asked.
    let length = REGISTER.len();
    let post = format!(
        "POST /core/immortals HTTP/1.1\r\nHost: localhost\r\n{upgrade}Content-Length: \
         {length}\r\n\r\n{REGISTER}"
    );
    let mut other = connect(&host);
    other.write_all(post.as_bytes()).unwrap();
    let mut start = [0; 10];
    other.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 2");
    drop(other);
    drop(socket);
    ended(host);
}

#[test]
fn unfinished_bodies_do_not_take_more_than_their_share_and_it_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let host = start(&folder);
    let head = format!(
        "POST /core/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n"
    );
    let most = vec![b' '; BODY_BYTES_MAX - 1];
    let held = || {
        let page = get(&host, "/metrics", "");
        let line = page.lines().find_map(|line| line.strip_prefix("amrita_bytes_held "));
        line.expect("it is on the page").parse::<usize>().unwrap()
    };
    let mut sockets: Vec<TcpStream> = (0..30).map(|_| connect(&host)).collect();
    for socket in &mut sockets {
        socket.write_all(head.as_bytes()).unwrap();
        // One that is over the bound is answered, and cut, while it still sends.
        drop(socket.write_all(&most));
    }
    let mut refused = 0;
    for socket in &mut sockets {
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut start = [0; 12];
        if socket.read_exact(&mut start).is_ok() {
            assert_eq!(&start, b"HTTP/1.1 503");
            refused += 1;
        }
    }
    let bytes = held();
    assert!(bytes <= 128 << 20 && bytes > 64 << 20, "{bytes} bytes are held");
    assert!(refused >= 10, "{refused} of 30 were told");
    assert_eq!(status(&get(&host, "/livez", "")), 200);
    drop(sockets);
    let begun = Instant::now();
    while held() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} bytes do not come back", held());
        std::thread::sleep(Duration::from_millis(5));
    }
    ended(host);
}
