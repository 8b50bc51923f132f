//! The server, as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    hello::server::main(std::env::args().skip(1))
}
