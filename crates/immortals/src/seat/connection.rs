//! The connection of an attached program.

use bytes::Bytes;
use protocol::immortal::{Garbled, Hello, ToNode, ToProgram, VERSION, Welcome};

use crate::adapter::{Adapter, FRAME_BYTES_MAX};
use crate::io::Output;
use crate::seat::window::WINDOW_BYTES;

pub(crate) struct Connection {
    pub(crate) program: u64,
    pub(crate) adapter: Adapter,
    pub(crate) hello: Hello,
    /// What is to be written next.
    out: Vec<Bytes>,
    /// The bytes that were written and have not left.
    pub(crate) unwritten: u64,
    /// When it last gave a sign of life, in steady microseconds.
    pub(crate) heard: u64,
    /// When the last PING was sent, in steady microseconds.
    pinged: u64,
}

impl Connection {
    pub(crate) fn new(program: u64, adapter: Adapter, hello: Hello, now: u64) -> Self {
        Self { program, adapter, hello, out: Vec::new(), unwritten: 0, heard: now, pinged: now }
    }

    pub(crate) fn confirms(&self) -> bool {
        self.adapter.confirms()
    }

    pub(crate) fn tell(&mut self, frame: &ToProgram) {
        let before = self.out.len();
        self.adapter.tell(frame, &mut self.out);
        self.unwritten += self.out[before..].iter().map(|bytes| bytes.len() as u64).sum::<u64>();
    }

    pub(crate) fn welcome(&mut self, node: &str, replica: u64, state_version: u64) {
        self.tell(&ToProgram::Welcome(Welcome {
            version: VERSION,
            node: node.to_owned(),
            replica,
            frame_bytes_max: FRAME_BYTES_MAX as u64,
            window_bytes: WINDOW_BYTES as u64,
            state_version,
        }));
    }

    /// # Errors
    /// When the program does not keep to the protocol. The frames before that are good.
    pub(crate) fn read(
        &mut self,
        bytes: &Bytes,
        now: u64,
        frames: &mut Vec<ToNode>,
    ) -> Result<(), Garbled> {
        self.heard = now;
        self.adapter.hear(bytes, frames)
    }

    /// This many bytes have left.
    pub(crate) fn written(&mut self, bytes: u64) {
        self.unwritten = self.unwritten.saturating_sub(bytes);
    }

    /// Asks for a sign of life, if it is time.
    pub(crate) fn ping(&mut self, now: u64, every: u64) {
        if self.next_ping(every).is_some_and(|at| at <= now) {
            self.pinged = now;
            self.tell(&ToProgram::Ping { number: now });
        }
    }

    /// When the next PING is due. None for programs that cannot answer one.
    pub(crate) fn next_ping(&self, every: u64) -> Option<u64> {
        self.confirms().then(|| self.pinged.saturating_add(every))
    }

    /// Whether the program has given no sign of life for that long.
    pub(crate) fn is_silent(&self, now: u64, timeout: u64) -> bool {
        self.silent_at(timeout).is_some_and(|at| at < now)
    }

    /// When the program will have been silent for that long. None for programs that cannot answer a
    /// PING.
    pub(crate) fn silent_at(&self, timeout: u64) -> Option<u64> {
        self.confirms().then(|| self.heard.saturating_add(timeout))
    }

    /// Puts what is to be written among the outputs.
    pub(crate) fn flush(&mut self, outputs: &mut Vec<Output>) {
        if !self.out.is_empty() {
            let bytes = std::mem::take(&mut self.out);
            outputs.push(Output::Write { program: self.program, bytes });
        }
    }

    /// Says why, and closes.
    pub(crate) fn close(mut self, code: &str, text: &str, outputs: &mut Vec<Output>) {
        self.tell(&ToProgram::Error { code: code.into(), text: text.into() });
        self.flush(outputs);
        outputs.push(Output::Close { program: self.program });
    }
}
