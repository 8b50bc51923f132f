//! What can be said to `amrita backup`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub(crate) struct BackupOptions {
    #[command(subcommand)]
    pub(crate) command: Option<BackupCommand>,
    /// Folder to write to: empty, or not there so far
    #[arg(long, value_name = "DIR", required = true)]
    pub(crate) to: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Read a backup, check all of it, and say what is in it
    Verify {
        /// The folder of the backup
        dir: PathBuf,
    },
}
