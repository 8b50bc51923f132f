//! Numbers for people: rates, and the median of several.

use std::fmt;
use std::time::Duration;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rate {
    /// Per second.
    pub(crate) messages: f64,
    /// Bytes of payload per second.
    pub(crate) bytes: f64,
    /// How it was had, when there are several ways.
    pub(crate) note: &'static str,
}

impl Rate {
    pub(crate) fn of(count: u64, size: u64, took: Duration) -> Self {
        let messages = as_f64(count) / took.as_secs_f64();
        Self { messages, bytes: messages * as_f64(size), note: "" }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:>9.0} messages/s {:>7.1} MB/s{}", self.messages, self.bytes / 1e6, self.note)
    }
}

/// The least, the one in the middle, and the most.
///
/// # Panics
/// When there is none.
pub(crate) fn median(rates: &mut [Rate]) -> (Rate, Rate, Rate) {
    rates.sort_by(|a, b| a.messages.total_cmp(&b.messages));
    let last = rates.len().checked_sub(1).expect("at least one round was measured");
    (rates[0].clone(), rates[last / 2].clone(), rates[last].clone())
}

#[expect(clippy::cast_precision_loss, reason = "what is counted here is far below 2^52")]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}
