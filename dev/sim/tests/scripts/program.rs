//! A program that handles whatever it is told, unless it hangs, and has no state.

use bytes::{Bytes, BytesMut};
use protocol::immortal::{
    Hello, Message, ToNode, ToProgram, VERSION, blocks, put_message, split_frame,
};

/// The longest frame that a node may send here.
const FRAME_BYTES_MAX: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Program {
    buffer: BytesMut,
    /// It answers pings, and never comes past its first input.
    hangs: bool,
    /// To whom it says something with each input.
    tells: Option<String>,
}

impl Program {
    pub(crate) fn that_hangs() -> Self {
        Self { hangs: true, ..Self::default() }
    }

    pub(crate) fn that_tells(destination: &str) -> Self {
        Self { tells: Some(destination.to_owned()), ..Self::default() }
    }

    /// What it says first.
    pub(crate) fn hello(instance: &str) -> Bytes {
        let instance = instance.to_owned();
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            instance,
            program_version: 0,
            upgrade_to: 0,
        };
        bytes_of(&[ToNode::Hello(hello)])
    }

    /// What it says to what the node tells it.
    pub(crate) fn told(&mut self, bytes: &[Bytes]) -> Bytes {
        bytes.iter().for_each(|bytes| self.buffer.extend_from_slice(bytes));
        let mut says = Vec::new();
        while let Some(frame) = split_frame(&mut self.buffer, FRAME_BYTES_MAX).expect("a frame") {
            match ToProgram::read(frame).expect("a frame that is known") {
                ToProgram::Genesis => says.extend([
                    ToNode::Initial(Bytes::new()),
                    ToNode::Checkpoint { request: 0 },
                    ToNode::CheckpointEnd { crc: 0 },
                ]),
                ToProgram::Deliver { first, blocks: all, .. } => {
                    let count: u64 =
                        blocks(all).map(|block| block.expect("a block").head.count).sum();
                    if let Some(destination) = self.tells.clone() {
                        let mut messages = Vec::new();
                        let payload = Bytes::from_static(b"hello");
                        put_message(&mut messages, &Message::Fork { method: 1, payload });
                        let messages = messages.into();
                        says.push(ToNode::Send { destination, count: 1, messages });
                    }
                    if !self.hangs {
                        says.push(ToNode::Done { input: first + count - 1 });
                    }
                }
                ToProgram::Ping { number } => says.push(ToNode::Pong { number }),
                _ => {}
            }
        }
        bytes_of(&says)
    }
}

fn bytes_of(frames: &[ToNode]) -> Bytes {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.put(&mut bytes));
    bytes.into()
}
