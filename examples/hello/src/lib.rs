//! Hello World with programs that do not die: what the server and its three clients say to each
//! other.

pub mod client1;
pub mod client2;
pub mod client3;
pub mod ledger;
pub mod numbers;
pub mod server;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Once;

use immortal::{Immortal, Impulses, Options};

/// Where a node is looked for when none is named with `--node`: where `amrita` looks, too.
pub const NODE_DEFAULT: &str = "http://127.0.0.1:8001,http://127.0.0.1:8002,http://127.0.0.1:8003,\
                                http://127.0.0.1:8000";

/// The name of the server's instance.
pub const SERVER: &str = "server";

immortal::interface! {
    /// What the server can do.
    pub trait Server => ServerProxy {
        1 => fn receive_message(message: String);
        /// From now on this client is told of each of its messages. Gives the number of messages so
        /// far.
        2 => fn add_respondee(client: RespondeeProxy) -> u64;
    }
}

immortal::interface! {
    /// A client that wants to be told.
    pub trait Respondee => RespondeeProxy {
        1 => fn response_from_server(messages: u64);
    }
}

/// The main program of all of them: they differ in the instance's name and the first state.
pub fn main<P: Immortal>(
    instance: &str,
    arguments: impl Iterator<Item = String>,
    fresh: impl Fn() -> P,
) -> ExitCode {
    let options = Options::parse(NODE_DEFAULT, instance, arguments).and_then(|(options, rest)| {
        let unknown = rest.iter().find(|argument| *argument != "--numbers");
        unknown.map_or(Ok(options), |one| {
            Err(format!("{one} is unknown. There are --node URL-OR-SOCKET and --instance NAME"))
        })
    });
    immortal::main(options, fresh)
}

/// A line on the screen. Every copy writes it, and replay writes it again: it is for people, and no
/// part of the state.
pub fn say(line: &str) {
    let mut screen = std::io::stdout();
    // Without a terminal there is no one to read it.
    drop(writeln!(screen, "{line}").and_then(|()| screen.flush()));
}

/// Starts the thread that reads the keyboard when this copy becomes the primary for the first time.
/// There is one keyboard, so there is one thread; it stays when the connection to the node is made
/// anew.
pub fn with_keyboard(impulses: &Impulses, work: impl FnOnce(&Impulses) + Send + 'static) {
    static STARTED: Once = Once::new();
    let impulses = impulses.clone();
    STARTED.call_once(|| {
        std::thread::spawn(move || work(&impulses));
    });
}

/// The next line; None when there is no keyboard (any more).
pub fn read_line() -> Option<String> {
    let mut line = String::new();
    let count = std::io::stdin().read_line(&mut line).ok()?;
    (count > 0).then(|| line.trim_end().to_owned())
}
