//! What stands in the line at a document, and how far it has come.

use std::collections::VecDeque;
use std::sync::Arc;

use protocol::instance_write::Numbered;
use protocol::{Document, Method, Response};

use super::asked::Asked;
use crate::handlers::Step;
use crate::invocation::{Invocation, NewVersion, Work};

/// The line at one document.
#[derive(Default)]
pub(super) struct Line {
    pub(super) waiting: VecDeque<Item>,
    pub(super) running: Option<Running>,
    /// The batch whose handlers run. Nothing else runs meanwhile.
    pub(super) held_by: Option<u64>,
    pub(super) flights: VecDeque<Flight>,
}

/// What stands in a line.
pub(super) struct Item {
    pub(super) who: Who,
    pub(super) runs: u8,
}

pub(super) enum Who {
    Client(Asked),
    Step(Step),
    /// One of the documents of a batch.
    Batch(u64),
}

pub(super) struct Running {
    pub(super) invocation: u64,
    pub(super) item: Item,
    /// When it was begun, in steady microseconds.
    pub(super) since_micros: u64,
    /// The version that the handler sees.
    pub(super) version: Option<u64>,
    /// The program outside was asked; with its answer this goes on.
    pub(super) asked: Option<Box<Invocation>>,
}

/// What has been run and waits for the log.
pub(super) struct Flight {
    pub(super) item: Item,
    pub(super) cargo: Cargo,
    /// When it was proposed, in steady microseconds.
    pub(super) since_micros: u64,
}

pub(super) enum Cargo {
    Write {
        proposal: u64,
        version: Box<NewVersion>,
    },
    /// An answer that is true once the writes before it are applied.
    Held(Response),
}

impl Flight {
    pub(super) fn is_of(&self, proposal: u64) -> bool {
        matches!(&self.cargo, Cargo::Write { proposal: it, .. } if *it == proposal)
    }
}

impl Item {
    pub(super) fn client(asked: Asked) -> Self {
        Self { who: Who::Client(asked), runs: 0 }
    }

    pub(super) fn step(step: Step) -> Self {
        Self { who: Who::Step(step), runs: 0 }
    }

    pub(super) fn batch(id: u64) -> Self {
        Self { who: Who::Batch(id), runs: 0 }
    }

    pub(super) fn method(&self) -> Option<Method> {
        match &self.who {
            Who::Client(client) => Some(client.request.method),
            Who::Step(_) | Who::Batch(_) => None,
        }
    }

    /// Of an instance, if it is a write of one.
    pub(super) fn numbered(&self) -> Option<&Numbered> {
        match &self.who {
            Who::Client(client) => client.request.numbered(),
            Who::Step(_) | Who::Batch(_) => None,
        }
    }

    pub(super) fn work(&self) -> Work {
        match &self.who {
            Who::Client(client) => Work::Update(Arc::clone(&client.request)),
            Who::Step(step) => Work::Step(step.clone()),
            Who::Batch(_) => unreachable!("a batch is run by itself"),
        }
    }
}

impl Line {
    pub(super) fn len(&self) -> usize {
        let held = usize::from(self.held_by.is_some());
        self.waiting.len() + self.flights.len() + usize::from(self.running.is_some()) + held
    }

    /// Whether a batch is the first, and nothing of the document is on its way.
    pub(super) fn is_ready_for(&self, id: u64) -> bool {
        let is_free = self.running.is_none() && self.held_by.is_none() && self.flights.is_empty();
        is_free
            && matches!(self.waiting.front(), Some(Item { who: Who::Batch(it), .. }) if *it == id)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, item: Item) {
        self.waiting.push_back(item);
    }

    /// Puts items before all others, in their order.
    pub(super) fn push_first(&mut self, items: impl DoubleEndedIterator<Item = Item>) {
        for item in items.rev() {
            self.waiting.push_front(item);
        }
    }

    /// The newest version in flight, if there is one; `Some(None)` when it removed the document.
    pub(super) fn head(&self) -> Option<Option<Arc<Document>>> {
        self.flights.iter().rev().find_map(|flight| match &flight.cargo {
            Cargo::Write { version, .. } if version.purge => Some(None),
            Cargo::Write { version, .. } => Some(Some(Arc::clone(&version.document))),
            Cargo::Held(_) => None,
        })
    }

    pub(super) fn take_flights_from(&mut self, index: usize) -> impl Iterator<Item = Flight> {
        self.flights.split_off(index).into_iter()
    }
}
