//! The table of limits in ARCHITECTURE.md, read both ways: each row says what the code says, and
//! each bound of the code has its row.
//!
//! A bound is a number called `..._MAX` in what we ship. Times (`Duration`, or `_MICROS_` and
//! `_MILLIS_` in the name) bound no memory and need no row.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::source::{layers, without_tests};
use crate::tree::{crate_of, nothing_to_complain, only_shrinks, product_files, read, root};

/// Numbers called `..._MAX` that bound no queue, buffer, batch or retry, each with its reason.
const NO_LIMITS: &[(&str, &str)] = &[
    ("amrita::CELL_CHARACTERS_MAX", "the width of a column on the screen"),
    ("amrita::SHOWN_MAX", "the width of a column on the screen"),
    ("immortal::CHECKPOINTS_MAX", "how thoroughly the check for tests looks"),
    ("immortal::FRAME_BYTES_MAX", "a node for tests"),
    ("immortals::PART_BYTES_MAX", "no part of a recording is longer: a check of the form"),
    ("immortals::SHOWN_MAX", "how much of a difference is shown to people"),
    ("immortals::SIZE_BYTES_MAX", "the longest encoding of a 32-bit number"),
    ("protocol::NUMBER_BYTES_MAX", "the longest encoding of a 64-bit number"),
    ("query::CURSOR_TEXT_BYTES_MAX", "longer than any cursor that is made: a check of the form"),
    ("query::ORDER_BYTES_MAX", "how much of a value is compared when documents are sorted"),
    ("query::TEXT_BYTES_MAX", "how much of a text is a key; the whole text is looked at anyway"),
    ("replication::NUMBER_MAX", "no group lives to see this position: a check of the form"),
    ("server::INFLATION_MAX", "what deflate can make of a byte at most: a fact"),
    ("server::PATH_BYTES_MAX", "the operating system's own limit for the path of a socket"),
];

/// A row of the table.
struct Row {
    name: String,
    value: String,
    file: String,
}

/// A bound in the code: `crate::NAME`, and the name and the file alone.
struct Bound {
    full_name: String,
    name: String,
    file: String,
}

fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, name, value, file, ..] = cells[..] else { continue };
        let is_const =
            name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if is_const && file.ends_with(".rs") {
            rows.push(Row { name: name.into(), value: value.into(), file: file.into() });
        }
    }
    rows
}

/// Every row `| `NAME` | value | `file` | ...`: the file must have `const NAME: .. = value;`.
fn wrong_rows(rows: &[Row], source: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for Row { name, value, file } in rows {
        let Some(code) = source(file) else {
            complaints.push(format!("ARCHITECTURE.md: {name}: there is no {file}"));
            continue;
        };
        match value_of(&code, name) {
            None => complaints.push(format!("ARCHITECTURE.md: {file} has no const {name}")),
            Some(found) if found != *value => {
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

fn bounds(path: &Path, text: &str) -> Vec<Bound> {
    let code = without_tests(&layers(text).code);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("const ") {
        let Some((name, rest)) = code[at + "const ".len()..].split_once(':') else { continue };
        let kind = rest.split('=').next().unwrap_or_default().trim();
        let is_time = kind == "Duration" || name.contains("_MICROS") || name.contains("_MILLIS");
        if name.ends_with("_MAX") && !is_time && name.chars().all(|c| c != ' ') {
            found.push(Bound {
                full_name: format!("{}::{name}", crate_of(path)),
                name: name.to_owned(),
                file: path.display().to_string(),
            });
        }
    }
    found
}

/// The bounds that have no row, by their full names.
fn without_row(rows: &[Row], bounds: &[Bound]) -> BTreeSet<String> {
    let has_row =
        |bound: &Bound| rows.iter().any(|row| row.name == bound.name && row.file == bound.file);
    let without = bounds.iter().filter(|bound| !has_row(bound));
    without.map(|bound| bound.full_name.clone()).collect()
}

#[test]
fn the_table_of_limits_says_what_the_code_says() {
    let root = root();
    let text = read(&root.join("ARCHITECTURE.md"));
    let source = |file: &str| fs::read_to_string(root.join(file)).ok();
    nothing_to_complain(&wrong_rows(&rows(&text), &source));
}

#[test]
fn each_bound_of_the_code_is_in_the_table_of_limits() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let bounds: Vec<Bound> =
        product_files().iter().flat_map(|(path, text)| bounds(path, text)).collect();
    let excepted: Vec<&str> = NO_LIMITS.iter().map(|(name, _)| *name).collect();
    let without = without_row(&rows(&text), &bounds);
    nothing_to_complain(&only_shrinks("NO_LIMITS", &without, &excepted));
}

#[test]
fn a_limit_that_the_code_does_not_have_is_found() {
    let source = |file: &str| {
        (file == "a.rs").then(|| "pub(crate) const SIZE_MAX: usize = 64 * 1024;".to_owned())
    };
    let look = |row: &str| wrong_rows(&rows(row), &source).len();
    assert_eq!(look("| `SIZE_MAX` | `64 * 1024` | `a.rs` | x |"), 0);
    assert_eq!(look("| `SIZE_MAX` | `65 * 1024` | `a.rs` | x |"), 1);
    assert_eq!(look("| `SIZE_MIN` | `64 * 1024` | `a.rs` | x |"), 1);
    assert_eq!(look("| `SIZE_MAX` | `64 * 1024` | `b.rs` | x |"), 1);
    assert_eq!(look("| `protocol` | words | for people |"), 0);
}

#[test]
fn a_bound_that_the_table_does_not_have_is_found() {
    let path = Path::new("crates/a/src/a.rs");
    let look = |code: &str, table: &str| without_row(&rows(table), &bounds(path, code)).len();
    let code = "pub(crate) const SIZE_MAX: usize = 64;";
    assert_eq!(look(code, ""), 1);
    assert_eq!(look(code, "| `SIZE_MAX` | `64` | `crates/a/src/a.rs` | x |"), 0);
    assert_eq!(look(code, "| `SIZE_MAX` | `64` | `crates/a/src/b.rs` | x |"), 1);
    for good in [
        "const WAIT_MAX: Duration = Duration::from_secs(1);",
        "const WAIT_MICROS_MAX: u64 = 1;",
        "// const SIZE_MAX: usize = 64;",
        "#[cfg(test)]\nmod tests { const SIZE_MAX: usize = 64; }",
    ] {
        assert_eq!(look(good, ""), 0, "{good}");
    }
}
