//! The doors for programs, from the sockets to the inbox: real sockets at one end, and at the other
//! a test that does what the node's thread would do.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use node::{ProgramDoor, ProgramPorts};
use protocol::GroupId;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::ambrosia_ports::AmbrosiaPorts;
use crate::config::MachineUsers;
use crate::dial::Ends;
use crate::inbox::{Event, Inbox};
use crate::login::Doorkeeper;
use crate::mesh_end::MeshEnd;
use crate::metrics::Metrics;
use crate::neighbours::Neighbours;
use crate::numbers::Numbers;
use crate::program::Program;
use crate::program_socket::ProgramSocket;
use crate::programs;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// More than all buffers between the two ends hold.
const MUCH: usize = 8 << 20;

/// What a program at the socket says first here: it is no frame, so the node is to refuse it, and
/// it waits for nothing more.
const FIRST: [u8; 4] = [0; 4];

/// What came of a program, in order; without [`FIRST`].
#[derive(Debug, Default)]
struct Heard {
    door: Option<ProgramDoor>,
    to_skip: usize,
    said: Vec<u8>,
    drained: u64,
    closed: usize,
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Stands for the node's thread.
struct Shell {
    _runtime: tokio::runtime::Runtime,
    ends: Ends,
    programs: HashMap<u64, Arc<Program>>,
    heard: HashMap<u64, Heard>,
    folder: TempDir,
    socket: Option<ProgramSocket>,
    closing: Option<watch::Sender<()>>,
}

impl Shell {
    fn new() -> Self {
        Self::run_by(own_user(), MachineUsers::default())
    }

    /// As that user would run it, with programs of these others.
    fn run_by(user: u32, others: MachineUsers) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let metrics = Arc::new(Metrics::default());
        let inbox = Arc::new(Inbox::new(Arc::clone(&metrics)));
        let numbers = Numbers::default();
        let places = usize::MAX;
        let handle = runtime.handle().clone();
        let mesh = {
            let _within = handle.enter();
            let public = protocol::Address::new("127.0.0.1", 1);
            MeshEnd::open(&public, None, Arc::clone(&inbox), numbers.clone())
        };
        let keeper = Doorkeeper::new(Arc::clone(&inbox), false, None, None);
        let neighbours = Neighbours::new(&others, &Arc::new(keeper)).run_by(user);
        let ends = Ends {
            runtime: handle,
            numbers,
            inbox,
            metrics,
            mesh,
            places,
            nameless: crate::named_program::Nameless::default(),
            neighbours: Arc::new(neighbours),
            secret: None,
            tls: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let (closing, seen) = watch::channel(());
        let socket = ProgramSocket::open(folder.path(), &ends, seen);
        let (programs, heard) = Default::default();
        Self { _runtime: runtime, ends, programs, heard, folder, socket, closing: Some(closing) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("immortals.sock")
    }

    fn connect(&self) -> UnixStream {
        let mut socket = self.connect_in_silence();
        socket.write_all(&FIRST).unwrap();
        socket
    }

    fn connect_in_silence(&self) -> UnixStream {
        let socket = UnixStream::connect(self.path()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Takes what has happened until that is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        let mut events = Vec::new();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "not yet: {what}; {:?}", self.heard);
            self.ends.inbox.take(&mut events);
            if events.is_empty() {
                std::thread::sleep(Duration::from_millis(1));
            }
            events.drain(..).for_each(|event| self.happened(event));
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::ProgramOpened { program } => {
                let to_skip = if program.door == ProgramDoor::Native { FIRST.len() } else { 0 };
                let heard = Heard { door: Some(program.door), to_skip, ..Heard::default() };
                assert!(self.heard.insert(program.id, heard).is_none(), "opened twice");
                self.programs.insert(program.id, program);
            }
            Event::ProgramSaid { program, bytes, .. } => {
                let heard = self.of(program);
                let skipped = heard.to_skip.min(bytes.len());
                heard.to_skip -= skipped;
                heard.said.extend(&bytes[skipped..]);
            }
            Event::ProgramDrained { program, bytes } => self.of(program).drained += bytes,
            Event::ProgramClosed { program } => {
                self.of(program).closed += 1;
                self.programs.remove(&program);
            }
            _ => panic!("no one else is here"),
        }
    }

    fn of(&mut self, program: u64) -> &mut Heard {
        let heard = self.heard.get_mut(&program).expect("it was opened before");
        assert_eq!(heard.closed, 0, "it was closed before");
        heard
    }

    /// The one program that is connected.
    fn program(&mut self) -> u64 {
        self.until("a program is connected", |shell| !shell.programs.is_empty());
        *self.programs.keys().next().unwrap()
    }

    fn tell(&self, program: u64, bytes: impl Into<Bytes>) {
        let program = &self.programs[&program];
        program.tell(vec![bytes.into()]);
        programs::flush(program, &self.ends.inbox, &self.ends.metrics);
    }

    fn let_go(&mut self, program: u64) {
        let program = self.programs.remove(&program).unwrap();
        programs::flush(&program, &self.ends.inbox, &self.ends.metrics);
        program.let_go();
    }

    fn pairs(&self) -> (AmbrosiaPorts, ProgramPorts) {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (one, two) = (free(), free());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (receive, send) = (port(&one), port(&two));
        (AmbrosiaPorts::new(self.ends.clone()), ProgramPorts { group: GroupId(7), receive, send })
    }
}

/// Waits until somebody listens there.
fn dial(port: u16) -> TcpStream {
    dial_at(Ipv4Addr::LOCALHOST, port)
}

fn dial_at(host: impl Into<IpAddr>, port: u16) -> TcpStream {
    let (host, begun) = (host.into(), Instant::now());
    loop {
        match TcpStream::connect((host, port)) {
            Ok(socket) => {
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                return socket;
            }
            Err(error) => assert!(begun.elapsed() < PATIENCE, "port {port}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether the other side has closed, without a word.
fn is_closed(mut socket: impl Read) -> bool {
    socket.read(&mut [0; 16]).is_ok_and(|count| count == 0)
}

#[test]
fn a_program_at_the_socket_is_heard_and_told() {
    let mut shell = Shell::new();
    let mut socket = shell.connect();
    let program = shell.program();
    assert_eq!(shell.heard[&program].door, Some(ProgramDoor::Native));
    socket.write_all(b"hello").unwrap();
    shell.until("it is heard", |shell| shell.heard[&program].said == b"hello");
    shell.tell(program, &b"welcome"[..]);
    let mut told = [0; 7];
    socket.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"welcome");
    shell.until("what it was told is gone", |shell| shell.heard[&program].drained == 7);
    drop(socket);
    shell.until("it is closed", |shell| shell.heard[&program].closed == 1);
    let counted = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!(counted(&shell.ends.metrics.programs.bytes_read), 9);
    assert_eq!(counted(&shell.ends.metrics.programs.bytes_written), 7);
    assert_eq!(shell.ends.metrics.programs.open.load(Ordering::Relaxed), 0);
}

#[test]
fn who_has_not_said_who_it_is_does_not_reach_the_node_and_keeps_few_places() {
    let mut shell = Shell::new();
    let mut silent: Vec<UnixStream> = (0..70).map(|_| shell.connect_in_silence()).collect();
    let begun = Instant::now();
    while silent.len() > 64 {
        assert!(begun.elapsed() < PATIENCE, "{} are waited for", silent.len());
        silent.retain(|socket| {
            socket.set_nonblocking(true).unwrap();
            !is_closed(socket)
        });
    }
    std::thread::sleep(Duration::from_millis(50));
    silent.retain(|socket| !is_closed(socket));
    assert_eq!((silent.len(), shell.programs.len()), (64, 0), "six were too many");
    let mut one = silent.pop().unwrap();
    one.write_all(&FIRST).unwrap();
    let program = shell.program();
    assert_eq!((shell.programs.len(), shell.heard[&program].said.len()), (1, 0));
    silent.clear();
}

#[test]
fn much_arrives_whole_and_in_order_both_ways() {
    let mut shell = Shell::new();
    let socket = shell.connect();
    let program = shell.program();
    let all: Vec<u8> = (0..MUCH).map(|n| (n / 3).to_le_bytes()[0]).collect();
    let (mut read_half, wanted) = (socket.try_clone().unwrap(), all.clone());
    let speaker = std::thread::spawn(move || read_half.write_all(&wanted).unwrap());
    shell.until("all is heard", |shell| shell.heard[&program].said.len() == MUCH);
    speaker.join().unwrap();
    assert!(shell.heard[&program].said == all);
    // Told in pieces, small ones among them, to one who does not read yet: nothing is waited for.
    let mut rest = Bytes::from(all.clone());
    for size in [1, 100_000, 0, 7, 3 << 20, 8 << 10, 5] {
        shell.tell(program, rest.split_to(size));
    }
    shell.tell(program, rest);
    assert!(shell.heard[&program].drained < MUCH as u64);
    let mut write_half = socket;
    let listener = std::thread::spawn(move || {
        let mut told = vec![0; MUCH];
        write_half.read_exact(&mut told).unwrap();
        (write_half, told)
    });
    shell.until("all is gone", |shell| shell.heard[&program].drained == MUCH as u64);
    let (write_half, told) = listener.join().unwrap();
    assert!(told == all);
    drop(write_half);
}

#[test]
fn a_program_that_only_stops_speaking_is_closed_and_was_heard() {
    let mut shell = Shell::new();
    let mut socket = shell.connect();
    let program = shell.program();
    socket.write_all(b"last words").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    shell.until("it is closed", |shell| shell.heard[&program].closed == 1);
    assert_eq!(shell.heard[&program].said, b"last words");
    assert!(is_closed(socket));
}

#[test]
fn what_a_program_said_before_it_died_is_heard_even_if_it_was_told_more() {
    let mut shell = Shell::new();
    let mut socket = shell.connect();
    let program = shell.program();
    socket.write_all(&vec![1; 100_000]).unwrap();
    drop(socket);
    shell.tell(program, &b"to nobody"[..]);
    shell.until("it is closed", |shell| shell.heard[&program].closed == 1);
    assert_eq!(shell.heard[&program].said.len(), 100_000);
}

#[test]
fn one_that_is_let_go_gets_all_it_was_told_and_is_never_heard_of_again() {
    let mut shell = Shell::new();
    let mut socket = shell.connect();
    let program = shell.program();
    shell.tell(program, vec![3; MUCH]);
    shell.let_go(program);
    // Something unread in the socket must not cost it what it was told.
    socket.write_all(b"are you there?").unwrap();
    let mut told = Vec::new();
    socket.read_to_end(&mut told).unwrap();
    assert_eq!(told.len(), MUCH);
    let another = shell.connect();
    shell.until("another comes", |shell| shell.programs.len() == 1);
    drop(another);
}

#[test]
fn one_that_is_let_go_and_does_not_read_is_cut_off() {
    let mut shell = Shell::new();
    let socket = shell.connect();
    let program = shell.program();
    shell.tell(program, vec![3; MUCH]);
    let weak = Arc::downgrade(&shell.programs[&program]);
    shell.let_go(program);
    let begun = Instant::now();
    while weak.upgrade().is_some() {
        assert!(begun.elapsed() < PATIENCE, "it is still held");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(begun.elapsed() > Duration::from_secs(1), "it had no time to read");
    drop(socket);
}

#[test]
fn the_socket_is_made_anew_and_taken_away() {
    let mut shell = Shell::new();
    let path = shell.path();
    shell.closing = None;
    drop(shell.socket.take());
    // As after a crash: the file is there, and nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let (closing, seen) = watch::channel(());
    let socket = ProgramSocket::open(shell.folder.path(), &shell.ends, seen);
    let connected = shell.connect();
    shell.program();
    drop((socket, connected, closing));
    assert!(!path.exists());
}

#[test]
fn a_node_goes_on_without_the_socket_when_its_path_is_too_long() {
    let shell = Shell::new();
    let deep = shell.folder.path().join("x".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    assert!(ProgramSocket::open(&deep, &shell.ends, watch::channel(()).1).is_none());
}

#[test]
fn an_end_of_the_node_closes_its_programs() {
    let mut shell = Shell::new();
    let socket = shell.connect();
    let program = shell.program();
    shell.closing = None;
    shell.until("it is closed", |shell| shell.heard[&program].closed == 1);
    assert!(is_closed(socket));
}

#[test]
fn a_pair_of_connections_is_one_program() {
    let mut shell = Shell::new();
    let (mut doors, ports) = shell.pairs();
    doors.keep(&[ports]);
    let mut read_half = dial(ports.receive);
    read_half.write_all(b"early").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert!(shell.programs.is_empty());
    let mut write_half = dial(ports.send);
    let program = shell.program();
    assert_eq!(shell.heard[&program].door, Some(ProgramDoor::Ambrosia { group: GroupId(7) }));
    read_half.write_all(b" late").unwrap();
    shell.until("it is heard", |shell| shell.heard[&program].said == b"early late");
    shell.tell(program, &b"told"[..]);
    let mut told = [0; 4];
    write_half.read_exact(&mut told).unwrap();
    // While it is there, nobody else is let in.
    assert!(is_closed(dial(ports.receive)));
    assert!(is_closed(dial(ports.send)));
    // One end goes, both are gone, and the next pair is let in.
    drop(write_half);
    shell.until("it is closed", |shell| shell.heard[&program].closed == 1);
    assert!(is_closed(read_half));
    let pair = (dial(ports.receive), dial(ports.send));
    let second = shell.program();
    drop(pair.0);
    shell.until("it is closed", |shell| shell.heard[&second].closed == 1);
    assert!(is_closed(pair.1));
    let pair = (dial(ports.receive), dial(ports.send));
    let third = shell.program();
    doors.keep(&[]);
    shell.until("it is closed", |shell| shell.heard[&third].closed == 1);
    assert!(is_closed(pair.0) && is_closed(pair.1));
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, ports.send)).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it still listens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// AMBROSIA's C client, and its bindings on Windows, know only the newer loopback address; what
/// `localhost` is may differ between two connections.
#[test]
fn a_pair_may_come_over_either_loopback_address() {
    let mut shell = Shell::new();
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let (mut doors, ports) = shell.pairs();
    doors.keep(&[ports]);
    let (older, newer) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    for (first, second) in [(newer, newer), (newer, older), (older, newer)] {
        let mut read_half = dial_at(first, ports.receive);
        let write_half = dial_at(second, ports.send);
        read_half.write_all(b"hello").unwrap();
        let program = shell.program();
        shell.until("it is heard", |shell| shell.heard[&program].said == b"hello");
        drop((read_half, write_half));
        shell.until("it is closed", |shell| shell.heard[&program].closed == 1);
    }
}

/// As AMBROSIA's C client listens: at all addresses, and without SO_REUSEADDR.
fn listen_as_in_c(port: u16) -> std::io::Result<TcpListener> {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
    listen(&socket, 5)?;
    Ok(socket.into())
}

/// AMBROSIA's older bindings listen at their second port. It is free for the first one, and for
/// each one that is started again at once.
#[test]
fn a_program_that_listens_itself_is_connected_to() {
    let mut shell = Shell::new();
    let (mut doors, ports) = shell.pairs();
    doors.keep(&[ports]);
    let begun = Instant::now();
    for turn in 0..3 {
        let mut read_half = dial(ports.receive);
        let own = loop {
            match listen_as_in_c(ports.send) {
                Ok(own) => break own,
                // What is left of the former one takes a moment.
                Err(_) if turn > 0 && begun.elapsed() < PATIENCE => {}
                Err(error) => panic!("turn {turn}: {error}"),
            }
        };
        let (mut write_half, _) = own.accept().unwrap();
        read_half.write_all(b"older").unwrap();
        let program = shell.program();
        shell.until("it is heard", |shell| shell.heard[&program].said == b"older");
        shell.tell(program, &b"told"[..]);
        let mut told = [0; 4];
        write_half.read_exact(&mut told).unwrap();
        drop((read_half, write_half, own));
        shell.until("it is closed", |shell| shell.heard[&program].closed == 1);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, ports.send)).is_err(), "turn {turn}");
    }
    let pair = (dial(ports.receive), dial(ports.send));
    let program = shell.program();
    drop(pair);
    shell.until("it is closed", |shell| shell.heard[&program].closed == 1);
    // One that listens comes after one that does not.
    loop {
        let _read_half = dial(ports.receive);
        match listen_as_in_c(ports.send) {
            Ok(own) => break drop(own.accept().unwrap()),
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

#[test]
fn half_a_program_that_is_gone_is_not_taken_for_the_next_one_s() {
    let mut shell = Shell::new();
    let (mut doors, ports) = shell.pairs();
    doors.keep(&[ports]);
    let mut dead = dial(ports.receive);
    dead.write_all(b"dead").unwrap();
    drop(dead);
    let mut read_half = dial(ports.receive);
    read_half.write_all(b"alive").unwrap();
    let write_half = dial(ports.send);
    let program = shell.program();
    shell.until("it is heard", |shell| shell.heard[&program].said == b"alive");
    drop((read_half, write_half));
    shell.until("it is closed", |shell| shell.heard[&program].closed == 1);
    // One whose second half is made again, and then its first.
    let former = dial(ports.receive);
    let latest = dial(ports.receive);
    assert!(is_closed(former));
    let write_half = dial(ports.send);
    shell.program();
    drop((latest, write_half));
}

#[test]
fn a_port_in_use_is_had_when_it_is_free() {
    let mut shell = Shell::new();
    let (mut doors, ports) = shell.pairs();
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.send)).unwrap();
    doors.keep(&[ports]);
    std::thread::sleep(Duration::from_millis(100));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, ports.receive)).is_err());
    drop(other);
    let pair = (dial(ports.receive), dial(ports.send));
    shell.program();
    drop(pair);
}

/// This process connects to the doors of a node that another user of the machine runs.
#[test]
fn a_program_of_another_user_is_let_in_only_if_that_was_said() {
    let mut shell = Shell::run_by(own_user() + 1, MachineUsers::These(vec![own_user() + 2]));
    let (mut doors, ports) = shell.pairs();
    doors.keep(&[ports]);
    for refused in 1..=2 {
        assert!(is_closed(dial(ports.receive)));
        shell.until("it is counted", |shell| {
            shell.ends.metrics.programs.refused.load(Ordering::Relaxed) == refused
        });
    }
    assert!(shell.programs.is_empty());
    for others in [MachineUsers::All, MachineUsers::These(vec![own_user()])] {
        let mut shell = Shell::run_by(own_user() + 1, others);
        let (mut doors, ports) = shell.pairs();
        doors.keep(&[ports]);
        let pair = (dial(ports.receive), dial(ports.send));
        shell.program();
        assert_eq!(shell.ends.metrics.programs.refused.load(Ordering::Relaxed), 0);
        drop(pair);
    }
}
