//! Client 1: sends a message, waits for Enter, and sends two more. Kill it at the prompt and start
//! it again: the prompt comes back, and the server gets three messages in all.

use std::process::ExitCode;

use crate::{SERVER, ServerProxy, read_line, say, with_keyboard};
use immortal::{Context, Fate, Immortal, Impulses, Incoming};
use serde::{Deserialize, Serialize};

immortal::interface! {
    /// What the client's own keyboard tells it.
    pub trait Keyboard => KeyboardProxy {
        1 => fn enter_pressed();
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Client1 {
    sent: u32,
}

impl Client1 {
    fn send_next(&mut self, context: &mut Context<'_, Self>) {
        self.sent += 1;
        let message = format!("\n!! Client: Hello World {}!", self.sent);
        ServerProxy::at(SERVER).receive_message(message).fork(context);
        say(&format!("\n!! Client: Sent message {}.", self.sent));
    }
}

impl Keyboard for Client1 {
    fn enter_pressed(&mut self, context: &mut Context<'_, Self>) {
        // Enter may come twice, when nobody knew whether the first was logged.
        if self.sent == 1 {
            self.send_next(context);
            self.send_next(context);
        }
    }
}

impl Immortal for Client1 {
    type Next = ();
    type Effect = ();

    fn start(&mut self, context: &mut Context<'_, Self>, _: &[u8]) {
        self.send_next(context);
    }

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }

    // The key is not awaited in a handler. There it would hold up every other input, and replay
    // would wait for a key that was pressed long ago. Enter is an input like any other: a thread
    // beside the primary hands it in as an impulse, and every copy learns of it at the same place
    // in its life.
    fn primary(&self, impulses: &Impulses) {
        let sent = self.sent;
        with_keyboard(impulses, move |impulses| keyboard(impulses, sent));
    }
}

fn keyboard(impulses: &Impulses, sent: u32) {
    if sent == 1 {
        loop {
            say("\n!! Client: Press enter to continue (will send 2&3)");
            if read_line().is_none() {
                return;
            }
            match KeyboardProxy::me().enter_pressed().impulse(impulses) {
                Fate::Logged { .. } => break,
                Fate::Lost | Fate::Unknown => say("\n!! Client: It is not known to be logged."),
            }
        }
    }
    say("\n!! Client: Press enter to shutdown.");
    if read_line().is_some() {
        impulses.stop();
    }
}

/// The program, with these arguments.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    crate::main("client1", arguments, Client1::default)
}
