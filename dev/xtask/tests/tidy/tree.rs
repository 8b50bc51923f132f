//! The files of the repository, and how a rule complains.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("dev/xtask lies two folders deep").to_owned()
}

/// Every file of the repository, by its path from the root. Hidden folders and what was built are
/// not the repository's.
pub(crate) fn files() -> Vec<PathBuf> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder of the repository can be read");
        for entry in entries {
            let path = entry.expect("an entry of a folder can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') || name == "target" || name == "node_modules" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let inside = path.strip_prefix(&root).expect("it was found under the root");
                found.push(inside.to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "the repository was not found");
    found
}

/// All files with this ending, each with its text.
pub(crate) fn with_ending(ending: &str) -> Vec<(PathBuf, String)> {
    files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .map(|path| {
            let text = read(&root().join(&path));
            (path, text)
        })
        .collect()
}

pub(crate) fn rust_files() -> Vec<(PathBuf, String)> {
    with_ending("rs")
}

/// The Rust files of what we ship: the sources under `crates`, without their tests.
pub(crate) fn product_files() -> Vec<(PathBuf, String)> {
    let is_product = |path: &Path| {
        let mut parts = path.iter().map(|part| part.to_str().unwrap_or_default());
        let is_source = parts.next() == Some("crates") && parts.nth(1) == Some("src");
        is_source && !parts.any(|part| ["tests", "tests.rs"].contains(&part))
    };
    rust_files().into_iter().filter(|(path, _)| is_product(path)).collect()
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The name of the crate that a file belongs to: its folder.
pub(crate) fn crate_of(path: &Path) -> String {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let end = parts.iter().position(|part| ["src", "tests", "fuzz_targets"].contains(part));
    let before = &parts[..end.unwrap_or(1).max(1)];
    before.last().copied().unwrap_or_default().to_owned()
}

pub(crate) fn nothing_to_complain(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

/// A list of exceptions may only shrink: what breaks the rule and is not in the list is a
/// complaint, and so is what stands in the list and does not break the rule any more.
pub(crate) fn only_shrinks(
    list: &str,
    breaks: &BTreeSet<String>,
    excepted: &[&str],
) -> Vec<String> {
    let excepted: BTreeSet<String> = excepted.iter().map(|one| (*one).to_owned()).collect();
    let new = breaks.difference(&excepted).map(|one| format!("{one} (not among {list})"));
    let gone = excepted.difference(breaks).map(|one| {
        format!("{one} keeps the rule now: take it out of {list}, which may only shrink")
    });
    new.chain(gone).collect()
}

#[test]
fn a_list_of_exceptions_can_neither_grow_nor_stay_too_long() {
    let breaks: BTreeSet<String> = ["a".to_owned(), "b".to_owned()].into();
    assert!(only_shrinks("L", &breaks, &["a", "b"]).is_empty());
    assert_eq!(only_shrinks("L", &breaks, &["a"]).len(), 1);
    assert_eq!(only_shrinks("L", &breaks, &["a", "b", "c"]).len(), 1);
}

#[test]
fn a_file_belongs_to_the_crate_in_whose_folder_it_lies() {
    for (path, name) in [
        ("crates/node/src/desk/mod.rs", "node"),
        ("examples/src/lib.rs", "examples"),
        ("examples/hello/src/lib.rs", "hello"),
        ("dev/xtask/tests/tidy/main.rs", "xtask"),
    ] {
        assert_eq!(crate_of(Path::new(path)), name, "{path}");
    }
}
