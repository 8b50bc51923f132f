//! `amrita unseal`: shows an encrypted text of a sandbox.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::key_options::KeyOptions;
use crate::outcome::Outcome;

#[derive(Args, Debug)]
pub(crate) struct UnsealOptions {
    /// A file of the folder repros in a sandbox
    file: PathBuf,
    #[command(flatten)]
    key: KeyOptions,
}

pub(crate) fn run(options: &UnsealOptions) -> Outcome {
    let text = server::unseal(&options.file, &options.key.encryption());
    let text = text.map_err(|failure| failure.to_string())?;
    let mut out = std::io::stdout();
    let written = out.write_all(&text).and_then(|()| out.flush());
    written.map_err(|error| format!("standard output cannot be written: {error}").into())
}
