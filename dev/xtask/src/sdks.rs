//! The tests of the packages for other languages. They run where the language is there: to build
//! Amrita, only Rust and a C compiler are needed.

use std::io::{BufRead, BufReader, Read};
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

const PACKAGES: [Package; 3] = [
    Package {
        language: "Python",
        folder: "sdks/python",
        probe: &["python3", "-c", "import sys; sys.exit(sys.version_info < (3, 9))"],
        needs: "python3, 3.9 or later",
        // Otherwise it does not say which tests it leaves out.
        test: &["python3", "-m", "unittest", "-v"],
    },
    Package {
        language: "TypeScript",
        folder: "sdks/typescript",
        probe: &["node", "-e", "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)"],
        needs: "node, 18 or later",
        test: &["node", "--test"],
    },
    // Its files are committed as they were built: are they what the sources give?
    Package {
        language: "console",
        folder: "console",
        probe: &["node", "-e", "require.resolve('esbuild', { paths: ['console'] })"],
        needs: "node with what `npm ci --prefix console` fetches",
        test: &["node", "build.mjs", "--check"],
    },
];

/// Tests each package against the nodes that were built beside this program. Gives what was left
/// out, in a line each.
pub(crate) fn test() -> Result<Vec<String>, String> {
    let here = std::env::current_exe()
        .map_err(|error| format!("this program cannot find its own file: {error}"))?;
    let nodes = here.with_file_name("amrita");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut left_out = Vec::new();
    for package in &PACKAGES {
        if is_there(package.probe) {
            left_out.extend(package.run(&root, &nodes)?);
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
    /// Gives the tests that were left out, as something that they need is not there.
    fn run(&self, root: &Path, nodes: &Path) -> Result<Vec<String>, String> {
        let line = self.test.join(" ");
        if !nodes.is_file() {
            let shown = nodes.display();
            return Err(format!("{} needs nodes, and there is no {shown}", self.folder));
        }
        say(&format!("\n== {}: {line}, in {}", self.language, self.folder));
        let began = Instant::now();
        let mut child = command(self.test)
            .current_dir(root.join(self.folder))
            .env("AMRITA_BINARY", nodes)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{line} cannot start: {error}"))?;
        let errors = child.stderr.take().expect("it was asked for");
        let errors = std::thread::spawn(move || show_and_find_skipped(errors));
        let mut skipped = show_and_find_skipped(child.stdout.take().expect("it was asked for"));
        skipped.extend(errors.join().expect("to read lines does not panic"));
        let status = child.wait().map_err(|error| format!("{line} cannot be awaited: {error}"))?;
        if !status.success() {
            return Err(format!("{} ({line}, in {})", self.language, self.folder));
        }
        say(&format!("== {}: passed in {:.1} s", self.language, began.elapsed().as_secs_f64()));
        let left_out = |test| format!("left out in {}: {test}", self.folder);
        Ok(skipped.into_iter().map(left_out).collect())
    }
}

/// Shows all that a test run says, and gives what it says of tests that it has left out.
fn show_and_find_skipped(output: impl Read) -> Vec<String> {
    let mut skipped = Vec::new();
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    while output.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim_end();
        say(line);
        if is_skipped(line) {
            skipped.push(line.trim().to_owned());
        }
        bytes.clear();
    }
    skipped
}

/// As Python's runner and both reporters of Node say it.
fn is_skipped(line: &str) -> bool {
    line.contains(" ... skipped ")
        || line.contains(" # SKIP")
        || line.trim_start().starts_with('\u{fe63}')
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

    const PACKAGE: Package = Package {
        language: "Shell",
        folder: ".",
        probe: &["true"],
        needs: "a shell",
        test: &[
            "sh",
            "-c",
            "echo 'ok 1 - one # SKIP no tool'; echo 'ok 2 - two'; echo '\u{fe63} three # no tool'; \
             echo 'four (tests) ... skipped \"no tool\"' >&2",
        ],
    };

    #[test]
    fn tests_that_were_left_out_are_named() {
        let here = std::env::current_exe().expect("a file");
        let said = PACKAGE.run(Path::new("."), &here).expect("it passes");
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said.iter().all(|line| line.contains("no tool")), "{said:?}");
    }

    #[test]
    fn without_nodes_the_tests_fail() {
        let why = PACKAGE.run(Path::new("."), Path::new("no-such-file")).unwrap_err();
        assert!(why.contains("no-such-file"), "{why}");
    }

    #[test]
    fn what_is_not_there_is_no_failure() {
        assert!(!is_there(&["no-such-program-as-this"]));
        assert!(!is_there(&["cargo", "no-such-command-as-this"]));
        assert!(is_there(&["cargo", "--version"]));
    }
}
