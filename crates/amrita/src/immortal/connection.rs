//! The place where a debugged program connects, and its connection. What it says is read by a
//! thread, what it is told is written by another; both have bounds, and neither waits for the
//! other.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

/// At most this many pieces of what a program says may wait to be looked at.
const HEARD_MAX: usize = 256;

/// At most this many pieces may wait to be written to it.
const TOLD_MAX: usize = 64;

const READ_BYTES: usize = 64 << 10;

/// How long to listen between two tries to tell more.
const TURN: Duration = Duration::from_millis(5);

/// Where a program connects.
pub(super) enum Place {
    Native { listener: UnixListener, path: PathBuf },
    Ambrosia { receive: Port, send: Port, ports: (u16, u16) },
}

/// A port on both loopback addresses, where there are two: which one a binding takes depends on the
/// machine.
pub(super) struct Port {
    listeners: Vec<TcpListener>,
}

impl Port {
    fn open(port: u16) -> Result<Self, String> {
        let listen = |host: &str| {
            let listener = TcpListener::bind((host, port))?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        };
        let ipv4 = listen("127.0.0.1")
            .map_err(|error| format!("port {port} cannot be listened at: {error}"))?;
        Ok(Self { listeners: [ipv4].into_iter().chain(listen("::1")).collect() })
    }

    fn accept(&self) -> std::io::Result<TcpStream> {
        loop {
            for listener in &self.listeners {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false)?;
                        return Ok(stream);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            std::thread::sleep(TURN);
        }
    }
}

impl Place {
    /// At the socket that is named, at the two ports, or at a socket in the folder for temporary
    /// files.
    pub(super) fn open(socket: Option<&Path>, ports: Option<(u16, u16)>) -> Result<Self, String> {
        if let Some((receive, send)) = ports {
            let ports = (receive, send);
            let (receive, send) = (Port::open(receive)?, Port::open(send)?);
            return Ok(Self::Ambrosia { receive, send, ports });
        }
        let own = || std::env::temp_dir().join(format!("amrita-debug-{}.sock", std::process::id()));
        let path = socket.map_or_else(own, Path::to_owned);
        if UnixStream::connect(&path)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        {
            // Left behind by a process that was killed. If it cannot be removed, binding says why.
            drop(fs::remove_file(&path));
        }
        let listener = UnixListener::bind(&path).map_err(|error| {
            format!("{} cannot be listened at: {error}; name another --socket", path.display())
        })?;
        Ok(Self::Native { listener, path })
    }

    pub(super) fn is_ambrosias(&self) -> bool {
        matches!(self, Self::Ambrosia { .. })
    }

    pub(super) fn how_to_connect(&self) -> String {
        match self {
            Self::Native { path, .. } => {
                format!("at {0} (start it with --node {0})", path.display())
            }
            Self::Ambrosia { ports: (receive, send), .. } => {
                format!("at the receive port {receive} and the send port {send}")
            }
        }
    }

    pub(super) fn accept(&self) -> Result<Connection, String> {
        let failed = |error: std::io::Error| format!("no program can connect: {error}");
        match self {
            Self::Native { listener, .. } => {
                let (read_half, _) = listener.accept().map_err(failed)?;
                let write_half = read_half.try_clone().map_err(failed)?;
                Ok(Connection::new(read_half, write_half))
            }
            Self::Ambrosia { receive, send, .. } => {
                let read_half = receive.accept().map_err(failed)?;
                let write_half = send.accept().map_err(failed)?;
                write_half.set_nodelay(true).map_err(failed)?;
                Ok(Connection::new(read_half, write_half))
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::Native { path, .. } = self {
            drop(fs::remove_file(path));
        }
    }
}

/// A stream that can be shut from another thread.
trait Wire: Read + Write + Send + 'static {
    fn end(&self);
}

impl Wire for UnixStream {
    fn end(&self) {
        // It may be shut already.
        drop(self.shutdown(std::net::Shutdown::Write));
    }
}

impl Wire for TcpStream {
    fn end(&self) {
        drop(self.shutdown(std::net::Shutdown::Both));
    }
}

pub(super) struct Connection {
    heard: Receiver<Bytes>,
    tell: Option<SyncSender<Bytes>>,
    writer: Option<JoinHandle<()>>,
}

impl Connection {
    fn new(mut read_half: impl Wire, mut write_half: impl Wire) -> Self {
        let (says, heard) = sync_channel(HEARD_MAX);
        std::thread::spawn(move || {
            let mut part = vec![0; READ_BYTES];
            while let Ok(count @ 1..) = read_half.read(&mut part) {
                if says.send(Bytes::copy_from_slice(&part[..count])).is_err() {
                    break;
                }
            }
        });
        let (tell, told) = sync_channel::<Bytes>(TOLD_MAX);
        let writer = std::thread::spawn(move || {
            while let Ok(bytes) = told.recv() {
                if write_half.write_all(&bytes).is_err() {
                    return;
                }
            }
            write_half.end();
        });
        Self { heard, tell: Some(tell), writer: Some(writer) }
    }

    /// What the program says next; empty when it says nothing for so long; none when it is gone.
    pub(super) fn hear(&mut self, within: Duration) -> Result<Option<Bytes>, String> {
        if within == Duration::MAX {
            return Ok(self.heard.recv().ok());
        }
        match self.heard.recv_timeout(within) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RecvTimeoutError::Timeout) => Ok(Some(Bytes::new())),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
        }
    }

    /// Tells it, and takes in what it says meanwhile. True if it has said something.
    pub(super) fn send(
        &mut self,
        all: Vec<Bytes>,
        mut heard: impl FnMut(Bytes) -> Result<(), String>,
    ) -> Result<bool, String> {
        let mut has_spoken = false;
        for mut bytes in all {
            loop {
                let tell = self.tell.as_ref().expect("nothing is told after the last");
                bytes = match tell.try_send(bytes) {
                    Ok(()) => break,
                    Err(TrySendError::Full(bytes)) => bytes,
                    // It is heard of when it is listened to.
                    Err(TrySendError::Disconnected(_)) => break,
                };
                if let Ok(said) = self.heard.recv_timeout(TURN) {
                    has_spoken = true;
                    heard(said)?;
                }
            }
        }
        while let Ok(said) = self.heard.try_recv() {
            has_spoken = true;
            heard(said)?;
        }
        Ok(has_spoken)
    }

    /// Tells it the last words, and ends the connection.
    pub(super) fn send_last(&mut self, all: Vec<Bytes>) {
        // A program that does not listen any more need not hear them.
        drop(self.send(all, |_| Ok(())));
        drop(self.tell.take());
        if let Some(writer) = self.writer.take() {
            while !writer.is_finished()
                && self.heard.recv_timeout(TURN) != Err(RecvTimeoutError::Disconnected)
            {
            }
            drop(writer.join());
        }
    }
}
