//! What was recorded is replayed to other programs: one that is the same, one that differs, one
//! that stops half-way, and one of AMBROSIA's. The instance itself goes on.

use std::fs;
use std::process::Command;

use bytes::Bytes;
use protocol::immortal::{Message, ToNode, put_message};
use serde_json::json;

use crate::ambrosia::{Ports, compiled, hello, registered};
use crate::cluster::Cluster;
use crate::native::Native;
use crate::programs::{Program, amrita, register, wait_until_served};

/// What such a program says at each input that has `word` in it.
fn echo(program: &mut Native, word: &str, text: &'static str) {
    let say = |blocks: &Bytes| blocks.windows(word.len()).any(|part| part == word.as_bytes());
    program.live_and_say(|blocks| {
        let mut messages = Vec::new();
        let payload = Bytes::from_static(text.as_bytes());
        put_message(&mut messages, &Message::Fork { method: 1, payload });
        say(blocks).then(|| ToNode::Send {
            destination: "elsewhere".into(),
            count: 1,
            messages: messages.into(),
        })
    });
}

fn debug(cluster: &Cluster, more: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amrita"));
    command.args(["immortal", "debug", "talker"]).args(more);
    let addresses: Vec<String> =
        cluster.ports().into_iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    Program::start("debug", command.args(["--address", &addresses.join(",")]))
}

/// How the command is run with some words, and programs one after the other; whether it ended well,
/// and all that it said.
type Run<'a> = &'a dyn Fn(&[&str], &[(&str, &'static str, u64)]) -> (bool, Vec<String>);

fn refuses_what_is_wrong(run: Run<'_>, to: &str) {
    // A program that is not let in, and a file that is cut off.
    let (well, said) = run(&[], &[("say", "hello", 3)]);
    assert!(!well && said.join("\n").contains("--test-upgrade tries a newer one"), "{said:?}");
    let whole = fs::read(to).expect("the recording");
    fs::write(to, &whole[..whole.len() - 4]).expect("it can be cut");
    let (well, said) = run(&["--recording", to], &[("say", "hello", 0)]);
    assert!(!well && said.join("\n").contains("cut off"), "{said:?}");
}

#[test]
fn a_recording_is_replayed_and_a_program_that_differs_is_found() {
    let cluster = Cluster::started(1);
    register(&cluster, "talker", &json!({}));
    let here = cluster.member(0).sandbox.clone();
    let mut program = Native::attach(&here, "talker", 0);
    let lives = std::thread::spawn(move || echo(&mut program, "say", "hello"));
    wait_until_served(&cluster, 0, "talker", 0);
    for word in ["say", "nothing", "say it", "nothing", "say"] {
        amrita(&cluster, &["immortal", "send", "talker", "1", &format!("[\"{word}\"]")]);
    }
    let file = cluster.folder().join("talker.recording");
    let to = file.to_str().expect("a path of letters");
    let recorded = amrita(&cluster, &["immortal", "record", "talker", "--to", to]);
    assert!(recorded.status.success() && recorded.said.contains("up to 6"), "{}", recorded.said);
    amrita(&cluster, &["immortal", "record", "talker", "--to", to]).refused_with(&["already"]);

    let socket = cluster.folder().join("debug").join("immortals.sock");
    fs::create_dir_all(cluster.folder().join("debug")).expect("a folder");
    let socket_text = socket.to_str().expect("a path of letters").to_owned();
    let run = |more: &[&str], programs: &[(&str, &'static str, u64)]| {
        let mut all = vec!["--socket", &socket_text];
        all.extend(more);
        let mut command = debug(&cluster, &all);
        command.wait_for("Waiting for the program");
        for (number, (word, text, version)) in programs.iter().enumerate() {
            if number > 0 {
                command.wait_for("Now start");
            }
            let mut program =
                Native::attach(socket.parent().expect("a folder"), "talker", *version);
            echo(&mut program, word, text);
        }
        command.ended()
    };

    // The same program, from the live log and from the file.
    for more in [vec![], vec!["--recording", to]] {
        let (well, said) = run(&more, &[("say", "hello", 0)]);
        let all = said.join("\n");
        assert!(well && all.contains("has said what is recorded"), "{all}");
        assert!(all.contains("End of the replay: it has handled input 6"), "{all}");
    }
    // Up to an input.
    let (well, said) = run(&["--until", "3"], &[("say", "hello", 0)]);
    assert!(well && said.join("\n").contains("it has handled input 3"), "{said:?}");
    // Another text at input 4 and 6: the first difference is found by the checksum.
    let (well, said) = run(&["--recording", to], &[("say it", "hello", 0)]);
    let all = said.join("\n");
    assert!(!well && all.contains("DIFFERS at input 2"), "{all}");
    // Beside the program as it is, each difference is found.
    let (well, said) =
        run(&["--test-upgrade", "--recording", to], &[("say", "hello", 0), ("say it", "hello", 7)]);
    let all = said.join("\n");
    assert!(
        !well && all.contains("DIFFERS at input 2") && all.contains("DIFFERS at input 6"),
        "{all}"
    );
    assert!(!all.contains("DIFFERS at input 4") && all.contains("2 times"), "{all}");
    let (well, said) = run(&["--test-upgrade"], &[("say", "hello", 0), ("say", "hello", 7)]);
    assert!(well, "{said:?}");
    // The new one first: each difference all the same; alone only the first, as a checksum finds
    // it.
    let (well, said) =
        run(&["--test-upgrade", "--recording", to], &[("say it", "hello", 7), ("say", "hello", 0)]);
    let all = said.join("\n");
    assert!(!well && all.contains("2 times") && all.contains("DIFFERS at input 6"), "{all}");
    assert!(all.contains("the new one has said:\n    nothing"), "{all}");
    let (well, said) =
        run(&["--test-upgrade", "--alone", "--recording", to], &[("say it", "hello", 7)]);
    assert!(!well && said.join("\n").contains("1 times"), "{said:?}");

    refuses_what_is_wrong(&run, to);

    // All that has touched nothing.
    amrita(&cluster, &["immortal", "send", "talker", "1", "[\"say\"]"]);
    let shown = amrita(&cluster, &["immortal", "show", "talker"]);
    assert!(shown.said.contains("has handled 7 inputs"), "{}", shown.said);
    drop(cluster);
    lives.join().expect("the program ends");
}

#[test]
fn a_program_of_ambrosias_is_replayed_through_its_two_ports() {
    let cluster = Cluster::started(1);
    let Some(binary) = compiled(cluster.folder()) else { return };
    let ports = registered(&cluster, "talker");
    let mut program = hello(&binary, "keyboard", &ports[0]);
    program.wait_for("now primary");
    for number in 0..5 {
        program.type_line(&format!("line {number}"));
    }
    cluster.wait_for("all lines to be logged", || {
        let shown = amrita(&cluster, &["immortal", "show", "talker"]);
        shown.said.contains("has handled 6 inputs").then_some(())
    });
    drop(program);
    let fresh = crate::cluster::free_ports(2);
    let fresh = Ports { receive: fresh[0], send: fresh[1] };
    let (receive, send) = (fresh.receive.to_string(), fresh.send.to_string());
    let words = ["--active-active", "--receive-port", &receive, "--send-port", &send];
    let mut command = debug(&cluster, &words);
    command.wait_for("Waiting for the program");
    let debugged = hello(&binary, "keyboard", &fresh);
    let (well, said) = command.ended();
    assert!(
        well && said.join("\n").contains("End of the replay: it has handled input 6"),
        "{said:?}"
    );
    drop(debugged);
}
