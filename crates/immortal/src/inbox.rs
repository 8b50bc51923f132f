//! What was read from the node and is not handled yet, and who reads it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};

use bytes::BytesMut;
use protocol::immortal::{HELLO_BYTES_MAX, ToNode, ToProgram, split_frame};

use crate::impulses::Impulses;
use crate::link::{Broken, Link};

/// At most this much waits for the handlers beside the node's own window; then nothing more is
/// read.
const INBOX_BYTES_MAX: usize = 64 << 20;

/// A node that allows less is not taken at its word.
const FRAME_BYTES_MIN: usize = 1 << 10;

const READ_BYTES: usize = 256 << 10;

/// Reads frames until the connection ends, and says why it did. What has to be quick is done at
/// once, also while a handler is busy: a PING is answered, the fate of an impulse told.
pub(crate) fn read_frames(link: &Link, inbox: &Inbox, impulses: &Impulses) -> Broken {
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = BytesMut::new();
    let mut frame_bytes_max = HELLO_BYTES_MAX;
    loop {
        match link.read(&mut buffer) {
            Ok(0) => return Broken("the node has closed the connection".into()),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Broken(format!("cannot read from the node: {error}")),
        }
        loop {
            let frame = match split_frame(&mut bytes, frame_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(garbled) => return Broken(format!("the node sent garbage: {garbled}")),
            };
            let length = frame.len();
            let frame = match ToProgram::read(frame) {
                Ok(frame) => frame,
                Err(garbled) => return Broken(format!("the node sent garbage: {garbled}")),
            };
            if let ToProgram::Welcome(welcome) = &frame {
                frame_bytes_max = limit(welcome.frame_bytes_max);
            }
            if let Err(broken) = sort(link, frame, length, inbox, impulses) {
                return broken;
            }
        }
    }
}

fn sort(
    link: &Link,
    frame: ToProgram,
    length: usize,
    inbox: &Inbox,
    impulses: &Impulses,
) -> Result<(), Broken> {
    match frame {
        ToProgram::Ping { number } => link.write_frame(&ToNode::Pong { number })?,
        ToProgram::Fate { number, fate, input } => impulses.told(number, fate, input),
        ToProgram::Credit { destination, bytes } => impulses.credit(destination, bytes),
        other => inbox.put(other, length),
    }
    Ok(())
}

/// The longest frame as the node told it, if it is told something that one can live with.
pub(crate) fn limit(told: u64) -> usize {
    usize::try_from(told).unwrap_or(usize::MAX).clamp(FRAME_BYTES_MIN, u32::MAX as usize)
}

/// The frames that were read and not handled yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    came: Condvar,
    room: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<ToProgram>,
    bytes: usize,
    /// Nothing more comes after the frames.
    over: Option<Broken>,
    /// Nobody will take them any more.
    closed: bool,
}

impl Inbox {
    fn put(&self, frame: ToProgram, length: usize) {
        let mut queue = self.queue();
        while queue.bytes >= INBOX_BYTES_MAX && !queue.closed {
            queue = self.room.wait(queue).expect("no one panics while holding it");
        }
        queue.bytes += length;
        queue.frames.push_back(frame);
        self.came.notify_one();
    }

    pub(crate) fn end(&self, why: Broken) {
        self.queue().over = Some(why);
        self.came.notify_one();
    }

    pub(crate) fn close(&self) {
        self.queue().closed = true;
        self.room.notify_all();
    }

    /// All that has come, at least one frame; into an empty queue, whose memory is used again.
    pub(crate) fn take(&self, into: &mut VecDeque<ToProgram>) -> Result<(), Broken> {
        let mut queue = self.queue();
        loop {
            if !queue.frames.is_empty() {
                std::mem::swap(&mut queue.frames, into);
                queue.bytes = 0;
                self.room.notify_one();
                return Ok(());
            }
            if let Some(over) = &queue.over {
                return Err(over.clone());
            }
            queue = self.came.wait(queue).expect("no one panics while holding it");
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no one panics while holding it")
    }
}
