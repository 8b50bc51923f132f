//! What was asked is done or refused, never passed over: over real HTTP, each path and each verb of
//! the table gets a parameter, a pragma, a header and a field that it does not know, and names it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use node::{Header, Resource, SURFACE, Verb};
use protocol::{Action, Body, Document, Method, Moment};
use serde_json::Value;
use server::{Config, Host};
use services::Catalogue;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request, and its status and body.
fn ask(host: &Host, method: &str, target: &str, more: &str, body: &str) -> (u16, Value) {
    let mut socket = TcpStream::connect(host.address().authority()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: \
         {length}\r\n{more}\r\n{body}"
    );
    socket.write_all(head.as_bytes()).expect("it takes the request");
    let mut answer = String::new();
    drop(socket.read_to_string(&mut answer));
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").expect("it has a head");
    let status = status.unwrap_or_else(|| panic!("this is no HTTP answer: '{answer}'"));
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// A factory of documents that are no queries.
const THINGS: &str = "/app/things";

/// A path for each that the table names: `NAME` is an instance that is there, or a document of that
/// factory.
fn examples(resource: &Resource, factory: &str) -> Vec<String> {
    let first = resource.path.split(", ").next().expect("there is one");
    let folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
    let whole = |path: &str| match path.contains('/') || path == "FACTORY" {
        true => path.to_owned(),
        // `/core/immortals/NAME/checkpoint, move, skip, release`
        false => format!("{folder}/{path}"),
    };
    let paths = resource.path.split(", ").map(whole);
    let filled = |path: String| {
        path.replace("FACTORY", factory)
            .replace("NAME", "one")
            .replace("TOKEN", "x")
            .replace("...", "craendpointtable")
    };
    paths.map(filled).collect()
}

/// Headers that would have something else done than what is asked.
const HEADERS_REFUSED: [&str; 5] = [
    "Range: bytes=0-1",
    "X-HTTP-Method-Override: DELETE",
    "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==",
    "Content-Digest: sha-256=:x:",
    "If-Range: \"1\"",
];

struct Refusals<'a> {
    host: &'a Host,
    count: usize,
}

impl Refusals<'_> {
    /// The request is refused, and the refusal names what is wrong.
    fn expect(&mut self, (verb, target): (&Verb, &str), more: &str, body: &str, named: &str) {
        let method = verb.method.name();
        let (status, said) = ask(self.host, method, target, more, body);
        let message = said["message"].as_str().unwrap_or_default().to_lowercase();
        let what = format!("{method} {target} {more}{body}: {status} {said}");
        assert!((400..500).contains(&status), "{what}");
        assert!(message.contains(&named.to_lowercase()), "'{named}' is not named: {what}");
        if verb.method.is_write() {
            assert_eq!(said["outcome"], "notApplied", "{what}");
        }
        self.count += 1;
    }

    fn of_verb(&mut self, verb: &Verb, path: &str) {
        let body = body_of(verb.method, path);
        self.expect((verb, &format!("{path}?nonsense=1")), "", body, "nonsense");
        self.expect((verb, &format!("{path}?$nonsense")), "", body, "nonsense");
        self.expect((verb, path), "Pragma: xn-nonsense\r\n", body, "xn-nonsense");
        self.expect((verb, path), "Pragma: no-cache;xn-nonsense\r\n", body, "xn-nonsense");
        self.expect((verb, path), "x-xenon-nonsense: 1\r\n", body, "x-xenon-nonsense");
        self.expect((verb, path), "x-xenon-tx-id: 1\r\n", body, "x-xenon-tx-id");
        self.expect((verb, path), "Content-Range: bytes 0-1/2\r\n", body, "content-range");
        let since = "If-Unmodified-Since: Sat, 29 Oct 1994 19:43:31 GMT\r\n";
        self.expect((verb, path), since, body, "if-unmodified-since");
        for header in [Header::IfMatch, Header::IfNoneMatch, Header::Quorum, Header::Key] {
            let value = match header {
                Header::IfMatch | Header::IfNoneMatch => "\"1\"",
                Header::Quorum => "x-xenon-all",
                Header::Key => "k",
            };
            let line = format!("{}: {value}\r\n", header.name());
            if !verb.headers.contains(&header) {
                self.expect((verb, path), &line, body, header.name());
            } else if header != Header::IfMatch && header != Header::IfNoneMatch {
                self.expect((verb, path), &format!("{line}{line}"), body, header.name());
            }
        }
        for name in verb.parameters {
            let twice = format!("{path}?{name}=1&${name}=2");
            self.expect((verb, &twice), "", body, name);
        }
        self.of_body(verb, path, body);
        if verb.method == Method::Get && verb.parameters.contains(&"consistency") {
            self.of_a_watch(verb, path);
        }
        for line in HEADERS_REFUSED {
            let (name, _) = line.split_once(':').expect("a name and a value");
            self.expect((verb, path), &format!("{line}\r\n"), body, name);
        }
    }

    /// A closed body names a field that it does not have.
    fn of_body(&mut self, verb: &Verb, path: &str, body: &str) {
        let is_get = verb.method == Method::Get;
        // Without an upgrade nothing is done there.
        let is_upgraded = path.ends_with("/attach") || path == "/core/peer-link";
        if is_get || (body == NO_BODY && !is_open(path)) {
            let named = if is_get && is_upgraded { "" } else { "body" };
            self.expect((verb, path), "", r#"{"nonsense":1}"#, named);
        } else if !is_open(path) {
            let mut fields: Value = serde_json::from_str(body).expect("this is JSON");
            fields["nonsense"] = 1.into();
            self.expect((verb, path), "", &fields.to_string(), "nonsense");
            self.of_built_in(verb, path, body);
            self.of_nested(verb, path, body);
        }
        if body != NO_BODY && body != "{}" && !path.ends_with("/forwarding") {
            self.of_twice(verb, path, body);
        }
        let merge = "Content-Type: application/merge-patch+json\r\n";
        let is_merged = verb.method == Method::Patch && is_open(path);
        if body != NO_BODY && !is_merged {
            self.expect((verb, path), merge, body, "merge-patch");
        }
    }
}

impl Refusals<'_> {
    /// A built-in field that says something else than what is so.
    fn of_built_in(&mut self, verb: &Verb, path: &str, body: &str) {
        for (name, value) in [
            ("documentSelfLink", "/core/nothing/at-all"),
            ("documentKind", "nothing:at:all"),
            ("documentSourceLink", "/core/query-tasks/two"),
            ("documentTransactionId", "t"),
        ] {
            // Logins read what they know: these are looked at elsewhere.
            if !path.starts_with("/core/authn") && !path.starts_with("/core/authz/tokens") {
                let mut fields: Value = serde_json::from_str(body).expect("this is JSON");
                fields[name] = value.into();
                self.expect((verb, path), "", &fields.to_string(), name);
            }
        }
    }

    /// A field within a field that is closed, too.
    fn of_nested(&mut self, verb: &Verb, path: &str, body: &str) {
        let fields: Value = serde_json::from_str(body).expect("this is JSON");
        for place in NESTED.iter().filter(|place| fields.pointer(place).is_some()) {
            let mut fields = fields.clone();
            let within = fields.pointer_mut(place).expect("it is there");
            within["nonsense"] = 1.into();
            self.expect((verb, path), "", &fields.to_string(), "nonsense");
        }
    }

    /// The first field, once more.
    fn of_twice(&mut self, verb: &Verb, path: &str, body: &str) {
        if path.starts_with("/core/authn") || path.starts_with("/core/authz/tokens") {
            return;
        }
        let fields: Value = serde_json::from_str(body).expect("this is JSON");
        let (name, value) = fields.as_object().and_then(|it| it.iter().next()).expect("one field");
        let twice = body.replacen('{', &format!("{{\"{name}\":{value},"), 1);
        self.expect((verb, path), "", &twice, name);
    }

    /// What a parameter makes of a GET does not take what the GET takes without it.
    fn of_a_watch(&mut self, verb: &Verb, path: &str) {
        for (target, header, named) in [
            ("watch=true", "If-Match: \"1\"\r\n", "If-Match"),
            ("watch=true", "If-None-Match: \"1\"\r\n", "If-None-Match"),
            ("watch=true", "Pragma: xn-queue\r\n", "xn-queue"),
            ("consistency=local", "Pragma: xn-queue\r\n", "xn-queue"),
        ] {
            self.expect((verb, &format!("{path}?{target}")), header, NO_BODY, named);
        }
    }
}

/// Objects in bodies that have no other fields than those that are known.
const NESTED: [&str; 5] =
    ["/taskInfo", "/querySpec", "/querySpec/query", "/querySpec/query/term", "/addReplica"];

const NO_BODY: &str = "";

/// A body that would be right.
fn body_of(method: Method, path: &str) -> &'static str {
    match (method, path) {
        (Method::Get, _) => NO_BODY,
        (Method::Post | Method::Delete, _) if path.ends_with("/subscriptions") => {
            r#"{"reference":"http://127.0.0.1:9/x"}"#
        }
        (Method::Delete, _) if !path.ends_with("/forwarding") => NO_BODY,
        (Method::Post, "/core/query-tasks") => {
            r#"{"taskInfo":{"isDirect":true},"querySpec":{
            "query":{"term":{"propertyName":"name","matchValue":"x"}}}}"#
        }
        (Method::Post, "/core/node-groups/default") => {
            r#"{"kind":"com:vmware:xenon:services:common:NodeGroupService:JoinPeerRequest",
                "memberGroupReference":"http://127.0.0.1:1/core/node-groups/default"}"#
        }
        (Method::Patch, "/core/node-groups/default") => {
            r#"{"kind":"com:vmware:xenon:services:common:NodeGroupService:UpdateQuorumRequest",
                "membershipQuorum":1}"#
        }
        (Method::Post, "/core/node-selectors/default") => r#"{"key":"/core/query-tasks/one"}"#,
        (Method::Patch, "/core/immortals/one") => r#"{"addReplica":{"node":"n1"}}"#,
        (Method::Post, "/core/immortals") => r#"{"name":"other"}"#,
        (Method::Post, "/core/immortals/one/impulses") => r#"{"method":1,"payload":[]}"#,
        (Method::Post, "/core/immortals/one/skip") => r#"{"input":1}"#,
        (Method::Post, "/core/immortals/one/move") => r#"{"node":"n1"}"#,
        (Method::Patch, _) if path.ends_with("/config") => {
            r#"{"kind":"ServiceConfigUpdateRequest","addOptions":["INSTRUMENTATION"]}"#
        }
        (Method::Post, _) if path.ends_with("/stats") => r#"{"name":"load","latestValue":1.5}"#,
        (Method::Post, "/core/authn/basic") => r#"{"requestType":"VERIFY"}"#,
        (Method::Post, "/core/authz/can-i") => r#"{"verb":"GET","link":"/core/query-tasks"}"#,
        _ => "{}",
    }
}

/// Whether other fields may stand in a body: those of documents are the service's, which drops as
/// Xenon does what it does not know; what an action takes is its program's; and what is passed on
/// is for another path.
fn is_open(path: &str) -> bool {
    // The body of a document's DELETE is looked at for the document's own fields only.
    let is_document = ["/core/query-tasks/one", THINGS, THING].contains(&path);
    is_document || path.ends_with("/forwarding") || path.contains("/actions/")
}

const THING: &str = "/app/things/one";

/// Makes an instance, a kind of documents and one of these. The kinds that there are then.
fn filled(host: &Host) -> Catalogue {
    let begun = Instant::now();
    let made = |path: &str, body: &str| {
        while ask(host, "POST", path, "", body).0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "{path} takes nothing");
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    made("/core/immortals", r#"{"name":"one"}"#);
    let kind = serde_json::json!({ "link": THINGS, "schema": {"type": "object",
        "properties": {"name": {"type": "string"}}, "additionalProperties": false} });
    made("/core/factories", &kind.to_string());
    made(THINGS, r#"{"documentSelfLink":"one","name":"x"}"#);
    let definition = Document {
        link: "/core/factories/app.things".into(),
        version: 0,
        epoch: Default::default(),
        kind: String::new(),
        action: Action::Post,
        updated: Moment(1),
        expires: Moment(0),
        owner: "n1".into(),
        author: None,
        body: Body::from_state(&kind).expect("it is an object"),
    };
    let mut catalogue = Catalogue::new();
    assert!(catalogue.define(&definition), "it is a kind");
    catalogue
}

/// Each path of the table, with query tasks and with documents.
fn for_each_path(catalogue: &Catalogue, mut each: impl FnMut(&'static Resource, &str)) {
    for resource in SURFACE {
        for factory in ["/core/query-tasks", THINGS] {
            if factory == THINGS && !resource.path.contains("FACTORY") {
                continue;
            }
            for path in examples(resource, factory) {
                let at = Resource::at(&path, catalogue);
                each(at.unwrap_or_else(|| panic!("{path} is nothing")), &path);
            }
        }
    }
}

/// The names of the headers, and the values of those that are the same each time.
fn headers(host: &Host, method: &str, path: &str, more: &str) -> (u16, Vec<String>, usize) {
    let mut socket = TcpStream::connect(host.address().authority()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
    socket.write_all(head.as_bytes()).expect("it takes the request");
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer));
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").expect("it has a head");
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    // Counters and times make some answers longer than others.
    let differs = |line: &str| line.starts_with("date: ") || line.starts_with("content-length: ");
    let shown = lines.map(|line| {
        let end = if differs(line) { line.find(':').unwrap_or(0) } else { line.len() };
        line[..end].to_owned()
    });
    let mut shown: Vec<String> = shown.collect();
    shown.sort();
    (status.expect("it has a status"), shown, answer.len() - end - 4)
}

#[test]
fn a_head_has_the_headers_of_a_get_on_each_path() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Some(folder.path().join("s"));
    let config = Config { port: 0, sandbox, ..Config::default() };
    let host = Host::start(config, Catalogue::new()).expect("it starts");
    let catalogue = filled(&host);
    let mut paths: Vec<String> = Vec::new();
    for_each_path(&catalogue, |at, path| {
        if at.verbs.iter().any(|verb| verb.method == Method::Get) {
            paths.push(path.to_owned());
        }
    });
    let list = format!("{THINGS}?$limit=1&$count");
    paths.extend([list.clone(), format!("{THINGS}?expand"), "/core/nothing".into()]);
    ask(&host, "POST", THINGS, "", r#"{"name":"y"}"#);
    let (_, first) = ask(&host, "GET", &list, "", "");
    paths.push(first["nextPageLink"].as_str().expect("there is another page").to_owned());
    let mut served = 0;
    for path in &paths {
        for more in ["", "Accept-Encoding: gzip\r\n", "If-None-Match: *\r\n"] {
            let (of_get, shown, length) = headers(&host, "GET", path, more);
            let (of_head, same, none) = headers(&host, "HEAD", path, more);
            assert_eq!((of_get, &shown, 0), (of_head, &same, none), "{path} {more}");
            served += usize::from(of_get == 200 && length > 0);
        }
    }
    let (_, shown, _) = headers(&host, "HEAD", THING, "");
    assert!(shown.iter().any(|line| line.starts_with("etag: ")), "{shown:?}");
    let (_, shown, _) = headers(&host, "HEAD", "/metrics", "Accept-Encoding: gzip\r\n");
    assert!(shown.contains(&"content-encoding: gzip".to_owned()), "{shown:?}");
    assert!(served > 40, "{served} of {} are served", paths.len());
    host.stop();
    host.wait().expect("it stops in good order");
}

#[test]
fn each_path_and_each_verb_names_what_it_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Some(folder.path().join("s"));
    let config = Config { port: 0, sandbox, ..Config::default() };
    let host = Host::start(config, Catalogue::new()).expect("it starts");
    let catalogue = filled(&host);
    let mut refusals = Refusals { host: &host, count: 0 };
    for_each_path(&catalogue, |at, path| {
        for verb in at.verbs_at(path, &catalogue) {
            refusals.of_verb(verb, path);
        }
    });
    assert!(refusals.count > 900, "{} refusals", refusals.count);
    // A document says what it is when it is closed.
    for (method, path) in [("POST", THINGS), ("PUT", THING), ("PATCH", THING)] {
        let (status, said) = ask(&host, method, path, "", r#"{"name":"x","nonsense":1}"#);
        let message = said["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.contains("nonsense"), "{method} {path}: {status} {said}");
    }
    let (_, thing) = ask(&host, "GET", THING, "", "");
    assert_eq!((&thing["name"], &thing["documentVersion"]), (&"x".into(), &0.into()), "{thing}");
    // All of that has changed nothing.
    let (_, list) = ask(&host, "GET", "/core/immortals", "", "");
    assert_eq!(list["documentLinks"], serde_json::json!(["/core/immortals/one"]));
    let (_, group) = ask(&host, "GET", "/core/node-groups/default", "", "");
    assert_eq!(group["membershipQuorum"], 1);
    host.stop();
    host.wait().expect("it stops in good order");
}
