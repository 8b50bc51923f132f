//! The adapters: how an attached program speaks. The rest of the crate knows only frames of our own
//! protocol, so programs of both kinds are alike there.

use bytes::{Bytes, BytesMut};
use protocol::immortal::{Garbled, ToNode, ToProgram, split_frame, take_frame};

use crate::ambrosia::adapter::AmbrosiaAdapter;

/// The longest frame that a program may send. WELCOME says so.
pub const FRAME_BYTES_MAX: usize = 66 << 20;

/// The longest message that a program may send, so that it fits into a frame and an entry: 64 MiB,
/// and room for whatever stands before them.
pub const MESSAGE_BYTES_MAX: usize = 65 << 20;

/// The protocol of a program.
#[derive(Debug)]
pub enum Adapter {
    /// `api/immortal-protocol.md`.
    Native(NativeAdapter),
    /// The published protocol of AMBROSIA, on two TCP ports.
    Ambrosia(Box<AmbrosiaAdapter>),
}

/// Puts frames together from the bytes that the socket gives.
#[derive(Debug, Default)]
pub struct NativeAdapter {
    buffer: BytesMut,
}

impl Adapter {
    /// Whether the program says when it has handled an input.
    pub fn confirms(&self) -> bool {
        match self {
            Self::Native(_) => true,
            Self::Ambrosia(adapter) => adapter.confirms(),
        }
    }

    /// Whether a checkpoint was asked for and has not come as a whole. The adapter may have asked
    /// by itself. The program is told nothing before the whole checkpoint has come.
    pub(crate) fn is_taking_checkpoint(&self) -> bool {
        match self {
            Self::Native(_) => false,
            Self::Ambrosia(adapter) => adapter.is_taking_checkpoint(),
        }
    }

    /// The reason why the connection has to be closed, if there is one.
    pub(crate) fn why_close(&self) -> Option<String> {
        match self {
            Self::Native(_) => None,
            Self::Ambrosia(adapter) if adapter.is_ousted() => {
                Some("another replica is the primary now; start the program again".into())
            }
            Self::Ambrosia(adapter) => adapter.trouble().map(|trouble| trouble.0.clone()),
        }
    }

    /// # Errors
    /// When the program does not keep to the protocol.
    pub fn hear(&mut self, bytes: &Bytes, frames: &mut Vec<ToNode>) -> Result<(), Garbled> {
        match self {
            Self::Native(adapter) => adapter.hear(bytes, frames),
            Self::Ambrosia(adapter) => adapter.hear(bytes.clone(), frames),
        }
    }

    pub fn tell(&mut self, frame: &ToProgram, out: &mut Vec<Bytes>) {
        match self {
            Self::Native(_) => {
                out.extend(frame.pieces().into_iter().filter(|piece| !piece.is_empty()));
            }
            Self::Ambrosia(adapter) => adapter.tell(frame, out),
        }
    }
}

impl NativeAdapter {
    /// # Errors
    /// When there is no such frame, or it is too long.
    pub fn hear(&mut self, bytes: &Bytes, frames: &mut Vec<ToNode>) -> Result<(), Garbled> {
        let mut bytes = bytes.clone();
        // Whole frames are taken as they came. Only what is cut in two is copied together.
        while self.buffer.is_empty()
            && let Some(frame) = take_frame(&mut bytes, FRAME_BYTES_MAX)?
        {
            frames.push(ToNode::read(frame)?);
        }
        self.buffer.extend_from_slice(&bytes);
        while let Some(frame) = split_frame(&mut self.buffer, FRAME_BYTES_MAX)? {
            frames.push(ToNode::read(frame)?);
        }
        Ok(())
    }
}
