//! Where each request of HTTP/1.1 begins and ends, seen from the bytes themselves.
//!
//! The library keeps one of two lengths, and drops a length beside `Transfer-Encoding`. Something
//! between client and node that takes the other one would see other requests than this node does.
//! So the heads are looked at before the library has them, and such a request is refused.
//!
//! **Invariant:** a request passes only when its head was read whole here and says one thing of its
//! body. What cannot be read here is refused, also where the library is more patient: otherwise
//! this file and the library could be at different requests, and a head would pass unseen.

use std::sync::{Mutex, MutexGuard};

/// So much of a line of a head is looked at: the names that matter are shorter.
const LINE_BYTES_SEEN: usize = 64;

/// How many digits a length may have; more are no number of 64 bits, or have zeros before them.
const LENGTH_DIGITS: usize = 19;
const SIZE_DIGITS: usize = 16;

/// One connection. It is fed with what is read, and asked at each request.
#[derive(Default)]
pub(crate) struct Framing(Mutex<State>);

#[derive(Default)]
struct State {
    at: Place,
    line: Line,
    head: Head,
    /// How many heads came whole, and how many of them were asked about.
    come: u64,
    asked: u64,
    /// The first request whose head or body is wrong, and how. It is refused, and so is whatever is
    /// taken for a request after it.
    wrong: Option<(u64, &'static str)>,
    /// A request was refused. The connection ends with the answer, and what still comes over it is
    /// passed over, so that the answer arrives.
    has_refused: bool,
}

/// The present line, as far as it came.
#[derive(Default)]
struct Line {
    /// Its beginning.
    seen: Vec<u8>,
    bytes: u64,
    ends_with_return: bool,
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
    /// Something was wrong: where requests begin is not known any more.
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
const LENGTH_UNCLEAR: &str = "the header Content-Length is no number of bytes in plain digits";
const BOTH: &str = "the headers Content-Length and Transfer-Encoding are both there, and say two \
                    things about where the body ends; send one of them";
const NOT_CHUNKED: &str = "the header transfer-encoding has to be there once and to be 'chunked'; \
                           another encoding is not known here";
const NO_HEADER: &str =
    "a line of the request's head is no header: a name without spaces, a colon, a value";
const CHUNKS_UNCLEAR: &str = "a chunk of the body does not begin with its size, or the body does \
                              not end with an empty line";
const UNSEEN: &str = "where this request begins could not be made out; send it on a new connection";

impl Framing {
    /// # Errors
    /// The body of a request that was asked about cannot be read. No more of it may be used.
    pub(crate) fn hear(&self, bytes: &[u8]) -> Result<(), &'static str> {
        let mut state = self.lock();
        state.hear(bytes);
        match state.wrong {
            // After an upgrade what comes is no HTTP; but nothing of it is asked about.
            Some((request, why)) if request <= state.asked && !state.has_refused => Err(why),
            _ => Ok(()),
        }
    }

    /// What is wrong with the next request. Called once for each, in their order.
    pub(crate) fn complaint(&self) -> Option<&'static str> {
        let mut state = self.lock();
        state.asked += 1;
        let found = match state.wrong {
            Some((request, why)) if request <= state.asked => Some(why),
            _ if state.come < state.asked => Some(UNSEEN),
            _ => None,
        };
        state.has_refused |= found.is_some();
        found
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
        self.line.add(part);
        *bytes = rest;
        if end.is_none() {
            return;
        }
        *bytes = &bytes[1..];
        let mut line = std::mem::take(&mut self.line);
        self.at = self.after(&line);
        // The memory is used again.
        line.seen.clear();
        self.line.seen = line.seen;
    }

    fn after(&mut self, line: &Line) -> Place {
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
            // The library takes a bare end of a line for a part of the line.
            Place::ChunkSize | Place::Trailers if !line.ends_with_return => self.is_wrong(),
            Place::ChunkSize => match chunk_size(line) {
                Some(0) => Place::Trailers,
                // Its own line ends with two bytes.
                Some(size) => Place::Chunk { left: size.saturating_add(2) },
                None => self.is_wrong(),
            },
            Place::Trailers if line.is_empty() => Place::Start,
            other => other,
        }
    }

    /// The chunks of the last request are wrong.
    fn is_wrong(&mut self) -> Place {
        self.wrong = Some((self.come, CHUNKS_UNCLEAR));
        Place::Lost
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

impl Line {
    fn add(&mut self, part: &[u8]) {
        let Some(last) = part.last() else { return };
        self.ends_with_return = *last == b'\r';
        let room = LINE_BYTES_SEEN - self.seen.len();
        self.seen.extend_from_slice(&part[..part.len().min(room)]);
        self.bytes += u64::try_from(part.len()).expect("a length fits");
    }

    /// Without its end, as far as it was kept.
    fn text(&self) -> &[u8] {
        let whole = self.seen.as_slice();
        whole.strip_suffix(b"\r").filter(|_| !self.is_cut()).unwrap_or(whole)
    }

    fn is_cut(&self) -> bool {
        u64::try_from(self.seen.len()).is_ok_and(|seen| seen < self.bytes)
    }

    fn is_empty(&self) -> bool {
        self.text().is_empty()
    }
}

impl Head {
    fn line(&mut self, line: &Line) {
        let text = line.text();
        let colon = text.iter().position(|byte| *byte == b':');
        // A name that is longer than what is seen is none of those that matter.
        let name = &text[..colon.unwrap_or(text.len())];
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return self.is_wrong(NO_HEADER);
        }
        let Some(colon) = colon else {
            if !line.is_cut() {
                self.is_wrong(NO_HEADER);
            }
            return;
        };
        let value = text[colon + 1..].trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                self.is_wrong(LENGTH_TWICE);
            }
            match number(value, 10, LENGTH_DIGITS).filter(|_| !line.is_cut()) {
                Some(length) => self.length = Some(length),
                None => self.is_wrong(LENGTH_UNCLEAR),
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || line.is_cut() || !value.eq_ignore_ascii_case(b"chunked") {
                self.is_wrong(NOT_CHUNKED);
            }
            self.is_chunked = true;
        }
        if self.is_chunked && self.length.is_some() {
            self.is_wrong(BOTH);
        }
    }

    fn is_wrong(&mut self, why: &'static str) {
        self.wrong.get_or_insert(why);
    }
}

/// Passes over up to `left` bytes; returns how many are still to come.
fn skip(bytes: &mut &[u8], left: u64) -> u64 {
    let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *bytes = &bytes[here..];
    left - u64::try_from(here).expect("a length fits")
}

/// The size before a chunk; extensions may follow it.
fn chunk_size(line: &Line) -> Option<u64> {
    let text = line.text();
    let end = text.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(text.len());
    if !matches!(text.get(end), None | Some(b' ' | b'\t' | b';')) {
        return None;
    }
    number(&text[..end], 16, SIZE_DIGITS)
}

/// A number in digits alone: no sign, and no more digits than such a number needs.
fn number(digits: &[u8], radix: u32, most: usize) -> Option<u64> {
    let is_plain = digits.iter().all(|digit| char::from(*digit).is_digit(radix));
    if !is_plain || digits.len() > most {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is complained of at each request, however the bytes are cut.
    fn complaints(text: &str, requests: usize) -> Vec<Option<&'static str>> {
        let whole = Framing::default();
        whole.hear(text.as_bytes()).unwrap();
        let found: Vec<_> = (0..requests).map(|_| whole.complaint()).collect();
        for piece in [1, 3, 7] {
            let cut = Framing::default();
            text.as_bytes().chunks(piece).for_each(|bytes| cut.hear(bytes).unwrap());
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

    /// The library would read these: a length behind many spaces, a sign, zeros before a number.
    #[test]
    fn what_cannot_be_read_of_a_head_is_refused() {
        let far = format!("Content-Length:{}5\r\n", " ".repeat(LINE_BYTES_SEEN));
        let half = format!("{:<1$}16\r\n", "Content-Length:", LINE_BYTES_SEEN - 1);
        let zeros = format!("Content-Length: {}5\r\n", "0".repeat(LENGTH_DIGITS));
        let long = format!("{}: 1\r\nContent-Length: 0\r\n", "X".repeat(LINE_BYTES_SEEN + 9));
        for (more, expected) in [
            (far.as_str(), Some(LENGTH_UNCLEAR)),
            (&half, Some(LENGTH_UNCLEAR)),
            (&zeros, Some(LENGTH_UNCLEAR)),
            ("Content-Length: +5\r\n", Some(LENGTH_UNCLEAR)),
            ("Content-Length: 5, 5\r\n", Some(LENGTH_UNCLEAR)),
            ("Content-Length:\r\n", Some(LENGTH_UNCLEAR)),
            ("Content-Length : 5\r\n", Some(NO_HEADER)),
            (" Content-Length: 5\r\n", Some(NO_HEADER)),
            ("X: 1\r\n\tContent-Length: 5\r\n", Some(NO_HEADER)),
            ("Content-Length\r\n", Some(NO_HEADER)),
            (": 5\r\n", Some(NO_HEADER)),
            ("Transfer-Encoding: gzip, chunked\r\n", Some(NOT_CHUNKED)),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Some(NOT_CHUNKED)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Some(NOT_CHUNKED)),
            (&long, None),
        ] {
            let head = format!("POST /x HTTP/1.1\r\nHost: a\r\n{more}\r\n");
            assert_eq!(complaints(&head, 1), [expected], "{more}");
        }
    }

    /// Otherwise what follows would be other requests here than the library sees.
    #[test]
    fn after_chunks_that_cannot_be_read_nothing_is_let_through() {
        let zeros = "0".repeat(LINE_BYTES_SEEN);
        for chunks in [
            format!("{zeros}5\r\nhello\r\n0\r\n\r\n"),
            "0\r\n\nGET /y HTTP/1.1\r\n\r\n".to_owned(),
            "0\r\nX: 1\nY: 2\r\n\r\n".to_owned(),
            "5\nhello\r\n0\r\n\r\n".to_owned(),
            "5x\r\nhello\r\n0\r\n\r\n".to_owned(),
            "+5\r\nhello\r\n0\r\n\r\n".to_owned(),
            "\r\n\r\n".to_owned(),
        ] {
            let head = "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
            let next = "GET /y HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n";
            let whole = format!("{head}{chunks}{next}");
            assert_eq!(complaints(&whole, 2), [Some(CHUNKS_UNCLEAR); 2], "{chunks}");
            // It may have been asked about before its body came.
            let asked = Framing::default();
            asked.hear(head.as_bytes()).unwrap();
            assert_eq!(asked.complaint(), None);
            assert_eq!(asked.hear(chunks.as_bytes()), Err(CHUNKS_UNCLEAR), "{chunks}");
            assert_eq!(asked.complaint(), Some(CHUNKS_UNCLEAR), "{chunks}");
        }
    }

    #[test]
    fn a_request_that_was_not_seen_is_refused_and_what_follows_an_upgrade_is_let_be() {
        let framing = Framing::default();
        assert_eq!(framing.complaint(), Some(UNSEEN));
        let framing = Framing::default();
        framing.hear(b"GET /x HTTP/1.1\r\nUpgrade: y\r\n\r\n").unwrap();
        assert_eq!(framing.complaint(), None);
        let frames = b"\x07frame\n\nx\nTransfer-Encoding: chunked\n\n\x08more\n";
        assert_eq!(framing.hear(frames), Ok(()));
    }

    #[test]
    fn a_long_line_takes_no_more_memory_than_a_short_one() {
        let framing = Framing::default();
        framing.hear(b"GET /x HTTP/1.1\r\nCookie: ").unwrap();
        framing.hear(&[b'a'; 10_000]).unwrap();
        assert_eq!(framing.lock().line.seen.len(), LINE_BYTES_SEEN);
        framing.hear(b"\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n").unwrap();
        assert_eq!(framing.complaint(), Some(LENGTH_TWICE));
    }
}
