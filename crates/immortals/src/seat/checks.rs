//! Checks whether a program sends what was recorded. This needs the marks of the log that the
//! program has not reached, and what the program sent last, to be shown when two programs differ.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protocol::immortal::{Message, messages};

use crate::describe::describe;
use crate::history::entry::Mark;
use crate::output::output_state::{Compared, OutputState};
use crate::output::stream::shape_of;
use crate::wire::RecentOutput;

/// How many bytes of outputs are remembered, to show them when two programs differ.
const RECENT_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Marks to which the program has not come.
    expected: VecDeque<Mark>,
    recent: VecDeque<RecentOutput>,
    recent_bytes: usize,
    /// What was recorded before is not compared.
    pub(crate) are_off: bool,
}

/// The first message in which two programs differ.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FirstDifference {
    pub(crate) destination: String,
    pub(crate) number: u64,
    pub(crate) here: Option<Message>,
    pub(crate) there: Message,
}

impl Checks {
    /// A mark of the log is compared with what the program has sent, now or when it has come that
    /// far. The result is the mark if they differ.
    pub(crate) fn check(
        &mut self,
        mark: Mark,
        output: &OutputState,
        confirms: bool,
    ) -> Option<Mark> {
        if self.are_off {
            return None;
        }
        match compare(&mark, output, confirms) {
            Compared::Differs => return Some(mark),
            Compared::Ahead => self.expected.push_back(mark),
            Compared::Equal | Compared::Forgotten => {}
        }
        None
    }

    /// The program has sent more. The result is the first mark that differs.
    pub(crate) fn check_again(&mut self, output: &OutputState, confirms: bool) -> Option<Mark> {
        while let Some(mark) = self.expected.pop_front() {
            match compare(&mark, output, confirms) {
                Compared::Ahead => {
                    self.expected.push_front(mark);
                    return None;
                }
                Compared::Differs => return Some(mark),
                Compared::Equal | Compared::Forgotten => {}
            }
        }
        None
    }

    /// Remembers messages for a while.
    pub(crate) fn remember(&mut self, destination: &str, first: u64, messages: Bytes) {
        self.recent_bytes += messages.len();
        self.recent.push_back(RecentOutput {
            destination: destination.to_owned(),
            first,
            messages,
        });
        while self.recent_bytes > RECENT_BYTES_MAX && self.recent.len() > 1 {
            let gone = self.recent.pop_front().expect("there is more than one");
            self.recent_bytes -= gone.messages.len();
        }
    }

    pub(crate) fn recent(&self) -> Vec<RecentOutput> {
        self.recent.iter().cloned().collect()
    }

    /// The last message, in words.
    pub(crate) fn last_in_words(&self) -> Option<String> {
        let recent = self.recent.back()?;
        let all: Vec<Message> = messages(recent.messages.clone()).flatten().collect();
        let number = recent.first + all.len() as u64 - 1;
        let what = all.last().map_or_else(String::new, describe);
        Some(format!("message {number} to '{}': {what}", recent.destination))
    }

    /// The first message of another program that differs from what the program here has sent.
    pub(crate) fn first_difference(
        &self,
        output: &OutputState,
        theirs: Vec<RecentOutput>,
        confirms: bool,
    ) -> Option<FirstDifference> {
        let is_same = |one: &Message, other: &Message| match confirms {
            true => one == other,
            false => shape_of(one) == shape_of(other),
        };
        let mine: BTreeMap<(String, u64), Message> =
            self.recent.iter().cloned().flat_map(numbered).collect();
        for ((destination, number), there) in theirs.into_iter().flat_map(numbered) {
            let here = mine.get(&(destination.clone(), number)).cloned();
            let count = output.streams.get(&destination).map_or(0, |stream| stream.count);
            // What was forgotten here cannot be compared. What was never sent here differs.
            let differs = here.as_ref().map_or(number > count, |here| !is_same(here, &there));
            if differs {
                return Some(FirstDifference { destination, number, here, there });
            }
        }
        None
    }
}

/// Each message with its destination and number.
fn numbered(sent: RecentOutput) -> impl Iterator<Item = ((String, u64), Message)> {
    let all = (sent.first..).zip(messages(sent.messages).flatten());
    all.map(move |(number, message)| ((sent.destination.clone(), number), message))
}

fn compare(mark: &Mark, output: &OutputState, confirms: bool) -> Compared {
    match mark {
        Mark::Input { input, digest } if confirms => output.compare(*input, *digest),
        Mark::Stream { destination, count, crc } if !confirms => {
            output.compare_stream(destination, *count, *crc)
        }
        // The programs use different adapters.
        _ => Compared::Forgotten,
    }
}
