//! What the table of faults and the losses of power have in common, and the latter, which a test of
//! the program plays as well.

use std::path::{Path, PathBuf};
use std::process::Command;

pub mod client;
pub mod power;

/// Builds a library of C in a folder, with the compiler that Rust links with anyway.
///
/// # Errors
/// When there is none, or it fails.
pub fn built(folder: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let (source, library) = (folder.join(format!("{name}.c")), folder.join(format!("{name}.so")));
    std::fs::write(&source, text).map_err(|error| error.to_string())?;
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    let built = cc.args(["-ldl", "-lpthread"]).output();
    let built = built.map_err(|error| format!("cc cannot be started: {error}"))?;
    if built.status.success() {
        return Ok(library);
    }
    Err(String::from_utf8_lossy(&built.stderr).into_owned())
}
