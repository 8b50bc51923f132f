//! Client 1, as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    hello::client1::main(std::env::args().skip(1))
}
