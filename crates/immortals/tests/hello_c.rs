//! AMBROSIA's adapter against a program that was written from AMBROSIA's document alone, in C
//! (`examples/ambrosia/hello.c`), over two TCP ports as a coordinator has them.

#![expect(clippy::disallowed_types, reason = "the other end is a process with real sockets")]
#![expect(clippy::unwrap_used, reason = "in a test, also beside its functions, it is a finding")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use immortals::ambrosia::{AmbrosiaAdapter, AmbrosiaOptions};
use protocol::immortal::{
    BlockHead, Message, SourceKind, ToNode, ToProgram, messages, put_block_head, put_message,
};
use protocol::{Moment, Term};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const PRIMARY: ToProgram = ToProgram::Primary { term: Term(1) };

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ambrosia/hello.c");
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hello");
        let mut compiler = Command::new("cc");
        compiler.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-o"]);
        let made = compiler.arg(&program).arg(source).status().expect("there is a C compiler");
        assert!(made.success());
        program
    })
}

/// The program, and the adapter as its coordinator.
struct Hello {
    child: Child,
    stdin: ChildStdin,
    hears: TcpStream,
    tells: TcpStream,
    adapter: AmbrosiaAdapter,
    /// Frames that were read and not looked at.
    said: Vec<ToNode>,
}

impl Hello {
    fn start(role: &str, active_active: bool) -> Self {
        let receives = TcpListener::bind("127.0.0.1:0").unwrap();
        let sends = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port().to_string();
        let mut child = Command::new(program())
            .args([role, &port(&receives), &port(&sends)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (hears, _) = receives.accept().unwrap();
        let (tells, _) = sends.accept().unwrap();
        hears.set_read_timeout(Some(PATIENCE)).unwrap();
        let adapter = AmbrosiaAdapter::new(AmbrosiaOptions {
            instance: role.to_owned(),
            active_active,
            committer_id: -5,
            program_version: 0,
            upgrade_to: 0,
        });
        let stdin = child.stdin.take().unwrap();
        let mut hello = Self { child, stdin, hears, tells, adapter, said: Vec::new() };
        hello.adapter.hear(Bytes::new(), &mut hello.said).unwrap();
        hello.said.clear();
        hello
    }

    fn tell(&mut self, frame: &ToProgram) {
        let mut out = Vec::new();
        self.adapter.tell(frame, &mut out);
        assert_eq!(self.adapter.trouble(), None);
        out.iter().for_each(|bytes| self.tells.write_all(bytes).unwrap());
    }

    fn deliver(&mut self, first: u64, kind: SourceKind, input: &Message) {
        let mut bytes = Vec::new();
        put_message(&mut bytes, input);
        let head = BlockHead { kind, name: String::new(), first: 0, count: 1 };
        let mut blocks = Vec::new();
        put_block_head(&mut blocks, &head, bytes.len());
        blocks.extend(bytes);
        let time = Moment(1);
        self.tell(&ToProgram::Deliver { first, time, blocks: blocks.into() });
    }

    fn start_input(&mut self) {
        let payload = Bytes::from_static(b"hello");
        self.deliver(1, SourceKind::Node, &Message::Start { payload });
    }

    fn text(&mut self, first: u64, text: &'static str) {
        let payload = Bytes::from_static(text.as_bytes());
        self.deliver(first, SourceKind::Instance, &Message::Fork { method: 1, payload });
    }

    fn load(&mut self, input: u64, state: &[u8]) {
        self.tell(&ToProgram::Load { input, bytes: state.len() as u64 });
        self.tell(&ToProgram::Chunk(Bytes::copy_from_slice(state)));
        self.tell(&ToProgram::LoadEnd { crc: crc32fast::hash(state) });
    }

    /// Listens until there is a frame of some kind, and takes it and all before it.
    fn hear_until(&mut self, wanted: impl Fn(&ToNode) -> bool) -> Vec<ToNode> {
        let mut bytes = vec![0; 1000];
        loop {
            if let Some(place) = self.said.iter().position(&wanted) {
                return self.said.drain(..=place).collect();
            }
            let length = self.hears.read(&mut bytes).unwrap();
            assert!(length > 0, "the program ended");
            let bytes = Bytes::copy_from_slice(&bytes[..length]);
            self.adapter.hear(bytes, &mut self.said).unwrap();
        }
    }

    fn hear_checkpoint(&mut self) -> (Vec<ToNode>, Vec<u8>) {
        let said = self.hear_until(|frame| matches!(frame, ToNode::CheckpointEnd { .. }));
        let pieces = said.iter().filter_map(|frame| match frame {
            ToNode::Chunk(piece) => Some(&piece[..]),
            _ => None,
        });
        let state = pieces.collect::<Vec<_>>().concat();
        (said, state)
    }

    /// The first texts that are sent, this many.
    fn hear_texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let said = self.hear_until(|frame| matches!(frame, ToNode::Send { .. }));
            let Some(ToNode::Send { destination, messages: sent, .. }) = said.last() else {
                continue;
            };
            assert_eq!(destination, "server");
            for message in messages(sent.clone()) {
                match message.unwrap() {
                    Message::Fork { payload, .. } => {
                        texts.push(String::from_utf8(payload.to_vec()).unwrap());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        texts
    }

    fn enter(&mut self, text: &str) {
        writeln!(self.stdin, "{text}").unwrap();
    }

    /// Waits until this is printed.
    fn see(&mut self, text: &str) {
        let printed = self.child.stdout.as_mut().unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(text.as_bytes()) {
            let mut byte = [0];
            printed.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
    }

    /// Kills the program; gives what it has printed.
    fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        printed
    }
}

/// Answers GENESIS; gives the first checkpoint.
fn first_start(hello: &mut Hello) -> Vec<u8> {
    hello.tell(&ToProgram::Genesis);
    let (said, state) = hello.hear_checkpoint();
    assert_eq!(said[0], ToNode::Initial(Bytes::from_static(b"hello")));
    assert_eq!(said[1], ToNode::Checkpoint { request: 0 });
    hello.tell(&PRIMARY);
    hello.start_input();
    state
}

#[test]
fn the_server_counts_and_its_copy_carries_on() {
    let mut server = Hello::start("server", true);
    first_start(&mut server);
    server.text(2, "one");
    server.text(3, "two");
    server.tell(&ToProgram::TakeCheckpoint { request: 9 });
    let (said, state) = server.hear_checkpoint();
    assert_eq!(said[..2], [ToNode::Done { input: 3 }, ToNode::Checkpoint { request: 9 }]);
    assert_eq!(state, b"\x02\0\0\0\0\0\0\0one\0two\0");
    let printed = server.kill();
    assert_eq!(
        printed,
        "\n!! SERVER Received message from a client: one\n\n!! SERVER Received message from a client: two\n"
    );

    let mut copy = Hello::start("server", true);
    copy.load(3, &state);
    copy.text(4, "three");
    copy.tell(&ToProgram::EndOfReplay { input: 4 });
    copy.tell(&PRIMARY);
    copy.tell(&ToProgram::TakeCheckpoint { request: 10 });
    let (said, state) = copy.hear_checkpoint();
    assert_eq!(said[0], ToNode::Done { input: 4 });
    assert_eq!(state, b"\x03\0\0\0\0\0\0\0one\0two\0three\0");
    assert_eq!(copy.kill(), "\n!! SERVER Received message from a client: three\n");
}

#[test]
fn a_server_alone_takes_a_checkpoint_when_it_becomes_primary() {
    let mut server = Hello::start("server", false);
    server.load(3, b"\x02\0\0\0\0\0\0\0one\0two\0");
    server.text(4, "three");
    server.tell(&PRIMARY);
    let said = server.hear_until(|frame| matches!(frame, ToNode::Done { .. }));
    assert_eq!(said, [ToNode::Done { input: 4 }]);
    server.tell(&ToProgram::TakeCheckpoint { request: 1 });
    let (_, state) = server.hear_checkpoint();
    assert_eq!(state[0], 3);
    server.kill();
}

/// Client1 of AMBROSIA's sample, killed at its prompt.
#[test]
fn the_client_sends_the_same_after_a_kill_at_the_prompt() {
    let mut client = Hello::start("client", false);
    let state = first_start(&mut client);
    assert_eq!(client.hear_texts(1), ["\n!! Client: Hello World 1!"]);
    client.see("(will send 2&3)\n");
    client.kill();

    let mut client = Hello::start("client", false);
    client.load(0, &state);
    client.start_input();
    assert_eq!(client.hear_texts(1), ["\n!! Client: Hello World 1!"]);
    client.enter("");
    let texts = client.hear_texts(2);
    assert_eq!(texts, ["\n!! Client: Hello World 2!", "\n!! Client: Hello World 3!"]);
    client.kill();
}

/// Client2 of the sample.
#[test]
fn what_is_typed_is_an_impulse_and_its_handler_sends() {
    let mut client = Hello::start("keyboard", true);
    first_start(&mut client);
    client.enter("typed");
    let said = client.hear_until(|frame| matches!(frame, ToNode::Impulse { .. }));
    let Some(ToNode::Impulse { number: 1, destination, message }) = said.last() else {
        panic!("{said:?}")
    };
    assert_eq!(destination, "");
    let message = messages(message.clone()).next().unwrap().unwrap();
    client.deliver(2, SourceKind::Impulses, &message);
    assert_eq!(client.hear_texts(1), ["typed"]);
    client.kill();
}
