//! From a [`protocol::Response`] to HTTP. What an answer takes stays in the account of memory until
//! its client has taken it.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use protocol::{Behind, Code, Problem, Response, links};

use crate::allow::Allowed;
use crate::budget::Held;

pub(crate) type Answer = hyper::Response<Bytes>;

/// A shorter answer is not packed: it would hardly be shorter afterwards.
const PACKED_BYTES_MIN: usize = 1 << 10;

/// A longer one is packed on another thread.
const PACKED_HERE_BYTES_MAX: usize = 64 << 10;

/// An answer of which the bytes are a part of the program: nothing is held for it. It has the
/// same bytes packed, too.
#[derive(Clone)]
pub(crate) struct OfTheProgram {
    pub(crate) packed: Option<Bytes>,
}

pub(crate) fn to_http(response: Response) -> Answer {
    let is_empty = response.body.is_empty();
    let mut answer = Answer::new(response.body);
    *answer.status_mut() =
        StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    if !is_empty {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if response.status == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let behind = response.behind.map(|behind| behind.to_string());
    let texts = [
        (header::ETAG, response.etag),
        (header::LOCATION, response.location.as_deref().map(percent_encode)),
        (HeaderName::from_static(Behind::HEADER), behind),
    ];
    for (name, value) in texts {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
            headers.insert(name, value);
        }
    }
    if let Some(seconds) = response.retry_after_seconds {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

pub(crate) fn problem(problem: Problem) -> Answer {
    to_http(problem.into())
}

pub(crate) fn plain(text: impl Into<Bytes>) -> Answer {
    let mut answer = Answer::new(text.into());
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// Nothing to say but which verbs there are.
pub(crate) fn verbs(allowed: &Allowed) -> Answer {
    let mut answer = Answer::new(Bytes::new());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    allow(&mut answer, allowed.header(None));
    answer
}

pub(crate) fn allow(answer: &mut Answer, verbs: HeaderValue) {
    answer.headers_mut().insert(header::ALLOW, verbs);
}

/// A link as it stands in a header: what is not plain in a path is percent-encoded.
fn percent_encode(link: &str) -> String {
    links::percent_encode(link, b"/-._~!$&'()*+,;=:@")
}

/// The versions that a client has already, as its headers say.
pub(crate) fn known_versions(asked: &HeaderMap) -> Vec<HeaderValue> {
    asked.get_all(header::IF_NONE_MATCH).iter().cloned().collect()
}

/// A client that has this version already is told so.
pub(crate) fn not_modified(answer: &mut Answer, known: &[HeaderValue]) {
    if known.is_empty() || answer.status() != StatusCode::OK {
        return;
    }
    let Some(etag) = answer.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok()) else {
        return;
    };
    let is_known = known.iter().any(|value| {
        let mut tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    });
    if is_known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer.body_mut().clear();
        answer.headers_mut().remove(header::CONTENT_TYPE);
    }
}

/// Whether the client takes gzip: said by name or by `*`, and not with a weight of nothing.
pub(crate) fn takes_gzip(asked: &HeaderMap) -> bool {
    let mut any = None;
    for value in asked.get_all(header::ACCEPT_ENCODING) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let mut words = part.split(';').map(str::trim);
            let name = words.next().unwrap_or_default().to_ascii_lowercase();
            let weight = words.find_map(|word| word.strip_prefix("q=")).unwrap_or("1");
            let takes = weight.parse::<f32>().is_ok_and(|weight| weight > 0.0);
            match name.as_str() {
                "gzip" | "x-gzip" => return takes,
                "*" => any = Some(takes),
                _ => {}
            }
        }
    }
    any.unwrap_or(false)
}

/// Packs the answer, if that is worth it.
pub(crate) async fn pack(answer: Answer) -> Answer {
    let bytes = answer.body().len();
    if bytes < PACKED_BYTES_MIN || answer.headers().contains_key(header::CONTENT_ENCODING) {
        return answer;
    }
    let (mut parts, plain) = answer.into_parts();
    let packed = if let Some(file) = parts.extensions.get::<OfTheProgram>() {
        file.packed.clone()
    } else if bytes <= PACKED_HERE_BYTES_MAX {
        deflate(&plain)
    } else {
        let all = plain.clone();
        tokio::task::spawn_blocking(move || deflate(&all)).await.unwrap_or(None)
    };
    let packed = packed.filter(|packed| packed.len() < plain.len());
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if packed.is_some() {
        parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Answer::from_parts(parts, packed.unwrap_or(plain))
}

pub(crate) fn deflate(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// Counts the answer, as long as what is `held` is. One to a read that does not fit is not given:
/// the same can be asked again. What became of a write is told for longer. None: not even a refusal
/// has room, and the connection is to end.
pub(crate) fn account(answer: Answer, is_write: bool, held: &mut Held) -> Option<Answer> {
    let bytes = answer.body().len();
    if answer.extensions().get::<OfTheProgram>().is_some() || held.grow_by_answer(bytes, is_write) {
        return Some(answer);
    }
    if is_write {
        return None;
    }
    let is_own_fault = held.is_over(bytes);
    let message = match is_own_fault {
        true => {
            "this client has not taken other answers, and there is no room for one more of it; \
                 take them first, or ask for pages with $limit"
        }
        false => {
            "answers of this node wait to be taken, and there is no room for one more that is \
                  so long; try again, or ask for pages with $limit"
        }
    };
    let mut answer = problem(Problem::new(Code::Busy, message));
    if is_own_fault {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    held.grow_by_answer(answer.body().len(), true).then_some(answer)
}

/// The same head, and no body.
pub(crate) fn without_body(answer: Answer) -> Answer {
    let bytes = answer.body().len();
    let (mut parts, _) = answer.into_parts();
    if parts.status != StatusCode::NO_CONTENT && parts.status != StatusCode::NOT_MODIFIED {
        parts.headers.insert(header::CONTENT_LENGTH, bytes.into());
    }
    Answer::from_parts(parts, Bytes::new())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::budget::{Budget, MEMORY_BYTES_MAX, Purpose, Share};

    fn asked(name: HeaderName, value: &'static str) -> HeaderMap {
        [(name, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn a_response_keeps_its_headers() {
        let response = Response {
            etag: Some("\"1.2\"".into()),
            retry_after_seconds: Some(1),
            location: Some("/core/examples/o né".into()),
            behind: Some(Behind { entries: 2, millis: Some(37) }),
            ..Response::bytes(503, Bytes::from_static(b"{}"))
        };
        let answer = to_http(response);
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["etag"], "\"1.2\"");
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(answer.headers()["location"], "/core/examples/o%20n%C3%A9");
        assert_eq!(answer.headers()["amrita-behind"], "entries=2, ms=37");
        assert_eq!(answer.headers()["content-type"], "application/json");
    }

    #[test]
    fn gzip_is_given_to_those_who_take_it() {
        for yes in ["gzip", "br, GZIP;q=0.5", "*", "*;q=0, gzip"] {
            assert!(takes_gzip(&asked(header::ACCEPT_ENCODING, yes)), "{yes}");
        }
        for no in ["", "identity", "gzip;q=0", "gzip;q=0, *", "br", "*;q=0"] {
            assert!(!takes_gzip(&asked(header::ACCEPT_ENCODING, no)), "{no}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn one_who_has_the_version_is_not_sent_it_again() {
        let of = |tags| {
            let response =
                Response { etag: Some("\"1.2\"".into()), ..Response::bytes(200, "{}".into()) };
            let mut answer = to_http(response);
            let known = known_versions(&asked(header::IF_NONE_MATCH, tags));
            not_modified(&mut answer, &known);
            (answer.status().as_u16(), answer.body().len())
        };
        for same in ["\"1.2\"", "\"0.1\", W/\"1.2\"", "*"] {
            assert_eq!(of(same), (304, 0), "{same}");
        }
        assert_eq!(of("\"1.3\""), (200, 2));
    }

    #[test]
    fn an_answer_counts_until_it_is_taken_and_a_long_one_needs_room() {
        let budget = Arc::new(Budget::default());
        let long = || plain(vec![b'x'; MEMORY_BYTES_MAX / 2]);
        let open = || budget.open(Purpose::Answer);
        let (mut first, mut second, mut third) = (open(), open(), open());
        let told = account(long(), false, &mut first).unwrap();
        assert_eq!((told.status().as_u16(), budget.used()), (200, MEMORY_BYTES_MAX / 2));
        assert_eq!(account(long(), false, &mut second).unwrap().status().as_u16(), 503);
        let write = plain(vec![b'x'; MEMORY_BYTES_MAX / 4]);
        let write = account(write, true, &mut third).unwrap();
        assert_eq!(write.status().as_u16(), 200, "the outcome of a write is told for longer");
        drop((first, second, third));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn who_takes_nothing_is_told_so_and_its_connection_ends() {
        let budget = Arc::new(Budget::default());
        let share = Arc::new(Share::default());
        let open = || budget.open(Purpose::Answer).of(Some(Arc::clone(&share)));
        let long = || plain(vec![b'x'; MEMORY_BYTES_MAX / 8]);
        let (mut first, mut second) = (open(), open());
        assert_eq!(account(long(), false, &mut first).unwrap().status().as_u16(), 200);
        let refused = account(long(), false, &mut second).unwrap();
        assert_eq!(refused.status().as_u16(), 503);
        assert_eq!(refused.headers()[header::CONNECTION], "close");
        assert!(account(long(), true, &mut second).is_none(), "one more does not fit");
        let mut file = plain("x");
        file.extensions_mut().insert(OfTheProgram { packed: None });
        let before = budget.used();
        assert!(account(file, false, &mut open()).is_some() && budget.used() == before);
    }
}
