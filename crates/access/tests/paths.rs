//! The table against the code that answers: each path that stands there in the source has a row of
//! its own. A path that fell through to the rows of documents would be checked by nobody, as no
//! document's owner answers it.

use std::fs;
use std::path::{Path, PathBuf};

use access::{Needs, TABLE, needs};
use protocol::Method;

/// Where paths are answered, from the folder of the crates.
const ANSWERING: [&str; 7] = [
    "node/src/rest",
    "node/src/pages.rs",
    "protocol/src/node_group.rs",
    "protocol/src/query.rs",
    "server/src/web.rs",
    "server/src/dial.rs",
    "access/src/paths.rs",
];

fn sources() -> Vec<(PathBuf, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for place in ANSWERING {
        let place = crates.join(place);
        if place.is_dir() {
            let entries = fs::read_dir(&place).expect("a folder of ours can be read");
            files.extend(entries.map(|entry| entry.expect("it can be read").path()));
        } else {
            files.push(place);
        }
    }
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).expect("a file of ours can be read");
        // Tests and comments ask for whatever they like.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        (file, lines.collect::<Vec<_>>().join("\n"))
    };
    files.into_iter().map(read).collect()
}

/// The paths among the texts of a source.
fn paths(code: &str) -> impl Iterator<Item = &str> {
    let is_path = |text: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-_".contains(c);
        text.len() > 1 && text.starts_with('/') && text.chars().all(plain)
    };
    code.split('"').skip(1).step_by(2).filter(is_path)
}

#[test]
fn each_path_that_answers_has_a_row_of_its_own() {
    let mut seen = 0;
    for (file, code) in sources() {
        for path in paths(&code) {
            // Parts of paths: `/attach`, `/core/auth`.
            let is_whole = path.starts_with("/core/") || path.ends_with('z') || path == "/metrics";
            let is_part = ["/core/auth", "/core/authz"].contains(&path);
            if !is_whole || is_part {
                continue;
            }
            seen += 1;
            let path = path.trim_end_matches('/');
            let is_of_rules = access::FACTORIES.contains(&path);
            let has_row = TABLE
                .iter()
                .any(|row| row.path == path || row.path.starts_with(&format!("{path}/")));
            assert!(has_row || is_of_rules, "{}: {path} is not in the table", file.display());
        }
    }
    assert!(seen >= 15, "the sources have moved: only {seen} paths were found");
}

#[test]
fn what_changes_the_cluster_is_never_left_to_the_owner_of_a_document() {
    let of_cluster = [
        "/core/node-groups/default",
        "/core/node-selectors/default",
        "/core/management",
        "/core/management/process-log",
        "/core/immortals",
        "/core/immortals/one",
        "/core/immortals/one/impulse",
        "/core/immortals/one/attach",
        "/core/ambrosia/Instances",
        "/metrics",
    ];
    for path in of_cluster {
        for spelled in [path.to_owned(), format!("{path}/")] {
            for verb in [Method::Get, Method::Post, Method::Patch, Method::Delete, Method::Put] {
                let needed = needs(verb, &spelled);
                // A verb that the table does not know there is refused.
                let is_rule = matches!(needed, Some(Needs::Right) | None);
                assert!(is_rule, "{} {spelled}: {needed:?}", verb.name());
                if verb == Method::Get {
                    assert_eq!(needed, Some(Needs::Right), "GET {spelled}");
                }
            }
        }
    }
}
