//! A program of one's own with a node in it: `examples-host --id n1 --port 8001 ...` (the flags of
//! `amrita node`).

use std::process::ExitCode;

fn main() -> ExitCode {
    examples::host().run()
}
