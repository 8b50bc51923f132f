//! What programs and people may do wrong with immortals: each has its code and its words, and the
//! node serves on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use protocol::immortal::ToNode;
use serde_json::json;

use crate::cluster::{Cluster, free_ports};
use crate::http::Ask;
use crate::native::{Native, hello};
use crate::programs::{amrita, instance, register, role, wait_until_served};

#[test]
fn programs_that_are_wrong_are_turned_away_with_words() {
    let cluster = Cluster::started(2);
    register(&cluster, "server", &json!({ "replicas": ["n1"], "currentVersion": 3 }));
    let (here, there) = (&cluster.member(0).sandbox, &cluster.member(1).sandbox);
    let refused = |program: &mut Native, code: &str, words: &str| {
        let (found, text) = program.hear_refusal();
        assert_eq!(found, code, "{text}");
        assert!(text.contains(words), "{code}: {text}");
    };

    refused(&mut Native::attach(here, "nobody", 0), "UNKNOWN_INSTANCE", "immortal register nobody");
    // The other node hears of the instance a moment later.
    let began = Instant::now();
    let (code, text) = loop {
        let (code, text) = Native::attach(there, "server", 3).hear_refusal();
        let hears_later = code == "RELOAD" || code == "UNKNOWN_INSTANCE";
        if !hears_later || began.elapsed() > Duration::from_secs(10) {
            break (code, text);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(code == "NOT_HERE" && text.contains("n1"), "{code}: {text}");
    refused(
        &mut Native::attach(here, "server", 0),
        "PROGRAM_VERSION",
        "begins with program version 3",
    );
    let mut program = Native::connect(here);
    let newer = protocol::immortal::Hello { version_min: 7, version_max: 9, ..hello("server", 3) };
    program.say(&ToNode::Hello(newer));
    refused(&mut program, "VERSION", "versions 7 to 9");

    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 100],
        &[5, 0, 0, 0, 0x66, 1, 2, 3, 4],
        &[0, 0, 0, 0],
        &[3, 0, 0, 0, 5, 1, 1],
    ] {
        let mut program = Native::connect(here);
        program.say_raw(garbage);
        refused(&mut program, "BAD_FRAME", "");
    }

    // A good one, and a second one beside it.
    let mut first = Native::attach(here, "server", 3);
    let served = std::thread::spawn(move || first.live(|_, _| true));
    wait_until_served(&cluster, 0, "server", 0);
    refused(&mut Native::attach(here, "server", 3), "ATTACHED", "end it first");
    let mut program = Native::attach(here, "server", 3);
    program.say_raw(&[0xee; 64]);
    refused(&mut program, "ATTACHED", "");
    let state = instance(&cluster, 0, "server").expect("it is registered");
    assert_eq!(role(&state, "n1"), "PRIMARY", "the first one is not disturbed: {state}");

    // When the instance goes, its program is told.
    let path = "/core/immortals/server?confirm=server";
    assert_eq!(cluster.ask(0, &Ask::new("DELETE", path)).status, 200);
    served.join().expect("the program ends");
    refused(&mut Native::attach(here, "server", 3), "UNKNOWN_INSTANCE", "server");
}

#[test]
fn garbage_in_the_middle_ends_only_that_connection() {
    let cluster = Cluster::started(1);
    let ports = free_ports(2);
    let more = json!({ "receivePort": ports[0], "sendPort": ports[1] });
    register(&cluster, "ambrosia", &more);
    register(&cluster, "server", &json!({}));
    let here = &cluster.member(0).sandbox;
    let mut program = Native::attach(here, "server", 0);
    program.say_raw(&[2, 0, 0, 0, 0x77, 0]);
    assert_eq!(program.hear_refusal().0, "BAD_FRAME");
    let mut program = Native::attach(here, "server", 0);
    program.say(&ToNode::Done { input: 99 });
    assert_eq!(program.hear_refusal().0, "BAD_FRAME", "an input that was never delivered");

    // At AMBROSIA's ports nothing can be said to a program; it is cut off.
    let mut tell =
        cluster.wait_for("the receive port", || TcpStream::connect(("127.0.0.1", ports[0])).ok());
    let mut hear =
        cluster.wait_for("the send port", || TcpStream::connect(("127.0.0.1", ports[1])).ok());
    tell.write_all(&[0xff; 1_000]).expect("it listens");
    hear.set_read_timeout(Some(Duration::from_secs(20))).expect("a time can be set");
    let mut rest = Vec::new();
    drop(hear.read_to_end(&mut rest));
    cluster.wait_for("the replica to be free again", || {
        let state = instance(&cluster, 0, "ambrosia")?;
        (state["replicas"][0]["attached"] == false).then_some(())
    });
    let mut program = Native::attach(here, "server", 0);
    let served = std::thread::spawn(move || program.live(|_, _| true));
    wait_until_served(&cluster, 0, "server", 0);
    drop(cluster);
    served.join().expect("the program ends");
}

#[test]
fn a_program_that_fails_on_the_same_message_is_held_and_the_message_can_be_skipped() {
    let cluster = Cluster::started(1);
    register(&cluster, "fragile", &json!({}));
    let here = cluster.member(0).sandbox.clone();
    let crashing = std::thread::spawn(move || {
        let is_bad = |bytes: &[u8]| bytes.windows(5).any(|window| window == b"crash");
        let mut tries = 0;
        loop {
            tries += 1;
            let mut program = Native::attach(&here, "fragile", 0);
            if let Some(code) = program.live(|_, blocks| !is_bad(blocks)) {
                return (code, tries, here);
            }
        }
    });
    wait_until_served(&cluster, 0, "fragile", 0);
    let good = amrita(&cluster, &["immortal", "send", "fragile", "1", "[\"well\"]"]);
    assert!(good.status.success() && good.said.contains("Logged as input 2"), "{}", good.said);
    amrita(&cluster, &["immortal", "send", "fragile", "1", "[\"crash\"]"]);
    let (code, tries, here) = crashing.join().expect("it is held in the end");
    assert_eq!((code.as_str(), tries), ("HELD", 4), "three times, and then it is not let in");
    let shown = amrita(&cluster, &["immortal", "show", "fragile"]);
    for words in ["HELD", "on input 3", "crash", "amrita immortal skip fragile 3"] {
        assert!(shown.said.contains(words), "'{words}' is not in\n{}", shown.said);
    }
    amrita(&cluster, &["immortal", "skip", "fragile", "9"]).refused_with(&["no input 9", "1 to 3"]);
    let skipped = amrita(&cluster, &["immortal", "skip", "fragile", "3"]);
    assert!(skipped.status.success(), "{}", skipped.said);
    let mut program = Native::attach(&here, "fragile", 0);
    let (seen, all) = std::sync::mpsc::channel();
    let lives = std::thread::spawn(move || {
        program.live(|first, blocks| {
            let crash = blocks.windows(5).any(|window| window == b"crash");
            seen.send((first, crash)).is_ok()
        })
    });
    wait_until_served(&cluster, 0, "fragile", 0);
    amrita(&cluster, &["immortal", "send", "fragile", "1", "[\"last\"]"]);
    cluster.wait_for("the program to go on", || {
        let state = instance(&cluster, 0, "fragile")?;
        (state["replicas"][0]["done"] == 4).then_some(())
    });
    assert!(all.try_iter().all(|(_, crash)| !crash), "the message was taken out");
    drop(cluster);
    lives.join().expect("the program ends");
}

#[test]
fn the_command_line_of_immortals_says_what_is_wrong() {
    let cluster = Cluster::started(3);
    let says = |words: &[&str], expected: &[&str]| {
        let all: Vec<&str> = ["immortal"].iter().chain(words).copied().collect();
        amrita(&cluster, &all).refused_with(expected);
    };
    says(&["register"], &["what shall the instance be called", "register NAME"]);
    says(&["register", "a b"], &["'a b'", "letters"]);
    says(&["register", "x", "--replicas", "n1,n9"], &["\"n9\"", "n1, n2, n3"]);
    says(&["register", "x", "--replicas", "9"], &["1 to 3"]);
    says(&["register", "x", "--receive-port", "1000"], &["--send-port"]);
    says(&["register", "x", "-cv=5", "-uv=4"], &["upgrade version 4", "lower"]);
    says(&["register", "x", "-cs=N"], &["not needed", "recovers"]);
    says(&["register", "x", "--no-such-flag"], &["--no-such-flag"]);
    says(&["show", "nobody"], &["no instance 'nobody'", "register nobody"]);
    says(&["add-replica", "nobody"], &["no instance 'nobody'"]);
    let made = amrita(&cluster, &["immortal", "register", "-i=server", "--noPersistLogs", "-ps"]);
    assert!(made.status.success(), "{}", made.said);
    for words in ["replica 2 on node n3", "may be gone", "set server --resume"] {
        assert!(made.said.contains(words), "'{words}' is not in\n{}", made.said);
    }
    says(&["register", "server", "--replicas", "1"], &["registered already", "add-replica"]);
    says(
        &["register", "server", "-npl", "-cv=0", "-uv=0", "--replicas=n1,n2"],
        &["remove-replica"],
    );
    says(&["move", "server", "n2"], &["no program", "caught up"]);
    says(&["move", "server"], &["start one"]);
    says(&["send", "server", "1"], &["no program is attached"]);
    says(&["checkpoint", "server"], &["no program", "start one"]);
    says(&["skip", "server", "one"], &["'one'", "number"]);
    says(&["set", "server"], &["nothing to set"]);
    says(&["remove-replica", "server", "--replica-num", "7"], &["no replica 7", "0 on n1"]);
    says(&["deregister", "server"], &["--yes-remove server"]);
    says(&["deregister", "server", "--yes-remove", "client"], &["nothing is removed"]);
    let gone = amrita(&cluster, &["immortal", "deregister", "server", "--yes-remove=server"]);
    assert!(gone.status.success(), "{}", gone.said);
    let list = amrita(&cluster, &["immortal", "list"]);
    assert!(list.said.contains("no instance"), "{}", list.said);
}
