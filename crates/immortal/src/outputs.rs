//! What a program says, gathered into frames in the order in which it was said.
//!
//! Messages to one destination that follow each other share one SEND. They are never put in another
//! order: what a program says must not depend on how its inputs were cut into frames.

use bytes::Bytes;
use protocol::Moment;
use protocol::immortal::{Status, ToNode, put_answer, put_call, put_fork, put_number, put_text};

use crate::link::{Broken, Link};

/// So much is gathered before it is written out in the middle of a frame of inputs, and no SEND is
/// much longer.
pub(crate) const FLUSH_BYTES: usize = 64 << 10;

/// Room for the head of a SEND beside its messages.
const SEND_HEAD_BYTES: usize = 64;

pub(crate) struct Outputs {
    link: Link,
    frame_bytes_max: usize,
    /// Whole frames.
    frames: Vec<u8>,
    /// The SEND that is open: where to, and its messages.
    destination: String,
    count: u64,
    messages: Vec<u8>,
    /// Reused for each message's arguments.
    scratch: Vec<u8>,
    /// Nothing can be written any more. Found out by the session at the end of the frame.
    broken: Option<Broken>,
}

impl Outputs {
    pub(crate) fn new(link: Link, frame_bytes_max: usize) -> Self {
        Self {
            link,
            frame_bytes_max,
            frames: Vec::with_capacity(2 * FLUSH_BYTES),
            destination: String::new(),
            count: 0,
            messages: Vec::with_capacity(2 * FLUSH_BYTES),
            scratch: Vec::new(),
            broken: None,
        }
    }

    /// An empty buffer to write arguments into; to be given back.
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch
    }

    pub(crate) fn give_scratch(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }

    pub(crate) fn fork(&mut self, to: &str, method: i64, payload: &[u8]) {
        self.open(to, payload.len());
        put_fork(&mut self.messages, method, payload);
    }

    pub(crate) fn call(&mut self, to: &str, id: u64, method: i64, payload: &[u8]) {
        self.open(to, payload.len());
        put_call(&mut self.messages, id, method, payload);
    }

    pub(crate) fn answer(&mut self, to: &str, id: u64, status: Status, payload: &[u8]) {
        self.open(to, payload.len());
        put_answer(&mut self.messages, id, status, payload);
    }

    pub(crate) fn wait_for(&mut self, id: u64, due: Option<Moment>) {
        self.frame(&ToNode::Await { id, due });
    }

    pub(crate) fn cancel(&mut self, id: u64) {
        self.frame(&ToNode::Cancel { id });
    }

    /// A frame after all that was said so far.
    pub(crate) fn frame(&mut self, frame: &ToNode) {
        self.close();
        frame.put(&mut self.frames);
    }

    /// A part of a checkpoint.
    pub(crate) fn chunk(&mut self, bytes: Bytes) -> Result<(), Broken> {
        self.frame(&ToNode::Chunk(bytes));
        self.flush()
    }

    /// One chunk may be so long.
    pub(crate) fn chunk_bytes(&self) -> usize {
        FLUSH_BYTES.min(self.frame_bytes_max - SEND_HEAD_BYTES)
    }

    /// Writes everything out.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        self.close();
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        self.link.write(&mut self.frames)
    }

    /// A message of this many bytes to this destination comes next.
    ///
    /// # Panics
    /// When it is longer than a frame may be: a mistake of the handler, and told as one.
    fn open(&mut self, to: &str, payload: usize) {
        let length = payload + to.len() + SEND_HEAD_BYTES;
        assert!(
            length <= self.frame_bytes_max,
            "a message of {payload} bytes is too long: a frame has at most {} bytes",
            self.frame_bytes_max
        );
        let is_full = self.messages.len() + length > self.chunk_bytes() && self.count > 0;
        if is_full || self.destination != to {
            self.close();
            self.destination.clear();
            self.destination.push_str(to);
        }
        self.count += 1;
    }

    /// Ends the SEND that is open. A broken connection is noticed here and told at the next flush,
    /// so that no handler has to deal with it.
    fn close(&mut self) {
        if self.count == 0 {
            return;
        }
        let start = self.frames.len();
        self.frames.extend_from_slice(&[0; 4]);
        self.frames.push(SEND);
        put_text(&mut self.frames, &self.destination);
        put_number(&mut self.frames, self.count);
        self.frames.extend_from_slice(&self.messages);
        let length = u32::try_from(self.frames.len() - start - 4).expect("a SEND is under 4 GiB");
        self.frames[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.messages.clear();
        self.count = 0;
        if self.broken.is_some() {
            self.frames.clear();
        } else if self.frames.len() >= FLUSH_BYTES {
            self.broken = self.link.write(&mut self.frames).err();
        }
    }
}

/// The type of a SEND.
const SEND: u8 = 0x02;
