//! Where handlers run: at once inside the step, or elsewhere with their answer coming later, as the
//! seed says. The real shell runs quick ones at once and slow ones elsewhere; here each may be
//! either.

use std::sync::atomic::{AtomicU64, Ordering};

use protocol::hash::scatter;
use services::{Catalogue, Invocation, Invoker, Ran};

pub(crate) struct SeededInvoker {
    seed: u64,
    count: AtomicU64,
}

impl SeededInvoker {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, count: AtomicU64::new(0) }
    }

    fn draw(&self) -> u64 {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        scatter(self.seed ^ count.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

impl Invoker for SeededInvoker {
    fn invoke(&self, catalogue: &Catalogue, invocation: Invocation) -> Ran {
        if self.draw().is_multiple_of(3) {
            Ran::Elsewhere(invocation)
        } else {
            Ran::Done(catalogue.invoke(invocation))
        }
    }
}
