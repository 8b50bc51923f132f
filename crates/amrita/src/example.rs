//! `amrita example`: the programs of the tutorials, as processes of this same program.

use std::io::BufRead;
use std::process::ExitCode;
use std::time::Duration;

use sdk::immortal::{self, Context, Fate, Immortal, Impulses, Incoming, Options, Outcome};
use serde::{Deserialize, Serialize};

sdk::interface! {
    pub trait Hello => HelloProxy {
        1 => fn receive_message(message: String) -> u64;
        2 => fn add_respondee(name: String);
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Server {
    count: u64,
    clients: Vec<Client3Proxy>,
}

impl Hello for Server {
    fn receive_message(&mut self, context: &mut Context<'_, Self>, message: String) -> u64 {
        self.count += 1;
        println!("\n!! SERVER Received message from a client: {message}");
        for client in self.clients.clone() {
            client.response(self.count).fork(context);
        }
        self.count
    }

    fn add_respondee(&mut self, _: &mut Context<'_, Self>, name: String) {
        self.clients.push(Client3Proxy::at(name));
    }
}

impl Immortal for Server {
    type Next = ();
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        Hello::dispatch(self, context, incoming);
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Client1 {
    is_done: bool,
}

sdk::interface! {
    trait Prompt => PromptProxy {
        1 => fn go_on();
    }
}

impl Prompt for Client1 {
    fn go_on(&mut self, context: &mut Context<'_, Self>) {
        if std::mem::replace(&mut self.is_done, true) {
            return;
        }
        let server = HelloProxy::at("server");
        server.receive_message("Hello World 2!".into()).fork(context);
        server.receive_message("Hello World 3!".into()).fork(context);
        println!("\n!! Client: Press enter to shutdown.");
    }
}

impl Immortal for Client1 {
    type Next = ();
    type Effect = ();

    fn start(&mut self, context: &mut Context<'_, Self>, _: &[u8]) {
        HelloProxy::at("server").receive_message("Hello World 1!".into()).fork(context);
        println!("\n!! Client: Sent message 1.");
    }

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }

    fn primary(&self, impulses: &Impulses) {
        let (impulses, is_done) = (impulses.clone(), self.is_done);
        std::thread::spawn(move || {
            let mut lines = std::io::stdin().lock().lines();
            if !is_done {
                println!("\n!! Client: Press enter to continue (will send 2&3)");
                drop(lines.next());
                let _ = PromptProxy::me().go_on().impulse(&impulses);
            }
            drop(lines.next());
            impulses.stop();
        });
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Client2;

sdk::interface! {
    trait Keyboard => KeyboardProxy {
        1 => fn receive_keyboard_input(line: String);
    }
}

impl Keyboard for Client2 {
    fn receive_keyboard_input(&mut self, context: &mut Context<'_, Self>, line: String) {
        println!("Sending keyboard input {line}");
        HelloProxy::at("server").receive_message(line).fork(context);
    }
}

impl Immortal for Client2 {
    type Next = ();
    type Effect = ();

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }

    fn primary(&self, impulses: &Impulses) {
        println!("Finished initializing state/recovering");
        println!("Enter a message (hit ENTER to send, send an empty line to end): ");
        let impulses = impulses.clone();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if line.is_empty() {
                    break;
                }
                let me = KeyboardProxy::me();
                let fate = me.receive_keyboard_input(line).impulse(&impulses);
                if !matches!(fate, Fate::Logged { .. }) {
                    println!("lost: {fate:?}");
                }
            }
            impulses.stop();
        });
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Client3;

sdk::interface! {
    trait Respondee => Client3Proxy {
        1 => fn response(number: u64);
    }
}

impl Respondee for Client3 {
    fn response(&mut self, _: &mut Context<'_, Self>, number: u64) {
        println!(
            "\n!! Client: Message #{number} completed. Server acknowledges processing {number} messages."
        );
    }
}

impl Immortal for Client3 {
    type Next = ();
    type Effect = ();

    fn start(&mut self, context: &mut Context<'_, Self>, _: &[u8]) {
        let server = HelloProxy::at("server");
        server.add_respondee(context.me().into()).fork(context);
        println!("\n!! Client: Sent message #1.");
        server.receive_message("Hello World 1!".into()).fork(context);
    }

    fn handle(&mut self, context: &mut Context<'_, Self>, incoming: Incoming<'_>) {
        self.dispatch(context, incoming);
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Numbers {
    sent: u64,
    is_over: bool,
}

impl Numbers {
    fn next(&mut self, context: &mut Context<'_, Self>) {
        self.sent += 1;
        let message = format!("Number {}!", self.sent);
        HelloProxy::at("server").receive_message(message).call(context, self.sent);
    }
}

impl Immortal for Numbers {
    type Next = u64;
    type Effect = ();

    fn start(&mut self, context: &mut Context<'_, Self>, _: &[u8]) {
        self.next(context);
    }

    fn handle(&mut self, _: &mut Context<'_, Self>, _: Incoming<'_>) {
        self.is_over = true;
    }

    fn resume(&mut self, context: &mut Context<'_, Self>, number: u64, outcome: Outcome<'_>) {
        let count: Result<u64, _> = outcome.value();
        println!("Message #{number} completed. Server acknowledges processing {count:?} messages.");
        if self.is_over {
            println!("Sent {number} messages in all.");
        } else {
            self.next(context);
        }
    }
}

pub(crate) fn run(name: &str, node: &str, instance: &str) -> ExitCode {
    let options = Options::new(node, instance).map(|o| o.give_up_after(Duration::from_secs(60)));
    match name {
        "hello-server" => immortal::main(options, Server::default),
        "hello-client1" => immortal::main(options, Client1::default),
        "hello-client2" => immortal::main(options, Client2::default),
        "hello-client3" => immortal::main(options, Client3::default),
        "hello-numbers" => immortal::main(options, Numbers::default),
        _ => ExitCode::FAILURE,
    }
}
