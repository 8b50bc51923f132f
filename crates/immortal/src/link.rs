//! The connection to the node: a socket, who writes to it, and what was read from it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::BytesMut;
use protocol::immortal::{HELLO_BYTES_MAX, ToNode, ToProgram, split_frame};

use crate::impulses::Impulses;

/// So much may wait to be written while another thread writes; who comes then waits too.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// So much may wait for the handlers beside the node's own window; then nothing more is read.
const INBOX_BYTES_MAX: usize = 64 << 20;

/// A node that allows less is not taken at its word.
const FRAME_BYTES_MIN: usize = 1 << 10;

const READ_BYTES: usize = 256 << 10;

/// A connected socket of either kind.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => (&*socket).read(into),
            Self::Tcp(socket) => (&*socket).read(into),
        }
    }

    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(socket) => (&*socket).write_all(bytes),
            Self::Tcp(socket) => (&*socket).write_all(bytes),
        }
    }

    /// Ends both directions. A socket that is gone already is as good.
    pub(crate) fn shut(&self) {
        drop(match self {
            Self::Unix(socket) => socket.shutdown(Shutdown::Both),
            Self::Tcp(socket) => socket.shutdown(Shutdown::Both),
        });
    }
}

/// The connection is over; the text says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) String);

/// What all threads share of a connection. Whoever comes while nobody writes, writes, also what others
/// have added meanwhile: nobody waits for a lock while a socket is full, and no thread is there just to
/// write.
#[derive(Clone, Debug)]
pub(crate) struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Socket,
    pending: Mutex<Pending>,
    room: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Some thread writes, and will look here again.
    writing: bool,
    broken: Option<Broken>,
}

impl Link {
    pub(crate) fn new(socket: Socket) -> Self {
        Self(Arc::new(Shared { socket, pending: Mutex::default(), room: Condvar::new() }))
    }

    /// Writes whole frames; the buffer is empty afterwards and its memory may be another.
    pub(crate) fn write(&self, frames: &mut Vec<u8>) -> Result<(), Broken> {
        self.wait_for_room()?;
        self.add(frames);
        self.write_out()
    }

    pub(crate) fn write_frame(&self, frame: &ToNode) -> Result<(), Broken> {
        let mut bytes = Vec::with_capacity(32);
        frame.put(&mut bytes);
        self.add(&mut bytes);
        self.write_out()
    }

    pub(crate) fn wait_for_room(&self) -> Result<(), Broken> {
        let mut pending = self.pending();
        while pending.bytes.len() >= PENDING_BYTES_MAX && pending.broken.is_none() {
            pending = self.0.room.wait(pending).expect("no one panics while holding it");
        }
        pending.broken.clone().map_or(Ok(()), Err)
    }

    /// Adds whole frames to what is to be written. Never waits.
    pub(crate) fn add(&self, frames: &mut Vec<u8>) {
        let mut pending = self.pending();
        if pending.bytes.is_empty() {
            std::mem::swap(&mut pending.bytes, frames);
        } else {
            pending.bytes.extend_from_slice(frames);
        }
        frames.clear();
    }

    /// Writes all that was added, unless another thread is doing so.
    pub(crate) fn write_out(&self) -> Result<(), Broken> {
        let mut pending = self.pending();
        if let Some(broken) = &pending.broken {
            return Err(broken.clone());
        }
        if pending.writing {
            return Ok(());
        }
        pending.writing = true;
        let mut bytes = Vec::new();
        while !pending.bytes.is_empty() {
            std::mem::swap(&mut pending.bytes, &mut bytes);
            drop(pending);
            let written = self.0.socket.write_all(&bytes);
            bytes.clear();
            pending = self.pending();
            self.0.room.notify_all();
            if let Err(error) = written {
                let broken = Broken(format!("cannot write to the node: {error}"));
                pending.broken = Some(broken.clone());
                pending.writing = false;
                return Err(broken);
            }
        }
        // Keep the memory for the next time.
        pending.bytes = bytes;
        pending.writing = false;
        Ok(())
    }

    /// Ends the connection, also for the thread that reads.
    pub(crate) fn shut(&self) {
        self.0.socket.shut();
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().expect("no one panics while holding it")
    }

    /// Reads frames until the connection ends, and says why it did. What has to be quick is done at
    /// once, also while a handler is busy: a PING is answered, the fate of an impulse told.
    pub(crate) fn read_into(&self, inbox: &Inbox, impulses: &Impulses) -> Broken {
        let mut buffer = vec![0; READ_BYTES];
        let mut bytes = BytesMut::new();
        let mut frame_bytes_max = HELLO_BYTES_MAX;
        loop {
            match self.0.socket.read(&mut buffer) {
                Ok(0) => return Broken("the node has closed the connection".into()),
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Broken(format!("cannot read from the node: {error}")),
            }
            loop {
                let frame = match split_frame(&mut bytes, frame_bytes_max) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(garbled) => return Broken(format!("the node sent garbage: {garbled}")),
                };
                let length = frame.len();
                let frame = match ToProgram::read(frame) {
                    Ok(frame) => frame,
                    Err(garbled) => return Broken(format!("the node sent garbage: {garbled}")),
                };
                if let ToProgram::Welcome(welcome) = &frame {
                    frame_bytes_max = limit(welcome.frame_bytes_max);
                }
                if let Err(broken) = self.sort(frame, length, inbox, impulses) {
                    return broken;
                }
            }
        }
    }

    fn sort(
        &self,
        frame: ToProgram,
        length: usize,
        inbox: &Inbox,
        impulses: &Impulses,
    ) -> Result<(), Broken> {
        match frame {
            ToProgram::Ping { number } => self.write_frame(&ToNode::Pong { number })?,
            ToProgram::Fate { number, fate, input } => impulses.told(number, fate, input),
            ToProgram::Credit { destination, bytes } => impulses.credit(destination, bytes),
            other => inbox.put(other, length),
        }
        Ok(())
    }
}

/// The longest frame as the node told it, if it is told something that one can live with.
pub(crate) fn limit(told: u64) -> usize {
    usize::try_from(told).unwrap_or(usize::MAX).clamp(FRAME_BYTES_MIN, u32::MAX as usize)
}

/// The frames that were read and not handled yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    came: Condvar,
    room: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<ToProgram>,
    bytes: usize,
    /// Nothing more comes after the frames.
    over: Option<Broken>,
    /// Nobody will take them any more.
    closed: bool,
}

impl Inbox {
    fn put(&self, frame: ToProgram, length: usize) {
        let mut queue = self.queue();
        while queue.bytes >= INBOX_BYTES_MAX && !queue.closed {
            queue = self.room.wait(queue).expect("no one panics while holding it");
        }
        queue.bytes += length;
        queue.frames.push_back(frame);
        self.came.notify_one();
    }

    pub(crate) fn end(&self, why: Broken) {
        self.queue().over = Some(why);
        self.came.notify_one();
    }

    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.room.notify_all();
    }

    /// All that has come, at least one frame; into an empty queue, whose memory is used again.
    pub(crate) fn take(&self, into: &mut VecDeque<ToProgram>) -> Result<(), Broken> {
        let mut queue = self.queue();
        loop {
            if !queue.frames.is_empty() {
                std::mem::swap(&mut queue.frames, into);
                queue.bytes = 0;
                self.room.notify_one();
                return Ok(());
            }
            if let Some(over) = &queue.over {
                return Err(over.clone());
            }
            queue = self.came.wait(queue).expect("no one panics while holding it");
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no one panics while holding it")
    }
}
