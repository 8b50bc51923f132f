//! A program with the code of two versions.

use immortal::testing::{
    Attached, Checkpoint, FakeNode, Input, Message, Output, SourceKind, Status, ToProgram,
};
use immortal::{Context, Immortal, Incoming, Moment, Outcome, RunError, run_upgradable};
use serde::{Deserialize, Serialize};

/// Version 1 counts, and waits for answers.
#[derive(Default, Serialize, Deserialize)]
struct One {
    count: u32,
}

/// Version 2 counts further, in tens.
#[derive(Serialize, Deserialize)]
struct Two {
    tens: u64,
    was: String,
}

#[derive(Serialize, Deserialize)]
struct NextTwo(u32);

impl From<u32> for NextTwo {
    fn from(next: u32) -> Self {
        Self(next)
    }
}

impl From<One> for Two {
    fn from(One { count }: One) -> Self {
        Self { tens: u64::from(count) * 10, was: format!("it was {count}") }
    }
}

impl Immortal for One {
    type Next = u32;
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, _: Incoming<'_>) {
        self.count += 1;
        context.call("other", 1, b"[]", self.count);
    }
}

impl Immortal for Two {
    type Next = NextTwo;
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, _: Incoming<'_>) {
        self.tens += 10;
        let text = format!("{} {}", self.was, self.tens);
        context.fork("log", 2, text.as_bytes());
    }

    fn resume(&mut self, context: &mut Context<'_, Self>, NextTwo(count): NextTwo, _: Outcome<'_>) {
        context.fork("log", 3, format!("number {count} is answered").as_bytes());
    }
}

fn node() -> FakeNode {
    FakeNode::start_with("counter", |options, impulses| {
        run_upgradable::<One, Two>(&options.version(1), 2, One::default, &impulses)
    })
}

fn from_node(message: Message) -> Input {
    Input { kind: SourceKind::Node, name: String::new(), number: 0, message }
}

fn add(number: u64) -> Input {
    let message = Message::Fork { method: 1, payload: b"[]"[..].into() };
    Input { kind: SourceKind::Instance, name: "client".into(), number, message }
}

fn answered(number: u64, id: u64) -> Input {
    let message = Message::Answer { id, status: Status::Empty, payload: b""[..].into() };
    Input { kind: SourceKind::Instance, name: "other".into(), number, message }
}

fn inputs() -> Vec<Input> {
    let start = from_node(Message::Start { payload: b""[..].into() });
    let upgrade = from_node(Message::Upgrade { version: 2 });
    vec![start, add(1), add(2), upgrade, add(3), answered(1, 2)]
}

/// What was forked, as text.
fn forked(said: &[Output]) -> Vec<String> {
    said.iter()
        .filter_map(|output| match output {
            Output::Message { message: Message::Fork { payload, .. }, .. } => {
                Some(String::from_utf8_lossy(payload).into_owned())
            }
            _ => None,
        })
        .collect()
}

const AFTER: [&str; 2] = ["it was 2 30", "number 2 is answered"];

fn deliver_from(attached: &mut Attached, checkpoint: &Checkpoint) -> Vec<Output> {
    let from = usize::try_from(checkpoint.input).expect("a small number");
    attached.deliver(checkpoint.input + 1, Moment(5), &inputs()[from..]);
    attached.done(inputs().len() as u64)
}

#[test]
fn the_state_and_what_it_waits_for_are_converted_in_the_middle_of_a_frame() {
    let node = node();
    let mut attached = node.accept();
    assert_eq!((attached.hello().program_version, attached.hello().upgrade_to), (1, 2));
    let (first, _) = attached.genesis();
    assert_eq!(forked(&deliver_from(&mut attached, &first)), AFTER);
}

#[test]
fn a_checkpoint_of_either_version_can_be_loaded() {
    let node = node();
    let mut attached = node.accept();
    let (first, _) = attached.genesis();
    let mut checkpoints = vec![first];
    for (place, input) in inputs().iter().enumerate() {
        let number = place as u64 + 1;
        attached.deliver(number, Moment(5), std::slice::from_ref(input));
        attached.done(number);
        checkpoints.push(attached.checkpoint());
    }
    for checkpoint in &checkpoints[..5] {
        drop(attached);
        attached = node.accept();
        attached.load(checkpoint);
        let said = deliver_from(&mut attached, checkpoint);
        assert_eq!(forked(&said), AFTER, "after input {}", checkpoint.input);
        assert_eq!(attached.checkpoint().bytes, checkpoints[6].bytes);
    }
}

#[test]
fn a_program_that_is_told_that_the_upgrade_is_done_comes_as_the_new_version() {
    let node = node();
    let mut attached = node.accept();
    let error = |code: &str| ToProgram::Error { code: code.into(), text: "now 2".into() };
    attached.send(&error("UPGRADED"));
    let mut attached = node.accept();
    assert_eq!((attached.hello().program_version, attached.hello().upgrade_to), (2, 2));
    attached.send(&error("PROGRAM_VERSION"));
    let Err(RunError::Refused { code, .. }) = node.ended() else { panic!("it must give up") };
    assert_eq!(code, "PROGRAM_VERSION");
}

#[test]
fn a_program_without_the_new_code_fails_at_the_upgrade() {
    let node = FakeNode::start("counter", One::default);
    let mut attached = node.accept();
    attached.genesis();
    attached.deliver(1, Moment(5), &[from_node(Message::Upgrade { version: 2 })]);
    let fault = attached.frame();
    let text = format!("{fault:?}");
    assert!(text.contains("cannot become version 2"), "{text}");
}
