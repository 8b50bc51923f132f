//! Where each request of HTTP/1.1 begins and ends, seen from the bytes themselves.
//!
//! The library keeps one of two lengths, and drops a length beside `Transfer-Encoding`. Something
//! between client and node that takes the other one would see other requests than this node does.
//! So the heads are looked at before the library has them, and such a request is refused.

use std::sync::{Mutex, MutexGuard};

/// So much of a line of a head is looked at: the names that matter are shorter.
const LINE_BYTES_SEEN: usize = 64;

/// One connection. It is fed with what is read, and asked at each request.
#[derive(Default)]
pub(crate) struct Framing(Mutex<State>);

#[derive(Default)]
struct State {
    at: Place,
    /// The beginning of the present line.
    line: Vec<u8>,
    head: Head,
    /// How many heads came whole, and how many of them were asked about.
    come: u64,
    asked: u64,
    /// The first head that says two things of its body, and what it says. Nothing is asked after
    /// it.
    wrong: Option<(u64, &'static str)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// Between two requests, and in the first line.
    #[default]
    Start,
    Head,
    Body {
        left: u64,
    },
    ChunkSize,
    /// In a chunk; the end of its line is counted in.
    Chunk {
        left: u64,
    },
    Trailers,
    /// This is not HTTP/1.1, as the library will say, or not any more.
    Lost,
}

/// What a head says of its body.
#[derive(Default)]
struct Head {
    length: Option<u64>,
    is_chunked: bool,
    wrong: Option<&'static str>,
}

const LENGTH_TWICE: &str = "the header Content-Length is there more than once; send it once";
const BOTH: &str = "the headers Content-Length and Transfer-Encoding are both there, and say two \
                    things about where the body ends; send one of them";

impl Framing {
    pub(crate) fn hear(&self, bytes: &[u8]) {
        self.lock().hear(bytes);
    }

    /// What is wrong with the next request. Called once for each, in their order.
    pub(crate) fn complaint(&self) -> Option<&'static str> {
        let mut state = self.lock();
        state.asked += 1;
        state.wrong.filter(|(head, _)| *head == state.asked).map(|(_, why)| why)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no one panics while looking at a head")
    }
}

impl State {
    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.at {
                Place::Lost => return,
                Place::Body { left } => {
                    let left = skip(&mut bytes, left);
                    self.at = if left == 0 { Place::Start } else { Place::Body { left } };
                }
                Place::Chunk { left } => {
                    let left = skip(&mut bytes, left);
                    self.at = if left == 0 { Place::ChunkSize } else { Place::Chunk { left } };
                }
                _ => self.hear_line(&mut bytes),
            }
        }
    }

    /// Takes bytes up to the end of a line, which may not be there.
    fn hear_line(&mut self, bytes: &mut &[u8]) {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let room = LINE_BYTES_SEEN - self.line.len();
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        *bytes = rest;
        if end.is_none() {
            return;
        }
        *bytes = &bytes[1..];
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        let line = std::mem::take(&mut self.line);
        self.at = self.after(&line);
        self.line = line;
        self.line.clear();
    }

    fn after(&mut self, line: &[u8]) -> Place {
        match self.at {
            // Empty lines before a request are passed over.
            Place::Start if line.is_empty() => Place::Start,
            Place::Start => {
                self.head = Head::default();
                Place::Head
            }
            Place::Head if line.is_empty() => self.end_of_head(),
            Place::Head => {
                self.head.line(line);
                Place::Head
            }
            Place::ChunkSize => match chunk_size(line) {
                Some(0) => Place::Trailers,
                // Its own line ends with two bytes.
                Some(size) => Place::Chunk { left: size.saturating_add(2) },
                None => Place::Lost,
            },
            Place::Trailers if line.is_empty() => Place::Start,
            other => other,
        }
    }

    fn end_of_head(&mut self) -> Place {
        self.come += 1;
        if let Some(why) = self.head.wrong {
            self.wrong = Some((self.come, why));
            return Place::Lost;
        }
        match (self.head.is_chunked, self.head.length) {
            (true, _) => Place::ChunkSize,
            (false, Some(left)) if left > 0 => Place::Body { left },
            _ => Place::Start,
        }
    }
}

impl Head {
    fn line(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                self.wrong.get_or_insert(LENGTH_TWICE);
            }
            // What is no number the library refuses.
            self.length = Some(number(value, 10).unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        }
        if self.is_chunked && self.length.is_some() {
            self.wrong.get_or_insert(BOTH);
        }
    }
}

/// Passes over up to `left` bytes; returns how many are still to come.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *bytes = &bytes[here..];
    left - u64::try_from(here).expect("a length fits")
}

/// The size before a chunk; extensions may follow it.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    number(&line[..end], 16)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is complained of at each request, however the bytes are cut.
    fn complaints(text: &str, requests: usize) -> Vec<Option<&'static str>> {
        let whole = Framing::default();
        whole.hear(text.as_bytes());
        let found: Vec<_> = (0..requests).map(|_| whole.complaint()).collect();
        for piece in [1, 3, 7] {
            let cut = Framing::default();
            text.as_bytes().chunks(piece).for_each(|bytes| cut.hear(bytes));
            let again: Vec<_> = (0..requests).map(|_| cut.complaint()).collect();
            assert_eq!(again, found, "in pieces of {piece}");
        }
        found
    }

    #[test]
    fn two_words_about_the_end_of_a_body_are_one_too_many() {
        let head = |more: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{more}\r\n");
        for (more, expected) in [
            ("Content-Length: 3\r\n", None),
            ("Transfer-Encoding: chunked\r\n", None),
            ("Content-Length: 3\r\ncontent-length: 3\r\n", Some(LENGTH_TWICE)),
            ("Content-Length: 3\r\nContent-Length: 4\r\n", Some(LENGTH_TWICE)),
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", Some(BOTH)),
            ("TRANSFER-ENCODING: chunked\r\nContent-Length: 3\r\n", Some(BOTH)),
            ("X-Content-Length: 3\r\nContent-Length: 3\r\n", None),
        ] {
            assert_eq!(complaints(&head(more), 1), [expected], "{more}");
        }
        let bare = "POST /x HTTP/1.1\nContent-Length: 1\nContent-Length: 1\n\n";
        assert_eq!(complaints(bare, 1), [Some(LENGTH_TWICE)]);
    }

    #[test]
    fn a_body_is_not_taken_for_a_head_and_a_later_head_is_found() {
        let inner = "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n";
        let wrong = "PUT /y HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n";
        let with_length = format!(
            "\r\nPOST /x HTTP/1.1\r\nContent-Length: {}\r\n\r\n{inner}{wrong}",
            inner.len()
        );
        assert_eq!(complaints(&with_length, 2), [None, Some(LENGTH_TWICE)]);
        let chunked = format!(
            "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x};name=value\r\n{inner}\r\n\
             1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n{wrong}",
            inner.len()
        );
        assert_eq!(complaints(&chunked, 2), [None, Some(LENGTH_TWICE)]);
        let plain = format!("GET /x HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n{wrong}");
        assert_eq!(complaints(&plain, 3), [None, None, Some(LENGTH_TWICE)]);
    }

    #[test]
    fn a_long_line_takes_no_more_memory_than_a_short_one() {
        let framing = Framing::default();
        framing.hear(b"GET /x HTTP/1.1\r\nCookie: ");
        framing.hear(&[b'a'; 10_000]);
        assert_eq!(framing.lock().line.len(), LINE_BYTES_SEEN);
        framing.hear(b"\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n");
        assert_eq!(framing.complaint(), Some(LENGTH_TWICE));
    }
}
