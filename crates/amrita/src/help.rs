//! `amrita help`: about a command, or about an error code. The pages of the codes are the sections
//! of `docs/errors.md`, so that both say the same.

use clap::CommandFactory;
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::outcome::{Outcome, Trouble};
use crate::screen::say;

const ERRORS: &str = include_str!("../../../docs/errors.md");

/// What is known about one code.
struct Page {
    code: &'static str,
    /// What it means, and what to do.
    text: &'static str,
}

pub(crate) fn run(words: &[String], json: bool) -> Outcome {
    match words {
        [word] if word == "codes" => {
            show_all(json);
            return Ok(());
        }
        [word] => {
            let code = word.to_uppercase().replace('-', "_");
            if let Some(page) = pages().find(|page| page.code == code) {
                page.show(json);
                return Ok(());
            }
        }
        _ => {}
    }
    if json {
        let why = "--json goes with an error code: amrita help --json QUORUM_NOT_MET";
        return Err(Trouble::usage(why));
    }
    of_command(words)
}

fn show_all(json: bool) {
    if json {
        let codes: Vec<Value> = pages().map(|page| page.to_json()).collect();
        say(&json!({ "codes": codes }).to_string());
    } else {
        pages().for_each(|page| page.show_in_a_line());
    }
}

fn of_command(words: &[String]) -> Outcome {
    let mut root = Arguments::command();
    root.build();
    let mut command = &mut root;
    for word in words {
        let Some(found) = command.find_subcommand_mut(word) else {
            return Err(Trouble::usage(format!(
                "there is no command and no error code '{word}'; `amrita help` lists the \
                 commands, `amrita help codes` the codes"
            )));
        };
        command = found;
    }
    say(command.render_long_help().to_string().trim_end());
    Ok(())
}

fn pages() -> impl Iterator<Item = Page> {
    ERRORS.split("\n### ").skip(1).map(|section| {
        let (code, text) = section.split_once('\n').unwrap_or((section, ""));
        // The next heading of the level above ends the last section before it.
        let text = text.split("\n## ").next().unwrap_or_default();
        Page { code: code.trim(), text: text.trim() }
    })
}

impl Page {
    fn show(&self, json: bool) {
        if json {
            say(&self.to_json().to_string());
        } else {
            say(&format!("{}\n\n{}", self.code, without_links(self.text)));
        }
    }

    fn to_json(&self) -> Value {
        json!({ "code": self.code, "text": without_links(self.text) })
    }

    /// Where the code is said, and the sentence after that.
    fn show_in_a_line(&self) {
        let text = self.text.replace('\n', " ");
        let mut sentences = text.split_inclusive(". ");
        let place = sentences.next().unwrap_or_default().trim_end_matches(". ");
        let first = sentences.next().unwrap_or_default();
        say(&format!("{:24}{place:14}{}", self.code, first.trim_end()));
    }
}

/// `[words](target)` becomes `words`: nobody can follow a link in a terminal.
fn without_links(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let (words, target) = (before.rsplit_once('['), after.split_once(')'));
        let (Some((before, words)), Some((_, after))) = (words, target) else { break };
        plain.push_str(before);
        plain.push_str(words);
        rest = after;
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use protocol::Code;

    use super::*;

    fn page(code: &str) -> Page {
        pages().find(|page| page.code == code).unwrap_or_else(|| panic!("no page for {code}"))
    }

    #[test]
    fn each_code_has_a_page_that_says_what_it_means_and_what_to_do() {
        assert!(Code::ALL.len() > 20);
        for code in Code::ALL {
            let text = page(code.name()).text;
            let status = format!("HTTP {}. ", code.status());
            assert!(text.starts_with(&status), "{}: {text}", code.name());
        }
        for page in pages() {
            let known = Code::named(page.code).is_some();
            assert!(known || page.text.starts_with("To a program. "), "{}", page.code);
            assert!(page.text.contains("\n\nDo: "), "{} says not what to do", page.code);
        }
    }

    /// Those that a node says to programs, as the page of the protocol has them.
    #[test]
    fn each_code_of_the_protocol_of_programs_has_a_page() {
        let protocol = include_str!("../../../api/immortal-protocol.md");
        let errors = protocol.split("\n## 8. Errors\n").nth(1).expect("it has that section");
        let rows = errors.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
        let codes = rows.flat_map(|cell| cell.split(", "));
        let codes: Vec<&str> =
            codes.filter(|code| code.chars().all(|c| c.is_uppercase() || c == '_')).collect();
        assert!(codes.len() > 10, "{codes:?}");
        for code in codes {
            page(code);
        }
    }

    #[test]
    fn a_link_becomes_its_words() {
        assert_eq!(without_links("see [how](a.md#b), or [x](y)."), "see how, or x.");
        assert_eq!(without_links("a [b] (c)"), "a [b] (c)");
    }
}
