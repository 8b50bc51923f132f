//! The connection to the node: a socket, and who writes to it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use protocol::immortal::ToNode;

/// So much may wait to be written while another thread writes; who comes then waits too.
const PENDING_BYTES_MAX: usize = 4 << 20;

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

    /// How long a read waits; `None` for ever.
    pub(crate) fn wait_at_most(&self, time: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.set_read_timeout(time),
            Self::Tcp(socket) => socket.set_read_timeout(time),
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

/// What all threads share of a connection. Whoever comes while nobody writes, writes, also what
/// others have added meanwhile: nobody waits for a lock while a socket is full, and no thread is
/// there just to write.
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

    /// Reads what has come; 0 when the node has closed the connection.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.0.socket.read(into)
    }

    /// Ends the connection, also for the thread that reads.
    pub(crate) fn shut(&self) {
        self.0.socket.shut();
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().expect("no one panics while holding it")
    }
}
