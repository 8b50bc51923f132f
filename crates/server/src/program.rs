//! A program's connection: what it says goes to the node, and what the node tells it goes out in
//! order. What the bytes mean is the node's business.
//!
//! Like the links, the connections of programs live on the node's thread, which writes to their
//! sockets itself. What is told to a program and not yet taken by its socket has no bound here: the
//! node bounds it by a window, and learns from `ProgramDrained` how much is gone.

use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use node::ProgramDoor;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use crate::outgoing::{Flushed, Outgoing};

/// The most that is read at a time.
const READ_BYTES_MAX: usize = 256 << 10;

/// The least. A program that says little holds no more memory than this.
const READ_BYTES_MIN: usize = 4 << 10;

/// How much of what such a program still says is read, and thrown away, at a time.
const DISCARD_BYTES: usize = 16 << 10;

/// One end of a program's connection.
pub(crate) enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A program that is connected.
pub(crate) struct Program {
    pub(crate) id: u64,
    pub(crate) door: ProgramDoor,
    /// What it says is read here.
    read_half: Wire,
    /// What it is told is written here; none when it is the same.
    write_half: Option<Wire>,
    telling: Mutex<Telling>,
    /// The socket took no more: wakes the task that writes the rest.
    blocked: Notify,
    /// Wakes the reader to see what has become of the connection.
    changed: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Telling {
    outgoing: Outgoing,
    fate: Fate,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Open,
    /// The node has let it go: it is to get what it was told, and no more.
    LetGo,
    /// It takes nothing any more. What it said before is still read.
    Deaf,
}

impl Telling {
    fn turn_deaf(&mut self) {
        if self.fate == Fate::Open {
            self.fate = Fate::Deaf;
        }
        self.outgoing.clear();
    }
}

impl From<TcpStream> for Wire {
    fn from(socket: TcpStream) -> Self {
        Self::Tcp(socket)
    }
}

impl From<UnixStream> for Wire {
    fn from(socket: UnixStream) -> Self {
        Self::Unix(socket)
    }
}

impl Wire {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.readable().await,
            Self::Unix(socket) => socket.readable().await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.writable().await,
            Self::Unix(socket) => socket.writable().await,
        }
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_read_buf(buffer),
            Self::Unix(socket) => socket.try_read_buf(buffer),
        }
    }

    fn try_write(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write_vectored(slices),
            Self::Unix(socket) => socket.try_write_vectored(slices),
        }
    }

    /// Reads once it can, into what room `buffer` has.
    pub(crate) async fn read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            self.readable().await?;
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// Says that nothing more will be written; what was written still arrives.
    fn shut(&self) -> io::Result<()> {
        let how = std::net::Shutdown::Write;
        match self {
            Self::Tcp(socket) => {
                std::net::TcpStream::from(socket.as_fd().try_clone_to_owned()?).shutdown(how)
            }
            Self::Unix(socket) => {
                let socket = socket.as_fd().try_clone_to_owned()?;
                std::os::unix::net::UnixStream::from(socket).shutdown(how)
            }
        }
    }
}

impl Program {
    pub(crate) fn new(
        id: u64,
        door: ProgramDoor,
        read_half: Wire,
        write_half: Option<Wire>,
    ) -> Self {
        Self {
            id,
            door,
            read_half,
            write_half,
            telling: Mutex::default(),
            blocked: Notify::new(),
            changed: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Puts these at the end of what it is to be told; [`Self::flush`] sends them.
    pub(crate) fn tell(&self, pieces: Vec<Bytes>) {
        let mut telling = self.lock();
        if telling.fate == Fate::Open {
            pieces.into_iter().for_each(|piece| telling.outgoing.push(piece));
        }
    }

    /// Sends what it is to be told, as far as its socket takes it, and says how many bytes it took.
    /// The rest follows by itself.
    pub(crate) fn flush(&self) -> u64 {
        let mut telling = self.lock();
        if telling.fate == Fate::Deaf || self.is_closed() {
            return 0;
        }
        let before = telling.outgoing.bytes();
        let flushed = telling.outgoing.write(|slices| self.write_half().try_write(slices));
        let bytes = before - telling.outgoing.bytes();
        match flushed {
            Flushed::All => {}
            Flushed::Blocked => self.blocked.notify_one(),
            Flushed::Broken => {
                telling.turn_deaf();
                self.changed.notify_one();
            }
        }
        u64::try_from(bytes).expect("a length fits")
    }

    /// The node wants no more of it: closes when it has been sent what it was told.
    pub(crate) fn let_go(&self) {
        let mut telling = self.lock();
        match telling.fate {
            Fate::Open => telling.fate = Fate::LetGo,
            Fate::LetGo => {}
            Fate::Deaf => self.close(),
        }
        self.changed.notify_one();
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
        self.blocked.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The node has let it go, and it may still have to read what it was told last.
    pub(crate) fn is_let_go(&self) -> bool {
        self.fate() == Fate::LetGo
    }

    fn fate(&self) -> Fate {
        self.lock().fate
    }

    fn write_half(&self) -> &Wire {
        self.write_half.as_ref().unwrap_or(&self.read_half)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Telling> {
        self.telling.lock().expect("no one panics while holding a program's connection")
    }

    /// After a flush that was blocked: returns when there may be room for the rest. False when the
    /// connection is closed.
    pub(crate) async fn takes_more(&self) -> bool {
        self.blocked.notified().await;
        if self.is_closed() {
            return false;
        }
        // An error is found by the write that follows.
        drop(self.write_half().writable().await);
        true
    }

    /// The next that it says. `None`: there is no more to read, or it was let go.
    pub(crate) async fn read(&self, portion: &mut Portion) -> Option<Bytes> {
        while !self.is_closed() && self.fate() != Fate::LetGo {
            let room = portion.room();
            match self.read_half.try_read(&mut portion.buffer) {
                Ok(0) => return None,
                Ok(count) => return Some(portion.take(count, room)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
            // It takes nothing any more, and there is no more that it has said.
            if self.fate() == Fate::Deaf {
                return None;
            }
            portion.rest();
            tokio::select! {
                readable = self.read_half.readable() => if readable.is_err() { return None },
                () = self.changed.notified() => {}
            }
        }
        None
    }

    /// Where it only listens, it says nothing: what is read there is its end. Never returns: what
    /// it said before is still worth something (an impulse, for one), so the reader is to end it.
    pub(crate) async fn watch_write_half(&self) {
        if let Some(write_half) = &self.write_half {
            let mut nothing = BytesMut::with_capacity(DISCARD_BYTES);
            while write_half.read(&mut nothing).await.is_ok_and(|count| count > 0) {
                nothing.clear();
            }
            self.lock().turn_deaf();
            self.changed.notify_one();
        }
        std::future::pending::<()>().await;
    }

    /// Sends the rest of what it was told, and waits until it has read that: a socket that is
    /// closed while something unread is in it is reset, and what was sent last could be lost with
    /// it.
    pub(crate) async fn linger(&self) {
        loop {
            let flushed = self.lock().outgoing.write(|slices| self.write_half().try_write(slices));
            match flushed {
                Flushed::All => break,
                Flushed::Blocked if self.write_half().writable().await.is_ok() => {}
                Flushed::Blocked | Flushed::Broken => return,
            }
        }
        if self.write_half().shut().is_err() {
            return;
        }
        let mut nothing = BytesMut::with_capacity(DISCARD_BYTES);
        while self.read_half.read(&mut nothing).await.is_ok_and(|count| count > 0) {
            nothing.clear();
        }
    }
}

/// What is read into. Grows with what a program says at a time, and shrinks again.
pub(crate) struct Portion {
    buffer: BytesMut,
    wanted: usize,
}

impl Default for Portion {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), wanted: READ_BYTES_MIN }
    }
}

impl Portion {
    /// Makes room for a read if there is little left, and says how much there is.
    fn room(&mut self) -> usize {
        let room = self.buffer.capacity() - self.buffer.len();
        if room < self.wanted / 2 {
            self.buffer.reserve(self.wanted);
        }
        self.buffer.capacity() - self.buffer.len()
    }

    /// What was read, and how the next read should be.
    fn take(&mut self, count: usize, room: usize) -> Bytes {
        if count == room {
            self.wanted = (self.wanted * 2).min(READ_BYTES_MAX);
        } else if count < self.wanted / 4 {
            self.wanted = (self.wanted / 2).max(READ_BYTES_MIN);
        }
        self.buffer.split().freeze()
    }

    /// Nothing comes for a while: holds on to little.
    fn rest(&mut self) {
        if self.wanted > READ_BYTES_MIN {
            return;
        }
        if self.buffer.capacity() > READ_BYTES_MIN {
            self.buffer = BytesMut::new();
        }
    }
}
