//! The Hello World programs as real processes, against a fake node at a Unix socket. The server is
//! tried in Rust and in plain Python: both must do the same.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use immortal::Moment;
use immortal::testing::{
    Attached, Checkpoint, Input, Message, Output, SourceKind, Status, ToNode, Told,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A node's socket.
struct Node {
    listener: UnixListener,
    folder: TempDir,
}

/// A program in a process of its own.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let listener = UnixListener::bind(folder.path().join("immortals.sock"));
        Self { listener: listener.expect("a socket can be bound"), folder }
    }

    fn start(&self, command: &[String]) -> (Program, Attached) {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .arg("--node")
            .arg(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let screen = BufReader::new(child.stdout.take().expect("its screen is piped"));
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            let lines = screen.lines().map_while(Result::ok).filter(|line| !line.is_empty());
            lines.for_each(|line| drop(tell.send(line)));
        });
        let (socket, _) = self.listener.accept().expect("the program connects");
        let mut attached = Attached::new(socket);
        attached.welcome();
        (Program { child, lines }, attached)
    }
}

impl Program {
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the program shows another line")
    }

    fn enter(&mut self, text: &str) {
        let keyboard = self.child.stdin.as_mut().expect("its keyboard is piped");
        writeln!(keyboard, "{text}").expect("the program reads");
    }

    fn ends_well(&mut self) {
        assert!(self.child.wait().expect("it can be waited for").success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn rust(name: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_BIN_EXE_hello-server")).parent().expect("a folder");
    vec![folder.join(name).display().to_string()]
}

fn python() -> Option<Vec<String>> {
    let there =
        Command::new("python3").arg("--version").output().is_ok_and(|it| it.status.success());
    let server: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hello-python/server.py");
    there.then(|| vec!["python3".to_owned(), server.display().to_string()])
}

fn from_node(message: Message) -> Input {
    Input { kind: SourceKind::Node, name: String::new(), number: 0, message }
}

fn start() -> Input {
    from_node(Message::Start { payload: b""[..].into() })
}

fn from(name: &str, number: u64, message: Message) -> Input {
    Input { kind: SourceKind::Instance, name: name.into(), number, message }
}

fn text(name: &str, number: u64, text: &str) -> Input {
    let payload = format!("[\"{text}\"]").into_bytes().into();
    from(name, number, Message::Fork { method: 1, payload })
}

fn deliver(attached: &mut Attached, first: u64, inputs: &[Input]) -> Vec<Output> {
    attached.deliver(first, Moment(1_700_000_000_000_000), inputs);
    attached.done(first + inputs.len() as u64 - 1)
}

/// The texts of forks with one argument, and where they go.
fn forks(said: &[Output]) -> Vec<(String, String)> {
    let of = |output: &Output| match output {
        Output::Message { to, message: Message::Fork { method: 1, payload } } => {
            let payload = String::from_utf8_lossy(payload);
            Some((to.clone(), payload.trim_matches(['[', ']', '"']).to_owned()))
        }
        _ => None,
    };
    said.iter().filter_map(of).collect()
}

/// Kills the server in the middle and goes on with another one from its checkpoint: each message is
/// shown once by the one that handles it, and with the right number.
fn a_server_loses_and_doubles_nothing(command: &[String]) {
    let node = Node::new();
    let numbered = [command, &["--numbers".to_owned()]].concat();
    let (program, mut attached) = node.start(&numbered);
    assert_eq!(attached.hello().instance, "server");
    let (first, _) = attached.genesis();
    assert_eq!(deliver(&mut attached, 1, &[start()]), []);
    deliver(&mut attached, 2, &[text("client1", 1, "one"), text("client2", 1, "two")]);
    assert_eq!(
        (program.line(), program.line()),
        ("#1 client1: one".into(), "#2 client2: two".into())
    );
    attached.end_of_replay();
    attached.primary(1);
    let add = Message::Call { id: 7, method: 2, payload: br#"["client3"]"#[..].into() };
    let said = deliver(&mut attached, 4, &[from("client3", 1, add)]);
    let answer = Message::Answer { id: 7, status: Status::Value, payload: b"2"[..].into() };
    assert_eq!(said, [Output::Message { to: "client3".into(), message: answer }]);
    let second = attached.checkpoint();
    assert_eq!(second.input, 4);
    drop((program, attached));

    for (checkpoint, from_where) in [(&first, "the first state"), (&second, "a checkpoint")] {
        let (program, mut attached) = node.start(&numbered);
        attached.load(checkpoint);
        let replayed = [
            start(),
            text("client1", 1, "one"),
            text("client2", 1, "two"),
            from(
                "client3",
                1,
                Message::Call { id: 7, method: 2, payload: br#"["client3"]"#[..].into() },
            ),
        ];
        let done = usize::try_from(checkpoint.input).expect("a small number");
        if done < replayed.len() {
            deliver(&mut attached, checkpoint.input + 1, &replayed[done..]);
            assert_eq!(
                (program.line(), program.line()),
                ("#1 client1: one".into(), "#2 client2: two".into())
            );
        }
        let said = deliver(&mut attached, 5, &[text("client3", 2, "three")]);
        assert_eq!(program.line(), "#3 client3: three", "from {from_where}");
        assert_eq!(forks(&said), [("client3".to_owned(), "3".to_owned())]);
        let unknown = Message::Call { id: 8, method: 9, payload: b"[]"[..].into() };
        let said = deliver(&mut attached, 6, &[from("x", 1, unknown)]);
        let payload = b"there is no method 9"[..].into();
        let message = Message::Answer { id: 8, status: Status::Error, payload };
        assert_eq!(said, [Output::Message { to: "x".into(), message }]);
        attached.send(&immortal::testing::ToProgram::Ping { number: 3 });
        assert_eq!(attached.aside(), ToNode::Pong { number: 3 });
    }
}

#[test]
fn the_server_in_rust_loses_and_doubles_nothing() {
    a_server_loses_and_doubles_nothing(&rust("hello-server"));
}

#[test]
fn the_server_in_python_loses_and_doubles_nothing() {
    let Some(command) = python() else {
        drop(writeln!(std::io::stderr(), "left out: there is no python3 on this machine"));
        return;
    };
    a_server_loses_and_doubles_nothing(&command);
}

#[test]
fn the_server_says_what_the_sample_says() {
    let node = Node::new();
    let (program, mut attached) = node.start(&rust("hello-server"));
    attached.genesis();
    deliver(&mut attached, 1, &[start(), text("client1", 1, r"\n!! Client: Hello World 1!")]);
    assert_eq!(program.line(), "!! SERVER Received message from a client: ");
    assert_eq!(program.line(), "!! Client: Hello World 1!");
}

/// The only impulse on its way, and the input that becomes of it.
fn impulse(attached: &mut Attached, input: u64) -> Input {
    let ToNode::Impulse { number, destination, message } = attached.aside() else {
        panic!("an impulse was expected")
    };
    assert_eq!(destination, "");
    attached.fate(number, Told::Logged, input);
    // Its length, its kind, its method; then the arguments.
    let payload = message.slice(3..);
    let message = Message::Impulse { method: 1, payload };
    Input { kind: SourceKind::Impulses, name: "itself".into(), number: 0, message }
}

#[test]
fn client1_that_is_killed_at_the_prompt_sends_three_messages_in_all() {
    let node = Node::new();
    let (program, mut attached) = node.start(&rust("hello-client1"));
    let (first, _) = attached.genesis();
    let said = deliver(&mut attached, 1, &[start()]);
    assert_eq!(forks(&said), [("server".into(), r"\n!! Client: Hello World 1!".into())]);
    attached.end_of_replay();
    attached.primary(1);
    let prompt = "!! Client: Press enter to continue (will send 2&3)";
    assert_eq!(
        (program.line(), program.line()),
        ("!! Client: Sent message 1.".into(), prompt.into())
    );
    drop((program, attached));

    let (mut program, mut attached) = node.start(&rust("hello-client1"));
    attached.load(&first);
    // The node counts what it has sent already: this is message 1 again, and dropped.
    assert_eq!(deliver(&mut attached, 1, &[start()]), said);
    attached.end_of_replay();
    attached.primary(2);
    assert_eq!(
        (program.line(), program.line()),
        ("!! Client: Sent message 1.".into(), prompt.into())
    );
    program.enter("");
    let enter = impulse(&mut attached, 2);
    let said = deliver(&mut attached, 2, std::slice::from_ref(&enter));
    let texts: Vec<String> = forks(&said).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, [r"\n!! Client: Hello World 2!", r"\n!! Client: Hello World 3!"]);
    // The keyboard's thread and the handler write side by side.
    let mut lines = [program.line(), program.line(), program.line()];
    lines.sort_unstable();
    let shutdown = "!! Client: Press enter to shutdown.";
    assert_eq!(lines, [shutdown, "!! Client: Sent message 2.", "!! Client: Sent message 3."]);
    // A second Enter that was logged sends nothing more.
    assert_eq!(deliver(&mut attached, 3, &[enter]), []);
    program.enter("");
    program.ends_well();
}

#[test]
fn client2_sends_what_is_typed() {
    let node = Node::new();
    let (mut program, mut attached) = node.start(&rust("hello-client2"));
    attached.genesis();
    deliver(&mut attached, 1, &[start()]);
    attached.end_of_replay();
    attached.primary(1);
    assert_eq!(program.line(), "Finished initializing state/recovering");
    assert!(program.line().starts_with("Enter a message (hit ENTER to send"));
    program.enter("good morning");
    let typed = impulse(&mut attached, 2);
    let said = deliver(&mut attached, 2, &[typed]);
    assert_eq!(program.line(), "Sending keyboard input good morning");
    assert_eq!(forks(&said), [("server".into(), "good morning".into())]);
    program.enter("");
    program.ends_well();
}

#[test]
fn client3_sends_the_next_message_when_one_is_acknowledged() {
    let node = Node::new();
    let (mut program, mut attached) = node.start(&rust("hello-client3"));
    attached.genesis();
    let said = deliver(&mut attached, 1, &[start()]);
    let payload = br#"["client3"]"#[..].into();
    let add = Message::Call { id: 1, method: 2, payload };
    assert_eq!(said, [Output::Message { to: "server".into(), message: add }]);
    attached.end_of_replay();
    attached.primary(1);
    let answer = Message::Answer { id: 1, status: Status::Value, payload: b"9"[..].into() };
    deliver(&mut attached, 2, &[from("server", 1, answer)]);
    assert_eq!(program.line(), "!! Client: Sent message #1.");
    for number in 1..=2_u64 {
        let payload = format!("[{}]", 9 + number).into_bytes().into();
        let told = from("server", 1 + number, Message::Fork { method: 1, payload });
        let said = deliver(&mut attached, 2 + number, &[told]);
        assert_eq!(forks(&said).len(), 1);
        let acknowledged = format!(
            "!! Client: Message #{number} completed. Server acknowledges processing {} messages.",
            9 + number
        );
        assert_eq!(program.line(), acknowledged);
        assert_eq!(program.line(), format!("!! Client: Sent message #{}.", number + 1));
    }
    let told = from("server", 4, Message::Fork { method: 1, payload: b"[12]"[..].into() });
    deliver(&mut attached, 5, &[told]);
    assert!(program.line().starts_with("!! Client: Message #3 completed."));
    assert_eq!(program.line(), "!! Client: Shutting down");
    program.ends_well();
}

#[test]
fn a_checkpoint_of_nothing_is_refused_in_words() {
    let node = Node::new();
    let (_program, mut attached) = node.start(&rust("hello-server"));
    attached.load(&Checkpoint { input: 1, bytes: Vec::new() });
    assert!(matches!(attached.aside(), ToNode::Fault { input: 1, .. }));
}
