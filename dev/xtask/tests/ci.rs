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
        for below in [".ci", "bin"].into_iter().chain(FETCHED) {
            fs::create_dir_all(folder.join(below)).expect("a folder");
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/run");
        fs::copy(script, folder.join(".ci/run")).expect("a copy");
        let made = Self(folder);
        for tool in ["cargo", "cargo-clippy", "cargo-fmt", "cc", "python3", "node"] {
            made.tool(tool, "true");
        }
        FETCHED.into_iter().for_each(|fetched| made.lock(fetched, "one"));
        made
    }

    fn tool(&self, name: &str, does: &str) {
        let file = self.0.join("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{does}\n")).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its rights");
    }

    fn lock(&self, of: &str, text: &str) {
        fs::write(self.0.join(of).join("package-lock.json"), text).expect("a file");
    }

    fn has_modules(&self, of: &str) -> bool {
        self.0.join(of).join("node_modules").exists()
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

/// What has a lock file of compilers that are fetched.
const FETCHED: [&str; 2] = ["sdks/typescript", "console"];

/// `npm ci --prefix FOLDER ...`
const NPM: &str = "echo \"$@\" >> calls; mkdir -p \"$3/node_modules\"";

#[test]
fn the_compiler_is_fetched_anew_when_the_lock_file_has_changed() {
    let folder = Folder::new("ci-stale");
    // As a run of an earlier state of the tree has left it.
    fs::create_dir_all(folder.0.join("sdks/typescript/node_modules")).expect("a folder");
    folder.tool("npm", NPM);
    assert_eq!(folder.run().1, FETCHED.len(), "what is there may be stale");
    assert_eq!(folder.run().1, 0, "it is there");
    for of in FETCHED {
        folder.lock(of, "two");
        assert_eq!(folder.run().1, 1, "the lock file of {of} is another one");
        assert_eq!(folder.run().1, 0, "{of}");
    }
}

#[test]
fn a_compiler_that_cannot_be_fetched_is_said_and_a_stale_one_is_not_taken() {
    let folder = Folder::new("ci-offline");
    folder.tool("npm", NPM);
    folder.run();
    for of in FETCHED {
        assert!(folder.has_modules(of), "{of}");
        folder.lock(of, "two");
        folder.tool("npm", "exit 1");
        let (said, _) = folder.run();
        assert!(said.contains(&format!("the compiler of {of} cannot be fetched")), "{said}");
        assert!(!folder.has_modules(of), "another compiler would be used");
    }
}

/// Python without venv and node without npm would leave tests out, and the run would be green.
#[test]
fn what_the_tests_of_the_packages_need_is_installed() {
    let folder = Folder::new("ci-installs");
    folder.tool("id", "echo 0");
    folder.tool("apt-get", "echo \"$@\" >> installed");
    let installed = || fs::read_to_string(folder.0.join("installed")).unwrap_or_default();
    folder.tool("npm", NPM);
    folder.run();
    assert_eq!(installed(), "", "all of it is there");
    folder.tool("python3", "exit 1");
    folder.run();
    assert!(installed().contains("install -qy --no-install-recommends python3 python3-venv"));
    assert!(!installed().contains("nodejs"));
}
