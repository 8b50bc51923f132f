//! Texts of a form, and words in a row. What is asked may come from anybody, so the work grows with
//! the length of the text and of the pattern, and never with one times the other.

use std::collections::BTreeMap;

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// `*`: any characters, or none.
    Many,
    /// `?`: any one character.
    One,
    Char(char),
}

/// How many characters are compared at once.
const WORD_BITS: usize = u64::BITS as usize;

/// A pattern, cut at its stars.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern {
    /// What a text begins with.
    first: Vec<Token>,
    /// What comes in between, in this order.
    inner: Vec<Part>,
    /// What it ends with; `None` when there is no star.
    last: Option<Vec<Token>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    /// With some characters that may be any.
    Open(Open),
}

impl Pattern {
    pub(crate) fn new(tokens: &[Token]) -> Self {
        let mut parts: Vec<&[Token]> = tokens.split(|token| *token == Token::Many).collect();
        let last = (parts.len() > 1).then(|| parts.pop().unwrap_or_default().to_vec());
        let first = parts.remove(0).to_vec();
        let inner = parts.into_iter().filter(|part| !part.is_empty());
        Self { first, inner: inner.map(Part::new).collect(), last }
    }

    /// What all texts that fit begin with.
    pub(crate) fn literal_beginning(&self) -> String {
        literal_beginning(&self.first)
    }

    /// How much work it is for each character of a text, beside going through it.
    pub(crate) fn weight(&self) -> usize {
        let open = self.inner.iter().map(|part| match part {
            Part::Literal(_) => 0,
            Part::Open(open) => open.any.len(),
        });
        open.max().unwrap_or_default()
    }

    /// Each part is found where it comes first: then there is most room for the next ones.
    pub(crate) fn fits(&self, text: &str) -> bool {
        let mut rest = text.chars();
        if !self.first.iter().all(|token| rest.next().is_some_and(|char| is(*token, char))) {
            return false;
        }
        let Some(last) = &self.last else { return rest.as_str().is_empty() };
        if !last.iter().rev().all(|token| rest.next_back().is_some_and(|char| is(*token, char))) {
            return false;
        }
        let mut rest = rest.as_str();
        for part in &self.inner {
            let end = match part {
                Part::Literal(literal) => rest.find(literal.as_str()).map(|at| at + literal.len()),
                Part::Open(open) => open.end_in(rest),
            };
            let Some(end) = end else { return false };
            rest = &rest[end..];
        }
        true
    }
}

impl Part {
    fn new(tokens: &[Token]) -> Self {
        let literal = literal_beginning(tokens);
        if literal.chars().count() == tokens.len() {
            return Self::Literal(literal);
        }
        Self::Open(Open::new(tokens))
    }
}

/// Finds characters of which some may be any. For each character of a text it knows at once how
/// many of the wanted ones may end there: a bit for each number (Shift-And).
#[derive(Clone, Debug, PartialEq)]
struct Open {
    length: usize,
    /// At which places a character may stand.
    places: BTreeMap<char, Vec<u64>>,
    /// At which places any may.
    any: Vec<u64>,
}

impl Open {
    fn new(tokens: &[Token]) -> Self {
        let mut any = vec![0; tokens.len().div_ceil(WORD_BITS)];
        for (place, _) in tokens.iter().enumerate().filter(|(_, token)| **token == Token::One) {
            any[place / WORD_BITS] |= 1 << (place % WORD_BITS);
        }
        let mut places = BTreeMap::new();
        for (place, token) in tokens.iter().enumerate() {
            if let Token::Char(char) = token {
                let at = places.entry(*char).or_insert_with(|| any.clone());
                at[place / WORD_BITS] |= 1 << (place % WORD_BITS);
            }
        }
        Self { length: tokens.len(), places, any }
    }

    /// Behind which byte it ends where it comes first.
    fn end_in(&self, text: &str) -> Option<usize> {
        let mut ending = vec![0_u64; self.any.len()];
        let last = self.length - 1;
        for (at, char) in text.char_indices() {
            let allowed = self.places.get(&char).unwrap_or(&self.any);
            let mut carried = 1;
            for (ending, allowed) in ending.iter_mut().zip(allowed) {
                #[cfg(test)]
                tests::STEPS.with(|steps| steps.set(steps.get() + 1));
                let next = (*ending << 1 | carried) & allowed;
                carried = *ending >> (WORD_BITS - 1);
                *ending = next;
            }
            if ending[last / WORD_BITS] >> (last % WORD_BITS) & 1 == 1 {
                return Some(at + char.len_utf8());
            }
        }
        None
    }
}

fn is(token: Token, char: char) -> bool {
    match token {
        Token::Char(wanted) => wanted == char,
        Token::One | Token::Many => true,
    }
}

fn literal_beginning(tokens: &[Token]) -> String {
    let literal = tokens.iter().map_while(|token| match token {
        Token::Char(char) => Some(char),
        Token::Many | Token::One => None,
    });
    literal.collect()
}

/// Words in a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Phrase {
    words: Vec<String>,
    /// With how many of the first words those up to a place end, that one not counted as a whole
    /// (Knuth, Morris and Pratt): after a misfit it goes on there.
    back: Vec<usize>,
}

impl Phrase {
    /// `None` when there is no word.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let words: Vec<String> = words(text).collect();
        let mut back = vec![0; words.len()];
        let mut met = 0;
        for place in 1..words.len() {
            while met > 0 && words[met] != words[place] {
                met = back[met - 1];
            }
            met += usize::from(words[met] == words[place]);
            back[place] = met;
        }
        (!words.is_empty()).then_some(Self { words, back })
    }

    pub(crate) fn is_in(&self, text: &str) -> bool {
        let mut met = 0;
        for word in words(text) {
            let is_next = |met: usize| {
                #[cfg(test)]
                tests::STEPS.with(|steps| steps.set(steps.get() + 1));
                self.words[met] == word
            };
            while met > 0 && !is_next(met) {
                met = self.back[met - 1];
            }
            met += usize::from(is_next(met));
            if met == self.words.len() {
                return true;
            }
        }
        false
    }
}

/// Letters and digits in a row, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|char: char| !char.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    fn steps(of: impl FnOnce() -> bool) -> (bool, usize) {
        let before = STEPS.get();
        (of(), STEPS.get() - before)
    }

    fn tokens(text: &str) -> Vec<Token> {
        let token = |char| match char {
            '*' => Token::Many,
            '?' => Token::One,
            char => Token::Char(char),
        };
        text.chars().map(token).collect()
    }

    /// As it is defined: each star is tried with every length.
    fn plainly(tokens: &[Token], text: &[char]) -> bool {
        match tokens {
            [] => text.is_empty(),
            [Token::Many, rest @ ..] => (0..=text.len()).any(|at| plainly(rest, &text[at..])),
            [token, rest @ ..] => {
                text.first().is_some_and(|char| is(*token, *char)) && plainly(rest, &text[1..])
            }
        }
    }

    #[test]
    fn a_pattern_means_what_its_definition_says() {
        let letters = ['a', 'b', 'é', '*', '?'];
        let mut random = 1_u64;
        let mut text_of = |kinds: usize, most: usize| -> String {
            let mut next = || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                usize::try_from(random >> 33).unwrap()
            };
            let length = next() % (most + 1);
            (0..length).map(|_| letters[next() % kinds]).collect()
        };
        let mut met = 0;
        for _ in 0..20_000 {
            let (pattern, text) = (tokens(&text_of(5, 7)), text_of(3, 9));
            let chars: Vec<char> = text.chars().collect();
            let is_met = plainly(&pattern, &chars);
            assert_eq!(Pattern::new(&pattern).fits(&text), is_met, "{pattern:?} {text}");
            met += usize::from(is_met);
        }
        assert!(met > 1_000, "{met}");
    }

    #[test]
    fn parts_of_many_words_of_bits_are_found() {
        for length in [63, 64, 65, 128, 200] {
            let pattern = Pattern::new(&tokens(&format!("*{}?b*", "a".repeat(length))));
            assert_eq!(pattern.weight(), (length + 2).div_ceil(WORD_BITS));
            let text = |count: usize| format!("b{}xbaa", "a".repeat(count));
            assert!(pattern.fits(&text(length)) && pattern.fits(&text(length + 5)), "{length}");
            assert!(!pattern.fits(&text(length - 2)), "{length}");
        }
    }

    /// The longest pattern, over a text of which each place looks like its beginning.
    #[test]
    fn no_pattern_multiplies_the_work() {
        let text = "a".repeat(100_000);
        let pattern = Pattern::new(&tokens(&format!("*?{}b*", "a".repeat(509))));
        let (is_met, steps_of) = steps(|| pattern.fits(&text));
        assert!(!is_met && steps_of <= 8 * text.len(), "{steps_of}");
        assert_eq!(pattern.weight(), 8);
        // Characters that are all known are found by the standard library in linear time.
        let literal = Pattern::new(&tokens(&format!("*{}b*", "a".repeat(510))));
        assert!(!literal.fits(&text) && literal.weight() == 0);
    }

    #[test]
    fn no_phrase_multiplies_the_work() {
        let phrase = Phrase::new(&format!("{} b", "a ".repeat(1_000))).unwrap();
        let text = "a ".repeat(20_000);
        let (is_met, steps_of) = steps(|| phrase.is_in(&text));
        assert!(!is_met && steps_of <= 3 * 20_000, "{steps_of}");
        assert!(phrase.is_in(&format!("{text} B")));
        assert!(Phrase::new("a b a c").unwrap().is_in("a b a b a c"));
        assert!(!Phrase::new("a b a c").unwrap().is_in("a b a b a"));
    }
}
