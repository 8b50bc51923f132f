//! The tests of the packages for other languages. They run where the language is there: to build
//! Amrita, only Rust and a C compiler are needed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::run::say;

/// A package, and how it is tested.
struct Package {
    language: &'static str,
    folder: &'static str,
    /// Succeeds if the language is there, and new enough.
    probe: &'static [&'static str],
    needs: &'static str,
    test: &'static [&'static str],
}

const PACKAGES: [Package; 2] = [
    Package {
        language: "Python",
        folder: "sdks/python",
        probe: &["python3", "-c", "import sys; sys.exit(sys.version_info < (3, 9))"],
        needs: "python3, 3.9 or later",
        test: &["python3", "-m", "unittest"],
    },
    Package {
        language: "TypeScript",
        folder: "sdks/typescript",
        probe: &["node", "-e", "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)"],
        needs: "node, 18 or later",
        test: &["node", "--test"],
    },
];

/// Tests each package against the nodes that were built beside this program. Gives what was left
/// out, in a line each.
pub(crate) fn test() -> Result<Vec<String>, String> {
    let mut left_out = Vec::new();
    for package in &PACKAGES {
        if is_there(package.probe) {
            package.run()?;
        } else {
            left_out.push(format!(
                "left out: the tests of {}, as there is no {}",
                package.folder, package.needs
            ));
        }
    }
    Ok(left_out)
}

impl Package {
    fn run(&self) -> Result<(), String> {
        let line = self.test.join(" ");
        say(&format!("\n== {}: {line}, in {}", self.language, self.folder));
        let here = std::env::current_exe()
            .map_err(|error| format!("this program cannot find its own file: {error}"))?;
        let began = Instant::now();
        let status = command(self.test)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(self.folder))
            .env("AMRITA_BINARY", here.with_file_name("amrita"))
            .status()
            .map_err(|error| format!("{line} cannot start: {error}"))?;
        if !status.success() {
            return Err(format!("{} ({line}, in {})", self.language, self.folder));
        }
        say(&format!("== {}: passed in {:.1} s", self.language, began.elapsed().as_secs_f64()));
        Ok(())
    }
}

fn is_there(probe: &[&str]) -> bool {
    let status = command(probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_no_failure() {
        assert!(!is_there(&["no-such-program-as-this"]));
        assert!(!is_there(&["cargo", "no-such-command-as-this"]));
        assert!(is_there(&["cargo", "--version"]));
    }
}
