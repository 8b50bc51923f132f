//! What was seen of the numbered messages: each life of a copy of the server, and what the client was
//! told.

use std::time::{Duration, Instant};

use super::program::Line;

/// What a line of the server says that it got: `... Received message from a client: Number 7!`.
pub(super) fn received(text: &str) -> Option<&str> {
    Some(text.split_once("Received message from a client: ")?.1)
}

/// The number of a numbered message.
fn number_of(message: &str) -> Option<u64> {
    message.strip_prefix("Number ")?.strip_suffix('!')?.parse().ok()
}

/// The number in a line of the client, and the server's count: `Message #7 completed. Server acknowledges
/// processing 10 messages.`
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
    pub(super) numbers: Vec<u64>,
}

impl Life {
    pub(super) fn of(node: &str, lines: &[Line]) -> Self {
        let numbers = lines.iter().filter_map(|line| number_of(received(&line.text)?)).collect();
        Self { node: node.to_owned(), numbers }
    }

    /// A copy begins where its checkpoint stands; from there on nothing is missing, nothing is twice,
    /// and nothing is out of order.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        for pair in self.numbers.windows(2) {
            if pair[1] != pair[0] + 1 {
                return Err(format!(
                    "the copy on {} has handled message {} after message {}",
                    self.node, pair[1], pair[0]
                ));
            }
        }
        Ok(())
    }
}

/// What the client was told, in order, each once: its copies are all told the same.
#[derive(Default)]
pub(super) struct Acknowledged {
    /// When the message with this number (from 1) was acknowledged, as any copy of the client heard first.
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
                "message {number} was acknowledged with a count of {count}, not {}: one was lost, or \
                 handled twice",
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
        let life = |numbers: &[u64]| Life { node: "n1".into(), numbers: numbers.to_vec() };
        assert!(life(&[5, 6, 7]).check().is_ok());
        assert!(life(&[5, 7]).check().unwrap_err().contains("7 after message 5"));
        assert!(life(&[5, 5]).check().is_err());
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
        let mut seen = Acknowledged::default();
        seen.at = [1, 2, 42, 43, 45].map(|after| kill + ms(after)).to_vec();
        assert_eq!(seen.silence_since(kill), Some(ms(40)));
        assert_eq!(seen.after(2, kill), Some(ms(42)));
        assert_eq!(seen.after(5, kill), None);
        assert_eq!(
            received("x Received message from a client: Number 12!").and_then(number_of),
            Some(12)
        );
    }
}
