//! A client's socket, as the library that speaks HTTP sees it.
//!
//! What goes through it is told to the connection's meter. And there are words for those who do not
//! speak HTTP well: the library answers a request that it cannot read with a bare status; here a
//! body is put behind it, like that of every other error.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use protocol::{Code, Problem};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::connections::Meter;
use crate::framing::Framing;

/// How much is read at a time where it is looked at first.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    /// What is read and looked at stands here for a moment: a buffer for each connection would take
    /// the memory of thousands of them.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// A client's connection.
pub(crate) struct ClientSocket {
    inner: TokioIo<TcpStream>,
    meter: Arc<Meter>,
    /// What was read already, and comes before the rest.
    start: Bytes,
    /// Looks at the heads of HTTP/1.1.
    framing: Option<Arc<Framing>>,
    /// What is sent in place of a bare answer.
    instead: Bytes,
    replacing: bool,
}

impl ClientSocket {
    pub(crate) fn new(socket: TcpStream, start: Bytes, meter: Arc<Meter>) -> Self {
        let inner = TokioIo::new(socket);
        Self { inner, meter, start, framing: None, instead: Bytes::new(), replacing: false }
    }

    pub(crate) fn watched_by(self, framing: Arc<Framing>) -> Self {
        Self { framing: Some(framing), ..self }
    }

    /// Reads, and lets the framing look at it first.
    fn poll_read_watched(
        &mut self,
        context: &mut Context<'_>,
        framing: &Framing,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        READ.with_borrow_mut(|read| {
            let room = buffer.remaining().min(read.len());
            let mut read = ReadBuf::new(&mut read[..room]);
            ready!(Pin::new(self.inner.inner_mut()).poll_read(context, &mut read))?;
            framing.hear(read.filled()).map_err(broken)?;
            buffer.put_slice(read.filled());
            Poll::Ready(Ok(()))
        })
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        match &sent {
            Poll::Pending => self.meter.blocked(),
            Poll::Ready(Ok(bytes)) if *bytes < slices.iter().map(|slice| slice.len()).sum() => {
                self.meter.blocked();
                self.meter.sent(*bytes);
            }
            Poll::Ready(Ok(bytes)) => self.meter.sent(*bytes),
            Poll::Ready(Err(_)) => {}
        }
        sent
    }

    pub(crate) fn into_socket(self) -> TcpStream {
        self.inner.into_inner()
    }
}

impl Read for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.start.is_empty() {
            let count = self.start.len().min(buffer.remaining());
            let start = self.start.split_to(count);
            if let Some(framing) = &self.framing {
                framing.hear(&start).map_err(broken)?;
            }
            buffer.put_slice(&start);
            return Poll::Ready(Ok(()));
        }
        let room = buffer.remaining();
        match self.framing.clone() {
            Some(framing) => ready!(self.poll_read_watched(context, &framing, buffer))?,
            None => ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?,
        }
        if !self.meter.heard(room) {
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        Poll::Ready(Ok(()))
    }
}

/// The library takes it for a connection that breaks off, and ends it.
fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Write for ClientSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.replacing {
            match words_for(bytes) {
                None => return self.poll_send(context, &[IoSlice::new(bytes)]),
                Some(instead) => (self.instead, self.replacing) = (instead, true),
            }
        }
        while !self.instead.is_empty() {
            let instead = self.instead.clone();
            let sent = ready!(Pin::new(&mut self.inner).poll_write(context, &instead))?;
            self.instead.advance(sent);
        }
        self.replacing = false;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A bare answer is one piece.
        match slices {
            [only] => self.poll_write(context, only),
            _ => self.poll_send(context, slices),
        }
    }
}

/// The whole answer in place of a bare one, if this is one.
fn words_for(bytes: &[u8]) -> Option<Bytes> {
    let status = bytes.strip_prefix(b"HTTP/1.1 4")?.get(..2)?;
    let head = std::str::from_utf8(bytes).ok()?;
    if !head.ends_with("\r\n\r\n") || !head.contains("\r\ncontent-length: 0\r\n") {
        return None;
    }
    let (line, why) = match status {
        b"31" => ("431 Request Header Fields Too Large", "the head of the request is too large"),
        b"14" => ("414 URI Too Long", "the path of the request is too long"),
        b"00" => ("400 Bad Request", "the request is not valid HTTP/1.1"),
        _ => return None,
    };
    let mut body = Problem::new(Code::BadRequest, why).to_json();
    body["statusCode"] = line[..3].parse::<u16>().unwrap_or(400).into();
    let body = body.to_string();
    let length = body.len();
    Some(Bytes::from(format!(
        "HTTP/1.1 {line}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_answer_gets_words() {
        let bare = b"HTTP/1.1 431 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let words = words_for(bare).unwrap();
        let words = std::str::from_utf8(&words).unwrap();
        assert!(words.starts_with("HTTP/1.1 431 Request Header"), "{words}");
        assert!(words.contains("\"statusCode\":431"), "{words}");
        for other in [
            &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"{\"text\": \"HTTP/1.1 400\"}",
            b"",
        ] {
            assert!(words_for(other).is_none());
        }
    }
}
