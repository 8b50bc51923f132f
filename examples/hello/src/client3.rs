//! Client 3: asks the server to be told of its messages, and sends the next one when the one before
//! is acknowledged.

use std::process::ExitCode;

use crate::{Respondee, RespondeeProxy, SERVER, ServerProxy, say};
use immortal::{Context, Immortal, Incoming, Outcome, Performed};
use serde::{Deserialize, Serialize};

/// This many messages are sent.
const MESSAGES: u64 = 3;

#[derive(Default, Serialize, Deserialize)]
struct Client3 {
    sent: u64,
}

#[derive(Serialize, Deserialize)]
enum Next {
    /// The server knows of us.
    Added,
    Over,
}

#[derive(Clone, Serialize, Deserialize)]
enum Effect {
    ShutDown,
}

impl Client3 {
    fn send_next(&mut self, context: &mut Context<'_, Self>) {
        self.sent += 1;
        let message = format!("\n!! Client: Hello World {}!", self.sent);
        ServerProxy::at(SERVER).receive_message(message).fork(context);
        say(&format!("\n!! Client: Sent message #{}.", self.sent));
    }
}

impl Respondee for Client3 {
    fn response_from_server(&mut self, context: &mut Context<'_, Self>, messages: u64) {
        say(&format!(
            "\n!! Client: Message #{} completed. Server acknowledges processing {messages} \
             messages.",
            self.sent
        ));
        if self.sent < MESSAGES {
            self.send_next(context);
        } else {
            say("\n!! Client: Shutting down");
            context.effect(Effect::ShutDown, Next::Over);
        }
    }
}

impl Immortal for Client3 {
    type Next = Next;
    type Effect = Effect;

    fn start(&mut self, context: &mut Context<'_, Self>, _: &[u8]) {
        let me = RespondeeProxy::at(context.me());
        ServerProxy::at(SERVER).add_respondee(me).call(context, Next::Added);
    }

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }

    fn resume(&mut self, context: &mut Context<'_, Self>, next: Next, outcome: Outcome<'_>) {
        match (next, outcome.value::<u64>()) {
            (Next::Added, Ok(_so_far)) => self.send_next(context),
            (Next::Added, Err(why)) => say(&format!("\n!! Client: The server refuses: {why}")),
            (Next::Over, _) => {}
        }
    }

    /// Ends the process of the primary. Its result is never logged: a client that has shut down and
    /// is started again shuts down again.
    fn perform(Effect::ShutDown: Effect) -> Performed {
        std::process::exit(0)
    }
}

/// The program, with these arguments.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    crate::main("client3", arguments, Client3::default)
}
