//! RPCs in both directions: what an LB sends as messages of ours, and messages of ours as an LB
//! reads them.

use bytes::Bytes;
use protocol::immortal::{Garbled, Message, Status, Taker, put_number, put_signed};

use super::kind;

/// A Ping travels between programs as a FORK with this method number, and with all that followed
/// the destination as its payload. AMBROSIA's own method numbers have 32 bits, so no program can
/// have this one by accident.
pub const PING_METHOD: i64 = -0x1_0000_0006;

/// The same for a PingReturn.
pub const PING_RETURN_METHOD: i64 = -0x1_0000_0007;

/// The return type of an RPC that returns nothing. An RPC with another type carries the return
/// value of a call.
const RETURNS_NOTHING: u8 = 0;

const ASYNC: u8 = 0;
const FORK: u8 = 1;
const IMPULSE: u8 = 2;

/// What an LB sends to an instance. Whoever needs the name as a text checks it.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) destination: Bytes,
    pub(super) message: Message,
}

/// Reads the data of an RPC, Ping or PingReturn.
pub(super) fn take_outgoing(kind: u8, mut from: Taker) -> Result<Outgoing, Garbled> {
    let destination = take_name(&mut from, "the destination of an RPC")?;
    let message = match kind {
        kind::PING => Message::Fork { method: PING_METHOD, payload: from.rest() },
        kind::PING_RETURN => Message::Fork { method: PING_RETURN_METHOD, payload: from.rest() },
        _ => take_rpc(from)?,
    };
    Ok(Outgoing { destination, message })
}

fn take_rpc(mut from: Taker) -> Result<Message, Garbled> {
    match from.byte("the return type of an RPC")? {
        RETURNS_NOTHING => take_call(from),
        status => {
            let status = Status::from_byte(status)?;
            // The name of whoever returns the value is not needed: the value comes from this very
            // program.
            take_name(&mut from, "the sender of a return value")?;
            let id = take_sequence(&mut from)?;
            Ok(Message::Answer { id, status, payload: from.rest() })
        }
    }
}

fn take_call(mut from: Taker) -> Result<Message, Garbled> {
    let method = from.signed("the method of an RPC")?;
    if i32::try_from(method).is_err() {
        return Err(Garbled(format!("a method of 32 bits, not {method}")));
    }
    match from.byte("the type of an RPC")? {
        ASYNC => {
            take_name(&mut from, "the sender of a call")?;
            let id = take_sequence(&mut from)?;
            Ok(Message::Call { id, method, payload: from.rest() })
        }
        FORK => Ok(Message::Fork { method, payload: from.rest() }),
        IMPULSE => Ok(Message::Impulse { method, payload: from.rest() }),
        other => Err(Garbled(format!("an RPC of type 0, 1 or 2, not {other}"))),
    }
}

fn take_name(from: &mut Taker, what: &str) -> Result<Bytes, Garbled> {
    let length = from.signed(what)?;
    let length = u64::try_from(length).map_err(|_| Garbled::expected(what))?;
    from.bytes(length, what)
}

fn take_sequence(from: &mut Taker) -> Result<u64, Garbled> {
    Ok(from.signed("the sequence number of a call")?.cast_unsigned())
}

/// Writes a message as the LB reads it. False when AMBROSIA has no such message, or no such method.
pub(super) fn put_incoming(out: &mut Vec<u8>, sender: &str, message: &Message) -> bool {
    let mut head = Vec::with_capacity(32);
    let payload = match message {
        Message::Fork { method: PING_METHOD, payload } => {
            head.push(kind::PING);
            payload
        }
        Message::Fork { method: PING_RETURN_METHOD, payload } => {
            head.push(kind::PING_RETURN);
            payload
        }
        Message::Fork { method, payload } if is_method(*method) => {
            put_call(&mut head, *method, FORK);
            payload
        }
        Message::Impulse { method, payload } if is_method(*method) => {
            put_call(&mut head, *method, IMPULSE);
            payload
        }
        Message::Call { id, method, payload } if is_method(*method) => {
            put_call(&mut head, *method, ASYNC);
            put_sender(&mut head, sender, *id);
            payload
        }
        Message::Answer { id, status, payload } => {
            head.extend([kind::RPC, *status as u8]);
            put_sender(&mut head, sender, *id);
            payload
        }
        Message::Start { payload } => {
            head.push(kind::INITIAL_MESSAGE);
            payload
        }
        _ => return false,
    };
    put_size(out, head.len() + payload.len());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    true
}

/// AMBROSIA's generated dispatchers pass over a method that they do not know. A number that does
/// not even fit into the message is passed over here.
fn is_method(method: i64) -> bool {
    i32::try_from(method).is_ok()
}

fn put_call(head: &mut Vec<u8>, method: i64, rpc: u8) {
    head.extend([kind::RPC, RETURNS_NOTHING]);
    put_signed(head, method);
    head.push(rpc);
}

fn put_sender(head: &mut Vec<u8>, sender: &str, id: u64) {
    put_size(head, sender.len());
    head.extend_from_slice(sender.as_bytes());
    put_signed(head, id.cast_signed());
}

/// A size is a signed number that is never negative: its zigzag form is its double.
pub(super) fn put_size(out: &mut Vec<u8>, size: usize) {
    put_number(out, size as u64 * 2);
}
