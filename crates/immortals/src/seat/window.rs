//! How much of the inputs is on its way to a program, and for how long it was busy with them.

use std::collections::VecDeque;

/// How many bytes of inputs may be on their way to a program.
pub const WINDOW_BYTES: usize = 4 << 20;

/// The inputs that a program was given and has not confirmed. Empty for programs that do not
/// confirm.
#[derive(Debug)]
pub(crate) struct Window {
    /// The last input of each delivery, and its bytes.
    deliveries: VecDeque<(u64, usize)>,
    bytes: usize,
    /// How long the program was busy since the checkpoint, in microseconds.
    pub(crate) busy_micros: u64,
    busy_since: u64,
}

impl Window {
    pub(crate) fn new(now: u64) -> Self {
        Self { deliveries: VecDeque::new(), bytes: 0, busy_micros: 0, busy_since: now }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn delivered(&mut self, last: u64, bytes: usize, now: u64) {
        if self.deliveries.is_empty() {
            self.busy_since = now;
        }
        self.deliveries.push_back((last, bytes));
        self.bytes += bytes;
    }

    pub(crate) fn confirmed(&mut self, input: u64, now: u64) {
        let was_busy = !self.deliveries.is_empty();
        while let Some((_, bytes)) = self.deliveries.pop_front_if(|(last, _)| *last <= input) {
            self.bytes -= bytes;
        }
        if was_busy {
            self.busy_micros += now.saturating_sub(self.busy_since);
            self.busy_since = now;
        }
    }
}
