//! A program that has the handlers of a kind, and answers when a script says so.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use protocol::immortal::split_frame;
use protocol::service::{Call, FromNode, FromProgram, Handler, Has, Serve, VERSION};

/// The longest frame that a node may send here.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A program that answers when a script says so.
#[derive(Default)]
pub(crate) struct Copy {
    buffer: BytesMut,
    /// What it was asked and has not answered.
    pub(crate) calls: Vec<(u64, Call)>,
}

impl Copy {
    /// What it says first.
    pub(crate) fn serve(factory: &str) -> Bytes {
        bytes_of(&FromProgram::Serve(Serve {
            version_min: VERSION,
            version_max: VERSION,
            factory: factory.to_owned(),
            program_version: String::new(),
            calls_max: 8,
            has: Has { handlers: [Handler::Patch].into(), actions: BTreeSet::new() },
        }))
    }

    /// What it says at once to what the node tells it.
    pub(crate) fn told(&mut self, bytes: &[Bytes]) -> Bytes {
        bytes.iter().for_each(|bytes| self.buffer.extend_from_slice(bytes));
        let mut says = Vec::new();
        while let Some(frame) = split_frame(&mut self.buffer, FRAME_BYTES_MAX).expect("a frame") {
            match FromNode::read(frame).expect("a frame that is known") {
                FromNode::Call { number, call } => self.calls.push((number, call)),
                FromNode::Ping { number } => FromProgram::Pong { number }.put(&mut says),
                FromNode::Welcome { .. } => {}
                FromNode::Error { code, text } => panic!("{code}: {text}"),
            }
        }
        says.into()
    }
}

pub(crate) fn bytes_of(frame: &FromProgram) -> Bytes {
    let mut bytes = Vec::new();
    frame.put(&mut bytes);
    bytes.into()
}
