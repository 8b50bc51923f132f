//! The docs point at things that are there: links, and paths in backticks, in Markdown and in doc
//! comments. Each design document has a number of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::layers;
use crate::tree::{nothing_to_complain, read, root, rust_files, with_ending};

/// The folders at the root that a path of ours begins with.
const FOLDERS: &[&str] =
    &["crates/", "dev/", "docs/", "examples/", "api/", "deploy/", ".cfg/", ".ci/"];

/// `[words](target)`: the target must exist, unless it is an address. After a `#` stands a heading
/// of the target, or of the same file when the target is nothing else.
fn dead_links(
    path: &Path,
    text: &str,
    is_there: &dyn Fn(&str) -> bool,
    headings: &dyn Fn(&str) -> BTreeSet<String>,
) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, _) in text.match_indices("](") {
        let rest = &text[at + 2..];
        let Some(end) = rest.find(')') else { continue };
        let (target, anchor) = rest[..end].split_once('#').unwrap_or((&rest[..end], ""));
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        if !target.is_empty() && !is_there(target) {
            complaints.push(format!("{}: there is no {target}", path.display()));
        } else if !anchor.is_empty() && !headings(target).contains(anchor) {
            let here = path.display();
            complaints.push(format!("{here}: there is no heading #{anchor} in '{target}'"));
        }
    }
    complaints
}

/// The anchors of a page's headings, as they are made on the web: small letters, `-` for a blank,
/// nothing for other signs, and a number behind one that was there before.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut is_code = false;
    for line in text.lines() {
        is_code ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if is_code || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let signs = title.trim().to_lowercase();
        let kept = signs.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let mut free = [anchor.clone()].into_iter().chain(numbered);
        anchors.extend(free.find(|name| !anchors.contains(name)));
    }
    anchors
}

/// What stands in backticks and looks like a path of the repository must exist. A `*` in it stands
/// for any name, and then the folder before it must exist.
fn dead_paths(path: &Path, text: &str, is_there: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let is_path = FOLDERS.iter().any(|folder| quoted.starts_with(folder))
                && quoted.chars().all(|c| c.is_alphanumeric() || "/._-*".contains(c));
            let known = match quoted.split_once('*') {
                Some((before, _)) => before.rsplit_once('/').map_or(before, |(folder, _)| folder),
                None => quoted,
            };
            if is_path && !is_there(known) {
                complaints.push(format!("{}:{}: there is no {quoted}", path.display(), number + 1));
            }
        }
    }
    complaints
}

/// The doc comments of a file, on their lines.
fn doc_comments(text: &str) -> String {
    let is_doc =
        |line: &&str| ["//!", "///"].iter().any(|mark| line.trim_start().starts_with(mark));
    let comments = layers(text).comments;
    let lines = comments.lines().map(|line| Some(line).filter(is_doc).unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_docs_point_at_files_that_are_there() {
    let root = root();
    let mut complaints = Vec::new();
    let all = with_ending("md").into_iter().chain(with_ending("txt"));
    for (path, text) in all {
        let folder = path.parent().expect("a file has a folder").to_owned();
        let is_there = |target: &str| root.join(&folder).join(target).exists();
        let headings = |target: &str| match target {
            "" => anchors(&text),
            target => anchors(&read(&root.join(&folder).join(target))),
        };
        complaints.extend(dead_links(&path, &text, &is_there, &headings));
    }
    nothing_to_complain(&complaints);
}

#[test]
fn the_paths_in_backticks_are_there() {
    let root = root();
    let is_there = |target: &str| root.join(target).exists();
    let mut complaints = Vec::new();
    for (path, text) in with_ending("md") {
        complaints.extend(dead_paths(&path, &text, &is_there));
    }
    for (path, text) in rust_files() {
        complaints.extend(dead_paths(&path, &doc_comments(&text), &is_there));
    }
    nothing_to_complain(&complaints);
}

/// A design document is called by its number, so two with one number cannot be told apart.
fn numbered_twice(names: &[String]) -> Vec<String> {
    let mut by_number: BTreeMap<&str, &str> = BTreeMap::new();
    let mut complaints = Vec::new();
    for name in names {
        let number = name.split('-').next().unwrap_or_default();
        if number.len() != 4 || number.parse::<u32>().is_err() {
            complaints.push(format!("docs/design/{name}: begin the name with four digits"));
        } else if let Some(first) = by_number.insert(number, name) {
            complaints.push(format!("docs/design/{name} has the number of {first}"));
        }
    }
    complaints
}

#[test]
fn each_design_document_has_a_number_of_its_own() {
    let all = with_ending("md").into_iter().map(|(path, _)| path);
    let of_design = all.filter(|path| path.starts_with("docs/design"));
    let name = |path: PathBuf| path.file_name()?.to_str().map(str::to_owned);
    let names: Vec<String> = of_design.filter_map(name).collect();
    assert!(names.len() > 10, "docs/design was not found");
    nothing_to_complain(&numbered_twice(&names));
}

#[test]
fn a_number_that_is_there_twice_is_found() {
    let look = |names: &[&str]| {
        numbered_twice(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).len()
    };
    assert_eq!(look(&["0001-a.md", "0002-b.md"]), 0);
    assert_eq!(look(&["0001-a.md", "0001-b.md", "0001-c.md"]), 2);
    assert_eq!(look(&["a.md", "1-b.md"]), 2);
}

#[test]
fn a_dead_link_is_found() {
    let is_there = |target: &str| target == "there.md";
    let headings = |_: &str| anchors("# Part\n```sh\n# No heading\n```\n## Part\n");
    let look = |text: &str| dead_links(Path::new("x.md"), text, &is_there, &headings).len();
    assert_eq!(look("[a](there.md) [b](there.md#part) [c](#part-1) [d](https://e.org/x#y)"), 0);
    assert_eq!(look("[a](gone.md) [b](gone.md#part) [c](there.md#parts) [d](#no-heading)"), 4);
}

#[test]
fn an_anchor_is_made_as_on_the_web() {
    let text = "# `amrita node`: run, and more\n## Backup & restore\n";
    let expected = ["amrita-node-run-and-more", "backup--restore"].map(str::to_owned);
    assert_eq!(anchors(text), expected.into());
}

#[test]
fn a_dead_path_in_backticks_is_found() {
    let is_there = |target: &str| ["crates/a/src", "docs/b.md"].contains(&target);
    let look = |text: &str| dead_paths(Path::new("x.md"), text, &is_there).len();
    assert_eq!(look("`docs/b.md`, `crates/a/src/*.rs`, `/docs/c` and `docs/ is not` docs/c"), 0);
    assert_eq!(look("see `docs/c.md` and `crates/b/src/*.rs`"), 2);
    let code = "//! `docs/c.md`\n// `docs/d.md`\nlet a = \"/// `docs/e.md`\";";
    assert_eq!(look(&doc_comments(code)), 1);
}
