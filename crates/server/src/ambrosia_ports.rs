//! The doors for programs written for AMBROSIA's coordinator: two ports for each replica, one to
//! speak at and one to listen at. A program is there when it has connected to both.
//!
//! Older bindings connect to the first port only, and wait at the second one themselves. That they
//! do cannot be asked, and one that finds its port taken ends. So nobody listens at the second port
//! before a program has connected to the first one and a short look has found that it does not
//! listen itself. Bindings that connect to both try again when the second port is not there at
//! once.
//!
//! A program shows no token here, so whose it is decides ([`crate::neighbours`]), at both ports.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use node::{ProgramDoor, ProgramPorts};
use rustix::net::sockopt;
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

/// How long a program that has connected to the first port may take until it listens at the second;
/// and when the last one did listen there.
const LOOK: Duration = Duration::from_millis(200);
const LOOK_FOR_A_LISTENER: Duration = Duration::from_secs(1);

/// How long to wait between two looks whether it does.
const CALL_PAUSE: Duration = Duration::from_millis(5);

/// How long to wait when no connection can be accepted (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Keeps the doors that the node wants.
pub(crate) struct AmbrosiaPorts {
    ends: Ends,
    /// Dropping the sender closes the ports, and what is connected to them.
    kept: Vec<(ProgramPorts, watch::Sender<()>)>,
}

/// A pair of ports.
struct Listening {
    ports: ProgramPorts,
    receive: Port,
    /// None: it is left to a program that may listen at it itself.
    send: Option<Port>,
    /// How long to look whether the next program listens there.
    look: Duration,
}

/// A port on both loopback addresses. AMBROSIA's bindings connect to the older one on Unix and to
/// the newer one on Windows; its C client takes the newer one everywhere, and what `localhost` is
/// to the JavaScript binding depends on the machine. Where there is no newer one, the older will
/// do.
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

#[derive(Clone, Copy)]
enum Side {
    /// It speaks here.
    Receive,
    /// It listens here.
    Send,
    /// It waits for a connection of the node's here.
    Listener,
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

/// Tries until both ports are had; says once that one is not. The second one is let go again.
async fn listen(ports: ProgramPorts) -> Listening {
    let mut tries = 0;
    loop {
        // The second one first: when a program can connect, it must be free.
        let opened = match open(ports.send).await {
            Ok(send) => {
                drop(send);
                open(ports.receive).await
            }
            Err(refused) => Err(refused),
        };
        match opened {
            Ok(receive) => {
                if tries > 1 {
                    let (receive, send) = (ports.receive, ports.send);
                    tracing::info!(target: "amrita", "has the ports {receive} and {send} now");
                }
                return Listening { ports, receive, send: None, look: LOOK };
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
                pair = self.pair(ends) => pair,
                _ = stopped.changed() => return,
            };
            if !ends.has_room_for_a_program() {
                let why = "too many are connected";
                tracing::warn!(target: "amrita", "a program is turned away: {why}");
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
    async fn pair(&mut self, ends: &Ends) -> (Half, Half) {
        loop {
            self.send = None;
            let (_, socket) = self.accept().await;
            if !self.lets_in(&socket, Side::Receive, ends).await {
                continue;
            }
            let mut read_half = Some(Half::new(socket));
            let called = tokio::select! {
                called = tokio::time::timeout(self.look, call(self.ports.send)) => called.ok(),
                () = Half::gone(&mut read_half) => continue,
            };
            match (read_half, called) {
                (Some(read_half), Some(write_half)) => {
                    // Who listens there may be another one than who has connected.
                    if !self.lets_in(&write_half, Side::Listener, ends).await {
                        continue;
                    }
                    self.look = LOOK_FOR_A_LISTENER;
                    return (read_half, Half::new(write_half));
                }
                (Some(read_half), None) => {
                    self.look = LOOK;
                    if let Some(pair) = self.accepted(read_half, ends).await {
                        return pair;
                    }
                }
                (None, _) => {}
            }
        }
    }

    /// A program that connects to the second port, too. A connection that ends, or is made again,
    /// before the other is there is forgotten. None: there is none to the first port any more.
    async fn accepted(&mut self, read_half: Half, ends: &Ends) -> Option<(Half, Half)> {
        let (mut read_half, mut write_half): (Option<Half>, Option<Half>) = (Some(read_half), None);
        tokio::select! {
            send = open_when_free(self.ports.send) => self.send = Some(send),
            () = Half::gone(&mut read_half) => return None,
        }
        loop {
            match (read_half.take(), write_half.take()) {
                (Some(read_half), Some(write_half)) => return Some((read_half, write_half)),
                missing => (read_half, write_half) = missing,
            }
            let (side, socket) = tokio::select! {
                accepted = self.accept() => accepted,
                () = Half::gone(&mut read_half) => return None,
                () = Half::gone(&mut write_half) => {
                    write_half = None;
                    continue;
                }
            };
            if !self.lets_in(&socket, side, ends).await {
                continue;
            }
            match side {
                Side::Receive => read_half = Some(Half::new(socket)),
                Side::Send | Side::Listener => write_half = Some(Half::new(socket)),
            }
        }
    }

    /// Whether that one may be a program of this node's. It is counted when not.
    async fn lets_in(&self, socket: &TcpStream, side: Side, ends: &Ends) -> bool {
        let (neighbours, ports) = (&ends.neighbours, self.ports);
        let lets_in = match side {
            Side::Receive => neighbours.may_connect(socket, ports.receive).await,
            Side::Send => neighbours.may_connect(socket, ports.send).await,
            Side::Listener => neighbours.may_listen(socket, ports.send).await,
        };
        if !lets_in {
            ends.metrics.programs.refused.fetch_add(1, Ordering::Relaxed);
        }
        lets_in
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
                _ = self.accept() => {
                    let port = self.ports.receive;
                    tracing::debug!("a second program at port {port} and its pair is turned away");
                }
            }
        }
    }

    async fn accept(&self) -> (Side, TcpStream) {
        loop {
            let (side, accepted) = tokio::select! {
                accepted = self.receive.accept() => (Side::Receive, accepted),
                accepted = accept_at(self.send.as_ref()) => (Side::Send, accepted),
            };
            match accepted.and_then(|socket| socket.set_nodelay(true).map(|()| socket)) {
                Ok(socket) => return (side, socket),
                Err(error) => {
                    tracing::debug!("no program can be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn accept_at(port: Option<&Port>) -> io::Result<TcpStream> {
    match port {
        Some(port) => port.accept().await,
        None => std::future::pending().await,
    }
}

async fn open_when_free(port: u16) -> Port {
    loop {
        match open(port).await {
            Ok(port) => return port,
            Err((port, error)) => tracing::debug!("port {port} cannot be had now: {error}"),
        }
        tokio::time::sleep(FIRST_RETRY).await;
    }
}

/// Connects to a program that listens, as soon as it does.
///
/// The connection is cut and not closed when the program has gone. If it were closed, the program's
/// port would stay in the state TIME_WAIT for a minute, and AMBROSIA's C client, which does without
/// SO_REUSEADDR, could not listen at the port when it is started again.
async fn call(port: u16) -> TcpStream {
    loop {
        for host in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let socket = if host.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            if let Ok(socket) = socket
                && let Some(connected) = connect(socket, (host, port).into()).await
            {
                return connected;
            }
        }
        tokio::time::sleep(CALL_PAUSE).await;
    }
}

/// None: no program listens there.
///
/// Where nobody listens, the system may choose that very port for this end, and the socket then
/// connects to itself. That is no program, and it would keep the port from the one that comes.
async fn connect(socket: TcpSocket, to: SocketAddr) -> Option<TcpStream> {
    // Before it connects, so that a connection to itself leaves no TIME_WAIT either.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).ok()?;
    let socket = socket.connect(to).await.ok()?;
    let is_itself = socket.local_addr().ok()? == socket.peer_addr().ok()?;
    (!is_itself && socket.set_nodelay(true).is_ok()).then_some(socket)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that is bound to where it connects to does for certain what chance does else.
    #[tokio::test]
    async fn a_socket_that_is_connected_to_itself_is_no_program() {
        for host in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let socket = if host.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            let socket = socket.unwrap();
            // A machine may have the older addresses only.
            if socket.bind((host, 0).into()).is_err() {
                assert!(host.is_ipv6());
                continue;
            }
            let itself = socket.local_addr().unwrap();
            assert!(connect(socket, itself).await.is_none());
            // And the program's port is free at once.
            drop(TcpListener::bind(itself).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_program_that_listens_is_connected_to() {
        let program = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = program.local_addr().unwrap().port();
        let called = tokio::time::timeout(Duration::from_secs(10), call(port));
        assert_eq!(called.await.unwrap().peer_addr().unwrap().port(), port);
    }
}
