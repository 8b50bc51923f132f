//! `cargo xtask mutations`: bugs planted by hand, to see that the tests would find them.
//!
//! Each file of `dev/mutations` has some. A bug is told by what stands in a source file and what
//! would stand there instead, so it goes along with edits elsewhere, and says so when it does not
//! apply any more. In the new text, `PLANTED` asks whether this very bug is at work: all bugs are
//! built together, in a copy of the tree, and an environment variable chooses one for each run. So
//! sixty bugs cost one build.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::run::say;

/// Chooses the bug. It must not be set while anything else is built or run.
const VARIABLE: &str = "AMRITA_PLANTED";

/// A run with a bug at work that takes longer has found it: the bug makes it hang.
const RUN_SECONDS_MAX: u64 = 900;

/// What is put into the copy's `protocol`, which all crates with bugs import.
const SWITCH: &str = "
/// Whether the planted bug of that name is at work.
pub fn is_planted(name: &str) -> bool {
    static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var(\"AMRITA_PLANTED\").ok()).as_deref() == Some(name)
}
";

const SWITCH_FILE: &str = "crates/protocol/src/lib.rs";

/// A bug.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mutation {
    name: String,
    /// What goes wrong with it.
    what: String,
    finder: Finder,
    edits: Vec<Edit>,
}

/// How a bug is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Finder {
    /// By one of so many seeds, the first of them given.
    Sim { scenario: String, first: u64, seeds: u64 },
    /// By tests of a crate: the target (`lib` or a file of `tests`) and a part of their names.
    Test { package: String, target: String, filter: String },
}

#[derive(Debug, PartialEq, Eq)]
struct Edit {
    file: String,
    before: String,
    after: String,
}

/// What became of a run.
enum Outcome {
    Passed,
    /// What was said.
    Failed(String),
    Hangs,
}

impl Mutation {
    /// All bugs of a file.
    fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut all: Vec<Self> = Vec::new();
        let mut lines = text.lines();
        let mut file = None;
        while let Some(line) = lines.next() {
            if let Some(name) = line.strip_prefix("= ") {
                let name = name.trim().to_owned();
                let what = lines.next().unwrap_or_default().to_owned();
                let finder = lines.next().and_then(|line| line.strip_prefix("by "));
                let finder = finder.ok_or(format!("{name}: the third line begins with 'by'"))?;
                let finder = Finder::parse(finder).map_err(|why| format!("{name}: {why}"))?;
                all.push(Self { name, what, finder, edits: Vec::new() });
            } else if let Some(path) = line.strip_prefix("in ") {
                file = Some(path.trim().to_owned());
            } else if line == "<<<" {
                let mutation = all.last_mut().ok_or("an edit before any '= name'")?;
                let file = file.clone().ok_or(format!("{}: no 'in FILE'", mutation.name))?;
                let mut until = |end: &str| {
                    let found: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
                    found.join("\n")
                };
                let (before, after) = (until("==="), until(">>>"));
                if before.is_empty() || !after.contains("PLANTED") {
                    return Err(format!("{}: an edit without PLANTED", mutation.name));
                }
                mutation.edits.push(Edit { file, before, after });
            } else if !line.is_empty() && !line.starts_with('#') {
                return Err(format!("this line means nothing: {line}"));
            }
        }
        match all.iter().find(|mutation| mutation.edits.is_empty()) {
            Some(mutation) => Err(format!("{} has no edits", mutation.name)),
            None => Ok(all),
        }
    }
}

impl Finder {
    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |text: &str| text.parse().map_err(|_| format!("'{text}' is not a number"));
        match words.as_slice() {
            ["sim", scenario, seeds] => {
                Ok(Self::Sim { scenario: (*scenario).to_owned(), first: 1, seeds: number(seeds)? })
            }
            ["sim", scenario, seeds, "from", first] => Ok(Self::Sim {
                scenario: (*scenario).to_owned(),
                first: number(first)?,
                seeds: number(seeds)?,
            }),
            ["test", package, target, filter @ ..] => Ok(Self::Test {
                package: (*package).to_owned(),
                target: (*target).to_owned(),
                filter: filter.join(" "),
            }),
            _ => Err(format!("'{text}' is neither 'sim SCENARIO SEEDS' nor 'test CRATE TARGET'")),
        }
    }

    /// The seed alone that a run has named, or all.
    fn only(&self, told: &str) -> Self {
        let seed = told.split_once("--seed ").and_then(|(_, rest)| rest.split(' ').next());
        match (self, seed.and_then(|seed| seed.parse().ok())) {
            (Self::Sim { scenario, .. }, Some(first)) => {
                Self::Sim { scenario: scenario.clone(), first, seeds: 1 }
            }
            _ => self.clone(),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Sim { scenario, first: 1, seeds } => format!("sim {scenario}, {seeds} seeds"),
            Self::Sim { scenario, first, seeds } => {
                format!("sim {scenario}, {seeds} seeds from {first} on")
            }
            Self::Test { package, target, filter } => format!("test {package} {target} {filter}"),
        }
    }
}

/// All bugs of the tree at `root`, in order of files.
fn all_of(root: &Path) -> Result<Vec<Mutation>, String> {
    let folder = root.join("dev/mutations");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    let mut all = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|it| it == "txt")) {
        let text = fs::read_to_string(file).map_err(|error| format!("{file:?}: {error}"))?;
        let found = Mutation::parse_all(&text);
        all.extend(found.map_err(|why| format!("{}: {why}", file.display()))?);
    }
    let mut names = BTreeSet::new();
    match all.iter().find(|mutation| !names.insert(&mutation.name)) {
        Some(twice) => Err(format!("two bugs are called {}", twice.name)),
        None => Ok(all),
    }
}

/// The files as they are with all bugs in them. Each edit must fit at one place, and no two may
/// meet.
fn planted(root: &Path, all: &[Mutation]) -> Result<BTreeMap<String, String>, String> {
    let mut places: BTreeMap<&str, Vec<(usize, &Edit, &str)>> = BTreeMap::new();
    let mut texts = BTreeMap::new();
    for (mutation, edit) in all.iter().flat_map(|it| it.edits.iter().map(move |edit| (it, edit))) {
        let text = fs::read_to_string(root.join(&edit.file))
            .map_err(|error| format!("{}: {}: {error}", mutation.name, edit.file))?;
        let found: Vec<usize> = text.match_indices(&edit.before).map(|(at, _)| at).collect();
        let [at] = found.as_slice() else {
            return Err(format!(
                "{} fits {} times into {}:\n{}",
                mutation.name,
                found.len(),
                edit.file,
                edit.before
            ));
        };
        places.entry(&edit.file).or_default().push((*at, edit, &mutation.name));
        texts.insert(edit.file.clone(), text);
    }
    for (file, mut edits) in places {
        edits.sort_by_key(|(at, ..)| *at);
        if let Some(pair) = edits.windows(2).find(|it| it[0].0 + it[0].1.before.len() > it[1].0) {
            return Err(format!("{} and {} meet in {file}", pair[0].2, pair[1].2));
        }
        let text = texts.get_mut(file).expect("it was read");
        for (at, edit, name) in edits.into_iter().rev() {
            let at_work = format!("protocol::is_planted(\"{name}\")");
            let after = edit.after.replace("PLANTED", &at_work);
            text.replace_range(at..at + edit.before.len(), &after);
        }
    }
    Ok(texts)
}

/// Makes the copy what the tree is, with the bugs. What is the same is left, so that little is
/// built anew.
fn copy(root: &Path, to: &Path, all: &[Mutation]) -> Result<(), String> {
    let mut planted = planted(root, all)?;
    let main = planted.remove(SWITCH_FILE).map_or_else(
        || fs::read_to_string(root.join(SWITCH_FILE)).map_err(|error| error.to_string()),
        Ok,
    )?;
    planted.insert(SWITCH_FILE.into(), main + SWITCH);
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(list).current_dir(root).output();
    let listed = listed.map_err(|error| format!("git: {error}"))?.stdout;
    let listed = String::from_utf8(listed).map_err(|error| error.to_string())?;
    for file in listed.split('\0').filter(|file| !file.is_empty()) {
        let Ok(mut bytes) = fs::read(root.join(file)) else { continue };
        if let Some(text) = planted.get(file) {
            bytes = text.clone().into_bytes();
        }
        let target = to.join(file);
        if fs::read(&target).is_ok_and(|there| there == bytes) {
            continue;
        }
        let folder = target.parent().expect("a file is in a folder");
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        fs::write(&target, bytes).map_err(|error| format!("{}: {error}", target.display()))?;
    }
    Ok(())
}

/// A place with all bugs built, and none at work so far.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Runs a program of the copy, but not for longer than that many seconds (0: for ever).
    fn run(
        &self,
        words: &[String],
        planted: Option<&str>,
        seconds_max: u64,
    ) -> Result<Outcome, String> {
        // It ends what `cargo` has started as well.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &seconds_max.to_string()]).args(words);
        command.current_dir(&self.tree).stdin(Stdio::null());
        command.env("CARGO_TARGET_DIR", &self.target).env_remove(VARIABLE);
        // What others have written is built as for tests anyway; with this, seeds take a fifth.
        command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
        if let Some(name) = planted {
            command.env(VARIABLE, name);
        }
        let output = command.output().map_err(|error| format!("timeout cannot start: {error}"))?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        Ok(match output.status.code() {
            Some(0) => Outcome::Passed,
            Some(124 | 137) => Outcome::Hangs,
            _ => Outcome::Failed(text),
        })
    }

    fn cargo(&self, words: &str) -> Vec<String> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        std::iter::once(cargo).chain(words.split_whitespace().map(str::to_owned)).collect()
    }

    fn build(&self, finder: &Finder) -> Vec<String> {
        self.cargo(&match finder {
            Finder::Sim { .. } => "build --quiet --package sim".to_owned(),
            Finder::Test { package, target, .. } => {
                format!("test --quiet --no-run --package {package} {}", target_of(target))
            }
        })
    }

    fn find(&self, finder: &Finder) -> Vec<String> {
        match finder {
            Finder::Sim { scenario, first, seeds } => {
                let sim = self.target.join("debug/sim").to_string_lossy().into_owned();
                let words = format!("--seed {first} --seeds {seeds} --scenario {scenario} --first");
                let words = words.split(' ').map(str::to_owned);
                std::iter::once(sim).chain(words).collect()
            }
            Finder::Test { package, target, filter } => self.cargo(&format!(
                "test --quiet --package {package} {} -- {filter}",
                target_of(target)
            )),
        }
    }
}

fn target_of(target: &str) -> String {
    if target == "lib" { "--lib".to_owned() } else { format!("--test {target}") }
}

/// Builds the bugs, and sees that each is found, by what finds nothing without it.
pub(crate) fn mutations(arguments: &[String]) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().map_err(|error| error.to_string())?;
    let all = all_of(&root)?;
    let chosen: Vec<&Mutation> = match arguments {
        [] => all.iter().collect(),
        [flag] if flag == "--list" => {
            all.iter()
                .for_each(|it| say(&format!("{}: {} ({})", it.name, it.what, it.finder.shown())));
            return planted(&root, &all).map(drop);
        }
        [flag, names] if flag == "--only" => {
            let names: Vec<&str> = names.split(',').collect();
            if let Some(name) = names.iter().find(|name| all.iter().all(|it| it.name != **name)) {
                return Err(format!("there is no bug '{name}'; --list shows them"));
            }
            all.iter().filter(|it| names.contains(&it.name.as_str())).collect()
        }
        _ => return Err(format!("mutations takes --list or --only A,B, not {arguments:?}")),
    };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let folder = target.join("mutations");
    let copy_of = Copy { tree: folder.join("tree"), target: folder.join("target") };
    copy(&root, &copy_of.tree, &all)?;
    let finders: BTreeSet<&Finder> = chosen.iter().map(|it| &it.finder).collect();
    build(&copy_of, &finders)?;
    let mut sound = Sound::default();
    say("\n| planted bug | what goes wrong | found by | how |\n|---|---|---|---|");
    let mut missed = Vec::new();
    for mutation in &chosen {
        let began = Instant::now();
        let (is_found, how) = find(&copy_of, mutation, &mut sound)?;
        if !is_found {
            missed.push(mutation.name.as_str());
        }
        let seconds = began.elapsed().as_secs();
        let Mutation { name, what, finder, .. } = mutation;
        say(&format!("| {name} | {what} | {} | {how} ({seconds} s) |", finder.shown()));
    }
    say(&format!("\n{} of {} bugs were found", chosen.len() - missed.len(), chosen.len()));
    if missed.is_empty() { Ok(()) } else { Err(format!("not found: {}", missed.join(", "))) }
}

/// Whether a bug was found by its finder, and how. What finds something without the bug, too, has
/// not found it.
fn find(copy: &Copy, mutation: &Mutation, sound: &mut Sound) -> Result<(bool, String), String> {
    let Mutation { name, finder, .. } = mutation;
    let (told, again) = match copy.run(&copy.find(finder), Some(name), RUN_SECONDS_MAX)? {
        Outcome::Passed => return Ok((false, "**not found**".to_owned())),
        Outcome::Failed(text) => {
            let told = how(&text);
            let again = finder.only(&told);
            (told, again)
        }
        Outcome::Hangs => ("it hangs".to_owned(), finder.clone()),
    };
    Ok(match sound.why_not(copy, &again)? {
        None => (true, told),
        Some(why) => (false, format!("**without the bug, too**: {}: {why}", again.shown())),
    })
}

/// What finds nothing while no bug is at work.
#[derive(Default)]
struct Sound(BTreeSet<Finder>);

impl Sound {
    /// None: it finds nothing.
    fn why_not(&mut self, copy: &Copy, finder: &Finder) -> Result<Option<String>, String> {
        if self.0.contains(finder) {
            return Ok(None);
        }
        Ok(match copy.run(&copy.find(finder), None, RUN_SECONDS_MAX)? {
            Outcome::Passed => {
                self.0.insert(finder.clone());
                None
            }
            Outcome::Failed(text) => Some(how(&text)),
            Outcome::Hangs => Some("it hangs".to_owned()),
        })
    }
}

fn build(copy: &Copy, finders: &BTreeSet<&Finder>) -> Result<(), String> {
    let builds: BTreeSet<Vec<String>> = finders.iter().map(|finder| copy.build(finder)).collect();
    for build in builds {
        say(&format!("== {}", build.join(" ")));
        if let Outcome::Failed(why) = copy.run(&build, None, 0)? {
            return Err(format!("the bugs cannot be built:\n{why}"));
        }
    }
    Ok(())
}

/// The line of a run's words that tells most.
fn how(text: &str) -> String {
    const LETTERS_MAX: usize = 160;
    let seed = text.lines().find(|line| line.starts_with("cargo run -p sim"));
    let panic = || text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    let error = || text.lines().find(|line| line.starts_with("error"));
    let last = || text.lines().last();
    let line = seed.or_else(panic).or_else(error).or_else(last).unwrap_or("(no words)");
    line.replace('|', "/").chars().take(LETTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A remark.\n= one\nIt is wrong.\nby sim kills 12\nin a.rs\n<<<\nif a {\n===\n\
                        if !PLANTED && a {\n>>>\n";

    #[test]
    fn a_bug_is_read_and_one_without_a_switch_is_refused() {
        let all = Mutation::parse_all(TEXT).unwrap();
        assert_eq!(all[0].edits[0].before, "if a {");
        let seeds = Finder::Sim { scenario: "kills".into(), first: 1, seeds: 12 };
        assert_eq!(all[0].finder, seeds);
        assert!(Mutation::parse_all(&TEXT.replace("PLANTED", "true")).is_err());
        assert!(Mutation::parse_all(&TEXT.replace("by sim", "by luck")).is_err());
        assert!(Mutation::parse_all("= one\nx\nby sim a 1\n").is_err(), "no edits");
    }

    #[test]
    fn without_the_bug_the_seed_that_found_it_is_played_alone() {
        let seeds = |first, seeds| Finder::Sim { scenario: "kills".into(), first, seeds };
        let told = "cargo run -p sim -- --seed 7 --scenario kills: two owners";
        assert_eq!(seeds(1, 12).only(told), seeds(7, 1));
        assert_eq!(seeds(1, 12).only("no run has reached this: a vote"), seeds(1, 12));
        let test = Finder::parse("test group lib").unwrap();
        assert_eq!(test.only(told), test);
    }

    #[test]
    fn each_bug_still_applies_and_there_are_enough() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let all = all_of(&root).unwrap();
        let files = planted(&root, &all).unwrap();
        assert!(all.len() >= 40, "{} bugs", all.len());
        assert!(files.values().all(|text| !text.contains("PLANTED")));
    }
}
