//! What people read is no Rust: the parts of which a node is made show nothing with `{:?}`, but in
//! what only a programmer sees, when a program has ended for a fault of its own.

use std::path::Path;

use crate::source::{is_in_name, layers, test_modules, without_tests};
use crate::tree::{crate_of, nothing_to_complain, product_files};

/// Commands print for people what tutorials and programs of ours have gone through; the libraries
/// for clients and programs speak to programmers.
const NOT_OF_A_NODE: [&str; 3] = ["amrita", "client", "immortal"];

/// Shows texts of programs in quotes, with what cannot be printed as an escape.
const SHOWS_TEXTS: &str = "crates/immortals/src/describe.rs";

/// Calls whose text is for programmers.
const FOR_PROGRAMMERS: [&str; 8] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "panic",
    "unreachable",
    // Within an implementation of `Debug` or `Display`: what that shows is asked for elsewhere.
    "write",
    "debug_struct",
];

/// The lines that show something as Rust has it.
fn debug_shown(text: &str) -> Vec<usize> {
    let all = layers(text).code;
    let code: Vec<char> = without_tests(&all).chars().collect();
    let shown = [":?}", ":#?}"].into_iter().flat_map(|mark| text.match_indices(mark));
    let lines = shown.filter_map(|(at, _)| {
        // The layers have one character for each of the text.
        let place = text[..at].chars().count();
        let is_in_text = all.chars().nth(place) == Some(' ');
        let call = enclosing_calls(&code, place);
        let is_of_tests = call.is_empty();
        let is_fine = call.iter().any(|name| FOR_PROGRAMMERS.contains(&name.as_str()));
        let line = text[..at].lines().count();
        (is_in_text && !is_of_tests && !is_fine).then_some(line)
    });
    lines.collect()
}

/// The names of the calls around a place, from within; none if the place is not in a call.
fn enclosing_calls(code: &[char], place: usize) -> Vec<String> {
    let (mut depth, mut calls) = (0_usize, Vec::new());
    for at in (0..place).rev() {
        match code[at] {
            ')' => depth += 1,
            '(' if depth > 0 => depth -= 1,
            '(' => {
                let before: String = code[..at]
                    .iter()
                    .rev()
                    .skip_while(|c| **c == '!')
                    .take_while(|c| is_in_name(**c))
                    .collect();
                calls.push(before.chars().rev().collect());
            }
            ';' | '{' | '}' if depth == 0 => break,
            _ => {}
        }
    }
    calls
}

#[test]
fn what_people_read_is_no_rust() {
    let files = product_files();
    let mut only_tests = Vec::new();
    for (path, text) in &files {
        let folder = path.with_extension("");
        let folder = if path.ends_with("mod.rs") || path.ends_with("lib.rs") {
            path.parent().map(Path::to_owned).unwrap_or_default()
        } else {
            folder
        };
        let names = test_modules(&layers(text).code);
        only_tests.extend(names.into_iter().map(|name| folder.join(format!("{name}.rs"))));
    }
    let mut complaints = Vec::new();
    for (path, text) in &files {
        if path.ends_with(SHOWS_TEXTS)
            || only_tests.contains(path)
            || NOT_OF_A_NODE.contains(&crate_of(path).as_str())
        {
            continue;
        }
        complaints.extend(debug_shown(text).into_iter().map(|line| {
            format!("{}:{line} shows something with {{:?}}: say it in words", path.display())
        }));
    }
    nothing_to_complain(&complaints);
}

#[test]
fn a_struct_in_a_line_of_the_log_is_found() {
    let shows = |statement: &str| debug_shown(&format!("fn a() {{ {statement} }}")).len();
    assert_eq!(shows("effects.note(Level::Info, format!(\"it is {it:?}\"));"), 1);
    assert_eq!(shows("tracing::info!(\"{} {:#?}\", 1, it);"), 1);
    for good in [
        "assert!(a == b, \"{a:?}\");",
        "assert!(is_so(\n a,\n b),\n \"it is {}, {:?}\", 1, a);",
        "let x = map.unwrap_or_else(|| panic!(\"{a:?}\"));",
        "// effects.note(\"{it:?}\")",
        "tracing::info!(\"{it}\");",
    ] {
        assert_eq!(shows(good), 0, "{good}");
    }
    let tests = "#[cfg(test)]\nmod tests { fn a() { println!(\"{:?}\", 1); } }";
    assert!(debug_shown(tests).is_empty());
}
