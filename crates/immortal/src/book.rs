//! What a program waits for: the binding's own part of the state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The number of something that is waited for: a timer, a call or an effect. May be kept in the
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WaitId(pub(crate) u64);

/// What is waited for. It stands in the checkpoint before the program's state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Book<N, E> {
    /// The last id given. Timers, calls and effects share one row of numbers.
    last_id: u64,
    pub(crate) waiting: BTreeMap<u64, Waiting<N, E>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Waiting<N, E> {
    pub(crate) what: What<E>,
    pub(crate) next: N,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum What<E> {
    /// The answer to a call, from this instance; empty for itself.
    Answer {
        from: String,
    },
    Timer,
    Effect(E),
}

impl<N, E> Default for Book<N, E> {
    fn default() -> Self {
        Self { last_id: 0, waiting: BTreeMap::new() }
    }
}

impl<N, E> Book<N, E> {
    pub(crate) fn enter(&mut self, what: What<E>, next: N) -> u64 {
        self.last_id += 1;
        self.waiting.insert(self.last_id, Waiting { what, next });
        self.last_id
    }

    /// What came is waited for no more. None when it was cancelled, or never was.
    pub(crate) fn strike(&mut self, id: u64, is_right: impl FnOnce(&What<E>) -> bool) -> Option<N> {
        is_right(&self.waiting.get(&id)?.what).then(|| self.waiting.remove(&id))?.map(|it| it.next)
    }

    /// The effects that have no result yet.
    pub(crate) fn effects(&self) -> impl Iterator<Item = (u64, &E)> {
        self.waiting.iter().filter_map(|(id, waiting)| match &waiting.what {
            What::Effect(effect) => Some((*id, effect)),
            _ => None,
        })
    }

    pub(crate) fn effect(&self, id: u64) -> Option<&E> {
        match &self.waiting.get(&id)?.what {
            What::Effect(effect) => Some(effect),
            _ => None,
        }
    }

    /// The same for the next version of a program.
    pub(crate) fn converted<N2: From<N>, E2: From<E>>(self) -> Book<N2, E2> {
        let waiting = self.waiting.into_iter().map(|(id, Waiting { what, next })| {
            let what = match what {
                What::Answer { from } => What::Answer { from },
                What::Timer => What::Timer,
                What::Effect(effect) => What::Effect(effect.into()),
            };
            (id, Waiting { what, next: next.into() })
        });
        Book { last_id: self.last_id, waiting: waiting.collect() }
    }
}
