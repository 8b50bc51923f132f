//! How a program reaches its node: the Unix socket in the node's sandbox, or an HTTP upgrade on its port.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use server::Address;

use super::link::Socket;
use super::session::Ended;

/// The name of the socket in a node's sandbox.
const SOCKET_NAME: &str = "immortals.sock";

/// So long a node may take to be reached and to answer an upgrade; then it is tried again.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// An answer to an upgrade with a longer head is none.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Where the node is.
#[derive(Clone)]
pub(super) enum Dial {
    Unix(PathBuf),
    Http(Address),
    /// Another way, for tests.
    Other(Arc<dyn Fn() -> io::Result<Socket> + Send + Sync>),
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Http(address) => address.fmt(f),
            Self::Other(_) => f.write_str("a node in this process"),
        }
    }
}

impl Dial {
    /// `http://host:port`, a socket, or the folder that has it.
    pub(super) fn parse(node: &str) -> Result<Self, String> {
        if node.contains("://") {
            return Address::parse(node).map(Self::Http);
        }
        let path = Path::new(node);
        Ok(Self::Unix(if path.is_dir() { path.join(SOCKET_NAME) } else { path.to_owned() }))
    }

    pub(super) fn connect(&self, instance: &str) -> Result<Socket, Ended> {
        let lost = |error: io::Error| Ended::Lost(format!("cannot reach {self}: {error}"));
        match self {
            Self::Unix(path) => UnixStream::connect(path).map(Socket::Unix).map_err(lost),
            Self::Http(address) => {
                let socket = connect(address).map_err(lost)?;
                upgrade(&socket, address, instance)
                    .map_err(lost)?
                    .map_or(Ok(Socket::Tcp(socket)), Err)
            }
            Self::Other(dial) => dial().map_err(lost),
        }
    }
}

/// Tries each of the addresses that the name stands for.
fn connect(address: &Address) -> io::Result<TcpStream> {
    let mut why = io::Error::other("the name stands for no address");
    for place in address.authority().to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, CONNECT_MAX) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// None: what follows are frames. Otherwise what the node said instead.
fn upgrade(mut socket: &TcpStream, address: &Address, name: &str) -> io::Result<Option<Ended>> {
    socket.set_read_timeout(Some(CONNECT_MAX))?;
    let host = address.authority();
    let path = format!("/core/immortals/{name}/attach");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: amrita-immortal\r\n\r\n"
    );
    socket.write_all(request.as_bytes())?;
    let head = read_head(socket)?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status == "101" {
        socket.set_read_timeout(None)?;
        return Ok(None);
    }
    let mut body = Vec::new();
    // What can be had of it: the connection may stay open behind it.
    let _how_it_ended = socket.take(HEAD_BYTES_MAX as u64).read_to_end(&mut body);
    Ok(Some(refusal(status, &body)))
}

/// One byte after the other: nothing behind the head may be taken away.
fn read_head(mut socket: &TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("the answer has a very long head: is it a node?"));
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A node's problems have a code and a message; whatever else answers has a status.
fn refusal(status: &str, body: &[u8]) -> Ended {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match (body["code"].as_str(), body["message"].as_str()) {
        (Some(code), Some(text)) => Ended::Said { code: code.to_owned(), text: text.to_owned() },
        _ => {
            Ended::Lost(format!("the answer is {status} and not 101: is it a node with immortals?"))
        }
    }
}
