//! The programs that the immortals' figures are measured with: a source, a sink, a caller, an
//! answerer. They speak the immortal protocol with nothing between, to measure the node and not a
//! binding.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use protocol::immortal::{
    Hello, MessageView, Status, ToNode, ToProgram, View, put_answer, put_call, put_fork,
    split_frame,
};

use crate::attached::{PATIENCE, micros};

/// How many bytes of messages a source says before it lets others in (and goes on by a self-call).
const TURN_BYTES: usize = 256 << 10;

/// How many turns are under way at a time.
const TURNS: u64 = 16;

const FRAME_BYTES_MAX: usize = 32 << 20;

/// The methods of these programs.
const RUN: i64 = 1;
const TURN: i64 = 2;
const LOAD: i64 = 3;
const CALLS: i64 = 4;
const PROBE: i64 = 5;

/// How long a program waits before it tries again to attach.
const PAUSE: Duration = Duration::from_millis(5);

/// What a source is asked to do. All of it is state.
#[derive(Clone, Copy, Default)]
struct Plan {
    size: u64,
    left: u64,
    calls: u64,
}

struct Program {
    stream: UnixStream,
    peer: String,
    out: Vec<u8>,
    plan: Plan,
    handled: u64,
    bytes: u64,
    called: Option<(u64, u64)>,
    echo: bool,
    primary: bool,
    reported: u64,
    replay: Replay,
    /// The node asks it to connect again.
    again: bool,
}

/// What was delivered before the end of the replay.
struct Replay {
    attached: Instant,
    first: Option<Instant>,
    inputs: u64,
}

/// Attaches as soon as the node lets it in, and goes on until the node is gone.
///
/// # Errors
/// When the connection breaks, or the node never lets it in.
pub(crate) fn run(socket: &Path, instance: &str, peer: &str, echo: bool) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut welcome = false;
    loop {
        let ended = UnixStream::connect(socket).and_then(|stream| {
            let mut program = Program::new(stream, peer, echo);
            let ended = program.serve(instance, &mut welcome);
            if program.again { Ok(()) } else { ended }
        });
        // A node that has just begun does not listen yet, or does not know its instances.
        match ended {
            Err(error) if welcome && node_is_gone(&error) => return Ok(()),
            Err(error) if welcome || Instant::now() > deadline => return Err(error),
            _ => std::thread::sleep(PAUSE),
        }
    }
}

fn node_is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    [BrokenPipe, ConnectionReset, UnexpectedEof].contains(&error.kind())
}

impl Program {
    fn new(stream: UnixStream, peer: &str, echo: bool) -> Self {
        Self {
            stream,
            peer: peer.to_owned(),
            out: Vec::new(),
            plan: Plan::default(),
            handled: 0,
            bytes: 0,
            called: None,
            echo,
            primary: false,
            reported: 0,
            replay: Replay { attached: Instant::now(), first: None, inputs: 0 },
            again: false,
        }
    }

    fn serve(&mut self, instance: &str, welcome: &mut bool) -> io::Result<()> {
        let hello = Hello {
            version_min: 1,
            version_max: 1,
            instance: instance.to_owned(),
            program_version: 0,
            upgrade_to: 0,
        };
        self.say(&ToNode::Hello(hello));
        self.flush()?;
        let mut buffer = BytesMut::new();
        let mut piece = vec![0; 1 << 20];
        loop {
            let count = self.stream.read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer.extend_from_slice(&piece[..count]);
            while let Some(frame) =
                split_frame(&mut buffer, FRAME_BYTES_MAX).map_err(io::Error::other)?
            {
                let frame = ToProgram::read(frame).map_err(io::Error::other)?;
                *welcome |= matches!(frame, ToProgram::Welcome(_));
                if let ToProgram::Error { code, text } = &frame {
                    self.again = code == "RELOAD" || code == "STOPPING";
                    if self.again && *welcome {
                        println!("again {code}: {text}");
                    }
                }
                self.frame(frame)?;
            }
            self.flush()?;
            self.report();
        }
    }

    fn say(&mut self, frame: &ToNode) {
        frame.put(&mut self.out);
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }

    fn frame(&mut self, frame: ToProgram) -> io::Result<()> {
        match frame {
            ToProgram::Genesis => self.give_state(0),
            ToProgram::TakeCheckpoint { request } => self.give_state(request),
            ToProgram::Chunk(bytes) => {
                let numbers: Vec<u64> = bytes
                    .chunks_exact(8)
                    .map(|eight| u64::from_le_bytes(eight.try_into().unwrap_or_default()))
                    .collect();
                if let [size, left, calls, handled, bytes] = numbers[..] {
                    self.plan = Plan { size, left, calls };
                    (self.handled, self.bytes) = (handled, bytes);
                }
            }
            ToProgram::Deliver { first, blocks: bytes, .. } => {
                self.replay.first.get_or_insert_with(Instant::now);
                let last = self.inputs(first, &bytes)?;
                self.replay.inputs += last + 1 - first;
                self.say(&ToNode::Done { input: last });
            }
            ToProgram::EndOfReplay { .. } => self.replay.show(),
            ToProgram::Primary { .. } => {
                self.primary = true;
                println!("primary {}", micros());
            }
            ToProgram::Standby => self.primary = false,
            ToProgram::Ping { number } => self.say(&ToNode::Pong { number }),
            ToProgram::Error { code, text } => {
                return Err(io::Error::other(format!("{code}: {text}")));
            }
            _ => {}
        }
        Ok(())
    }

    fn give_state(&mut self, request: u64) {
        let Plan { size, left, calls } = self.plan;
        let numbers = [size, left, calls, self.handled, self.bytes];
        let state: Bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let crc = crc32fast::hash(&state);
        self.say(&ToNode::Checkpoint { request });
        self.say(&ToNode::Chunk(state));
        self.say(&ToNode::CheckpointEnd { crc });
    }

    fn inputs(&mut self, first: u64, bytes: &[u8]) -> io::Result<u64> {
        let (mut input, mut bytes) = (first, View::new(bytes));
        while let Some(mut block) = bytes.block().map_err(io::Error::other)? {
            let mut echoed = Vec::new();
            while let Some(message) = block.messages.message().map_err(io::Error::other)? {
                self.input(block.name, message, &mut echoed);
                input += 1;
            }
            if self.echo && !echoed.is_empty() {
                let (destination, count) = (block.name.to_owned(), block.count);
                self.say(&ToNode::Send { destination, count, messages: echoed.into() });
            }
        }
        Ok(input - 1)
    }

    fn input(&mut self, from: &str, message: MessageView<'_>, echoed: &mut Vec<u8>) {
        match message {
            MessageView::Fork { method: LOAD, payload } => {
                self.load(payload.len());
                if self.echo {
                    put_fork(echoed, LOAD, payload);
                }
            }
            MessageView::Fork { method: TURN, .. } => self.turn(),
            MessageView::Impulse { method: RUN, payload } => {
                let wanted: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
                let number = |name: &str| wanted[name].as_u64().unwrap_or(0);
                self.plan = Plan { size: number("size"), left: number("count"), calls: 0 };
                for _ in 0..TURNS {
                    self.turn();
                }
            }
            MessageView::Impulse { method: CALLS, payload } => {
                let wanted: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
                self.plan.calls = wanted["count"].as_u64().unwrap_or(0);
                self.call();
            }
            MessageView::Impulse { method: PROBE, .. } => println!("probe {}", micros()),
            MessageView::Call { id, payload, .. } => {
                let mut out = Vec::new();
                put_answer(&mut out, id, Status::Value, payload);
                let destination = from.to_owned();
                self.say(&ToNode::Send { destination, count: 1, messages: out.into() });
            }
            MessageView::Answer { id, .. } => {
                if self.primary
                    && let Some((called, at)) = self.called
                    && called == id
                {
                    println!("call {at} {}", micros());
                }
                self.call();
            }
            _ => {}
        }
    }

    /// The next call, if there are any left.
    fn call(&mut self) {
        if self.plan.calls == 0 {
            return;
        }
        let id = self.plan.calls;
        self.plan.calls -= 1;
        self.called = Some((id, micros()));
        let mut out = Vec::new();
        put_call(&mut out, id, CALLS, &[7; 16]);
        let destination = self.peer.clone();
        self.say(&ToNode::Send { destination, count: 1, messages: out.into() });
    }

    /// Some of the load, and a message to itself to go on with the rest.
    fn turn(&mut self) {
        let size = usize::try_from(self.plan.size).unwrap_or(16);
        let fits = (TURN_BYTES / (size + 4)).max(1) as u64;
        let count = fits.min(self.plan.left);
        if count == 0 {
            return;
        }
        self.plan.left -= count;
        let mut one = Vec::new();
        put_fork(&mut one, LOAD, &vec![7; size]);
        let messages = one.repeat(usize::try_from(count).unwrap_or(1));
        let destination = self.peer.clone();
        self.say(&ToNode::Send { destination, count, messages: messages.into() });
        let mut again = Vec::new();
        put_fork(&mut again, TURN, &[]);
        let destination = String::new();
        self.say(&ToNode::Send { destination, count: 1, messages: again.into() });
    }

    fn load(&mut self, size: usize) {
        self.handled += 1;
        self.bytes += size as u64;
    }

    /// The primary tells how far it is, when there is nothing more to do at the moment. Nobody
    /// reads what the others say, and a pipe that is full would hold them up.
    fn report(&mut self) {
        if self.primary && self.handled > self.reported {
            self.reported = self.handled;
            println!("load {}", self.handled);
        }
    }
}

impl Replay {
    /// How many inputs, and for how many microseconds: since the program was there, and since the
    /// first of them came.
    fn show(&self) {
        let since = |at: Instant| at.elapsed().as_micros();
        let first = self.first.map_or(0, since);
        println!("replayed {} {} {first}", self.inputs, since(self.attached));
    }
}
