//! What the fuzz targets do with bytes: decode them, and look whether what comes out holds
//! together. Both doors of the immortals are here, our own and AMBROSIA's. A panic is a finding.

use bytes::{Bytes, BytesMut};
use immortals::ambrosia::{AmbrosiaAdapter, AmbrosiaOptions, CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX};
use protocol::immortal::{
    HELLO_BYTES_MAX, ToNode, ToProgram, blocks, count_messages, messages, put_block_head,
    put_message, skip_messages, split_frame,
};
use protocol::service::{FromNode, FromProgram};

/// Frames of programs: what can be read is written and read again, and is the same.
pub fn to_node(bytes: &[u8]) {
    for frame in frames(bytes) {
        let Ok(said) = ToNode::read(frame) else { continue };
        let mut again = Vec::new();
        said.put(&mut again);
        let again = split_frame(&mut BytesMut::from(&again[..]), usize::MAX);
        let again = again.expect("a frame that was written").expect("it is whole");
        assert_eq!(ToNode::read(again), Ok(said.clone()));
        if let ToNode::Send { messages, .. } = said {
            inputs(&messages);
        }
    }
}

/// The same for frames of nodes.
pub fn to_program(bytes: &[u8]) {
    for frame in frames(bytes) {
        let Ok(said) = ToProgram::read(frame) else { continue };
        let mut again = Vec::new();
        said.put(&mut again);
        let again = split_frame(&mut BytesMut::from(&again[..]), usize::MAX);
        let again = again.expect("a frame that was written").expect("it is whole");
        assert_eq!(ToProgram::read(again), Ok(said.clone()));
        if let ToProgram::Deliver { blocks, .. } = said {
            inputs(&blocks);
        }
    }
}

/// The same for frames of the service protocol, of either end.
pub fn of_services(bytes: &[u8]) {
    let again = |written: Vec<u8>| {
        let again = split_frame(&mut BytesMut::from(&written[..]), usize::MAX);
        again.expect("a frame that was written").expect("it is whole")
    };
    for frame in frames(bytes) {
        let mut written = Vec::new();
        if let Ok(said) = FromProgram::read(frame.clone()) {
            said.put(&mut written);
            assert_eq!(FromProgram::read(again(written)), Ok(said));
        } else if let Ok(said) = FromNode::read(frame) {
            said.put(&mut written);
            assert_eq!(FromNode::read(again(written)), Ok(said));
        }
    }
}

/// Blocks of inputs, and messages.
pub fn inputs(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    for block in blocks(bytes.clone()) {
        let Ok(block) = block else { break };
        let mut again = Vec::new();
        put_block_head(&mut again, &block.head, block.messages.len());
        again.extend_from_slice(&block.messages);
        let read = blocks(again.into()).next();
        assert_eq!(read, Some(Ok(block.clone())));
        check_messages(&block.messages);
    }
    check_messages(&bytes);
}

fn check_messages(bytes: &Bytes) {
    let mut found = 0;
    for message in messages(bytes.clone()) {
        let Ok(message) = message else { break };
        found += 1;
        let mut again = Vec::new();
        put_message(&mut again, &message);
        assert_eq!(messages(again.into()).next(), Some(Ok(message)));
        assert!(skip_messages(bytes, found).is_ok());
    }
    // A message may be cut well and say nothing: those are counted, not read.
    if let Ok(count) = count_messages(bytes) {
        assert!(count >= found);
        assert!(skip_messages(bytes, count).is_ok_and(|rest| rest.is_empty()));
        assert!(skip_messages(bytes, count + 1).is_err());
    }
}

fn frames(bytes: &[u8]) -> Vec<Bytes> {
    let mut stream = BytesMut::from(bytes);
    let mut found = vec![Bytes::copy_from_slice(bytes)];
    while let Ok(Some(frame)) = split_frame(&mut stream, HELLO_BYTES_MAX) {
        found.push(frame);
    }
    found
}

/// AMBROSIA's door. The bytes are a script: the first one says how the door is made, then each step
/// has a head of two bytes, what to do and with how many of the bytes that follow it.
pub fn ambrosia_door(bytes: &[u8]) {
    let Some((&how, mut script)) = bytes.split_first() else { return };
    let options = AmbrosiaOptions {
        instance: "server".to_owned(),
        active_active: how & 1 == 1,
        committer_id: 7,
        program_version: 3,
        upgrade_to: 3 + u64::from(how & 2),
    };
    let mut door = AmbrosiaAdapter::new(options);
    if how & 4 > 0 {
        door = door.test_upgrade();
    }
    while let [step, length, rest @ ..] = script {
        let (part, after) = rest.split_at(usize::from(*length).min(rest.len()));
        script = after;
        match step & 3 {
            0 => tell(&mut door, part),
            // A stream that is cut: several steps are one message.
            _ => hear(&mut door, Bytes::copy_from_slice(part)),
        }
    }
    hear(&mut door, Bytes::copy_from_slice(script));
}

fn hear(door: &mut AmbrosiaAdapter, bytes: Bytes) {
    let mut said = Vec::new();
    let heard = door.hear(bytes, &mut said);
    assert_eq!(heard.err().as_ref(), door.trouble());
    for frame in said {
        match frame {
            ToNode::Chunk(piece) => assert!((1..=CHUNK_BYTES_MAX).contains(&piece.len())),
            ToNode::Initial(payload) => assert!(payload.len() < MESSAGE_BYTES_MAX),
            ToNode::Send { messages: sent, count, .. } => {
                assert_eq!(messages(sent).filter(Result::is_ok).count() as u64, count);
            }
            ToNode::Impulse { message, .. } => assert_eq!(count_messages(&message), Ok(1)),
            _ => {}
        }
    }
}

/// A step of the core: one of a few frames, or whatever the bytes are.
fn tell(door: &mut AmbrosiaAdapter, bytes: &[u8]) {
    let Ok(frame) = ToProgram::read(Bytes::copy_from_slice(bytes)) else { return };
    let mut out = Vec::new();
    door.tell(&frame, &mut out);
    assert!(out.iter().all(|bytes| !bytes.is_empty()));
}
