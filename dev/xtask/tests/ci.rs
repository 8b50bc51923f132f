//! What `.ci/run` does before it runs the tests, with programs in place of the real ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of the script in a folder of its own, where `cargo`, `npm` and the others only note that
/// they were called.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(fs::remove_dir_all(&folder));
        for below in [".ci", "bin", "sdks/typescript"] {
            fs::create_dir_all(folder.join(below)).expect("a folder");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/run");
        fs::copy(script, folder.join(".ci/run")).expect("a copy");
        let made = Self(folder);
        for tool in ["cargo", "cargo-clippy", "cargo-fmt", "cc", "python3", "node"] {
            made.tool(tool, "true");
        }
        made.lock("one");
        made
    }

    fn tool(&self, name: &str, does: &str) {
        let file = self.0.join("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{does}\n")).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its rights");
    }

    fn lock(&self, text: &str) {
        fs::write(self.0.join("sdks/typescript/package-lock.json"), text).expect("a file");
    }

    fn has_modules(&self) -> bool {
        self.0.join("sdks/typescript/node_modules").exists()
    }

    /// What it says, and how often `npm ci` was run.
    fn run(&self) -> (String, usize) {
        let path = format!("{}:/usr/bin:/bin", self.0.join("bin").display());
        let said = Command::new(self.0.join(".ci/run"))
            .env("PATH", path)
            .output()
            .expect("a shell is there");
        assert!(said.status.success(), "{said:?}");
        let calls = fs::read_to_string(self.0.join("calls")).unwrap_or_default();
        drop(fs::remove_file(self.0.join("calls")));
        (String::from_utf8_lossy(&said.stderr).into_owned(), calls.lines().count())
    }
}

const NPM: &str = "echo \"$@\" >> calls; mkdir -p sdks/typescript/node_modules";

#[test]
fn the_compiler_is_fetched_anew_when_the_lock_file_has_changed() {
    let folder = Folder::new("ci-stale");
    // As a run of an earlier state of the tree has left it.
    fs::create_dir_all(folder.0.join("sdks/typescript/node_modules")).expect("a folder");
    folder.tool("npm", NPM);
    assert_eq!(folder.run().1, 1, "what is there may be stale");
    assert_eq!(folder.run().1, 0, "it is there");
    folder.lock("two");
    assert_eq!(folder.run().1, 1, "the lock file is another one");
    assert_eq!(folder.run().1, 0);
}

#[test]
fn a_compiler_that_cannot_be_fetched_is_said_and_a_stale_one_is_not_taken() {
    let folder = Folder::new("ci-offline");
    folder.tool("npm", NPM);
    folder.run();
    folder.lock("two");
    folder.tool("npm", "exit 1");
    let (said, _) = folder.run();
    assert!(said.contains("types of sdks/typescript are not checked"), "{said}");
    assert!(!folder.has_modules(), "the types would be checked with another compiler");
}
