//! The house rules, as a test: who may import whom, what a core must not touch, how a file begins
//! and how long it may be, what must not be left behind, and that the papers point at real things.
//!
//! Each rule is a function from text to complaints, so that the tests at the end can show it a
//! text that breaks it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What one crate may import.
struct Crate {
    name: &'static str,
    /// Folder of the crate, from the root of the repository.
    folder: &'static str,
    /// A core has no clock, no file, no socket, no thread and no random source.
    core: bool,
    /// Crates of ours.
    ours: &'static [&'static str],
    /// Crates of others. A new one is argued for in the commit that adds it here.
    others: &'static [&'static str],
    /// What only its tests import.
    tests: &'static [&'static str],
}

/// Who may import whom. This table is the architecture; the picture in ARCHITECTURE.md draws it.
/// A crate need not use all that it may, but what it uses must be here.
const CRATES: &[Crate] = &[
    Crate {
        name: "protocol",
        folder: "crates/protocol",
        core: true,
        ours: &[],
        others: &["bytes", "serde", "serde_json"],
        tests: &["proptest"],
    },
    Crate {
        name: "storage",
        folder: "crates/storage",
        core: true,
        ours: &["protocol"],
        others: &["bytes", "crc32fast", "postcard", "serde"],
        tests: &["proptest"],
    },
    Crate {
        name: "replication",
        folder: "crates/replication",
        core: true,
        ours: &["protocol", "storage"],
        others: &["bytes", "raft", "serde", "slog"],
        tests: &["postcard", "proptest"],
    },
    Crate {
        name: "documents",
        folder: "crates/documents",
        core: true,
        ours: &["protocol", "storage"],
        others: &["bytes", "postcard", "serde", "serde_json"],
        tests: &["proptest"],
    },
    Crate {
        name: "services",
        folder: "crates/services",
        core: true,
        ours: &["protocol", "storage", "documents"],
        others: &["bytes", "postcard", "serde", "serde_json"],
        tests: &["proptest"],
    },
    Crate {
        name: "immortals",
        folder: "crates/immortals",
        core: true,
        ours: &["protocol", "storage"],
        others: &["bytes", "crc32fast", "postcard", "serde"],
        tests: &["proptest"],
    },
    Crate {
        name: "node",
        folder: "crates/node",
        core: true,
        ours: &["protocol", "storage", "replication", "documents", "services", "immortals"],
        others: &["bytes", "postcard", "serde", "serde_json"],
        tests: &["proptest"],
    },
    Crate {
        name: "server",
        folder: "crates/server",
        core: false,
        ours: &["protocol", "storage", "documents", "services", "node"],
        others: &[
            "bytes",
            "crc32fast",
            "fjall",
            "http-body-util",
            "hyper",
            "hyper-util",
            "postcard",
            "rustix",
            "serde",
            "serde_json",
            "tokio",
            "toml",
            "tracing",
            "tracing-subscriber",
        ],
        tests: &["tempfile"],
    },
    Crate {
        name: "sdk",
        folder: "crates/sdk",
        core: false,
        ours: &["protocol", "services", "server"],
        others: &[
            "bytes",
            "ciborium",
            "crc32fast",
            "http-body-util",
            "hyper",
            "hyper-util",
            "serde",
            "serde_json",
            "tokio",
        ],
        tests: &["tempfile"],
    },
    Crate {
        name: "amrita",
        folder: "crates/amrita",
        core: false,
        ours: &["protocol", "immortals", "server", "sdk", "examples", "hello"],
        others: &["bytes", "clap", "mimalloc", "serde", "serde_json", "tokio", "tracing"],
        tests: &["tempfile"],
    },
    Crate {
        name: "examples",
        folder: "examples",
        core: false,
        ours: &["sdk"],
        others: &["serde", "serde_json", "tokio"],
        tests: &[],
    },
    Crate {
        name: "hello",
        folder: "examples/hello",
        core: false,
        ours: &["sdk"],
        others: &["serde"],
        tests: &["tempfile"],
    },
    Crate {
        name: "sim",
        folder: "dev/sim",
        core: false,
        ours: &["protocol", "storage", "replication", "documents", "services", "node", "examples"],
        others: &["bytes", "crc32fast", "serde", "serde_json"],
        tests: &[],
    },
    Crate {
        name: "bench",
        folder: "dev/bench",
        core: false,
        ours: &["protocol", "sdk"],
        others: &[
            "bytes",
            "clap",
            "crc32fast",
            "mimalloc",
            "serde_json",
            "tempfile",
            "tokio",
            "tonic",
        ],
        tests: &[],
    },
    Crate {
        name: "fuzz",
        folder: "dev/fuzz",
        core: false,
        ours: &["protocol", "immortals"],
        others: &["bytes", "libfuzzer-sys"],
        tests: &[],
    },
    Crate { name: "xtask", folder: "dev/xtask", core: false, ours: &[], others: &[], tests: &[] },
];

/// Time, chance, threads and the outside world: inputs and outputs of a core, never its own doing.
const BANNED_IN_CORES: &[&str] = &[
    "std::time",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "rand",
    "tokio",
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
];

/// Words that mark unfinished work. Written in two parts, or this file would break its own rule.
const LEFTOVERS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

const LINES_MAX: usize = 800;

/// The largest file in the repository, in bytes; the lock file of the dependencies may be larger.
const BYTES_MAX: u64 = 256 * 1024;

#[test]
fn each_crate_imports_only_what_the_table_allows() {
    let root = root();
    let mut complaints = Vec::new();
    for one in CRATES {
        let manifest = read(&root.join(one.folder).join("Cargo.toml"));
        complaints.extend(forbidden_imports(one, &manifest));
    }
    nothing_to_complain(&complaints);
}

#[test]
fn each_crate_of_the_workspace_stands_in_the_table() {
    let root = root();
    let mut complaints = Vec::new();
    for file in files(&root) {
        if file.file_name().is_some_and(|name| name == "Cargo.toml")
            && file != Path::new("Cargo.toml")
        {
            let folder = file.parent().expect("a file has a folder");
            if !CRATES.iter().any(|one| Path::new(one.folder) == folder) {
                complaints.push(format!("{} is a crate, but not in the table", folder.display()));
            }
        }
    }
    nothing_to_complain(&complaints);
}

#[test]
fn the_table_never_points_up() {
    let mut complaints = Vec::new();
    for (place, one) in CRATES.iter().enumerate() {
        for import in one.ours {
            let place_of_import = CRATES.iter().position(|other| other.name == *import);
            // The binary takes the examples along; they stand on the same floor.
            let same_floor = one.name == "amrita" && ["examples", "hello"].contains(import);
            if !same_floor && place_of_import.is_none_or(|other| other >= place) {
                complaints
                    .push(format!("{} may not import {import}: that is not below it", one.name));
            }
            if one.core && !CRATES.iter().any(|other| other.name == *import && other.core) {
                complaints.push(format!("{} is a core and may not import {import}", one.name));
            }
        }
    }
    nothing_to_complain(&complaints);
}

#[test]
fn a_core_touches_nothing_of_the_outside_world() {
    let mut complaints = Vec::new();
    for (path, text) in rust_files() {
        let core = CRATES.iter().find(|one| one.core && path.starts_with(one.folder));
        if core.is_some_and(|one| path.starts_with(Path::new(one.folder).join("src"))) {
            complaints.extend(banned_words(&path, &text));
        }
    }
    nothing_to_complain(&complaints);
}

#[test]
fn each_core_has_the_lints_of_a_core() {
    let root = root();
    let wanted = read(&root.join(".cfg/core-clippy.toml"));
    for one in CRATES.iter().filter(|one| one.core) {
        let found = read(&root.join(one.folder).join("clippy.toml"));
        assert_eq!(found, wanted, "{}/clippy.toml differs from .cfg/core-clippy.toml", one.folder);
    }
}

#[test]
fn each_file_says_what_it_is_for_and_is_not_too_long() {
    let mut complaints = Vec::new();
    for (path, text) in rust_files() {
        complaints.extend(wrong_shape(&path, &text));
    }
    nothing_to_complain(&complaints);
}

#[test]
fn nothing_is_left_behind() {
    let root = root();
    let mut complaints = Vec::new();
    for path in files(&root) {
        let ends = path.extension().and_then(|ends| ends.to_str()).unwrap_or_default();
        if ["rs", "toml", "md", "sh"].contains(&ends) {
            complaints.extend(leftovers(&path, &read(&root.join(&path))));
        }
    }
    nothing_to_complain(&complaints);
}

#[test]
fn no_file_is_too_big() {
    let root = root();
    let mut complaints = Vec::new();
    for path in files(&root) {
        let bytes = fs::metadata(root.join(&path)).map(|data| data.len()).unwrap_or_default();
        complaints.extend(too_big(&path, bytes));
    }
    nothing_to_complain(&complaints);
}

#[test]
fn the_papers_point_at_files_that_are_there() {
    let root = root();
    let mut complaints = Vec::new();
    for (path, text) in papers(&root) {
        let folder = path.parent().expect("a file has a folder").to_owned();
        let is_there = |target: &str| root.join(&folder).join(target).exists();
        complaints.extend(dead_links(&path, &text, &is_there));
    }
    nothing_to_complain(&complaints);
}

/// ARCHITECTURE.md has a table of all bounds: `| NAME | value | file | ... |`. The code is right,
/// and the table must say the same.
#[test]
fn the_table_of_limits_says_what_the_code_says() {
    let root = root();
    let text = read(&root.join("ARCHITECTURE.md"));
    let source = |file: &str| fs::read_to_string(root.join(file)).ok();
    nothing_to_complain(&wrong_limits(&text, &source));
}

// The rules.

fn forbidden_imports(one: &Crate, manifest: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (section, names) in dependencies(manifest) {
        for name in names {
            let allowed = one.ours.contains(&name.as_str())
                || one.others.contains(&name.as_str())
                || (section == "dev-dependencies"
                    && (one.tests.contains(&name.as_str()) || name == one.name));
            if !allowed {
                complaints.push(format!("{} may not import {name} ({section})", one.name));
            }
        }
    }
    complaints
}

/// The names under each `[...dependencies]` of a manifest. Reads the few forms that we write.
fn dependencies(manifest: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut section = None;
    for line in manifest.lines().map(str::trim) {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = None;
            // `[dependencies]`, `[target.'cfg(unix)'.dependencies]` or `[dependencies.bytes]`.
            let parts: Vec<&str> = title.split('.').collect();
            if let Some(at) = parts.iter().position(|part| part.ends_with("dependencies")) {
                let kind = parts[at].to_owned();
                match parts.get(at + 1) {
                    Some(name) => found.entry(kind).or_default().push((*name).to_owned()),
                    None => section = Some(kind),
                }
            }
            continue;
        }
        let Some(kind) = &section else { continue };
        let name: String =
            line.chars().take_while(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        if !name.is_empty() {
            found.entry(kind.clone()).or_default().push(name);
        }
    }
    found
}

fn banned_words(path: &Path, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for word in BANNED_IN_CORES {
            if has_word(line, word) {
                let place = format!("{}:{}", path.display(), number + 1);
                complaints.push(format!("{place}: a core may not use {word}"));
            }
        }
    }
    complaints
}

/// Whether `word` stands in `line` by itself, not as a part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(in_name) && !after.is_some_and(in_name)
    })
}

fn wrong_shape(path: &Path, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//! ") {
        complaints.push(format!("{}: must begin with `//!`: what is it for?", path.display()));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        complaints.push(format!("{}: {lines} lines; the most is {LINES_MAX}", path.display()));
    }
    complaints
}

fn leftovers(path: &Path, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in LEFTOVERS {
            if has_word(line, word) {
                complaints.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    complaints
}

fn too_big(path: &Path, bytes: u64) -> Option<String> {
    (bytes > BYTES_MAX && path != Path::new("Cargo.lock"))
        .then(|| format!("{}: {bytes} bytes; the most is {BYTES_MAX}", path.display()))
}

/// `[words](target)`: the target must exist, unless it is an address or a place in the same file.
fn dead_links(path: &Path, text: &str, is_there: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, _) in text.match_indices("](") {
        let rest = &text[at + 2..];
        let Some(end) = rest.find(')') else { continue };
        let target = rest[..end].split('#').next().unwrap_or_default();
        let outside = target.contains("://") || target.starts_with("mailto:");
        if !target.is_empty() && !outside && !is_there(target) {
            complaints.push(format!("{}: there is no {target}", path.display()));
        }
    }
    complaints
}

/// Every row `| `NAME` | value | `file` | ...`: the file must have `const NAME: .. = value;`.
fn wrong_limits(text: &str, source: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, name, value, file, ..] = cells[..] else { continue };
        let is_const =
            name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if !is_const || !file.ends_with(".rs") {
            continue;
        }
        let Some(code) = source(file) else {
            complaints.push(format!("ARCHITECTURE.md: {name}: there is no {file}"));
            continue;
        };
        match value_of(&code, name) {
            None => complaints.push(format!("ARCHITECTURE.md: {file} has no const {name}")),
            Some(found) if found != value => {
                complaints.push(format!("ARCHITECTURE.md: {name} is {found}, not {value}"));
            }
            Some(_) => {}
        }
    }
    complaints
}

/// The text between `=` and `;` of `const NAME: Type = value;`.
fn value_of(code: &str, name: &str) -> Option<String> {
    let at = code.find(&format!("const {name}:"))?;
    let rest = &code[at..];
    let end = rest.find(';')?;
    let (_, value) = rest[..end].split_once('=')?;
    Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

// Reading the tree.

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("dev/xtask lies two folders deep").to_owned()
}

/// Every file of the repository, by its path from the root. Hidden folders and what was built are
/// not the repository's.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
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
                let inside = path.strip_prefix(root).expect("it was found under the root");
                found.push(inside.to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > CRATES.len(), "the repository was not found");
    found
}

fn rust_files() -> Vec<(PathBuf, String)> {
    with_ending(&root(), "rs")
}

fn papers(root: &Path) -> Vec<(PathBuf, String)> {
    with_ending(root, "md")
}

fn with_ending(root: &Path, ending: &str) -> Vec<(PathBuf, String)> {
    files(root)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .map(|path| {
            let text = read(&root.join(&path));
            (path, text)
        })
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn nothing_to_complain(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

// Each rule, seen to fail.

#[test]
fn an_import_outside_the_table_is_found_in_every_form() {
    let one = &CRATES[1];
    assert_eq!(one.name, "storage");
    let good = "[package]\nname = \"storage\"\n[dependencies]\nbytes.workspace = true\n\
                [dev-dependencies]\nproptest = \"1\"\n[lints]\nworkspace = true\n";
    assert!(forbidden_imports(one, good).is_empty());
    for bad in [
        "[dependencies]\ntokio.workspace = true",
        "[dependencies]\ntokio = \"1\"",
        "[dependencies.tokio]\nversion = \"1\"",
        "[dependencies]\nnode = { path = \"../node\" }",
        "[dependencies]\nproptest = \"1\"",
        "[build-dependencies]\ncc = \"1\"",
        "[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"",
    ] {
        assert_eq!(forbidden_imports(one, bad).len(), 1, "{bad}");
    }
}

#[test]
fn a_banned_word_is_found_but_not_inside_another_name() {
    let path = Path::new("x.rs");
    for bad in ["use std::time::Instant;", "let x = rand::random();", "HashMap::new()"] {
        assert!(!banned_words(path, bad).is_empty(), "{bad}");
    }
    for good in ["// std::time is an input", "let operand = 1;", "MyHashMap::new()"] {
        assert!(banned_words(path, good).is_empty(), "{good}");
    }
}

#[test]
fn a_file_without_a_purpose_or_with_too_many_lines_is_found() {
    let path = Path::new("x.rs");
    assert_eq!(wrong_shape(path, "use std::fmt;\n").len(), 1);
    assert_eq!(wrong_shape(path, &format!("//! x\n{}", "\n".repeat(LINES_MAX))).len(), 1);
    assert!(wrong_shape(path, &format!("//! x\n{}", "\n".repeat(LINES_MAX - 1))).is_empty());
}

#[test]
fn a_leftover_is_found() {
    assert_eq!(leftovers(Path::new("x.rs"), concat!("// TO", "DO: later")).len(), 1);
    assert!(leftovers(Path::new("x.rs"), "// done").is_empty());
}

#[test]
fn a_big_file_is_found() {
    assert!(too_big(Path::new("a.bin"), BYTES_MAX + 1).is_some());
    assert!(too_big(Path::new("a.bin"), BYTES_MAX).is_none());
    assert!(too_big(Path::new("Cargo.lock"), BYTES_MAX + 1).is_none());
}

#[test]
fn a_dead_link_is_found() {
    let is_there = |target: &str| target == "there.md";
    let look = |text: &str| dead_links(Path::new("x.md"), text, &is_there).len();
    assert_eq!(look("[a](there.md) [b](there.md#part) [c](#part) [d](https://e.org/x)"), 0);
    assert_eq!(look("[a](gone.md)"), 1);
}

#[test]
fn a_limit_that_the_code_does_not_have_is_found() {
    let source = |file: &str| {
        (file == "a.rs").then(|| "pub(crate) const SIZE_MAX: usize = 64 * 1024;".to_owned())
    };
    let look = |row: &str| wrong_limits(row, &source).len();
    assert_eq!(look("| `SIZE_MAX` | `64 * 1024` | `a.rs` | x |"), 0);
    assert_eq!(look("| `SIZE_MAX` | `65 * 1024` | `a.rs` | x |"), 1);
    assert_eq!(look("| `SIZE_MIN` | `64 * 1024` | `a.rs` | x |"), 1);
    assert_eq!(look("| `SIZE_MAX` | `64 * 1024` | `b.rs` | x |"), 1);
    assert_eq!(look("| `protocol` | words | for people |"), 0);
}
