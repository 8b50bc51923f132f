//! Client 3, as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    hello::client3::main(std::env::args().skip(1))
}
