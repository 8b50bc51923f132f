//! Cuts the byte stream of an LB into messages. Any split of the stream gives the same messages.
//!
//! Memory is bounded: at most one message is collected. A batch is unpacked while it comes, and a
//! checkpoint is handed on in pieces.

use bytes::{Buf, Bytes, BytesMut};
use protocol::immortal::{Garbled, Taker};

use super::kind;
use super::rpc::{Outgoing, take_outgoing};

/// The longest message of an LB: 64 MiB, which AMBROSIA's own tests send, and room for the heads
/// that AMBROSIA and a binding put before them. A longer one ends the connection. A batch may be
/// longer, but no message in it.
pub const MESSAGE_BYTES_MAX: usize = (64 << 20) + (512 << 10);

/// The longest piece in which a checkpoint is handed on.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// The longest size before a message: 32 bits, seven in a byte.
const SIZE_BYTES_MAX: usize = 5;

/// A message of an LB, or a part of one.
#[derive(Debug)]
pub(super) enum Word {
    Rpc(Outgoing),
    /// The program will send to this instance. The core needs no announcement.
    AttachTo,
    TakeCheckpoint,
    Initial(Bytes),
    /// A checkpoint begins. Its pieces and its end follow.
    Checkpoint,
    Chunk(Bytes),
    CheckpointEnd,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Place {
    Message,
    /// Inside a batch: this many messages and bytes are to come.
    Batch {
        messages: u64,
        bytes: usize,
    },
    /// Inside a checkpoint: this many bytes are to come.
    Checkpoint {
        bytes: u64,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Decoder {
    /// The beginning of something whose end has not come.
    begun: BytesMut,
    /// How many bytes `begun` must have before it is worth a look.
    wanted: usize,
    place: Place,
}

/// The result of looking at the next bytes.
enum Next {
    Word(Word),
    /// Something was taken that is no message by itself.
    Nothing,
    /// This many bytes are needed, counted from the front.
    Wanted(usize),
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { begun: BytesMut::new(), wanted: 0, place: Place::Message }
    }

    /// Takes bytes, and gives each message to `each`.
    ///
    /// # Errors
    /// What was expected instead, or what `each` says.
    pub(super) fn hear(
        &mut self,
        bytes: Bytes,
        each: &mut impl FnMut(Word) -> Result<(), Garbled>,
    ) -> Result<(), Garbled> {
        let mut bytes = bytes;
        if !self.begun.is_empty() {
            self.begun.extend_from_slice(&bytes);
            if self.begun.len() < self.wanted {
                return Ok(());
            }
            bytes = self.begun.split().freeze();
        }
        loop {
            match self.next(&mut bytes)? {
                Next::Word(word) => each(word)?,
                Next::Nothing => {}
                Next::Wanted(wanted) => {
                    self.wanted = wanted;
                    self.begun = BytesMut::from(&bytes[..]);
                    return Ok(());
                }
            }
        }
    }

    fn next(&mut self, bytes: &mut Bytes) -> Result<Next, Garbled> {
        match self.place {
            Place::Message => self.message(bytes),
            Place::Batch { messages: 0, bytes: 0 } => {
                self.place = Place::Message;
                Ok(Next::Nothing)
            }
            Place::Batch { messages: 0, bytes } => Err(Garbled(format!(
                "a batch ends after its last message, not {bytes} bytes later"
            ))),
            Place::Batch { messages, bytes: left } => self.batched(bytes, messages, left),
            Place::Checkpoint { bytes: left } => Ok(self.piece(bytes, left)),
        }
    }

    fn message(&mut self, bytes: &mut Bytes) -> Result<Next, Garbled> {
        let Some((size, head)) = take_size(bytes)? else {
            return Ok(Next::Wanted(bytes.len() + 1));
        };
        let Some(&kind) = bytes.get(head) else { return Ok(Next::Wanted(head + 1)) };
        if kind == kind::RPC_BATCH || kind == kind::COUNT_REPLAYABLE_RPC_BATCH {
            return self.batch(bytes, size, head, kind);
        }
        let Some(body) = take_body(bytes, size, head)? else {
            return Ok(Next::Wanted(head + size));
        };
        let mut from = Taker::new(body);
        from.byte("the type of a message")?;
        let word = match kind {
            kind::RPC | kind::PING | kind::PING_RETURN => Word::Rpc(take_outgoing(kind, from)?),
            kind::ATTACH_TO => attach_to(from)?,
            kind::TAKE_CHECKPOINT => Word::TakeCheckpoint,
            kind::INITIAL_MESSAGE => Word::Initial(from.rest()),
            kind::CHECKPOINT => {
                self.place = Place::Checkpoint { bytes: take_checkpoint_size(from)? };
                Word::Checkpoint
            }
            other => return Err(Garbled(format!("no program sends a message of type {other}"))),
        };
        Ok(Next::Word(word))
    }

    /// The head of a batch: its type, a count, and in one kind a second count, which is not needed
    /// here.
    fn batch(
        &mut self,
        bytes: &mut Bytes,
        size: usize,
        head: usize,
        kind: u8,
    ) -> Result<Next, Garbled> {
        let counts = if kind == kind::RPC_BATCH { 1 } else { 2 };
        let longest = (1 + counts * SIZE_BYTES_MAX).min(size);
        if bytes.len() < head + longest {
            return Ok(Next::Wanted(head + longest));
        }
        let mut from = Taker::new(bytes.slice(head + 1..head + longest));
        let before = from.len();
        let messages = take_count(&mut from)?;
        if counts == 2 {
            take_count(&mut from)?;
        }
        let taken = 1 + before - from.len();
        bytes.advance(head + taken);
        self.place = Place::Batch { messages, bytes: size - taken };
        Ok(Next::Nothing)
    }

    fn batched(&mut self, bytes: &mut Bytes, messages: u64, left: usize) -> Result<Next, Garbled> {
        let Some((size, head)) = take_size(bytes)? else {
            return Ok(Next::Wanted(bytes.len() + 1));
        };
        let left = left
            .checked_sub(head + size)
            .ok_or_else(|| Garbled("a message that ends with its batch".to_owned()))?;
        let Some(body) = take_body(bytes, size, head)? else {
            return Ok(Next::Wanted(head + size));
        };
        self.place = Place::Batch { messages: messages - 1, bytes: left };
        let mut from = Taker::new(body);
        match from.byte("the type of a message")? {
            kind @ (kind::RPC | kind::PING | kind::PING_RETURN) => {
                Ok(Next::Word(Word::Rpc(take_outgoing(kind, from)?)))
            }
            other => Err(Garbled(format!("an RPC in a batch, not a message of type {other}"))),
        }
    }

    fn piece(&mut self, bytes: &mut Bytes, left: u64) -> Next {
        if left == 0 {
            self.place = Place::Message;
            return Next::Word(Word::CheckpointEnd);
        }
        if bytes.is_empty() {
            return Next::Wanted(1);
        }
        let most = bytes.len().min(CHUNK_BYTES_MAX);
        let piece = bytes.split_to(usize::try_from(left).map_or(most, |left| left.min(most)));
        self.place = Place::Checkpoint { bytes: left - piece.len() as u64 };
        Next::Word(Word::Chunk(piece))
    }
}

/// The size before a message, and how many bytes the size itself has, if all of it has come. It is
/// read in place because that is done for each message, and a [`Taker`] would hold on to the bytes
/// each time.
fn take_size(bytes: &[u8]) -> Result<Option<(usize, usize)>, Garbled> {
    let mut size = 0_u64;
    for (place, byte) in bytes.iter().take(SIZE_BYTES_MAX).enumerate() {
        size |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((checked_size(size)?, place + 1)));
        }
    }
    if bytes.len() < SIZE_BYTES_MAX {
        return Ok(None);
    }
    Err(Garbled("the size of a message is longer than 32 bits".to_owned()))
}

/// The size is encoded in zigzag form, although it is never negative.
fn checked_size(zigzag: u64) -> Result<usize, Garbled> {
    let size = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
    match i32::try_from(size).ok().and_then(|size| usize::try_from(size).ok()) {
        Some(size) if size > 0 => Ok(size),
        _ => Err(Garbled(format!("a message of one byte or more, not {size}"))),
    }
}

/// Takes a message with its size from the front, if all of it has come.
fn take_body(bytes: &mut Bytes, size: usize, head: usize) -> Result<Option<Bytes>, Garbled> {
    if size > MESSAGE_BYTES_MAX {
        let most = MESSAGE_BYTES_MAX;
        return Err(Garbled(format!("a message of at most {most} bytes, not {size}")));
    }
    if bytes.len() < head + size {
        return Ok(None);
    }
    bytes.advance(head);
    Ok(Some(bytes.split_to(size)))
}

fn take_count(from: &mut Taker) -> Result<u64, Garbled> {
    let count = from.signed("the count of a batch")?;
    u64::try_from(count).map_err(|_| Garbled(format!("a batch of {count} messages")))
}

fn attach_to(from: Taker) -> Result<Word, Garbled> {
    match std::str::from_utf8(&from.rest()) {
        Ok(_) => Ok(Word::AttachTo),
        Err(_) => Err(Garbled::expected("the name of an instance in UTF-8")),
    }
}

/// The size of the checkpoint that follows. AMBROSIA's coordinator reads a varint. Its C client
/// writes 8 fixed bytes, as the document can be understood. A varint of 8 bytes would mean 250 TB
/// or more, so there is no doubt which of the two is meant.
fn take_checkpoint_size(mut from: Taker) -> Result<u64, Garbled> {
    const FIXED_BYTES: usize = 8;
    let size = if from.len() == FIXED_BYTES {
        let low = from.fixed_u32("the size of a checkpoint")?;
        let high = from.fixed_u32("the size of a checkpoint")?;
        (u64::from(high) << 32 | u64::from(low)).cast_signed()
    } else {
        from.signed("the size of a checkpoint")?
    };
    u64::try_from(size).map_err(|_| Garbled(format!("a checkpoint of {size} bytes")))
}
