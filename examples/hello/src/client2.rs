//! Client 2: sends what is typed. A line is an impulse: once it is logged it is sent, whatever
//! dies.

use std::process::ExitCode;
use std::time::Duration;

use crate::{SERVER, ServerProxy, read_line, say, with_keyboard};
use immortal::{Context, Fate, Immortal, Impulses, Incoming};
use serde::{Deserialize, Serialize};

immortal::interface! {
    /// What the client's own keyboard tells it.
    pub trait Keyboard => KeyboardProxy {
        1 => fn receive_keyboard_input(line: String);
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Client2;

impl Keyboard for Client2 {
    fn receive_keyboard_input(&mut self, context: &mut Context<'_, Self>, line: String) {
        say(&format!("Sending keyboard input {line}"));
        ServerProxy::at(SERVER).receive_message(line).fork(context);
    }
}

impl Immortal for Client2 {
    type Next = ();
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }

    fn primary(&self, impulses: &Impulses) {
        say("Finished initializing state/recovering");
        with_keyboard(impulses, keyboard);
    }
}

fn keyboard(impulses: &Impulses) {
    say("Enter a message (hit ENTER to send, send an empty line to end): ");
    while let Some(line) = read_line() {
        if line.is_empty() {
            impulses.stop();
            return;
        }
        while !was_sent(impulses, &line) {}
    }
}

/// Hands in a line. What is surely not logged is handed in again when there is somebody to take it;
/// what may be logged is not, or it could be sent twice: that is for the user to decide.
fn was_sent(impulses: &Impulses, line: &str) -> bool {
    match KeyboardProxy::me().receive_keyboard_input(line.to_owned()).impulse(impulses) {
        Fate::Logged { .. } => true,
        Fate::Lost => {
            impulses.wait_until_primary(Duration::from_secs(1));
            // Not the primary's own refusal in a tight loop: its log may be full.
            std::thread::sleep(Duration::from_millis(10));
            false
        }
        Fate::Unknown => {
            say(&format!("It is not known whether this was logged: {line}"));
            true
        }
    }
}

/// The program, with these arguments.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    crate::main("client2", arguments, || Client2)
}
