//! A program of a few lines on our own door, without any binding: says frames, hears frames.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use protocol::immortal::{Hello, ToNode, ToProgram, blocks, split_frame};

use crate::cluster::SOON;

const FRAME_BYTES_MAX: usize = 32 << 20;

pub(crate) struct Native {
    stream: UnixStream,
    buffer: BytesMut,
    /// What it gives as its state.
    pub(crate) state: Vec<u8>,
}

impl Native {
    pub(crate) fn connect(sandbox: &Path) -> Self {
        let stream = UnixStream::connect(sandbox.join("immortals.sock"));
        let stream = stream.expect("the node listens on its socket");
        stream.set_read_timeout(Some(SOON)).expect("a time can be set");
        Self { stream, buffer: BytesMut::new(), state: Vec::new() }
    }

    /// Attached, or about to be turned away.
    pub(crate) fn attach(sandbox: &Path, instance: &str, program_version: u64) -> Self {
        let mut program = Self::connect(sandbox);
        program.say(&ToNode::Hello(hello(instance, program_version)));
        program
    }

    pub(crate) fn say(&mut self, frame: &ToNode) {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        self.say_raw(&bytes);
    }

    /// A node that has hung up meanwhile is heard of when it is listened to.
    pub(crate) fn say_raw(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// The next frame; none at the end of the connection.
    pub(crate) fn hear(&mut self) -> Option<ToProgram> {
        loop {
            let frame = split_frame(&mut self.buffer, FRAME_BYTES_MAX).expect("a node's frame");
            if let Some(frame) = frame {
                return Some(ToProgram::read(frame).expect("a node's frame can be read"));
            }
            let mut part = [0; 16 << 10];
            match self.stream.read(&mut part) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the node says nothing: {error}"),
            }
        }
    }

    /// The code and the words with which it is turned away.
    pub(crate) fn hear_refusal(&mut self) -> (String, String) {
        loop {
            match self.hear() {
                Some(ToProgram::Error { code, text }) => return (code, text),
                Some(_) => {}
                None => panic!("the node has hung up without a word"),
            }
        }
    }

    /// Lives, and says these after the inputs of a DELIVER.
    pub(crate) fn live_and_say<Said: IntoIterator<Item = ToNode>>(
        &mut self,
        mut say: impl FnMut(&Bytes) -> Said,
    ) -> Option<String> {
        self.live_with(|_, bytes| Some(say(bytes).into_iter().collect()))
    }

    /// Lives until `handle` has enough, or the connection ends; gives the code with which it was
    /// ended.
    pub(crate) fn live(&mut self, mut handle: impl FnMut(u64, &Bytes) -> bool) -> Option<String> {
        self.live_with(|first, bytes| handle(first, bytes).then_some(Vec::new()))
    }

    fn live_with(
        &mut self,
        mut handle: impl FnMut(u64, &Bytes) -> Option<Vec<ToNode>>,
    ) -> Option<String> {
        while let Some(frame) = self.hear() {
            match frame {
                ToProgram::Genesis => self.give_state(0),
                ToProgram::TakeCheckpoint { request } => self.give_state(request),
                ToProgram::Ping { number } => self.say(&ToNode::Pong { number }),
                ToProgram::Deliver { first, blocks: bytes, .. } => {
                    let count: u64 = blocks(bytes.clone())
                        .map(|block| block.expect("a node's block").head.count)
                        .sum();
                    for said in handle(first, &bytes)? {
                        self.say(&said);
                    }
                    self.say(&ToNode::Done { input: first + count - 1 });
                }
                ToProgram::Error { code, .. } => return Some(code),
                _ => {}
            }
        }
        None
    }

    fn give_state(&mut self, request: u64) {
        self.say(&ToNode::Checkpoint { request });
        if !self.state.is_empty() {
            self.say(&ToNode::Chunk(self.state.clone().into()));
        }
        self.say(&ToNode::CheckpointEnd { crc: crc32(&self.state) });
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}

pub(crate) fn hello(instance: &str, program_version: u64) -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        instance: instance.into(),
        program_version,
        upgrade_to: program_version,
    }
}
