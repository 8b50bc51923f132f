//! Makes the links to other nodes: an HTTP upgrade on the node's one port, tried again after a
//! pause that grows, for as long as the node wants the link.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use protocol::Address;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::carrier::Carrier;
use crate::client_socket::ClientSocket;
use crate::inbox::{Event, Inbox};
use crate::link::{Link, Surroundings};
use crate::link_secret::{Dialing, LinkSecret, NONCE};
use crate::mesh_end::MeshEnd;
use crate::metrics::Metrics;
use crate::named_program::Nameless;
use crate::neighbours::Neighbours;
use crate::numbers::Numbers;
use crate::tls::Tls;

/// Where a link begins.
pub(crate) const LINK_PATH: &str = protocol::node_group::PEER_LINK;

/// The protocol of the upgrade.
pub(crate) const LINK_PROTOCOL: &str = "amrita-peer";

/// Names the version of the framing; another one is refused.
pub(crate) const LINK_VERSION_HEADER: HeaderName = HeaderName::from_static("amrita-link-version");
pub(crate) const LINK_VERSION: &str = "2";

/// The pause after a first failed attempt; doubled with each one.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The pause does not grow beyond this: a node that comes back is linked within that time.
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// A link that lived as long as this was good: the next pause is short again.
const GOOD: Duration = Duration::from_secs(1);

/// How long the whole handshake may take: three times to the other node and back, over a network
/// that takes a second for each.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// While an attempt has no outcome, the next one begins beside it after this time, so there are at
/// most [`HANDSHAKE_MAX`] by this of them.
const ATTEMPT_EVERY: Duration = Duration::from_millis(250);

/// What is shared by all links and programs of a node.
#[derive(Clone)]
pub(crate) struct Ends {
    /// Of the node's own thread.
    pub(crate) runtime: Handle,
    pub(crate) numbers: Numbers,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mesh: Arc<MeshEnd>,
    /// How many connections of clients and programs there may be: each takes a descriptor.
    pub(crate) places: usize,
    /// Programs that have not said who they are.
    pub(crate) nameless: Nameless,
    /// Which users of this machine may have programs at AMBROSIA's ports.
    pub(crate) neighbours: Arc<Neighbours>,
    /// What all nodes of the cluster know, if links are to be proved.
    pub(crate) secret: Option<Arc<LinkSecret>>,
    pub(crate) tls: Option<Arc<Tls>>,
}

impl Ends {
    /// Takes over a connection that was accepted elsewhere, and lets it live on the node's thread.
    pub(crate) fn adopt(&self, upgraded: Upgraded, stop: watch::Receiver<()>) -> io::Result<()> {
        let (socket, already_read) = socket_of_client(upgraded)?;
        let ends = self.clone();
        self.runtime.spawn(async move {
            let lived = match TcpStream::from_std(socket) {
                Ok(socket) => ends.run(socket, already_read, None, stop).await,
                Err(error) => Err(error),
            };
            if let Err(error) = lived {
                tracing::debug!("a link could not be made: {error}");
            }
        });
        Ok(())
    }

    /// Lives as long as the link does.
    pub(crate) async fn run(
        &self,
        socket: TcpStream,
        already_read: Bytes,
        dialed: Option<String>,
        mut stop: watch::Receiver<()>,
    ) -> io::Result<()> {
        let link = Arc::new(Link::new(self.numbers.next(), socket)?);
        let (inbox, metrics) = (Arc::clone(&self.inbox), Arc::clone(&self.metrics));
        let around = Surroundings { inbox, metrics, mesh: Arc::clone(&self.mesh) };
        let live = Arc::clone(&link).live(dialed, already_read, around);
        tokio::pin!(live);
        tokio::select! {
            () = &mut live => {}
            _ = stop.changed() => {
                link.close();
                live.await;
            }
        }
        Ok(())
    }
}

/// Keeps the links that the node wants.
pub(crate) struct Dialer {
    ends: Ends,
    /// Dropping the sender ends the attempts and closes the link.
    wanted: BTreeMap<String, watch::Sender<()>>,
}

impl Dialer {
    pub(crate) fn new(ends: Ends) -> Self {
        Self { ends, wanted: BTreeMap::new() }
    }

    /// About 10 ms went by.
    pub(crate) fn tick(&self) {
        self.ends.mesh.tick();
    }

    /// Keeps a link to each of these and to no other.
    pub(crate) fn keep(&mut self, addresses: Vec<String>) {
        self.ends.mesh.keep(&addresses, &self.ends.runtime);
        self.wanted.retain(|address, _| addresses.contains(address));
        for address in addresses {
            if self.wanted.contains_key(&address) {
                continue;
            }
            match Address::parse(&address) {
                Ok(target) => {
                    let (sender, stop) = watch::channel(());
                    let kept = keep_one(address.clone(), target, self.ends.clone(), stop);
                    self.ends.runtime.spawn(kept);
                    self.wanted.insert(address, sender);
                }
                Err(why) => tracing::error!("a node cannot be linked: {why}"),
            }
        }
    }
}

/// By what the two ends of a link know each other.
#[derive(Clone)]
struct Proofs {
    secret: Option<Arc<LinkSecret>>,
    tls: Option<Arc<Tls>>,
}

async fn keep_one(address: String, target: Address, ends: Ends, mut stop: watch::Receiver<()>) {
    let mut pause = PAUSE_MIN;
    let mut told = false;
    let proofs = Proofs { secret: ends.secret.clone(), tls: ends.tls.clone() };
    loop {
        let attempt = tokio::select! {
            attempt = first_of_several(&target, &proofs) => attempt,
            _ = stop.changed() => return,
        };
        match attempt {
            Ok((socket, already_read)) => {
                told = false;
                let born = Instant::now();
                let dialed = Some(address.clone());
                let lived = ends.run(socket, already_read, dialed, stop.clone()).await;
                if lived.is_ok() && born.elapsed() >= GOOD {
                    pause = PAUSE_MIN;
                }
            }
            Err(error) => {
                if !told {
                    tracing::debug!("no link to {address} is made so far: {error}");
                }
                told = true;
                ends.inbox.put(Event::DialFailed { address: address.clone() });
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => return,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The first link that comes about, or the first answer that there will be none.
///
/// A network that drops packets lets an attempt wait for TCP's next try, which comes later and
/// later. So another attempt begins beside it after [`ATTEMPT_EVERY`]: when the network is well
/// again, the next one gets through at once. Those that are left over are cut off.
async fn first_of_several(target: &Address, proofs: &Proofs) -> io::Result<(TcpStream, Bytes)> {
    let mut attempts = JoinSet::new();
    let mut begin = tokio::time::interval(ATTEMPT_EVERY);
    begin.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(attempt) = attempts.join_next() => return attempt.map_err(io::Error::other)?,
            _ = begin.tick() => {
                let (target, proofs) = (target.clone(), proofs.clone());
                attempts.spawn(async move {
                    let shaking = handshake(&target, &proofs);
                    let attempt = tokio::time::timeout(HANDSHAKE_MAX, shaking).await;
                    attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                });
            }
        }
    }
}

async fn handshake(target: &Address, proofs: &Proofs) -> io::Result<(TcpStream, Bytes)> {
    let socket = TcpStream::connect(target.authority()).await?;
    socket.set_nodelay(true)?;
    let socket = match (&proofs.tls, target.is_tls()) {
        (None, false) => socket,
        (Some(tls), true) => tls.dial(target.host(), socket).await?,
        (None, true) => return Err(io::Error::other("it speaks TLS, and this node does not")),
        (Some(_), false) => return Err(io::Error::other("this node speaks TLS, and it does not")),
    };
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades());
    let response =
        sender.send_request(request_of(target, None)?).await.map_err(io::Error::other)?;
    let response = match &proofs.secret {
        None => response,
        Some(secret) => prove(target, secret, &mut sender, response).await?,
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(io::Error::other(format!("it answered {}", response.status())));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(io::Error::other)?;
    socket_of(upgraded)
}

fn request_of(target: &Address, dialing: Option<&Dialing>) -> io::Result<Request<Empty<Bytes>>> {
    let mut request = Request::get(LINK_PATH)
        .header(HOST, target.authority())
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, LINK_PROTOCOL)
        .header(LINK_VERSION_HEADER, LINK_VERSION);
    for (name, value) in dialing.iter().flat_map(|dialing| &dialing.headers) {
        request = request.header(name, value);
    }
    request.body(Empty::new()).map_err(io::Error::other)
}

/// The other node has given a number: the second try has a proof over it, and the answer to that
/// must have one as well.
async fn prove(
    target: &Address,
    secret: &LinkSecret,
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    first: Response<Incoming>,
) -> io::Result<Response<Incoming>> {
    let stranger = "it does not prove that it belongs to this cluster: has it the same secret?";
    let nonce = first.headers().get(NONCE).and_then(|nonce| nonce.to_str().ok());
    let Some(nonce) = nonce.filter(|_| first.status() == StatusCode::UNAUTHORIZED) else {
        return Err(io::Error::other(stranger));
    };
    let dialing = secret.answer(nonce);
    // The connection takes the next request once the answer to this one is read.
    first.into_body().collect().await.map_err(io::Error::other)?;
    sender.ready().await.map_err(io::Error::other)?;
    let second = sender.send_request(request_of(target, Some(&dialing))?);
    let second = second.await.map_err(io::Error::other)?;
    if secret.is_member(&dialing, second.headers()) {
        return Ok(second);
    }
    Err(io::Error::other(stranger))
}

/// The plain socket under an upgraded connection that was accepted, and what was read from it too
/// early. It does not belong to the threads that accepted it any more.
pub(crate) fn socket_of_client(upgraded: Upgraded) -> io::Result<(std::net::TcpStream, Bytes)> {
    let parts = upgraded
        .downcast::<ClientSocket>()
        .map_err(|_| io::Error::other("the connection is not a client's"))?;
    Ok((parts.io.into_socket().into_std()?, parts.read_buf))
}

/// The plain socket under an upgraded connection that was dialed, and what was read from it too
/// early.
fn socket_of(upgraded: Upgraded) -> io::Result<(TcpStream, Bytes)> {
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| io::Error::other("the connection is not a plain socket"))?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_attempt_without_an_answer_does_not_hold_up_the_next_one() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
            let proofs = Proofs { secret: None, tls: None };
            let answer = async {
                let (_silent, _) = listener.accept().await.unwrap();
                let (mut second, _) = listener.accept().await.unwrap();
                let mut head = [0; 1_000];
                assert!(second.read(&mut head).await.unwrap() > 0);
                let yes = "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: amrita-peer\r\n\r\n";
                second.write_all(yes.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            };
            let first = first_of_several(&target, &proofs);
            let made = tokio::select! {
                made = tokio::time::timeout(10 * HANDSHAKE_MAX, first) => {
                    made.expect("the second attempt is made")
                }
                () = answer => unreachable!("it waits"),
            };
            assert!(made.is_ok(), "{:?}", made.err());
        });
    }
}
