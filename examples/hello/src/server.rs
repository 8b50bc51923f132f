//! The server: counts and shows the messages that it gets. Run it on three nodes and kill what you
//! like. With `--numbers` it shows each message with its number and its sender.

use std::process::ExitCode;

use crate::{RespondeeProxy, SERVER, Server, say};
use immortal::{Context, Immortal, Incoming};
use serde::{Deserialize, Serialize};

#[derive(Default, Serialize, Deserialize)]
struct HelloServer {
    messages: u64,
    respondees: Vec<RespondeeProxy>,
}

impl Server for HelloServer {
    fn receive_message(&mut self, context: &mut Context<'_, Self>, message: String) {
        self.messages += 1;
        let sender = context.sender().name;
        // How it is shown is no part of the state: the flag may differ between copies.
        if std::env::args().any(|argument| argument == "--numbers") {
            say(&format!("#{} {sender}: {}", self.messages, message.trim_start()));
        } else {
            say(&format!("\n!! SERVER Received message from a client: {message}"));
        }
        if let Some(client) = self.respondees.iter().find(|client| client.name() == sender) {
            client.response_from_server(self.messages).fork(context);
        }
    }

    fn add_respondee(&mut self, _: &mut Context<'_, Self>, client: RespondeeProxy) -> u64 {
        self.respondees.push(client);
        self.messages
    }
}

impl Immortal for HelloServer {
    type Next = ();
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }
}

/// The program, with these arguments.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    crate::main(SERVER, arguments, HelloServer::default)
}
