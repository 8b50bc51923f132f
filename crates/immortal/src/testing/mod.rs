//! A node for tests, in the same process, and a check that a program is deterministic.
//!
//! [`Play`] is what a test of an immortal needs: it gives inputs, shows what the program says, lets
//! time pass, crashes it, and in the end runs everything again from several checkpoints to see
//! whether the same comes out. [`FakeNode`] and [`Attached`] are one floor below: the node's side
//! of a connection, frame by frame.
//!
//! All of it panics when something is not as it must be: it is made for tests.

mod play;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crc32fast::Hasher;
use protocol::immortal::{
    BlockHead, Hello, VERSION, Welcome, messages, put_block_head, put_message, split_frame,
};
use protocol::{Moment, Term};

pub use play::{Play, Said};
pub use protocol::immortal::{Fate as Told, Message, SourceKind, Status, ToNode, ToProgram};

use crate::impulses::Impulses;
use crate::link::Socket;
use crate::program::Immortal;
use crate::runner::{Options, RunError, run_with};

/// A program that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(20);

const FRAME_BYTES_MAX: usize = 1 << 20;

/// A checkpoint goes in chunks of this length.
const CHUNK_BYTES: usize = 4 << 10;

/// A program in a thread, and the node that it attaches to: this test.
pub struct FakeNode {
    dialled: Receiver<UnixStream>,
    impulses: Impulses,
    program: Option<JoinHandle<Result<(), RunError>>>,
}

impl FakeNode {
    /// Starts a program as an instance of this name.
    pub fn start<P: Immortal>(instance: &str, fresh: impl Fn() -> P + Send + 'static) -> Self {
        Self::start_with(instance, move |options, impulses| run_with(&options, fresh, &impulses))
    }

    /// Starts a program by a function that calls one of the `run` functions.
    pub fn start_with(
        instance: &str,
        program: impl FnOnce(Options, Impulses) -> Result<(), RunError> + Send + 'static,
    ) -> Self {
        let (dials, dialled) = channel();
        let dial = move || {
            let (ours, theirs) = UnixStream::pair()?;
            dials.send(ours).map_err(std::io::Error::other)?;
            Ok(Socket::Unix(theirs))
        };
        let options = Options::dialled(dial, instance);
        let impulses = Impulses::default();
        let theirs = impulses.clone();
        let program = Some(thread::spawn(move || program(options, theirs)));
        Self { dialled, impulses, program }
    }

    /// The next connection of the program; HELLO and WELCOME are said.
    pub fn accept(&self) -> Attached {
        let mut attached = self.accept_silently();
        attached.welcome();
        attached
    }

    /// The next connection of the program; HELLO is read and not answered.
    pub fn accept_silently(&self) -> Attached {
        let socket = self.dialled.recv_timeout(PATIENCE).expect("the program connects");
        Attached::new(socket)
    }

    /// The program's handle for impulses, to send some in its name.
    pub fn impulses(&self) -> &Impulses {
        &self.impulses
    }

    /// Waits until the program ends by itself.
    pub fn ended(mut self) -> Result<(), RunError> {
        let program = self.program.take().expect("it is taken here only");
        program.join().expect("a run does not panic")
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.impulses.stop();
    }
}

/// One input, as it is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub kind: SourceKind,
    pub name: String,
    /// Its number in the stream of an instance; 0 for others.
    pub number: u64,
    pub message: Message,
}

/// One thing that a program said while it handled inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// An empty destination is the program itself.
    Message {
        to: String,
        message: Message,
    },
    Await {
        id: u64,
        due: Option<Moment>,
    },
    Cancel {
        id: u64,
    },
}

/// A state as bytes, after this input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub input: u64,
    pub bytes: Vec<u8>,
}

/// The node's side of one connection. Dropped, the connection ends, whatever the program is doing.
pub struct Attached {
    socket: UnixStream,
    bytes: BytesMut,
    hello: Hello,
    /// The last input that DONE has told.
    done: u64,
    /// Frames that came while something else was waited for: impulses, results, a FAULT.
    aside: VecDeque<ToNode>,
}

impl Attached {
    /// The node's end of a socket on which a program says HELLO.
    pub fn new(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let hello = Hello {
            version_min: 0,
            version_max: 0,
            instance: String::new(),
            program_version: 0,
            upgrade_to: 0,
        };
        let aside = VecDeque::new();
        let mut attached = Self { socket, bytes: BytesMut::new(), hello, done: 0, aside };
        match attached.frame() {
            Some(ToNode::Hello(hello)) => attached.hello = hello,
            other => panic!("the first frame is HELLO, not {other:?}"),
        }
        attached
    }

    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    pub fn welcome(&mut self) {
        self.send(&ToProgram::Welcome(Welcome {
            version: VERSION,
            node: "fake".into(),
            replica: 0,
            frame_bytes_max: FRAME_BYTES_MAX as u64,
            window_bytes: 4 << 20,
            state_version: self.hello.program_version,
        }));
    }

    /// Says something. A program that is gone does not hear it.
    pub fn send(&mut self, frame: &ToProgram) {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        self.send_bytes(&bytes);
    }

    /// The same for bytes that may be no frames.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        drop(self.socket.write_all(bytes));
    }

    /// The next frame; None when the program has ended the connection.
    pub fn frame(&mut self) -> Option<ToNode> {
        loop {
            let frame = split_frame(&mut self.bytes, FRAME_BYTES_MAX).expect("a frame is whole");
            if let Some(frame) = frame {
                return Some(ToNode::read(frame).expect("the program sends no garbage"));
            }
            let mut buffer = vec![0; 64 << 10];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the program has said nothing for {PATIENCE:?}")
                }
                Err(_) => return None,
            }
        }
    }

    /// Asks for the first state. Gives it back with the bytes of INITIAL.
    pub fn genesis(&mut self) -> (Checkpoint, Bytes) {
        self.send(&ToProgram::Genesis);
        self.done = 0;
        let mut initial = Bytes::new();
        let checkpoint = loop {
            match self.expect_frame() {
                ToNode::Initial(bytes) => initial = bytes,
                ToNode::Checkpoint { request: 0 } => break self.checkpoint_body(),
                other => panic!("GENESIS is answered with a checkpoint, not {other:?}"),
            }
        };
        (checkpoint, initial)
    }

    /// Gives the program a state.
    pub fn load(&mut self, checkpoint: &Checkpoint) {
        let Checkpoint { input, bytes } = checkpoint;
        self.send(&ToProgram::Load { input: *input, bytes: bytes.len() as u64 });
        for chunk in bytes.chunks(CHUNK_BYTES) {
            self.send(&ToProgram::Chunk(Bytes::copy_from_slice(chunk)));
        }
        self.send(&ToProgram::LoadEnd { crc: crc32fast::hash(bytes) });
        self.done = *input;
    }

    /// Delivers inputs in one frame, from `first` on.
    pub fn deliver(&mut self, first: u64, time: Moment, inputs: &[Input]) {
        let blocks = blocks_of(inputs);
        self.send(&ToProgram::Deliver { first, time, blocks });
    }

    /// What the program said until it was done with this input.
    pub fn done(&mut self, input: u64) -> Vec<Output> {
        let mut said = Vec::new();
        while self.done < input {
            match self.expect_frame() {
                ToNode::Send { destination, count, messages: body } => {
                    let before = said.len();
                    for message in messages(body) {
                        let message = message.expect("a message can be read");
                        said.push(Output::Message { to: destination.clone(), message });
                    }
                    assert_eq!((said.len() - before) as u64, count, "the count in a SEND is right");
                }
                ToNode::Await { id, due } => said.push(Output::Await { id, due }),
                ToNode::Cancel { id } => said.push(Output::Cancel { id }),
                ToNode::Done { input } => self.done = input,
                ToNode::Fault { input, text } => panic!("input {input} failed: {text}"),
                other => self.aside.push_back(other),
            }
        }
        said
    }

    /// The state after the inputs that were delivered.
    pub fn checkpoint(&mut self) -> Checkpoint {
        self.send(&ToProgram::TakeCheckpoint { request: 7 });
        loop {
            match self.expect_frame() {
                ToNode::Checkpoint { request: 7 } => return self.checkpoint_body(),
                ToNode::Fault { text, .. } => panic!("no checkpoint: {text}"),
                other => self.aside.push_back(other),
            }
        }
    }

    fn checkpoint_body(&mut self) -> Checkpoint {
        let (mut bytes, mut crc) = (Vec::new(), Hasher::new());
        loop {
            match self.expect_frame() {
                ToNode::Chunk(chunk) => {
                    crc.update(&chunk);
                    bytes.extend_from_slice(&chunk);
                }
                ToNode::CheckpointEnd { crc: told } => {
                    assert_eq!(crc.finalize(), told, "the checksum of a checkpoint is right");
                    return Checkpoint { input: self.done, bytes };
                }
                ToNode::Fault { text, .. } => panic!("no checkpoint: {text}"),
                other => self.aside.push_back(other),
            }
        }
    }

    /// The program is level and takes part.
    pub fn end_of_replay(&mut self) {
        self.send(&ToProgram::EndOfReplay { input: self.done });
    }

    pub fn primary(&mut self, term: u64) {
        self.send(&ToProgram::Primary { term: Term(term) });
    }

    pub fn standby(&mut self) {
        self.send(&ToProgram::Standby);
    }

    pub fn fate(&mut self, number: u64, fate: Told, input: u64) {
        self.send(&ToProgram::Fate { number, fate, input });
    }

    /// The next impulse, result or fault; waits for it.
    pub fn aside(&mut self) -> ToNode {
        let early = self.aside.pop_front();
        early.unwrap_or_else(|| self.expect_frame())
    }

    /// One that has come already.
    pub fn aside_now(&mut self) -> Option<ToNode> {
        self.aside.pop_front()
    }

    fn expect_frame(&mut self) -> ToNode {
        self.frame().expect("the program stays connected")
    }
}

/// Inputs as they stand in a DELIVER: those of one source that follow each other share a block.
pub fn blocks_of(inputs: &[Input]) -> Bytes {
    let mut blocks = Vec::new();
    let mut left = inputs;
    while let Some(head) = left.first() {
        let (kind, name, number) = (head.kind, &head.name, head.number);
        let follows = |(place, input): &(usize, &Input)| {
            let next = if number == 0 { 0 } else { number + *place as u64 };
            (input.kind, &input.name, input.number) == (kind, name, next)
        };
        let count = left.iter().enumerate().take_while(follows).count();
        let mut messages = Vec::new();
        left[..count].iter().for_each(|input| put_message(&mut messages, &input.message));
        let head = BlockHead { kind, name: name.clone(), first: number, count: count as u64 };
        put_block_head(&mut blocks, &head, messages.len());
        blocks.extend_from_slice(&messages);
        left = &left[count..];
    }
    blocks.into()
}
