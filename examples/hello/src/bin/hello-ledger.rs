//! The ledger of the tutorial with orders, as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    hello::ledger::main(std::env::args().skip(1))
}
