//! Walking through the leaves of a JSON object without building it in memory.
//!
//! The path of a leaf is made of the names of the objects' fields, with `.` between them. An array
//! adds nothing: the items of `{"a":[{"b":1},{"b":2}]}` are two leaves of the path `a.b`. Queries
//! may write `a.item.b`, see `compiled`.
//!
//! The text is gone through by hand, and not by a parser, for the sake of numbers: a parser makes
//! a floating-point number of what has more digits than that holds.

use std::borrow::Cow;

use crate::ordered::{Leaf, Numeral};
use crate::paths::PATH_BYTES_MAX;

/// Objects and arrays that lie deeper end the walk; no body has them.
const DEPTH_MAX: usize = 200;

/// Takes the leaves of a body.
pub trait Leaves {
    /// Whether there may be a leaf of interest at this path or beneath it.
    fn wants(&self, path: &str) -> bool;
    fn take(&mut self, path: &str, leaf: Leaf<'_>);

    /// Before a leaf is taken: the names in its path that end before this byte were all in the path
    /// of one leaf that was taken before, and that path was not too long (see `PATH_BYTES_MAX`).
    fn share(&mut self, _bytes: usize) {}
}

/// Shows all leaves of a JSON object, in no particular order. Bodies are JSON by their making; of
/// anything else, what comes before the fault is shown.
pub fn walk(body: &[u8], leaves: &mut dyn Leaves) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let path = String::with_capacity(64);
    let mut walker = Walker { text, at: 0, depth: 0, path, shared: 0, leaves };
    // A fault ends the walk; there is nobody to tell.
    let _ = walker.value(Interest::Wanted { is_inner: false });
}

/// Whether somebody wants the leaves of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interest {
    /// `is_inner`: the path is that of a field (whose name may be empty).
    Wanted {
        is_inner: bool,
    },
    None,
}

struct Walker<'w> {
    text: &'w str,
    at: usize,
    depth: usize,
    path: String,
    /// The names in the path that end before this byte were in the path of one leaf before.
    shared: usize,
    leaves: &'w mut dyn Leaves,
}

impl<'w> Walker<'w> {
    fn next(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|byte| b" \t\n\r".contains(byte)) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn take_byte(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then(|| self.at += 1)
    }

    fn value(&mut self, interest: Interest) -> Option<()> {
        match self.next()? {
            b'{' => self.nested(interest, Self::object),
            b'[' => self.nested(interest, Self::array),
            b'"' => {
                let text = self.string()?;
                self.show(interest, Leaf::Text(&text));
                Some(())
            }
            b't' => self.word("true").map(|()| self.show(interest, Leaf::Boolean(true))),
            b'f' => self.word("false").map(|()| self.show(interest, Leaf::Boolean(false))),
            b'n' => self.word("null"),
            _ => {
                let number = self.number()?;
                self.show(interest, Leaf::Number(Numeral::Text(number)));
                Some(())
            }
        }
    }

    fn show(&mut self, interest: Interest, leaf: Leaf<'_>) {
        if interest != Interest::None {
            self.leaves.share(self.shared);
            self.leaves.take(&self.path, leaf);
            if self.path.len() <= PATH_BYTES_MAX {
                // With the last name, which ends where the path does.
                self.shared = self.path.len() + 1;
            }
        }
    }

    fn nested(
        &mut self,
        interest: Interest,
        inner: fn(&mut Self, Interest) -> Option<()>,
    ) -> Option<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        self.at += 1;
        inner(self, interest)?;
        self.depth -= 1;
        Some(())
    }

    fn array(&mut self, interest: Interest) -> Option<()> {
        if self.next()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value(interest)?;
            if self.next()? != b',' {
                return self.take_byte(b']');
            }
            self.at += 1;
        }
    }

    fn object(&mut self, interest: Interest) -> Option<()> {
        if self.next()? == b'}' {
            self.at += 1;
            return Some(());
        }
        let outer = self.path.len();
        if interest == (Interest::Wanted { is_inner: true }) {
            self.path.push('.');
        }
        let inner = self.path.len();
        loop {
            self.next()?;
            let name = self.string()?;
            self.take_byte(b':')?;
            self.path.push_str(&name);
            let is_wanted = interest != Interest::None && self.leaves.wants(&self.path);
            self.value(if is_wanted {
                Interest::Wanted { is_inner: true }
            } else {
                Interest::None
            })?;
            self.path.truncate(inner);
            self.shared = self.shared.min(inner);
            if self.next()? != b',' {
                self.path.truncate(outer);
                return self.take_byte(b'}');
            }
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<&'w str> {
        let rest = &self.text[self.at..];
        let is_part = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
        let length = rest.bytes().take_while(|byte| is_part(*byte)).count();
        self.at += length;
        (length > 0).then(|| &rest[..length])
    }

    fn string(&mut self) -> Option<Cow<'w, str>> {
        let (text, start) = (self.text, self.at);
        let bytes = text.as_bytes();
        if bytes.get(start) != Some(&b'"') {
            return None;
        }
        let (mut end, mut is_escaped) = (start + 1, false);
        loop {
            match bytes.get(end)? {
                b'"' => break,
                b'\\' => (end, is_escaped) = (end + 2, true),
                _ => end += 1,
            }
        }
        self.at = end + 1;
        if is_escaped {
            return serde_json::from_str(text.get(start..=end)?).ok().map(Cow::Owned);
        }
        text.get(start + 1..end).map(Cow::Borrowed)
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::ordered::NumberKey;

    struct Listed(String);

    impl Leaves for Listed {
        fn wants(&self, path: &str) -> bool {
            path != "skipped"
        }

        fn take(&mut self, path: &str, leaf: Leaf<'_>) {
            let shown = match leaf {
                Leaf::Text(text) => text.to_owned(),
                Leaf::Boolean(boolean) => boolean.to_string(),
                Leaf::Number(number) if NumberKey::of(number) == NumberKey::of_u64(1) => "1".into(),
                Leaf::Number(_) => "other".into(),
            };
            self.0.push_str(&format!("{path}={shown} "));
        }
    }

    fn list(body: &str) -> String {
        let mut listed = Listed(String::new());
        walk(body.as_bytes(), &mut listed);
        listed.0
    }

    #[test]
    fn arrays_add_nothing_to_a_path_and_nulls_are_not_there() {
        assert_eq!(
            list(
                r#"{"a":{"b":1,"c":[true,[null,{"d":"x"},1.0]]},"n":null,"":{"e.f":-1},"z":"é\n"}"#
            ),
            "a.b=1 a.c=true a.c.d=x a.c=1 .e.f=other z=é\n "
        );
    }

    #[test]
    fn what_is_not_wanted_is_passed_over() {
        assert_eq!(list(r#"{"skipped":{"a":[1]},"kept":{"skipped":1}}"#), "kept.skipped=1 ");
    }

    #[test]
    fn a_number_is_shown_with_all_its_digits() {
        struct Digits(String);
        impl Leaves for Digits {
            fn wants(&self, _: &str) -> bool {
                true
            }
            fn take(&mut self, _: &str, leaf: Leaf<'_>) {
                let Leaf::Number(Numeral::Text(text)) = leaf else { return };
                self.0.push_str(text);
                self.0.push(' ');
            }
        }
        let mut digits = Digits(String::new());
        let body = r#"{"a" : 123456789012345678901234567890,"b":[ 0.10, -1e5 ] , "c":"x\"\u00e9"}"#;
        walk(body.as_bytes(), &mut digits);
        assert_eq!(digits.0, "123456789012345678901234567890 0.10 -1e5 ");
    }

    #[test]
    fn what_is_broken_ends_the_walk() {
        assert_eq!(list(r#"{"a":1,"b":"#), "a=1 ");
        assert_eq!(list(""), "");
    }
}
