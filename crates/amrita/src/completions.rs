//! `amrita completions` and `amrita man`: what a shell and `man` want to know, made of the same
//! description of the commands that the program reads its arguments by.

use std::fs;
use std::path::Path;

use clap::CommandFactory;

use crate::arguments::{Arguments, Shell};
use crate::outcome::Outcome;
use crate::screen::say;

impl From<Shell> for clap_complete::Shell {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Bash,
            Shell::Zsh => Self::Zsh,
            Shell::Fish => Self::Fish,
        }
    }
}

pub(crate) fn print(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    let shell = clap_complete::Shell::from(shell);
    clap_complete::generate(shell, &mut Arguments::command(), "amrita", &mut script);
    let script = String::from_utf8(script).expect("the names of commands are text");
    say(script.trim_end());
    Ok(())
}

/// `amrita.1`, `amrita-node.1`, `amrita-immortal-show.1` and so on.
pub(crate) fn write_manual(folder: &Path) -> Outcome {
    let failed = |error: std::io::Error| {
        format!("the manual cannot be written to {}: {error}", folder.display())
    };
    fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(failed)?;
    let pages = fs::read_dir(folder).map_err(failed)?.count();
    say(&format!("{pages} pages are in {}; look: man -l {0}/amrita.1", folder.display()));
    Ok(())
}
