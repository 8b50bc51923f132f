//! The client that keeps sending, as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    hello::numbers::main(std::env::args().skip(1))
}
