//! The doors for programs written for AMBROSIA's coordinator: two ports for each replica, one to
//! speak at and one to listen at. A program is there when it has connected to both.
//!
//! Older bindings connect to the first port only, and wait at the second one themselves. That they
//! do cannot be asked, and one that finds its port taken ends. So nobody listens at the second port
//! before a program has connected to the first one. Then the node looks for a moment whether the
//! program waits there, and connects to it; if not, the node listens there itself. Newer bindings,
//! which connect to both ports, try again until it does.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use node::{ProgramDoor, ProgramPorts};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::dial::Ends;
use crate::program::{Program, Wire};

/// How long until a port that could not be had is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The same for the first time: who had the port may be about to leave it.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// How much a program may say before it has connected to the second port. No more is read then.
const EARLY_BYTES_MAX: usize = 64 << 10;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 64;

/// How long a program that has connected to the first port may take until it listens at the second,
/// if the last one at these ports did...
const CALL_MAX: Duration = Duration::from_secs(1);

/// ... and if nothing is known. The JavaScript binding tries again after 250 ms.
const LOOK_MAX: Duration = Duration::from_millis(150);

/// How long to wait between two looks.
const CALL_PAUSE: Duration = Duration::from_millis(5);

/// How long to wait when no connection can be accepted (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Keeps the doors that the node wants.
pub(crate) struct AmbrosiaPorts {
    ends: Ends,
    /// Dropping the sender closes the ports, and what is connected to them.
    kept: Vec<(ProgramPorts, watch::Sender<()>)>,
}

/// A pair of ports that are served.
struct Listening {
    ports: ProgramPorts,
    receive: Port,
    last: Way,
}

/// How the last program at these ports got its second connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Unknown,
    /// It connected to both.
    Connected,
    /// It listened at the second one itself.
    Listened,
}

/// A port on both loopback addresses. AMBROSIA's bindings connect to the older one on Unix and to the
/// newer one on Windows; its C client takes the newer one everywhere, and what `localhost` is to the
/// JavaScript binding depends on the machine. Where there is no newer one, the older will do.
struct Port {
    ipv4: TcpListener,
    ipv6: Option<TcpListener>,
}

/// One of the two connections of a program, while the other is not there yet.
struct Half {
    socket: TcpStream,
    /// What it said meanwhile.
    early: BytesMut,
}

impl AmbrosiaPorts {
    pub(crate) fn new(ends: Ends) -> Self {
        Self { ends, kept: Vec::new() }
    }

    /// Listens at these and at no others.
    pub(crate) fn keep(&mut self, wanted: &[ProgramPorts]) {
        self.kept.retain(|(ports, _)| wanted.contains(ports));
        for ports in wanted {
            if self.kept.iter().any(|(kept, _)| kept == ports) {
                continue;
            }
            let (sender, stop) = watch::channel(());
            self.ends.runtime.spawn(keep_one(*ports, self.ends.clone(), stop));
            self.kept.push((*ports, sender));
        }
    }
}

async fn keep_one(ports: ProgramPorts, ends: Ends, stop: watch::Receiver<()>) {
    let mut stopped = stop.clone();
    let listening = tokio::select! {
        listening = listen(ports) => listening,
        _ = stopped.changed() => return,
    };
    listening.serve(&ends, &stop).await;
}

/// Tries until both ports are had; says once that one is not.
async fn listen(ports: ProgramPorts) -> Listening {
    let mut tries = 0;
    loop {
        let opened = match open(ports.receive).await {
            Ok(receive) => open(ports.send).await.map(|send| (receive, send)),
            Err(refused) => Err(refused),
        };
        match opened {
            Ok((receive, send)) => {
                if tries > 1 {
                    let (receive, send) = (ports.receive, ports.send);
                    tracing::info!(target: "amrita", "listens at ports {receive} and {send} now");
                }
                // It is free, and stays so until a program is there.
                drop(send);
                return Listening { ports, receive, last: Way::Unknown };
            }
            Err((port, error)) => {
                if tries == 1 {
                    complain(ports, port, &error);
                }
                tokio::time::sleep(if tries == 0 { FIRST_RETRY } else { RETRY }).await;
                tries += 1;
            }
        }
    }
}

async fn open(port: u16) -> Result<Port, (u16, io::Error)> {
    let ipv4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    let ipv4 = ipv4.map_err(|error| (port, error))?;
    let ipv6 = match open_ipv6(port) {
        Ok(listener) => Some(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => return Err((port, error)),
        Err(error) => {
            tracing::debug!("port {port} is not listened at on [::1]: {error}");
            None
        }
    };
    Ok(Port { ipv4, ipv6 })
}

fn open_ipv6(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv6Addr::LOCALHOST, port).into())?;
    socket.listen(BACKLOG)
}

impl Port {
    async fn accept(&self) -> io::Result<TcpStream> {
        let (socket, _) = match &self.ipv6 {
            Some(ipv6) => tokio::select! {
                accepted = self.ipv4.accept() => accepted?,
                accepted = ipv6.accept() => accepted?,
            },
            None => self.ipv4.accept().await?,
        };
        Ok(socket)
    }
}

fn complain(ports: ProgramPorts, port: u16, error: &io::Error) {
    let why = match error.kind() {
        ErrorKind::AddrInUse => "it is in use; stop the process that listens there".to_owned(),
        ErrorKind::PermissionDenied => "this user may not listen there".to_owned(),
        _ => error.to_string(),
    };
    tracing::warn!(
        target: "amrita",
        "port {port} of the pair {} (receive) and {} (send) cannot be had: {why}, or register the \
         replica with other ports. It is tried again every second",
        ports.receive,
        ports.send
    );
}

impl Listening {
    /// One program after the other, until the ports are not wanted any more.
    async fn serve(mut self, ends: &Ends, stop: &watch::Receiver<()>) {
        let mut stopped = stop.clone();
        loop {
            let (read_half, write_half) = tokio::select! {
                pair = self.pair() => pair,
                _ = stopped.changed() => return,
            };
            if !ends.has_room_for_a_program() {
                tracing::warn!(target: "amrita", "a program is turned away: too many are connected");
                continue;
            }
            let door = ProgramDoor::Ambrosia { group: self.ports.group };
            let early = read_half.early.freeze();
            let (read_half, write_half) =
                (Wire::Tcp(read_half.socket), Wire::Tcp(write_half.socket));
            let program = Program::new(ends.numbers.next(), door, read_half, Some(write_half));
            self.serve_one(ends, program, early, stop).await;
        }
    }

    /// Both connections of a program.
    async fn pair(&mut self) -> (Half, Half) {
        loop {
            let read_half = Half::new(accept_at(&self.receive).await);
            if let Some(pair) = self.second(read_half).await {
                return pair;
            }
        }
    }

    /// The second connection of a program. None: it is gone before it had one.
    async fn second(&mut self, read_half: Half) -> Option<(Half, Half)> {
        let patience = match self.last {
            Way::Unknown => LOOK_MAX,
            Way::Connected => Duration::ZERO,
            Way::Listened => CALL_MAX,
        };
        // Known anew with each program that comes as far.
        self.last = Way::Unknown;
        let mut read_half = Some(read_half);
        let called = tokio::select! {
            called = tokio::time::timeout(patience, call(self.ports.send)) => called.ok(),
            () = Half::gone(&mut read_half) => return None,
        };
        let (way, write_half) = match called {
            Some(write_half) => (Way::Listened, write_half),
            None => (Way::Connected, self.connected(&mut read_half).await?),
        };
        self.last = way;
        Some((read_half?, Half::new(write_half)))
    }

    /// Listens at the second port until the program connects there. A program that connects to the
    /// first port once more takes the place of the former. None: it is gone.
    async fn connected(&self, read_half: &mut Option<Half>) -> Option<TcpStream> {
        let send = loop {
            match open(self.ports.send).await {
                Ok(send) => break send,
                Err((port, error)) => tracing::debug!("port {port} cannot be had: {error}"),
            }
            tokio::select! {
                () = tokio::time::sleep(FIRST_RETRY) => {}
                () = Half::gone(read_half) => return None,
            }
        };
        loop {
            tokio::select! {
                write_half = accept_at(&send) => return Some(write_half),
                again = accept_at(&self.receive) => *read_half = Some(Half::new(again)),
                () = Half::gone(read_half) => return None,
            }
        }
    }

    /// Serves the program until it is gone. Whoever else comes meanwhile is turned away.
    async fn serve_one(
        &self,
        ends: &Ends,
        program: Program,
        early: Bytes,
        stop: &watch::Receiver<()>,
    ) {
        let mut served = pin!(ends.serve(program, early, stop.clone()));
        loop {
            tokio::select! {
                () = &mut served => return,
                _ = accept_at(&self.receive) => {
                    let port = self.ports.receive;
                    tracing::debug!("a second program at port {port} is turned away");
                }
            }
        }
    }
}

async fn accept_at(port: &Port) -> TcpStream {
    loop {
        match port.accept().await.and_then(|socket| socket.set_nodelay(true).map(|()| socket)) {
            Ok(socket) => return socket,
            Err(error) => {
                tracing::debug!("no program can be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Connects to a program that listens, as soon as it does.
async fn call(port: u16) -> TcpStream {
    loop {
        for host in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            if let Ok(socket) = TcpStream::connect((host, port)).await
                && socket.set_nodelay(true).is_ok()
            {
                return socket;
            }
        }
        tokio::time::sleep(CALL_PAUSE).await;
    }
}

impl Half {
    fn new(socket: TcpStream) -> Self {
        Self { socket, early: BytesMut::new() }
    }

    /// Returns when the connection ends; what it says meanwhile is kept. May be given up any time.
    async fn gone(half: &mut Option<Self>) {
        let Some(half) = half else { return std::future::pending().await };
        while half.early.len() < EARLY_BYTES_MAX {
            if half.socket.readable().await.is_err() {
                return;
            }
            half.early.reserve(EARLY_BYTES_MAX - half.early.len());
            match half.socket.try_read_buf(&mut half.early) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        // Whether it has ended cannot be seen any more before the rest is read.
        std::future::pending::<()>().await;
    }
}
