//! The shape of a file: how it begins, how long and wide it is, and how many fields a struct has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::source::{Layers, has_word, inside, layers, parts, without_tests};
use crate::tree::{
    crate_of, files, nothing_to_complain, only_shrinks, product_files, read, root, rust_files,
};

/// Words that mark unfinished work. Written in two parts, or this file would break its own rule.
const LEFTOVERS: &[&str] =
    &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

const LINES_MAX: usize = 800;

/// The largest file in the repository, in bytes; the lock file of the dependencies may be larger.
const BYTES_MAX: u64 = 256 * 1024;

/// The widest line, in characters, of code and of comments. Only the inside of a text may be wider:
/// what is laid out in columns for people cannot be broken.
const COLUMNS_MAX: usize = 100;

/// The most fields of a struct in what we ship: more, and it is several things under one name.
const FIELDS_MAX: usize = 12;

/// Structs that still have more, each with its number.
const WITH_MANY_FIELDS: &[&str] = &["replication::Message 15"];

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
    for path in files() {
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
    for path in files() {
        let bytes = fs::metadata(root.join(&path)).map(|data| data.len()).unwrap_or_default();
        complaints.extend(too_big(&path, bytes));
    }
    nothing_to_complain(&complaints);
}

#[test]
fn no_line_is_too_wide() {
    let mut complaints = Vec::new();
    for (path, text) in rust_files() {
        complaints.extend(wide_lines(&path, &text));
    }
    nothing_to_complain(&complaints);
}

#[test]
fn no_struct_has_too_many_fields() {
    let mut large = BTreeSet::new();
    for (path, text) in product_files() {
        for (name, fields) in structs(&text).into_iter().filter(|(_, fields)| *fields > FIELDS_MAX)
        {
            large.insert(format!("{}::{name} {fields}", crate_of(&path)));
        }
    }
    nothing_to_complain(&only_shrinks("WITH_MANY_FIELDS", &large, WITH_MANY_FIELDS));
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

fn wide_lines(path: &Path, text: &str) -> Vec<String> {
    let Layers { code, comments } = layers(text);
    let columns = |line: &str| line.trim_end().chars().count();
    let pairs = code.lines().zip(comments.lines());
    let widths = pairs.map(|(code, comment)| columns(code).max(columns(comment)));
    let lines = widths.enumerate().map(|(number, width)| (number + 1, width));
    lines
        .filter(|(_, columns)| *columns > COLUMNS_MAX)
        .map(|(number, columns)| {
            format!("{}:{number}: {columns} columns; the most is {COLUMNS_MAX}", path.display())
        })
        .collect()
}

/// The structs of a file, its tests aside, with the numbers of their fields.
fn structs(text: &str) -> BTreeMap<String, usize> {
    let code = without_tests(&layers(text).code);
    let mut found = BTreeMap::new();
    for (at, _) in code.match_indices("struct ").filter(|(at, _)| starts_a_word(&code, *at)) {
        let rest = &code[at + "struct ".len()..];
        let name =
            rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let Some(open) = rest.find(['{', '(', ';']) else { continue };
        let fields = match &rest[open..=open] {
            "{" => inside(&rest[open..], '{', '}'),
            "(" => inside(&rest[open..], '(', ')'),
            _ => None,
        };
        found.insert(name.to_owned(), fields.map_or(0, |fields| parts(fields).len()));
    }
    found
}

fn starts_a_word(code: &str, at: usize) -> bool {
    code[..at].chars().next_back().is_none_or(char::is_whitespace)
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
fn a_wide_line_is_found_in_comments_too() {
    let path = Path::new("x.rs");
    assert_eq!(wide_lines(path, &format!("ok\n// {}", "x".repeat(98))).len(), 1);
    assert!(wide_lines(path, &format!("// {}", "\u{e9}".repeat(97))).is_empty());
}

#[test]
fn the_fields_of_a_struct_are_counted() {
    let text = "pub struct A<T> {\n    /// a, b\n    a: Map<T, u8>,\n    pub b: (u8, u8),\n}\n\
                struct B(u8, u16);\nstruct C;\n#[cfg(test)]\nstruct D { a: u8 }";
    let found = structs(text);
    assert_eq!(
        found.into_iter().collect::<Vec<_>>(),
        [("A".to_owned(), 2), ("B".to_owned(), 2), ("C".to_owned(), 0)]
    );
}
