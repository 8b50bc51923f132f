//! Who may import whom, and what a core must not touch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::has_word;
use crate::tree::{files, nothing_to_complain, read, root, rust_files};

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
        others: &["bytes", "crc32fast", "postcard", "ring", "serde"],
        tests: &["proptest", "random"],
    },
    Crate {
        name: "replication",
        folder: "crates/replication",
        core: true,
        ours: &["protocol", "storage"],
        others: &["bytes", "raft", "serde", "slog"],
        tests: &["postcard", "proptest", "random", "script"],
    },
    Crate {
        name: "query",
        folder: "crates/query",
        core: true,
        ours: &["protocol"],
        others: &["bytes", "postcard", "serde", "serde_json"],
        tests: &["proptest"],
    },
    Crate {
        name: "access",
        folder: "crates/access",
        core: true,
        ours: &["protocol", "query"],
        others: &["blake2", "serde", "serde_json"],
        tests: &["proptest"],
    },
    Crate {
        name: "sql",
        folder: "crates/sql",
        core: true,
        ours: &["protocol", "query"],
        others: &["serde_json", "sqlparser"],
        tests: &["random", "serde"],
    },
    Crate {
        name: "documents",
        folder: "crates/documents",
        core: true,
        ours: &["protocol", "storage", "query"],
        others: &["bytes", "postcard", "serde", "serde_json"],
        tests: &["proptest", "random"],
    },
    Crate {
        name: "group",
        folder: "crates/group",
        core: true,
        ours: &["protocol", "storage", "replication"],
        others: &["bytes", "postcard", "serde"],
        tests: &["script"],
    },
    Crate {
        name: "services",
        folder: "crates/services",
        core: true,
        ours: &["protocol", "storage", "group", "query", "access", "documents"],
        others: &["bytes", "jsonschema", "postcard", "serde", "serde_json"],
        tests: &["proptest", "random", "replication", "script"],
    },
    Crate {
        name: "immortals",
        folder: "crates/immortals",
        core: true,
        ours: &["protocol", "storage"],
        others: &["bytes", "crc32fast", "postcard", "serde"],
        tests: &["proptest", "random"],
    },
    Crate {
        name: "cluster",
        folder: "crates/cluster",
        core: true,
        ours: &["protocol", "storage", "group"],
        others: &["bytes", "postcard", "serde"],
        tests: &[],
    },
    Crate {
        name: "mesh",
        folder: "crates/mesh",
        core: true,
        ours: &["protocol"],
        others: &["bytes", "crc32fast", "postcard", "serde"],
        tests: &["random"],
    },
    Crate {
        name: "node",
        folder: "crates/node",
        core: true,
        ours: &[
            "protocol",
            "storage",
            "replication",
            "group",
            "query",
            "sql",
            "access",
            "documents",
            "services",
            "immortals",
            "cluster",
        ],
        others: &["bytes", "postcard", "serde", "serde_json"],
        tests: &["proptest"],
    },
    Crate {
        name: "server",
        folder: "crates/server",
        core: false,
        ours: &["protocol", "storage", "access", "documents", "services", "mesh", "node"],
        others: &[
            "argon2",
            "blake2",
            "bytes",
            "crc32fast",
            "fjall",
            "flate2",
            "getrandom",
            "http-body-util",
            "hyper",
            "hyper-util",
            "postcard",
            "rcgen",
            "ring",
            "rustix",
            "rustls",
            "rustls-webpki",
            "serde",
            "serde_json",
            "tokio",
            "tokio-rustls",
            "toml",
            "tracing",
            "tracing-subscriber",
        ],
        tests: &["tempfile"],
    },
    Crate {
        name: "client",
        folder: "crates/client",
        core: false,
        ours: &["protocol"],
        others: &[
            "bytes",
            "getrandom",
            "http-body-util",
            "hyper",
            "hyper-util",
            "rustls",
            "serde",
            "serde_json",
            "tokio",
            "tokio-rustls",
        ],
        tests: &[],
    },
    Crate {
        name: "immortal",
        folder: "crates/immortal",
        core: false,
        ours: &["protocol"],
        others: &["bytes", "ciborium", "crc32fast", "rustls", "serde", "serde_json"],
        tests: &["tempfile"],
    },
    Crate {
        name: "sdk",
        folder: "crates/sdk",
        core: false,
        ours: &["protocol", "services", "server", "client", "immortal"],
        others: &[],
        tests: &["serde", "serde_json", "tempfile", "tokio"],
    },
    Crate {
        name: "amrita",
        folder: "crates/amrita",
        core: false,
        ours: &["protocol", "immortals", "server", "client", "examples", "hello"],
        others: &[
            "bytes",
            "clap",
            "clap_complete",
            "clap_mangen",
            "mimalloc",
            "serde",
            "serde_json",
            "tokio",
            "tracing",
        ],
        tests: &["rcgen", "tempfile", "torture"],
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
        ours: &["immortal"],
        others: &["serde"],
        tests: &["tempfile"],
    },
    Crate { name: "random", folder: "dev/random", core: false, ours: &[], others: &[], tests: &[] },
    Crate { name: "script", folder: "dev/script", core: false, ours: &[], others: &[], tests: &[] },
    Crate {
        name: "sim",
        folder: "dev/sim",
        core: false,
        ours: &[
            "protocol",
            "storage",
            "replication",
            "access",
            "documents",
            "services",
            "mesh",
            "node",
            "examples",
            "random",
        ],
        others: &["bytes", "crc32fast", "serde", "serde_json"],
        tests: &[],
    },
    Crate {
        name: "bench",
        folder: "dev/bench",
        core: false,
        ours: &["protocol"],
        others: &[
            "bytes",
            "clap",
            "crc32fast",
            "mimalloc",
            "rcgen",
            "rustls",
            "serde_json",
            "tempfile",
            "tokio",
            "tokio-rustls",
            "tonic",
        ],
        tests: &[],
    },
    Crate {
        name: "fuzz",
        folder: "dev/fuzz",
        core: false,
        ours: &["protocol", "immortals", "server"],
        others: &["bytes", "libfuzzer-sys"],
        tests: &[],
    },
    Crate {
        name: "torture",
        folder: "dev/torture",
        core: false,
        ours: &["immortal", "random"],
        others: &["rustix", "serde", "serde_json", "tappers", "tempfile"],
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

/// What a program pays for that only talks to a cluster: nothing of these.
const LIGHT: &[&str] = &["client", "immortal", "hello"];
const HEAVY: &[&str] =
    &["server", "node", "services", "documents", "replication", "storage", "fjall", "raft"];

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
    let mut complaints = Vec::new();
    for file in files() {
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
fn who_only_talks_to_a_cluster_compiles_nothing_of_the_server() {
    nothing_to_complain(&heavy_imports(CRATES));
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

/// What the light crates reach of the heavy ones, through whatever.
fn heavy_imports(table: &[Crate]) -> Vec<String> {
    let mut complaints = Vec::new();
    for light in LIGHT {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut open = vec![*light];
        while let Some(name) = open.pop() {
            let known = table.iter().find(|one| one.name == name);
            let imports = known.iter().flat_map(|one| one.ours.iter().chain(one.others));
            open.extend(imports.filter(|import| reached.insert(import)));
        }
        let heavy = HEAVY.iter().filter(|heavy| reached.contains(**heavy));
        complaints.extend(heavy.map(|heavy| format!("{light} must not compile {heavy}")));
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
fn a_heavy_import_is_found_through_other_crates() {
    let one =
        |name, ours, others| Crate { name, folder: "", core: false, ours, others, tests: &[] };
    let good = [one("protocol", &[], &["bytes"]), one("client", &["protocol"], &[])];
    assert!(heavy_imports(&good).is_empty());
    let bad = [one("protocol", &[], &["fjall"]), one("client", &["protocol"], &[])];
    assert_eq!(heavy_imports(&bad), ["client must not compile fjall"]);
}
