//! The vocabulary: words of our own that gave way to the trade's do not come back, and a few turns
//! of phrase that a reader stumbles over stay out of the comments.

use std::collections::BTreeSet;

use crate::source::{layers, names};
use crate::tree::{crate_of, nothing_to_complain, rust_files};

/// Words that no name may have, each with what is said instead. A name is taken apart at `_` and
/// at capitals: `office_input` and `OfficeInput` both have `office`.
const BANNED: &[(&str, &str)] = &[
    ("attend", "program input"),
    ("ballot", "hard state"),
    ("charter", "initial configuration"),
    ("courtesy", "http errors"),
    ("desk", "leader"),
    ("dice", "rng"),
    ("ears", "decoder"),
    ("errand", "request"),
    ("errands", "requests"),
    ("ground", "context"),
    ("mind", "a verb that names the effect"),
    ("mouth", "read half"),
    ("office", "leader"),
    ("papers", "docs"),
    ("shelf", "spill"),
    ("stood", "campaigned"),
    ("troupe", "programs"),
    ("voice", "output state"),
    ("weather", "faults"),
];

/// Turns of phrase that comments must not have, each with what is said instead.
const PHRASES: &[(&str, &str)] = &[("so many", "at most"), ("so often", "at most ... times")];

/// The parts of a name, in lower case.
fn parts_of(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut was_upper = true;
    for char in name.chars() {
        let starts = char == '_' || char.is_uppercase() && !was_upper;
        if starts {
            parts.push(String::new());
        }
        if char != '_' {
            parts.last_mut().expect("there is always one").extend(char.to_lowercase());
        }
        was_upper = char.is_uppercase() || char == '_';
    }
    parts
}

/// The banned words in the names of some code.
fn banned_names(text: &str) -> BTreeSet<&'static str> {
    let code = layers(text).code;
    let all: BTreeSet<&str> = names(&code).map(|(_, name)| name).collect();
    let parts: BTreeSet<String> = all.into_iter().flat_map(parts_of).collect();
    BANNED.iter().map(|(word, _)| *word).filter(|word| parts.contains(*word)).collect()
}

/// The banned phrases in the comments of some code, also where a line ends inside of one.
fn banned_phrases(text: &str) -> BTreeSet<&'static str> {
    let comments = layers(text).comments.to_lowercase();
    let words: Vec<&str> =
        comments.split(|c: char| c.is_whitespace() || "/!".contains(c)).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let line = format!(" {} ", words.join(" "));
    let is_said = |phrase: &str| line.contains(&format!(" {phrase} "));
    PHRASES.iter().map(|(phrase, _)| *phrase).filter(|phrase| is_said(phrase)).collect()
}

fn all(found_in: fn(&str) -> BTreeSet<&'static str>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (path, text) in rust_files() {
        let name = crate_of(&path);
        // This crate is where they are listed.
        if name != "xtask" {
            all.extend(found_in(&text).into_iter().map(|word| format!("{name}: {word}")));
        }
    }
    all
}

#[test]
fn a_word_that_gave_way_does_not_come_back() {
    nothing_to_complain(&all(banned_names).into_iter().collect::<Vec<_>>());
}

#[test]
fn comments_say_it_in_plain_english() {
    nothing_to_complain(&all(banned_phrases).into_iter().collect::<Vec<_>>());
}

#[test]
fn a_banned_word_is_found_in_every_spelling() {
    for bad in
        ["fn mind_it() {}", "struct OfficeInput;", "const DESK_MAX: u8 = 1;", "let errand = 1;"]
    {
        assert_eq!(banned_names(bad).len(), 1, "{bad}");
    }
    for good in ["let remind = 1;", "// an office", "let text = \"desk\";", "fn official() {}"] {
        assert!(banned_names(good).is_empty(), "{good}");
    }
}

#[test]
fn a_banned_phrase_is_found_across_lines() {
    assert_eq!(banned_phrases("/// After so\n/// many tries it ends.").len(), 1);
    assert!(banned_phrases("let text = \"so many\"; // not sonic, many").is_empty());
}
