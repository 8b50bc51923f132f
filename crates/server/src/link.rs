//! A link to another node: one TCP connection with frames both ways, each with its length and a
//! checksum before it. What is in a frame is the node's business.
//!
//! The node's thread writes to the socket itself, without a detour over another task: on the way of
//! a replicated write that saves a wake-up in each direction. Only when the socket takes no more
//! does the link's writer task go on.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes, BytesMut};
use node::FRAME_BYTES_MAX;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;
use crate::outgoing::{Flushed, Outgoing};

/// The most bytes that may wait to be sent on a link. A receiver that is so far behind is cut off,
/// and is brought up to date when it comes back.
const OUTGOING_BYTES_MAX: usize = 128 << 20;

/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;

/// Before each frame: its length and its CRC-32, little-endian.
const HEADER_BYTES: usize = 8;

pub(crate) struct Link {
    pub(crate) id: u64,
    socket: TcpStream,
    sending: Mutex<Sending>,
    /// The socket took no more: wakes the writer task.
    blocked: Notify,
    /// Wakes the reader to see that the link is closed.
    closing: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Sending {
    outgoing: Outgoing,
    /// Close when all is sent.
    last: bool,
}

impl Link {
    pub(crate) fn new(id: u64, socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self {
            id,
            socket,
            sending: Mutex::default(),
            blocked: Notify::new(),
            closing: Notify::new(),
            closed: AtomicBool::new(false),
        })
    }

    /// Puts a frame, in pieces, at the end of what is to be sent; [`Self::flush`] sends it.
    pub(crate) fn queue(&self, pieces: Vec<Bytes>) {
        let length = pieces.iter().map(Bytes::len).sum::<usize>();
        assert!(length <= FRAME_BYTES_MAX, "the node made a frame that no one would take");
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

    /// Sends what is queued, as far as the socket takes it; the rest follows by itself.
    pub(crate) fn flush(&self) {
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

    /// Closes when all that was queued is sent.
    pub(crate) fn close_after_sending(&self) {
        self.lock().last = true;
        self.flush();
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_one();
        self.blocked.notify_one();
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
            self.flush();
        }
    }

    /// Reads until the link closes, and gives what comes to the inbox.
    async fn read(&self, mut buffer: BytesMut, inbox: &Inbox, metrics: &Metrics) {
        while !self.is_closed() {
            match take_frames(&mut buffer) {
                Ok(frames) if frames.is_empty() => {}
                Ok(frames) => {
                    let count = u64::try_from(frames.len()).expect("a count fits");
                    metrics.frames_received.fetch_add(count, Ordering::Relaxed);
                    inbox.received(self.id, frames).await;
                }
                Err(why) => {
                    tracing::warn!(link = self.id, "the link is closed: {why}");
                    break;
                }
            }
            let readable = tokio::select! {
                readable = self.socket.readable() => readable,
                () = self.closing.notified() => break,
            };
            buffer.reserve(READ_BYTES);
            match readable.and_then(|()| self.socket.try_read_buf(&mut buffer)) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    }

    /// The whole life of a link: announces it, reads and writes until it closes, and says so.
    pub(crate) async fn live(
        self: Arc<Self>,
        dialed: Option<String>,
        already_read: Bytes,
        inbox: Arc<Inbox>,
        metrics: Arc<Metrics>,
    ) {
        metrics.links.fetch_add(1, Ordering::Relaxed);
        inbox.put(Event::LinkOpened { link: Arc::clone(&self), dialed });
        tokio::select! {
            () = self.read(already_read.into(), &inbox, &metrics) => {}
            () = self.write_rest() => {}
        }
        self.close();
        metrics.links.fetch_sub(1, Ordering::Relaxed);
        inbox.put(Event::LinkClosed { link: self.id });
    }
}

/// Takes the whole frames from the front of what was read.
fn take_frames(buffer: &mut BytesMut) -> Result<Vec<Bytes>, String> {
    let mut frames = Vec::new();
    while buffer.len() >= HEADER_BYTES {
        let mut header = &buffer[..HEADER_BYTES];
        let (length, sum) = (header.get_u32_le(), header.get_u32_le());
        let length = usize::try_from(length).expect("a u32 fits");
        if length > FRAME_BYTES_MAX {
            return Err(format!("a frame of {length} bytes is over the limit"));
        }
        if buffer.len() < HEADER_BYTES + length {
            // One reservation for the rest of a large frame instead of many small ones.
            buffer.reserve(HEADER_BYTES + length - buffer.len());
            break;
        }
        buffer.advance(HEADER_BYTES);
        let frame = buffer.split_to(length).freeze();
        if crc32fast::hash(&frame) != sum {
            return Err("a frame was damaged on the way".into());
        }
        frames.push(frame);
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use tokio::net::TcpListener;

    use super::*;
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
                Arc::new(Inbox::new(Arc::default())),
                Arc::default(),
            ));
            tokio::spawn(receiver.live(None, Bytes::new(), Arc::clone(&inbox), Arc::default()));
            let sizes = [0, 1, COPY_BYTES_MAX, COPY_BYTES_MAX + 1, 9 << 20, 3, 200_000, 0];
            for (n, size) in sizes.iter().enumerate() {
                sender.queue(vec![Bytes::from(vec![u8::try_from(n).unwrap(); *size])]);
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
                Arc::new(Inbox::new(Arc::default())),
                Arc::default(),
            ));
            tokio::spawn(receiver.live(None, Bytes::new(), Arc::clone(&inbox), Arc::default()));
            sender.queue(vec![Bytes::from_static(b"7"), Bytes::from(vec![7; 6 << 20])]);
            sender.close_after_sending();
            drop(sender);
            assert_eq!(frames(&inbox, 2).await.len(), 1);
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
        assert_eq!(take_frames(&mut good).unwrap(), [Bytes::from_static(b"abc")]);
        assert!(take_frames(&mut damaged).unwrap_err().contains("damaged"));
        let mut long = BytesMut::from(&[255; HEADER_BYTES][..]);
        assert!(take_frames(&mut long).unwrap_err().contains("over the limit"));
        let mut part = BytesMut::from(&[5, 0, 0][..]);
        assert!(take_frames(&mut part).unwrap().is_empty());
    }
}
