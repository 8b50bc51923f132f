//! What clients in all languages must know alike is written once for each language. These rules
//! see that the lists do not drift apart.

use std::collections::BTreeSet;

use crate::tree::{nothing_to_complain, read, root};

/// The name of a list, the file where it is ours, and the files that say the same.
const LISTS: [(&str, &str, &[&str]); 7] = [
    ("KEYLESS", KEYS, &[PYTHON_KEYS, TYPESCRIPT_KEYS]),
    ("SECRETS", KEYS, &[PYTHON_KEYS, TYPESCRIPT_KEYS]),
    ("QUERIES", KEYS, &[PYTHON_KEYS, TYPESCRIPT_KEYS]),
    ("TRY_AGAIN", CLIENT, &[PYTHON_RETRY, TYPESCRIPT_CLUSTER]),
    ("BY_KEY", CLIENT, &[PYTHON_RETRY, TYPESCRIPT_CLUSTER]),
    ("UTILITIES", "crates/protocol/src/links.rs", &[PYTHON_NAMES, "sdks/typescript/src/names.js"]),
    ("BUILT_IN_FIELDS", "crates/protocol/src/document.rs", &[PYTHON_NAMES]),
];

const KEYS: &str = "crates/client/src/keys.rs";
const CLIENT: &str = "crates/client/src/client.rs";
const PYTHON_KEYS: &str = "sdks/python/src/amrita/_keys.py";
const PYTHON_RETRY: &str = "sdks/python/src/amrita/_retry.py";
const PYTHON_NAMES: &str = "sdks/python/src/amrita/_names.py";
const TYPESCRIPT_KEYS: &str = "sdks/typescript/src/keys.js";
const TYPESCRIPT_CLUSTER: &str = "sdks/typescript/src/cluster.js";

#[test]
fn all_languages_have_the_same_lists() {
    let mut complaints = Vec::new();
    for (name, ours, theirs) in LISTS {
        let wanted = list(&read(&root().join(ours)), name);
        for path in theirs {
            complaints.extend(differs(name, &wanted, &list(&read(&root().join(path)), name), path));
        }
    }
    nothing_to_complain(&complaints);
}

fn differs(
    name: &str,
    wanted: &BTreeSet<String>,
    found: &BTreeSet<String>,
    path: &str,
) -> Option<String> {
    let is_same = wanted == found && !wanted.is_empty();
    (!is_same).then(|| format!("{path}: {name} is {found:?}, and is to be {wanted:?}"))
}

/// The texts or numbers of the constant of that name, in any of the languages.
fn list(text: &str, name: &str) -> BTreeSet<String> {
    let is_defined = |line: &&str| {
        let words = line.trim_start_matches("pub ").trim_start_matches("export ");
        let rest = words.trim_start_matches("const ").strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([':', ' ']) && rest.contains('='))
    };
    let Some(line) = text.lines().find(is_defined) else { return BTreeSet::new() };
    let begin = text.find(line).expect("the line is of that text");
    let value = text[begin..].split_once('=').map_or("", |(_, value)| value);
    let value = value.find([']', ')']).map_or("", |end| &value[..end]);
    let parts = value.split(['[', '(', ',', '\n']).map(|part| part.trim().trim_matches('"'));
    parts
        .filter(|part| part.starts_with(|first: char| first == '/' || first.is_alphanumeric()))
        .filter(|part| *part != "frozenset")
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_list_is_read_in_each_language() {
    let wanted: BTreeSet<String> = ["/a", "/b"].map(str::to_owned).into();
    for text in [
        "x\npub const ROWS: [&str; 2] = [\"/a\", \"/b\"];\nconst MORE: [&str; 1] = [\"c\"];",
        "ROWS = frozenset(\n    (\n        \"/a\",\n        \"/b\",\n    )\n)\n",
        "export const ROWS = [\n  \"/b\",\n  \"/a\",\n];",
    ] {
        assert_eq!(list(text, "ROWS"), wanted, "{text}");
    }
    let numbers = list("const KEYS: [u16; 2] = [400, 409];", "KEYS");
    assert_eq!(numbers, ["400", "409"].map(str::to_owned).into());
    assert!(differs("ROWS", &wanted, &list("ROWS = (\"/a\",)", "ROWS"), "x").is_some());
    assert!(differs("ROWS", &BTreeSet::new(), &BTreeSet::new(), "x").is_some(), "nothing read");
}
