//! The doors: how an attached program speaks. Behind them all programs are alike.

use bytes::{Bytes, BytesMut};
use protocol::immortal::{Garbled, ToNode, ToProgram, split_frame, take_frame};

use crate::ambrosia::AmbrosiaAdapter;

/// The longest frame of a program, told in WELCOME.
pub const FRAME_BYTES_MAX: usize = 17 << 20;

/// The longest message, so that it fits into a frame and an entry.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// How a program speaks.
#[derive(Debug)]
pub enum Adapter {
    /// `api/immortal-protocol.md`.
    Native(NativeAdapter),
    /// The published protocol of AMBROSIA, on two ports.
    Ambrosia(Box<AmbrosiaAdapter>),
}

/// Puts frames together from what the socket gives.
#[derive(Debug, Default)]
pub struct NativeAdapter {
    buffer: BytesMut,
}

impl Adapter {
    /// Whether the program says when it has handled an input.
    pub fn confirms(&self) -> bool {
        match self {
            Self::Native(_) => true,
            Self::Ambrosia(door) => door.confirms(),
        }
    }

    /// Whether the door waits for a checkpoint, asked for by whomever. The program is told nothing
    /// before all of it has come.
    pub(crate) fn is_taking_checkpoint(&self) -> bool {
        match self {
            Self::Native(_) => false,
            Self::Ambrosia(door) => door.is_taking_checkpoint(),
        }
    }

    /// Why the connection cannot go on, if that is so.
    pub(crate) fn why_close(&self) -> Option<String> {
        match self {
            Self::Native(_) => None,
            Self::Ambrosia(door) if door.is_ousted() => {
                Some("another replica is the primary now; start the program again".into())
            }
            Self::Ambrosia(door) => door.trouble().map(|trouble| trouble.0.clone()),
        }
    }

    /// # Errors
    /// When the program does not keep to the protocol.
    pub fn hear(&mut self, bytes: &Bytes, said: &mut Vec<ToNode>) -> Result<(), Garbled> {
        match self {
            Self::Native(door) => door.hear(bytes, said),
            Self::Ambrosia(door) => door.hear(bytes.clone(), said),
        }
    }

    pub fn tell(&mut self, frame: &ToProgram, out: &mut Vec<Bytes>) {
        match self {
            Self::Native(_) => {
                out.extend(frame.pieces().into_iter().filter(|piece| !piece.is_empty()));
            }
            Self::Ambrosia(door) => door.tell(frame, out),
        }
    }
}

impl NativeAdapter {
    /// # Errors
    /// When there is no such frame, or it is too long.
    pub fn hear(&mut self, bytes: &Bytes, said: &mut Vec<ToNode>) -> Result<(), Garbled> {
        let mut bytes = bytes.clone();
        // Whole frames are taken as they came; only what is cut in two is put together.
        while self.buffer.is_empty()
            && let Some(frame) = take_frame(&mut bytes, FRAME_BYTES_MAX)?
        {
            said.push(ToNode::read(frame)?);
        }
        self.buffer.extend_from_slice(&bytes);
        while let Some(frame) = split_frame(&mut self.buffer, FRAME_BYTES_MAX)? {
            said.push(ToNode::read(frame)?);
        }
        Ok(())
    }
}
