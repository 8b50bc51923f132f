//! How many messages go through one program. Not run with the other tests:
//! `cargo test --release -p sdk --test immortal speed -- --ignored --nocapture`.

use std::io::Write;
use std::time::Instant;

use immortal::testing::{FakeNode, Input, Message, SourceKind, ToNode, ToProgram, blocks_of};
use immortal::{Context, Immortal, Incoming, Moment};
use serde::{Deserialize, Serialize};

/// This many messages are in one frame, as a busy node would send them.
const IN_A_FRAME: u64 = 2_000;
const FRAMES: u64 = 1_000;

/// This many frames are on their way: the node's window.
const WINDOW: u64 = 16;

#[derive(Default, Serialize, Deserialize)]
struct Raw {
    bytes: u64,
    echo: bool,
}

impl Immortal for Raw {
    type Next = ();
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.bytes += incoming.payload.len() as u64;
        if self.echo {
            context.fork("other", incoming.method, incoming.payload);
        }
    }
}

immortal::interface! {
    trait Adder => AdderProxy {
        1 => fn add(number: u64);
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Typed {
    sum: u64,
}

impl Adder for Typed {
    fn add(&mut self, context: &mut Context<'_, Self>, number: u64) {
        self.sum += number;
        AdderProxy::at("other").add(self.sum).fork(context);
    }
}

impl Immortal for Typed {
    type Next = ();
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }
}

fn measure<P: Immortal>(
    what: &str,
    payload: &'static [u8],
    fresh: impl Fn() -> P + Send + 'static,
) {
    let node = FakeNode::start("speed", fresh);
    let mut attached = node.accept();
    attached.genesis();
    let message = Message::Fork { method: 1, payload: payload.into() };
    let inputs: Vec<Input> = (1..=IN_A_FRAME)
        .map(|number| Input {
            kind: SourceKind::Instance,
            name: "client".into(),
            number,
            message: message.clone(),
        })
        .collect();
    let blocks = blocks_of(&inputs);
    let begun = Instant::now();
    let (mut sent, mut done) = (0, 0);
    while done < FRAMES {
        while sent < FRAMES && sent < done + WINDOW {
            let (first, blocks) = (sent * IN_A_FRAME + 1, blocks.clone());
            attached.send(&ToProgram::Deliver { first, time: Moment(1), blocks });
            sent += 1;
        }
        if let ToNode::Done { input } = attached.frame().expect("the program stays") {
            done = input / IN_A_FRAME;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rate = (FRAMES * IN_A_FRAME) as f64 / seconds / 1e6;
    drop(writeln!(std::io::stderr(), "{what}: {rate:.2} million messages a second"));
}

#[test]
#[ignore = "it measures and takes its time"]
fn speed() {
    let payload = b"0123456789abcdef";
    measure("16 bytes, in", payload, Raw::default);
    measure("16 bytes, in and out", payload, || Raw { echo: true, ..Raw::default() });
    measure("typed, one number in and out", b"[1234567890123]", Typed::default);
}
