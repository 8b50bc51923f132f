//! The key of a sandbox, for the commands that only read one.

use std::path::PathBuf;

use clap::Args;
use server::Encryption;

#[derive(Args, Clone, Debug)]
pub(crate) struct KeyOptions {
    /// File with the key of what is encrypted
    #[arg(long, value_name = "FILE", env = "AMRITA_ENCRYPTION_KEY_FILE")]
    encryption_key_file: Option<PathBuf>,
    /// Command of the shell that prints that key, in place of a file
    #[arg(long, value_name = "CMD", env = "AMRITA_ENCRYPTION_KEY_COMMAND")]
    encryption_key_command: Option<String>,
}

impl KeyOptions {
    pub(crate) fn encryption(&self) -> Encryption {
        Encryption {
            key_file: self.encryption_key_file.clone(),
            key_command: self.encryption_key_command.clone(),
            ..Encryption::default()
        }
    }
}
