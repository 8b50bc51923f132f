//! The immortal protocol: what a program and the node beside it say to one another. The page is
//! `api/immortal-protocol.md`; this is its codec, used by both ends.
//!
//! [`ToNode`] and [`ToProgram`] are frames. The inputs in a [`ToProgram::Deliver`] and the outputs
//! in a [`ToNode::Send`] stay bytes: a node passes them on, and only a program looks into them
//! ([`blocks`], [`messages`], or [`View`] when it has to be fast).

mod bytes_of;
mod frame;
mod kinds;
mod message;
mod view;

pub use bytes_of::{Garbled, Taker, put_number, put_signed, put_text};
pub use frame::{
    FRAME_HEAD_BYTES, Fate, HELLO_BYTES_MAX, Hello, MAGIC, ToNode, ToProgram, VERSION, Welcome,
    split_frame, take_frame,
};
pub(crate) use frame::{begin, check_end, end};
pub use kinds::{SourceKind, Status};
pub use message::{
    Block, BlockHead, Blocks, Message, Messages, blocks, count_messages, messages, put_block_head,
    put_message, skip_messages,
};
pub use view::{BlockView, MessageView, View, put_answer, put_call, put_fork, put_impulse};
