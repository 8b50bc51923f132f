//! What the fuzz targets do, run briefly with a seed: bytes at random, and damaged bytes of the
//! kind that is expected.

#[path = "../../../dev/fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a library for the targets, and a module here")]
mod fuzz;

use bytes::Bytes;
use protocol::immortal::{
    BlockHead, Fate, Hello, Message, SourceKind, Status, ToNode, ToProgram, Welcome,
    put_block_head, put_message,
};
use protocol::service::{self, Call, FromNode, FromProgram, Handler, Has, Serve};
use protocol::{Moment, Term};
use random::Random;

const ROUNDS: usize = 20_000;

fn byte(random: &mut Random) -> u8 {
    // Small numbers are types, kinds and lengths: they lead further.
    let most = if random.one_in(2) { 16 } else { 256 };
    u8::try_from(random.below(most)).expect("it is below 256")
}

fn bytes(random: &mut Random, most: usize) -> Vec<u8> {
    (0..random.index(most)).map(|_| byte(random)).collect()
}

/// A few bytes are changed, added or taken away.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.below(4) {
        let at = random.index(bytes.len() + 1);
        match random.below(4) {
            0 => bytes.insert(at, byte(random)),
            1 => bytes.truncate(at),
            _ if at < bytes.len() => bytes[at] = byte(random),
            _ => {}
        }
    }
}

fn inputs() -> Vec<Vec<u8>> {
    let payload = Bytes::from_static(b"payload");
    let inputs = [
        Message::Fork { method: -300, payload: payload.clone() },
        Message::Call { id: 1, method: 1, payload: payload.clone() },
        Message::Answer { id: 300, status: Status::Error, payload: payload.clone() },
        Message::Impulse { method: 1 << 40, payload: payload.clone() },
        Message::Start { payload: payload.clone() },
        Message::Timer { id: 1 },
        Message::Result { id: 1, status: Status::Value, payload },
        Message::Upgrade { version: 5 },
        Message::Skipped,
    ];
    let mut all = Vec::new();
    for message in &inputs {
        let mut bytes = Vec::new();
        put_message(&mut bytes, message);
        all.push(bytes);
    }
    all
}

fn a_block(kind: SourceKind, inputs: &[Vec<u8>]) -> Vec<u8> {
    let bytes = inputs.concat();
    let count = inputs.len() as u64;
    let mut block = Vec::new();
    let head = BlockHead { kind, name: "client".to_owned(), first: 1, count };
    put_block_head(&mut block, &head, bytes.len());
    block.extend(bytes);
    block
}

fn frames_of_programs() -> Vec<Vec<u8>> {
    let hello = Hello {
        version_min: 1,
        version_max: 300,
        instance: "server".to_owned(),
        program_version: 3,
        upgrade_to: 4,
    };
    let messages = Bytes::from(inputs().concat());
    let message = Bytes::from(inputs()[3].clone());
    let destination = "client".to_owned();
    let payload = Bytes::from_static(b"payload");
    let frames = [
        ToNode::Hello(hello),
        ToNode::Send { destination: destination.clone(), count: 9, messages },
        ToNode::Await { id: 1, due: Some(Moment(1 << 50)) },
        ToNode::Cancel { id: 1 },
        ToNode::Done { input: 300 },
        ToNode::Impulse { number: 1, destination, message },
        ToNode::Result { id: 1, status: Status::Value, payload: payload.clone() },
        ToNode::Checkpoint { request: 1 },
        ToNode::Chunk(payload.clone()),
        ToNode::CheckpointEnd { crc: 0xdead_beef },
        ToNode::Initial(payload),
        ToNode::AskCheckpoint,
        ToNode::Pong { number: 1 },
        ToNode::Fault { input: 1, text: "text".to_owned() },
    ];
    let put = |frame: &ToNode| {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        bytes
    };
    frames.iter().map(put).collect()
}

fn frames_of_nodes() -> Vec<Vec<u8>> {
    let welcome = Welcome {
        version: 1,
        node: "node".to_owned(),
        replica: 1,
        frame_bytes_max: 1 << 20,
        window_bytes: 1 << 20,
        state_version: 3,
    };
    let blocks =
        [a_block(SourceKind::Instance, &inputs()[..3]), a_block(SourceKind::Node, &inputs()[4..])];
    let state = Bytes::from_static(b"123456789");
    let frames = [
        ToProgram::Welcome(welcome),
        ToProgram::Genesis,
        ToProgram::Load { input: 1, bytes: 9 },
        ToProgram::Chunk(state),
        ToProgram::LoadEnd { crc: 0xcbf4_3926 },
        ToProgram::Deliver { first: 2, time: Moment(1), blocks: blocks.concat().into() },
        ToProgram::EndOfReplay { input: 9 },
        ToProgram::Primary { term: Term(1) },
        ToProgram::TakeCheckpoint { request: 1 },
        ToProgram::Standby,
        ToProgram::Fate { number: 1, fate: Fate::Unknown, input: 0 },
        ToProgram::Credit { destination: "client".to_owned(), bytes: 1 },
        ToProgram::Ping { number: 1 },
        ToProgram::Error { code: "STOPPING".to_owned(), text: String::new() },
    ];
    let put = |frame: &ToProgram| {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        bytes
    };
    frames.iter().map(put).collect()
}

/// Messages of a language binding.
fn words() -> Vec<Vec<u8>> {
    [
        &b"\x1e\x00\x0aother\x00\x03\x01hello"[..],
        b"\x0e\x00\x00\x00\x02\x02key",
        b"\x1c\x00\x00\x00\x02\x00\x0cserver\x06v",
        b"\x1c\x00\x02a\x01\x0cserver\x06vvv",
        b"\x02\x02",
        b"\x0c\x01other",
        b"\x0e\x09\x0ahello",
        b"\x04\x08\x06abc",
        b"\x16\x05\x04\x08\x00\x00\x00\x02\x08\x00\x00\x00",
        b"\x10\x0d\x02\x02\x08\x00\x00\x00\x02",
        b"\x10\x06\x02a\x00\x02\x01tt",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Runs a target with bytes at random, and with a few of the parts in a row, damaged.
fn run(target: fn(&[u8]), parts: &[Vec<u8>]) {
    let mut random = Random::of_seed(1);
    for round in 0..ROUNDS {
        let mut bytes = match round % 4 {
            0 => bytes(&mut random, 200),
            _ => (0..=random.below(6)).flat_map(|_| random.pick(parts).clone()).collect(),
        };
        damage(&mut random, &mut bytes);
        target(&bytes);
    }
}

#[test]
fn frames_of_programs_are_read_or_refused() {
    run(fuzz::to_node, &frames_of_programs());
}

#[test]
fn frames_of_nodes_are_read_or_refused() {
    run(fuzz::to_program, &frames_of_nodes());
}

/// Frames of both ends of the service protocol.
fn frames_of_services() -> Vec<Vec<u8>> {
    let json = || Bytes::from_static(b"{\"row\":\"A\"}");
    let call = Call {
        handler: Handler::Action,
        action: "hold".into(),
        link: "/app/seats/A1".into(),
        version: 300,
        time: Moment(1 << 50),
        user: "/core/authz/users/jane".into(),
        before: json(),
        after: Bytes::new(),
        body: json(),
    };
    let serve = Serve {
        version_min: 2,
        version_max: 2,
        factory: "/app/seats".into(),
        program_version: "2".into(),
        calls_max: 8,
        has: Has { handlers: Handler::VERBS.into(), actions: ["hold".to_owned()].into() },
    };
    let refused = service::Answer::Refused { status: 409, message: "no".into() };
    let answers = [
        service::Answer::State(json()),
        service::Answer::AsItIs,
        refused,
        service::Answer::Failed { message: "KeyError".into() },
    ];
    let answers = answers.into_iter().map(|answer| FromProgram::Answer { call: 300, answer });
    let said = answers.chain([FromProgram::Serve(serve), FromProgram::Leave]);
    let told = [
        FromNode::Welcome { version: 1, node: "n1".into(), frame_bytes_max: 9 << 20 },
        FromNode::Call { number: 300, call },
        FromNode::Ping { number: 1 },
        FromNode::Error { code: "LATE".into(), text: "late".into() },
    ];
    let mut all = Vec::new();
    for frame in said {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        all.push(bytes);
    }
    for frame in &told {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        all.push(bytes);
    }
    all
}

#[test]
fn frames_of_services_are_read_or_refused() {
    run(fuzz::of_services, &frames_of_services());
}

#[test]
fn inputs_are_read_or_refused() {
    let mut parts = inputs();
    parts.push(a_block(SourceKind::Instance, &inputs()));
    parts.push(a_block(SourceKind::Impulses, &inputs()[3..4]));
    run(fuzz::inputs, &parts);
}

#[test]
fn ambrosias_door_survives_what_it_hears_and_is_told() {
    let step = |what: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).expect("a part is short");
        [&[what, length], bytes].concat()
    };
    let mut parts: Vec<Vec<u8>> = words().iter().map(|word| step(1, word)).collect();
    // Without the length of the frame, which the adapter never sees.
    parts.extend(frames_of_nodes().iter().map(|frame| step(0, &frame[4..])));
    // So that not all of it ends at the first frame: three ways to begin.
    let nodes = frames_of_nodes();
    let load: Vec<u8> = nodes[2..5].iter().flat_map(|frame| step(0, &frame[4..])).collect();
    let primary = [&load[..], &step(0, &nodes[7][4..])].concat();
    let genesis = step(0, &nodes[1][4..]);
    let mut random = Random::of_seed(2);
    for _ in 0..ROUNDS {
        let begin = [&b""[..], &load, &primary, &genesis][random.index(4)];
        let mut bytes = vec![byte(&mut random)];
        bytes.extend_from_slice(begin);
        for _ in 0..random.below(12) {
            let mut part = random.pick(&parts).clone();
            if random.one_in(4) {
                damage(&mut random, &mut part);
            }
            bytes.extend(part);
        }
        fuzz::ambrosia_door(&bytes);
    }
    run(fuzz::ambrosia_door, &parts);
}
