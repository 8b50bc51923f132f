//! HTTP/2 without TLS: how it is told from HTTP/1.1, and the way there by `Upgrade: h2c`.
//!
//! That upgrade is deprecated (RFC 9113, section 3.1), but a Java client with shared connections
//! asks for it and waits. The library does not know it, so the connection is made to look like one
//! that began with HTTP/2: behind the client's preface stands the request that asked, as the frame
//! that it would have sent for stream 1.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Request, Version};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The protocol of the upgrade.
pub(crate) const PROTOCOL: &str = "h2c";

pub(crate) const SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// So much of it no request of HTTP/1.1 has in common with it.
const PREFACE_TELLS: usize = 4;

/// Between two looks at a beginning that is too short to tell.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A frame's head: its length, its type, its flags and its stream.
const FRAME_HEAD_BYTES: usize = 9;

/// The longest frame before anything else was agreed on.
const FRAME_BYTES_MAX: usize = 16 << 10;

const TYPE_HEADERS: u8 = 1;
const TYPE_SETTINGS: u8 = 4;
const END_STREAM_AND_HEADERS: u8 = 0x5;

/// What the library looks at by itself; the rest of an HTTP/1.1 head that HTTP/2 has no place for.
const OF_THE_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::UPGRADE,
    header::HOST,
    header::TRANSFER_ENCODING,
    header::TE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Whether the client begins with HTTP/2. Waits for its first bytes, and takes none.
pub(crate) async fn begins(socket: &TcpStream) -> io::Result<bool> {
    loop {
        let mut first = [0; PREFACE_TELLS];
        let count = socket.peek(&mut first).await?;
        if count == PREFACE_TELLS || !PREFACE.starts_with(&first[..count]) || count == 0 {
            return Ok(count == PREFACE_TELLS && PREFACE.starts_with(&first));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The request's frame, if it asks for HTTP/2 and can be passed on so. One with a body cannot: it
/// is answered in HTTP/1.1, as the client must be ready for.
pub(crate) fn asked<B: Body>(request: &Request<B>) -> Option<Bytes> {
    let headers = request.headers();
    let names = |name: &HeaderName, wanted: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|part| part.trim().eq_ignore_ascii_case(wanted))
    };
    if !headers.contains_key(header::UPGRADE) {
        return None;
    }
    let asks = request.version() == Version::HTTP_11
        && names(&header::UPGRADE, PROTOCOL)
        && names(&header::CONNECTION, "upgrade")
        && headers.get_all(&SETTINGS).iter().count() == 1
        && request.body().is_end_stream();
    let block = header_block(request);
    (asks && block.len() <= FRAME_BYTES_MAX).then(|| {
        let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + block.len());
        frame.put_uint(u64::try_from(block.len()).expect("a length fits"), 3);
        frame.put_slice(&[TYPE_HEADERS, END_STREAM_AND_HEADERS]);
        frame.put_u32(1);
        frame.put_slice(&block);
        frame.freeze()
    })
}

fn header_block<B>(request: &Request<B>) -> Vec<u8> {
    let mut block = Vec::new();
    let host = request.headers().get(header::HOST);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    put(b":method", request.method().as_str().as_bytes(), &mut block);
    put(b":scheme", b"http", &mut block);
    if let Some(host) = host {
        put(b":authority", host.as_bytes(), &mut block);
    }
    put(b":path", path.as_bytes(), &mut block);
    for (name, value) in plain_headers(request.headers()) {
        put(name.as_str().as_bytes(), value.as_bytes(), &mut block);
    }
    block
}

fn plain_headers(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &header::HeaderValue)> {
    headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(name) && **name != SETTINGS)
}

/// A header as HPACK has it, spelled out and not to be remembered (RFC 7541, section 6.2.2).
fn put(name: &[u8], value: &[u8], block: &mut Vec<u8>) {
    block.push(0);
    for text in [name, value] {
        put_length(text.len(), block);
        block.extend_from_slice(text);
    }
}

/// A number with a prefix of seven bits (RFC 7541, section 5.1).
fn put_length(length: usize, block: &mut Vec<u8>) {
    const PREFIX: usize = 0x7f;
    let byte = |number: usize| u8::try_from(number).expect("seven bits and a mark fit");
    if length < PREFIX {
        return block.push(byte(length));
    }
    block.push(byte(PREFIX));
    let mut rest = length - PREFIX;
    while rest >= 0x80 {
        block.push(byte(rest % 0x80 + 0x80));
        rest /= 0x80;
    }
    block.push(byte(rest));
}

/// Reads how the client begins after it was told yes: the preface and its settings. Gives that, the
/// request behind it, and what was read beyond.
pub(crate) async fn begin(
    socket: &mut TcpStream,
    already_read: Bytes,
    request: &Bytes,
) -> io::Result<Bytes> {
    let mut read = BytesMut::from(&already_read[..]);
    read_up_to(socket, &mut read, PREFACE.len() + FRAME_HEAD_BYTES).await?;
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let Some(head) = read.strip_prefix(PREFACE) else {
        return Err(wrong("it does not begin with the preface of HTTP/2"));
    };
    let length = head[..3].iter().fold(0, |sum, byte| sum * 256 + usize::from(*byte));
    if head[3] != TYPE_SETTINGS || length > FRAME_BYTES_MAX {
        return Err(wrong("it does not begin with its settings"));
    }
    let beginning = PREFACE.len() + FRAME_HEAD_BYTES + length;
    read_up_to(socket, &mut read, beginning).await?;
    let beyond = read.split_off(beginning);
    read.extend_from_slice(request);
    read.unsplit(beyond);
    Ok(read.freeze())
}

async fn read_up_to(socket: &mut TcpStream, read: &mut BytesMut, wanted: usize) -> io::Result<()> {
    while read.len() < wanted {
        if socket.read_buf(read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Empty, Full};

    fn ask(
        change: impl FnOnce(hyper::http::request::Builder) -> hyper::http::request::Builder,
    ) -> Option<Bytes> {
        let request = Request::get("/core/examples?x=1")
            .header(header::HOST, "127.0.0.1:1")
            .header(header::CONNECTION, "Upgrade, HTTP2-Settings")
            .header(header::UPGRADE, "h2c")
            .header(SETTINGS, "AAMAAABk");
        asked(&change(request).body(Empty::<Bytes>::new()).unwrap())
    }

    #[test]
    fn a_request_that_asks_becomes_a_frame_without_what_is_the_connections() {
        let frame = ask(|request| request.header("pragma", "x".repeat(300))).unwrap();
        let text = String::from_utf8_lossy(&frame);
        assert_eq!(&frame[3..9], &[1, 5, 0, 0, 0, 1]);
        assert!(text.contains("/core/examples?x=1") && text.contains("127.0.0.1:1"), "{text}");
        assert!(!text.contains("h2c") && !text.to_lowercase().contains("settings"), "{text}");
        assert!(ask(|request| request.header(SETTINGS, "AAMAAABk")).is_none(), "two settings");
        assert!(ask(|request| request.version(Version::HTTP_10)).is_none());
        let body = Request::post("/").body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        assert!(asked(&body).is_none());
    }

    #[test]
    fn lengths_are_written_as_hpack_has_them() {
        for (length, bytes) in [
            (0, &[0][..]),
            (126, &[126]),
            (127, &[127, 0]),
            (255, &[127, 128, 1]),
            (1337, &[127, 186, 9]),
        ] {
            let mut block = Vec::new();
            put_length(length, &mut block);
            assert_eq!(block, bytes, "{length}");
        }
    }
}
