//! What goes over the wire, frame by frame, also when a program, its node or the bytes between them
//! are damaged.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use immortal::testing::{
    Attached, Checkpoint, FakeNode, Input, Message, Output, SourceKind, ToNode, ToProgram,
};
use immortal::{Context, Fate, Immortal, Impulses, Incoming, Moment, Options, RunError, run_with};
use serde::{Deserialize, Serialize};

use crate::bank::{BankProxy, Vault};

fn fork(number: u64, method: i64, payload: &str) -> Input {
    let message = Message::Fork { method, payload: payload.as_bytes().to_vec().into() };
    Input { kind: SourceKind::Instance, name: "client".into(), number, message }
}

fn deliver(attached: &mut Attached, first: u64, inputs: &[Input]) -> Vec<Output> {
    attached.deliver(first, Moment(5), inputs);
    attached.done(first + inputs.len() as u64 - 1)
}

fn bank() -> (FakeNode, Attached, Checkpoint) {
    let node = FakeNode::start("bank", Vault::default);
    let mut attached = node.accept();
    let (first, initial) = attached.genesis();
    assert!(initial.is_empty());
    (node, attached, first)
}

#[test]
fn a_program_that_is_cut_off_anywhere_comes_back_and_goes_on_from_the_checkpoint() {
    let (node, mut attached, first) = bank();
    let inputs: Vec<Input> = (1..=20).map(|n| fork(n, 9, &format!("[{n}]"))).collect();
    let expected = deliver(&mut attached, 1, &inputs);
    let state = attached.checkpoint();
    let mut bytes = Vec::new();
    let length = first.bytes.len() as u64;
    ToProgram::Load { input: 0, bytes: length }.put(&mut bytes);
    ToProgram::Chunk(first.bytes.clone().into()).put(&mut bytes);
    for cut in 0..bytes.len() {
        drop(attached);
        attached = node.accept();
        attached.send_bytes(&bytes[..cut]);
    }
    for at in 0..inputs.len() {
        drop(attached);
        attached = node.accept();
        attached.load(&first);
        let said = deliver(&mut attached, 1, &inputs[..=at]);
        assert_eq!(said, expected[..said.len()]);
        // Cut off in the middle of the next frame.
        attached.send_bytes(&[200, 0, 0, 0, 0x86, 5]);
    }
    drop(attached);
    let mut attached = node.accept();
    attached.load(&first);
    assert_eq!(deliver(&mut attached, 1, &inputs), expected);
    assert_eq!(attached.checkpoint(), state);
}

#[test]
fn a_ping_is_answered_while_a_handler_is_busy() {
    let (_node, mut attached, _) = bank();
    attached.deliver(1, Moment(5), &[fork(1, 12, "[1500]")]);
    let begun = Instant::now();
    attached.send(&ToProgram::Ping { number: 5 });
    assert_eq!(attached.frame(), Some(ToNode::Pong { number: 5 }));
    assert!(begun.elapsed() < Duration::from_millis(1_400), "{:?}", begun.elapsed());
    assert_eq!(attached.frame(), Some(ToNode::Done { input: 1 }));
}

#[test]
fn a_handler_that_panics_is_a_fault_and_a_few_are_the_end() {
    let (node, mut attached, first) = bank();
    for time in 0..3 {
        attached.deliver(1, Moment(5), &[fork(1, 1, "[4]"), fork(2, 11, r#"["oh no"]"#)]);
        let fault = ToNode::Fault { input: 2, text: "oh no".into() };
        assert_eq!(attached.frame(), Some(fault));
        assert_eq!(attached.frame(), None);
        if time < 2 {
            attached = node.accept();
            attached.load(&first);
        }
    }
    let ended = node.ended();
    assert_eq!(ended, Err(RunError::Fault { input: 2, text: "oh no".into() }));
    let text = ended.unwrap_err().to_string();
    assert_eq!(text, "the program failed 3 times at input 2: oh no");
}

#[test]
fn a_damaged_checkpoint_is_a_fault_and_the_next_one_is_taken() {
    let (node, mut attached, _) = bank();
    deliver(&mut attached, 1, &[fork(1, 1, "[4]")]);
    let good = attached.checkpoint();
    drop(attached);
    let mut attached = node.accept();
    let mut bad = good.bytes.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    attached.send(&ToProgram::Load { input: 1, bytes: bad.len() as u64 });
    attached.send(&ToProgram::Chunk(bad.into()));
    let mut whole = Vec::new();
    let crc = crc_of(&good.bytes);
    ToProgram::LoadEnd { crc }.put(&mut whole);
    attached.send_bytes(&whole);
    let fault = format!("{:?}", attached.frame());
    assert!(fault.contains("the checkpoint is damaged"), "{fault}");
    let mut attached = node.accept();
    attached.load(&good);
    assert_eq!(attached.checkpoint(), good);
}

/// The checksum as the page says it: CRC-32 of IEEE, bit by bit.
fn crc_of(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

#[test]
fn a_checkpoint_of_another_program_is_a_fault() {
    let (node, attached, _) = bank();
    drop(attached);
    let mut attached = node.accept();
    attached.load(&Checkpoint { input: 3, bytes: b"nothing of the kind".to_vec() });
    let fault = format!("{:?}", attached.frame());
    assert!(fault.contains("input: 3") && fault.contains("not this program's state"), "{fault}");
}

#[test]
fn inputs_out_of_their_order_are_not_taken() {
    let (_node, mut attached, _) = bank();
    deliver(&mut attached, 1, &[fork(1, 1, "[4]")]);
    attached.deliver(3, Moment(5), &[fork(2, 1, "[4]")]);
    let text = "input 2 was expected, and 3 came".to_owned();
    assert_eq!(attached.frame(), Some(ToNode::Fault { input: 1, text }));
}

#[test]
fn what_a_program_says_does_not_depend_on_how_its_inputs_are_cut() {
    let (node, mut attached, first) = bank();
    // Forks to itself and to another one, calls and timers, in turns.
    let inputs: Vec<Input> = (1..=40)
        .map(|n| match n % 4 {
            0 => fork(n, 5, r#"["x",9]"#),
            1 => fork(n, 9, "[1]"),
            2 => fork(n, 7, r#"["other",5]"#),
            _ => fork(n, 6, "[]"),
        })
        .collect();
    let whole = deliver(&mut attached, 1, &inputs);
    drop(attached);
    let mut attached = node.accept();
    attached.load(&first);
    let mut parts = Vec::new();
    for (place, input) in inputs.iter().enumerate() {
        parts.extend(deliver(&mut attached, place as u64 + 1, std::slice::from_ref(input)));
    }
    assert_eq!(whole, parts);
    let count = |name: &str| {
        parts.iter().filter(|part| matches!(part, Output::Message { to, .. } if to == name)).count()
    };
    assert_eq!((count(""), count("log"), count("other")), (10, 20, 10));
}

#[test]
fn a_state_of_many_chunks_goes_out_and_comes_back() {
    #[derive(Serialize, Deserialize)]
    struct Big(Vec<String>);
    impl Immortal for Big {
        type Next = ();
        type Effect = ();
        fn handle(&mut self, _: &mut Context<'_, Self>, incoming: Incoming<'_>) {
            self.0.push(format!("{}", incoming.method));
        }
    }
    let node = FakeNode::start("big", || Big((0..60_000).map(|n| format!("text {n}")).collect()));
    let mut attached = node.accept();
    let (first, _) = attached.genesis();
    assert!(first.bytes.len() > 600_000);
    deliver(&mut attached, 1, &[fork(1, 5, "[]")]);
    let second = attached.checkpoint();
    drop(attached);
    let mut attached = node.accept();
    attached.load(&second);
    assert_eq!(attached.checkpoint(), second);
    // A state may come at any time, also an older one.
    attached.load(&first);
    deliver(&mut attached, 1, &[fork(1, 5, "[]")]);
    assert_eq!(attached.checkpoint(), second);
}

#[test]
fn a_message_that_is_too_long_is_a_fault_of_its_handler() {
    #[derive(Serialize, Deserialize)]
    struct Loud;
    impl Immortal for Loud {
        type Next = ();
        type Effect = ();
        fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
            let length = usize::try_from(incoming.method).unwrap();
            context.fork("x", 1, &vec![7; length]);
        }
    }
    let node = FakeNode::start("loud", || Loud);
    let mut attached = node.accept();
    attached.genesis();
    let said = deliver(&mut attached, 1, &[fork(1, 1_000_000, ""), fork(2, 10, "")]);
    assert_eq!(said.len(), 2);
    attached.deliver(3, Moment(5), &[fork(3, 2_000_000, "")]);
    let fault = format!("{:?}", attached.frame());
    assert!(fault.contains("a message of 2000000 bytes is too long"), "{fault}");
}

#[test]
fn impulses_are_told_their_fate() {
    let (node, mut attached, _) = bank();
    let impulses = node.impulses().clone();
    deliver(&mut attached, 1, &[fork(1, 6, "[]")]);
    let first = attached.checkpoint();
    assert_eq!(BankProxy::me().deposit(1).impulse(&impulses), Fate::Lost, "no primary yet");
    attached.end_of_replay();
    attached.primary(1);
    assert!(impulses.wait_until_primary(Duration::from_secs(5)));
    let tickets: Vec<_> = (1..=3).map(|n| BankProxy::me().deposit(n).post(&impulses)).collect();
    for number in 1..=3 {
        let ToNode::Impulse { number: told, destination, .. } = attached.aside() else {
            panic!("an impulse")
        };
        assert_eq!((told, destination.as_str()), (number, ""));
    }
    attached.send(&ToProgram::Credit { destination: "other".into(), bytes: 77 });
    attached.fate(2, immortal::testing::Told::Lost, 0);
    attached.fate(1, immortal::testing::Told::Logged, 9);
    let mut tickets = tickets.into_iter();
    assert_eq!(tickets.next().unwrap().wait(), Fate::Logged { input: 9 });
    assert_eq!(tickets.next().unwrap().wait(), Fate::Lost);
    assert_eq!(impulses.room("other"), Some(77));
    drop(attached);
    assert_eq!(tickets.next().unwrap().wait(), Fate::Unknown);
    let mut attached = node.accept();
    attached.load(&first);
    attached.end_of_replay();
    assert!(!impulses.is_primary());
    // Numbers begin again with each connection.
    attached.primary(2);
    assert!(impulses.wait_until_primary(Duration::from_secs(5)));
    let ticket = BankProxy::me().deposit(1).post(&impulses);
    assert!(matches!(attached.aside(), ToNode::Impulse { number: 1, .. }));
    attached.standby();
    attached.fate(1, immortal::testing::Told::Logged, 5);
    assert_eq!(ticket.wait(), Fate::Logged { input: 5 }, "told also after its term");
}

#[test]
fn a_source_that_is_told_that_there_is_no_room_waits_until_there_is() {
    const LONG: Duration = Duration::from_secs(5);
    let (node, mut attached, _) = bank();
    let impulses = node.impulses().clone();
    deliver(&mut attached, 1, &[fork(1, 6, "[]")]);
    attached.end_of_replay();
    attached.primary(1);
    assert!(impulses.wait_until_primary(LONG));
    assert!(impulses.wait_for_room("other", LONG), "nothing was said against it");
    let credit = |bytes| ToProgram::Credit { destination: "other".into(), bytes };
    let ticket = impulses.post("other", 1, b"[1]");
    assert!(matches!(attached.aside(), ToNode::Impulse { .. }));
    attached.send(&credit(0));
    attached.fate(1, immortal::testing::Told::Lost, 0);
    assert_eq!(ticket.wait(), Fate::Lost);
    assert!(!impulses.wait_for_room("other", Duration::from_millis(20)));
    let waits = {
        let impulses = impulses.clone();
        std::thread::spawn(move || impulses.wait_for_room("other", LONG))
    };
    attached.send(&credit(2 << 20));
    assert!(waits.join().unwrap());
    assert_eq!(impulses.room("other"), Some(2 << 20));
    // Another term begins without such words.
    attached.send(&credit(0));
    attached.standby();
    attached.primary(2);
    assert!(impulses.wait_for_room("other", LONG));
}

#[test]
fn impulses_of_many_threads_go_out_in_order_while_handlers_talk() {
    const THREADS: u64 = 4;
    const EACH: u64 = 1_000;
    let (node, mut attached, _) = bank();
    deliver(&mut attached, 1, &[fork(1, 6, "[]")]);
    attached.primary(1);
    assert!(node.impulses().wait_until_primary(Duration::from_secs(5)));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let impulses = node.impulses().clone();
            std::thread::spawn(move || {
                let tickets: Vec<_> =
                    (0..EACH).map(|n| BankProxy::me().deposit(n).post(&impulses)).collect();
                tickets.into_iter().map(|ticket| ticket.wait()).collect::<Vec<_>>()
            })
        })
        .collect();
    for input in 2..200 {
        deliver(&mut attached, input, &[fork(input, 9, "[1]")]);
    }
    for number in 1..=THREADS * EACH {
        let ToNode::Impulse { number: told, .. } = attached.aside() else { panic!("an impulse") };
        assert_eq!(told, number);
        attached.fate(number, immortal::testing::Told::Logged, 1_000 + number);
    }
    let fates: BTreeSet<u64> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .map(|fate| match fate {
            Fate::Logged { input } => input,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(fates.len() as u64, THREADS * EACH);
}

#[test]
fn an_impulse_from_a_handler_is_a_fault() {
    static TRIED: AtomicBool = AtomicBool::new(false);
    #[derive(Serialize, Deserialize, Default)]
    struct Wrong {
        #[serde(skip)]
        impulses: Impulses,
    }
    impl Immortal for Wrong {
        type Next = ();
        type Effect = ();
        fn handle(&mut self, _: &mut Context<'_, Self>, _: Incoming<'_>) {
            TRIED.store(true, Ordering::SeqCst);
            drop(self.impulses.post("", 1, b"[]"));
        }
    }
    let node = FakeNode::start("wrong", Wrong::default);
    let mut attached = node.accept();
    attached.genesis();
    attached.deliver(1, Moment(5), &[fork(1, 1, "")]);
    let fault = format!("{:?}", attached.frame());
    assert!(fault.contains("from a handler") && TRIED.load(Ordering::SeqCst), "{fault}");
}

#[test]
fn effects_of_a_dead_primary_are_done_by_the_next_one() {
    let (node, mut attached, _) = bank();
    // A standby does nothing outside.
    let said = deliver(&mut attached, 1, &[fork(1, 8, r#"["silver"]"#)]);
    assert_eq!(said, [Output::Await { id: 1, due: None }]);
    let state = attached.checkpoint();
    assert!(attached.aside_now().is_none());
    drop(attached);
    let mut attached = node.accept();
    attached.load(&state);
    attached.end_of_replay();
    attached.primary(3);
    assert!(matches!(attached.aside(), ToNode::Result { id: 1, .. }));
}

#[test]
fn the_node_s_last_word_decides_whether_to_come_again() {
    for (code, comes_again) in [
        ("RELOAD", true),
        ("STOPPING", true),
        ("ATTACHED", true),
        ("UNKNOWN_INSTANCE", false),
        ("VERSION", false),
        ("DIVERGED", false),
        ("HELD", false),
        ("DETACHED", false),
        ("BAD_FRAME", false),
        ("PROGRAM_VERSION", false),
        ("SOMETHING_NEW", false),
    ] {
        let node = FakeNode::start("bank", Vault::default);
        let mut attached = node.accept_silently();
        attached.send(&ToProgram::Error { code: code.into(), text: "so it is".into() });
        if comes_again {
            node.accept();
            continue;
        }
        let text = "so it is".to_owned();
        assert_eq!(node.ended(), Err(RunError::Refused { code: code.into(), text }), "{code}");
    }
}

#[test]
fn a_program_that_stops_itself_ends_well() {
    let (node, attached, _) = bank();
    node.impulses().stop();
    assert_eq!(node.ended(), Ok(()));
    drop(attached);
}

#[test]
fn garbage_from_a_node_ends_the_connection_and_no_more() {
    let (node, mut attached, first) = bank();
    for garbage in [
        &[0, 0, 0, 0][..],
        &[255, 255, 255, 255, 1],
        &[1, 0, 0, 0, 0x42],
        &[2, 0, 0, 0, 0x86, 0x80],
        &[5, 0, 0, 0, 0x86, 1, 1, 9, 9],
        &[1, 0, 0, 0, 0x84],
    ] {
        attached.send_bytes(garbage);
        assert_eq!(attached.frame(), None, "{garbage:x?}");
        attached = node.accept();
        attached.load(&first);
    }
    deliver(&mut attached, 1, &[fork(1, 1, "[4]")]);
}

/// Runs a bank that is given this address.
fn run_bank(node: String, give_up: Duration) -> std::thread::JoinHandle<Result<(), RunError>> {
    std::thread::spawn(move || {
        let options = Options::new(&node, "bank").expect("an address").give_up_after(give_up);
        run_with(&options, Vault::default, &Impulses::default())
    })
}

#[test]
fn a_unix_socket_is_found_in_the_sandbox() {
    let sandbox = tempfile::tempdir().unwrap();
    let socket = UnixListener::bind(sandbox.path().join("immortals.sock")).unwrap();
    let bank = run_bank(sandbox.path().display().to_string(), Duration::from_millis(50));
    let mut attached = Attached::new(socket.accept().unwrap().0);
    assert_eq!(attached.hello().instance, "bank");
    attached.welcome();
    attached.genesis();
    drop((attached, socket));
    let Err(RunError::Unreachable(why)) = bank.join().unwrap() else { panic!("it must give up") };
    assert!(why.contains("nobody listens") && why.contains("immortals.sock"), "{why}");
}

#[test]
fn an_http_port_is_upgraded_and_its_refusals_are_understood() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let node = format!("http://{}", listener.local_addr().unwrap());
    let bank = run_bank(node, Duration::from_secs(20));
    let head = |socket: &mut std::net::TcpStream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    };
    let (mut socket, _) = listener.accept().unwrap();
    let asked = head(&mut socket);
    assert!(asked.starts_with("GET /core/immortals/bank/attach HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nUpgrade: amrita-immortal\r\n"), "{asked}");
    socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").unwrap();
    let mut hello = [0; 5];
    socket.read_exact(&mut hello).unwrap();
    assert_eq!(hello[4], 1, "a HELLO follows");
    drop(socket);
    let (mut socket, _) = listener.accept().unwrap();
    head(&mut socket);
    let body = r#"{"code":"UNKNOWN_INSTANCE","message":"there is no 'bank'"}"#;
    let length = body.len();
    let answer = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {length}\r\n\r\n{body}");
    socket.write_all(answer.as_bytes()).unwrap();
    drop(socket);
    let (code, text) = ("UNKNOWN_INSTANCE".into(), "there is no 'bank'".into());
    assert_eq!(bank.join().unwrap(), Err(RunError::Refused { code, text }));
}
