//! No circle of files inside a crate: two files that import each other are one file in two
//! pieces, and neither can be read, tested or replaced alone.
//!
//! The graph is made of what a file names: `use` and paths that begin with `crate`, `self`,
//! `super` or a module of its own. Declaring a module (`mod`) and passing on its names (`pub use`)
//! is not using it. A name that was passed on leads to the file that has it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::{is_in_name, layers, names, parts, test_modules, without_tests};
use crate::tree::{crate_of, nothing_to_complain, product_files};

/// One crate's files, by the paths of their modules; the root's path is empty.
#[derive(Default)]
struct Modules {
    files: BTreeMap<Vec<String>, Module>,
}

struct Module {
    path: PathBuf,
    /// Without comments, text, tests and imports.
    code: String,
    /// What it imports or passes on, by the name under which it has it.
    imports: BTreeMap<String, Import>,
}

struct Import {
    path: Vec<String>,
    /// It is for others to use (`pub use`), and this file does nothing with it.
    is_passed_on: bool,
}

impl Modules {
    /// Takes the files of one crate, each by its path in `src` and its text.
    fn new(sources: &[(PathBuf, String)]) -> Self {
        let mut modules = Self::default();
        let mut only_tests = BTreeSet::new();
        for (path, text) in sources {
            let all_code = layers(text).code;
            let place = module_path(path);
            only_tests.extend(
                test_modules(&all_code).into_iter().map(|name| [&*place, &[name]].concat()),
            );
            let code = without_tests(&all_code);
            let (imports, code) = imports(&code);
            modules.files.insert(place, Module { path: path.clone(), code, imports });
        }
        modules.files.retain(|place, _| {
            !only_tests.iter().any(|test: &Vec<String>| place.starts_with(test.as_slice()))
        });
        modules
    }

    /// Which file uses which others.
    fn graph(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut graph = BTreeMap::new();
        for (place, module) in &self.files {
            let mut uses = BTreeSet::new();
            let used = module.imports.values().filter(|import| !import.is_passed_on);
            let named = paths_in(&module.code);
            for path in used.map(|import| &import.path).chain(&named) {
                uses.extend(self.home(place, path, 0));
            }
            uses.remove(module.path.as_path());
            graph.insert(module.path.as_path(), uses);
        }
        graph
    }

    /// The file that has what a path names, if it is one of this crate.
    fn home(&self, place: &[String], path: &[String], depth: usize) -> Option<&Path> {
        let mut at = place.to_vec();
        let mut rest = path;
        let mut is_anchored = false;
        while let Some((first, after)) = rest.split_first() {
            match first.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()),
                _ => break,
            }
            is_anchored = true;
            rest = after;
        }
        let mut is_inside = is_anchored;
        while let Some((first, after)) = rest.split_first() {
            let deeper = [at.as_slice(), std::slice::from_ref(first)].concat();
            if !self.files.contains_key(&deeper) {
                break;
            }
            (at, rest, is_inside) = (deeper, after, true);
        }
        let module = self.files.get(&at).filter(|_| is_inside)?;
        // Names are passed on a few times at most.
        if let Some((name, after)) = rest.split_first().filter(|_| depth < 8)
            && let Some(import) = module.imports.get(name)
        {
            let path = [import.path.as_slice(), after].concat();
            return self.home(&at, &path, depth + 1).or(Some(&module.path));
        }
        Some(&module.path)
    }
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
fn module_path(path: &Path) -> Vec<String> {
    let parts = path.iter().filter_map(|part| part.to_str());
    let mut place: Vec<String> =
        parts.skip_while(|part| *part != "src").skip(1).map(str::to_owned).collect();
    let file = place.pop().unwrap_or_default();
    let name = file.trim_end_matches(".rs");
    if !["lib", "main", "mod"].contains(&name) {
        place.push(name.to_owned());
    }
    place
}

/// The imports of a file, and the rest of its code.
fn imports(code: &str) -> (BTreeMap<String, Import>, String) {
    let mut trees = Vec::new();
    let mut rest = code.to_owned();
    for (at, _) in code.match_indices("use ") {
        let before = code[..at].trim_end();
        let is_item = before.is_empty() || before.ends_with(['}', ';', '{', ']']);
        let is_public = before.ends_with("pub") || is_visibility(before);
        if code[..at].ends_with(is_in_name) || !is_item && !is_public {
            continue;
        }
        let Some(length) = code[at..].find(';') else { continue };
        let end = at + length;
        rest.replace_range(at..end, &" ".repeat(length));
        trees.push((is_public, code[at + 4..end].to_owned()));
    }
    let used: BTreeSet<&str> = names(&rest).map(|(_, name)| name).collect();
    let mut imports = BTreeMap::new();
    for (is_public, tree) in trees {
        for (name, path) in flatten(&[], &tree) {
            let is_used = used.contains(name.as_str());
            imports.insert(name, Import { path, is_passed_on: is_public && !is_used });
        }
    }
    (imports, rest)
}

/// Whether it ends with `pub(crate)` or the like.
fn is_visibility(before: &str) -> bool {
    before.ends_with(')')
        && before.rfind("pub(").is_some_and(|at| !before[at..].contains(['{', ';', '\n']))
}

/// The paths of a tree of imports, each with the name that it gives.
fn flatten(prefix: &[String], tree: &str) -> Vec<(String, Vec<String>)> {
    let tree = tree.trim();
    if let Some((before, group)) = tree.split_once('{') {
        let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
        let prefix = [prefix, &segments(before)].concat();
        return parts(group).into_iter().flat_map(|part| flatten(&prefix, part)).collect();
    }
    let (path, alias) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut path = [prefix, &segments(path)].concat();
    let own = path.last().cloned().unwrap_or_default();
    if own == "self" && path.len() > 1 {
        path.pop();
    }
    let name = if alias.is_empty() {
        path.last().cloned().unwrap_or_default()
    } else {
        alias.trim().into()
    };
    vec![(name, path)]
}

fn segments(path: &str) -> Vec<String> {
    path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The paths that stand in some code.
fn paths_in(code: &str) -> Vec<Vec<String>> {
    let words = code.split(|char: char| !is_in_name(char) && char != ':');
    words.filter(|word| word.contains("::")).map(segments).collect()
}

/// One circle for each knot of files, as `a -> b -> a`.
fn circles(graph: &BTreeMap<&Path, BTreeSet<&Path>>) -> Vec<String> {
    let mut found = Vec::new();
    let mut known: BTreeSet<&Path> = BTreeSet::new();
    for start in graph.keys() {
        if known.contains(start) {
            continue;
        }
        if let Some(circle) = shortest_way_back(graph, start) {
            known.extend(&circle);
            let names: Vec<String> = circle
                .iter()
                .chain(circle.first())
                .map(|path| path.display().to_string())
                .collect();
            found.push(names.join(" -> "));
        }
    }
    found
}

fn shortest_way_back<'a>(
    graph: &BTreeMap<&'a Path, BTreeSet<&'a Path>>,
    start: &'a Path,
) -> Option<Vec<&'a Path>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way.last().expect("a way has a beginning");
            for next in graph.get(last).into_iter().flatten() {
                if *next == start {
                    return Some(way);
                }
                if seen.insert(*next) {
                    longer.push([way.as_slice(), &[*next]].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

/// The files of each crate, by its name.
fn crates() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let mut crates: BTreeMap<String, Vec<(PathBuf, String)>> = BTreeMap::new();
    for (path, text) in product_files() {
        crates.entry(crate_of(&path)).or_default().push((path, text));
    }
    crates
}

#[test]
fn no_crate_has_a_circle_of_files() {
    let mut complaints = Vec::new();
    for (name, files) in crates() {
        let found = circles(&Modules::new(&files).graph());
        complaints.extend(found.iter().map(|circle| format!("{name}: {circle}")));
    }
    nothing_to_complain(&complaints);
}

/// Who knows the whole node knows everything: only `lib.rs` imports the module of `Node`.
#[test]
fn no_file_of_node_imports_the_whole_node() {
    let crates = crates();
    let modules = Modules::new(&crates["node"]);
    let graph = modules.graph();
    let whole = Path::new("crates/node/src/node.rs");
    let importers = graph
        .iter()
        .filter(|(path, uses)| uses.contains(whole) && !path.ends_with("lib.rs"))
        .map(|(path, _)| format!("{} imports the whole node", path.display()));
    nothing_to_complain(&importers.collect::<Vec<_>>());
}

#[cfg(test)]
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<(PathBuf, String)> =
        files.iter().map(|(path, text)| (format!("src/{path}").into(), (*text).into())).collect();
    circles(&Modules::new(&files).graph())
}

#[test]
fn a_circle_is_found_in_every_form() {
    for (a, b) in [
        ("use crate::b::X;", "use crate::a::Y;"),
        ("use crate::{b::X, c::Z};", "use super::a::{self, Y};"),
        ("fn f() -> crate::b::X {}", "use crate::a;\nfn g() -> a::Y {}"),
        ("use crate::X;", "pub(crate) use crate::a::Y;\nfn g(_: Y) {}"),
        ("use crate::b::*;", "use crate::a::Y as W;"),
    ] {
        let root = "mod a;\nmod b;\nmod c;\npub use b::X;\n";
        let found = circles_of(&[("lib.rs", root), ("a.rs", a), ("b.rs", b), ("c.rs", "")]);
        assert_eq!(found, ["src/a.rs -> src/b.rs -> src/a.rs"], "{a} {b}");
    }
    let three = [
        ("lib.rs", "mod a; mod b; mod c; pub use c::Z;"),
        ("a.rs", "use crate::b;"),
        ("b.rs", "use crate::Z;"),
        ("c.rs", "use crate::a;"),
    ];
    assert_eq!(circles_of(&three).len(), 1);
    let parent = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; use b::X; struct Y;"),
        ("a/b.rs", "use super::Y;"),
    ];
    assert_eq!(circles_of(&parent).len(), 1);
}

#[test]
fn what_is_no_circle_is_let_be() {
    for (a, b) in [
        ("use crate::b::X;", "// use crate::a::Y;"),
        ("use crate::b::X;", "#[cfg(test)]\nmod tests { use crate::a::Y; }"),
        ("use crate::b::X;", "fn f() { let text = \"crate::a::Y\"; }"),
        ("use crate::b::X;", "use other::a::Y;"),
        ("pub use crate::b::X;", "use crate::a::Y;"),
    ] {
        let root = "mod a;\nmod b;\npub use b::X;\n";
        let found = circles_of(&[("lib.rs", root), ("a.rs", a), ("b.rs", b)]);
        assert!(found.is_empty(), "{a} {b} {found:?}");
    }
    // A test's own file may use what it tests.
    let files = [
        ("lib.rs", "mod a;\n#[cfg(test)]\nmod b;"),
        ("a.rs", "use crate::b::X;"),
        ("b.rs", "use crate::a::Y;"),
    ];
    assert!(circles_of(&files).is_empty());
}
