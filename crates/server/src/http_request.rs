//! From HTTP to a [`protocol::Request`]: what was asked is understood whole, or refused by name.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method as Verb, Uri, Version};
use protocol::links::percent_decode;
use protocol::{BodyType, Code, EntityTags, Method, Outcome, Problem, Request, WriteQuorum};

use crate::browsers::only;
use crate::budget::Held;
use crate::principal;

/// The largest body of a request, also when it is packed.
pub const BODY_BYTES_MAX: usize = 8 << 20;

/// How much of a body over the limit is read and thrown away before the connection is cut.
const DISCARDED_BYTES_MAX: usize = 128 << 20;

/// The longest `Idempotency-Key`: it is kept for a day, with every key of that day.
const KEY_BYTES_MAX: usize = 1_024;

/// How long the body of a request may take to arrive.
const READ_MAX: Duration = Duration::from_secs(30);

/// How much of a body that nobody wants is read, so that its sender sees the answer...
const UNWANTED_BYTES_MAX: usize = 1 << 20;

/// ... and how long that may take.
const UNWANTED_MAX: Duration = Duration::from_millis(500);

/// A packed body over this is unpacked on another thread.
const INFLATED_HERE_BYTES_MAX: usize = 16 << 10;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Xenon's for how many replicas must hold a write.
const QUORUM: HeaderName = HeaderName::from_static(WriteQuorum::HEADER);

/// Xenon's headers that change nothing here.
const XENON_HEADERS_HARMLESS: [&str; 2] = ["x-xenon-auth-token", "x-xenon-ctx-id"];

/// Headers that ask for something else than is done here, and what to do instead.
const REFUSED: [(&str, &str); 10] = [
    ("content-range", "a document is written whole; PATCH changes parts"),
    ("range", "a document is read whole"),
    ("if-range", "a document is read whole"),
    ("x-http-method-override", METHOD),
    ("x-http-method", METHOD),
    ("x-method-override", METHOD),
    ("content-md5", DIGEST),
    ("content-digest", DIGEST),
    ("repr-digest", DIGEST),
    ("digest", DIGEST),
];
const METHOD: &str = "send the request with the verb that is meant";
const DIGEST: &str = "bodies are not compared with digests; leave it out";

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
}

pub(crate) fn to_method(method: &Verb) -> Option<Method> {
    Some(match *method {
        // A HEAD is a GET whose body is not sent.
        Verb::GET | Verb::HEAD => Method::Get,
        Verb::POST => Method::Post,
        Verb::PUT => Method::Put,
        Verb::PATCH => Method::Patch,
        Verb::DELETE => Method::Delete,
        Verb::OPTIONS => Method::Options,
        _ => return None,
    })
}

/// Reads all of it. What it takes is counted in `held`, which is to be kept until the answer.
pub(crate) async fn to_request(
    request: hyper::Request<Incoming>,
    held: &mut Held,
) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let method = to_method(&parts.method).ok_or_else(|| no_such_verb(&parts.method))?;
    let refused = |mut problem: Problem| {
        problem.outcome = method.is_write().then_some(Outcome::NotApplied);
        problem
    };
    let waits = parts.headers.contains_key(header::EXPECT);
    let understood = understand(method, &parts.uri, &parts.headers, !body.is_end_stream());
    let (mut request, packing) = match understood {
        Ok(understood) => understood,
        Err(problem) => {
            discard(body, waits).await;
            return Err(refused(problem));
        }
    };
    let body = read_body(body, waits, held).await.map_err(refused)?;
    request.body = match packing {
        Packing::Plain => body,
        Packing::Gzip => unpack(body, held).await.map_err(refused)?,
    };
    Ok(request)
}

pub(crate) fn no_such_verb(method: &Verb) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("there is no verb {method} here"))
}

/// Whether it is unclear where the body ends: a length that the library takes and others may read
/// in another way (`5, 5`). Then it is not known where the next request begins.
pub(crate) fn unclear_length(headers: &HeaderMap) -> Option<&'static str> {
    let is_number =
        |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let is_clear = lengths.next().is_none_or(is_number) && lengths.next().is_none();
    (!is_clear).then_some(
        "the header Content-Length must be one number, in digits: otherwise it is not clear where \
         the body ends",
    )
}

/// All that stands before the body.
fn understand(
    method: Method,
    uri: &Uri,
    headers: &HeaderMap,
    has_body: bool,
) -> Result<(Request, Packing), Problem> {
    let packing = packing(headers)?;
    let mut request = head(method, uri, headers)?;
    request.principal = principal::of(headers)?;
    if has_body {
        request.body_type = body_type(headers)?;
    }
    Ok((request, packing))
}

/// A GET without a body, of whom nobody asks who it is.
pub(crate) fn look(uri: &Uri, headers: &HeaderMap) -> Result<Request, Problem> {
    head(Method::Get, uri, headers)
}

fn head(method: Method, uri: &Uri, headers: &HeaderMap) -> Result<Request, Problem> {
    check_headers(method, headers)?;
    let mut request = Request::new(method, path(uri.path())?);
    request.query = uri.query().unwrap_or_default().to_owned();
    percent_decode(&request.query)?;
    request.conditions.if_match = tags(headers, &header::IF_MATCH)?;
    request.conditions.if_none_match = tags(headers, &header::IF_NONE_MATCH)?;
    request.quorum = quorum(headers)?;
    request.idempotency_key = key(headers)?;
    for value in headers.get_all(header::PRAGMA) {
        let wrong = |_| Problem::bad_request("the header pragma must be plain ASCII");
        let directives = value.to_str().map_err(wrong)?.split([';', ',']);
        let directives = directives.map(|text| text.trim().to_ascii_lowercase());
        request.pragmas.extend(directives.filter(|text| !text.is_empty()));
    }
    Ok(request)
}

/// Headers that must not stand there twice, and those that would be dangerous to ignore.
fn check_headers(method: Method, headers: &HeaderMap) -> Result<(), Problem> {
    for name in [header::HOST, header::CONTENT_LENGTH, header::CONTENT_TYPE, header::AUTHORIZATION]
    {
        only(headers, &name)?;
    }
    // Beside chunks nothing is unpacked that stands there.
    if let Some(other) = only(headers, &header::TRANSFER_ENCODING)?
        && !other.trim().eq_ignore_ascii_case("chunked")
    {
        return Err(Problem::bad_request(format!(
            "the header {} is '{other}': only chunked is served here; pack a body by \
             Content-Encoding: gzip",
            header::TRANSFER_ENCODING
        )));
    }
    for name in XENON_HEADERS_HARMLESS {
        only(headers, &HeaderName::from_static(name))?;
    }
    if let Some(expected) = only(headers, &header::EXPECT)?
        && !expected.eq_ignore_ascii_case("100-continue")
    {
        let message = format!("this node cannot do what is expected: '{expected}'; leave it out");
        return Err(Problem::new(Code::ExpectationFailed, message));
    }
    let refused = |name: &HeaderName, why: &str| {
        Err(Problem::bad_request(format!("the header {name} is not served here: {why}")))
    };
    // A second is too long: several versions may have been made in it. Beside the tags the times
    // mean nothing, as HTTP has it.
    if headers.contains_key(header::IF_UNMODIFIED_SINCE) && !headers.contains_key(header::IF_MATCH)
    {
        return refused(&header::IF_UNMODIFIED_SINCE, "send If-Match with the document's ETag");
    }
    let has_tags = headers.contains_key(header::IF_NONE_MATCH);
    if headers.contains_key(header::IF_MODIFIED_SINCE) && !has_tags {
        return refused(&header::IF_MODIFIED_SINCE, "send If-None-Match with the document's ETag");
    }
    if headers.contains_key(QUORUM) && !method.is_write() {
        return refused(&QUORUM, "a read is linearizable without it");
    }
    if let Some((name, why)) = REFUSED.into_iter().find(|(name, _)| headers.contains_key(*name)) {
        return refused(&HeaderName::from_static(name), why);
    }
    for name in headers.keys() {
        let known = XENON_HEADERS_HARMLESS.contains(&name.as_str()) || *name == QUORUM;
        if name.as_str().starts_with("x-xenon-") && !known {
            return refused(
                name,
                "it would be ignored, and the outcome be another one; leave it out",
            );
        }
    }
    Ok(())
}

/// What form a body has. Forms and plain text are what curl and its kind call JSON when nothing
/// is said; a page in a browser may send these without being asked, so with an origin they count.
fn body_type(headers: &HeaderMap) -> Result<BodyType, Problem> {
    let kind = only(headers, &header::CONTENT_TYPE)?.unwrap_or_default();
    let mut parts = kind.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            let value = value.trim_matches('"').to_ascii_lowercase();
            ["utf-8", "utf8", "us-ascii"].contains(&value.as_str())
        }
        _ => true,
    };
    let of_a_page = headers.contains_key(header::ORIGIN);
    let body_type = match name.as_str() {
        "application/merge-patch+json" => Some(BodyType::MergePatch),
        "application/json" => Some(BodyType::Json),
        "" | "text/plain" | "application/x-www-form-urlencoded" if !of_a_page => {
            Some(BodyType::Json)
        }
        _ => None,
    };
    body_type.filter(|_| parts.all(utf8)).ok_or_else(|| {
        let message = format!(
            "a body of type '{kind}' is not taken here; send Content-Type: application/json, or \
             application/merge-patch+json with PATCH, both in UTF-8"
        );
        Problem::new(Code::UnsupportedMediaType, message)
    })
}

fn packing(headers: &HeaderMap) -> Result<Packing, Problem> {
    let named = only(headers, &header::CONTENT_ENCODING)?.unwrap_or("identity");
    match named.trim().to_ascii_lowercase().as_str() {
        "identity" | "" => Ok(Packing::Plain),
        "gzip" | "x-gzip" => Ok(Packing::Gzip),
        _ => {
            let message = format!(
                "a body in the Content-Encoding '{named}' cannot be read; use gzip or none"
            );
            Err(Problem::new(Code::UnsupportedMediaType, message))
        }
    }
}

/// Decoded, and without the one slash at the end that there may be: `/core/examples/` is
/// `/core/examples`.
pub(crate) fn path(raw: &str) -> Result<String, Problem> {
    let mut path = percent_decode(raw)?;
    if !path.starts_with('/') {
        let shown: String = path.chars().take(80).collect();
        let message = format!("the link '{shown}' does not begin with '/'");
        return Err(Problem::new(Code::BadLink, message));
    }
    if path.ends_with("//") {
        let shown: String = path.chars().take(80).collect();
        let message = format!("the link '{shown}' has an empty part; leave out the second slash");
        return Err(Problem::new(Code::BadLink, message));
    }
    if path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    Ok(path)
}

/// # Errors
/// When a request of HTTP/1.1 does not say which host it is for.
pub(crate) fn check_host_is_there<B>(request: &hyper::Request<B>) -> Result<(), Problem> {
    let is_named =
        request.headers().contains_key(header::HOST) || request.uri().authority().is_some();
    if is_named || request.version() != Version::HTTP_11 {
        return Ok(());
    }
    Err(Problem::bad_request("a request of HTTP/1.1 needs the header Host"))
}

/// All lines of a header with entity tags, as one.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<EntityTags>, Problem> {
    let mut lines = Vec::new();
    for value in headers.get_all(name) {
        let wrong = |_| Problem::bad_request(format!("the header {name} must be plain ASCII"));
        lines.push(value.to_str().map_err(wrong)?);
    }
    if lines.is_empty() {
        return Ok(None);
    }
    let wrong = |why| Problem::bad_request(format!("the header {name}: {why}"));
    lines.join(", ").parse().map(Some).map_err(wrong)
}

fn quorum(headers: &HeaderMap) -> Result<Option<WriteQuorum>, Problem> {
    let Some(text) = only(headers, &QUORUM)? else { return Ok(None) };
    let wrong = |why| Problem::bad_request(format!("the header {QUORUM} {why}"));
    text.trim().parse().map(Some).map_err(wrong)
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let key = only(headers, &IDEMPOTENCY_KEY)?;
    match key {
        Some(key) if key.is_empty() || key.len() > KEY_BYTES_MAX => {
            Err(Problem::bad_request(format!(
                "the header {IDEMPOTENCY_KEY} is {} bytes long; it must have from 1 to \
                 {KEY_BYTES_MAX}",
                key.len()
            )))
        }
        _ => Ok(key.map(str::to_owned)),
    }
}

/// `waits`: the client asked whether to send the body at all.
async fn read_body(body: Incoming, waits: bool, held: &mut Held) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let limit = u64::try_from(BODY_BYTES_MAX).expect("a constant fits");
    if body.size_hint().lower() > limit && waits {
        return Err(too_large());
    }
    match tokio::time::timeout(READ_MAX, collect(body, held)).await {
        Ok(read) => read,
        Err(_) => {
            let message = format!("the body did not arrive within {} s", READ_MAX.as_secs());
            Err(Problem::new(Code::BadBody, message))
        }
    }
}

async fn collect(mut body: Incoming, held: &mut Held) -> Result<Bytes, Problem> {
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(Code::BadBody, format!("the body did not arrive whole: {error}"))
        })?;
        let Ok(chunk) = frame.into_data() else { continue };
        bytes += chunk.len();
        if bytes <= BODY_BYTES_MAX {
            if !held.grow(chunk.len()) {
                return Err(no_room());
            }
            chunks.push(chunk);
        } else if bytes > DISCARDED_BYTES_MAX {
            return Err(too_large());
        } else {
            // Read on and throw away: a client that is cut off in the middle of its body does not
            // see the answer that tells it why.
            chunks.clear();
            held.give_back_all();
        }
    }
    match chunks.len() {
        _ if bytes > BODY_BYTES_MAX => Err(too_large()),
        1 => Ok(chunks.remove(0)),
        _ => Ok(chunks.concat().into()),
    }
}

/// Reads a little of a body that nobody wants: a client that is cut off while it writes does not
/// see the answer. One that asked first has not sent it.
pub(crate) async fn discard(mut body: Incoming, waits: bool) {
    if waits {
        return;
    }
    let all = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > UNWANTED_BYTES_MAX {
                return;
            }
        }
    };
    // A client that is slower than that is cut off.
    drop(tokio::time::timeout(UNWANTED_MAX, all).await);
}

async fn unpack(packed: Bytes, held: &mut Held) -> Result<Bytes, Problem> {
    // Whatever it was before, it is at most this afterwards.
    let room = BODY_BYTES_MAX.min(packed.len().saturating_mul(INFLATION_MAX));
    if !held.grow(room) {
        return Err(no_room());
    }
    let unpacked = if packed.len() <= INFLATED_HERE_BYTES_MAX {
        inflate(&packed)
    } else {
        let work = tokio::task::spawn_blocking(move || inflate(&packed));
        work.await.unwrap_or_else(|_| Err(Problem::internal("the body could not be unpacked")))
    };
    unpacked.map(Bytes::from)
}

/// Deflate packs at most about 1,032 bytes into one.
const INFLATION_MAX: usize = 1_040;

fn inflate(packed: &[u8]) -> Result<Vec<u8>, Problem> {
    let limit = u64::try_from(BODY_BYTES_MAX).expect("a constant fits");
    let mut unpacked = Vec::new();
    let read = MultiGzDecoder::new(packed).take(limit + 1).read_to_end(&mut unpacked);
    match read {
        Ok(count) if count > BODY_BYTES_MAX => Err(too_large()),
        Ok(_) => Ok(unpacked),
        Err(error) => {
            Err(Problem::new(Code::BadBody, format!("the body is not whole gzip: {error}")))
        }
    }
}

fn no_room() -> Problem {
    let message = "the node holds as many bytes of requests as it can, of this client or of all; nothing was done, \
                   try again";
    Problem::new(Code::Busy, message)
}

fn too_large() -> Problem {
    let message = format!("the body is over the limit of {BODY_BYTES_MAX} bytes");
    Problem::new(Code::TooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn read(
        method: Method,
        uri: &str,
        pairs: &[(&'static str, &'static str)],
    ) -> Result<Request, Problem> {
        let uri = uri.parse().unwrap();
        understand(method, &uri, &headers(pairs), true).map(|(request, _)| request)
    }

    /// What the reference says of headers of a request, by its names in backticks.
    fn told() -> Vec<(Vec<String>, String)> {
        let reference = include_str!("../../../docs/reference-rest.md");
        let table = reference.split("\n## HTTP\n").nth(1).expect("there is that part");
        let rows = table.split("\n## ").next().expect("it has an end").lines();
        let rows = rows.filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
        let named = |cell: &str| {
            let names = cell.split('`').skip(1).step_by(2);
            names.map(str::to_ascii_lowercase).collect::<Vec<_>>()
        };
        // Some rows are of a header in some case only, such as when it stands there twice.
        let is_of_all = |names: &str| {
            let others = names.split('`').step_by(2);
            others.flat_map(str::chars).all(|c| c == ',' || c == ' ')
        };
        let rows = rows.filter(|(names, _)| is_of_all(names));
        rows.map(|(names, what)| (named(names), what.to_owned())).collect()
    }

    #[test]
    fn the_reference_tells_what_becomes_of_each_header() {
        let told = told();
        let row = |name: &str| {
            let found = told.iter().find(|(names, _)| names.iter().any(|one| one == name));
            &found.unwrap_or_else(|| panic!("the reference says nothing of {name}")).1
        };
        let of = |name: &str, value: &str| {
            let mut map = HeaderMap::new();
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.insert(name, HeaderValue::from_str(value).unwrap());
            understand(Method::Patch, &"/a/b".parse().unwrap(), &map, true).map(|_| ())
        };
        // What is refused is told to be 400, and what is told to be 400 at once is refused.
        for (name, _) in REFUSED {
            assert!(row(name).starts_with("400"), "{name}: {}", row(name));
        }
        for (names, what) in &told {
            let is_header = |name: &&String| HeaderName::from_bytes(name.as_bytes()).is_ok();
            for name in names.iter().filter(is_header).filter(|_| what.starts_with("400")) {
                let why = of(name, "1").expect_err(name);
                // Of a header that stands twice the table says so by another row.
                let is_named = why.message.to_lowercase().contains(name.as_str());
                assert!(is_named && why.status() == 400, "{name}: {why}");
            }
        }
        for name in XENON_HEADERS_HARMLESS {
            row(name);
            assert!(of(name, "1").is_ok(), "{name}");
        }
        for name in [header::IF_MATCH, header::IF_NONE_MATCH, QUORUM, IDEMPOTENCY_KEY] {
            row(name.as_str());
        }
        let codings = row("content-encoding").split('`').skip(1).step_by(2);
        for coding in codings.filter(|word| word.chars().all(|c| c.is_ascii_lowercase())) {
            assert!(of("content-encoding", coding).is_ok(), "{coding}");
        }
        assert_eq!(of("content-encoding", "br").unwrap_err().status(), 415);
        assert!(row("content-encoding").contains("Others: 415"));
        let types = row("content-type").split("Others").next().expect("it begins");
        let types = types.split('`').skip(1).step_by(2);
        for name in types.filter(|word| word.contains('/')) {
            assert!(of("content-type", name).is_ok(), "{name}");
        }
        assert_eq!(of("content-type", "application/xml").unwrap_err().status(), 415);
        assert!(of("expect", "100-continue").is_ok() && row("expect").contains("100-continue"));
    }

    #[test]
    fn a_length_is_one_number() {
        let of = |pairs: &[(&'static str, &'static str)]| unclear_length(&headers(pairs)).is_some();
        assert!(!of(&[]) && !of(&[("content-length", "0")]) && !of(&[("content-length", "16")]));
        for unclear in ["5, 5", "5,5", "+5", "0x5", "5 5", "", "-0"] {
            assert!(of(&[("content-length", unclear)]), "{unclear}");
        }
        assert!(of(&[("content-length", "5"), ("content-length", "5")]));
    }

    #[test]
    fn a_head_becomes_a_request() {
        let pairs = [
            ("content-type", "Application/Merge-Patch+JSON; charset=utf-8"),
            ("x-xenon-rpl-quorum", "2"),
            ("if-match", "\"1.2\""),
            ("idempotency-key", "k"),
            ("pragma", "xn-Force-Index-Update; no-cache"),
        ];
        let uri = "/core/examples/a%20b/?documentVersion=3&x=%41";
        let request = read(Method::Patch, uri, &pairs).unwrap();
        assert_eq!(request.path, "/core/examples/a b");
        assert_eq!(request.query, "documentVersion=3&x=%41");
        assert_eq!(request.body_type, BodyType::MergePatch);
        assert_eq!(request.conditions.if_match.unwrap().to_string(), "\"1.2\"");
        assert_eq!(request.idempotency_key.as_deref(), Some("k"));
        assert_eq!(request.pragmas, ["xn-force-index-update", "no-cache"]);
    }

    #[test]
    fn a_key_that_is_empty_or_too_long_is_refused() {
        let uri: Uri = "/core/examples".parse().unwrap();
        let with = |key: String| {
            let mut headers = HeaderMap::new();
            headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&key).unwrap());
            head(Method::Post, &uri, &headers)
        };
        assert!(with("k".repeat(KEY_BYTES_MAX)).is_ok());
        for wrong in [String::new(), "k".repeat(KEY_BYTES_MAX + 1)] {
            let problem = with(wrong).unwrap_err();
            assert_eq!(problem.status(), 400);
            assert!(problem.message.contains("from 1 to 1024"), "{problem}");
        }
    }

    #[test]
    fn a_path_that_is_not_utf8_is_no_link() {
        for wrong in ["/core/%ff", "/core/%c3%28", "/core/%", "/core/%4", "/core/%zz", "/c?x=%fe"] {
            let problem = read(Method::Get, wrong, &[]).unwrap_err();
            assert_eq!((problem.status(), problem.code), (400, Code::BadLink), "{wrong}");
        }
        for wrong in ["/core/examples//", "/core/examples/%2F", "//"] {
            let problem = read(Method::Get, wrong, &[]).unwrap_err();
            assert_eq!((problem.status(), problem.code), (400, Code::BadLink), "{wrong}");
        }
        assert_eq!(read(Method::Get, "/core/examples/", &[]).unwrap().path, "/core/examples");
        assert_eq!(read(Method::Get, "/core/%C3%A9", &[]).unwrap().path, "/core/é");
    }

    #[test]
    fn what_stands_twice_or_would_be_ignored_is_refused_by_name() {
        for (name, value) in [
            ("x-xenon-rpl-quorum", "2"),
            ("idempotency-key", "k"),
            ("content-length", "3"),
            ("content-type", "application/json"),
            ("x-xenon-ctx-id", "c"),
            ("x-xenon-auth-token", "t"),
        ] {
            let problem =
                read(Method::Put, "/core/x", &[(name, value), (name, value)]).unwrap_err();
            assert!(problem.message.contains(name), "{problem}");
        }
        for (name, value) in [
            ("x-xenon-rpl-quorum", "most"),
            ("x-xenon-tx-id", "t"),
            ("if-none-match", "1.2"),
            ("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT"),
            ("if-unmodified-since", "Sat, 29 Oct 1994 19:43:31 GMT"),
            ("content-range", "bytes 0-1/2"),
            ("range", "bytes=0-1"),
            ("if-range", "\"1\""),
            ("x-http-method-override", "DELETE"),
            ("x-http-method", "DELETE"),
            ("x-method-override", "DELETE"),
            ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
            ("content-digest", "sha-256=:x:"),
            ("repr-digest", "sha-256=:x:"),
            ("digest", "sha-256=x"),
            ("expect", "202-accepted"),
            ("transfer-encoding", "gzip, chunked"),
        ] {
            let problem = read(Method::Put, "/core/x", &[(name, value)]).unwrap_err();
            assert!(problem.message.contains(value) || problem.message.contains(name), "{problem}");
        }
        assert!(read(Method::Get, "/core/x", &[("x-xenon-ctx-id", "c")]).is_ok());
    }

    #[test]
    fn lines_of_tags_are_one_list() {
        let lines = [("if-match", "\"1\", \"2\""), ("if-match", "W/\"3\"")];
        let request = read(Method::Put, "/core/x", &lines).unwrap();
        assert_eq!(request.conditions.if_match.unwrap().to_string(), "\"1\", \"2\", W/\"3\"");
        let request = read(Method::Put, "/core/x", &[("x-xenon-rpl-quorum", "x-xenon-all")]);
        assert_eq!(request.unwrap().quorum, Some(WriteQuorum::All));
        let since = ("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT");
        assert!(read(Method::Get, "/core/x", &[("if-none-match", "\"1\""), since]).is_ok());
    }

    #[test]
    fn the_type_of_a_body_counts() {
        let of = |pairs: &[(&'static str, &'static str)]| {
            read(Method::Post, "/core/examples", pairs).map_err(|problem| problem.status())
        };
        let page = ("origin", "http://127.0.0.1:8000");
        for simple in ["application/x-www-form-urlencoded", "text/plain;charset=UTF-8", ""] {
            assert!(of(&[("content-type", simple)]).is_ok(), "{simple}");
            assert_eq!(of(&[("content-type", simple), page]).unwrap_err(), 415, "{simple}");
        }
        assert!(of(&[("content-type", "application/json"), page]).is_ok());
        for other in ["application/xml", "multipart/form-data", "application/json;charset=latin1"] {
            assert_eq!(of(&[("content-type", other)]).unwrap_err(), 415, "{other}");
        }
        for packed in ["br", "gzip, gzip", "deflate"] {
            assert_eq!(of(&[("content-encoding", packed)]).unwrap_err(), 415, "{packed}");
        }
    }
}
