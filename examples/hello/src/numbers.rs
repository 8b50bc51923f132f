//! A client that keeps sending: message n+1 goes out when message n is acknowledged. With copies
//! beside several nodes it goes on whatever dies. After `amrita immortal send client 9` it sends
//! nothing more.

use std::process::ExitCode;

use immortal::{Context, Immortal, Incoming, Outcome};
use serde::{Deserialize, Serialize};

use crate::{Respondee, RespondeeProxy, SERVER, ServerProxy, say};

immortal::interface! {
    /// What a person may tell it.
    pub trait Stop => StopProxy {
        9 => fn stop();
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Numbers {
    sent: u64,
    is_over: bool,
}

impl Numbers {
    fn send_next(&mut self, context: &mut Context<'_, Self>) {
        self.sent += 1;
        let message = format!("Number {}!", self.sent);
        ServerProxy::at(SERVER).receive_message(message).fork(context);
    }
}

impl Respondee for Numbers {
    fn response_from_server(&mut self, context: &mut Context<'_, Self>, messages: u64) {
        say(&format!(
            "Message #{} completed. Server acknowledges processing {messages} messages.",
            self.sent
        ));
        if self.is_over {
            say(&format!("Sent {} messages in all.", self.sent));
        } else {
            self.send_next(context);
        }
    }
}

impl Stop for Numbers {
    fn stop(&mut self, _: &mut Context<'_, Self>) {
        self.is_over = true;
    }
}

impl Immortal for Numbers {
    type Next = ();
    type Effect = ();

    fn start(&mut self, context: &mut Context<'_, Self>, _: &[u8]) {
        let me = RespondeeProxy::at(context.me());
        ServerProxy::at(SERVER).add_respondee(me).call(context, ());
    }

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        if <Self as Stop>::has_method(incoming.method) {
            Stop::dispatch(self, context, incoming);
        } else {
            Respondee::dispatch(self, context, incoming);
        }
    }

    /// The server knows of us.
    fn resume(&mut self, context: &mut Context<'_, Self>, (): (), _: Outcome<'_>) {
        self.send_next(context);
    }
}

/// The program, with these arguments.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    crate::main("client", arguments, Numbers::default)
}
