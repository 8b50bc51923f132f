//! What people and programs see: lines, JSON, tables.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use client::Response;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::outcome::{Outcome, refusal};

/// Cells wider than this are cut.
const CELL_CHARACTERS_MAX: usize = 60;

/// Set when something could not be said, and nobody wanted it that way.
static UNSAID: AtomicBool = AtomicBool::new(false);

/// A line on standard output. A reader who went away (`| head`) is no error; a disk that is full is
/// one, and the command fails in the end.
pub(crate) fn say(text: &str) {
    is_said(text);
}

/// Whether all was said, as far as anybody listened.
pub(crate) fn is_all_said() -> bool {
    !UNSAID.load(Ordering::Relaxed)
}

/// The same, for what never ends by itself: false when nobody reads it any more.
pub(crate) fn is_said(text: &str) -> bool {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                UNSAID.store(true, Ordering::Relaxed);
            }
            false
        }
    }
}

/// A line for people, beside what programs read.
pub(crate) fn aside(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// What went wrong, on standard error.
pub(crate) fn error(text: &str) {
    drop(writeln!(io::stderr().lock(), "error: {text}"));
}

/// JSON for people: in lines, and each number digit for digit as it stands there.
fn pretty(json: &str) -> String {
    const INDENT: &str = "  ";
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut is_text, mut is_escaped) = (0, false, false);
    let mut signs = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(INDENT, depth));
    };
    while let Some(sign) = signs.next() {
        if is_text {
            out.push(sign);
            is_text = is_escaped || sign != '"';
            is_escaped = !is_escaped && sign == '\\';
            continue;
        }
        match sign {
            '{' | '[' => {
                out.push(sign);
                while signs.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                match signs.next_if(|next| ['}', ']'].contains(next)) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(sign);
            }
            ',' => {
                out.push(sign);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ if sign.is_ascii_whitespace() => {}
            _ => {
                is_text = sign == '"';
                out.push(sign);
            }
        }
    }
    out
}

/// Shows an answer: in one line for programs, spread out for people. An answer that tells of an
/// error becomes the error of the command.
pub(crate) fn show(response: &Response, json: bool) -> Outcome {
    if json {
        // Also when it is an error: programs read the code from it.
        say(&String::from_utf8_lossy(&response.body));
    }
    if !response.is_success() {
        return Err(refusal(response));
    }
    if !json && !response.body.is_empty() {
        match serde_json::from_slice::<&RawValue>(&response.body) {
            Ok(json) => say(&pretty(json.get())),
            Err(_) => say(String::from_utf8_lossy(&response.body).trim_end()),
        }
    }
    Ok(())
}

/// A change that is done: what the cluster said for programs, a sentence for people.
pub(crate) fn done(response: &Response, json: bool, sentence: &str) -> Outcome {
    if json || !response.is_success() {
        return show(response, json);
    }
    say(sentence);
    Ok(())
}

/// Columns side by side, with a heading; numbers to the right.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let cut = |cell: &str| {
        if cell.chars().count() <= CELL_CHARACTERS_MAX {
            return cell.to_owned();
        }
        cell.chars().take(CELL_CHARACTERS_MAX - 3).collect::<String>() + "..."
    };
    let heading: Vec<String> = heading.iter().map(|name| name.to_uppercase()).collect();
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| cut(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&heading]).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).peekable();
        cells.peek().is_some() && cells.all(|cell| cell.is_empty() || cell.parse::<f64>().is_ok())
    };
    let columns: Vec<(usize, bool)> =
        (0..heading.len()).map(|column| (width(column), is_number(column))).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&columns).map(|(cell, (width, right))| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    [&heading].into_iter().chain(&rows).map(line).collect::<Vec<_>>().join("\n")
}

/// A word of a command as a person types it: a shell takes it as it is.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A value in a cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `512 B`, `12 KiB`, `3.4 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    // Of a size for people three digits matter.
    let mut tenths = u128::from(bytes) * 10 / 1_024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    if tenths >= 100 {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::problem;
    use serde_json::json;

    #[test]
    fn a_table_is_aligned_with_numbers_to_the_right() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect();
        let rows = [row(&["n1", "5", ""]), row(&["node-two", "12", "x"])];
        let expected = "ID        COUNT  NOTE\nn1            5\nnode-two     12  x";
        assert_eq!(table(&["id", "count", "note"], &rows), expected);
        let long = table(&["x"], &[vec!["y".repeat(100)]]);
        assert!(long.ends_with("...") && long.len() < 70);
    }

    #[test]
    fn json_for_people_has_each_digit_and_each_sign() {
        let json = r#"{"a":[1.10,123456789012345678901234567890,{}],"b":"x\\\",{[:","c":[ ]}"#;
        let shown = pretty(json);
        let lines = [
            "{",
            "  \"a\": [",
            "    1.10,",
            "    123456789012345678901234567890,",
            "    {}",
            "  ],",
            r#"  "b": "x\\\",{[:","#,
            "  \"c\": []",
            "}",
        ];
        assert_eq!(shown, lines.join("\n"));
        assert_eq!(pretty(" [ ] "), "[]");
    }

    #[test]
    fn sizes_are_short() {
        let shown = [500, 1_023, 1_024, 1_536, 64 << 20, 3 << 30, u64::MAX].map(size);
        let expected =
            ["500 B", "1023 B", "1.0 KiB", "1.5 KiB", "64 MiB", "3.0 GiB", "16777215 TiB"];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_word_is_quoted_so_that_a_shell_takes_it_as_it_is() {
        assert_eq!(quoted("/tmp/n1-a_b.c:1,2=3"), "/tmp/n1-a_b.c:1,2=3");
        for word in ["", "a b", "it's", "$HOME", "*?", "a;b", "'", "\"a\"", "a\\b", "ä"] {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &format!("printf %s {}", quoted(word))]);
            let said = shell.output().expect("there is a shell").stdout;
            assert_eq!(String::from_utf8_lossy(&said), word);
        }
    }

    #[test]
    fn an_error_says_what_became_of_the_write() {
        let body = json!({"code": "BUSY", "message": "too much", "outcome": "notApplied"});
        let shown = problem(&Response::json(503, &body));
        assert!(shown.starts_with("too much (503 BUSY)"), "{shown}");
        assert!(shown.contains("nothing was written"), "{shown}");
        assert_eq!(problem(&Response::json(500, &Value::Null)).lines().count(), 1);
    }
}
