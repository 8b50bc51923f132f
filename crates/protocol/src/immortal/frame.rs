//! The frames of both directions (section 3 of the page).

use bytes::{Buf, Bytes, BytesMut};

use super::bytes_of::{Garbled, Taker, put_number, put_text};
use super::kinds::Status;
use crate::{Moment, Term};

/// The version of the protocol that is spoken here.
pub const VERSION: u64 = 1;

/// The first text in a HELLO.
pub const MAGIC: &str = "amrita-immortal";

/// The length of a frame, in bytes, before it.
pub const FRAME_HEAD_BYTES: usize = 4;

/// The longest frame before WELCOME has told the limit.
pub const HELLO_BYTES_MAX: usize = 64 << 10;

/// The first frame of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub version_min: u64,
    pub version_max: u64,
    pub instance: String,
    pub program_version: u64,
    /// The version that this program can turn its state into; the same when it cannot.
    pub upgrade_to: u64,
}

/// The first frame of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub version: u64,
    pub node: String,
    /// The number of the replica, from 0.
    pub replica: u64,
    pub frame_bytes_max: u64,
    pub window_bytes: u64,
    pub state_version: u64,
}

/// What became of an impulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Logged = 0,
    /// Surely not logged.
    Lost = 1,
    Unknown = 2,
}

/// What a program says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToNode {
    Hello(Hello),
    /// `count` messages; an empty destination is the program's own instance.
    Send {
        destination: String,
        count: u64,
        messages: Bytes,
    },
    /// `due` None: a side effect.
    Await {
        id: u64,
        due: Option<Moment>,
    },
    Cancel {
        id: u64,
    },
    Done {
        input: u64,
    },
    Impulse {
        number: u64,
        destination: String,
        message: Bytes,
    },
    Result {
        id: u64,
        status: Status,
        payload: Bytes,
    },
    Checkpoint {
        request: u64,
    },
    Chunk(Bytes),
    CheckpointEnd {
        crc: u32,
    },
    Initial(Bytes),
    AskCheckpoint,
    Pong {
        number: u64,
    },
    Fault {
        input: u64,
        text: String,
    },
}

/// What a node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToProgram {
    Welcome(Welcome),
    Genesis,
    Load {
        input: u64,
        bytes: u64,
    },
    Chunk(Bytes),
    LoadEnd {
        crc: u32,
    },
    /// Inputs from `first` on, all of the same time.
    Deliver {
        first: u64,
        time: Moment,
        blocks: Bytes,
    },
    EndOfReplay {
        input: u64,
    },
    Primary {
        term: Term,
    },
    Standby,
    TakeCheckpoint {
        request: u64,
    },
    Fate {
        number: u64,
        fate: Fate,
        input: u64,
    },
    Credit {
        destination: String,
        bytes: u64,
    },
    Ping {
        number: u64,
    },
    Error {
        code: String,
        text: String,
    },
}

/// Takes the next whole frame (type and body) from the front, if it has come.
///
/// # Errors
/// When it is empty or longer than `bytes_max`.
pub fn split_frame(from: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, Garbled> {
    let Some(length) = length_of_first(from, bytes_max)? else { return Ok(None) };
    if from.len() < FRAME_HEAD_BYTES + length {
        from.reserve(FRAME_HEAD_BYTES + length - from.len());
        return Ok(None);
    }
    from.advance(FRAME_HEAD_BYTES);
    Ok(Some(from.split_to(length).freeze()))
}

/// The same from bytes that are not added to.
///
/// # Errors
/// When it is empty or longer than `bytes_max`.
pub fn take_frame(from: &mut Bytes, bytes_max: usize) -> Result<Option<Bytes>, Garbled> {
    match length_of_first(from, bytes_max)? {
        Some(length) if from.len() >= FRAME_HEAD_BYTES + length => {
            from.advance(FRAME_HEAD_BYTES);
            Ok(Some(from.split_to(length)))
        }
        _ => Ok(None),
    }
}

fn length_of_first(bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, Garbled> {
    let Some(head) = bytes.first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
    if length == 0 || length > bytes_max {
        return Err(Garbled(format!("a frame of 1 to {bytes_max} bytes, not {length}")));
    }
    Ok(Some(length))
}

/// A frame begins: its type stands after room for the length.
pub(crate) fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    out.push(kind);
    at
}

/// The length is known now.
///
/// # Panics
/// When the frame is over 4 GiB, which no limit allows.
pub(crate) fn end(out: &mut [u8], at: usize) {
    put_length(out, at, 0);
}

/// That many bytes more are to follow.
fn put_length(out: &mut [u8], at: usize, more: usize) {
    let length = out.len() - at - FRAME_HEAD_BYTES + more;
    let length = u32::try_from(length).expect("a frame is under 4 GiB");
    out[at..at + FRAME_HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
}

impl ToNode {
    /// Writes the frame with its length.
    pub fn put(&self, out: &mut Vec<u8>) {
        let at = begin(out, self.kind());
        match self {
            Self::Hello(hello) => put_hello(out, hello),
            Self::Send { destination, count, messages } => {
                put_text(out, destination);
                put_number(out, *count);
                out.extend_from_slice(messages);
            }
            Self::Await { id, due } => {
                put_number(out, *id);
                put_number(out, due.map_or(0, |due| due.0));
            }
            Self::Cancel { id } => put_number(out, *id),
            Self::Done { input } => put_number(out, *input),
            Self::Impulse { number, destination, message } => {
                put_number(out, *number);
                put_text(out, destination);
                out.extend_from_slice(message);
            }
            Self::Result { id, status, payload } => {
                put_number(out, *id);
                out.push(*status as u8);
                out.extend_from_slice(payload);
            }
            Self::Checkpoint { request } => put_number(out, *request),
            Self::Chunk(bytes) | Self::Initial(bytes) => out.extend_from_slice(bytes),
            Self::CheckpointEnd { crc } => out.extend_from_slice(&crc.to_le_bytes()),
            Self::AskCheckpoint => {}
            Self::Pong { number } => put_number(out, *number),
            Self::Fault { input, text } => {
                put_number(out, *input);
                put_text(out, text);
            }
        }
        end(out, at);
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 0x01,
            Self::Send { .. } => 0x02,
            Self::Await { .. } => 0x03,
            Self::Cancel { .. } => 0x04,
            Self::Done { .. } => 0x05,
            Self::Impulse { .. } => 0x06,
            Self::Result { .. } => 0x07,
            Self::Checkpoint { .. } => 0x08,
            Self::Chunk(_) => 0x09,
            Self::CheckpointEnd { .. } => 0x0a,
            Self::Initial(_) => 0x0b,
            Self::AskCheckpoint => 0x0c,
            Self::Pong { .. } => 0x0d,
            Self::Fault { .. } => 0x0e,
        }
    }

    /// Reads a frame that [`split_frame`] gave.
    ///
    /// # Errors
    /// What was expected in it.
    pub fn read(frame: Bytes) -> Result<Self, Garbled> {
        let mut from = Taker::new(frame);
        let kind = from.byte("the type of a frame")?;
        let said = match kind {
            0x01 => Self::Hello(take_hello(&mut from)?),
            0x02 => Self::Send {
                destination: from.text("a destination")?,
                count: from.number("a count")?,
                messages: from.take_rest(),
            },
            0x03 => Self::Await { id: from.number("an id")?, due: take_due(&mut from)? },
            0x04 => Self::Cancel { id: from.number("an id")? },
            0x05 => Self::Done { input: from.number("an input")? },
            0x06 => Self::Impulse {
                number: from.number("the number of an impulse")?,
                destination: from.text("a destination")?,
                message: from.take_rest(),
            },
            0x07 => Self::Result {
                id: from.number("an id")?,
                status: Status::from_byte(from.byte("a status")?)?,
                payload: from.take_rest(),
            },
            0x08 => Self::Checkpoint { request: from.number("a request")? },
            0x09 => Self::Chunk(from.take_rest()),
            0x0a => Self::CheckpointEnd { crc: from.fixed_u32("a checksum")? },
            0x0b => Self::Initial(from.take_rest()),
            0x0c => Self::AskCheckpoint,
            0x0d => Self::Pong { number: from.number("a number")? },
            0x0e => Self::Fault { input: from.number("an input")?, text: from.text("a text")? },
            other => return Err(Garbled(format!("no program sends a frame of type {other:#04x}"))),
        };
        // Only before a version is agreed on may more be said than the other end knows.
        if !matches!(said, Self::Hello(_)) {
            check_end(kind, &from)?;
        }
        Ok(said)
    }
}

/// What stands behind the last field is not known, and would be passed over.
pub(crate) fn check_end(kind: u8, from: &Taker) -> Result<(), Garbled> {
    match from.len() {
        0 => Ok(()),
        more => Err(Garbled(format!(
            "the end of the frame of type {kind:#04x} after its last field, not {more} bytes more"
        ))),
    }
}

fn put_hello(out: &mut Vec<u8>, hello: &Hello) {
    put_text(out, MAGIC);
    put_number(out, hello.version_min);
    put_number(out, hello.version_max);
    put_text(out, &hello.instance);
    put_number(out, hello.program_version);
    put_number(out, hello.upgrade_to);
}

fn take_hello(from: &mut Taker) -> Result<Hello, Garbled> {
    if from.text("the word amrita-immortal")? != MAGIC {
        return Err(Garbled(format!("the word {MAGIC} at the beginning")));
    }
    Ok(Hello {
        version_min: from.number("the lowest version")?,
        version_max: from.number("the highest version")?,
        instance: from.text("the name of an instance")?,
        program_version: from.number("a program version")?,
        upgrade_to: from.number("a program version")?,
    })
}

fn take_due(from: &mut Taker) -> Result<Option<Moment>, Garbled> {
    let due = from.number("a time")?;
    Ok((due > 0).then_some(Moment(due)))
}

impl ToProgram {
    /// Writes the frame with its length.
    pub fn put(&self, out: &mut Vec<u8>) {
        let at = out.len();
        let rest = self.put_front(out);
        out.extend_from_slice(&rest);
        end(out, at);
    }

    /// The frame with its length, in pieces: what may be long is shared, and not copied.
    pub fn pieces(&self) -> [Bytes; 2] {
        let mut front = Vec::with_capacity(64);
        let rest = self.put_front(&mut front);
        put_length(&mut front, 0, rest.len());
        [front.into(), rest]
    }

    /// Writes the frame without its length, and gives the bytes that end it.
    fn put_front(&self, out: &mut Vec<u8>) -> Bytes {
        begin(out, self.kind());
        match self {
            Self::Welcome(welcome) => put_welcome(out, welcome),
            Self::Genesis | Self::Standby => {}
            Self::Load { input, bytes } => {
                put_number(out, *input);
                put_number(out, *bytes);
            }
            Self::Chunk(bytes) => return bytes.clone(),
            Self::LoadEnd { crc } => out.extend_from_slice(&crc.to_le_bytes()),
            Self::Deliver { first, time, blocks } => {
                put_number(out, *first);
                put_number(out, time.0);
                return blocks.clone();
            }
            Self::EndOfReplay { input } => put_number(out, *input),
            Self::Primary { term } => put_number(out, term.0),
            Self::TakeCheckpoint { request } => put_number(out, *request),
            Self::Fate { number, fate, input } => {
                put_number(out, *number);
                out.push(*fate as u8);
                put_number(out, *input);
            }
            Self::Credit { destination, bytes } => {
                put_text(out, destination);
                put_number(out, *bytes);
            }
            Self::Ping { number } => put_number(out, *number),
            Self::Error { code, text } => {
                put_text(out, code);
                put_text(out, text);
            }
        }
        Bytes::new()
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Welcome(_) => 0x81,
            Self::Genesis => 0x82,
            Self::Load { .. } => 0x83,
            Self::Chunk(_) => 0x84,
            Self::LoadEnd { .. } => 0x85,
            Self::Deliver { .. } => 0x86,
            Self::EndOfReplay { .. } => 0x87,
            Self::Primary { .. } => 0x88,
            Self::Standby => 0x89,
            Self::TakeCheckpoint { .. } => 0x8a,
            Self::Fate { .. } => 0x8b,
            Self::Credit { .. } => 0x8c,
            Self::Ping { .. } => 0x8d,
            Self::Error { .. } => 0xff,
        }
    }

    /// Reads a frame that [`split_frame`] gave.
    ///
    /// # Errors
    /// What was expected in it.
    pub fn read(frame: Bytes) -> Result<Self, Garbled> {
        let mut from = Taker::new(frame);
        let kind = from.byte("the type of a frame")?;
        let said = match kind {
            0x81 => Self::Welcome(take_welcome(&mut from)?),
            0x82 => Self::Genesis,
            0x83 => Self::Load { input: from.number("an input")?, bytes: from.number("a length")? },
            0x84 => Self::Chunk(from.take_rest()),
            0x85 => Self::LoadEnd { crc: from.fixed_u32("a checksum")? },
            0x86 => Self::Deliver {
                first: from.number("an input")?,
                time: Moment(from.number("a time")?),
                blocks: from.take_rest(),
            },
            0x87 => Self::EndOfReplay { input: from.number("an input")? },
            0x88 => Self::Primary { term: Term(from.number("a term")?) },
            0x89 => Self::Standby,
            0x8a => Self::TakeCheckpoint { request: from.number("a request")? },
            0x8b => Self::Fate {
                number: from.number("the number of an impulse")?,
                fate: match from.byte("a fate")? {
                    0 => Fate::Logged,
                    1 => Fate::Lost,
                    _ => Fate::Unknown,
                },
                input: from.number("an input")?,
            },
            0x8c => Self::Credit {
                destination: from.text("a destination")?,
                bytes: from.number("a number of bytes")?,
            },
            0x8d => Self::Ping { number: from.number("a number")? },
            0xff => Self::Error { code: from.text("a code")?, text: from.text("a text")? },
            other => return Err(Garbled(format!("no node sends a frame of type {other:#04x}"))),
        };
        if !matches!(said, Self::Welcome(_) | Self::Error { .. }) {
            check_end(kind, &from)?;
        }
        Ok(said)
    }
}

fn put_welcome(out: &mut Vec<u8>, welcome: &Welcome) {
    put_number(out, welcome.version);
    put_text(out, &welcome.node);
    put_number(out, welcome.replica);
    put_number(out, welcome.frame_bytes_max);
    put_number(out, welcome.window_bytes);
    put_number(out, welcome.state_version);
}

fn take_welcome(from: &mut Taker) -> Result<Welcome, Garbled> {
    Ok(Welcome {
        version: from.number("a version")?,
        node: from.text("the name of a node")?,
        replica: from.number("the number of a replica")?,
        frame_bytes_max: from.number("the longest frame")?,
        window_bytes: from.number("the window")?,
        state_version: from.number("a program version")?,
    })
}
