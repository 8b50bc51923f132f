//! Client 2, as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    hello::client2::main(std::env::args().skip(1))
}
