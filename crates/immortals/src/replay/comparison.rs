//! What a program sends in a replay, compared with the marks of the log, or with another program.

use std::collections::VecDeque;

use crate::history::entry::Mark;
use crate::output::output_state::{Compared, OutputState};
use crate::replay::events::{Difference, Reference};

/// How many of the last messages are shown where a program differs.
const SHOWN_MAX: usize = 20;

pub(crate) struct Comparison {
    /// The digest after each input since the last mark.
    digests: VecDeque<(u64, u64)>,
    /// Marks to which the program has not come.
    expected: VecDeque<Mark>,
    /// Up to this input all was equal.
    equal_up_to: u64,
    /// How often something was compared.
    pub(crate) compared: u64,
    differs: bool,
    /// What was sent since the last input was handled.
    saying: Vec<String>,
    /// What was sent at the last inputs, or at all of them if they are wanted.
    pub(crate) said: Reference,
    keeps_all: bool,
    against: Option<Reference>,
}

impl Comparison {
    pub(crate) fn new(began: u64, against: Option<Reference>) -> Self {
        Self {
            digests: VecDeque::new(),
            expected: VecDeque::new(),
            equal_up_to: began,
            compared: 0,
            differs: false,
            saying: Vec::new(),
            said: Reference::new(),
            keeps_all: false,
            against,
        }
    }

    pub(crate) fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    /// Whether the words for a message are wanted. They cost time.
    pub(crate) fn wants_words(&self) -> bool {
        self.keeps_all || self.against.is_some() || self.saying.len() < SHOWN_MAX
    }

    pub(crate) fn say(&mut self, words: String) {
        self.saying.push(words);
    }

    pub(crate) fn expect(&mut self, mark: Mark) {
        self.expected.push_back(mark);
    }

    /// Forgets what was said for an input before the recording.
    pub(crate) fn forget_words(&mut self) {
        self.saying.clear();
    }

    /// The digest after an input.
    pub(crate) fn note_digest(&mut self, input: u64, digest: u64) {
        self.digests.push_back((input, digest));
    }

    /// What was sent belongs to that input.
    pub(crate) fn note_said(&mut self, input: u64) {
        let saying = std::mem::take(&mut self.saying);
        if !saying.is_empty() {
            self.said.entry(input).or_default().extend(saying);
        }
        while !self.keeps_all && self.said.len() > SHOWN_MAX {
            self.said.pop_first();
        }
    }

    /// Compares what was sent at that input with what another program has sent there.
    pub(crate) fn compare_with_reference(&mut self, input: u64) -> Option<Difference> {
        let reference = self.against.as_ref()?;
        let expected = reference.get(&input).cloned().unwrap_or_default();
        self.compared += 1;
        if expected == self.saying {
            return None;
        }
        self.differs = true;
        Some(Difference { after: input - 1, input, said: self.saying.clone(), expected })
    }

    /// Compares with the marks that the program has reached. The result is the first difference,
    /// since after it all sums differ. Where there is a reference, it is used instead of sums.
    pub(crate) fn check_marks(
        &mut self,
        output: &OutputState,
        confirms: bool,
        told: u64,
    ) -> Option<Difference> {
        let mut found = None;
        while let Some(mark) = self.expected.pop_front() {
            let compared = self.compare(&mark, output, confirms);
            if compared == Compared::Ahead {
                self.expected.push_front(mark);
                break;
            }
            if self.differs || self.against.is_some() {
                continue;
            }
            let at = match &mark {
                Mark::Input { input, .. } => *input,
                Mark::Stream { .. } => told,
            };
            match compared {
                Compared::Equal => {
                    self.compared += 1;
                    self.equal_up_to = at;
                    self.digests.retain(|(input, _)| *input > at);
                }
                Compared::Differs => found = Some(self.differs_at(at)),
                Compared::Ahead | Compared::Forgotten => {}
            }
        }
        found
    }

    fn compare(&self, mark: &Mark, output: &OutputState, confirms: bool) -> Compared {
        match mark {
            Mark::Input { input, digest } if confirms => {
                if *input > output.done {
                    return Compared::Ahead;
                }
                match self.digests.iter().find(|(at, _)| at == input) {
                    Some((_, found)) if found == digest => Compared::Equal,
                    Some(_) => Compared::Differs,
                    None => Compared::Forgotten,
                }
            }
            Mark::Stream { destination, count, outline } if !confirms => {
                output.compare_stream(destination, *count, *outline)
            }
            _ => Compared::Forgotten,
        }
    }

    fn differs_at(&mut self, input: u64) -> Difference {
        self.differs = true;
        let after = self.equal_up_to;
        let since = self.said.range(after + 1..=input.max(after + 1));
        let said =
            since.flat_map(|(at, all)| all.iter().map(move |text| format!("input {at}: {text}")));
        let said = said.take(SHOWN_MAX).collect();
        Difference { after, input, said, expected: Vec::new() }
    }
}
