//! How a program reaches its node: the Unix socket in the node's sandbox, or an HTTP upgrade on its
//! port.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use protocol::Address;

use crate::link::Socket;
use crate::session::Ended;
use crate::tls;

/// What a program shows to a node that asks for a login.
const TOKEN: &str = "AMRITA_TOKEN";

/// The name of the socket in a node's sandbox.
const SOCKET_NAME: &str = "immortals.sock";

/// So long a node may take to be reached and to answer an upgrade; then it is tried again.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// An answer to an upgrade with a longer head is none.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Where the node is.
#[derive(Clone)]
pub(crate) enum Dial {
    /// A socket, or the folder that has it.
    Unix(PathBuf),
    Http(Address),
    /// Any of these; the number is of the one that is tried first.
    Any(Vec<Self>, Arc<AtomicUsize>),
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
            Self::Any(places, _) => {
                let places: Vec<String> = places.iter().map(ToString::to_string).collect();
                f.write_str(&places.join(", "))
            }
            Self::Other(_) => f.write_str("a node in this process"),
        }
    }
}

impl Dial {
    /// `http://host:port`, `https://host:port`, a socket, or the folder that has it; or several of
    /// these behind commas.
    pub(crate) fn parse(node: &str) -> Result<Self, String> {
        if node.contains(',') {
            let places = node.split(',').map(|place| Self::parse(place.trim()));
            return Ok(Self::Any(places.collect::<Result<_, _>>()?, Arc::default()));
        }
        if node.contains("://") {
            return Address::parse(node).map(Self::Http);
        }
        if is_host_and_port(node) && !Path::new(node).exists() {
            return Address::parse(&format!("http://{node}")).map(Self::Http);
        }
        Ok(Self::Unix(node.into()))
    }

    pub(crate) fn connect(&self, instance: &str) -> Result<Socket, Ended> {
        let lost = |error: io::Error| Ended::Lost(format!("cannot reach {self}: {error}"));
        match self {
            Self::Unix(path) => {
                connect_unix(path).map(Socket::Unix).map_err(|error| no_socket(path, &error))
            }
            Self::Http(address) => {
                let socket = connect(address).map_err(lost)?;
                let socket = if address.is_tls() {
                    socket.set_read_timeout(Some(CONNECT_MAX)).map_err(lost)?;
                    Socket::Unix(tls::begin(socket, address).map_err(lost)?)
                } else {
                    Socket::Tcp(socket)
                };
                match upgrade(&socket, address, instance).map_err(lost)? {
                    None => Ok(socket),
                    Some(ended) => {
                        socket.shut();
                        Err(ended)
                    }
                }
            }
            Self::Any(places, first) => connect_any(places, first, instance)
                .unwrap_or_else(|| Err(no_node(&self.to_string()))),
            Self::Other(dial) => dial().map_err(lost),
        }
    }

    /// The node that was reached does not take the program: another one is tried first.
    pub(crate) fn turn_to_the_next(&self) {
        if let Self::Any(_, first) = self {
            first.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// `127.0.0.1:8001`, as people write an address.
fn is_host_and_port(node: &str) -> bool {
    node.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    })
}

fn socket_at(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(SOCKET_NAME) } else { path.to_owned() }
}

fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(socket_at(path))
}

fn no_socket(path: &Path, error: &io::Error) -> Ended {
    let shown = path.display();
    Ended::Lost(match error.kind() {
        io::ErrorKind::NotFound if path.is_dir() => {
            format!("no {SOCKET_NAME} in {shown}: is a node running with that sandbox?")
        }
        io::ErrorKind::NotFound => format!(
            "there is no {shown}: --node takes the sandbox of a running node, or its address, \
             which begins with http://"
        ),
        io::ErrorKind::ConnectionRefused => {
            format!("nobody listens at {}: the node is not running", socket_at(path).display())
        }
        _ => format!("cannot reach {}: {error}", socket_at(path).display()),
    })
}

fn no_node(places: &str) -> Ended {
    Ended::Lost(format!(
        "no node answers at {places}: start one, or name yours with --node (its sandbox, or its \
         address, which begins with http://)"
    ))
}

/// The first that is reached, or what the first one says that does not take the program; None when
/// no one is there.
fn connect_any(
    places: &[Dial],
    first: &AtomicUsize,
    instance: &str,
) -> Option<Result<Socket, Ended>> {
    let begin = first.load(Ordering::Relaxed);
    let order =
        (begin..begin + places.len()).map(|number| (number, &places[number % places.len()]));
    order.into_iter().find_map(|(number, place)| match place.connect(instance) {
        Err(Ended::Lost(_)) => None,
        reached => {
            first.store(number, Ordering::Relaxed);
            Some(reached)
        }
    })
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
fn upgrade(socket: &Socket, address: &Address, name: &str) -> io::Result<Option<Ended>> {
    socket.wait_at_most(Some(CONNECT_MAX))?;
    let host = address.authority();
    let path = format!("/core/immortals/{name}/attach");
    // A token is shown only where nobody else reads it.
    let token = std::env::var(TOKEN).ok().filter(|token| !token.is_empty() && address.is_tls());
    let token = token.map(|token| format!("Authorization: Bearer {}\r\n", token.trim()));
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: \
         amrita-immortal\r\n{}\r\n",
        token.unwrap_or_default()
    );
    socket.write_all(request.as_bytes())?;
    let head = read_head(socket)?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status == "101" {
        socket.wait_at_most(None)?;
        return Ok(None);
    }
    let mut body = Vec::new();
    let mut piece = [0; 1_024];
    // What can be had of it: the connection may stay open behind it.
    while let Ok(count @ 1..) = socket.read(&mut piece)
        && body.len() < HEAD_BYTES_MAX
    {
        body.extend_from_slice(&piece[..count]);
    }
    Ok(Some(refusal(status, &body)))
}

/// One byte after the other: nothing behind the head may be taken away.
fn read_head(socket: &Socket) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if socket.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn why(node: &str) -> String {
        match Dial::parse(node).unwrap().connect("x") {
            Err(Ended::Lost(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_address_needs_no_scheme() {
        assert!(matches!(Dial::parse("127.0.0.1:8001"), Ok(Dial::Http(_))));
        assert!(matches!(Dial::parse("data/n1"), Ok(Dial::Unix(_))));
        assert!(matches!(Dial::parse("x:y"), Ok(Dial::Unix(_))));
    }

    #[test]
    fn who_names_a_wrong_node_is_told_what_to_name() {
        let folder = tempfile::tempdir().unwrap();
        let no_node = why(folder.path().to_str().unwrap());
        assert!(no_node.contains("is a node running with that sandbox?"), "{no_node}");
        let nothing = why("data/nope");
        assert!(nothing.contains("http://"), "{nothing}");
    }

    #[test]
    fn of_several_nodes_the_one_that_is_there_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let _listener =
            std::os::unix::net::UnixListener::bind(folder.path().join(SOCKET_NAME)).unwrap();
        let dial = Dial::parse(&format!("data/nope,{}", folder.path().display())).unwrap();
        dial.connect("x").unwrap();
        dial.turn_to_the_next();
        dial.connect("x").unwrap();
        assert!(why("data/nope,data/no").contains("no node answers at data/nope, data/no"));
    }
}
