//! Whether programs fail here, or differ from the others.

use crate::wire::{Held, Trouble};

/// After this many failures in a row at the same input no program is let in.
const TRIES_MAX: u32 = 3;

#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) trouble: Trouble,
    /// The input at which the last program failed, and how often in a row. 0 times: none failed.
    failing: (u64, u32),
}

impl Health {
    /// A program failed at an input. The result says how often in a row.
    pub(crate) fn failed_at(&mut self, input: u64, text: String) -> u32 {
        let (last, tries) = self.failing;
        let tries = if last == input { tries + 1 } else { 1 };
        self.failing = (input, tries);
        if tries >= TRIES_MAX {
            self.trouble.held = Some(Held { input, tries, text, message: String::new() });
        }
        tries
    }

    /// A program has handled inputs up to this one. The result says whether it has come past the
    /// failure.
    pub(crate) fn handled(&mut self, input: u64) -> bool {
        let is_past = input >= self.failing.0;
        if is_past {
            self.failing = (0, 0);
        }
        is_past
    }

    /// That input has become harmless.
    pub(crate) fn forget(&mut self, input: u64) {
        if self.failing.0 == input {
            self.failing = (0, 0);
        }
    }

    /// The program that had diverged is the last copy: it is let in, with the log as its record.
    pub(crate) fn overlook(&mut self) {
        self.trouble.overlooked = self.trouble.diverged.take();
    }

    /// Programs may try again.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }

    /// The next program is to be given inputs one at a time.
    pub(crate) fn needs_care(&self) -> bool {
        self.failing.1 > 0
    }

    pub(crate) fn is_good(&self) -> bool {
        self.trouble.is_good()
    }
}
