//! What a replica's group does with an instance. Each function that may concern an owner is given
//! the [`Lead`] here, and splits into what a leader does and what a follower does.

use bytes::Bytes;
use protocol::immortal::Hello;
use protocol::{Position, Term};
use storage::StoreError;

use crate::adapter::Adapter;
use crate::context::Context;
use crate::io::{Input, Output};
use crate::lead::leader::{Leader, LeaderView};
use crate::lead::state::Lead;
use crate::machine::instance::Instance;
use crate::machine::peers::Role;

impl Instance {
    /// This replica owns its group from now on, and has applied all that was committed before. The
    /// caller must call [`Instance::settle`] next.
    pub fn lead(&mut self, cx: &mut Context<'_>, term: Term, _outputs: &mut Vec<Output>) -> Lead {
        Lead::begin(self, cx, term)
    }

    /// The ownership has ended. Says what became of each open request and impulse, and of the
    /// program. The caller must call [`Instance::settle`] next.
    pub fn follow(&mut self, _cx: &mut Context<'_>, lead: Lead, outputs: &mut Vec<Output>) {
        Leader::end(self, lead, outputs);
    }

    /// Takes one thing that happened.
    ///
    /// # Errors
    /// When the store fails.
    pub fn step(
        &mut self,
        cx: &mut Context<'_>,
        mut lead: Option<&mut Lead>,
        input: Input,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let role = if lead.is_some() { Role::Leader } else { Role::Follower };
        if let Some(input) = self.take(cx, role, input, outputs)? {
            match lead.as_deref_mut() {
                Some(lead) => Leader::new(self, lead).take(cx, input, outputs)?,
                None => self.take_as_follower(cx, input, outputs)?,
            }
        }
        self.settle(cx, lead, outputs)
    }

    /// Applies a committed entry. Must be called for each entry in order, with [`Instance::settle`]
    /// after the last one, and also for entries without data (a new term, a change of members).
    ///
    /// # Errors
    /// When the store fails, or the entry cannot be read or does not fit those before it. In these
    /// cases the replica must stop.
    pub fn apply(
        &mut self,
        cx: &mut Context<'_>,
        lead: Option<&mut Lead>,
        position: Position,
        term: Term,
        data: Option<Bytes>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let logged = self.apply_entry(cx, position, term, data, outputs)?;
        if let (Some(logged), Some(lead)) = (logged, lead)
            && lead.term == term
        {
            Leader::new(self, lead).landed(&logged, outputs);
        }
        Ok(())
    }

    /// Lets everything come to rest after what happened.
    ///
    /// # Errors
    /// When the store fails.
    pub fn settle(
        &mut self,
        cx: &mut Context<'_>,
        lead: Option<&mut Lead>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        match lead {
            Some(lead) => Leader::new(self, lead).settle(cx, outputs),
            None => self.settle_as_follower(cx, outputs),
        }
    }

    /// A program wants to attach. If it may not, it is told why.
    ///
    /// # Errors
    /// When the store fails.
    pub fn attach(
        &mut self,
        cx: &mut Context<'_>,
        mut lead: Option<&mut Lead>,
        program: u64,
        adapter: Adapter,
        hello: Hello,
        outputs: &mut Vec<Output>,
    ) -> Result<(), StoreError> {
        let gives_up =
            lead.as_deref_mut().is_some_and(|lead| LeaderView::new(self, lead).gives_up_upgrade());
        self.seat_program(cx, program, adapter, hello, gives_up, outputs);
        self.settle(cx, lead, outputs)
    }

    /// When a tick has something to do, in steady microseconds. 0 means at the next tick, and None
    /// means never unless something else happens before. Must be asked for again after each
    /// [`Instance::step`] and [`Instance::settle`]. An earlier tick does no harm.
    pub fn next_wake(&self, lead: Option<&Lead>) -> Option<u64> {
        match lead {
            Some(lead) => LeaderView::new(self, lead).next_wake(),
            None => self.wakes_as_follower_at(),
        }
    }
}
