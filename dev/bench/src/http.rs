//! A very small HTTP/1.1 client, so that the load costs little beside what is measured: one
//! connection, one request at a time, bodies with a length.

use std::io;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The most that an answer's head may have.
const HEAD_BYTES_MAX: usize = 16 << 10;

pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// The line of the head that says who asks; empty for nobody.
    authorization: Arc<str>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How nodes are spoken to.
#[derive(Clone, Default)]
pub(crate) struct Access {
    tls: Option<TlsConnector>,
    authorization: Arc<str>,
}

impl Access {
    /// Over TLS, if there is any, for somebody who shows nothing.
    pub(crate) fn by(tls: Option<TlsConnector>) -> Self {
        Self { tls, authorization: "".into() }
    }

    /// The same, for somebody who shows this: `Bearer ...` or `Basic ...`.
    pub(crate) fn showing(&self, what: &str) -> Self {
        let authorization = format!("Authorization: {what}\r\n").into();
        Self { tls: self.tls.clone(), authorization }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    /// # Errors
    /// When nobody listens there.
    pub(crate) async fn open(port: u16) -> io::Result<Self> {
        Self::open_by(port, &Access::default()).await
    }

    /// # Errors
    /// When nobody listens there, or somebody else than a node that is believed.
    pub(crate) async fn open_by(port: u16, access: &Access) -> io::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &access.tls {
            None => Box::new(socket),
            Some(tls) => {
                let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
                Box::new(tls.connect(name, socket).await?)
            }
        };
        let authorization = Arc::clone(&access.authorization);
        Ok(Self { stream, buffer: Vec::with_capacity(8 << 10), authorization })
    }

    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: &str,
    ) -> io::Result<Answer> {
        let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{key}\
             {}Content-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("the head of the answer is too long"));
            }
            self.more().await?;
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| io::Error::other("the answer has no status"))?;
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|value| value.trim().parse::<usize>().ok())
            .unwrap_or(0);
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        Ok(Answer { status, body: self.buffer[head..head + length].to_vec() })
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
