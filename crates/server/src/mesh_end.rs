//! This node's end of the mesh: its datagrams, and the streams that stand in for links which cannot
//! be made. What is decided is in the crate `mesh`.
//!
//! Datagrams have the number of the node's one port. Where they do not pass, packets go beside the
//! frames of the links.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mesh::{Input, Mesh, NodeKey, Output, PACKET_BYTES_MAX};
use node::LinkFrame;
use protocol::Address;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::carrier::Carrier;
use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;
use crate::numbers::Numbers;

/// How often the addresses of the other nodes are looked up again: a name may lead elsewhere.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);

/// At most this many datagrams are read before others of the node's thread get their turn.
const BURST_MAX: usize = 64;

/// A link takes packets beside its frames.
pub(crate) trait TakesPackets: Send + Sync {
    fn aside(&self, packet: Bytes);
}

pub(crate) struct MeshEnd {
    state: Mutex<State>,
    /// None when the port could not be had, or datagrams of strangers would be a danger: packets go
    /// beside the frames of links only.
    socket: Option<UdpSocket>,
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
    numbers: Numbers,
    born: Instant,
}

struct State {
    mesh: Mesh,
    links: HashMap<u64, Arc<dyn TakesPackets>>,
    /// The links that streams stand for, by the number of the stream.
    streams: HashMap<u64, u64>,
    addresses: BTreeMap<NodeKey, SocketAddr>,
    outputs: Vec<Output>,
    look_ups: Option<JoinHandle<()>>,
}

/// A stream as the node's thread sees it.
struct StreamLink {
    id: u64,
    stream: u64,
    mesh: Arc<MeshEnd>,
}

impl Carrier for StreamLink {
    fn id(&self) -> u64 {
        self.id
    }

    fn queue(&self, frame: LinkFrame) {
        let frame = Bytes::from(frame.concat());
        self.mesh.drive(Input::Send { stream: self.stream, frame });
    }

    /// What is queued is sent at once.
    fn flush(&self) {}

    fn close_after_sending(&self) {
        self.close();
    }

    fn close(&self) {
        self.mesh.drive(Input::Close { stream: self.stream });
    }
}

impl MeshEnd {
    /// Must be called within the runtime of the node's thread. Without an address for datagrams,
    /// packets go beside the frames of links only.
    pub(crate) fn open(
        public: &Address,
        bound: Option<SocketAddr>,
        inbox: Arc<Inbox>,
        numbers: Numbers,
    ) -> Arc<Self> {
        let metrics = inbox.metrics();
        let socket = bound.and_then(|bound| {
            let text = "no datagrams between nodes, so nodes that cannot reach each other need a \
                        third one that has links to both";
            let tell = |error: &io::Error| {
                tracing::warn!(target: "amrita", "{text}: port {} (UDP): {error}", bound.port());
            };
            socket_at(bound).inspect_err(tell).ok()
        });
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = u64::try_from(since.as_micros()).expect("584,000 years are not over");
        let state = State {
            mesh: Mesh::new(&public.to_string(), seed),
            links: HashMap::new(),
            streams: HashMap::new(),
            addresses: BTreeMap::new(),
            outputs: Vec::new(),
            look_ups: None,
        };
        Arc::new(Self {
            state: Mutex::new(state),
            socket,
            inbox,
            metrics,
            numbers,
            born: Instant::now(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the mesh")
    }

    /// Reads datagrams as long as the node's thread runs.
    pub(crate) async fn read(self: Arc<Self>) {
        let Some(socket) = &self.socket else { return };
        let mut buffer = vec![0; PACKET_BYTES_MAX + 1];
        loop {
            if socket.readable().await.is_err() {
                return;
            }
            for _ in 0..BURST_MAX {
                match socket.try_recv_from(&mut buffer) {
                    Ok((length, _)) => self.packet(None, Bytes::copy_from_slice(&buffer[..length])),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // A datagram that was sent before came to nothing.
                    Err(_) => {}
                }
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn tick(self: &Arc<Self>) {
        self.drive(Input::Tick);
    }

    /// Streams to these addresses are wanted where links to them cannot be made.
    pub(crate) fn keep(self: &Arc<Self>, addresses: &[String], runtime: &Handle) {
        self.drive(Input::Keep { addresses: addresses.to_vec() });
        let parsed = addresses.iter().filter_map(|address| {
            Some((NodeKey::of(address), Address::parse(address).ok()?.authority()))
        });
        let wanted: Vec<(NodeKey, String)> = parsed.collect();
        let end = Arc::clone(self);
        let look_ups = runtime.spawn(async move {
            loop {
                for (key, authority) in &wanted {
                    if let Ok(mut found) = tokio::net::lookup_host(authority).await
                        && let Some(address) = found.next()
                    {
                        end.lock().addresses.insert(*key, address);
                    }
                }
                tokio::time::sleep(LOOK_UP_EVERY).await;
            }
        });
        if let Some(before) = self.lock().look_ups.replace(look_ups) {
            before.abort();
        }
    }

    pub(crate) fn link_opened(self: &Arc<Self>, id: u64, link: Arc<dyn TakesPackets>) {
        self.lock().links.insert(id, link);
        self.drive(Input::LinkOpened { link: id });
    }

    pub(crate) fn link_closed(self: &Arc<Self>, id: u64) {
        self.lock().links.remove(&id);
        self.drive(Input::LinkClosed { link: id });
    }

    /// A packet has come, beside the frames of a link or as a datagram. While the node is too far
    /// behind to take frames, it takes no packets either: whoever sent them sends them again.
    pub(crate) fn packet(self: &Arc<Self>, link: Option<u64>, bytes: Bytes) {
        if self.inbox.takes_frames() {
            self.drive(Input::Packet { link, bytes });
        }
    }

    fn drive(self: &Arc<Self>, input: Input) {
        let now =
            u64::try_from(self.born.elapsed().as_micros()).expect("the process is not so old");
        let mut state = self.lock();
        let mut outputs = std::mem::take(&mut state.outputs);
        state.mesh.step(now, input, &mut outputs);
        for output in outputs.drain(..) {
            self.act(output, &mut state);
        }
        state.outputs = outputs;
    }

    fn act(self: &Arc<Self>, output: Output, state: &mut State) {
        match output {
            Output::Datagram { to, packet } => {
                if let (Some(socket), Some(address)) = (&self.socket, state.addresses.get(&to)) {
                    // A datagram may get lost anyhow.
                    drop(socket.try_send_to(&packet, *address));
                }
            }
            Output::OnLink { link, packet } => {
                if let Some(link) = state.links.get(&link) {
                    link.aside(packet);
                }
            }
            Output::Opened { stream } => {
                let id = self.numbers.next();
                state.streams.insert(stream, id);
                self.metrics.links.detours.fetch_add(1, Ordering::Relaxed);
                tracing::info!(target: "amrita", link = id, "a node is reached by a detour");
                let link = Arc::new(StreamLink { id, stream, mesh: Arc::clone(self) });
                self.inbox.put(Event::LinkOpened { link, dialed: None, is_detour: true });
            }
            Output::Frame { stream, frame } => {
                if let Some(link) = state.streams.get(&stream) {
                    self.metrics.links.frames_received.fetch_add(1, Ordering::Relaxed);
                    self.inbox.received_now(*link, frame);
                }
            }
            Output::Closed { stream } => {
                if let Some(link) = state.streams.remove(&stream) {
                    self.metrics.links.detours.fetch_sub(1, Ordering::Relaxed);
                    tracing::info!(target: "amrita", link, "a detour has ended");
                    self.inbox.put(Event::LinkClosed { link });
                }
            }
        }
    }
}

fn socket_at(bound: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(bound)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
