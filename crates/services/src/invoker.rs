//! The handlers of a node's services, and where they run.

use std::collections::BTreeSet;
use std::sync::Arc;

use access::Guard;

use crate::{Catalogue, Invocation, Invoked};

/// The handlers of this node's services, and where they run.
pub struct Handlers {
    pub catalogue: Arc<Catalogue>,
    pub invoker: Arc<dyn Invoker>,
    /// Becomes `documentOwner`.
    pub node_id: Arc<str>,
    /// Who may do what, as this node knows it.
    pub guard: Guard,
    /// The factories whose handlers are in a program outside, and one is attached somewhere.
    pub attached: BTreeSet<String>,
}

/// Runs handlers, or says that they must run elsewhere.
pub trait Invoker: Send + Sync {
    fn invoke(&self, catalogue: &Catalogue, invocation: Invocation) -> Ran;
}

/// What became of a handler that was to be run.
pub enum Ran {
    Done(Invoked),
    /// It may take long, so that it must not hold up the node:
    /// [`crate::PartitionAction::Invoke`] has it run elsewhere.
    Elsewhere(Invocation),
}

/// Runs every handler at once, but for those whose service says that it is slow.
pub struct QuickInvoker;

impl Invoker for QuickInvoker {
    fn invoke(&self, catalogue: &Catalogue, invocation: Invocation) -> Ran {
        if catalogue.is_slow(&invocation) {
            Ran::Elsewhere(invocation)
        } else {
            Ran::Done(catalogue.invoke(invocation))
        }
    }
}
