//! A link to another node: one TCP connection with frames both ways, each with its length and a
//! checksum before it. What is in a frame is the node's business.
//!
//! The node's thread writes to the socket itself, without a detour over another task: on the way of
//! a replicated write that saves a wake-up in each direction. Only when the socket takes no more
//! does the link's writer task go on.
//!
//! A node pings each link ten times a second, so a link on which nothing comes for longer than
//! [`SILENCE_MAX`] is dead, whatever TCP says: packets that a network drops make no error, and a
//! socket that waits in TCP's back-off stays silent for minutes after the network is well. Such a
//! link is closed, and the dialer makes another one.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mesh::PACKET_BYTES_MAX;
use node::{FRAME_BYTES_MAX, LinkFrame};
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::budget::Purpose;
use crate::carrier::Carrier;
use crate::inbox::{Event, Inbox};
use crate::mesh_end::{MeshEnd, TakesPackets};
use crate::metrics::Metrics;
use crate::outgoing::{Flushed, Outgoing};

/// The most bytes that may wait to be sent on a link. A receiver that is so far behind is cut off,
/// and is brought up to date when it comes back.
const OUTGOING_BYTES_MAX: usize = 256 << 20;

/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;

/// A link on which nothing came for this long is closed. The node counts a peer as down after the
/// same time.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// In how many looks the silence is measured. Looks that were missed are not made up, so a pause of
/// this process itself is never taken for silence of the others.
const SILENT_LOOKS_MAX: u32 = 10;

/// Sent bytes that are not confirmed for this long break the connection, and so do probes of an
/// idle one: the kernel's own measure, in case this process looks no more.
const UNCONFIRMED_MILLIS_MAX: u32 = 3_000;

/// After this long without a byte, and as often again, the kernel asks an idle connection for a
/// sign of life.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// This many probes without an answer break the connection.
const PROBES_MAX: u32 = 2;

/// How long a link that this node has closed waits for the other end to read all.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Before each frame: its length and its CRC-32, little-endian.
const HEADER_BYTES: usize = 8;

/// This bit of the length says that it is no frame, but a packet of the mesh.
const ASIDE: u32 = 1 << 31;

/// While more than this waits to be sent, packets of the mesh are dropped: whoever wants them to
/// arrive sends them again.
const ASIDE_BYTES_WAITING_MAX: usize = 256 << 10;

pub(crate) struct Link {
    pub(crate) id: u64,
    socket: TcpStream,
    sending: Mutex<Sending>,
    /// The socket took no more: wakes the writer task.
    blocked: Notify,
    /// Wakes the reader to see that the link is closed.
    closing: Notify,
    closed: AtomicBool,
    /// How often something was read.
    heard: AtomicU64,
    /// Nothing is read because this node is behind: that is not the other's silence.
    is_on_hold: AtomicBool,
}

/// What a link gives what it reads to.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) mesh: Arc<MeshEnd>,
}

#[derive(Default)]
struct Sending {
    outgoing: Outgoing,
    /// Close when all is sent.
    last: bool,
}

impl Link {
    pub(crate) fn new(id: u64, socket: TcpStream) -> io::Result<Self> {
        // The inner end of an encrypted connection has no address, and is no socket of TCP.
        if socket.peer_addr().is_ok() {
            socket.set_nodelay(true)?;
            break_when_dead(&socket)?;
        }
        Ok(Self {
            id,
            socket,
            sending: Mutex::default(),
            blocked: Notify::new(),
            closing: Notify::new(),
            closed: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            is_on_hold: AtomicBool::new(false),
        })
    }

    fn send(&self) {
        let mut sending = self.lock();
        match sending.outgoing.write(|slices| self.socket.try_write_vectored(slices)) {
            Flushed::All if sending.last => self.close(),
            Flushed::All => {}
            Flushed::Blocked if sending.outgoing.bytes() > OUTGOING_BYTES_MAX => {
                tracing::warn!(link = self.id, "a node does not take what is sent to it: cut off");
                self.close();
            }
            Flushed::Blocked => self.blocked.notify_one(),
            Flushed::Broken => self.close(),
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sending> {
        self.sending.lock().expect("no one panics while holding a link")
    }

    /// Sends the rest whenever a flush was blocked.
    async fn write_rest(&self) {
        while !self.is_closed() {
            self.blocked.notified().await;
            if self.is_closed() || self.socket.writable().await.is_err() {
                break;
            }
            self.send();
        }
    }

    /// Reads until the link closes, and gives what comes to the inbox.
    async fn read(&self, mut buffer: BytesMut, around: &Surroundings) {
        let Surroundings { inbox, metrics, mesh } = around;
        // Counts a long frame until it is whole.
        let mut held = None;
        while !self.is_closed() {
            let Taken { frames, packets, awaited } = match take_frames(&mut buffer) {
                Ok(taken) => taken,
                Err(why) => {
                    tracing::warn!(link = self.id, "the link is closed: {why}");
                    break;
                }
            };
            packets.into_iter().for_each(|packet| mesh.packet(Some(self.id), packet));
            if !frames.is_empty() {
                held = None;
                let count = u64::try_from(frames.len()).expect("a count fits");
                metrics.links.frames_received.fetch_add(count, Ordering::Relaxed);
                self.on_hold(inbox.received(self.id, frames)).await;
            }
            if awaited > READ_BYTES && held.is_none() {
                held = Some(self.on_hold(inbox.budget.take(Purpose::Peer, awaited)).await);
            }
            // One reservation for the rest of a long frame instead of many small ones.
            buffer.reserve(awaited.saturating_sub(buffer.len()).max(READ_BYTES));
            let readable = tokio::select! {
                readable = self.socket.readable() => readable,
                () = self.closing.notified() => break,
            };
            match readable.and_then(|()| self.socket.try_read_buf(&mut buffer)) {
                Ok(0) => break,
                Ok(_) => drop(self.heard.fetch_add(1, Ordering::Relaxed)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    }

    async fn on_hold<T>(&self, waits: impl Future<Output = T>) -> T {
        self.is_on_hold.store(true, Ordering::Relaxed);
        let came = waits.await;
        self.is_on_hold.store(false, Ordering::Relaxed);
        came
    }

    /// Returns when nothing came for [`SILENCE_MAX`].
    async fn listen_for_silence(&self) {
        let mut looks = tokio::time::interval(SILENCE_MAX / SILENT_LOOKS_MAX);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut silent) = (0, 0);
        while silent <= SILENT_LOOKS_MAX {
            looks.tick().await;
            let before = std::mem::replace(&mut heard, self.heard.load(Ordering::Relaxed));
            let is_silent = heard == before && !self.is_on_hold.load(Ordering::Relaxed);
            silent = if is_silent { silent + 1 } else { 0 };
        }
        let silence = SILENCE_MAX.as_millis();
        tracing::debug!(link = self.id, "nothing came for {silence} ms: the link is closed");
    }

    /// The whole life of a link: announces it, reads and writes until it closes, and says so.
    pub(crate) async fn live(
        self: Arc<Self>,
        dialed: Option<String>,
        already_read: Bytes,
        around: Surroundings,
    ) {
        let Surroundings { inbox, metrics, mesh } = &around;
        metrics.links.open.fetch_add(1, Ordering::Relaxed);
        let link = Arc::clone(&self) as _;
        inbox.put(Event::LinkOpened { link, dialed, is_detour: false });
        mesh.link_opened(self.id, Arc::clone(&self) as _);
        tokio::select! {
            () = self.read(already_read.into(), &around) => {}
            () = self.write_rest() => {}
            () = self.listen_for_silence() => {}
        }
        self.close();
        mesh.link_closed(self.id);
        metrics.links.open.fetch_sub(1, Ordering::Relaxed);
        inbox.put(Event::LinkClosed { link: self.id });
        if self.is_last_sent() {
            // Who does not close its end does not keep this one open.
            let _in_time = tokio::time::timeout(LINGER_MAX, self.let_it_be_read()).await;
        }
    }

    /// This node closed the link after what it had to say.
    fn is_last_sent(&self) -> bool {
        let sending = self.lock();
        sending.last && sending.outgoing.bytes() == 0
    }

    /// Waits until the other end has read all. A socket that is closed with something unread makes
    /// the kernel reset the connection, and the other end may lose what it has not read.
    async fn let_it_be_read(&self) {
        if rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write).is_err() {
            return;
        }
        let mut scrap = [0; 4 << 10];
        while self.socket.readable().await.is_ok() {
            match self.socket.try_read(&mut scrap) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl Carrier for Link {
    fn id(&self) -> u64 {
        self.id
    }

    fn queue(&self, frame: LinkFrame) {
        let pieces = frame.into_pieces();
        let length = pieces.iter().map(Bytes::len).sum::<usize>();
        let mut sending = self.lock();
        if sending.last {
            return;
        }
        let length = u32::try_from(length).expect("FRAME_BYTES_MAX fits");
        let mut sum = crc32fast::Hasher::new();
        pieces.iter().for_each(|piece| sum.update(piece));
        sending.outgoing.push_slice(&length.to_le_bytes());
        sending.outgoing.push_slice(&sum.finalize().to_le_bytes());
        pieces.into_iter().for_each(|piece| sending.outgoing.push(piece));
    }

    fn flush(&self) {
        self.send();
    }

    fn close_after_sending(&self) {
        self.lock().last = true;
        self.send();
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_one();
        self.blocked.notify_one();
    }
}

impl TakesPackets for Link {
    fn aside(&self, packet: Bytes) {
        {
            let mut sending = self.lock();
            if sending.last || sending.outgoing.bytes() > ASIDE_BYTES_WAITING_MAX {
                return;
            }
            let length = u32::try_from(packet.len()).expect("a packet is short");
            sending.outgoing.push_slice(&(length | ASIDE).to_le_bytes());
            sending.outgoing.push_slice(&crc32fast::hash(&packet).to_le_bytes());
            sending.outgoing.push_slice(&packet);
        }
        self.send();
    }
}

/// Lets the kernel break a connection whose other end does not confirm anything.
fn break_when_dead(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, PROBE_EVERY)?;
    sockopt::set_tcp_keepintvl(socket, PROBE_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, PROBES_MAX)?;
    #[cfg(target_os = "linux")]
    {
        sockopt::set_tcp_user_timeout(socket, UNCONFIRMED_MILLIS_MAX)?;
        // What was lost is sent again and again after the same time, not later and later.
        sockopt::set_tcp_thin_linear_timeouts(socket, true)?;
    }
    Ok(())
}

/// What was read, as far as it is whole.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    frames: Vec<Bytes>,
    packets: Vec<Bytes>,
    /// How long the next frame is that is not whole, if that is known.
    awaited: usize,
}

/// Takes the whole frames from the front of what was read.
fn take_frames(buffer: &mut BytesMut) -> Result<Taken, String> {
    let mut taken = Taken::default();
    while buffer.len() >= HEADER_BYTES {
        let mut header = &buffer[..HEADER_BYTES];
        let (length, sum) = (header.get_u32_le(), header.get_u32_le());
        let (is_aside, length) = (length & ASIDE != 0, length & !ASIDE);
        let length = usize::try_from(length).expect("a u32 fits");
        if length > if is_aside { PACKET_BYTES_MAX } else { FRAME_BYTES_MAX } {
            return Err(format!("a frame of {length} bytes is over the limit"));
        }
        if buffer.len() < HEADER_BYTES + length {
            taken.awaited = HEADER_BYTES + length;
            return Ok(taken);
        }
        buffer.advance(HEADER_BYTES);
        let frame = buffer.split_to(length).freeze();
        if crc32fast::hash(&frame) != sum {
            return Err("a frame was damaged on the way".into());
        }
        let list = if is_aside { &mut taken.packets } else { &mut taken.frames };
        list.push(frame);
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use protocol::Address;

    use super::*;
    use crate::numbers::Numbers;
    use crate::outgoing::COPY_BYTES_MAX;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (dialed, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (dialed.unwrap(), accepted.unwrap().0)
    }

    /// Frames are taken in order; anything else ends the wait.
    async fn frames(inbox: &Arc<Inbox>, count: usize) -> Vec<Bytes> {
        let mut all = Vec::new();
        while all.len() < count {
            inbox.wait().await;
            let mut events = Vec::new();
            inbox.take(&mut events);
            for event in events {
                match event {
                    Event::Received { frames, .. } => all.extend(frames),
                    Event::LinkClosed { .. } => return all,
                    _ => {}
                }
            }
        }
        all
    }

    /// To be called within a runtime.
    fn around(inbox: &Arc<Inbox>) -> Surroundings {
        let public = Address::new("127.0.0.1", 1);
        let mesh = MeshEnd::open(&public, None, Arc::clone(inbox), Numbers::default());
        Surroundings { inbox: Arc::clone(inbox), metrics: inbox.metrics(), mesh }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    #[test]
    fn frames_of_all_sizes_arrive_whole_and_in_order() {
        runtime().block_on(async {
            let (left, right) = pair().await;
            let inbox = Arc::new(Inbox::new(Arc::default()));
            let sender = Arc::new(Link::new(1, left).unwrap());
            let receiver = Arc::new(Link::new(2, right).unwrap());
            tokio::spawn(Arc::clone(&sender).live(
                None,
                Bytes::new(),
                around(&Arc::new(Inbox::new(Arc::default()))),
            ));
            tokio::spawn(receiver.live(None, Bytes::new(), around(&inbox)));
            let sizes = [0, 1, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 9 << 20, 3, 200_000, 0];
            for (n, size) in sizes.iter().enumerate() {
                let bytes = Bytes::from(vec![u8::try_from(n).unwrap(); *size]);
                sender.queue(LinkFrame::new(vec![bytes]).unwrap());
            }
            sender.flush();
            let arrived = frames(&inbox, sizes.len()).await;
            for (n, (frame, size)) in arrived.iter().zip(sizes).enumerate() {
                assert_eq!(frame.len(), size);
                assert!(frame.iter().all(|byte| usize::from(*byte) == n));
            }
            assert_eq!(arrived.len(), sizes.len());
        });
    }

    #[test]
    fn a_link_on_which_nothing_comes_is_closed_and_one_that_speaks_is_not() {
        runtime().block_on(async {
            let ((silent, _kept), (spoken, speaker)) = (pair().await, pair().await);
            let inbox = Arc::new(Inbox::new(Arc::default()));
            for (id, socket) in [(1, silent), (2, spoken)] {
                let link = Arc::new(Link::new(id, socket).unwrap());
                tokio::spawn(link.live(None, Bytes::new(), around(&inbox)));
            }
            let mut events = Vec::new();
            let begun = std::time::Instant::now();
            while !events.iter().any(|event| matches!(event, Event::LinkClosed { .. })) {
                // An empty frame, a byte at a time: its sum is nought as well.
                speaker.try_write(&[0]).unwrap();
                tokio::time::sleep(SILENCE_MAX / SILENT_LOOKS_MAX).await;
                let mut more = Vec::new();
                inbox.take(&mut more);
                events.append(&mut more);
                assert!(begun.elapsed() < SILENCE_MAX * 20, "the silent one is not closed");
            }
            let closed = |event: &Event| matches!(event, Event::LinkClosed { link: 1 });
            assert!(events.iter().any(closed), "the silent one");
            let other = |event: &Event| matches!(event, Event::LinkClosed { link: 2 });
            assert!(!events.iter().any(other), "not the one that speaks");
        });
    }

    #[test]
    fn a_long_frame_is_counted_until_it_is_whole() {
        runtime().block_on(async {
            let (left, mut right) = pair().await;
            let inbox = Arc::new(Inbox::new(Arc::default()));
            let link = Arc::new(Link::new(1, left).unwrap());
            tokio::spawn(link.live(None, Bytes::new(), around(&inbox)));
            let frame = vec![7; 9 << 20];
            let length = u32::try_from(frame.len()).unwrap();
            right.write_all(&length.to_le_bytes()).await.unwrap();
            right.write_all(&crc32fast::hash(&frame).to_le_bytes()).await.unwrap();
            while inbox.budget.used() < frame.len() {
                tokio::task::yield_now().await;
            }
            let (sent, taken) = tokio::join!(right.write_all(&frame), frames(&inbox, 1));
            sent.unwrap();
            assert_eq!(taken[0].len(), frame.len());
            assert_eq!(inbox.budget.used(), 0);
        });
    }

    #[test]
    fn a_link_that_is_closed_after_sending_sends_all_first() {
        runtime().block_on(async {
            let (left, right) = pair().await;
            let inbox = Arc::new(Inbox::new(Arc::default()));
            let sender = Arc::new(Link::new(1, left).unwrap());
            let receiver = Arc::new(Link::new(2, right).unwrap());
            let ours = Arc::clone(&sender);
            tokio::spawn(ours.live(
                None,
                Bytes::new(),
                around(&Arc::new(Inbox::new(Arc::default()))),
            ));
            tokio::spawn(receiver.live(None, Bytes::new(), around(&inbox)));
            let pieces = vec![Bytes::from_static(b"7"), Bytes::from(vec![7; 6 << 20])];
            sender.queue(LinkFrame::new(pieces).unwrap());
            sender.close_after_sending();
            drop(sender);
            assert_eq!(frames(&inbox, 2).await.len(), 1);
        });
    }

    #[test]
    fn what_comes_after_a_link_was_closed_takes_nothing_of_what_was_sent_first() {
        runtime().block_on(async {
            let (left, mut right) = pair().await;
            let link = Arc::new(Link::new(1, left).unwrap());
            // Nobody but this test and its life hold the link.
            let around = around(&Arc::new(Inbox::new(Arc::default())));
            tokio::spawn(Arc::clone(&link).live(None, Bytes::new(), around));
            link.queue(LinkFrame::new(vec![Bytes::from(vec![7; 6 << 20])]).unwrap());
            link.close_after_sending();
            let mut taken = 0;
            let mut buffer = vec![0; 64 << 10];
            // Until the kernel has the rest of it.
            while !link.is_closed() {
                tokio::task::yield_now().await;
                taken += right.try_read(&mut buffer).unwrap_or(0);
            }
            drop(link);
            tokio::time::sleep(Duration::from_millis(50)).await;
            right.write_all(&[7; 1_000]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut rest = Vec::new();
            right.read_to_end(&mut rest).await.unwrap();
            // The mesh may have sent packets of its own before.
            assert!(taken + rest.len() >= HEADER_BYTES + (6 << 20), "{taken} and {}", rest.len());
        });
    }

    #[test]
    fn a_damaged_or_overlong_frame_closes_the_link() {
        let mut good = BytesMut::new();
        good.put_u32_le(3);
        good.put_u32_le(crc32fast::hash(b"abc"));
        good.put_slice(b"abc");
        let mut damaged = good.clone();
        damaged[9] ^= 1;
        let taken = take_frames(&mut good).unwrap();
        assert_eq!(taken, Taken { frames: vec![Bytes::from_static(b"abc")], ..Taken::default() });
        assert!(take_frames(&mut damaged).unwrap_err().contains("damaged"));
        let mut long = BytesMut::from(&[255; HEADER_BYTES][..]);
        assert!(take_frames(&mut long).unwrap_err().contains("over the limit"));
        for (part, awaited) in [(&[5, 0, 0][..], 0), (&[5, 0, 0, 0, 1, 2, 3, 4, 5], 13)] {
            let taken = take_frames(&mut BytesMut::from(part)).unwrap();
            assert_eq!(taken, Taken { awaited, ..Taken::default() });
        }
    }
}
