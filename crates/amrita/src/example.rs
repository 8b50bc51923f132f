//! `amrita example`: the programs of the tutorials, as processes of this same program, so that
//! nothing else need be built for a tutorial.

use std::process::ExitCode;

use crate::outcome::Ending;
use crate::screen;

pub(crate) fn run(name: &str, arguments: &[String]) -> ExitCode {
    let arguments = arguments.iter().cloned();
    match name {
        "hello-server" => hello::server::main(arguments),
        "hello-client1" => hello::client1::main(arguments),
        "hello-client2" => hello::client2::main(arguments),
        "hello-client3" => hello::client3::main(arguments),
        "hello-numbers" => hello::numbers::main(arguments),
        "ledger" => hello::ledger::main(arguments),
        _ => {
            screen::error(&format!(
                "there is no example '{name}'; there are hello-server, hello-client1, \
                 hello-client2, hello-client3, hello-numbers and ledger"
            ));
            ExitCode::from(Ending::Usage as u8)
        }
    }
}
