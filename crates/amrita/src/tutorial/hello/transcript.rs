//! What was seen of the numbered messages: each life of a copy of the server, and what the client
//! was told.

use std::time::{Duration, Instant};

use crate::tutorial::program::Line;

/// A line of the server: `#10 client: Number 7!`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handled {
    /// How many messages it had handled with this one.
    pub(super) count: u64,
    pub(super) sender: String,
    pub(super) message: String,
}

impl Handled {
    pub(super) fn read(line: &str) -> Option<Self> {
        let (count, rest) = line.strip_prefix('#')?.split_once(' ')?;
        let (sender, message) = rest.split_once(": ")?;
        let (sender, message) = (sender.to_owned(), message.to_owned());
        Some(Self { count: count.parse().ok()?, sender, message })
    }

    /// Its number, if it is one of the numbered messages.
    pub(super) fn number(&self) -> Option<u64> {
        self.message.strip_prefix("Number ")?.strip_suffix('!')?.parse().ok()
    }
}

/// The number in a line of the client, and the server's count: `Message #7 completed. Server
/// acknowledges processing 10 messages.`
pub(super) fn acknowledged(text: &str) -> Option<(u64, u64)> {
    let (_, rest) = text.split_once("Message #")?;
    let (number, rest) = rest.split_once(" completed. Server acknowledges processing ")?;
    let count: String = rest.chars().filter(char::is_ascii_digit).collect();
    Some((number.parse().ok()?, count.parse().ok()?))
}

/// All that one copy of the server handled between its start and its end.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) node: String,
    pub(super) handled: Vec<Handled>,
}

impl Life {
    pub(super) fn of(node: &str, lines: &[Line]) -> Self {
        let handled = lines.iter().filter_map(|line| Handled::read(&line.text)).collect();
        Self { node: node.to_owned(), handled }
    }

    /// The last of the numbered messages.
    pub(super) fn last_number(&self) -> Option<u64> {
        self.handled.iter().rev().find_map(Handled::number)
    }

    /// A copy begins where its checkpoint stands; from there on nothing is missing, nothing is
    /// twice, and nothing is out of order: of all messages by the server's count, of the numbered
    /// ones by theirs.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        let counts: Vec<u64> = self.handled.iter().map(|one| one.count).collect();
        let numbers: Vec<u64> = self.handled.iter().filter_map(Handled::number).collect();
        for (what, row) in [("message", counts), ("number", numbers)] {
            for pair in row.windows(2) {
                if pair[1] != pair[0] + 1 {
                    return Err(format!(
                        "the copy on {} has handled {what} {} after {what} {}",
                        self.node, pair[1], pair[0]
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What the client was told, in order, each once: its copies are all told the same.
#[derive(Default)]
pub(super) struct Acknowledged {
    /// When the message with this number (from 1) was acknowledged, as any copy of the client heard
    /// first.
    at: Vec<Instant>,
    /// How many messages the server had handled before the first of these.
    before: Option<u64>,
}

impl Acknowledged {
    /// # Errors
    /// When the server's count does not go with the number, or a number is missing.
    pub(super) fn take(&mut self, line: &Line) -> Result<(), String> {
        let Some((number, count)) = acknowledged(&line.text) else { return Ok(()) };
        let before = *self.before.get_or_insert(count.saturating_sub(number));
        if count != number + before {
            return Err(format!(
                "message {number} was acknowledged with a count of {count}, not {}: one was lost, \
                 or handled twice",
                number + before
            ));
        }
        let next = self.at.len() as u64 + 1;
        if number > next {
            return Err(format!("message {number} was acknowledged, and {next} was not"));
        }
        if number == next {
            self.at.push(line.at);
        }
        Ok(())
    }

    pub(super) fn count(&self) -> usize {
        self.at.len()
    }

    /// The longest silence after this moment.
    pub(super) fn silence_since(&self, moment: Instant) -> Option<Duration> {
        let from = self.at.partition_point(|at| *at < moment);
        let mut before = moment;
        let silences = self.at[from..].iter().map(|at| {
            let began = std::mem::replace(&mut before, *at);
            at.saturating_duration_since(began)
        });
        silences.max()
    }

    /// From a moment to the acknowledgement of the message after this one.
    pub(super) fn after(&self, number: u64, moment: Instant) -> Option<Duration> {
        let at = self.at.get(usize::try_from(number).ok()?)?;
        Some(at.saturating_duration_since(moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: Instant, text: &str) -> Line {
        Line { at, text: text.into() }
    }

    #[test]
    fn a_gap_a_repetition_and_a_wrong_count_are_found() {
        let life = |rows: &[(u64, u64)]| {
            let line =
                |(count, number)| Handled::read(&format!("#{count} client: Number {number}!"));
            let handled = rows.iter().copied().map(|row| line(row).expect("a line of the server"));
            Life { node: "n1".into(), handled: handled.collect() }
        };
        assert!(life(&[(9, 5), (10, 6), (11, 7)]).check().is_ok());
        assert!(life(&[(9, 5), (10, 7)]).check().unwrap_err().contains("number 7 after number 5"));
        assert!(
            life(&[(9, 5), (11, 6)]).check().unwrap_err().contains("message 11 after message 9")
        );
        assert!(life(&[(9, 5), (9, 5)]).check().is_err());
        assert_eq!(life(&[(9, 5)]).last_number(), Some(5));
        let now = Instant::now();
        let text = |number: u64, count: u64| {
            format!("Message #{number} completed. Server acknowledges processing {count} messages.")
        };
        let mut seen = Acknowledged::default();
        seen.take(&line(now, &text(1, 4))).unwrap();
        seen.take(&line(now, &text(1, 4))).unwrap();
        seen.take(&line(now, &text(2, 5))).unwrap();
        assert_eq!(seen.count(), 2);
        assert!(seen.take(&line(now, &text(3, 7))).unwrap_err().contains("handled twice"));
        assert!(seen.take(&line(now, &text(4, 7))).unwrap_err().contains("3 was not"));
    }

    #[test]
    fn silences_and_failovers_are_measured() {
        let kill = Instant::now();
        let ms = Duration::from_millis;
        let at = [1, 2, 42, 43, 45].map(|after| kill + ms(after)).to_vec();
        let seen = Acknowledged { at, before: None };
        assert_eq!(seen.silence_since(kill), Some(ms(40)));
        assert_eq!(seen.after(2, kill), Some(ms(42)));
        assert_eq!(seen.after(5, kill), None);
    }
}
