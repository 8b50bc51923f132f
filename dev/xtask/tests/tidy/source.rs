//! Rust source as the rules read it: code and comments apart, without what only tests have.

/// A file's text in two layers of the same lines and columns: what is not in a layer is blank.
pub(crate) struct Layers {
    /// Without comments, and with nothing inside the quotes of text.
    pub(crate) code: String,
    /// The comments only.
    pub(crate) comments: String,
}

/// What the character under the reader's eye belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Code,
    LineComment,
    /// With the number of `/*` that are open.
    BlockComment(usize),
    Text,
    /// Text that ends with a quote and that many `#`.
    RawText(usize),
}

/// The layer in which some characters are shown.
#[derive(Clone, Copy, PartialEq)]
enum Layer {
    Code,
    Comments,
    Neither,
}

pub(crate) fn layers(text: &str) -> Layers {
    let chars: Vec<char> = text.chars().collect();
    let mut layers = Layers { code: String::new(), comments: String::new() };
    let (mut place, mut at) = (Place::Code, 0);
    while at < chars.len() {
        let (layer, next, length) = step(place, &chars, at);
        let end = chars.len().min(at + length);
        for char in &chars[at..end] {
            let blank = if *char == '\n' { '\n' } else { ' ' };
            layers.code.push(if layer == Layer::Code { *char } else { blank });
            layers.comments.push(if layer == Layer::Comments { *char } else { blank });
        }
        (place, at) = (next, end);
    }
    layers
}

/// Reads the next character, or the next few that belong together: the layer that shows them,
/// where the reader is then, and how many they are.
fn step(place: Place, chars: &[char], at: usize) -> (Layer, Place, usize) {
    let is = |word: &str| word.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
    match place {
        Place::Code => step_in_code(chars, at),
        Place::LineComment if is("\n") => (Layer::Comments, Place::Code, 1),
        Place::BlockComment(depth) if is("/*") => {
            (Layer::Comments, Place::BlockComment(depth + 1), 2)
        }
        Place::BlockComment(1) if is("*/") => (Layer::Comments, Place::Code, 2),
        Place::BlockComment(depth) if is("*/") => {
            (Layer::Comments, Place::BlockComment(depth - 1), 2)
        }
        Place::LineComment | Place::BlockComment(_) => (Layer::Comments, place, 1),
        Place::Text if is("\\") => (Layer::Neither, Place::Text, 2),
        Place::Text if is("\"") => (Layer::Neither, Place::Code, 1),
        Place::RawText(hashes) if is(&format!("\"{}", "#".repeat(hashes))) => {
            (Layer::Neither, Place::Code, hashes + 1)
        }
        Place::Text | Place::RawText(_) => (Layer::Neither, place, 1),
    }
}

fn step_in_code(chars: &[char], at: usize) -> (Layer, Place, usize) {
    let is = |word: &str| word.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
    if is("//") {
        return (Layer::Comments, Place::LineComment, 2);
    }
    if is("/*") {
        return (Layer::Comments, Place::BlockComment(1), 2);
    }
    if is("\"") {
        return (Layer::Neither, Place::Text, 1);
    }
    if is("r")
        && let Some(hashes) = raw_start(chars, at)
    {
        return (Layer::Neither, Place::RawText(hashes), hashes + 2);
    }
    // A character in quotes, and not the name of a lifetime.
    if is("'\\") {
        let rest = chars.get(at + 3..).unwrap_or_default();
        let length = rest.iter().position(|c| *c == '\'').map_or(2, |end| end + 4);
        return (Layer::Neither, Place::Code, length);
    }
    if is("'") && chars.get(at + 2) == Some(&'\'') {
        return (Layer::Neither, Place::Code, 3);
    }
    (Layer::Code, Place::Code, 1)
}

/// How many `#` the raw text has that begins here; `None` if none begins (`r#type` is a name).
fn raw_start(chars: &[char], at: usize) -> Option<usize> {
    let is_end_of_name = at > 0 && is_in_name(chars[at - 1]) && chars[at - 1] != 'b';
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (!is_end_of_name && chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// Blanks every item behind `#[cfg(test)]`. Takes code as [`layers`] gives it.
pub(crate) fn without_tests(code: &str) -> String {
    let mut left = code.to_owned();
    while let Some(at) = left.find("#[cfg(test)]") {
        let end = at + item_bytes(&left[at..]);
        let blank: String =
            left[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        left.replace_range(at..end, &blank);
    }
    left
}

/// How long the item at the beginning is: up to its `;` or through its block.
fn item_bytes(code: &str) -> usize {
    let mut depth = 0_usize;
    for (at, char) in code.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The names of modules that are declared with `#[cfg(test)] mod name;`.
pub(crate) fn test_modules(code: &str) -> Vec<String> {
    let items = code.match_indices("#[cfg(test)]").map(|(at, mark)| {
        let rest = &code[at + mark.len()..];
        rest[..item_bytes(rest)].trim().to_owned()
    });
    let names = items.filter_map(|item| {
        let name = item.trim_start_matches("pub(crate) ").strip_prefix("mod ")?;
        Some(name.strip_suffix(';')?.trim().to_owned())
    });
    names.collect()
}

/// The names in some code, in order, each with the number of its line.
pub(crate) fn names(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        let words = line.split(|c: char| !is_in_name(c));
        let is_name = |word: &&str| !word.is_empty() && !word.starts_with(char::is_numeric);
        words.filter(is_name).map(move |word| (number + 1, word))
    })
}

pub(crate) fn is_in_name(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Whether `word` stands in `line` by itself, not as a part of a longer name.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_in_name) && !after.is_some_and(is_in_name)
    })
}

/// The text up to the bracket that closes the first one, without both.
pub(crate) fn inside(code: &str, open: char, close: char) -> Option<&str> {
    let start = code.find(open)?;
    let mut depth = 0_usize;
    for (at, char) in code[start..].char_indices() {
        if char == open {
            depth += 1;
        } else if char == close {
            depth -= 1;
            if depth == 0 {
                return Some(&code[start + open.len_utf8()..start + at]);
            }
        }
    }
    None
}

/// Splits at the commas that lie in no bracket of their own. Leaves out what is blank.
pub(crate) fn parts(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut last) = (0_i32, 0, ' ');
    let mut parts = Vec::new();
    for (at, char) in list.char_indices() {
        match char {
            '(' | '[' | '{' | '<' => depth += 1,
            '>' if last == '-' || last == '=' => {}
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        last = char;
    }
    parts.push(&list[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[test]
fn comments_and_text_are_not_code() {
    let text = "let a = \"// no // comment\"; // b /* c\nlet d = 'e'; /* f /* g */ h */ let i: &'j \
                u8;\n\
                let k = r#\"l \" m\"#; let n = '\\''; let o = '\"'; // p\n";
    let Layers { code, comments } = layers(text);
    let code_names: Vec<&str> = names(&code).map(|(_, name)| name).collect();
    assert_eq!(
        code_names,
        ["let", "a", "let", "d", "let", "i", "j", "u8", "let", "k", "let", "n", "let", "o"]
    );
    let words: Vec<&str> = names(&comments).map(|(_, name)| name).collect();
    assert_eq!(words, ["b", "c", "f", "g", "h", "p"]);
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn what_only_tests_have_is_left_out() {
    let code =
        "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { {} } }\n#[cfg(test)]\nmod c;\nfn d() {}";
    let left: Vec<&str> = names(code).map(|(_, name)| name).collect();
    assert!(left.contains(&"b"));
    let without = without_tests(code);
    let left: Vec<&str> = names(&without).map(|(_, name)| name).collect();
    assert_eq!(left, ["fn", "a", "fn", "d"]);
    assert_eq!(test_modules(code), ["c"]);
}

#[test]
fn commas_inside_brackets_do_not_part() {
    assert_eq!(
        parts("a: Map<B, C>, d: fn(E, F) -> G, h: [u8; 2],"),
        ["a: Map<B, C>", "d: fn(E, F) -> G", "h: [u8; 2]"]
    );
    assert_eq!(inside("x { a { b } c } d", '{', '}'), Some(" a { b } c "));
}
