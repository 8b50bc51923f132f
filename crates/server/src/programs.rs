//! A program's connection: what it says goes to the node, and what the node tells it goes out in
//! order. What the bytes mean is the node's business.
//!
//! Like the links, the connections of programs live on the node's thread, which writes to their
//! sockets itself. What is told to a program and not yet taken by its socket has no bound here: the
//! node bounds it by a window, and learns from `ProgramDrained` how much is gone.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use node::{PROGRAMS_MAX, ProgramDoor};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, watch};

use crate::dial::{self, Ends};
use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;
use crate::outgoing::{Flushed, Outgoing};

/// The protocol of the upgrade on the node's port.
pub(crate) const PROTOCOL: &str = "amrita-immortal";

/// The most that is read at a time.
const READ_BYTES_MAX: usize = 256 << 10;

/// The least. A program that says little holds no more memory than this.
const READ_BYTES_MIN: usize = 4 << 10;

/// After so much the others on the node's thread have their turn.
const TURN_BYTES_MAX: usize = 1 << 20;

/// How long a program that was let go may take to read what it was told, and to close.
const LINGER_MAX: Duration = Duration::from_secs(3);

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
    mouth: Wire,
    /// What it is told is written here; none when it is the same.
    ear: Option<Wire>,
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
    pub(crate) fn new(id: u64, door: ProgramDoor, mouth: Wire, ear: Option<Wire>) -> Self {
        Self {
            id,
            door,
            mouth,
            ear,
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

    /// Sends what it is to be told, as far as its socket takes it; the rest follows by itself.
    pub(crate) fn flush(&self, inbox: &Inbox, metrics: &Metrics) {
        let mut telling = self.lock();
        if telling.fate == Fate::Deaf || self.is_closed() {
            return;
        }
        let before = telling.outgoing.bytes();
        let flushed = telling.outgoing.write(|slices| self.ear().try_write(slices));
        let bytes = u64::try_from(before - telling.outgoing.bytes()).expect("a length fits");
        match flushed {
            Flushed::All => {}
            Flushed::Blocked => self.blocked.notify_one(),
            Flushed::Broken => {
                telling.turn_deaf();
                self.changed.notify_one();
            }
        }
        drop(telling);
        if bytes > 0 {
            metrics.program_bytes_written.fetch_add(bytes, Ordering::Relaxed);
            inbox.put(Event::ProgramDrained { program: self.id, bytes });
        }
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

    fn fate(&self) -> Fate {
        self.lock().fate
    }

    fn ear(&self) -> &Wire {
        self.ear.as_ref().unwrap_or(&self.mouth)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Telling> {
        self.telling.lock().expect("no one panics while holding a program's connection")
    }

    /// Sends the rest whenever a flush was blocked.
    async fn write_rest(&self, inbox: &Inbox, metrics: &Metrics) {
        loop {
            self.blocked.notified().await;
            if self.is_closed() {
                return;
            }
            // An error is found by the write that follows.
            drop(self.ear().writable().await);
            self.flush(inbox, metrics);
        }
    }

    /// Reads until there is no more to read, or it was let go, and gives what comes to the inbox.
    async fn read(&self, already_read: Bytes, inbox: &Inbox, metrics: &Metrics) {
        let mut portion = Portion::default();
        let mut said = already_read;
        let mut turn = 0;
        loop {
            turn += said.len();
            if turn > TURN_BYTES_MAX {
                turn = 0;
                tokio::task::yield_now().await;
            }
            if !said.is_empty() {
                let count = u64::try_from(said.len()).expect("a length fits");
                metrics.program_bytes_read.fetch_add(count, Ordering::Relaxed);
                inbox.said(self.id, said).await;
            }
            if self.is_closed() || self.fate() == Fate::LetGo {
                return;
            }
            let room = portion.room();
            match self.mouth.try_read(&mut portion.buffer) {
                Ok(0) => return,
                Ok(count) => {
                    said = portion.take(count, room);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => said = Bytes::new(),
                Err(_) => return,
            }
            // It takes nothing any more, and there is no more that it has said.
            if self.fate() == Fate::Deaf {
                return;
            }
            portion.rest();
            tokio::select! {
                readable = self.mouth.readable() => if readable.is_err() { return },
                () = self.changed.notified() => {}
            }
        }
    }

    /// Where it only listens, it says nothing: what is read there is its end. Never returns: what it
    /// said before is still worth something (an impulse, for one), so the reader is to end it.
    async fn watch_ear(&self) {
        if let Some(ear) = &self.ear {
            let mut nothing = BytesMut::with_capacity(DISCARD_BYTES);
            while ear.read(&mut nothing).await.is_ok_and(|count| count > 0) {
                nothing.clear();
            }
            self.lock().turn_deaf();
            self.changed.notify_one();
        }
        std::future::pending::<()>().await;
    }

    /// The whole life of a connection: announces it, reads and writes until it ends, and says so.
    async fn live(self: &Arc<Self>, already_read: Bytes, inbox: &Inbox, metrics: &Metrics) {
        inbox.put(Event::ProgramOpened { program: Arc::clone(self) });
        tokio::select! {
            () = self.read(already_read, inbox, metrics) => {}
            () = self.write_rest(inbox, metrics) => {}
            () = self.watch_ear() => {}
        }
        inbox.put(Event::ProgramClosed { program: self.id });
    }

    /// Sends the rest of what it was told, and waits until it has read that: a socket that is closed
    /// while something unread is in it is reset, and what was sent last could be lost with it.
    async fn linger(&self) {
        loop {
            let flushed = self.lock().outgoing.write(|slices| self.ear().try_write(slices));
            match flushed {
                Flushed::All => break,
                Flushed::Blocked if self.ear().writable().await.is_ok() => {}
                Flushed::Blocked | Flushed::Broken => return,
            }
        }
        if self.ear().shut().is_err() {
            return;
        }
        let mut nothing = BytesMut::with_capacity(DISCARD_BYTES);
        while self.mouth.read(&mut nothing).await.is_ok_and(|count| count > 0) {
            nothing.clear();
        }
    }
}

/// What is read into. Grows with what a program says at a time, and shrinks again.
struct Portion {
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

impl Ends {
    /// Whether one more program may be connected.
    pub(crate) fn has_room_for_a_program(&self) -> bool {
        let programs = self.metrics.programs.load(Ordering::Relaxed);
        let all = programs + self.metrics.connections.load(Ordering::Relaxed);
        let fits = |count: i64, most: usize| usize::try_from(count).is_ok_and(|count| count < most);
        fits(programs, PROGRAMS_MAX) && fits(all, self.places)
    }

    /// Takes over a connection that was accepted elsewhere, and lets it live on the node's thread.
    pub(crate) fn adopt_program(
        &self,
        upgraded: Upgraded,
        stop: watch::Receiver<()>,
    ) -> io::Result<()> {
        let (socket, already_read) = dial::socket_of_client(upgraded)?;
        let ends = self.clone();
        self.runtime.spawn(async move {
            match TcpStream::from_std(socket) {
                Ok(socket) => {
                    let (id, wire) = (ends.numbers.next(), Wire::Tcp(socket));
                    let program = Program::new(id, ProgramDoor::Native, wire, None);
                    ends.attend(program, already_read, stop).await;
                }
                Err(error) => tracing::debug!("a program could not be attached: {error}"),
            }
        });
        Ok(())
    }

    /// Lives as long as a program is connected. Returns once the node knows that it is not any
    /// more; what it was told last may still be on its way then.
    pub(crate) async fn attend(
        &self,
        program: Program,
        already_read: Bytes,
        mut stop: watch::Receiver<()>,
    ) {
        let program = Arc::new(program);
        self.metrics.programs.fetch_add(1, Ordering::Relaxed);
        {
            let live = program.live(already_read, &self.inbox, &self.metrics);
            tokio::pin!(live);
            tokio::select! {
                () = &mut live => {}
                _ = stop.changed() => {
                    program.close();
                    live.await;
                }
            }
        }
        self.metrics.programs.fetch_sub(1, Ordering::Relaxed);
        if program.fate() == Fate::LetGo {
            self.runtime.spawn(async move {
                // One that does not read what it is told is cut off.
                drop(tokio::time::timeout(LINGER_MAX, program.linger()).await);
            });
        }
    }
}
