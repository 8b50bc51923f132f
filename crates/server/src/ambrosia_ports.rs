//! The doors for programs written for AMBROSIA's coordinator: two ports for each replica, one to
//! speak at and one to listen at. A program is there when it has connected to both.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use node::{ProgramDoor, ProgramPorts};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::dial::Ends;
use crate::programs::{Program, Wire};

/// How long until a port that could not be had is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The same for the first time: who had the port may be about to leave it.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// How much a program may say before it has connected to the second port. No more is read then.
const EARLY_BYTES_MAX: usize = 64 << 10;

/// How long to wait when no connection can be accepted (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Keeps the doors that the node wants.
pub(crate) struct AmbrosiaPorts {
    ends: Ends,
    /// Dropping the sender closes the ports, and what is connected to them.
    kept: Vec<(ProgramPorts, watch::Sender<()>)>,
}

/// A pair of ports that are listened at.
struct Listening {
    ports: ProgramPorts,
    receive: TcpListener,
    send: TcpListener,
}

/// One of the two connections of a program, while the other is not there yet.
struct Half {
    socket: TcpStream,
    /// What it said meanwhile.
    early: BytesMut,
}

enum Side {
    /// It speaks here.
    Receive,
    /// It listens here.
    Send,
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
                return Listening { ports, receive, send };
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

async fn open(port: u16) -> Result<TcpListener, (u16, io::Error)> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| (port, error))
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
    async fn serve(&self, ends: &Ends, stop: &watch::Receiver<()>) {
        let mut stopped = stop.clone();
        loop {
            let (mouth, ear) = tokio::select! {
                pair = self.pair() => pair,
                _ = stopped.changed() => return,
            };
            if !ends.has_room_for_a_program() {
                tracing::warn!(target: "amrita", "a program is turned away: too many are connected");
                continue;
            }
            let door = ProgramDoor::Ambrosia { group: self.ports.group };
            let early = mouth.early.freeze();
            let (mouth, ear) = (Wire::Tcp(mouth.socket), Wire::Tcp(ear.socket));
            let program = Program::new(ends.numbers.next(), door, mouth, Some(ear));
            self.attend(ends, program, early, stop).await;
        }
    }

    /// Both connections of a program. One of them that ends, or is made again, before the other is
    /// there is forgotten.
    async fn pair(&self) -> (Half, Half) {
        let (mut mouth, mut ear): (Option<Half>, Option<Half>) = (None, None);
        loop {
            match (mouth.take(), ear.take()) {
                (Some(mouth), Some(ear)) => return (mouth, ear),
                missing => (mouth, ear) = missing,
            }
            tokio::select! {
                (side, socket) = self.accept() => match side {
                    Side::Receive => mouth = Some(Half::new(socket)),
                    Side::Send => ear = Some(Half::new(socket)),
                },
                () = Half::gone(&mut mouth) => mouth = None,
                () = Half::gone(&mut ear) => ear = None,
            }
        }
    }

    /// Serves the program until it is gone. Whoever else comes meanwhile is turned away.
    async fn attend(
        &self,
        ends: &Ends,
        program: Program,
        early: Bytes,
        stop: &watch::Receiver<()>,
    ) {
        let mut attended = pin!(ends.attend(program, early, stop.clone()));
        loop {
            tokio::select! {
                () = &mut attended => return,
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
                accepted = self.send.accept() => (Side::Send, accepted),
            };
            match accepted.and_then(|(socket, _)| socket.set_nodelay(true).map(|()| socket)) {
                Ok(socket) => return (side, socket),
                Err(error) => {
                    tracing::debug!("no program can be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
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
