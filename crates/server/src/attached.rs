//! The programs that are connected, as the node's thread holds them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::program::Program;
use crate::programs;

/// The programs that the node knows. One that is not here any more is never spoken of again.
#[derive(Default)]
pub(crate) struct Attached {
    programs: HashMap<u64, Arc<Program>>,
    /// Those that were told something that was not sent so far.
    touched: Vec<u64>,
}

impl Attached {
    pub(crate) fn add(&mut self, program: Arc<Program>) {
        self.programs.insert(program.id, program);
    }

    pub(crate) fn knows(&self, id: u64) -> bool {
        self.programs.contains_key(&id)
    }

    /// False when it was not known.
    pub(crate) fn remove(&mut self, id: u64) -> bool {
        self.programs.remove(&id).is_some()
    }

    /// Puts these at the end of what a program is to be told; [`Self::flush`] sends them.
    pub(crate) fn tell(&mut self, id: u64, bytes: Vec<Bytes>) {
        if let Some(program) = self.programs.get(&id) {
            program.tell(bytes);
            if !self.touched.contains(&id) {
                self.touched.push(id);
            }
        }
    }

    pub(crate) fn flush(&mut self, inbox: &Inbox, metrics: &Metrics) {
        for id in self.touched.drain(..) {
            if let Some(program) = self.programs.get(&id) {
                programs::flush(program, inbox, metrics);
            }
        }
    }

    /// The node wants no more of it.
    pub(crate) fn let_go(&mut self, id: u64, inbox: &Inbox, metrics: &Metrics) {
        if let Some(program) = self.programs.remove(&id) {
            programs::flush(&program, inbox, metrics);
            program.let_go();
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        for program in self.programs.values() {
            program.close();
        }
    }
}
