//! The life of a program's connection on the node's thread: what the program says goes to the
//! inbox, and what it is told goes to its socket.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use node::{PROGRAMS_MAX, ProgramDoor};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::dial::{self, Ends};
use crate::inbox::{Event, Inbox};
use crate::metrics::Metrics;
use crate::named_program::{self, HELLO_MAX};
use crate::program::{Portion, Program, Wire};
use crate::standing_right::{LOOK_AGAIN, StandingRight};

/// The protocol of the upgrade on the node's port.
pub(crate) const PROTOCOL: &str = "amrita-immortal";

/// The same for programs that serve a kind.
pub(crate) const SERVICE_PROTOCOL: &str = "amrita-service";

/// After this much of one program the others on the node's thread have their turn.
const TURN_BYTES_MAX: usize = 1 << 20;

/// How long a program that was let go may take to read what it was told, and to close.
const LINGER_MAX: Duration = Duration::from_secs(3);

/// Sends what a program is to be told, as far as its socket takes it, and tells the node how much
/// that was. The rest follows by itself.
pub(crate) fn flush(program: &Program, inbox: &Inbox, metrics: &Metrics) {
    let bytes = program.flush();
    if bytes > 0 {
        metrics.programs.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        inbox.put(Event::ProgramDrained { program: program.id, bytes });
    }
}

/// Sends the rest whenever a flush was blocked.
async fn write_rest(program: &Program, inbox: &Inbox, metrics: &Metrics) {
    while program.takes_more().await {
        flush(program, inbox, metrics);
    }
}

/// Reads until there is no more to read, or it was let go, and gives what comes to the inbox.
async fn read(program: &Program, already_read: Bytes, inbox: &Inbox, metrics: &Metrics) {
    let mut portion = Portion::default();
    let mut next = Some(already_read);
    let mut turn = 0;
    while let Some(said) = next {
        turn += said.len();
        if turn > TURN_BYTES_MAX {
            turn = 0;
            tokio::task::yield_now().await;
        }
        if !said.is_empty() {
            let count = u64::try_from(said.len()).expect("a length fits");
            metrics.programs.bytes_read.fetch_add(count, Ordering::Relaxed);
            inbox.said(program.id, said).await;
        }
        next = program.read(&mut portion).await;
    }
}

/// The whole life of a connection: announces it, reads and writes until it ends, and says so.
async fn live(program: &Arc<Program>, already_read: Bytes, inbox: &Inbox, metrics: &Metrics) {
    inbox.put(Event::ProgramOpened { program: Arc::clone(program) });
    tokio::select! {
        () = read(program, already_read, inbox, metrics) => {}
        () = write_rest(program, inbox, metrics) => {}
        () = program.watch_write_half() => {}
    }
    inbox.put(Event::ProgramClosed { program: program.id });
}

impl Ends {
    /// Whether one more program may be connected.
    pub(crate) fn has_room_for_a_program(&self) -> bool {
        let programs = self.metrics.programs.open.load(Ordering::Relaxed);
        let all = programs + self.metrics.connections.load(Ordering::Relaxed);
        let fits = |count: i64, most: usize| usize::try_from(count).is_ok_and(|count| count < most);
        fits(programs, PROGRAMS_MAX) && fits(all, self.places)
    }

    /// Takes over a connection that was accepted elsewhere, and lets it live on the node's thread,
    /// as long as whoever has it may. `only`: what it was let in as.
    pub(crate) fn adopt_program(
        &self,
        upgraded: Upgraded,
        stop: watch::Receiver<()>,
        only: Option<(String, StandingRight)>,
    ) -> io::Result<()> {
        let (socket, already_read) = dial::socket_of_client(upgraded)?;
        let (only, stop) = match only {
            None => (None, stop),
            Some((only, right)) => (Some(only), right.watch(stop, LOOK_AGAIN)),
        };
        let ends = self.clone();
        self.runtime.spawn(async move {
            match TcpStream::from_std(socket) {
                Ok(socket) => ends.take_in(socket, already_read, only, stop).await,
                Err(error) => tracing::debug!("a program could not be attached: {error}"),
            }
        });
        Ok(())
    }

    /// Waits until a program has said who it is, and lets it live then. `only`: what it was let in
    /// as.
    pub(crate) async fn take_in<S: AsyncRead + AsyncWrite + Unpin + Into<Wire>>(
        &self,
        mut socket: S,
        already_read: Bytes,
        only: Option<String>,
        mut stop: watch::Receiver<()>,
    ) {
        let Some(nameless) = self.nameless.enter() else {
            tracing::warn!(
                target: "amrita",
                "a program is turned away: too many have not said which instance they are"
            );
            return;
        };
        let (only, open) = (only.as_deref(), &self.metrics.programs.open);
        // Counted as every other one: it holds a descriptor as well.
        open.fetch_add(1, Ordering::Relaxed);
        let checked = tokio::select! {
            checked = named_program::check(&mut socket, already_read, only, HELLO_MAX) => checked,
            _ = stop.changed() => Err(io::ErrorKind::ConnectionAborted.into()),
        };
        open.fetch_sub(1, Ordering::Relaxed);
        drop(nameless);
        match checked {
            Ok(already_read) if self.has_room_for_a_program() => {
                let (id, wire) = (self.numbers.next(), socket.into());
                let program = Program::new(id, ProgramDoor::Native, wire, None);
                self.serve(program, already_read, stop).await;
            }
            Ok(_) => tracing::debug!("a program is turned away: too many are connected"),
            Err(error) => tracing::debug!("a program could not be attached: {error}"),
        }
    }

    /// Lives as long as a program is connected. Returns once the node knows that it is not any
    /// more; what it was told last may still be on its way then.
    pub(crate) async fn serve(
        &self,
        program: Program,
        already_read: Bytes,
        mut stop: watch::Receiver<()>,
    ) {
        let program = Arc::new(program);
        self.metrics.programs.open.fetch_add(1, Ordering::Relaxed);
        {
            let live = live(&program, already_read, &self.inbox, &self.metrics);
            tokio::pin!(live);
            tokio::select! {
                () = &mut live => {}
                _ = stop.changed() => {
                    program.close();
                    live.await;
                }
            }
        }
        self.metrics.programs.open.fetch_sub(1, Ordering::Relaxed);
        if program.is_let_go() {
            self.runtime.spawn(async move {
                // One that does not read what it is told is cut off.
                drop(tokio::time::timeout(LINGER_MAX, program.linger()).await);
            });
        }
    }
}
